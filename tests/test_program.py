"""A page run once on symbols says what the page does; all that computes follows from it."""

import types
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import pytest
from cases import BATCH, INPUT, LENGTHS, TIME, by_steps, case

from lstmbook import CELLS, backprop, lstm, record, run
from lstmbook.cells._activations import sigmoid, tanh
from lstmbook.running import engine, generate, program
from lstmbook.running.program import NotRecordableError, evaluate, program_of

each_cell = pytest.mark.parametrize("name", CELLS)


@each_cell
def test_a_program_computes_what_the_page_does(name):
    """To the bit; and gates are NumPy's own operations in the page's own order."""
    cell, params, xs, state = case(name)
    found = evaluate(program_of(cell, params), params, xs[:, 0], state)
    expected = cell.step(params, xs[:, 0], state)
    np.testing.assert_array_equal(found[0], expected[0])
    np.testing.assert_array_equal(found[1], expected[1])
    assert len(program_of(cell, params).order()) < 60


@each_cell
def test_the_derived_gradient_is_the_one_by_hand(name, monkeypatch):
    """``step_vjp`` is for reading; nothing calls it to compute."""
    cell, params, xs, state = case(name)
    rng = np.random.default_rng(2)
    d_h, d_state = rng.normal(size=state.h.shape), cell.State(*rng.normal(size=np.shape(state)))
    by_hand = cell.step_vjp(params, xs[:, 0], state, d_state._replace(h=d_state.h + d_h))
    monkeypatch.setattr(cell, "step_vjp", None)
    derived = backprop(cell, params, xs[:, :1], d_h[:, None], d_state, state=state)
    for ours, theirs in zip(derived[0], by_hand[0], strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-12)
    np.testing.assert_allclose(derived[1][:, 0], by_hand[1], rtol=0, atol=1e-12)
    np.testing.assert_allclose(derived[2], by_hand[2], rtol=0, atol=1e-12)


# Cells that readers may write


class Weights(NamedTuple):
    W_x: np.ndarray
    W_h: np.ndarray
    b: np.ndarray


class H(NamedTuple):
    h: np.ndarray


def cell_of(step, shapes, state, **more):
    """A cell of a reader's own: Params of these shapes, a state of these widths."""
    kind = NamedTuple("Params", [(name, np.ndarray) for name in shapes])
    states = NamedTuple("State", [(name, np.ndarray) for name in state])

    def zero_state(params, batch):
        return states(*(np.zeros((batch, n), params[0].dtype) for n in state.values()))

    cell = SimpleNamespace(
        GATES="", Params=kind, State=states, zero_state=zero_state, gates=lambda *_: (), **more
    )
    cell.step = step(states)
    rng = np.random.default_rng(3)
    params = kind(*(rng.normal(size=shape) * 0.5 for shape in shapes.values()))
    return cell, params


def update_gate(State):
    """An update gate RNN, with matrices of no gate axis."""

    def step(params, x, state):
        u = sigmoid(x @ params.W_u + state.h @ params.U_u + params.b_u)
        n = tanh(x @ params.W_n + state.h @ params.U_n + params.b_n)
        h = u * state.h + (1 - u) * n
        return h, State(h)

    return step


def projected(State):
    """An LSTM whose output is a product, narrower than c, with a clip and its own logistic."""

    def step(params, x, state):
        i, f, g, o = x @ params.W_x + state.h @ params.W_h + params.b[:, None]
        logistic = lambda z: 1 / (1 + np.exp(-z))  # noqa: E731
        c = logistic(f + params.p * state.c) * state.c + logistic(i) * np.tanh(g)
        c = np.minimum(np.maximum(c, -0.4), 0.4)
        h = (logistic(o) * np.tanh(c)) @ params.W_p
        return h, State(h, c)

    return step


