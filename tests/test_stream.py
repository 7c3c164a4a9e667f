"""A stream gives, one step a call, what `run` gives, and keeps nothing of the caller's."""

import numpy as np
import pytest
from cases import BATCH, HIDDEN, INPUT, TIME, by_steps, case

import lstmbook
from lstmbook import CELLS, run, stream
from lstmbook.running import engine

WAYS = ["NumPy", pytest.param("compiled", marks=pytest.mark.numba)]


@pytest.fixture(params=WAYS)
def way(request, monkeypatch):
    """NumPy's lists, or the compiled loops."""
    compiled = None
    if request.param == "compiled":
        compiled = __import__("lstmbook.running.compiled", fromlist=["run"])
    monkeypatch.setattr(engine, "_compiled", lambda: compiled)
    monkeypatch.setattr(engine, "_failures", [])
    return request.param


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("batch", [1, BATCH])
def test_a_stream_is_run(way, batch, dtype):
    """In compiled loops to the bit; in NumPy to rounding, since BLAS has other sums for one row."""
    for name in CELLS:
        cell, params, xs, state = case(name, dtype=dtype, batch=batch)
        hs, final = run(cell, params, xs, state)
        one = stream(cell, params, batch=batch)
        one.state = state
        ours = np.stack([one(xs[:, t]) for t in range(TIME)], axis=1)
        atol = {"compiled": 0, "NumPy": 1e-6 if dtype == np.float32 else 1e-15}[way]
        np.testing.assert_allclose(ours, hs, rtol=0, atol=atol, err_msg=name)
        assert ours.dtype == dtype
        assert type(one.state) is cell.State
        for part, theirs in zip(one.state, final, strict=True):
            np.testing.assert_allclose(part, theirs, rtol=0, atol=atol, err_msg=name)
        one.reset()
        assert not np.any(one.state)
        np.testing.assert_allclose(one(xs[:, 0]), run(cell, params, xs[:, :1])[0][:, 0], atol=1e-6)


def test_nothing_is_shared(way):
    """Outputs, states and weights are the stream's or the caller's, never both's."""
    cell, params, xs, state = case("lstm")
    one = stream(cell, params, batch=BATCH)
    one.state = state
    expected = [one(xs[:, t]).copy() for t in range(3)]
    one.state = state
    kept = []
    for t in range(3):
        kept.append(one(xs[:, t]))
        one.state.h[...] = 9  # a copy
        state.h[...] = 9
        params.W_h[...] = 9
    np.testing.assert_array_equal(kept, expected)
    kept[0][...] = 7
    np.testing.assert_array_equal(kept[1], expected[1])


def test_any_cell_streams():
    cell, params, xs, _ = case("gru")
    own = by_steps(cell)
    one, two = stream(own, params, batch=BATCH), stream("gru", params, batch=BATCH)
    for t in range(TIME):
        np.testing.assert_allclose(one(xs[:, t]), two(xs[:, t]), rtol=0, atol=1e-12)
    np.testing.assert_allclose(one.state, two.state, rtol=0, atol=1e-12)


def test_what_does_not_fit_is_told(way):
    _, params, xs, state = case("lstm")
    one = lstmbook.stream("lstm", params)
    assert repr(one) == "stream(lstm, batch=1)"
    for x, error, message in [
        (
            xs[0, 0],
            ValueError,
            r"x has shape \(3,\); expected \(batch, input\) = \(1, 3\).*x\[None\]",
        ),
        (xs[:, 0], ValueError, rf"x has shape \({BATCH}, {INPUT}\); expected"),
        (np.ones((1, 3), int), TypeError, "x has dtype int64; expected floats"),
        (np.ones((1, 3), complex), TypeError, "x is complex"),
    ]:
        with pytest.raises(error, match=message):
            one(x)
    before = one.state
    with pytest.raises(ValueError, match=rf"state.h has shape \({BATCH}, {HIDDEN}\); expected"):
        one.state = state
    np.testing.assert_array_equal(one.state, before)
    with pytest.raises(ValueError, match="batch is 0; expected a whole number of at least 1"):
        lstmbook.stream("lstm", params, batch=0)
    np.testing.assert_array_equal(one([[0.5, 1.0, -1.0]]), one.state.h)  # a list will do


@pytest.mark.numba
def test_a_stream_whose_loop_fails_is_numpys(monkeypatch, recwarn):
    compiled = __import__("lstmbook.running.compiled", fromlist=["run"])
    monkeypatch.setattr(engine, "_compiled", lambda: compiled)
    monkeypatch.setattr(engine, "_failures", [])

    def fails(*arguments):
        raise SystemError("a room that fails")

    monkeypatch.setattr(compiled, "stream_room", fails)
    cell, params, xs, _ = case("rnn")
    one = stream(cell, params, batch=BATCH)
    np.testing.assert_allclose(one(xs[:, 0]), run(cell, params, xs)[0][:, 0], rtol=0, atol=1e-12)
    assert "SystemError: a room that fails" in str(recwarn.list[0].message)
