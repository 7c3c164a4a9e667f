"""`step_vjp` of every cell and `backprop`: against complex steps, differences, and the frameworks.

A complex step is a derivative without cancellation: ``imag(f(p + 1e-30j)) / 1e-30`` is exact to
rounding. It needs the forward code alone, so it knows nothing of the backward code it checks.
"""

import functools
import itertools
import json
import re
import tracemalloc
from collections import namedtuple
from pathlib import Path
from types import SimpleNamespace

import needs
import numpy as np
import pytest
import wrong_gradients
from cases import BATCH, HIDDEN, INPUT, LENGTHS, TIME, by_steps, case
from collected import each
from hypothesis import given, settings
from hypothesis import strategies as st

from lstmbook import CELLS, LayoutError, backprop, compare, layouts, live, lstm, run
from lstmbook.running import vjp

NAMES = list(CELLS)
each_cell = pytest.mark.parametrize("name", NAMES)
both_lengths = each("lengths", [None, LENGTHS])
both_majors = each("time_major", [False, True])
VECTORS = Path(__file__).parent / "tf1" / "vectors"
TINY = 1e-30


def assert_close(ours, theirs, atol):
    result = compare(ours, theirs, atol=atol)
    assert result.ok, result


def leaves(gradients):
    """The arrays of ``(d_params, d_xs, d_state)``, flat."""
    d_params, d_xs, d_state = gradients
    return [*d_params, d_xs, *d_state]


def like(rng, arrays):
    """Random numbers in the shapes and the dtype of Params, a State or an array."""
    if isinstance(arrays, np.ndarray):
        return rng.normal(size=arrays.shape).astype(arrays.dtype)
    return type(arrays)(*(like(rng, array) for array in arrays))


def cotangents(name, state, shape, seed=1):
    """Random gradients of a loss at the outputs, in ``shape``, and at the final state."""
    rng = np.random.default_rng([seed, *name.encode()])
    return rng.normal(size=shape).astype(state.h.dtype), like(rng, state)


def complex_step(loss, params, xs, state):
    """The gradient of ``loss(params, xs, state)`` at every number of the three, one by one."""
    arrays = [array.astype(complex) for array in leaves((params, xs, state))]
    gradients = [np.zeros(array.shape) for array in arrays]

    def whole(arrays):
        *parts, x = arrays[: len(params) + 1]
        return type(params)(*parts), x, type(state)(*arrays[len(params) + 1 :])

    for array, gradient in zip(arrays, gradients, strict=True):
        for place in np.ndindex(array.shape):
            array[place] += TINY * 1j
            gradient[place] = loss(*whole(arrays)).imag / TINY
            array[place] = array[place].real
    return whole(gradients)


def along(arguments, direction, size):
    """``arguments + size * direction`` for two triples of params, xs, state."""
    (params, xs, state), (v_params, v_xs, v_state) = arguments, direction
    return (
        type(params)(*(a + size * v for a, v in zip(params, v_params, strict=True))),
        xs + size * v_xs,
        type(state)(*(a + size * v for a, v in zip(state, v_state, strict=True))),
    )


def dot(left, right):
    return sum(np.vdot(a, b) for a, b in zip(leaves(left), leaves(right), strict=True))


def loss_of(name, d_hs, d_final, **options):
    """The loss whose gradients `backprop` gives, by `run`."""

    def loss(params, xs, state):
        hs, final = run(name, params, xs, state, **options)
        ends = zip(d_final, final, strict=True)
        return np.sum(d_hs * hs) + sum(np.sum(d * part) for d, part in ends)

    return loss


# step_vjp


@functools.cache
def step_case(name):
    """Arguments of `step_vjp`, and what it must return."""
    cell, params, xs, state = case(name)
    _, d_state = cotangents(name, state, 0)

    def loss(params, x, state):
        _, new = cell.step(params, x, state)
        return sum(np.sum(d * part) for d, part in zip(d_state, new, strict=True))

    x = xs[:, 0]
    return (params, x, state, d_state), complex_step(loss, params, x, state)


def check_step_vjp(name, step_vjp):
    arguments, expected = step_case(name)
    assert_close(step_vjp(*arguments), expected, atol=1e-12)


@each_cell
def test_step_vjp_is_the_complex_step(name):
    cell = CELLS[name]
    check_step_vjp(name, cell.step_vjp)
    d_params, _, d_state = cell.step_vjp(*step_case(name)[0])
    assert type(d_params) is cell.Params
    assert type(d_state) is cell.State


