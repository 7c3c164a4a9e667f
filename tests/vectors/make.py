"""Makes the golden vectors of `lstmbook.golden` and the table of wrong cells: run me to renew.

    python tests/vectors/make.py

What goes in is drawn here. What must come out is computed by the scalar oracle (tests/oracle.py),
which shares no code with the package, or was recorded from TensorFlow 1.12.3 (tests/tf1).
Gradients and gates are the package's; tests/test_verify.py holds them to complex steps and to
the oracle. Nothing here depends on the date or the machine but the last digits of ``exp``,
and so numbers are rounded to 14 decimals.
"""

import csv
import io
import json
import sys
import zipfile
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent.parent)]

import oracle  # noqa: E402
import wrong_gradients  # noqa: E402

from lstmbook import CELLS, layouts  # noqa: E402
from lstmbook.golden import vectors  # noqa: E402
from lstmbook.golden.functions import answer  # noqa: E402
from lstmbook.wrong_cells.around import AROUND  # noqa: E402
from lstmbook.wrong_cells.slips import SLIPS  # noqa: E402

PAGE = HERE.parent.parent / "book" / "vectors.md"
TABLE = HERE.parent.parent / "book" / "assets" / "wrong_cells.csv"
RECORDED = HERE.parent / "tf1" / "vectors"
ORACLE = "scalar oracle, float64"
GRADIENTS = "loss = sum(d_hs * hs) + the sum over the final states of sum(d_final * final)"
SHORT = {"float64": 1e-12, "float32": 1e-6}
LONG = {"float64": 1e-12, "float32": 1e-5}


def draw(rng, shape, scale=1.0, least=0.0):
    """Multiples of 1/32, which float32 holds; ``least`` keeps them away from 0."""
    numbers = np.round(rng.normal(size=shape) * scale * 32) / 32
    return np.where(np.abs(numbers) < least, np.copysign(least, numbers), numbers)


class Draft:
    """What is given in one vector, while it is made."""

    def __init__(self, cell, name, *, batch, time, inputs, hidden, lengths=None, scale=1.0):
        self.cell, self.name = CELLS[cell], cell
        self.rng = np.random.default_rng([*cell.encode(), *name.encode()])
        fresh = self.cell.init(self.rng, inputs, hidden, np.float64)
        scales = {"W_x": scale / np.sqrt(inputs), "W_h": scale / np.sqrt(hidden)}
        self.params = {
            field: draw(self.rng, array.shape, scales.get(field, 0.7 * scale), 1 / 32)
            for field, array in fresh._asdict().items()
        }
        self.xs = draw(self.rng, (batch, time, inputs))
        self.lengths = np.array([time] * batch if lengths is None else lengths)
        self.state = {k: draw(self.rng, (batch, hidden)) for k in self.cell.State._fields}

    def bias(self, **values):
        """Another bias for some gates: one row of numbers for each."""
        for k, value in values.items():
            if k in self.cell.GATES:
                self.params["b"][self.cell.GATES.index(k)] = value

    def given(self, gradients):
        flat = {f"params/{k}": a for k, a in self.params.items()} | {"xs": self.xs}
        flat |= {"lengths": self.lengths} | {f"state/{k}": a for k, a in self.state.items()}
        if gradients:
            batch, time, _ = self.xs.shape
            shape = self.state["h"].shape
            flat["d_hs"] = draw(self.rng, (batch, time, shape[-1]))
            flat |= {f"d_final/{k}": draw(self.rng, shape) for k in self.state}
        return flat

    def vector(self, name, purpose, *, gradients=False, gates=False, tolerance=SHORT):
        given = self.given(gradients)
        vector = vectors.Vector(name, self.name, purpose, ORACLE, tolerance, given, {})
        state = vector.state
        results = oracle.run(
            self.name, vector.params, self.xs, state.h, getattr(state, "c", None), self.lengths
        )
        expected = dict(zip(["hs", "final/h", "final/c"], results, strict=True))
        expected = {k: a for k, a in expected.items() if a is not None}
        if gates:
            values = self.cell.gates(vector.params, self.xs[:, 0], state)
            expected |= {f"gates/{k}": a for k, a in zip(self.cell.GATES, values, strict=True)}
        if gradients:
            expected |= gradients_of(vector)
        rounded = {k: np.round(a, 14) + 0.0 for k, a in expected.items()}
        return vector._replace(expected=rounded)


