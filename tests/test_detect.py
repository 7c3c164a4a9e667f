"""`detect` finds the convention of disguised weights, and claims nothing that is not so.

A disguise is made here from the gates alone: blocks in any order, orientation and grouping, under
names without meaning. What the disguised cell computes comes from
`lstmbook.wrong_cells.assemble`, which shares with the search the recorded pages alone.
"""

import importlib
import json
import os
from collections import Counter
from dataclasses import dataclass

import needs
import numpy as np
import oracle
import pytest
from cases import case, params_of
from collected import each

from lstmbook import CELLS, layouts, run
from lstmbook.convention import detect, detect_file
from lstmbook.convention.hypotheses import families_of, table_of
from lstmbook.convention.hypotheses import params_of as params_of_row
from lstmbook.convention.pair import pairs_of
from lstmbook.convention.predict import first_step, predict
from lstmbook.convention.readings import readings_of
from lstmbook.wrong_cells import SLIPS, assemble

pytestmark = pytest.mark.slow

DETECT = importlib.import_module("lstmbook.convention.detect")  # the function has its name
SEEDS = 1000 if os.environ.get("LSTMBOOK_DETECT_ALL", "0") not in ("", "0") else 150
PARTS = 1 if SEEDS == 1000 else 10  # the share counts over all 1,000; of a few, none may be missed

SQUASH = {
    "sigmoid": None,
    "hard sigmoid clip(0.2 z + 0.5)": lambda z: np.clip(0.2 * z + 0.5, 0, 1),
    "hard sigmoid clip(z / 6 + 0.5)": lambda z: np.clip(z / 6 + 0.5, 0, 1),
}
ACTIVATION = {"tanh": np.tanh, "relu": lambda z: np.maximum(z, 0)}


@dataclass
class Disguise:
    """Arrays, a pair, and the truth behind them."""

    cell: str
    kept: str
    step: object
    params: object
    arrays: dict
    xs: np.ndarray
    hs: np.ndarray
    options: dict
    axes: str | None
    order: str | None
    told: str

    def same_function(self, match):
        """Whether a match is the true function, axes and state order included."""
        if match.axes not in (self.axes, None) or match.state_order not in (self.order, None):
            return False
        rng = np.random.default_rng(7)
        W = np.asarray(self.params.W_x, float)
        xs = rng.normal(size=(4, 3, W.shape[1])) * np.array([0.5, 1, 2, 4])[:, None, None]
        parts = [rng.normal(size=(4, W.shape[2])) for _ in CELLS[self.cell].State._fields]
        params = type(self.params)(*(np.asarray(a, float) for a in self.params))
        state, theirs = CELLS[self.cell].State(*parts), []
        for x in xs.swapaxes(0, 1):
            h, state = self.step(params, x, state)
            theirs.append(h)
        ours, _ = match.run(xs, tuple(parts))
        theirs = np.stack(theirs, 1)
        return ours.shape == theirs.shape and np.allclose(ours, theirs, rtol=1e-4, atol=1e-4)


def variant(cell, rng):
    """The pieces of `assemble` for a random variant of a cell, which gate is kept, and words."""
    letters, pieces, words = CELLS[cell].GATES, {}, []
    squash = rng.choice(list(SQUASH), p=[0.6, 0.2, 0.2])
    activation, output = rng.choice(list(ACTIVATION), p=[0.8, 0.2]), None
    output = activation if rng.random() < 0.9 else rng.choice(list(ACTIVATION))
    if SQUASH[squash] is not None and letters != "n":
        pieces |= {f"squash_{k}": SQUASH[squash] for k in letters if k not in "gn"}
        words.append(squash)
    pieces[f"squash_{'g' if 'g' in letters else 'n'}"] = ACTIVATION[activation]
    words.append(activation)
    if "g" in letters:
        pieces["output"] = lambda o, new, c: o * ACTIVATION[output](new)
        words.append(output)
    if hasattr(CELLS[cell], "PEEPHOLES") and rng.random() < 0.25:
        pieces["sees_o"] = lambda c, new, h: c
        words.append("o sees old")
    if "z" in letters and rng.random() < 0.4:
        pieces["blend"] = lambda z, h, n, r: (1 - z) * h + z * n
        words.append("flipped")
    kept = ""
    if "coupled" in cell:
        kept = rng.choice(["f", "i"])
        if kept == "i":
            pieces["update"] = lambda i, f, g, c: i * c + f * g
            words.append("keeps i")
    return assemble(cell, pieces)[1], kept, words