@each_cell
def test_the_output_is_the_new_h(name):
    """So a gradient at the output is one at the new h."""
    cell, params, xs, state = case(name)
    h, new = cell.step(params, xs[:, 0], state)
    np.testing.assert_array_equal(h, new.h)


@each_cell
@each("dtype", [np.float32, np.float64])
@each("batch", [0, 1, 3])
def test_step_vjp_keeps_dtype_and_shapes(name, dtype, batch):
    cell, params, xs, state = case(name, dtype=dtype, batch=batch)
    d_params, d_x, d_state = cell.step_vjp(params, xs[:, 0], state, state)
    pairs = list(zip((*d_params, d_x, *d_state), (*params, xs[:, 0], *state), strict=True))
    assert [d.shape for d, _ in pairs] == [array.shape for _, array in pairs]
    assert {d.dtype for d, _ in pairs} == {np.dtype(dtype)}
    if batch == 0:
        assert not any(d.any() for d in d_params)


@each("name", NAMES)
def test_the_way_back_of_the_catalogue_is_that_of_the_page(name):
    arguments, _ = step_case(name)
    ours = CELLS[name].step_vjp(*arguments)
    assert_close(wrong_gradients.step_back(name, {}, *arguments), ours, atol=1e-14)


WRONG = [*wrong_gradients.WRONG, *wrong_gradients.OF_WRONG_SHAPE]


@each("wrong", WRONG, ids=lambda wrong: f"{wrong.cell} {wrong.name}")
def test_a_wrong_step_vjp_is_seen(wrong):
    with pytest.raises((AssertionError, ValueError)):  # numbers differ, or shapes do
        check_step_vjp(wrong.cell, wrong.step_vjp)


# backprop


@each_cell
@both_lengths
@both_majors
def test_backprop_is_the_complex_step(name, lengths, time_major):
    cell, params, xs, state = case(name)
    xs = xs.swapaxes(0, 1) if time_major else xs
    d_hs, d_final = cotangents(name, state, (*xs.shape[:2], HIDDEN))
    options = {"lengths": lengths, "time_major": time_major}
    expected = complex_step(loss_of(name, d_hs, d_final, **options), params, xs, state)
    ours = backprop(cell, params, xs, d_hs, d_final, state=state, **options)
    assert_close(ours, expected, atol=1e-12)
    assert type(ours[0]) is cell.Params
    assert type(ours[2]) is cell.State


@each_cell
def test_backprop_over_a_long_sequence(name):
    """The derivative in one random direction, over 200 steps."""
    cell, *arguments = case(name, time=200)
    lengths = [200, 0, 77, 199]
    d_hs, d_final = cotangents(name, arguments[2], (BATCH, 200, HIDDEN))
    loss = loss_of(name, d_hs, d_final, lengths=lengths)
    rng = np.random.default_rng(2)
    direction = tuple(like(rng, part) for part in arguments)
    params, xs, state = arguments
    ours = backprop(cell, params, xs, d_hs, d_final, state=state, lengths=lengths)
    expected = loss(*along(arguments, direction, TINY * 1j)).imag / TINY
    size = np.sqrt(dot(ours, ours) * dot(direction, direction))
    assert abs(dot(ours, direction) - expected) < 1e-12 * size


@each_cell
def test_backprop_is_the_central_difference(name):
    cell, *arguments = case(name)
    d_hs, d_final = cotangents(name, arguments[2], (BATCH, TIME, HIDDEN))
    loss = loss_of(name, d_hs, d_final, lengths=LENGTHS)
    rng = np.random.default_rng(3)
    direction = tuple(like(rng, part) for part in arguments)
    params, xs, state = arguments
    ours = backprop(cell, params, xs, d_hs, d_final, state=state, lengths=LENGTHS)
    ahead, behind = (loss(*along(arguments, direction, size)) for size in (1e-6, -1e-6))
    assert dot(ours, direction) == pytest.approx((ahead - behind) / 2e-6, abs=1e-6)