def gradients_of(vector, backprop=wrong_gradients.right):
    """``d_params/…``, ``d_xs`` and ``d_state/…`` of the loss, by the package or by a wrong way."""
    given = vector.given
    d_final = vector.below("d_final", CELLS[vector.cell].State)
    arguments = given["xs"], given["d_hs"], d_final, vector.state, given["lengths"]
    with np.errstate(all="ignore"):
        d_params, d_xs, d_state = backprop(vector.cell, vector.params, *arguments)
    flat = {f"d_params/{k}": a for k, a in d_params._asdict().items()} | {"d_xs": d_xs}
    return flat | {f"d_state/{k}": a for k, a in d_state._asdict().items()}


def designed(cell):
    """The vectors that are made to show something, each with its purpose in words."""
    gated, with_c = len(CELLS[cell].GATES) > 1, "c" in CELLS[cell].State._fields

    yield Draft(cell, "one_step", batch=3, time=1, inputs=2, hidden=4).vector(
        "one_step",
        "One step with its gates, for those who have a step only. No size is like another, no "
        "bias is 0 and the state is not 0: the order and the place of every weight show.",
        gradients=True,
        gates=True,
    )
    yield Draft(cell, "sequence", batch=3, time=5, inputs=2, hidden=4, lengths=[3, 0, 5]).vector(
        "sequence",
        "Unequal lengths, one of them 0, and numbers past the lengths: outputs there are 0, "
        "states and gradients stop at the length. What is lost between two steps shows.",
        gradients=True,
    )
    yield Draft(cell, "one_unit", batch=1, time=3, inputs=1, hidden=1).vector(
        "one_unit",
        "One sequence, one input, one unit: an axis of size 1 that is dropped shows, and the "
        "numbers are few enough to follow by hand.",
        gradients=True,
    )
    yield Draft(cell, "square", batch=3, time=2, inputs=3, hidden=3).vector(
        "square",
        "Batch, input and hidden are equal: what is transposed, or added along the wrong axis, "
        "raises no error here, but the numbers are wrong.",
    )
    draft = Draft(cell, "zero_state", batch=2, time=3, inputs=1, hidden=2)
    draft.state = {k: np.zeros_like(a) for k, a in draft.state.items()}
    yield draft.vector(
        "zero_state",
        "The state that most programs begin with. A port that is right here alone has been "
        "tried from zeros alone.",
    )
    draft = Draft(cell, "saturated", batch=1, time=3, inputs=3, hidden=2)
    draft.xs = 1000 * draft.xs
    draft.xs[:, 1] /= 128  # gates between 0 and 1 too, but far out
    yield draft.vector(
        "saturated",
        "Sums of several hundred: gates are 0 or 1, an exp that overflows gives NaN, and a "
        "sigmoid or tanh that is only approximated shows.",
    )
    if with_c:
        draft = Draft(cell, "large_c", batch=2, time=3, inputs=2, hidden=3, scale=0.5)
        draft.bias(f=2.5, o=0.5)
        if "p" in draft.params:  # small, and such that gates keep what is large
            rows = np.arange(1, len(draft.params["p"]) + 1)[:, None] / 32
            draft.params["p"] = rows * [-1, 1, 1]
        draft.state["c"] = np.array([[2.5, -4.0, 12.0], [-30.0, 60.0, -3.5]])
        yield draft.vector(
            "large_c",
            "A cell state beyond 3, 10 and 50: a c that is clipped shows, and so does h made "
            "without tanh.",
        )
    draft = Draft(cell, "long", batch=1, time=30, inputs=1, hidden=2, scale=0.6)
    draft.bias(f=1.5, z=1.5)
    yield draft.vector(
        "long",
        "30 steps: what grows or gets lost a little at every step shows at the end"
        + (", and a gate that keeps is near 1, so an early error is still seen." * gated or "."),
        tolerance=LONG,
    )