def stored(cell, params, kept, rng, forget_bias):
    """The arrays of a disguise, under names without meaning, and words."""
    gates, hidden = CELLS[cell].GATES, params.b.shape[-1]
    dtype = params.b.dtype
    blocks = {
        g: (params.W_x[k], params.W_h[k], params.b[k] - dtype.type(forget_bias * (g == "f")))
        for k, g in enumerate(gates)
    }
    order = [str(g) for g in rng.permutation(list(gates))]
    if kept and rng.random() < 0.3:  # a block that is not used
        order.insert(int(rng.integers(4)), ".")
        blocks["."] = tuple(rng.normal(size=a.shape).astype(dtype) for a in blocks["f"])
    two = rng.random() < 0.4 or cell == "gru_reset_after"
    seconds = {g: rng.normal(size=hidden).astype(dtype) * 0.5 for g in order}
    if cell == "gru_reset_after":
        seconds["n"] = params.b_hn
    firsts = {
        g: blocks[g][2] - (seconds[g] if two and (cell, g) != ("gru_reset_after", "n") else 0)
        for g in order
    }
    no_bias = not any(a.any() for a in (*firsts.values(), *seconds.values())) or (
        not params.b.any() and not two and rng.random() < 0.5
    )
    way = rng.choice(["one", "split", "each", "gates first"], p=[0.55, 0.15, 0.15, 0.15])
    if len(order) == 1:
        way = "one"
    cuts = {"one": [], "gates first": [], "each": range(1, len(order))}.get(
        way, [int(rng.integers(1, len(order)))] if len(order) > 1 else []
    )
    groups = [list(g) for g in np.split(np.array(order), list(cuts))]
    turned = {part: rng.random() < 0.5 for part in ("x", "h")}

    def kernel(rows, transposed):
        if way == "gates first":
            a = np.stack(rows)
            return a.swapaxes(1, 2) if transposed else a
        a = np.concatenate(rows, axis=1)
        return a.T if transposed else a

    arrays, stacking = [], rng.choice(["separate", "xh", "hx"])
    for group in groups:
        if stacking == "separate":
            arrays.append(kernel([blocks[g][0] for g in group], turned["x"]))
        else:
            both = [np.concatenate(blocks[g][:2][:: 1 if stacking == "xh" else -1]) for g in group]
            arrays.append(kernel(both, turned["x"]))
    if stacking == "separate":
        arrays += [kernel([blocks[g][1] for g in group], turned["h"]) for group in groups]
    vectors = []
    if not no_bias:
        rows = [np.concatenate([firsts[g] for g in group]) for group in groups]
        more = [np.concatenate([seconds[g] for g in group]) for group in groups]
        form = rng.choice(["arrays", "rows", "end to end"])
        if not two:
            vectors = rows
        elif form == "arrays" or len(groups) > 1:
            vectors = rows + more
        elif form == "rows":
            vectors = [np.stack([rows[0], more[0]])]
        else:
            vectors = [np.concatenate([rows[0], more[0]])]
    holes = getattr(CELLS[cell], "PEEPHOLES", "")
    if holes:
        at = rng.permutation(len(holes))
        p = [params.p[k] for k in at]
        vectors += p if rng.random() < 0.5 else [np.concatenate(p)]
        order += ["/", *(holes[k] for k in at)]
    arrays += vectors
    keys = np.arange(len(arrays))
    if way != "each" or (not two and rng.random() < 0.1):
        rng.shuffle(keys)
    words = f"{way} {stacking} {''.join(order)} turned {turned} two {two} none {no_bias}"
    return {f"a{n}": np.ascontiguousarray(arrays[k]) for n, k in enumerate(keys)}, words


def disguise(seed):
    """A random convention of a random cell, and a pair that it computes and that is not zero."""
    rng = np.random.default_rng([seed, 4])
    made = _disguise(rng)
    while not made.hs.any():  # relu, and nothing above zero
        made = _disguise(rng)
    return made


def _disguise(rng):
    cell = str(rng.choice(list(CELLS)))
    step, kept, words = variant(cell, rng)
    inputs, hidden = int(rng.integers(1, 8)), int(rng.integers(2, 8))
    inputs = hidden if rng.random() < 0.2 else inputs
    batch, steps = int(rng.integers(1, 5)), int(rng.choice([1, 2, 3, 4, 5, 8]))
    dtype = rng.choice([np.float32, np.float64])
    params = params_of(CELLS[cell], rng, inputs, hidden, dtype)
    if rng.random() < 0.15:
        params = params._replace(b=np.zeros_like(params.b))
    forget_bias = float(rng.integers(2)) if "f" in CELLS[cell].GATES and kept != "i" else 0.0
    arrays, how = stored(cell, params, kept, rng, forget_bias)

    xs = rng.normal(size=(batch, steps, inputs)).astype(dtype)
    names = CELLS[cell].State._fields
    given = rng.random() < 0.5
    parts = [(given * rng.normal(size=(batch, hidden))).astype(dtype) for _ in names]
    lengths = rng.integers(1, steps + 1, batch) if rng.random() < 0.25 else None
    hs, end = truth(step, params, xs, CELLS[cell].State(*parts), lengths)
    options, order = {"lengths": lengths}, None
    turn = len(names) == 2 and rng.random() < 0.5
    by_name = rng.random() < 0.4
    for key, state, there in (("state", parts, given), ("final", end, rng.random() < 0.3)):
        if there and by_name:
            options[key] = dict(zip(names, state, strict=True))
        elif there:
            options[key] = tuple(state[::-1] if turn else state)
            order = ("c, h" if turn else "h, c") if len(names) == 2 else None
    axes = "batch first"
    if rng.random() < 0.2 and steps > 1:  # the last outputs alone
        limits = np.full(batch, steps) if lengths is None else lengths
        hs = hs[np.arange(batch), limits - 1]
    if steps == 1 and rng.random() < 0.3:
        axes, xs, hs = "one time step, a row is a sequence", xs[:, 0], hs[:, 0]
    elif rng.random() < 0.4:
        axes, xs = "time first", xs.swapaxes(0, 1)
        hs = hs.swapaxes(0, 1) if hs.ndim == 3 else hs
    elif batch == 1 and lengths is None and rng.random() < 0.5:
        axes, xs, hs = "one sequence, a row is a time step", xs[0], hs[0]
    if batch == steps == 1:
        axes = None
    told = f"{cell} {words} {how} x {xs.shape} y {hs.shape} {dtype.__name__} fb {forget_bias} "
    told += f"{ {k: type(v).__name__ for k, v in options.items()} }"
    return Disguise(cell, kept, step, params, arrays, xs, hs, options, axes, order, told)


