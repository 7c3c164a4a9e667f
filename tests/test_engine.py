"""What follows from a page gives what `step` and `step_vjp` give, whatever it is handed."""

import importlib
import itertools
import sys
import threading
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from cases import BATCH, HIDDEN, INPUT, LENGTHS, TIME, by_steps, case, params_of
from collected import each
from hypothesis import given, settings
from hypothesis import strategies as st

from lstmbook import CELLS, backprop, lstm, run
from lstmbook.running import engine, in_numpy, vjp
from lstmbook.running.program import program_of


@pytest.fixture(autouse=True)
def _numpy_alone(monkeypatch):
    """Whether Numba is installed or not; the tests of the compiled loops ask for them."""
    monkeypatch.setattr(engine, "_compiled", lambda: None)


@pytest.fixture
def compiled(monkeypatch, numba):
    module = importlib.import_module("lstmbook.running.compiled")
    monkeypatch.setattr(engine, "_compiled", lambda: module)
    return module


each_cell = pytest.mark.parametrize("name", CELLS)


def cotangents(rng, hs, state):
    d_hs = rng.normal(size=hs.shape).astype(hs.dtype)
    return d_hs, type(state)(*(rng.normal(size=a.shape).astype(hs.dtype) for a in state))


def results(cell, params, xs, state, **options):
    """Outputs, states and gradients."""
    hs, final = run(cell, params, xs, state, **options)
    d_hs, d_final = cotangents(np.random.default_rng(1), hs, final)
    d_params, d_xs, d_state = backprop(cell, params, xs, d_hs, d_final, state=state, **options)
    return [hs, *final, *d_params, d_xs, *d_state]


def both(cell, *arguments, **options):
    """The results of what follows from the page, and those step by step."""
    return [results(way, *arguments, **options) for way in (cell, by_steps(cell))]


def assert_same(cell, params, xs, state, atol=1e-12, **options):
    for a, b in zip(*both(cell, params, xs, state, **options), strict=True):
        assert a.shape == b.shape
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a, b, rtol=0, atol=atol)


def test_every_cell_follows_from_its_page():
    for name in CELLS:
        cell, params, *_ = case(name)
        assert program_of(cell, params) is not None
        assert program_of(by_steps(cell), params) is None


@each_cell
@each("lengths", [None, LENGTHS, [0] * BATCH, [1, 1, 3, 2]])
@each("columns", [1, 2 * BATCH + 1, 256])
def test_blocks_of_any_size(name, lengths, columns, monkeypatch):
    """One step at a time, two with a rest, and all at once."""
    monkeypatch.setattr(in_numpy, "COLUMNS", columns)
    assert_same(*case(name), lengths=lengths)


@settings(deadline=None, max_examples=60)
@given(
    name=st.sampled_from(list(CELLS)),
    sizes=st.tuples(*[st.integers(0, 4)] * 2, *[st.integers(1, 5)] * 2),
    columns=st.integers(1, 12),
    time_major=st.booleans(),
    data=st.data(),
)
def test_any_shape(name, sizes, columns, time_major, data):
    batch, time, input_size, hidden = sizes
    cell, params, xs, state = case(
        name, batch=batch, time=time, input_size=input_size, hidden=hidden
    )
    lengths = data.draw(st.lists(st.integers(0, time), min_size=batch, max_size=batch))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(in_numpy, "COLUMNS", columns)
        xs = xs.swapaxes(0, 1) if time_major else xs
        assert_same(cell, params, xs, state, lengths=lengths, time_major=time_major)


@each_cell
@each(("dtype", "atol"), [("float32", 1e-5), ("float64", 1e-12)])
def test_wide_and_long(name, dtype, atol):
    """Many blocks, and sums that threads may share out."""
    sizes = {"batch": 33, "time": 40, "input_size": 70, "hidden": 65}
    cell, params, xs, state = case(name, dtype=dtype, **sizes)
    rng = np.random.default_rng(2)
    lengths = rng.integers(0, 41, 33)
    slow_hs, slow_final = run(by_steps(cell), params, xs, state, lengths=lengths)
    hs, final = run(cell, params, xs, state, lengths=lengths)
    np.testing.assert_allclose(hs, slow_hs, rtol=0, atol=atol)
    np.testing.assert_allclose(final, slow_final, rtol=0, atol=atol)
    # Gradients are sums over 1,320 steps: relative to their size.
    for a, b in zip(*both(cell, params, xs, state, lengths=lengths), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=atol * max(1, np.abs(b).max()))


