"""The catalogue of wrong cells: each really is wrong, and no two are the same."""

import inspect
import re
from collections import Counter
from itertools import combinations

import numpy as np
import pytest
from collected import each

from lstmbook import backprop, run
from lstmbook.cells import CELLS
from lstmbook.running.program import program_of
from lstmbook.wrong_cells import SLIPS, Changed, assemble, merge

AT_LEAST = {
    "rnn": 20,
    "lstm": 110,
    "peephole": 130,
    "coupled": 80,
    "coupled_peephole": 95,
    "gru": 70,
    "gru_reset_after": 75,
}
NOT_ORDERS = 45  # of an LSTM's or a GRU's slips, those that are no mere order of the gates


def numbers(cell, seed=0, batch=5, inputs=6, hidden=4):
    """Random arguments; the cell state is large enough to be clipped at 3."""
    module, rng = CELLS[cell], np.random.default_rng(seed)
    shapes = module.init(rng, inputs, hidden, np.float64)
    params = module.Params(*(rng.normal(size=a.shape) for a in shapes))
    state = module.State(*(rng.normal(size=(batch, hidden)) for _ in module.State._fields))
    if "c" in state._fields:
        state = state._replace(c=4 * state.c)
    return params, rng.normal(size=(batch, inputs)), state


def flat(result):
    h, state = result
    return np.concatenate([h.ravel(), *(a.ravel() for a in state)])


@pytest.mark.parametrize("cell", CELLS)
def test_no_change_is_the_right_cell(cell):
    gates, step = assemble(cell, {})
    for seed in range(5):
        args = numbers(cell, seed)
        right = CELLS[cell].step(*args)
        np.testing.assert_allclose(flat(step(*args)), flat(right), rtol=0, atol=1e-14)
        for got, want in zip(gates(*args), CELLS[cell].gates(*args), strict=True):
            np.testing.assert_allclose(got, want, rtol=0, atol=1e-14)


@pytest.mark.parametrize("cell", CELLS)
def test_each_slip_differs_from_the_cell_and_from_the_others(cell):
    args = numbers(cell)
    results = {"the right cell": flat(CELLS[cell].step(*args))}
    for slip in SLIPS:
        if slip.cell == cell:
            results[slip.name] = flat(slip.step(*args))
    for (name, a), (other, b) in combinations(results.items(), 2):
        assert np.abs(a - b).max() > 1e-3, f"{name} and {other} are the same"


@each("slip", SLIPS, ids=lambda slip: f"{slip.cell}-{slip.name}")
def test_a_slip_is_a_cell_of_the_right_form(slip):
    module = CELLS[slip.cell]
    params, x, state = numbers(slip.cell)
    before = [a.copy() for a in (*params, x, *state)]
    h, new = slip.step(params, x, state)
    assert type(new) is module.State
    gates = slip.gates(params, x, state)
    assert len(gates) == len(module.GATES)
    for a in (h, *new, *gates):
        assert a.shape == state.h.shape
        assert a.dtype == np.float64
        assert np.isfinite(a).all()
    for a, b in zip((*params, x, *state), before, strict=True):
        np.testing.assert_array_equal(a, b)
    assert list(inspect.signature(slip.step).parameters) == ["params", "x", "state"]


@each("slip", SLIPS, ids=lambda slip: f"{slip.cell}-{slip.name}")
def test_where_is_where_the_gates_differ(slip):
    letters = CELLS[slip.cell].GATES
    args = numbers(slip.cell)
    if slip.pieces.keys() & {"update", "output", "blend", "mix", "returns", "around"}:
        assert slip.where in ("c", "h", "state")
    elif slip.pieces.keys() - {"read", "input"}:
        right = CELLS[slip.cell].gates(*args)
        wrong = slip.gates(*args)
        differ = [
            k for k, a, b in zip(letters, wrong, right, strict=True) if np.abs(a - b).max() > 1e-9
        ]
        assert differ[0] in slip.where
        follow = {"o", "n"}  # see other gates, so they may differ because of them
        assert set(differ) - follow <= set(slip.where)


@each("slip", SLIPS, ids=lambda slip: f"{slip.cell}-{slip.name}")
def test_the_words(slip):
    assert re.fullmatch(r"[a-zA-Z0-9_]+", slip.name)
    assert re.match(r"(You|Your|The) ", slip.says)
    assert slip.says.endswith(".")
    assert "  " not in slip.says
    assert ".;" not in slip.says
    assert ".." not in slip.says
    assert 25 < len(slip.says) < 200
    assert slip.where in ("c", "h", "state") or set(slip.where) <= set(CELLS[slip.cell].GATES)
    assert re.fullmatch(r"([\w.-]+/[\w.-]+#\d+)?", slip.seen_in)


