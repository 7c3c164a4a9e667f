"""Every cell against the scalar oracle in float64, and the names that every cell has."""

from collections import namedtuple
from types import SimpleNamespace

import numpy as np
import oracle
import pytest
from cases import HIDDEN, INPUT, case
from collected import each
from hypothesis import given
from hypothesis import strategies as st

from lstmbook import CELLS, backprop, cells, layouts, record, run
from lstmbook.cells import check_params, find, name_of

NAMES = list(CELLS)
GATES = {
    "rnn": "n",
    "lstm": "ifgo",
    "peephole": "ifgo",
    "coupled": "fgo",
    "coupled_peephole": "fgo",
    "gru": "rzn",
    "gru_reset_after": "rzn",
}


@pytest.mark.parametrize("name", NAMES)
@each("lengths", [None, [6, 0, 2, 5]])
@each("scale", [0.7, 5.0])
def test_cell_is_the_oracle(name, lengths, scale):
    cell, params, xs, state = case(name, scale=scale)
    hs, final = run(cell, params, xs, state, lengths=lengths)
    c = getattr(state, "c", None)
    hs_expected, h_expected, c_expected = oracle.run(name, params, xs, state.h, c, lengths)
    np.testing.assert_allclose(hs, hs_expected, rtol=0, atol=1e-12)
    np.testing.assert_allclose(final.h, h_expected, rtol=0, atol=1e-12)
    if c is not None:
        np.testing.assert_allclose(final.c, c_expected, rtol=0, atol=1e-12)