@each_cell
def test_threads_do_not_matter(name, threadpoolctl):
    limits = threadpoolctl.threadpool_limits
    sizes = {"batch": 32, "time": 12, "input_size": 64, "hidden": 64}
    cell, params, xs, state = case(name, **sizes)
    each = []
    for threads in (1, 2):
        with limits(threads):
            each.append(results(cell, params, xs, state))
    for a, b in zip(*each, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-12 * max(1, np.abs(b).max()))


@each_cell
def test_arrays_that_lie_otherwise_or_are_locked(name):
    """Fortran order, every second row of something, read-only: the same, and unchanged."""
    cell, params, xs, state = case(name)

    def lie(array):
        room = np.full([2 * n for n in array.shape], np.nan, order="F")
        view = room[tuple(slice(None, None, 2) for _ in array.shape)]
        view[...] = array
        view.flags.writeable = False
        return view

    expected = results(cell, params, xs, state, lengths=LENGTHS)
    params, state = (type(arrays)(*map(lie, arrays)) for arrays in (params, state))
    got = results(cell, params, lie(xs), state, lengths=LENGTHS)
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-14)


@each_cell
def test_complex_numbers_pass(name):
    """So that a complex step can be taken through a whole run."""
    cell, params, xs, state = case(name)
    params = params._replace(W_x=params.W_x + 1e-2j)
    hs, final = run(cell, params, xs, state)
    hs_slow, final_slow = run(by_steps(cell), params, xs, state)
    assert hs.dtype == complex
    np.testing.assert_allclose(hs, hs_slow, rtol=0, atol=1e-12)
    np.testing.assert_allclose(final, final_slow, rtol=0, atol=1e-12)


@each_cell
def test_what_comes_out_is_free(name):
    """Results are writable, own their memory and are not the arguments."""
    cell, params, xs, state = case(name)
    hs, final = run(cell, params, xs, state, lengths=[0] * BATCH)
    for part, given_part in zip(final, state, strict=True):
        part += 1
        assert not np.shares_memory(part, given_part)
    hs += 1
    assert hs.flags.c_contiguous


def assert_compiled_same(cell, params, xs, state, **options):
    """Outputs, states and gradients are those of the reference in float64, to rounding."""
    got = results(cell, params, xs, state, **options)
    double = params._replace(W_x=params.W_x.astype(float))
    for a, b in zip(got, results(by_steps(cell), double, xs, state, **options), strict=True):
        assert a.shape == b.shape
        assert a.dtype == xs.dtype
        small = xs.shape[0] * xs.shape[1] <= 100 and params.b.shape[-1] <= 32
        atol = 1e-12 if xs.dtype == float else 1e-6 if small else 1e-5
        np.testing.assert_allclose(a, b, rtol=0, atol=atol * max(1, np.abs(b).max(initial=0)))


@pytest.fixture
def calls(compiled, monkeypatch):
    """The names of the loops that are called, and their arguments."""
    made = []

    def spy(loop):
        return lambda *args: made.append((loop.__name__, args)) or loop(*args)

    real = compiled.Loops

    def watched(*arguments):
        loops = real(*arguments)
        loops.forward, loops.back = spy(loops.forward), spy(loops.back)
        return loops

    monkeypatch.setattr(compiled, "Loops", watched)
    forget_loops()
    yield made
    forget_loops()


def forget_loops():
    """The loops of the cells are made anew when they are next asked for."""
    for name in CELLS:
        cell, params, *_ = case(name)
        vars(engine.ways_of(cell, params)).pop("loops", None)