def recorded(cell):
    """The recording of the real TensorFlow 1.12.3, for a cell that it has."""
    index = json.loads((RECORDED / "index.json").read_text(encoding="utf-8"))["cases"]
    for entry in index:
        if entry["file"] != f"{cell}-batch-float64.npz":
            continue
        with np.load(RECORDED / entry["file"], allow_pickle=False) as archive:
            arrays = dict(archive)
        bias = {} if entry["forget_bias"] is None else {"forget_bias": entry["forget_bias"]}

        def below(scope, arrays=arrays):
            return {k[len(scope) :]: v for k, v in arrays.items() if k.startswith(scope)}

        params = layouts.load(cell, "tf1", below("weights/"), **bias)
        d_params = layouts.pull_back(cell, "tf1", below("d_weights/"))
        arrays |= {f"params/{k}": a for k, a in params._asdict().items()}
        arrays |= {f"d_params/{k}": a for k, a in d_params._asdict().items()}
        weights, states = CELLS[cell].Params._fields, CELLS[cell].State._fields
        given = [f"params/{k}" for k in weights] + ["xs", "lengths"]
        given += [f"state/{k}" for k in states] + ["d_hs"] + [f"d_final/{k}" for k in states]
        expected = ["hs"] + [f"final/{k}" for k in states] + [f"d_params/{k}" for k in weights]
        expected += ["d_xs"] + [f"d_state/{k}" for k in states]
        yield vectors.Vector(
            "tensorflow",
            cell,
            "What TensorFlow 1.12.3 itself answered: tf.nn.dynamic_rnn, unequal lengths, a random "
            "initial state, gradients by tf.gradients.",
            f"recorded: {entry['class']} of TensorFlow 1.12.3, float64 "
            f"(tests/tf1/vectors/{entry['file']})",
            SHORT,
            {k: arrays[k] for k in given},
            {k: arrays[k] for k in expected},
        )


def make(cell):
    """All vectors of a cell."""
    return [*designed(cell), *recorded(cell)]


# Files


def as_json(cell, made):
    """One array to a line, so that people can read it too."""
    lines = [
        "{",
        f' "format": "{vectors.FORMAT}", "version": {vectors.VERSION}, "cell": "{cell}",',
        f' "gates": "{CELLS[cell].GATES}", "loss": "{GRADIENTS}",',
        ' "vectors": [',
    ]
    for k, vector in enumerate(made):
        lines += ["  {"]
        for field in ("name", "purpose", "source", "tolerance"):
            lines += [f'   "{field}": {json.dumps(getattr(vector, field))},']
        lines += ['   "given": {', *tree(vectors.nest(vector.given)), "   },"]
        lines += ['   "expected": {', *tree(vectors.nest(vector.expected)), "   }"]
        lines += ["  }" + "," * (k < len(made) - 1)]
    return "\n".join([*lines, " ]", "}"]) + "\n"


def tree(nested):
    rows = []
    for name, value in nested.items():
        if isinstance(value, dict):
            value = ", ".join(f'"{k}": {numbers(a)}' for k, a in value.items())
            rows += [f'    "{name}": {{{value}}}']
        else:
            rows += [f'    "{name}": {numbers(value)}']
    return ",\n".join(rows).split("\n")


def numbers(array):
    """Compact and exact: whole numbers without a point."""
    short = np.vectorize(lambda v: int(v) if v == int(v) else float(v), otypes=[object])
    return json.dumps(short(array).tolist(), separators=(",", ":"))


