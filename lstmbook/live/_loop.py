"""What the live modules share: the axis of time, and a framework's own step in our loop."""

from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from .. import running as sequence
from ..cells import Cell, find
from ..cells._activations import Array

__all__ = ["run_steps", "swap"]


def swap(array: Array, when: bool) -> Array:
    """Batch and time the other way round, if asked for."""
    return np.swapaxes(array, 0, 1) if when else array


def run_steps(
    cell: Cell | str,
    step: Callable[[Array, Any], Any],
    params: Any,
    xs: ArrayLike,
    state: Any,
    *,
    lengths: ArrayLike | None,
    time_major: bool,
) -> tuple[Array, Any]:
    """`lstmbook.run` with another step: ``step(x, state) -> (h, state)`` of a framework."""
    theirs: Any = ModuleType("theirs")
    vars(theirs).update(vars(find(cell)), step=lambda params, x, state: step(x, state))
    return sequence.run(theirs, params, xs, state, lengths=lengths, time_major=time_major)