@each_cell
@each("dtype", ["float32", "float64"])
@each(("threads", "batch"), [(1, 4), (2, 4), (9, 5)])
def test_compiled_loops(name, dtype, threads, batch, compiled, calls, monkeypatch):
    """The same numbers, lengths and states; nothing is written into the arguments."""
    monkeypatch.setattr(compiled, "WORTH_A_THREAD", 1)
    monkeypatch.setattr(compiled, "threads", lambda: threads)
    cell, params, xs, state = case(name, dtype=dtype, batch=batch)
    before = [array.copy() for array in (*params, xs, *state)]
    for lengths in (None, [*LENGTHS, 3][:batch], [0] * batch):
        for major in (False, True):
            xs_now = xs.swapaxes(0, 1) if major else xs
            calls.clear()
            assert_compiled_same(cell, params, xs_now, state, lengths=lengths, time_major=major)
            names = [name for name, _ in calls]
            parts = min(threads, 3)  # each thread has two sequences, but the last
            assert len(names) == 3 * parts  # in `run`, and in `backprop` there and back
            assert sum(name.endswith("_back") for name in names) == parts
    for array, copy in zip((*params, xs, *state), before, strict=True):
        np.testing.assert_array_equal(array, copy)


def test_where_compiled_loops_are_used(calls):
    """In float32 and float64, never for long doubles."""
    for dtype, used in {"f4": True, "f8": True, "g": False}.items():
        cell, params, xs, state = case("lstm", dtype=dtype)
        calls.clear()
        hs, _ = run(cell, params, xs, state)
        backprop(cell, params, xs, hs)
        assert [name for name, _ in calls] == ["lstm_forward", "lstm_forward", "lstm_back"] * used


