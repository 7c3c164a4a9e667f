"""`unroll`, `run` and `record`: what they promise, and what they say about bad input."""

import re
from collections import namedtuple
from types import SimpleNamespace

import numpy as np
import pytest
from cases import BATCH, HIDDEN, INPUT, LENGTHS, TIME, case, params_of
from hypothesis import given, settings
from hypothesis import strategies as st

from lstmbook import CELLS, lstm, record, rnn, run, unroll

NAMES = list(CELLS)
each_cell = pytest.mark.parametrize("name", NAMES)


def says(*parts):
    """A pattern for a message that holds these parts in this order."""
    return "(?s)" + ".*".join(map(re.escape, parts))


# unroll


def test_unroll_is_the_loop():
    xs = np.arange(12.0).reshape(3, 2, 2)
    hs, state = unroll(lambda params, x, state: (params * x, state + x), 10, xs, np.ones((2, 2)))
    np.testing.assert_array_equal(hs, 10 * xs)
    np.testing.assert_array_equal(state, 1 + xs.sum(0))


@each_cell
def test_unroll_takes_a_step(name):
    cell, params, xs, state = case(name)
    hs, final = unroll(cell.step, params, xs.swapaxes(0, 1), state)
    hs_run, final_run = run(cell, params, xs, state)
    np.testing.assert_allclose(hs.swapaxes(0, 1), hs_run, rtol=0, atol=1e-14)
    np.testing.assert_allclose(final, final_run, rtol=0, atol=1e-14)


# run


@each_cell
def test_run_takes_a_module_or_a_name(name):
    cell, params, xs, state = case(name)
    for a, b in zip(run(cell, params, xs, state), run(name, params, xs, state), strict=True):
        np.testing.assert_array_equal(a, b)


@each_cell
@pytest.mark.parametrize("lengths", [None, LENGTHS])
def test_time_major_is_the_transpose(name, lengths):
    cell, params, xs, state = case(name)
    hs, final = run(cell, params, xs, state, lengths=lengths)
    hs_t, final_t = run(cell, params, xs.swapaxes(0, 1), state, lengths=lengths, time_major=True)
    assert hs.shape == (BATCH, TIME, HIDDEN)
    assert hs_t.shape == (TIME, BATCH, HIDDEN)
    np.testing.assert_array_equal(hs_t.swapaxes(0, 1), hs)
    np.testing.assert_array_equal(final, final_t)


@each_cell
def test_lengths_give_zeros_and_copied_states(name):
    cell, params, xs, state = case(name)
    hs, final = run(cell, params, xs, state, lengths=LENGTHS)
    for row, length in enumerate(LENGTHS):
        np.testing.assert_array_equal(hs[row, length:], 0)
        first = cell.State(*(part[row : row + 1] for part in state))
        alone, last = run(cell, params, xs[row : row + 1, :length], first)
        np.testing.assert_allclose(hs[row, :length], alone[0], rtol=0, atol=1e-14)
        for part, expected in zip(final, last, strict=True):
            np.testing.assert_allclose(part[row], expected[0], rtol=0, atol=1e-14)
    for part, initial in zip(final, state, strict=True):
        np.testing.assert_array_equal(part[LENGTHS.index(0)], initial[LENGTHS.index(0)])


@each_cell
def test_what_stands_past_a_length_is_never_used(name):
    cell, params, xs, state = case(name)
    expected = run(cell, params, xs, state, lengths=LENGTHS)
    for row, length in enumerate(LENGTHS):
        xs[row, length:] = [np.nan, np.inf, 1e300]
    hs, final = run(cell, params, xs, state, lengths=LENGTHS)
    np.testing.assert_array_equal(hs, expected[0])
    np.testing.assert_array_equal(final, expected[1])