def decayed(State):
    """Vectors that are no biases, x element by element, two products of one sum, an output
    apart."""

    def step(params, x, state):
        a = sigmoid(params.a)
        s = a * state.s + (1 - a) * x
        u = np.maximum(s @ params.W_1 + state.h @ params.W_2 + state.h @ params.W_3, 0)
        h = np.sqrt(1 + u * u) - params.k / (2 + state.h**2) + x
        return h * 0.5 - s, State(h, s)

    return step


def deep(State):
    """Four products that wait for each other, and a part of the state that stays."""

    def step(params, x, state):
        z = tanh(x @ params.W_x[0] + params.b[0])
        for k in range(2):
            z = tanh(z @ params.W_h[k] + params.b[k + 1] + state.h @ params.W_h[2])
        h = z * z - state.h
        return h, State(h, state.c)

    return step


WIDE = {"W_u": (3, 5), "U_u": (5, 5), "b_u": (5,), "W_n": (3, 5), "U_n": (5, 5), "b_n": (5,)}
OWN = {
    "update gate": (update_gate, WIDE, {"h": 5}),
    "projected": (
        projected,
        {"W_x": (4, 3, 6), "W_h": (4, 2, 6), "b": (4, 6), "p": (6,), "W_p": (6, 2)},
        {"h": 2, "c": 6},
    ),
    "decayed": (
        decayed,
        {"a": (3,), "W_1": (3, 3), "W_2": (3, 3), "W_3": (3, 3), "k": (3,)},
        {"h": 3, "s": 3},
    ),
    "deep": (deep, {"W_x": (1, 3, 4), "W_h": (3, 4, 4), "b": (3, 4)}, {"h": 4, "c": 4}),
}


def complex_step(cell, params, xs, state, d_hs, d_state, lengths):
    """The gradients of `run`, number by number, by the cell's own step: exact to rounding."""
    slow = by_steps(cell)

    def loss(arrays):
        cut = len(params)
        given = type(params)(*arrays[:cut]), arrays[cut], type(state)(*arrays[cut + 1 :])
        hs, final = run(slow, *given, lengths=lengths)
        return (hs * d_hs).sum() + sum((a * b).sum() for a, b in zip(final, d_state, strict=True))

    arrays = [a.astype(complex) for a in (*params, xs, *state)]
    gradients = [np.zeros(a.shape) for a in arrays]
    for array, gradient in zip(arrays, gradients, strict=True):
        for index in np.ndindex(array.shape):
            array[index] += 1e-30j
            gradient[index] = loss(arrays).imag / 1e-30
            array[index] -= 1e-30j
    return gradients


WAYS = ["NumPy", pytest.param("compiled", marks=pytest.mark.numba)]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("own", OWN)
def test_a_readers_own_cell_gets_all_of_it(own, way, monkeypatch):
    """Outputs, states and gradients, with lengths, in one thread and in two."""
    compiled = None
    if way == "compiled":
        compiled = __import__("lstmbook.running.compiled", fromlist=["run"])
        monkeypatch.setattr(compiled, "WORTH_A_THREAD", 1)
        monkeypatch.setattr(compiled, "threads", lambda: 2)
    monkeypatch.setattr(engine, "_compiled", lambda: compiled)
    monkeypatch.setattr(engine, "_failures", [])
    monkeypatch.setattr(engine, "WORTH_COMPILING", 0)
    step, shapes, widths = OWN[own]
    cell, params = cell_of(step, shapes, widths)
    assert program_of(cell, params) is not None
    rng = np.random.default_rng(4)
    xs = rng.normal(size=(BATCH, TIME, INPUT))
    state = cell.State(*(0.5 * rng.normal(size=(BATCH, n)) for n in widths.values()))
    slow = by_steps(cell)
    for lengths in (None, LENGTHS):
        hs, final = run(cell, params, xs, state, lengths=lengths)
        expected_hs, expected_final = run(slow, params, xs, state, lengths=lengths)
        np.testing.assert_allclose(hs, expected_hs, rtol=0, atol=1e-12)
        d_hs = rng.normal(size=hs.shape)
        d_final = cell.State(*(rng.normal(size=part.shape) for part in final))
        arguments = (cell, params, xs, d_hs, d_final)
        d_params, d_xs, d_state = backprop(*arguments, state=state, lengths=lengths)
        expected = complex_step(cell, params, xs, state, d_hs, d_final, lengths)
        found = [*final, *d_params, d_xs, *d_state]
        for ours, theirs in zip(found, [*expected_final, *expected], strict=True):
            scale = max(1, np.abs(theirs).max())
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-12 * scale)
    assert engine._failures == []