def as_npz(made):
    """``<vector>/<name>``; the same arrays give the same bytes."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for vector in made:
            for name, array in (vector.given | vector.expected).items():
                kind = np.int64 if name == "lengths" else np.float64
                member = io.BytesIO()
                np.lib.format.write_array(member, np.ascontiguousarray(array, kind))
                entry = zipfile.ZipInfo(f"{vector.name}/{name}.npy")  # its date is 1980-01-01
                archive.writestr(entry, member.getvalue(), zipfile.ZIP_DEFLATED, 9)
    return data.getvalue()


# The table of wrong cells


class Row:
    """A wrong cell, and the vectors that it fails."""

    def __init__(self, family, cell, name, says, failed):
        self.family, self.cell, self.name, self.says, self.failed = family, cell, name, says, failed


def fails(vector, flat):
    """Whether an answer is off by more than float32 may be, a hundred times over."""
    for name, array in flat.items():
        right = vector.expected[name]
        off = np.max(np.abs(array - right), initial=0.0) / max(1.0, np.abs(right).max())
        if not off <= 100 * vector.tolerance["float32"]:
            return True
    return False


def family(slip):
    """The kind of a slip, for the short table."""
    pieces, name = set(slip.pieces), slip.name
    if name.startswith("order_"):
        return "all gates in another order"
    if "_reads_" in name or name.endswith("_for_all"):
        return "a gate with another's weights"
    if "hole" in name or name == "o_sees_old_c":
        return "peepholes"
    if slip.where == "state" or pieces & {"returns", "around"}:
        return "the state, old for new, h for c"
    if pieces == {"read"}:
        return "weights left out, doubled, transposed"
    if pieces & {"update", "input"}:
        return "the equation of c"
    if pieces & {"output", "mix", "blend"}:
        return "the equation of h"
    if pieces & {"candidate", "z_sees"}:
        return "the reset of a GRU"
    return "the inside of a gate: sigmoid, tanh, forget bias"


def wrong_cells(made):
    """Every wrong cell, what is wrong around a cell, and wrong gradients, on all vectors."""
    for slip in SLIPS:
        failed = {v.name: fails(v, answer(slip.step, v)) for v in made[slip.cell]}
        yield Row(family(slip), slip.cell, slip.name, slip.says, failed)
    for cell in CELLS:
        for name, around in AROUND.items():
            if "c" in CELLS[cell].State._fields or "swapped" not in name:
                failed = {v.name: fails(v, around.answer(v, answer)) for v in made[cell]}
                kind = "around the cell: lengths, states, time"
                yield Row(kind, cell, name, around.says, failed)
    for wrong in wrong_gradients.WRONG:
        failed = {
            v.name: fails(v, gradients_of(v, wrong_gradients.by_steps(wrong)))
            for v in made[wrong.cell]
            if v.has_gradients
        }
        yield Row("gradients of one step", wrong.cell, f"d_{wrong.name}", wrong.says, failed)
    for cell in CELLS:
        for function in wrong_gradients.AROUND:
            failed = {
                v.name: fails(v, gradients_of(v, function)) for v in made[cell] if v.has_gradients
            }
            says = function.__doc__.rstrip(".")
            kind = "gradients through time"
            yield Row(kind, cell, f"d_{function.__name__}", says, failed)


def columns(rows):
    return list(dict.fromkeys(name for row in rows if row.cell == "lstm" for name in row.failed))


def as_csv(rows):
    """One line for each wrong cell: 1 where a vector fails, 0 where it passes."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = columns(rows)
    writer.writerow(["cell", "wrong", "kind", *names, "what is wrong"])
    for row in rows:
        marks = [{True: 1, False: 0}.get(row.failed.get(name), "") for name in names]
        writer.writerow([row.cell, row.name, row.family, *marks, row.says])
    return text.getvalue()


def as_markdown(rows):
    """For each kind of slip and each vector, how many of the wrong cells fail."""
    names = columns(rows)
    head = [f"`{name}`" for name in names]
    lines = [f"| kind of slip | wrong | {' | '.join(head)} | any |"]
    lines += ["|---|" + "---:|" * (len(names) + 2)]
    kinds = list(dict.fromkeys(row.family for row in rows))
    for kind in [*sorted(kinds, key=lambda k: ("gradients" in k, "around" in k)), "all"]:
        mine = [row for row in rows if kind in ("all", row.family)]
        marks = []
        for name in names:
            seen = [row.failed[name] for row in mine if name in row.failed]
            whole = len(seen) == len(mine)
            marks += [str(sum(seen)) + (f" of {len(seen)}" * (not whole)) if seen else ""]
        caught = sum(any(row.failed.values()) for row in mine)
        lines += [f"| {kind} | {len(mine)} | {' | '.join(marks)} | {caught} |"]
    return "\n".join(lines) + "\n"


BEGIN, END = "% begin: made by tests/vectors/make.py\n", "% end\n"


def on_page(page, table):
    """The page with another table."""
    before, rest = page.split(BEGIN)
    return before + BEGIN + "\n" + table + "\n" + END + rest.split(END, 1)[1]


def main():
    made = {cell: make(cell) for cell in CELLS}
    for cell, mine in made.items():
        vectors.path(cell).write_text(as_json(cell, mine), encoding="utf-8")
        vectors.path(cell, "npz").write_bytes(as_npz(mine))
        print(cell, *(vector.name for vector in mine))
    rows = list(wrong_cells(made))
    TABLE.write_text(as_csv(rows), encoding="utf-8")
    if PAGE.exists():
        PAGE.write_text(on_page(PAGE.read_text(encoding="utf-8"), as_markdown(rows)), "utf-8")
    print(as_markdown(rows))
    print(*(f"{r.cell} {r.name}: no vector fails" for r in rows if not any(r.failed.values())))


if __name__ == "__main__":
    main()
