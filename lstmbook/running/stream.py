"""A cell that gets one step at a time and keeps its state: for sound, sensors and other streams."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..cells import Cell, check_params, find, sizes
from ..cells._activations import Array
from . import engine, in_numpy
from .arguments import cast, check_state

__all__ = ["Stream", "stream"]


def stream(cell: Cell | str, params: Any, batch: int = 1) -> Stream:
    """A cell ready for one step a call: ``h_t, state_t = step(params, x_t, state_{t-1})``.

    The weights are arranged once, so a call is cheaper than `run` with one step; its numbers are
    those of `run`.

    Parameters
    ----------
    cell : module of `lstmbook.cells` or its name
    params : Params of the cell
        They are copied: a later change of the arrays does not reach the stream.
    batch : int
        The number of sequences that run side by side, at least 1.

    Returns
    -------
    Stream
        ``h = stream(x)`` with ``x (batch, input)`` gives ``h (batch, hidden)``, in the dtype of
        params; ``stream.state`` reads and sets the state; ``stream.reset()`` makes it zeros.

    Raises
    ------
    TypeError, ValueError
        If something does not fit, here or in a call.

    Examples
    --------
    >>> import numpy as np
    >>> import lstmbook
    >>> rng = np.random.default_rng(0)
    >>> params = lstmbook.lstm.init(rng, input_size=4, hidden_size=3)
    >>> xs = rng.normal(size=(1, 6, 4)).astype(np.float32)
    >>> stream = lstmbook.stream("lstm", params)
    >>> hs = [stream(xs[:, t]) for t in range(6)]
    >>> bool(np.abs(np.stack(hs, axis=1) - lstmbook.run("lstm", params, xs)[0]).max() < 1e-6)
    True
    """
    return Stream(find(cell), params, batch)


class Stream:
    """See `stream`."""

    def __init__(self, cell: Cell, params: Any, batch: int) -> None:
        if not isinstance(batch, int | np.integer) or batch < 1:
            raise ValueError(f"batch is {batch!r}; expected a whole number of at least 1")
        params = check_params(cell, params)
        self._cell, self._batch = cell, int(batch)
        self._params = type(params)(*(np.array(a) for a in cast(params, np.result_type(*params))))
        self._x_size, _ = sizes(cell, params)
        self._take = _way(cell, self._params, self._batch, self._x_size)
        self._shape = (self._batch, self._x_size)
        self._dtype = self._params[0].dtype

    def __call__(self, x: ArrayLike) -> Array:
        """The output of one more step."""
        x = np.asarray(x)
        if x.shape != self._shape or x.dtype.kind != "f":
            self._check(x)
        h: Array = self._take(x)
        return h

    def _check(self, x: Array) -> None:
        if x.dtype.kind not in "fc":
            raise TypeError(f"x has dtype {x.dtype}; expected floats, such as {self._dtype}")
        if x.dtype.kind == "c" and self._dtype.kind != "c":
            raise TypeError(f"x is complex, but params are {self._dtype}; expected floats")
        if x.shape != self._shape and (self._x_size is not None or x.ndim != 2):
            mend = ". One step of one sequence? x[None] adds the batch" if x.ndim == 1 else ""
            raise ValueError(
                f"x has shape {x.shape}; expected (batch, input) = {self._shape}{mend}"
            )

    @property
    def state(self) -> Any:
        """The State after the last step: a copy. What is set is copied too."""
        return self._cell.State(*(np.array(part) for part in self._take.state()))

    @state.setter
    def state(self, state: Any) -> None:
        state = check_state(self._cell, self._params, state, self._batch, 1)
        for part, new in zip(self._take.state(), state, strict=True):
            part[...] = new

    def reset(self) -> None:
        """The zero state."""
        self.state = None

    def __repr__(self) -> str:
        name = getattr(self._cell, "__name__", "cell").rpartition(".")[2]
        return f"stream({name}, batch={self._batch})"


def _way(cell: Cell, params: Any, batch: int, x_size: int | None) -> Any:
    """What makes a step: compiled, NumPy's list, or the cell's own ``step``."""
    ways = engine.ways_of(cell, params)
    state = cell.zero_state(params, batch)
    if ways is None or x_size is None:
        return _ByStep(cell, params, state)
    if compiled := engine.compiled_for(ways, params, np.empty((1, batch, x_size), params[0].dtype)):
        try:
            return _Compiled(compiled, ways.loops, params, state, x_size)
        except Exception as error:
            engine.give_up(error)
    return _InNumPy(ways.forward_list, params, state, x_size)


class _Compiled:
    def __init__(self, compiled: Any, loops: Any, params: Any, state: Any, x_size: int) -> None:
        room, sizes, (x, h, *states) = compiled.stream_room(loops, params, state, x_size)
        self._step, self._arguments, self._x, self._h = loops.step, (room, sizes), x, h
        self._states = [part[0] for part in states]
        self._step(room, sizes)  # compiled now, if it has not been
        for part in self._states:
            part[...] = 0

    def __call__(self, x: Array) -> Array:
        self._x[...] = x
        self._step(*self._arguments)
        h: Array = self._h.copy()
        return h

    def state(self) -> list[Array]:
        return self._states


class _InNumPy:
    def __init__(self, listed: Any, params: Any, state: Any, x_size: int) -> None:
        self._listed, weights = listed, in_numpy.Weights(listed.plan, params)
        self._step = in_numpy.Step(listed, weights, state, x_size)
        self._b = weights.biases(listed.half)
        self._inputs = [
            (weights.span(group), weights.stacked(group, listed.half))
            for group in listed.plan.inputs
        ]
        self._place, self._dtype = 0, weights.dtype

    def __call__(self, x: Array) -> Array:
        step, columns = self._step, x.T.astype(self._dtype)
        step.z[...] = self._b
        for rows, W in self._inputs:
            step.z[rows] += W @ columns
        if step.x is not None:
            step.x[...] = columns
        operations, output = step.bound[self._place]
        for function, one, two, out in operations:
            function(one, two, out)
        self._place = 1 - self._place
        return np.array(output.T, order="C")

    def state(self) -> list[Array]:
        return [part.T for part in self._step.state(self._place)]


class _ByStep:
    def __init__(self, cell: Cell, params: Any, state: Any) -> None:
        self._cell, self._params = cell, params
        self._parts = [np.array(part) for part in state]

    def __call__(self, x: Array) -> Array:
        state = self._cell.State(*self._parts)
        h, new = self._cell.step(self._params, x.astype(self._params[0].dtype), state)
        self._parts = [np.array(part) for part in new]
        return np.array(h)

    def state(self) -> list[Array]:
        return self._parts
