"""A cell over a sequence: `unroll`, `run`, `record` (every gate over time), `backprop` and `vjp`.

No cell is known here: whatever has ``step`` can be run. What a page does is recorded once, and
gradients and the faster ways to run it follow from that (`running.engine`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..cells import Cell, find, sizes
from ..cells._activations import Array
from . import by_steps, engine
from .arguments import cast, check_arguments, check_backprop, check_gradients

__all__ = ["backprop", "record", "run", "unroll", "vjp"]


def unroll(
    step: Callable[[Any, Any, Any], tuple[Array, Any]], params: Any, xs: Iterable[Any], state: Any
) -> tuple[Array, Any]:
    """``h_t, state_t = step(params, x_t, state_{t-1})`` for every ``x_t`` of ``xs``.

    The plain loop, time first, with no check. Any function will do as ``step``, your own included.

    Parameters
    ----------
    step : function
        ``step(params, x, state) -> (h, state)``, for example ``lstm.step``.
    params : anything
        Handed to ``step``.
    xs : (time, batch, input) array
        Or anything that yields one ``x`` at a time; at least one.
    state : anything
        The initial state.

    Returns
    -------
    hs : (time, batch, hidden) array
        The output of every step.
    state : anything
        The state after the last step.
    """
    hs = []
    for x in xs:
        h, state = step(params, x, state)
        hs.append(h)
    return np.stack(hs), state


def run(
    cell: Cell | str,
    params: Any,
    xs: ArrayLike,
    state: Any = None,
    *,
    lengths: ArrayLike | None = None,
    time_major: bool = False,
) -> tuple[Array, Any]:
    """Run a cell over a batch of sequences, as ``tf.nn.dynamic_rnn`` does.

    ``h_t, state_t = step(params, x_t, state_{t-1})`` for ``t < length``; past its length a
    sequence has outputs of exactly zero and keeps its state.

    Parameters
    ----------
    cell : module of `lstmbook.cells` or its name
    params : Params of the cell
    xs : (batch, time, input) array
        ``(time, batch, input)`` if ``time_major``. What stands past a length is never used.
    state : State, optional
        The initial state, ``(batch, hidden)`` each; zeros if not given. A plain tuple is taken in
        the order ``(h, c)``; a named one, such as TensorFlow's ``LSTMStateTuple(c, h)``, by name.
    lengths : (batch,) integers, optional
        The number of valid steps of each sequence, from 0 to time.
    time_major : bool
        Whether time is the first axis of ``xs`` and ``hs``.

    Returns
    -------
    hs : (batch, time, hidden) array
        ``(time, batch, hidden)`` if ``time_major``. The dtype is NumPy's common one of
        ``params``, ``xs`` and ``state``.
    state : State
        The state of each sequence after its last valid step.

    Raises
    ------
    TypeError, ValueError
        If something does not fit: what was got, what was expected, and the likely mend.

    Examples
    --------
    >>> import numpy as np
    >>> from lstmbook import lstm, run
    >>> rng = np.random.default_rng(0)
    >>> params = lstm.init(rng, input_size=4, hidden_size=3)
    >>> xs = rng.normal(size=(2, 5, 4)).astype(np.float32)
    >>> hs, state = run(lstm, params, xs, lengths=[5, 2])
    >>> hs.shape, state.c.shape
    ((2, 5, 3), (2, 3))
    """
    cell = find(cell)
    whole = state is None and lengths is None
    if whole and (quick := engine.quick_run(cell, params, xs, time_major)):
        return quick
    params, xs, state, lengths = check_arguments(cell, params, xs, state, lengths, time_major)
    if whole:
        engine.remember(cell, params, xs)
    hs = np.zeros((*xs.shape[:2], sizes(cell, params)[1]), xs.dtype)
    xs, out = _time_first(xs, time_major), _time_first(hs, time_major)
    return hs, engine.run(cell, params, xs, state, lengths, out)


def record(
    cell: Cell | str,
    params: Any,
    xs: ArrayLike,
    state: Any = None,
    *,
    lengths: ArrayLike | None = None,
    time_major: bool = False,
) -> dict[str, Array]:
    """Every gate and every state at every time step, to look at.

    Parameters are those of `run`.

    Returns
    -------
    dict
        One array for every letter of ``cell.GATES`` and for every state (``h``, and ``c`` where
        the cell has one), each ``(batch, time, hidden)``, or ``(time, batch, hidden)`` if
        ``time_major``. Past a length the gates are NaN, since none was computed, and the states
        stay as they were.
    """
    cell = find(cell)
    params, xs, state, lengths = check_arguments(cell, params, xs, state, lengths, time_major)
    xs = _time_first(xs, time_major)
    shape = (*xs.shape[:2], sizes(cell, params)[1])
    states: list[Any] = []
    by_steps.run(cell, params, xs, state, lengths, None, states)
    seen = {name: np.full(shape, np.nan, xs.dtype) for name in (*cell.GATES, *state._fields)}
    for t, (old, new) in enumerate(pairwise(states)):
        on = t < lengths
        gates = cell.gates(params, xs[t, on], by_steps.rows_of(old, on))
        for name, gate in zip(cell.GATES, gates, strict=True):
            seen[name][t, on] = gate
        for name, part in zip(new._fields, new, strict=True):
            seen[name][t] = part
    return {name: _time_first(array, time_major) for name, array in seen.items()}


def backprop(
    cell: Cell | str,
    params: Any,
    xs: ArrayLike,
    d_hs: ArrayLike,
    d_state: Any = None,
    *,
    state: Any = None,
    lengths: ArrayLike | None = None,
    time_major: bool = False,
) -> tuple[Any, Array, Any]:
    """Gradients through time of the loss ``sum(d_hs * hs) + sum(d_state * final state)``.

    ``hs`` and the final state are what `run` returns. For any other loss, ``d_hs`` and ``d_state``
    are its gradients at these two, and the result is its gradients at params, xs and state.

    Parameters
    ----------
    cell, params, xs, state, lengths, time_major : as in `run`
    d_hs : (batch, time, hidden) array
        ``(time, batch, hidden)`` if ``time_major``. The gradient of the loss at the outputs. What
        stands past a length is never used: those outputs are zeros whatever the weights are.
    d_state : State, optional
        The gradient of the loss at the final state; zeros if not given.

    Returns
    -------
    d_params : Params
        Summed over batch and time.
    d_xs : array shaped as ``xs``
        Exactly zero past the lengths.
    d_state : State
        The gradient at the initial state.

    Raises
    ------
    TypeError, ValueError
        If something does not fit: what was got, what was expected, and the likely mend.

    Notes
    -----
    The run forward keeps its ``time + 1`` states and the gates of every step. The dtype is NumPy's
    common one of all the arrays given. `vjp` is the same in two parts.
    Source: Werbos (1990). The signature of ``live.tf1.backprop`` is the same.

    Examples
    --------
    >>> import numpy as np
    >>> from lstmbook import backprop, lstm, run
    >>> rng = np.random.default_rng(0)
    >>> params = lstm.init(rng, input_size=4, hidden_size=3)
    >>> xs = rng.normal(size=(2, 5, 4)).astype(np.float32)
    >>> hs, _ = run(lstm, params, xs)
    >>> d_params, d_xs, d_state = backprop(lstm, params, xs, d_hs=hs)  # of sum(hs**2) / 2
    >>> d_params.W_x.shape, d_xs.shape, d_state.c.shape
    ((4, 4, 3), (2, 5, 4), (2, 3))
    """
    cell = find(cell)
    params, xs, d_hs, d_state, state, lengths = check_backprop(
        cell, params, xs, d_hs, d_state, state, lengths, time_major
    )
    _check_differentiable(cell, params)
    _, _, back = _vjp(cell, params, xs, state, lengths, time_major)
    return back(d_hs, d_state, True)


def vjp(
    cell: Cell | str,
    params: Any,
    xs: ArrayLike,
    state: Any = None,
    *,
    lengths: ArrayLike | None = None,
    time_major: bool = False,
) -> tuple[Array, Any, Callable[..., tuple[Any, Any, Any]]]:
    """`run`, and a way back: for a loss that needs the outputs, without running twice.

    Parameters are those of `run`.

    Returns
    -------
    hs, state : as `run` returns them
    back : function
        ``back(d_hs, d_state=None, *, inputs=True) -> (d_params, d_xs, d_state)``, as `backprop`,
        in the dtype of ``hs``. It may be called many times. With ``inputs=False`` it saves the work
        for ``d_xs``, which is None then. It reads ``params`` and ``xs`` again, so these arrays must
        not have been changed in place meanwhile; all others may be.

    Raises
    ------
    TypeError, ValueError
        If something does not fit, here or in ``back``: what was got, what was expected, and the
        likely mend.

    Examples
    --------
    >>> import numpy as np
    >>> from lstmbook import gru
    >>> from lstmbook.running import vjp
    >>> rng = np.random.default_rng(0)
    >>> params = gru.init(rng, input_size=4, hidden_size=3)
    >>> hs, state, back = vjp(gru, params, rng.normal(size=(2, 5, 4)))
    >>> d_params, d_xs, d_state = back(d_hs=2 * (hs - 0.5))  # of sum((hs - 0.5)**2)
    """
    cell = find(cell)
    params, xs, state, lengths = check_arguments(cell, params, xs, state, lengths, time_major)
    _check_differentiable(cell, params)
    hs, final, back_unchecked = _vjp(cell, params, xs, state, lengths, time_major)
    dtype = hs.dtype

    def back(
        d_hs: ArrayLike, d_state: Any = None, *, inputs: bool = True
    ) -> tuple[Any, Array | None, Any]:
        d_hs, d_state = check_gradients(cell, params, xs, d_hs, d_state, time_major)
        parts = {f"d_state.{name}": part for name, part in d_state._asdict().items()}
        for what, array in {"d_hs": d_hs, **parts}.items():
            if not np.can_cast(array.dtype, dtype, "same_kind"):
                raise TypeError(f"{what} is complex, but the run was {dtype}; expected floats")
        return back_unchecked(d_hs.astype(dtype, copy=False), cast(d_state, dtype), inputs)

    return hs, final, back


def _check_differentiable(cell: Cell, params: Any) -> None:
    if not engine.can_go_back(cell, params):
        raise TypeError(
            f"gradients need a cell whose step is made of products, sums, tanh and the like "
            f"(`lstmbook.running.program`), or one that has step_vjp; {cell!r} is neither"
        )


def _vjp(
    cell: Cell, params: Any, xs: Array, state: Any, lengths: Array, time_major: bool
) -> tuple[Array, Any, Callable[[Array, Any, bool], tuple[Any, Any, Any]]]:
    """`vjp` with arguments that were checked and are of one dtype."""
    hs = np.zeros((*xs.shape[:2], sizes(cell, params)[1]), xs.dtype)
    xs, out = _time_first(xs, time_major), _time_first(hs, time_major)
    final, back_time_first = engine.vjp(cell, params, xs, state, lengths, out)

    def back(d_hs: Array, d_state: Any, inputs: bool) -> tuple[Any, Array | None, Any]:
        d_hs = _time_first(d_hs, time_major)
        d_params, d_xs, d_state = back_time_first(d_hs, d_state, inputs)
        return d_params, None if d_xs is None else _time_first(d_xs, time_major), d_state

    return hs, final, back


def _time_first(array: Array, time_major: bool) -> Array:
    """There and back: the two first axes swapped, unless time is the first already."""
    return array if time_major else array.swapaxes(0, 1)