@each_cell
def test_nan_stays_in_its_own_sequence(name):
    cell, params, xs, state = case(name)
    xs[1, 2, 0] = np.nan
    hs, _ = run(cell, params, xs, state)
    bad = np.isnan(hs).any(axis=2)
    assert bad[1].tolist() == [False, False] + [True] * (TIME - 2)
    assert not bad[[0, 2, 3]].any()


@each_cell
def test_no_state_means_zeros(name):
    cell, params, xs, _ = case(name)
    zero = cell.zero_state(params, BATCH)
    for a, b in zip(run(cell, params, xs), run(cell, params, xs, zero), strict=True):
        np.testing.assert_array_equal(a, b)


@each_cell
def test_the_state_goes_on_from_where_it_stopped(name):
    cell, params, xs, state = case(name)
    whole, final = run(cell, params, xs, state)
    first, middle = run(cell, params, xs[:, :2], state)
    rest, last = run(cell, params, xs[:, 2:], middle)
    np.testing.assert_allclose(np.concatenate([first, rest], 1), whole, rtol=0, atol=1e-14)
    np.testing.assert_allclose(last, final, rtol=0, atol=1e-14)


@each_cell
@pytest.mark.parametrize("time_major", [False, True])
def test_empty_batch_and_no_steps(name, time_major):
    cell, params, _, state = case(name)
    empty = np.zeros((TIME, 0, INPUT) if time_major else (0, TIME, INPUT))
    hs, final = run(cell, params, empty, lengths=[], time_major=time_major)
    assert hs.shape == ((TIME, 0, HIDDEN) if time_major else (0, TIME, HIDDEN))
    assert {part.shape for part in final} == {(0, HIDDEN)}
    none = np.zeros((0, BATCH, INPUT) if time_major else (BATCH, 0, INPUT))
    hs, final = run(cell, params, none, state, time_major=time_major)
    assert hs.shape == ((0, BATCH, HIDDEN) if time_major else (BATCH, 0, HIDDEN))
    np.testing.assert_array_equal(final, state)


@each_cell
def test_the_dtype_is_the_common_one(name):
    cell, params, xs, state = case(name, dtype=np.float32)
    hs, final = run(cell, params, xs, state, lengths=LENGTHS)
    assert {a.dtype for a in (hs, *final)} == {np.dtype(np.float32)}
    hs, final = run(cell, params, xs.astype(np.float64), lengths=LENGTHS)
    assert {a.dtype for a in (hs, *final)} == {np.dtype(np.float64)}
    assert {a.dtype for a in (run(cell, params, xs[:, :0].astype(np.float64)))[1]} == {hs.dtype}


@each_cell
@pytest.mark.parametrize("known", [True, False])
def test_inputs_are_not_changed(name, known):
    cell, params, xs, state = case(name)
    cell = cell if known else SimpleNamespace(**vars(cell))  # `fast` does not know the copy
    for array in (*params, xs, *state):
        array.setflags(write=False)
    for inputs, lengths in ((xs, LENGTHS), (xs[:, :0], None)):
        hs, final = run(cell, params, inputs, state, lengths=lengths)
        for array in (hs, *final):
            array += 1  # the results are the caller's own


def test_a_named_state_is_taken_by_name():
    """TensorFlow's LSTMStateTuple is (c, h); swapped by position it would be silently wrong."""
    cell, params, xs, state = case("lstm")
    theirs = namedtuple("LSTMStateTuple", "c h")(c=state.c, h=state.h)
    np.testing.assert_array_equal(run(cell, params, xs, theirs)[0], run(cell, params, xs, state)[0])
    plain = run(cell, params, xs, (state.h, state.c))[0]
    np.testing.assert_array_equal(plain, run(cell, params, xs, state)[0])
    assert np.abs(run(cell, params, xs, (state.c, state.h))[0] - plain).max() > 0.01