@settings(max_examples=60, deadline=None)
@given(data=st.data(), name=st.sampled_from(NAMES), seed=st.integers(0, 2**31))
def test_backprop_at_any_size(data, name, seed):
    sizes = {key: data.draw(st.integers(0, 3), key) for key in ("batch", "time")}
    sizes |= {key: data.draw(st.integers(1, 4), key) for key in ("input_size", "hidden")}
    cell, *arguments = case(name, seed=seed, **sizes)
    params, xs, state = arguments
    rng = np.random.default_rng(seed)
    lengths = rng.integers(0, sizes["time"] + 1, sizes["batch"])
    d_hs, d_final = rng.normal(size=(*xs.shape[:2], sizes["hidden"])), like(rng, state)
    direction = tuple(like(rng, part) for part in arguments)
    ours = backprop(cell, params, xs, d_hs, d_final, state=state, lengths=lengths)
    loss = loss_of(name, d_hs, d_final, lengths=lengths)
    expected = loss(*along(arguments, direction, TINY * 1j)).imag / TINY
    assert dot(ours, direction) == pytest.approx(expected, abs=1e-11)


@each_cell
def test_without_a_final_gradient_and_without_a_state(name):
    cell, params, xs, state = case(name)
    zero = cell.zero_state(params, BATCH)
    d_hs, _ = cotangents(name, state, (BATCH, TIME, HIDDEN))
    expected = backprop(cell, params, xs, d_hs, zero, state=zero)
    assert_close(backprop(name, params, xs, d_hs), expected, atol=0)


@each_cell
def test_backprop_is_linear_in_the_gradients_given(name):
    cell, params, xs, state = case(name)
    pairs = [cotangents(name, state, (BATCH, TIME, HIDDEN), seed) for seed in (1, 2)]
    one, two = (backprop(cell, params, xs, *pair, state=state, lengths=LENGTHS) for pair in pairs)
    (d_hs, d_final), (more_hs, more_final) = pairs
    mixed = cell.State(*(2 * a - 3 * b for a, b in zip(d_final, more_final, strict=True)))
    both = backprop(cell, params, xs, 2 * d_hs - 3 * more_hs, mixed, state=state, lengths=LENGTHS)
    expected = [2 * a - 3 * b for a, b in zip(leaves(one), leaves(two), strict=True)]
    assert_close(tuple(leaves(both)), tuple(expected), atol=1e-12)


# Lengths


@each_cell
@both_majors
def test_nothing_comes_from_past_a_length(name, time_major):
    cell, params, xs, state = case(name)
    d_hs, d_final = cotangents(name, state, (BATCH, TIME, HIDDEN))
    dirty_xs, dirty_d_hs, dirty_state = xs.copy(), d_hs.copy(), cell.State(*map(np.copy, state))
    for row, length in enumerate(LENGTHS):
        dirty_xs[row, length:], dirty_d_hs[row, length:] = np.nan, np.nan
        if length == 0:
            for part in dirty_state:
                part[row] = np.nan

    def gradients(xs, d_hs, state):
        if time_major:
            xs, d_hs = xs.swapaxes(0, 1), d_hs.swapaxes(0, 1)
        options = {"state": state, "lengths": LENGTHS, "time_major": time_major}
        return backprop(cell, params, xs, d_hs, d_final, **options)

    clean = gradients(xs, d_hs, state)
    for a, b in zip(
        leaves(clean), leaves(gradients(dirty_xs, dirty_d_hs, dirty_state)), strict=True
    ):
        np.testing.assert_array_equal(a, b)
    d_xs = clean[1].swapaxes(0, 1) if time_major else clean[1]
    for row, length in enumerate(LENGTHS):
        np.testing.assert_array_equal(d_xs[row, length:], 0)
        assert (d_xs[row, :length] != 0).all()
    for part, given_part in zip(clean[2], d_final, strict=True):
        row = LENGTHS.index(0)
        np.testing.assert_array_equal(part[row], given_part[row])


@each_cell
@both_majors
def test_no_steps_and_no_sequences(name, time_major):
    cell, params, *_ = case(name)
    for batch, time in [(BATCH, 0), (0, TIME), (0, 0)]:
        shape = (time, batch) if time_major else (batch, time)
        d_final = cell.State(*(np.full((batch, HIDDEN), 0.5) for _ in cell.State._fields))
        d_params, d_xs, d_state = backprop(
            cell,
            params,
            np.zeros((*shape, INPUT)),
            np.zeros((*shape, HIDDEN)),
            d_final,
            lengths=[0] * batch,
            time_major=time_major,
        )
        assert not any(d.any() for d in d_params)
        assert d_xs.shape == (*shape, INPUT)
        assert_close(d_state, d_final, atol=0)


# Truncated backpropagation