def truth(step, params, xs, state, lengths):
    """All outputs (zero past a length) and the final state."""
    hs = []
    for t, x in enumerate(xs.swapaxes(0, 1)):
        h, new = step(params, x, state)
        on = True if lengths is None else (t < lengths)[:, None]
        state = type(state)(*(np.where(on, n, o) for n, o in zip(new, state, strict=True)))
        hs.append(np.where(on, h, 0).astype(h.dtype))
    return np.stack(hs, 1), state


def outcome(seed):
    """``right``, ``right of several``, ``missed`` or ``false``, and what was found."""
    made = disguise(seed)
    found = detect(made.arrays, made.xs, made.hs, **made.options)
    right = any(made.same_function(match) for match in found.matches)
    if right:
        return ("right" if found else "right of several"), made, found
    return ("false" if found else "missed"), made, found


@pytest.mark.parametrize("part", range(PARTS))
def test_disguised_conventions_are_found(part):
    """At least 99 % are found, alone or among others that fit; and no other is claimed."""
    count, wrong = Counter(), []
    for seed in range(part * SEEDS // PARTS, (part + 1) * SEEDS // PARTS):
        kind, made, found = outcome(seed)
        count[kind] += 1
        if kind in ("missed", "false"):
            wrong.append((seed, kind, made.told, str(found)))
    assert not [w for w in wrong if w[1] == "false"], wrong
    assert len(wrong) <= 0.01 * count.total(), wrong


def disguised(arrays):
    return {f"a{k}": array for k, array in enumerate(arrays.values())}


def outputs_of(step, params, xs, state):
    hs = []
    for x in xs.swapaxes(0, 1):
        h, state = step(params, x, state)
        hs.append(h)
    return np.stack(hs, 1)


# Every layout


LAYOUTS = [(name, cell) for name, row in layouts.LAYOUTS.items() for cell in row.cells]


@each(("layout", "cell"), LAYOUTS)
def test_every_layout_is_named(layout, cell):
    _, params, xs, state = case(cell, dtype=np.float32)
    if (layout, cell) == ("flax_nnx", "gru_reset_after"):  # which has no bias there
        params = params._replace(b_hn=np.zeros_like(params.b_hn))
    arrays = layouts.export(cell, layout, params)
    hs, end = run(cell, params, xs, state)
    found = detect(disguised(arrays), xs, hs, state=state, final=end)
    assert found.match, found
    # Gates tied as in a coupled cell are those of the uncoupled one too.
    tied = "coupled" in cell and found.match.cell in ("lstm", "peephole")
    assert tied or (found.match.cell == cell and layout in found.match.layouts), found
    assert found.match.axes == "batch first"
    again, _ = run(found.match.cell, found.match.params, xs.astype(float), state)
    np.testing.assert_allclose(again, hs, rtol=0, atol=1e-6)


def test_the_fields_and_the_sentence():
    _, params, xs, state = case("peephole")
    arrays = layouts.export("peephole", "tf1", params)
    xs, hs = xs.swapaxes(0, 1), run("peephole", params, xs, state)[0].swapaxes(0, 1)
    found = detect(disguised(arrays), xs, hs, state=(state.c, state.h))
    told = found.match.to_dict()
    assert told["gate_order"] == "i g f o"
    assert (told["kernels"], told["orientation"], told["biases"]) == ("[x, h]", "columns", 1)
    assert (told["forget_bias"], told["output_gate_sees"]) == (1.0, "new")
    assert (told["axes"], told["state_order"]) == ("time first", "c, h")
    assert told["arrays"]["a0"] == "the kernel (rows x then h, columns i g f o)"
    assert told["arrays"]["a2"] == "the peephole (f)"
    assert "tf1" in told["layouts"]
    words = " ".join(str(found).split())
    assert words.startswith("One match (max |Δ| ")
    assert "a forget bias of 1 is added at run time" in words
    assert json.loads(json.dumps(found.to_dict()))["text"] == str(found)
    for ours, theirs in zip(found.match.params, params, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-15)


@pytest.mark.parametrize("cell", CELLS)
def test_what_the_scalar_oracle_computes(cell):
    _, params, xs, state = case(cell)
    lengths = [6, 0, 2, 5]
    hs, h, c = oracle.run(cell, params, xs, state.h, getattr(state, "c", None), lengths)
    found = detect(
        params, xs, hs, state=state, final=(h,) if c is None else (h, c), lengths=lengths
    )
    assert found.match, found
    assert found.match.cell == cell
    assert found.match.state_order == (None if c is None else "h, c")
    for ours, theirs in zip(found.match.params, params, strict=True):
        np.testing.assert_array_equal(ours, theirs)


# Wrong cells that stood in public code


@each("slip", [s for s in SLIPS if s.seen_in], ids=lambda slip: f"{slip.cell}-{slip.name}")
def test_public_wrong_cells(slip):
    _, params, xs, state = case(slip.cell)
    arrays = layouts.export(slip.cell, "tf1" if "coupled" in slip.cell else "onnx", params)
    hs = outputs_of(slip.step, params, xs, state)
    match = detect(disguised(arrays), xs, hs, state=state).match
    assert match, slip
    ours, _ = match.run(xs, tuple(state))
    np.testing.assert_allclose(ours, hs, rtol=0, atol=1e-11)
    if match.slip:
        assert match.slip.startswith(f"{slip.name} (seen in {slip.seen_in})")


@pytest.mark.parametrize(
    ("cell", "layout", "read_as", "order"),
    [
        ("lstm", "onnx", "ifgo", "i f g o"),  # CrispASR#106: ONNX's order read as PyTorch's
        ("lstm", "keras", "figo", "f i g o"),  # xlstm#98: i and f swapped
        ("gru_reset_after", "torch", "zrn", "z r n"),  # keras#15915: PyTorch's GRU read by Keras
    ],
)
def test_orders_read_wrongly(cell, layout, read_as, order):
    _, params, xs, state = case(cell)
    arrays = layouts.export(cell, layout, params)
    stored = next(s for s in layouts.LAYOUTS[layout].cells[cell] if "W_x" in s.holds).gates
    gates = CELLS[cell].GATES  # gate k is given the block at its place in the order it is read in
    rows = [gates.index(stored[read_as.index(k)]) for k in gates]
    wrong = params._replace(W_x=params.W_x[rows], W_h=params.W_h[rows], b=params.b[rows])
    if cell == "gru_reset_after":
        assert rows[2] == 2
    hs, _ = run(cell, wrong, xs, state)
    match = detect(disguised(arrays), xs, hs, state=state).match
    assert match.gate_order == order
    assert match.slip is None
    assert layout not in match.layouts


# Odd ways to store


def test_one_bias_inside_the_reset():
    _, params, xs, state = case("gru_reset_after")
    b = params.b.copy()
    b[2] = 0
    params = params._replace(b=b)
    hs, _ = run("gru_reset_after", params, xs, state)
    kernel, recurrent, _ = layouts.export("gru_reset_after", "keras", params).values()
    bias = np.concatenate([b[1], b[0], params.b_hn])
    match = detect({"a": kernel, "b": recurrent, "c": bias}, xs, hs, state=state).match
    assert match.arrays["c"] == "the bias of the h side (z r n)"
    assert match.params.b_hn.any()


def test_arrays_of_single_gates_in_different_orders():
    _, params, xs, state = case("lstm")
    stored = layouts.export("lstm", "tflite", params)
    kernels, recurrent, biases = (
        [v for k, v in stored.items() if word in k] for word in ("input_to", "recurrent_to", "bias")
    )
    arrays = [*kernels, *(recurrent[k] for k in (2, 0, 3, 1)), *(biases[k] for k in (1, 2, 0, 3))]
    hs, _ = run("lstm", params, xs, state)
    match = detect({f"a{k}": v for k, v in enumerate(arrays)}, xs, hs, state=state).match
    names = {name: words.rpartition(" gate ")[2] or words for name, words in match.arrays.items()}
    assert [names[f"a{k}"][0] for k in (0, 1, 3)] == ["i", "f", "o"]
    assert [names[f"a{k}"][0] for k in (5, 6, 7)] == ["i", "o", "f"]
    assert [match.arrays[f"a{k}"] for k in (8, 9, 10, 11)] == [
        "the bias (f)", "the bias (g)", "the bias (i)", "the bias (o)",
    ]  # fmt: skip
    assert "tflite" in match.layouts


def test_the_nearest_layout():
    _, params, xs, state = case("lstm")
    arrays = layouts.export("lstm", "keras", params)
    arrays["recurrent_kernel"] = arrays["recurrent_kernel"].T
    hs, _ = run("lstm", params, xs, state)
    match = detect(disguised(arrays), xs, hs, state=state).match
    assert (match.orientation, match.layouts) == ("columns, rows", ())
    assert match.nearest_layout == "keras"


# Several, none


def test_one_step_from_zero_fits_several_and_the_probe_tells_them_apart():
    _, params, xs, _ = case("lstm")
    xs = xs[:, :1]
    arrays = disguised(layouts.export("lstm", "tf1", params))
    hs, _ = run("lstm", params, xs)
    found = detect(arrays, xs, hs)
    assert not found
    assert found.match is None
    assert "forget_bias" in found.differ
    assert {m.forget_bias for m in found.matches if m.cell == "lstm"} == {0.0, 1.0}
    assert "One step from a zero state uses neither W_h nor the forget gate." in " ".join(
        str(found).split()
    )
    probe = found.probe
    assert probe.distance > 1e-3
    state = (np.zeros((len(probe.xs), 5)),) * 2 if probe.state is None else probe.state
    hs, _ = run("lstm", params, probe.xs, state)
    found = detect(arrays, probe.xs, hs, state={"h": state[0], "c": state[1]})
    assert found.match.forget_bias == 1.0
    assert found.match.kernels == "[x, h]"


def test_the_probe_for_axes():
    """Zero recurrent kernels of an rnn: time and batch compute the same, so both readings fit."""
    _, params, xs, _ = case("rnn")
    params = params._replace(W_h=np.zeros_like(params.W_h))
    hs, _ = run("rnn", params, xs)
    found = detect(params, xs, hs)
    assert {match.axes for match in found.matches} == {"batch first", "time first"}
    assert "axes" in found.differ


def test_same_functions_are_one_answer_with_a_note():
    _, params, xs, state = case("peephole")
    params = params._replace(p=np.zeros_like(params.p))
    hs, _ = run("peephole", params, xs, state)
    found = detect(disguised(layouts.export("peephole", "onnx", params)), xs, hs, state=state)
    assert found.match
    told = " ".join(found.match.same)
    assert "would be the same function" in told
    assert "a3: all zero" in told
    assert "output gate sees old" in told


def test_none_and_the_nearest():
    _, params, xs, state = case("lstm")
    arrays = disguised(layouts.export("lstm", "keras", params))
    hs, _ = run("lstm", params, xs, state)
    found = detect(arrays, xs, hs + 1e-5, state=state)
    assert not found.matches
    assert found.nearest.cell == "lstm"
    assert found.nearest.gate_order == "i f g o"
    assert 9e-6 < found.nearest.distance < 2e-5
    assert "The nearest is off by" in str(found)
    assert "tolerance=1e-04 takes it" in " ".join(str(found).split())
    assert detect(arrays, xs, hs + 1e-5, state=state, tolerance=1e-4).match.layouts[0] == "keras"


def test_a_function_of_no_cell_here_is_not_claimed():
    _, params, xs, state = case("lstm")
    _, step = assemble("lstm", {"squash_g": lambda z: np.tanh(z / 2)})
    hs = outputs_of(step, params, xs, state)
    found = detect(params, xs, hs, state=state)
    assert not found.matches
    assert found.nearest.distance > 1e-3


def test_a_clip_that_does_not_show_is_noted():
    """TensorFlow's raw ops clip the cell state at 3: not claimed to be absent if never reached."""
    _, params, xs, state = case("lstm", scale=0.3)
    clipped = next(s for s in SLIPS if (s.cell, s.name) == ("lstm", "c_clipped"))
    hs = outputs_of(clipped.step, params, xs, state)
    largest = max(np.abs(np.clip(hs, -1, 1)).max(), np.abs(state.c).max())
    found = detect(params, xs, hs, state=state)
    (note,) = found.notes
    assert note.startswith("|c| stayed below ")
    assert largest < float(note.split()[3].rstrip(":")) < 3


def test_shapes_of_no_cell():
    found = detect(
        {"w": np.zeros((3, 20)), "d": np.zeros((5, 7))}, np.ones((2, 4, 3)), np.ones((2, 4, 5))
    )
    assert not found
    assert found.nearest is None
    assert "the last axes of xs and hs" in " ".join(str(found).split())


def test_one_step_does_not_see_which_recurrent_array_is_which():
    _, params, xs, _ = case("lstm")
    hs, _ = run("lstm", params, xs[:, :1])
    found = detect(disguised(layouts.export("lstm", "tflite", params)), xs[:, :1], hs)
    words = {match.arrays["a4"] for match in found.matches}
    assert len(words) >= 4


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("zero", [False, True])
def test_the_grid_of_a_first_step_is_the_table(cell, zero):
    """What is computed once for several hypotheses is what each of them computes."""
    _, params, xs, state = case(cell)
    h, c = (part[:1] * (not zero) for part in (state.h, getattr(state, "c", state.h)))
    biases, units = np.array([0.0, 1.0]), np.array([0, 3])
    arrays = array_for_each_gate(params)
    jobs = [(r, f) for r in readings_of(arrays, 3, 5) for f in families_of(r)]
    assert any(family.cell == cell for _, family in jobs)
    for reading, family in jobs[:: max(1, len(jobs) // 12)]:
        sizes = family.sizes(reading, 2, aligned=len(reading.p) > 0)
        got = first_step(family, reading, sizes, biases, xs[:1, 0], (h, c), units)
        got = np.broadcast_to(got, (*sizes.values(), 2)).reshape(-1, 2)
        table = table_of(sizes)
        ((right, _),) = predict(family, reading, table, biases, xs[:1, :1], (h, c))
        np.testing.assert_allclose(got, right[:, 0, units], rtol=0, atol=1e-13)


@pytest.mark.parametrize("cell", CELLS)
def test_hypotheses_compute_what_the_page_says(cell, monkeypatch):
    """Also after it has changed, and for all units or a few."""
    module, right = CELLS[cell], CELLS[cell].gates
    _, params, xs, state = case(cell)
    h, c = state.h, getattr(state, "c", state.h)
    jobs = [(r, f) for r in readings_of(array_for_each_gate(params), 3, 5) for f in families_of(r)]
    reading, family = next(job for job in jobs if job[1].cell == cell)
    biases, units, rng = np.array([0.0, 1.0]), np.array([0, 3]), np.random.default_rng(4)
    whole = table_of(family.sizes(reading, 2, plain=True) | {"old": 1})
    rows = rng.choice(len(whole["order"]), 6)
    table = {name: column[rows] for name, column in whole.items()}

    def both(units):
        ((got, _),) = predict(
            family, reading, table, biases, xs[None, :, 0], (h, c), forced=h[None], units=units
        )
        for k, ours in enumerate(got):
            row = {name: column[k : k + 1] for name, column in table.items()}
            same, why = params_of_row(family, reading, row, biases[row["forget"][0]])
            assert same is not None, why
            yield ours, module.step(same, xs[:, 0], state)[0][:, units]

    def zeros(params, x, state):
        return 0 * state.h, module.State(*(0 * part for part in state))

    changes = {
        "": {},
        "another gate": {"gates": lambda p, x, s: (*right(p, 1.5 * x, s)[:-1], right(p, x, s)[-1])},
        "zeros": {"step": zeros},
    }
    before = None
    for what, change in changes.items():
        with monkeypatch.context() as patch:
            for name, function in change.items():
                patch.setattr(module, name, function)
            for some in (slice(None), units):
                pairs = list(both(some))
                for ours, page in pairs:
                    ours = np.broadcast_to(ours, page.shape)
                    np.testing.assert_allclose(ours, page, rtol=0, atol=1e-12, err_msg=what)
                    assert what != "zeros" or not ours.any()
        before = before or pairs
        assert not what or cell == "rnn" or np.abs(pairs[0][0] - before[0][0]).max() > 1e-3


def array_for_each_gate(params):
    rows = [row for part in params for row in (part if part.ndim > 1 else [part])]
    return disguised(dict(enumerate(rows)))


def counted(monkeypatch):
    """The numbers that tables and grids compute, as a list that grows."""
    counts = []

    def count_table(family, reading, table, biases, xs, state, **options):
        width = np.zeros(state[0].shape[-1])[options.get("units", slice(None))].size
        counts.append(len(table["order"]) * xs.shape[0] * xs.shape[1] * width)
        return predict(family, reading, table, biases, xs, state, **options)

    def count_grid(family, reading, sizes, biases, x, state, units):
        counts.append(np.prod(list(sizes.values())) * len(units))
        return first_step(family, reading, sizes, biases, x, state, units)

    monkeypatch.setattr("lstmbook.convention.judge.predict", count_table)
    monkeypatch.setattr("lstmbook.convention.judge.first_step", count_grid)
    return counts


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("zero", [False, True])
def test_the_work_is_bounded(monkeypatch, last, zero):
    """However much is possible: no more numbers than the bound has operations for."""
    counts = counted(monkeypatch)
    _, params, xs, state = case("peephole", hidden=6, input_size=6)
    hs, _ = run("peephole", params, xs, None if zero else state)
    arrays = array_for_each_gate(params)
    told = []
    for bound in (3e7, 1e8):
        monkeypatch.setattr(DETECT, "_SEARCH", bound)
        monkeypatch.setattr(DETECT, "_REST", bound / 10)
        counts.clear()
        seen = hs[:, -1] if last else hs
        found = [detect(arrays, xs, seen + 0.1, state=None if zero else state) for _ in range(2)]
        assert 0 < sum(counts) * 25 <= 2 * 1.2 * bound
        assert str(found[0]) == str(found[1])
        assert not found[0].matches
        assert not found[0].complete
        told.append(sum(counts))
    assert told[0] < told[1]


@pytest.mark.parametrize("cell", ["lstm", "peephole", "coupled_peephole", "gru"])
def test_what_is_usual_is_found_first(monkeypatch, cell):
    """From the last outputs and an array for each gate: too much for the bound, but found."""
    _, params, xs, state = case(cell, hidden=40, input_size=40, time=12, dtype=np.float32)
    hs, _ = run(cell, params, xs, state)
    arrays = array_for_each_gate(params)
    monkeypatch.setattr(DETECT, "_SEARCH", 3e8)
    match = detect(arrays, xs, hs[:, -1], state=state).match
    assert match
    assert match.cell == cell
    for ours, theirs in zip(match.params, params, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_fit_stays_where_its_neighbours_are_too_much(monkeypatch):
    _, params, xs, state = case("lstm", hidden=40, input_size=40, time=60, dtype=np.float32)
    hs, _ = run("lstm", params, xs, state)
    monkeypatch.setattr(DETECT, "_SEARCH", 1e8)
    found = detect(array_for_each_gate(params), xs, hs[:, -1], state=state)
    assert found.match.gate_order == "i f g o"
    assert not found.complete


def test_a_rough_first_look_loses_nothing():
    """Wide cells are looked at in float32 first; the answer holds to the bound of float64."""
    _, params, xs, state = case("lstm", hidden=40, input_size=3, time=12)
    hs, _ = run("lstm", params, xs, state)
    arrays = disguised(layouts.export("lstm", "keras", params))
    found = detect(arrays, xs, hs[:, -1], state=state)
    assert found.match.distance < 1e-13
    assert found.complete
    assert not detect(arrays, xs, hs[:, -1] + 1e-9, state=state).matches


def test_the_shortest_sequence_is_run():
    xs, last = np.random.default_rng(0).normal(size=(2, 4, 7, 3))[0], np.arange(20.0).reshape(4, 5)
    state = np.ones((4, 5))
    pair = next(pairs_of(xs, last, state, None, [7, 0, 3, 5]))
    assert pair.shortest == 2
    whole, tail = pair.end(7), pair.end(2)
    np.testing.assert_array_equal(whole.xs[:, 0], xs[2, :3])
    np.testing.assert_array_equal(tail.xs[:, 0], xs[2, 1:3])
    np.testing.assert_array_equal(tail.last, last[2:3])
    assert whole.state[0].all()
    assert not tail.state[0].any()


def test_a_clear_note_says_what_completes_the_search(monkeypatch):
    _, params, xs, state = case("lstm")
    arrays = array_for_each_gate(params)
    hs, _ = run("lstm", params, xs, state)
    monkeypatch.setattr(DETECT, "_SEARCH", 1e7)

    def words(outputs, **options):
        return " ".join(str(detect(arrays, xs, outputs, **options)).split())

    last, every, zero = (
        words(seen, state=start)
        for seen, start in ((hs[:, -1] + 1, state), (hs + 1, state), (hs + 1, None))
    )
    assert "Not all was tried" in last
    assert "give the outputs of all steps, or a sequence of few steps; or name the cells." in last
    assert "give the arrays of all gates in one common order, or in one array, and a pair" in every
    assert "begins at the zero state; or name the cells." in every
    assert "Not all was tried" not in zero  # as the note says


def test_what_was_not_tried_is_said(monkeypatch):
    _, params, xs, state = case("lstm")
    hs, _ = run("lstm", params, xs, state)
    arrays = layouts.export("lstm", "keras", params)
    found = detect(arrays, xs, hs[:, -1] + 0.1, state=state)
    assert not found.matches
    assert "Not all was tried" not in str(found)
    monkeypatch.setattr(DETECT, "_SEARCH", 2e7)
    found = detect(arrays, xs, hs[:, -1] + 0.1, state=state)
    assert not found.matches
    assert not found.complete
    assert any(note.startswith("Not all was tried") for note in found.notes)
    assert detect(arrays, xs, hs[:, -1], state=state).match.gate_order == "i f g o"


def test_numbers_that_overflow_fit_nothing():
    _, params, xs, _ = case("rnn")
    params = params._replace(W_x=params.W_x * 1e200, W_h=params.W_h * 1e200)
    hs, _ = run("rnn", params, xs)
    assert detect(params, xs, hs[:, -1]).match.activation == "tanh"


def test_a_cell_state_is_of_no_gru():
    _, params, xs, state = case("gru")
    hs, _ = run("gru", params, xs, state)
    assert not detect(params, xs, hs, state={"h": state.h, "c": state.h}).matches


# What the outputs were computed in


def test_tolerances():
    def tolerance(scale=1.0, **sizes):
        _, params, xs, _ = case("rnn", dtype=np.float32, **sizes)
        return detect(params, xs * np.float32(scale), run("rnn", params, xs)[0]).tolerance

    assert tolerance() == 1e-6
    assert tolerance(time=21) == 1e-5
    assert tolerance(hidden=33) == 1e-5
    assert tolerance(scale=1e3) > 1e-5


def test_float32_outputs_in_float64_files():
    _, params, xs, state = case("gru", dtype=np.float32)
    hs, _ = run("gru", params, xs, state)
    wide = {k: v.astype(float) for k, v in layouts.export("gru", "keras", params).items()}
    found = detect(wide, xs.astype(float), hs.astype(float), state=state)
    assert found.precision == "float32"
    assert found.match


def test_a_larger_difference_than_rounding_is_seen():
    _, params, xs, state = case("gru")
    hs, _ = run("gru", params, xs, state)
    assert not detect(params, xs, hs + 1e-10, state=state).matches
    assert detect(params, xs, hs + 1e-14, state=state).match


# Files


def test_files(tmp_path):
    _, params, xs, state = case("lstm", dtype=np.float32)
    arrays = disguised(layouts.export("lstm", "tf1", params))
    hs, end = run("lstm", params, xs, state, lengths=[6, 0, 2, 5])
    pair = {"x": xs, "y": hs, "h0": state.h, "c0": state.c, "hn": end.h, "cn": end.c}
    pair["lengths"] = np.array([6, 0, 2, 5])
    np.savez(tmp_path / "all.npz", **arrays, **pair)
    np.savez(tmp_path / "arrays.npz", **arrays)
    np.savez(tmp_path / "pair.npz", **pair)
    for paths in (["all.npz"], ["arrays.npz", "pair.npz"]):
        found = detect_file(*(tmp_path / path for path in paths))
        assert found.match.gate_order == "i g f o"
    assert not detect_file(tmp_path / "all.npz", cells=["gru"]).matches


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no file"):
        detect_file(tmp_path / "none.npz")
    np.savez(tmp_path / "a.npz", a0=np.ones((2, 3)))
    with pytest.raises(ValueError, match=r"a\.npz has no array 'x'; the input is x"):
        detect_file(tmp_path / "a.npz")
    np.savez(tmp_path / "p.npz", x=np.ones((2, 3, 1)), y=np.ones((2, 3, 1)))
    with pytest.raises(ValueError, match="no array beside those of the pair"):
        detect_file(tmp_path / "p.npz")
    (tmp_path / "b.npz").write_bytes(b"\x89PNG not a zip file")
    with pytest.raises(ValueError, match=r"b\.npz cannot be read as an .npz file"):
        detect_file(tmp_path / "b.npz")
    whole = (tmp_path / "p.npz").read_bytes()
    (tmp_path / "c.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"c\.npz cannot be read as an .npz file"):
        detect_file(tmp_path / "c.npz")
    np.savez(tmp_path / "o.npz", x=np.array([{}], dtype=object))
    with pytest.raises(ValueError, match=r"o\.npz cannot be read as an .npz file"):
        detect_file(tmp_path / "o.npz")


@pytest.mark.parametrize("saved", [np.savez, np.savez_compressed])
def test_damaged_files(tmp_path, saved):
    """Cut or with a byte changed: the same answer, or a clear error, and nothing else."""
    _, params, xs, state = case("rnn", dtype=np.float32)
    hs, _ = run("rnn", params, xs, state)
    arrays = disguised(layouts.export("rnn", "tf1", params))
    saved(tmp_path / "whole.npz", **arrays, x=xs, y=hs, h0=state.h)
    whole, rng = (tmp_path / "whole.npz").read_bytes(), np.random.default_rng(0)
    assert detect_file(tmp_path / "whole.npz")
    read, said = 0, []
    for at in rng.integers(len(whole), size=150):
        damaged = bytearray(whole)
        damaged[at] ^= 1 << rng.integers(8)
        if rng.random() < 0.2:
            damaged = damaged[:at]
        (tmp_path / "damaged.npz").write_bytes(damaged)
        try:
            read += bool(detect_file(tmp_path / "damaged.npz"))
        except (ValueError, TypeError) as error:
            said.append(str(error))
    assert read < 60
    assert all(said)


def test_a_file_that_unpacks_to_too_much(tmp_path, monkeypatch):
    np.savez(tmp_path / "big.npz", x=np.ones(1000))
    monkeypatch.setattr(DETECT, "_LARGEST", 1000)
    with pytest.raises(ValueError, match=r"big\.npz .* bytes unpacked, more than 1000"):
        detect_file(tmp_path / "big.npz")


# Shapes of states and outputs


def test_states_in_their_many_shapes():
    _, params, xs, state = case("lstm")
    hs, end = run("lstm", params, xs, state)
    packed = np.concatenate([state.c, state.h], axis=1)  # TensorFlow's state_is_tuple=False
    assert detect(params, xs, hs, state=packed).match.state_order == "c, h"
    assert detect(params, xs, hs, state=(state.h[None], state.c[None])).match.state_order == "h, c"
    onnx = hs.swapaxes(0, 1)[:, None]
    found = detect(params, xs.swapaxes(0, 1), onnx, state=state, final=[end.h, end.c])
    assert (found.match.axes, found.match.state_order) == ("time first", "h, c")
    wrong = {"h": end.h + 0.1, "c": end.c}
    assert not detect(params, xs, hs, state=state, final=wrong).matches
    assert not detect(params, xs, hs, state=state, final={"h": end.h, "c": end.c + 0.1}).matches
    _, params, xs, state = case("gru")
    hs, _ = run("gru", params, xs, state)
    assert detect(params, xs, hs, state=state.h).match.cell == "gru"
    assert detect(params, xs, hs, state=[state.h]).match.cell == "gru"
    one, _ = run("gru", params, xs[:1], (state.h[:1],))
    assert detect(params, xs[0], one[0], state=state.h[0]).match.axes.startswith("one sequence")
    step, _ = run("gru", params, xs[:, :1], state)
    found = detect(params, xs[:, 0], step[:, 0], state=state.h)
    assert found.match.axes == "one time step, a row is a sequence"


def test_many_that_fit_are_not_all_printed():
    _, params, xs, _ = case("peephole")
    arrays = disguised(layouts.export("peephole", "tf1", params))
    hs, _ = run("peephole", params, xs[:, :1])
    found = detect(arrays, xs[:, :1], hs)
    assert len(found.matches) > 5
    words = " ".join(str(found).split())
    assert f"… and {len(found.matches) - 5} more." in words
    assert "They differ in: " in words
    assert found.to_dict()["probe"]["distance"] > 0
    assert any(m.gate_order == "i g f o" and m.forget_bias == 1 for m in found.matches)


def test_outputs_of_zeros_tell_nothing():
    _, params, xs, _ = case("rnn")
    zero = type(params)(*map(np.zeros_like, params))
    found = detect(zero, xs, np.zeros((4, 6, 5)))
    assert len({m.axes for m in found.matches}) == 2
    assert "The outputs are all zero: they tell next to nothing." in found.notes


# Errors


def test_errors():
    xs, hs = np.ones((2, 4, 3)), np.ones((2, 4, 5))
    w = {"w": np.ones((8, 20))}
    with pytest.raises(TypeError, match="arrays is of type list; expected names to arrays"):
        detect([1], xs, hs)
    with pytest.raises(ValueError, match="there is no array"):
        detect({}, xs, hs)
    with pytest.raises(TypeError, match="array w has dtype int64; weights must be floats"):
        detect({"w": np.ones((8, 20), int)}, xs, hs)
    with pytest.raises(ValueError, match="array w has numbers that are infinite"):
        detect({"w": np.full((8, 20), np.nan)}, xs, hs)
    with pytest.raises(TypeError, match="xs has dtype bool; expected floats"):
        detect(w, xs > 0, hs)
    with pytest.raises(ValueError, match=r"xs has shape \(3,\); expected \(batch, time, input\)"):
        detect(w, np.ones(3), hs)
    with pytest.raises(ValueError, match="hs has numbers that are infinite or no numbers"):
        detect(w, xs, hs * np.inf)
    with pytest.raises(ValueError, match=r"hs \(3, 4, 5\); these do not fit together"):
        detect(w, xs, np.ones((3, 4, 5)))
    with pytest.raises(ValueError, match=r"state \(7, 5\); these do not fit together"):
        detect(w, xs, hs, state=np.ones((7, 5)))
    with pytest.raises(ValueError, match=r"lengths \(3,\); these do not fit together"):
        detect(w, xs, hs, lengths=[1, 2, 3])
    with pytest.raises(TypeError, match="lengths has dtype float64; expected integers"):
        detect(w, xs, hs, lengths=[1.5, 4])
    with pytest.raises(ValueError, match="lengths has -1 at position 0; expected 0 to 4, the num"):
        detect(w, xs, hs, lengths=[-1, 4])
    with pytest.raises(ValueError, match=r"lengths has 5 at position 1; expected 0 to 4.*minimum"):
        detect(w, xs, hs, lengths=[4, 5])
    with pytest.raises(ValueError, match="a state has the parts q; expected h, or h and c"):
        detect(w, xs, hs, state={"q": np.ones((2, 5))})
    with pytest.raises(ValueError, match="a state has 3 parts"):
        detect(w, xs, hs, state=(1, 2, 3))
    with pytest.raises(ValueError, match="there is no cell 'lstms'"):
        detect(w, xs, hs, cells=["lstms"])


# Outputs of the frameworks

LIVE = [
    ("tf1", "tensorflow", ("rnn", "lstm", "peephole", "gru")),
    ("keras", "keras", ("rnn", "lstm", "gru", "gru_reset_after")),
    ("onnx", "onnxruntime", ("lstm", "peephole", "coupled", "gru", "gru_reset_after")),
]


@pytest.mark.parametrize(
    ("framework", "cell"),
    [needs.param(need, framework, cell) for framework, need, cells in LIVE for cell in cells],
)
def test_outputs_of_frameworks(framework, cell):
    live = importlib.import_module(f"lstmbook.live.{framework}")
    _, params, xs, state = case(cell, dtype=np.float32, time=20, hidden=16, input_size=16)
    hs, end = live.run(cell, params, xs, state)
    arrays = layouts.export(cell, framework, params)
    names = ("h", "c")[: len(end)]
    theirs = [getattr(end, name) for name in names]
    found = detect(disguised(arrays), xs, hs, state=dict(zip(names, state, strict=True)),
                   final=tuple(theirs))  # fmt: skip
    assert found.match, found
    assert (found.match.cell, framework in found.match.layouts) == (cell, True)
    assert detect(disguised(arrays), xs, hs[:, -1], state=state).match.cell == cell