@settings(max_examples=60)
@given(
    name=st.sampled_from(NAMES),
    shape=st.tuples(st.integers(0, 4), st.integers(0, 5), st.integers(1, 3), st.integers(1, 4)),
    time_major=st.booleans(),
    data=st.data(),
)
def test_shapes(name, shape, time_major, data):
    batch, time, input_size, hidden = shape
    cell, params, xs, state = case(
        name, batch=batch, time=time, input_size=input_size, hidden=hidden, dtype=np.float32
    )
    lengths = data.draw(st.none() | st.lists(st.integers(0, time), min_size=batch, max_size=batch))
    xs = xs.swapaxes(0, 1) if time_major else xs
    hs, final = run(cell, params, xs, state, lengths=lengths, time_major=time_major)
    seen = record(cell, params, xs, state, lengths=lengths, time_major=time_major)
    expected = (time, batch, hidden) if time_major else (batch, time, hidden)
    assert hs.shape == expected
    assert {a.shape for a in seen.values()} == {expected}
    assert {a.shape for a in final} == {(batch, hidden)}
    assert {a.dtype for a in (hs, *final, *seen.values())} == {np.dtype(np.float32)}
    assert np.isfinite(hs).all()


# record


@each_cell
@pytest.mark.parametrize("time_major", [False, True])
def test_record_shows_what_run_did(name, time_major):
    cell, params, xs, state = case(name)
    hs, final = run(cell, params, xs, state, lengths=LENGTHS)
    xs_t = xs.swapaxes(0, 1) if time_major else xs
    seen = record(cell, params, xs_t, state, lengths=LENGTHS, time_major=time_major)
    assert list(seen) == [*cell.GATES, *cell.State._fields]
    seen = {k: v.swapaxes(0, 1) if time_major else v for k, v in seen.items()}
    for row, length in enumerate(LENGTHS):
        np.testing.assert_allclose(seen["h"][row, :length], hs[row, :length], rtol=0, atol=1e-14)
        now = cell.State(*(part[row : row + 1] for part in state))
        for t in range(length):
            for letter, gate in zip(
                cell.GATES, cell.gates(params, xs[row : row + 1, t], now), strict=True
            ):
                np.testing.assert_allclose(seen[letter][row, t], gate[0], rtol=0, atol=1e-14)
            _, now = cell.step(params, xs[row : row + 1, t], now)
        for letter in cell.GATES:
            assert np.isnan(seen[letter][row, length:]).all()
        for name_, part in zip(cell.State._fields, final, strict=True):
            past = seen[name_][row, length:]
            np.testing.assert_allclose(
                past, np.broadcast_to(part[row], past.shape), rtol=0, atol=1e-14
            )


# what is said about bad input


@pytest.mark.parametrize("function", [run, record])
def test_wrong_inputs(function):
    cell, params, xs, _ = case("lstm")
    with pytest.raises(TypeError, match=says("xs has dtype int64", "xs.astype(np.float32)")):
        function(cell, params, np.ones((2, 3, INPUT), np.int64))
    with pytest.raises(TypeError, match=says("xs has dtype bool")):
        function(cell, params, xs > 0)
    with pytest.raises(
        ValueError,
        match=says(
            "xs has shape (4, 6, 2); expected (batch, time, input) with input = 3",
            "params.W_x has shape (4, 3, 5)",
        ),
    ):
        function(cell, params, xs[..., :2])
    with pytest.raises(ValueError, match=says("(4, 3, 6)", "Axis 1 has 3: np.moveaxis(xs, 1, -1)")):
        function(cell, params, xs.swapaxes(1, 2))
    with pytest.raises(
        ValueError,
        match=says(
            "xs has shape (6, 3); expected three axes, (batch, ti", "One sequence alone? xs[None]"
        ),
    ):
        function(cell, params, xs[0])
    with pytest.raises(ValueError, match=says("(time, batch, input)", "xs[:, None]")):
        function(cell, params, xs[0], time_major=True)
    with pytest.raises(ValueError, match=says("xs has shape (1, 4, 6, 3); expected three axes")):
        function(cell, params, xs[None])