@each_cell
@both_lengths
def test_two_halves(name, lengths):
    """The state carried on gives the same run; its gradient carried back, the same gradient."""
    cell, params, xs, state = case(name)
    half, ends = 4, np.array([TIME] * BATCH if lengths is None else lengths)
    first = {"lengths": np.minimum(ends, half)}
    second = {"lengths": np.maximum(ends - half, 0)}
    d_hs, d_final = cotangents(name, state, (BATCH, TIME, HIDDEN))

    hs, final = run(cell, params, xs, state, lengths=lengths)
    hs_1, middle = run(cell, params, xs[:, :half], state, **first)
    hs_2, last = run(cell, params, xs[:, half:], middle, **second)
    np.testing.assert_allclose(np.concatenate([hs_1, hs_2], axis=1), hs, rtol=0, atol=1e-14)
    assert_close(last, final, atol=1e-14)

    truncated = backprop(
        cell, params, xs[:, half:], d_hs[:, half:], d_final, state=middle, **second
    )
    loss = loss_of(name, d_hs[:, half:], d_final, **second)
    assert_close(truncated, complex_step(loss, params, xs[:, half:], middle), atol=1e-12)

    d_params_1, d_xs_1, d_state = backprop(
        cell, params, xs[:, :half], d_hs[:, :half], truncated[2], state=state, **first
    )
    d_params = cell.Params(*(a + b for a, b in zip(d_params_1, truncated[0], strict=True)))
    d_xs = np.concatenate([d_xs_1, truncated[1]], axis=1)
    whole = backprop(cell, params, xs, d_hs, d_final, state=state, lengths=lengths)
    assert_close((d_params, d_xs, d_state), whole, atol=1e-12)
    assert not compare(truncated[0], whole[0], atol=1e-3).ok


# Dtypes, memory, and what is left alone


@each_cell
def test_float32_stays_float32(name):
    cell, params, xs, state = case(name, dtype=np.float32)
    d_hs, d_final = cotangents(name, state, (BATCH, TIME, HIDDEN))
    ours = leaves(backprop(cell, params, xs, d_hs, d_final, state=state, lengths=LENGTHS))
    assert {d.dtype for d in ours} == {np.dtype(np.float32)}
    wide = leaves(
        backprop(cell, params, xs, d_hs.astype(float), d_final, state=state, lengths=LENGTHS)
    )
    assert {d.dtype for d in wide} == {np.dtype(np.float64)}
    for a, b in zip(ours, wide, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-5 * max(1, np.abs(b).max()))


@each_cell
def test_a_final_gradient_can_widen_too(name):
    cell, params, xs, state = case(name, dtype=np.float32, time=0)
    _, d_final = cotangents(name, state, 0)
    wide = cell.State(*(part.astype(float) for part in d_final))
    ours = backprop(cell, params, xs, np.zeros((BATCH, 0, HIDDEN), np.float32), wide)
    assert {d.dtype for d in leaves(ours)} == {np.dtype(np.float64)}


@each_cell
def test_the_arguments_are_left_alone(name):
    cell, params, xs, state = case(name)
    d_hs, d_final = cotangents(name, state, (BATCH, TIME, HIDDEN))
    given_arrays = [*params, xs, *state, d_hs, *d_final]
    before = [array.copy() for array in given_arrays]
    results = leaves(backprop(cell, params, xs, d_hs, d_final, state=state, lengths=LENGTHS))
    for array, copy in zip(given_arrays, before, strict=True):
        np.testing.assert_array_equal(array, copy)
    assert not any(np.shares_memory(a, b) for a in results for b in given_arrays)


def test_what_memory_goes_to():
    """For an LSTM two states, four gates and one output a step."""
    cell, params, xs, state = case("lstm", batch=16, time=2000, input_size=2, hidden=32)
    d_hs, d_final = cotangents("lstm", state, (16, 2000, 32))
    tracemalloc.start()
    try:
        backprop(cell, params, xs, d_hs, d_final, state=state)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    kept = 2000 * (2 + 4 + 1) * state.h.nbytes
    assert kept < peak < 1.1 * kept


# The run and the way back, one by one


