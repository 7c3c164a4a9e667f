"""Runs step by step, by the cell's own functions: what any cell can do.

All arguments are time first, checked and of one dtype.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..cells import Cell
from ..cells._activations import Array

__all__ = ["rows_of", "run", "vjp"]


def run(
    cell: Cell,
    params: Any,
    xs: Array,
    state: Any,
    lengths: Array,
    hs: Array | None,
    states: list[Any] | None = None,
) -> Any:
    """Write the outputs into ``hs``, which is zero, and return the final state.

    ``states`` is a list that gets the initial state and that after every step.
    """
    state = type(state)(*map(np.copy, state))  # what is returned or kept is not the caller's
    if states is not None:
        states.append(state)
    alive = (np.arange(len(xs))[:, None] < lengths)[..., None]  # (time, batch, 1)
    for t, on in enumerate(alive):
        h, new = cell.step(params, np.where(on, xs[t], 0), state)
        state = type(state)(
            *(np.where(on, part, old) for part, old in zip(new, state, strict=True))
        )
        if hs is not None:
            hs[t] = np.where(on, h, 0)
        if states is not None:
            states.append(state)
    return state


def vjp(
    cell: Cell, params: Any, xs: Array, state: Any, lengths: Array, hs: Array
) -> tuple[Any, Callable[[Array, Any, bool], tuple[Any, Array | None, Any]]]:
    """`run`, and the way back by the cell's ``step_vjp``."""
    states: list[Any] = []
    final = run(cell, params, xs, state, lengths, hs, states)

    def back(d_hs: Array, d_state: Any, inputs: bool) -> tuple[Any, Array | None, Any]:
        d_params = type(params)(*map(np.zeros_like, params))
        d_xs = np.zeros_like(xs)
        d_state = type(state)(*map(np.copy, d_state))  # to write into
        for t in reversed(range(len(xs))):
            on = t < lengths  # past its length a sequence keeps its d_state and adds nothing
            d_new = rows_of(d_state, on)
            d_new = d_new._replace(h=d_new.h + d_hs[t, on])
            old = rows_of(states[t], on)
            d_params_t, d_xs[t, on], d_old = cell.step_vjp(params, xs[t, on], old, d_new)
            for total, part in zip(d_params, d_params_t, strict=True):
                total += part
            for whole, part in zip(d_state, d_old, strict=True):
                whole[on] = part
        return d_params, d_xs if inputs else None, d_state

    return final, back


def rows_of(state: Any, rows: Array) -> Any:
    """The State of some sequences of the batch."""
    return type(state)(*(part[rows] for part in state))