def test_names_are_unique_within_a_cell():
    assert max(Counter((slip.cell, slip.name) for slip in SLIPS).values()) == 1


@pytest.mark.parametrize("cell", CELLS)
def test_there_are_many(cell):
    mine = [slip for slip in SLIPS if slip.cell == cell]
    assert len(mine) >= AT_LEAST[cell]
    if cell != "rnn":
        assert sum("order_" not in s.name and "_reads_" not in s.name for s in mine) >= NOT_ORDERS


@pytest.mark.parametrize(
    ("thread", "names"),
    [
        ("Lasagne/Lasagne#448", {"peephole_o_after"}),
        ("farizrahman4u/seq2seq#225", {"f_reads_i", "i_for_f"}),
        ("NX-AI/xlstm#98", {"order_figo", "i_f_swapped"}),
        ("MartinuzziFrancesco/torchrecurrent#22", {"i_plus_g"}),
        ("CrispStrobe/CrispASR#106", {"order_igof"}),
        ("ddbourgin/numpy-ml#42", {"b_o_for_all"}),
        ("lisa-lab/DeepLearningTutorials#81", {"b_twice"}),
        ("tensorflow/tensorflow#5090", {"forget_bias_again"}),
        ("tensorflow/tensorflow#13825", {"z_flipped"}),
        ("nicodjimenez/lstm#47", {"no_tanh"}),
        ("borelien/entailment-neural-attention-lstm-tf#3", {"h_from_old_c"}),
        ("zhiyongc/GRU-D#2", {"no_r"}),
        ("tracel-ai/burn#2701", {"r_before"}),
        ("pytorch/pytorch#99531", {"r_after"}),
        ("keras-team/keras#1231", {"parts_multiplied"}),
        ("microsoft/nni#2839", {"returns_c"}),
    ],
)
def test_public_threads(thread, names):
    assert {slip.name for slip in SLIPS if slip.seen_in == thread} == names


def named(cell, name):
    (slip,) = (slip for slip in SLIPS if (slip.cell, slip.name) == (cell, name))
    return slip


def test_some_slips_written_out():
    """Once more by hand, so that the pieces are what their names say."""
    sigmoid = lambda a: 1 / (1 + np.exp(-a))  # noqa: E731
    params, x, (h, c) = numbers("peephole")
    a_i, a_f, a_g, a_o = (x @ W_x + h @ W_h + b for W_x, W_h, b in zip(*params[:3], strict=True))
    p_i, p_f, p_o = params.p

    def lstm(i, f, o=None, g=None):
        new = f * c + i * (np.tanh(a_g) if g is None else g)
        if o is None:
            o = sigmoid(a_o + p_o * new)
        return np.concatenate([a.ravel() for a in (o * np.tanh(new), o * np.tanh(new), new)])

    def same(name, wrong):
        got = flat(named("peephole", name).step(params, x, CELLS["peephole"].State(h, c)))
        np.testing.assert_allclose(got, wrong, rtol=0, atol=1e-13)

    i, f = sigmoid(a_i + p_i * c), sigmoid(a_f + p_f * c)
    same("o_sees_old_c", lstm(i, f, o=sigmoid(a_o + p_o * c)))
    new = f * c + i * np.tanh(a_g)
    same("peephole_o_after", lstm(i, f, o=sigmoid(a_o) + p_o * new))
    same("i_f_swapped", lstm(f, i))
    same("order_figo", lstm(sigmoid(a_f + p_i * c), sigmoid(a_i + p_f * c)))
    same("forget_bias_again", lstm(i, sigmoid(a_f + p_f * c + 1)))
    same("peepholes_fio", lstm(sigmoid(a_i + p_f * c), sigmoid(a_f + p_i * c)))
    same("g_peephole", lstm(i, f, g=np.tanh(a_g + p_i * c)))
    draft = sigmoid(a_f) * c + sigmoid(a_i) * np.tanh(a_g)
    same("old_holes_see_new_c", lstm(sigmoid(a_i + p_i * draft), sigmoid(a_f + p_f * draft)))