@each_cell
@both_lengths
@both_majors
@each("known", [True, False])
def test_vjp_is_run_and_backprop(name, lengths, time_major, known):
    cell, params, xs, state = case(name)
    cell = cell if known else SimpleNamespace(**vars(cell))  # `fast` does not know the copy
    d_hs, d_final = cotangents(name, state, (BATCH, TIME, HIDDEN))
    more, more_final = cotangents(name, state, (BATCH, TIME, HIDDEN), seed=2)
    if time_major:
        xs, d_hs, more = (a.swapaxes(0, 1) for a in (xs, d_hs, more))
    options = {"lengths": lengths, "time_major": time_major}

    hs, final, back = vjp(cell, params, xs, state, **options)
    expected_hs, expected = run(cell, params, xs, state, **options)
    np.testing.assert_allclose(hs, expected_hs, rtol=0, atol=1e-14)
    assert_close(final, expected, atol=1e-14)
    for seen, seen_final in [(d_hs, d_final), (more, more_final), (d_hs, d_final), (d_hs, None)]:
        gradients = backprop(cell, params, xs, seen, seen_final, state=state, **options)
        for a, b in zip(leaves(back(seen, seen_final)), leaves(gradients), strict=True):
            np.testing.assert_array_equal(a, b)
        d_params, d_xs, d_state = back(seen, seen_final, inputs=False)
        assert d_xs is None
        for a, b in zip([*d_params, *d_state], [*gradients[0], *gradients[2]], strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("known", [True, False])
def test_the_way_back_keeps_nothing_that_may_change(known):
    """But params and xs: not the lengths and the state that it was given, nor what it gave."""
    for name, (batch, hidden) in itertools.product(NAMES, [(BATCH, HIDDEN), (1, HIDDEN), (4, 1)]):
        cell, params, xs, state = case(name, batch=batch, hidden=hidden)
        cell = cell if known else SimpleNamespace(**vars(cell))
        lengths = np.array([5, 2, 0, TIME][:batch])
        hs, final, back = vjp(cell, params, xs, state, lengths=lengths)
        d_hs, d_final = cotangents(name, state, hs.shape)
        expected = leaves(back(d_hs, d_final))
        for array in (lengths, *state, hs, *final):
            array[...] = 1
        for a, b in zip(leaves(back(d_hs, d_final)), expected, strict=True):
            np.testing.assert_array_equal(a, b, f"{name}, batch {batch}, hidden {hidden}")


def test_vjp_stays_in_the_dtype_of_the_run():
    cell, params, xs, state = case("gru", dtype=np.float32)
    hs, _, back = vjp(cell, params, xs, state)
    d_hs, _ = cotangents("gru", state, hs.shape)
    assert {d.dtype for d in leaves(back(d_hs.astype(float)))} == {np.dtype(np.float32)}
    with pytest.raises(TypeError, match="d_hs is complex, but the run was float32"):
        back(d_hs + 1j)
    with pytest.raises(TypeError, match=r"d_state\.h is complex, but the run was float32"):
        back(d_hs, (state.h + 1j,))
    with pytest.raises(ValueError, match=says("d_hs has shape (3, 7)", "expected that of the")):
        back(np.zeros((3, 7)))


# Bad arguments


def says(*parts):
    """A pattern for a message that holds these parts in this order."""
    return "(?s)" + ".*".join(map(re.escape, parts))


@pytest.mark.parametrize(
    ("shape", "time_major", "parts"),
    [
        ((TIME, BATCH, HIDDEN), False, ["(6, 4, 5)", "(batch, time, hidden) = (4, 6, 5)", "time_"]),
        ((BATCH, TIME, HIDDEN), True, ["(4, 6, 5)", "(time, batch, hidden) = (6, 4, 5)", "time_"]),
        ((BATCH, HIDDEN), False, ["(4, 5)", "(batch, time, hidden) = (4, 6, 5)", "d_state"]),
        ((BATCH, TIME, INPUT), False, ["(4, 6, 3)", "(batch, time, hidden) = (4, 6, 5)"]),
        ((), False, ["()", "(batch, time, hidden) = (4, 6, 5)"]),
    ],
)
def test_d_hs_of_a_wrong_shape(shape, time_major, parts):
    cell, params, xs, _ = case("lstm")
    xs = xs.swapaxes(0, 1) if time_major else xs
    with pytest.raises(ValueError, match=says("d_hs has shape", *parts)):
        backprop(cell, params, xs, np.zeros(shape), time_major=time_major)


def test_no_guess_where_batch_and_time_are_equal():
    cell, params, xs, _ = case("lstm", time=BATCH)
    with pytest.raises(ValueError, match=r"= \(4, 4, 5\)$"):
        backprop(cell, params, xs, np.zeros((BATCH, BATCH, HIDDEN + 1)))


@pytest.mark.parametrize("d_hs", [np.ones((BATCH, TIME, HIDDEN), int), None])
def test_d_hs_that_is_not_floats(d_hs):
    cell, params, xs, _ = case("lstm")
    with pytest.raises(TypeError, match=says("d_hs has dtype", "floats", "(4, 6, 5)")):
        backprop(cell, params, xs, d_hs)


def test_d_state_that_does_not_fit():
    cell, params, xs, state = case("lstm")
    d_hs = np.zeros((BATCH, TIME, HIDDEN))
    wrong = lstm.State(state.h[:, 1:], state.c)
    with pytest.raises(ValueError, match=says("d_state.h has shape (4, 4)", "(4, 5)")):
        backprop(cell, params, xs, d_hs, wrong)
    turned = lstm.State(np.zeros((TIME, HIDDEN)), state.c)
    with pytest.raises(ValueError, match=says("d_state.h has shape (6, 5)", "time_major")):
        backprop(cell, params, xs, d_hs, turned)
    with pytest.raises(ValueError, match=says("d_state is a tuple of 1", "State(h, c)")):
        backprop(cell, params, xs, d_hs, (state.h,))
    with pytest.raises(TypeError, match=says("d_state is one ndarray", "State(h, c)")):
        backprop(cell, params, xs, d_hs, state.h)
    with pytest.raises(TypeError, match=says("d_state.c has dtype int64", "floats")):
        backprop(cell, params, xs, d_hs, (state.h, state.c.astype(np.int64)))


def test_the_other_checks_are_those_of_run():
    cell, params, xs, state = case("lstm")
    d_hs = np.zeros((BATCH, TIME, HIDDEN))
    with pytest.raises(ValueError, match="xs has shape"):
        backprop(cell, params, xs[..., :2], d_hs)
    with pytest.raises(ValueError, match=r"^state\.h has shape"):
        backprop(cell, params, xs, d_hs, state=(state.h[:2], state.c))
    with pytest.raises(ValueError, match="lengths has 7"):
        backprop(cell, params, xs, d_hs, lengths=[7, 0, 1, 2])
    with pytest.raises(ValueError, match="there is no cell 'ltsm'"):
        backprop("ltsm", params, xs, d_hs)


def test_a_cell_that_cannot_go_back():
    """No program can say what it does, and it has no ``step_vjp``."""
    cell, params, xs, _ = case("rnn")
    forward = by_steps(cell)
    del forward.step_vjp
    run(forward, params, xs)
    with pytest.raises(TypeError, match="or one that has step_vjp"):
        backprop(forward, params, xs, np.zeros((BATCH, TIME, HIDDEN)))


# The frameworks

WITNESSES = {name: live.ENGINES[name].package for name in ("tf1", "keras", "torch")}
frameworks = pytest.mark.parametrize(
    ("framework", "name"),
    [
        needs.param(need, framework, name)
        for framework, need in WITNESSES.items()
        for name in layouts.LAYOUTS[framework].cells
    ],
)


def live_backprop(framework):
    """The framework's own gradients: tapes through dynamic_rnn and Keras, autograd of PyTorch."""
    return getattr(live, framework).backprop


@frameworks
@both_lengths
@both_majors
def test_backprop_is_that_of_the_framework(framework, name, lengths, time_major):
    cell, params, xs, state = case(name)
    xs = xs.swapaxes(0, 1) if time_major else xs
    d_hs, d_final = cotangents(name, state, (*xs.shape[:2], HIDDEN))
    arguments = (cell, params, xs, d_hs, d_final)
    options = {"state": state, "lengths": lengths, "time_major": time_major}
    theirs = live_backprop(framework)(*arguments, **options)
    assert_close(backprop(*arguments, **options), theirs, atol=1e-12)
    assert (type(theirs[0]), type(theirs[2])) == (cell.Params, cell.State)


@frameworks
def test_backprop_is_that_of_the_framework_in_float32(framework, name):
    cell, params, xs, _ = case(name, dtype=np.float32)
    d_hs = np.random.default_rng(4).normal(size=(*xs.shape[:2], HIDDEN)).astype(np.float32)
    theirs = live_backprop(framework)(name, params, xs, d_hs, lengths=LENGTHS)
    assert_close(backprop(cell, params, xs, d_hs, lengths=LENGTHS), theirs, atol=1e-5)
    assert {d.dtype for d in leaves(theirs)} == {np.dtype(np.float32)}


@pytest.mark.parametrize(
    "framework", [needs.param(need, framework) for framework, need in WITNESSES.items()]
)
def test_backprop_of_a_framework_takes_what_ours_takes(framework):
    """The gradient at the final state by name, as TensorFlow has it; no shape but the right one."""
    theirs = live_backprop(framework)
    cell, params, xs, state = case("lstm", dtype=np.float32)
    d_hs, (d_h, d_c) = cotangents("lstm", state, (BATCH, TIME, HIDDEN))
    named = namedtuple("LSTMStateTuple", "c h")(c=d_c, h=d_h)
    expected = backprop(cell, params, xs, d_hs, named, state=state)
    assert_close(theirs(cell, params, xs, d_hs, named, state=state), expected, atol=1e-5)
    wide = theirs(cell, params, xs, d_hs.astype(float), (d_h, d_c), state=state)
    assert {d.dtype for d in leaves(wide)} == {np.dtype(float)}
    for wrong, d_state, error, message in [
        (d_hs[:1, :1], None, ValueError, "d_hs has shape (1, 1, 5); expected that of the outputs"),
        (d_hs.swapaxes(0, 1), None, ValueError, "d_hs has shape (6, 4, 5)"),
        (1.0, None, ValueError, "d_hs has shape ()"),
        (d_hs > 0, None, TypeError, "d_hs has dtype bool; expected floats"),
        (d_hs, (d_h[:1], d_c), ValueError, "d_state.h has shape (1, 5); expected (batch, hidden)"),
        (d_hs, (d_h,), ValueError, "d_state is a tuple of 1; expected State(h, c)"),
        (d_hs, d_h, TypeError, "d_state is one ndarray; expected State(h, c)"),
    ]:
        with pytest.raises(error, match=says(message)):
            theirs(cell, params, xs, wrong, d_state)


@pytest.mark.parametrize(
    ("framework", "name"),
    [
        needs.param("tensorflow", "tf1", "gru_reset_after"),
        needs.param("keras", "keras", "peephole"),
        needs.param("torch", "torch", "gru"),
    ],
)
def test_backprop_of_a_cell_that_the_framework_has_not(framework, name):
    _, params, xs, _ = case(name)
    with pytest.raises(LayoutError, match=f"cannot hold the cell '{name}'"):
        live_backprop(framework)(name, params, xs, np.zeros((BATCH, TIME, HIDDEN)))


RECORDED = json.loads((VECTORS / "index.json").read_text())["cases"]


@each("entry", RECORDED, ids=lambda entry: entry["file"].removesuffix(".npz"))
def test_backprop_is_what_tensorflow_1_12_3_recorded(entry):
    with np.load(VECTORS / entry["file"], allow_pickle=False) as file:
        arrays = dict(file)

    def below(scope):
        cut = len(scope)
        return {name[cut:]: a for name, a in arrays.items() if name.startswith(scope)}

    cell = CELLS[entry["cell"]]
    forget_bias = entry["forget_bias"] or 0.0  # None where there is no forget gate
    params = layouts.load(cell, "tf1", below("weights/"), forget_bias=forget_bias)
    xs, d_hs, d_final = arrays["xs"], arrays["d_hs"], cell.State(**below("d_final/"))
    state = None if entry["zero_state"] else cell.State(**below("state/"))
    if entry["one_step"]:
        ours = cell.step_vjp(params, xs, state, d_final._replace(h=d_final.h + d_hs))
    else:
        options = {"lengths": arrays.get("lengths"), "time_major": entry["time_major"]}
        ours = backprop(cell, params, xs, d_hs, d_final, state=state, **options)

    # Gradients at the stored arrays; pull_back brings them to ours.
    d_params = layouts.pull_back(cell, "tf1", below("d_weights/"))
    d_state = ours[2] if state is None else cell.State(**below("d_state/"))
    theirs = leaves((d_params, arrays["d_xs"], d_state))
    size = max(1, *(np.abs(d).max() for d in theirs))
    atol = {"float32": 1e-5, "float64": 1e-10}[entry["dtype"]] * size
    for a, b in zip(leaves(ours), theirs, strict=True):
        assert a.dtype == entry["dtype"]
        np.testing.assert_allclose(a, b, rtol=0, atol=atol)