def test_a_cell_that_no_program_can_say_runs_step_by_step():
    cell, params, xs, state = case("lstm")

    def old_of(state):
        return state

    def branch(params, x, state):
        return cell.step(params, x, state if x.sum() > 0 else old_of(state))

    def shape(params, x, state):
        return cell.step(params, x.reshape(x.shape), state)

    def array(params, x, state):
        return cell.step(params, x * np.ones(INPUT), state)

    def other(params, x, state):
        return cell.step(params, np.cos(x), state)

    def where(params, x, state):
        return cell.step(params, np.where(x > 0, x, 0), state)

    for step in (branch, shape, array, other, where):
        own = SimpleNamespace(**vars(cell) | {"step": step})
        with pytest.raises(NotRecordableError):
            program.record(own, params)
        hs, _ = run(own, params, xs, state)
        np.testing.assert_array_equal(hs[:, 0], step(params, xs[:, 0], state)[0])


# When a page changes


def test_all_follows_a_page_that_changes(monkeypatch):
    """`run`, `record` and `backprop`; and all is as before when the page is."""
    cell, params, xs, state = case("lstm")
    before = run(cell, params, xs, state)[0], *backprop(cell, params, xs, xs @ np.ones((3, 5)))[0]

    def forgetful(params, x, state):
        i, f, g, o = x @ params.W_x + state.h @ params.W_h + params.b[:, None]
        return sigmoid(i), 0 * f, tanh(g), sigmoid(o)

    with monkeypatch.context() as patch:
        patch.setattr(lstm, "gates", forgetful)
        hs, final = run(cell, params, xs, state)
        other, _ = run(cell, params, xs, state._replace(c=state.c + 9))
        np.testing.assert_array_equal(hs, other)  # nothing is left of the old c
        np.testing.assert_allclose(record(cell, params, xs, state)["h"], hs, rtol=0, atol=1e-15)
        d_params, _, d_state = backprop(cell, params, xs, hs, final, state=state)
        assert not d_state.c.any()
        assert not d_params.b[lstm.GATES.index("f")].any()
    after = run(cell, params, xs, state)[0], *backprop(cell, params, xs, xs @ np.ones((3, 5)))[0]
    for old, new in zip(before, after, strict=True):
        np.testing.assert_allclose(old, new, rtol=0, atol=1e-14)


SCALE = 0.5


def test_a_program_is_kept_until_what_it_refers_to_changes(monkeypatch):
    cell, params, xs, state = case("rnn")
    inner = types.FunctionType(scaled.__code__, globals())

    def step(params, x, state, scale=inner):
        (n,) = cell.gates(params, scale(x), state)
        return n, cell.State(n)

    own = SimpleNamespace(**vars(cell) | {"step": step})
    first = program_of(own, params)
    assert program_of(own, params) is first
    half, _ = run(own, params, xs, state)
    monkeypatch.setitem(globals(), "SCALE", 1.0)
    assert program_of(own, params) is not first
    np.testing.assert_allclose(run(own, params, xs, state)[0], run(cell, params, xs, state)[0])
    assert np.abs(half - run(own, params, xs, state)[0]).max() > 0.01
    second = program_of(own, params)
    inner.__code__ = (lambda x: x * 0).__code__
    assert program_of(own, params) is not second


def scaled(x):
    return SCALE * x


def test_generated_loops_are_current():
    """Written from the pages as they are, and for the parts that they are made of."""
    path = Path(generate.__file__).with_name("cells_compiled.py")
    message = "run `make generate` and look at what has changed"
    assert path.read_text(encoding="utf-8") == generate.written(), message