@pytest.mark.parametrize("cell", CELLS)
def test_a_wrong_cell_is_made_of_the_page(cell, monkeypatch):
    """A page that changes changes every cell that is made of it, and back again."""
    module, args = CELLS[cell], numbers(cell)
    made, before = assemble(cell, {}), {}
    slips = [slip for slip in SLIPS if slip.cell == cell]
    for slip in slips:
        before[slip.name] = flat(slip.step(*args))

    def zeros(params, x, state):
        h = 0 * state.h
        return h, module.State(*(h for _ in state))

    def no_gates(params, x, state):
        return tuple(0 * state.h for _ in module.GATES)

    with monkeypatch.context() as patch:
        patch.setattr(module, "step", zeros)
        patch.setattr(module, "gates", no_gates)
        assert not flat(made[1](*args)).any()
        assert not np.any(made[0](*args))

    right_gates, seen = module.gates, 0
    with monkeypatch.context() as patch:
        patch.setattr(module, "gates", lambda p, x, s: right_gates(p, 1.5 * x, s))
        for slip in slips:
            changed = flat(slip.step(*args))
            same = np.abs(changed - before[slip.name]).max() < 1e-9
            assert not same or slip.name == "no_W_x", slip.name
            seen += not same
        right = module.step(*args)
        np.testing.assert_allclose(flat(made[1](*args)), flat(right), rtol=0, atol=1e-14)
    assert seen >= len(slips) - 1
    for slip in slips:
        np.testing.assert_array_equal(flat(slip.step(*args)), before[slip.name])


def test_a_piece_that_there_is_not(monkeypatch):
    with pytest.raises(ValueError, match=r"gru has no piece \['update'\]; it has \['blend', 'cand"):
        assemble("gru", {"update": lambda i, f, g, c: c})
    monkeypatch.setattr(CELLS["lstm"], "gates", lambda params, x, state: (state.h + state.c,) * 4)
    _, step = assemble("lstm", {"squash_o": np.tanh})
    with pytest.raises(ValueError, match="gate o of the page is no function of a sum"):
        step(*numbers("lstm"))


def test_a_changed_cell_runs_and_has_gradients():
    """By its program, or step by step where what it reads is no part of one."""
    params, x, state = numbers("lstm")
    for name, way in {"no_f": True, "c_old": True, "h_before_x": False, "no_b": False}.items():
        slip = named("lstm", name)
        cell = Changed("lstm", slip.pieces)
        assert (program_of(cell, params) is not None) == way, name
        hs, final = run(cell, params, x[:, None], state)
        h, new = slip.step(params, x, state)
        for ours, theirs in zip((hs[:, 0], *final), (h, *new), strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-14)
        if way:
            d_params, *_ = backprop(cell, params, x[:, None], hs, state=state)
            moved = params._replace(b=params.b + 1e-6)
            up = (run(cell, moved, x[:, None], state)[0] * hs).sum()
            assert d_params.b.sum() == pytest.approx((up - (hs * hs).sum()) / 1e-6, rel=1e-4)
    with pytest.raises(ValueError, match=r"lstm has no piece \['around'\]"):
        Changed("lstm", named("lstm", "h_first").pieces)


def test_onnx_weights_read_in_another_order():
    """CrispASR#106: weights stored as i o f g, read as i f g o."""
    params, x, state = numbers("lstm")
    right = CELLS["lstm"].step(params, x, state)
    stored = type(params)(*(a[["ifgo".index(k) for k in "iofg"]] for a in params))
    wrong = CELLS["lstm"].step(stored, x, state)
    np.testing.assert_array_equal(
        flat(named("lstm", "order_igof").step(params, x, state)), flat(wrong)
    )
    np.testing.assert_allclose(
        flat(named("lstm", "order_iofg").step(stored, x, state)), flat(right), rtol=0, atol=1e-14
    )
    assert "stored in ONNX's order" in named("lstm", "order_igof").says


def test_two_slips_at_once():
    first, second = named("lstm", "no_b_f"), named("lstm", "h_before_x")
    both = merge(first.pieces, second.pieces)
    params, x, state = numbers("lstm")
    _, step = assemble("lstm", both)
    b = params.b.copy()
    b[1] = 0
    wrong = second.step(params._replace(b=b), x, state)
    np.testing.assert_allclose(flat(step(params, x, state)), flat(wrong), rtol=0, atol=1e-14)
    assert merge(named("lstm", "no_i").pieces, named("lstm", "no_f").pieces) is None
    assert set(merge(named("lstm", "no_i").pieces, named("lstm", "no_o").pieces)) == {
        "update",
        "output",
    }