def test_wrong_lengths():
    cell, params, xs, _ = case("lstm")
    with pytest.raises(TypeError, match=says("lengths has dtype float64; expected integers")):
        run(cell, params, xs, lengths=[1.0, 2.0, 3.0, 4.0])
    with pytest.raises(
        ValueError, match=says("lengths has shape (3,); expected one for each of the 4 sequences")
    ):
        run(cell, params, xs, lengths=[1, 2, 3])
    with pytest.raises(
        ValueError, match=says("(6,)", "6 is the size of the time axis", "time_maj")
    ):
        run(cell, params, xs, lengths=[1] * TIME)
    with pytest.raises(
        ValueError,
        match=says("lengths has 7 at position 2; expected 0 to 6", "np.minimum(lengths, time)"),
    ):
        run(cell, params, xs, lengths=[1, 2, 7, 6])
    with pytest.raises(ValueError, match=says("lengths has -1 at position 0; expected 0 to 6")):
        run(cell, params, xs, lengths=[-1, 2, 3, 4])


def test_wrong_states():
    cell, params, xs, state = case("lstm")
    h, c = state
    wanted = "expected State(h, c), each (batch, hidden) = (4, 5)"
    with pytest.raises(TypeError, match=says("state is one ndarray;", wanted)):
        run(cell, params, xs, h)
    with pytest.raises(
        TypeError, match=says("state_is_tuple=False", "c, h = np.split(state, 2, ax")
    ):
        run(cell, params, xs, np.concatenate([c, h], 1))
    with pytest.raises(TypeError, match=says("state is one float")):
        run(cell, params, xs, 0.0)
    with pytest.raises(ValueError, match=says("state is State(h) of 1;", wanted)):
        run(cell, params, xs, rnn.State(h))
    with pytest.raises(ValueError, match=says("state is a tuple of 3;", wanted)):
        run(cell, params, xs, (h, c, c))
    with pytest.raises(ValueError, match=says("state is Other(h, m) of 2;", wanted)):
        run(cell, params, xs, namedtuple("Other", "h m")(h, c))
    with pytest.raises(
        ValueError, match=says("state.c has shape (4, 4); expected (batch, hidden)")
    ):
        run(cell, params, xs, lstm.State(h, c[:, :4]))
    with pytest.raises(TypeError, match=says("state.h has dtype int64; expected floats")):
        run(cell, params, xs, (h.astype(np.int64), c))
    wide = lstm.State(*np.zeros((2, TIME, HIDDEN)))
    with pytest.raises(ValueError, match=says("state.h has shape (6, 5)", "wrong way round")):
        run(cell, params, xs, wide)
    cell, params, xs, state = case("gru")
    with pytest.raises(TypeError, match=says("expected State(h)", "State(state) wraps it")):
        run(cell, params, xs, state.h)
    with pytest.raises(
        ValueError, match=says("state is LSTMStateTuple(c, h) of 2; expected State(h)")
    ):
        run(cell, params, xs, namedtuple("LSTMStateTuple", "c h")(c, h))


def test_params_of_another_cell():
    _, params, xs, _ = case("coupled")
    with pytest.raises(TypeError, match=r"^lstm needs Params.* got Params.* of coupled$"):
        run("lstm", params, xs)


@given(
    name=st.sampled_from(NAMES),
    shape=st.lists(st.integers(0, 4), min_size=0, max_size=4),
    kind=st.sampled_from([np.float32, np.float64, np.int32, np.bool_]),
)
def test_any_input_either_works_or_says_what_is_wrong(name, shape, kind):
    cell = CELLS[name]
    params = params_of(cell, np.random.default_rng(0), 3, 2)
    xs = np.ones(shape, kind)
    if len(shape) == 3 and shape[2] == 3 and xs.dtype.kind == "f":
        assert run(cell, params, xs)[0].shape == (*shape[:2], 2)
    else:
        with pytest.raises((TypeError, ValueError), match=r"^xs has (shape|dtype) .*; expected "):
            run(cell, params, xs)