@given(
    name=st.sampled_from(NAMES),
    batch=st.integers(1, 3),
    time=st.integers(1, 4),
    input_size=st.integers(1, 4),
    hidden=st.integers(1, 4),
    seed=st.integers(0, 2**31),
)
def test_cell_is_the_oracle_at_any_size(name, batch, time, input_size, hidden, seed):
    _, params, xs, state = case(
        name, seed=seed, batch=batch, time=time, input_size=input_size, hidden=hidden
    )
    hs, final = run(name, params, xs, state)
    expected = oracle.run(name, params, xs, state.h, getattr(state, "c", None))
    np.testing.assert_allclose(hs, expected[0], rtol=0, atol=1e-12)
    np.testing.assert_allclose(final[-1], expected[len(final)], rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_gates_are_those_that_step_uses(name):
    """The state equations, put together again from what `gates` returns."""
    cell, params, xs, state = case(name)
    gates = dict(zip(cell.GATES, cell.gates(params, xs[:, 0], state), strict=True))
    h, new = cell.step(params, xs[:, 0], state)
    i = gates.get("i", 1 - gates["f"] if "f" in gates else None)
    if i is not None:
        c = gates["f"] * state.c + i * gates["g"]
        np.testing.assert_allclose(new.c, c, rtol=0, atol=1e-15)
        expected = gates["o"] * np.tanh(c)
    elif "z" in gates:
        expected = gates["z"] * state.h + (1 - gates["z"]) * gates["n"]
    else:
        expected = gates["n"]
    np.testing.assert_allclose(h, expected, rtol=0, atol=1e-15)
    np.testing.assert_array_equal(h, new.h)


@pytest.mark.parametrize("name", NAMES)
def test_gate_letters(name):
    assert GATES[name] == CELLS[name].GATES


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_init(name, dtype):
    cell, rng = CELLS[name], np.random.default_rng(7)
    params = cell.init(rng, INPUT, HIDDEN, dtype)
    assert {a.dtype for a in params} == {np.dtype(dtype)}
    for gate, row in zip(cell.GATES, params.b, strict=True):
        np.testing.assert_array_equal(row, 1.0 if gate == "f" else 0.0)
    for kernel, fans in ((params.W_x, INPUT + HIDDEN), (params.W_h, 2 * HIDDEN)):
        limit = np.sqrt(6 / fans)
        assert 0.7 * limit < np.abs(kernel).max() <= limit
    if "p" in params._fields:
        assert 0.5 * np.sqrt(3 / HIDDEN) < np.abs(params.p).max() <= np.sqrt(3 / HIDDEN)
    again = cell.init(np.random.default_rng(7), INPUT, HIDDEN, dtype)
    for a, b in zip(params, again, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", NAMES)
def test_init_is_float32_unless_told(name):
    params = CELLS[name].init(np.random.default_rng(0), 2, 3)
    assert {a.dtype for a in params} == {np.dtype(np.float32)}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_zero_state(name, dtype):
    cell, params, _, _ = case(name, dtype=dtype)
    state = cell.zero_state(params, 2)
    for part in state:
        np.testing.assert_array_equal(part, np.zeros((2, HIDDEN), dtype), strict=True)


@pytest.mark.parametrize("name", NAMES)
def test_step_keeps_float32_and_changes_nothing_it_is_given(name):
    cell, params, xs, state = case(name, dtype=np.float32)
    for array in (*params, xs, *state):
        array.setflags(write=False)
    h, new = cell.step(params, xs[:, 0], state)
    assert {a.dtype for a in (h, *new)} == {np.dtype(np.float32)}
    assert type(new) is cell.State
    assert h is new.h, "as the protocol says"


def test_modules_have_the_names_of_the_protocol():
    names = {n for n in vars(cells.Cell) if not n.startswith("_")} | set(cells.Cell.__annotations__)
    for name, cell in CELLS.items():
        assert names <= set(dir(cell)), name


def test_find():
    assert find("gru") is CELLS["gru"] is find(CELLS["gru"])
    assert [name_of(cell) for cell in CELLS.values()] == NAMES
    with pytest.raises(ValueError, match=r"there is no cell 'gruu'; the cells are rnn, lstm"):
        find("gruu")
    with pytest.raises(TypeError, match=r"expected a cell module or its name.*got 3, which has no"):
        find(3)

    class Mine:
        GATES, Params, State, zero_state, gates, step = "n", None, None, None, None, None

    assert find(Mine) is Mine
    with pytest.raises(ValueError, match=r"is not one of the cells rnn, lstm"):
        name_of(Mine)


def _changed(params, **arrays):
    return params._replace(**arrays)


def test_check_params_says_what_is_wrong():
    cell, params, _, _ = case("lstm")
    assert check_params(cell, params)._fields == params._fields
    with pytest.raises(TypeError, match=r"lstm needs Params\(W_x, W_h, b\), got dict"):
        check_params(cell, params._asdict())
    with pytest.raises(
        TypeError, match=r"peephole needs Params\(W_x, W_h, b, p\), got Params\(W_x"
    ):
        check_params("peephole", params)
    with pytest.raises(TypeError, match=r"params.b has dtype int64; weights must be floats"):
        check_params(cell, _changed(params, b=np.zeros((4, HIDDEN), np.int64)))
    with pytest.raises(
        ValueError, match=r"params.W_x has shape \(8, 20\); expected \(gates, input"
    ):
        check_params(cell, _changed(params, W_x=np.zeros((8, 20))))
    with pytest.raises(
        ValueError, match=r"params.W_x has shape \(4, 3, 5\); coupled with gates f g"
    ):
        check_params("coupled", CELLS["coupled"].Params(*params))
    with pytest.raises(
        ValueError,
        match=r"params.W_h has shape \(4, 5, 4\); lstm .* \(gates, hidden, hidden\) = \(4, 5, 5\)",
    ):
        check_params(cell, _changed(params, W_h=params.W_h[..., :4]))
    with pytest.raises(ValueError, match=r"params.b has shape \(20,\).* = \(4, 5\)"):
        check_params(cell, _changed(params, b=params.b.ravel()))
    cell, params, _, _ = case("coupled_peephole")
    with pytest.raises(
        ValueError, match=r"params.p has shape \(3, 5\).*\(peepholes, hidden\) = \(2"
    ):
        check_params(cell, _changed(params, p=np.zeros((3, HIDDEN))))
    cell, params, _, _ = case("gru_reset_after")
    with pytest.raises(ValueError, match=r"params.b_hn has shape \(3, 5\).*\(hidden\) = \(5,\)"):
        check_params(cell, _changed(params, b_hn=params.b))


def test_params_of_another_cell_are_refused():
    """By whose they are: a coupled cell and a GRU have the same names and shapes."""
    _, gru, xs, _ = case("gru")
    _, coupled, _, _ = case("coupled")
    message = (
        r"^coupled needs Params\(W_x, W_h, b\), got Params\(W_x, W_h, b\) of gru; "
        r"coupled.Params\(\*params\) takes these numbers for coupled$"
    )
    for refused in (
        lambda: run("coupled", gru, xs),
        lambda: record("coupled", gru, xs),
        lambda: backprop("coupled", gru, xs, np.zeros((*xs.shape[:2], HIDDEN))),
        lambda: layouts.export("coupled", "keras", gru),
    ):
        with pytest.raises(TypeError, match=message):
            refused()
    with pytest.raises(TypeError, match=r"^gru needs .* of coupled; gru.Params\(\*params\)"):
        run("gru", coupled, xs)
    run("coupled", CELLS["coupled"].Params(*gru), xs)
    for name in NAMES:
        for other in NAMES:
            if name != other:
                with pytest.raises(TypeError, match=f"^{name} needs Params.* of {other}($|;)"):
                    check_params(name, case(other).params)


def test_params_of_a_readers_own_cell():
    """It may use those of a cell here, or extend them; or the same names, which belong to all."""
    cell, params, xs, state = case("lstm")
    own = SimpleNamespace(**vars(cell))
    run(own, params, xs, state)
    extended = type("Extended", (cell.Params,), {})
    run(cell, extended(*params), xs, state)
    own.Params = extended
    run(own, params, xs, state)
    own.Params = namedtuple("Params", "W_x W_h b")
    run(own, own.Params(*params), xs, state)
    run(cell, own.Params(*params), xs, state)
    with pytest.raises(TypeError, match=r"got Params\(W_x, W_h, b\) of lstm; lstm.Params\(\*para"):
        run(own, params, xs, state)


def test_sizes_of_zero_are_refused():
    """There would be nothing to compute."""
    for name in NAMES:
        for input_size, hidden in (0, HIDDEN), (INPUT, 0):
            cell, params, xs, state = case(name)
            params = cell.Params(*(array[..., :hidden] for array in params))
            params = params._replace(W_x=params.W_x[:, :input_size], W_h=params.W_h[:, :hidden])
            message = rf"params.W_x has shape \(., {input_size}, {hidden}\); .* at least 1"
            with pytest.raises(ValueError, match=message):
                run(name, params, xs[..., :input_size], [part[:, :hidden] for part in state])


def test_init_says_what_is_wrong():
    for cell in CELLS.values():
        rng = np.random.default_rng(0)
        for arguments, error, message in [
            ((0, 3, 4), TypeError, r"rng is 0; expected a generator .*np.random.default_rng\(0\)"),
            ((rng, 3, 4, int), TypeError, "dtype is int64; weights are floats, for .* np.float32"),
            ((rng, 0, 4), ValueError, r"shape \(., 0, 4\) cannot be made; sizes are at least 1"),
            ((rng, 3, -1), ValueError, r"shape \(., 3, -1\) cannot be made; sizes are at least 1"),
            ((rng, 3, 4.0), TypeError, r"shape \(., 3, 4.0\) cannot .*; sizes are whole numbers"),
        ]:
            with pytest.raises(error, match=message):
                cell.init(*arguments)
        assert cell.init(rng, np.int64(3), np.uint8(4)).W_x.shape[1:] == (3, 4)