def test_threads_are_for_long_runs(compiled, calls, monkeypatch):
    """And what fails in one of them fails here."""
    cell, params, xs, state = case("lstm")
    monkeypatch.setattr(compiled, "threads", lambda: 2)
    work = 4 * HIDDEN**2 * BATCH * TIME
    for worth, expected in ((work // 2, 2), (work // 2 + 1, 1)):
        calls.clear()
        monkeypatch.setattr(compiled, "WORTH_A_THREAD", worth)
        run(cell, params, xs, state)
        assert len(calls) == expected
    monkeypatch.setattr(compiled, "WORTH_A_THREAD", 1)
    loops = engine.ways_of(cell, params).loops

    def failing(loop):
        def fails(weights, xs, *rest):
            if xs[1]:  # the row of the second part's first sequence
                raise MemoryError("no room")
            return loop(weights, xs, *rest)

        return fails

    monkeypatch.setattr(loops, "back", failing(loops.back))
    hs, _, back = vjp(cell, params, xs, state)
    with pytest.raises(MemoryError, match="no room"):
        back(hs)
    monkeypatch.setattr(loops, "forward", failing(loops.forward))
    with pytest.raises(MemoryError, match="no room"):
        run(cell, params, xs, state)


def test_numba_says_how_many_threads(compiled, monkeypatch):
    monkeypatch.setattr(compiled.config, "NUMBA_NUM_THREADS", 7)
    assert compiled.threads() == 7


@each("batch", [1, 3, 4, 5, 8, 11, 15])
@each("sizes", [(1, 1), (3, 8), (6, 33), (40, 17), (7, 64)])
@each("dtype", ["float32", "float64"])
@each_cell
def test_compiled_loops_at_other_sizes(name, batch, sizes, dtype, compiled):
    """What is left over when a product is cut into tiles, and when time is into eights forward or
    into blocks backward.
    """
    time = {3: 19, 15: 2 * compiled.loops.BLOCK // 15 + 3}.get(batch, TIME)
    options = {"batch": batch, "time": time, "input_size": sizes[0], "hidden": sizes[1]}
    cell, params, xs, state = case(name, dtype=dtype, **options)
    lengths = np.random.default_rng(0).integers(0, time + 1, batch)
    assert_compiled_same(cell, params, xs, state, lengths=lengths)


def lies_otherwise(array, how):
    """The same numbers, otherwise in memory."""
    if how == "every second":
        return np.repeat(array, 2, axis=2)[:, :, ::2]
    if how == "reversed":
        return np.ascontiguousarray(array[::-1, ::-1, ::-1])[::-1, ::-1, ::-1]
    if how == "features first":
        return np.moveaxis(np.ascontiguousarray(np.moveaxis(array, 2, 0)), 0, 2)
    array = array.copy()
    array.flags.writeable = False
    return array


@each_cell
@each("how", ["every second", "reversed", "features first", "read-only"])
@each("time_major", [False, True])
def test_compiled_loops_take_any_layout(name, how, time_major, compiled):
    cell, params, xs, state = case(name, dtype=np.float32)
    d_hs = np.random.default_rng(1).normal(size=(BATCH, TIME, HIDDEN)).astype(np.float32)
    hs, _ = run(by_steps(cell), params, xs, state, lengths=LENGTHS)
    expected = backprop(by_steps(cell), params, xs, d_hs, state=state, lengths=LENGTHS)
    if time_major:
        xs, d_hs, hs = (a.swapaxes(0, 1) for a in (xs, d_hs, hs))
        expected = expected[0], expected[1].swapaxes(0, 1), expected[2]
    xs, d_hs = lies_otherwise(xs, how), lies_otherwise(d_hs, how)
    options = {"state": state, "lengths": LENGTHS, "time_major": time_major}
    np.testing.assert_allclose(run(cell, params, xs, **options)[0], hs, rtol=0, atol=1e-6)
    d_params, d_xs, d_state = backprop(cell, params, xs, d_hs, **options)
    assert d_xs.flags.writeable
    for a, b in zip(
        (*d_params, d_xs, *d_state), (*expected[0], expected[1], *expected[2]), strict=True
    ):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-5)


@each_cell
def test_the_compiler_runs_once_for_a_dtype(name, compiled):
    """Not again for arrays that are locked or lie otherwise, nor for lengths of another kind, nor
    where the gradient at the inputs is not wanted.
    """
    cell, params, xs, state = case(name, dtype=np.float32)
    for order in "CF":
        copies = [type(a)(*(np.array(x, order=order) for x in a)) for a in (params, state)]
        for array in (locked := np.array(xs, order=order)), *copies[0], *copies[1]:
            array.flags.writeable = False
        for time_major in (False, True):
            lengths = np.array(LENGTHS, np.int32 if time_major else np.uint8)
            lengths.flags.writeable = False
            locked_now = locked.swapaxes(0, 1) if time_major else locked
            options = {"lengths": lengths, "time_major": time_major}
            hs, final = run(cell, copies[0], locked_now, copies[1], **options)
            *_, back = vjp(cell, copies[0], locked_now, copies[1], **options)
            back(hs, final, inputs=time_major)
            hs.flags.writeable = False
            back(hs, final)
    loops = engine.ways_of(cell, params).loops
    for function in (loops.forward, loops.back, compiled.loops._packed):
        dtypes = [str(signature).count("float32") > 0 for signature in function.signatures]
        assert len(dtypes) == len(set(dtypes))


@each_cell
def test_the_way_back_can_be_taken_again(name, compiled):
    """With the same result; and what it gave is free."""
    cell, params, xs, state = case(name)
    hs, final, back = vjp(cell, params, xs, state, lengths=LENGTHS)
    first = back(hs, final)
    copies = [array.copy() for array in (*first[0], first[1], *first[2])]
    for array in (*first[0], first[1], *first[2]):
        array += 1  # it is writable, and nobody else's
    again = back(hs, final)
    for a, b in zip((*again[0], again[1], *again[2]), copies, strict=True):
        np.testing.assert_array_equal(a, b)
    d_params, d_xs, d_state = back(hs, final, inputs=False)
    assert d_xs is None
    np.testing.assert_array_equal(d_params.W_h, again[0].W_h)
    np.testing.assert_array_equal(d_state, again[2])


@each_cell
def test_compiled_loops_do_not_see_what_is_past_a_length(name, compiled):
    cell, params, xs, state = case(name, dtype=np.float32)
    d_hs = np.ones((BATCH, TIME, HIDDEN), np.float32)

    def all_results():
        hs, final = run(cell, params, xs, state, lengths=LENGTHS)
        d_params, d_xs, d_state = backprop(cell, params, xs, d_hs, state=state, lengths=LENGTHS)
        return [hs, *final, *d_params, d_xs, *d_state]

    expected = all_results()
    for sequence, d, length in zip(xs, d_hs, LENGTHS, strict=True):
        sequence[length:] = d[length:] = np.nan
    for a, b in zip(all_results(), expected, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("numba", [False, True])
def test_no_weight_reaches_past_a_length(numba, request):
    """Zero times NaN is not zero: what has ended is left out of the products."""
    if numba:
        request.getfixturevalue("compiled")
    past = np.arange(TIME) >= np.array(LENGTHS)[:, None]
    never = LENGTHS.index(0)
    for name, dtype in itertools.product(CELLS, (np.float32, np.float64)):
        for field in case(name).params._fields:
            cell, params, xs, state = case(name, dtype=dtype)
            getattr(params, field)[...] = np.nan
            hs, final = run(cell, params, xs, state, lengths=LENGTHS)
            d_hs, d_final = cotangents(np.random.default_rng(1), hs, final)
            _, d_xs, d_state = backprop(
                cell, params, xs, d_hs, d_final, state=state, lengths=LENGTHS
            )
            message = f"{name}, NaN in {field}"
            np.testing.assert_array_equal(hs[past], 0, message)
            np.testing.assert_array_equal(d_xs[past], 0, message)
            for pairs in (zip(final, state, strict=True), zip(d_state, d_final, strict=True)):
                for part, given_part in pairs:
                    np.testing.assert_array_equal(part[never], given_part[never], message)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_compiled_tanh(dtype, compiled):
    """To four units in the last place, never beyond 1, and a NaN stays one."""
    x = np.concatenate([np.linspace(-25, 25, 50001), 10.0 ** np.arange(-30, 0)]).astype(dtype)
    x = np.concatenate([x, np.array([np.inf, -np.inf, np.nan], dtype)]).reshape(-1, 1)
    params = CELLS["rnn"].Params(*(np.ones(s, dtype) for s in [(1, 1, 1), (1, 1, 1), (1, 1)]))
    params.b[:] = params.W_h[:] = 0
    hs = run("rnn", params, x[:, None])[0][:, 0]
    exact = np.tanh(x.astype(np.longdouble))
    np.testing.assert_allclose(hs, exact, rtol=4 * np.finfo(dtype).epsneg, atol=0)
    assert np.nanmax(np.abs(hs)) == 1
    assert np.isnan(hs[-1])


@pytest.fixture
def numba_again(monkeypatch):
    """Numba is looked for anew, here and afterwards; it has not failed yet."""
    monkeypatch.undo()  # what the fixture above has put there
    for name in ("compiled", "loops", "cells_compiled"):
        monkeypatch.delitem(sys.modules, f"lstmbook.running.{name}", raising=False)
        monkeypatch.delattr(f"lstmbook.running.{name}", raising=False)
    monkeypatch.setenv("LSTMBOOK_NUMBA", "1")
    monkeypatch.setattr(engine, "_failures", [])
    engine._compiled.cache_clear()
    forget_loops()
    yield monkeypatch
    engine._compiled.cache_clear()
    forget_loops()


@pytest.mark.numba
def test_numba_is_used_where_it_is(numba_again):
    assert engine._compiled().__name__ == "lstmbook.running.compiled"


def test_numba_can_be_forbidden(numba_again):
    numba_again.setenv("LSTMBOOK_NUMBA", "0")
    assert engine._compiled() is None


def test_numba_can_be_missing(numba_again):
    """Nothing is said: it is an extra."""
    numba_again.setitem(sys.modules, "numba", None)
    assert engine._compiled() is None
    run(*case("lstm"))


def assert_said_once(warned, *parts):
    """One warning with these parts, and how to switch the compiled loops off."""
    (warning,) = warned
    assert warning.category is RuntimeWarning
    message = str(warning.message)
    for part in ("compiled loops of lstmbook failed in Numba", *parts, "LSTMBOOK_NUMBA=0"):
        assert part in message, message


def assert_numpy_computes(warned, *parts):
    """Twice forward and back, the results are right, and one warning has been given."""
    cell, params, xs, state = case("lstm")
    for _ in range(2):
        assert_same(cell, params, xs, state, lengths=LENGTHS)
    assert_said_once(warned, *parts)


@pytest.mark.parametrize("error", [ImportError("Numba needs NumPy 2.2 or less"), RuntimeError()])
def test_numba_can_fail_at_its_import(error, numba_again, numba, recwarn):
    """As it does for a NumPy that it does not know, or where it cannot keep its work."""

    def njit(**options):
        raise error

    numba_again.setattr(numba, "njit", njit)
    assert_numpy_computes(recwarn, f"({type(error).__name__}", str(error))


def test_numba_can_fail_in_the_compiler(numba_again, numba, recwarn, tmp_path):
    numba_again.setattr(numba.config, "CACHE_DIR", str(tmp_path))  # nothing is compiled already
    loops = importlib.import_module("lstmbook.running.loops")
    numba_again.setattr(loops, "cgutils", None)  # the helper with which a product is compiled
    assert_numpy_computes(recwarn, "'NoneType' object has no attribute")


def fails_when_done(loop, calls):
    """A loop that writes NaN over its results and fails; the first of several threads does not."""

    def fails(weights, xs, lengths, *rest):
        end = loop(weights, xs, lengths, *rest)
        first_row, sequences = xs[1], len(lengths)
        if first_row == 0 and sequences < 6:
            return end
        results, *_ = rest[0 if len(rest) == 3 else 1]  # hs, or d_xs
        results[...] = np.nan
        calls.append(loop)
        raise SystemError("a loop that fails")

    return fails


@pytest.mark.parametrize("stage", ["forward", "back"])
@pytest.mark.parametrize("threads", [1, 3])
def test_a_compiled_loop_can_fail(stage, threads, compiled, monkeypatch, recwarn):
    """At its end, when results have been written. All is computed again by NumPy."""
    monkeypatch.setattr(compiled, "WORTH_A_THREAD", 1)
    monkeypatch.setattr(compiled, "threads", lambda: threads)
    monkeypatch.setattr(engine, "_failures", [])
    cell, params, xs, state = case("lstm", batch=6)
    lengths, calls = [*LENGTHS, 3, 4], []
    loops = engine.ways_of(cell, params).loops
    monkeypatch.setattr(loops, stage, fails_when_done(getattr(loops, stage), calls))
    for array in (*params, xs, *state):
        array.setflags(write=False)
    expected = results(by_steps(cell), params, xs, state, lengths=lengths)
    hs, final, way_back = vjp(cell, params, xs, state, lengths=lengths)
    cotangent = cotangents(np.random.default_rng(1), hs, final)
    for _ in range(2):
        d_params, d_xs, d_state = way_back(*cotangent)
        got = [hs, *final, *d_params, d_xs, *d_state]
        for a, b in zip(got, expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-12)
    assert_same(cell, params, xs, state, lengths=lengths)
    assert len(calls) == max(1, threads - 1), "a loop that has failed is not tried again"
    assert_said_once(recwarn, "SystemError: a loop that fails")


def test_a_compiled_loop_can_fail_in_many_threads_of_the_caller(compiled, monkeypatch, recwarn):
    """Each has its right results; one warning is given."""
    monkeypatch.setattr(engine, "_failures", [])
    cell, params, xs, state = case("gru", batch=6)
    loops = engine.ways_of(cell, params).loops
    forward, calls, ready = loops.forward, [], threading.Barrier(4)

    def fails(*arguments):
        ready.wait(timeout=60)
        fails_when_done(forward, calls)(*arguments)

    monkeypatch.setattr(loops, "forward", fails)
    with ThreadPoolExecutor(4) as pool:
        several = list(pool.map(lambda _: run(cell, params, xs, state)[0], range(4)))
    expected, _ = run(by_steps(cell), params, xs, state)
    for hs in several:
        np.testing.assert_allclose(hs, expected, rtol=0, atol=1e-12)
    assert len(calls) == 4
    assert_said_once(recwarn, "SystemError: a loop that fails")


@pytest.mark.parametrize(
    "error", [MemoryError("no room"), KeyboardInterrupt(), FloatingPointError(), TimeoutError()]
)
def test_what_is_the_callers_is_raised(error, compiled, monkeypatch):
    """And the compiled loops stay."""
    monkeypatch.setattr(engine, "_failures", [])
    cell, params, xs, state = case("lstm")
    hs, _, back = vjp(cell, params, xs, state)

    def fails(*arguments):
        raise error

    loops = engine.ways_of(cell, params).loops
    monkeypatch.setattr(loops, "forward", fails)
    monkeypatch.setattr(loops, "back", fails)
    with pytest.raises(type(error)):
        back(hs)
    for function in (run, vjp):
        with pytest.raises(type(error)):
            function(cell, params, xs, state)
    assert not engine._failures


@pytest.fixture
def quick(compiled, monkeypatch):
    """How often a small run took the short way."""
    calls, real = [], compiled.run_alone
    monkeypatch.setattr(compiled, "run_alone", lambda *a: calls.append(1) or real(*a))
    monkeypatch.setattr(engine, "_failures", [])
    return calls


@each_cell
def test_small_runs_take_a_short_way(name, quick):
    """Once arguments of their shapes have passed the checks; to the bit what the long way gives."""
    for dtype, batch, time_major in itertools.product(("f4", "f8"), (1, 3, 9), (False, True)):
        cell, params, xs, _ = case(name, dtype=dtype, batch=batch, hidden=17)
        xs = np.ascontiguousarray(xs.swapaxes(0, 1)) if time_major else xs
        zero = cell.zero_state(params, batch)
        long = run(cell, params, xs, zero, time_major=time_major)
        run(cell, params, xs, time_major=time_major)
        quick.clear()
        before = [array.copy() for array in (*params, xs)]
        hs, final = run(cell, params, xs, time_major=time_major)
        assert quick == [1]
        np.testing.assert_array_equal(hs, long[0])
        np.testing.assert_array_equal(final, long[1])
        assert (type(final), hs.dtype) == (cell.State, dtype)
        for array, copy in zip((*params, xs), before, strict=True):
            np.testing.assert_array_equal(array, copy)


def test_what_does_not_fit_takes_the_long_way(quick, monkeypatch):
    """And its errors are the same as ever."""
    cell, params, xs, state = case("lstm", dtype=np.float32)
    run(cell, params, xs)
    quick.clear()
    locked = xs.copy()
    locked.flags.writeable = False
    double = params._replace(b=params.b.astype(float))
    for options in (
        {"xs": locked}, {"xs": xs[:, ::-1]}, {"xs": xs.astype(float)}, {"xs": xs.tolist()},
        {"xs": xs[:0]}, {"xs": xs[:, :0]}, {"params": double}, {"state": state},
        {"lengths": LENGTHS},
    ):  # fmt: skip
        arguments = {"params": params, "xs": xs} | options
        hs, _ = run(cell, **arguments)
        expected, _ = run(by_steps(cell), **arguments)
        np.testing.assert_allclose(hs, expected, rtol=0, atol=1e-6)
    assert quick == []
    for wrong, message in (
        ({"xs": xs[..., :2]}, "xs has shape"),
        ({"params": tuple(params)}, "Par"),
    ):
        with pytest.raises((TypeError, ValueError), match=message):
            run(cell, **{"params": params, "xs": xs} | wrong)
    monkeypatch.setattr(engine, "SMALL", 10)
    run(cell, params, xs)
    monkeypatch.setattr(engine, "SMALL", 2**24)
    assert quick == []
    with monkeypatch.context() as patch:
        patch.setattr(lstm, "gates", lambda *_: (np.float64(0.0),) * 4)  # a page that has changed
        assert not run(cell, params, xs)[0].any()
    assert quick == []
    run(cell, params, xs)
    run(cell, params, xs)
    assert quick == [1]


@pytest.mark.parametrize("numba", [False, True])
def test_memory_does_not_grow_with_time(numba, request):
    """Beside its output, `run` needs one block."""
    if numba:
        request.getfixturevalue("compiled")
    rng, peaks = np.random.default_rng(0), []
    params = params_of(lstm, rng, INPUT, 64, np.float32)
    for time in (200, 2000):
        xs = rng.normal(size=(8, time, INPUT)).astype(np.float32)
        run(lstm, params, xs[:, :1])
        tracemalloc.start()
        try:
            hs, _ = run(lstm, params, xs)
            peaks.append(tracemalloc.get_traced_memory()[1] - hs.nbytes)
        finally:
            tracemalloc.stop()
    block = 4 * 64 * in_numpy.COLUMNS * 4  # bytes of (4 * hidden, steps * batch)
    assert max(peaks) < 3 * block
    assert peaks[1] < peaks[0] + block / 10  # 1,800 steps more


def test_nothing_is_computed_past_the_longest(monkeypatch):
    cell, params, xs, state = case("lstm")
    calls = []
    real = in_numpy.inputs_of
    monkeypatch.setattr(in_numpy, "inputs_of", lambda *a: calls.append(a[2:]) or real(*a))
    run(cell, params, xs, state, lengths=[3, 0, 2, 1])
    assert calls == [(0, 3)]


def test_the_sizes_differ():
    assert len({BATCH, TIME, INPUT, HIDDEN}) == 4
