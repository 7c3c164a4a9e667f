"""Which way a run is computed: compiled loops, NumPy's lists, or step by step.

A cell whose page can be recorded (`program`) runs by what follows from its program: compiled loops
where Numba is installed (``lstmbook[fast]``), in float32 and float64, else NumPy. Any other cell
runs step by step. ``LSTMBOOK_NUMBA=0`` forbids the compiled loops, and ``NUMBA_NUM_THREADS`` says
how many threads they take. Where they fail, at whatever point, NumPy computes, and a warning says
so once.

All arguments here are time first, checked and of one dtype.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from functools import cache, cached_property
from threading import Lock
from types import ModuleType
from typing import Any

import numpy as np

from ..cells import CELLS, Cell
from ..cells._activations import Array
from . import by_steps, in_numpy, in_numpy_back
from .plan import plan_back, plan_forward
from .program import Program, program_of

__all__ = ["can_go_back", "compiled_for", "give_up", "run", "vjp", "ways_of"]

# From d_hs, d_state and whether d_xs is wanted to d_params, d_xs and d_state
Back = Callable[[Array, Any, bool], tuple[Any, Array | None, Any]]

SMALL = 2**24  # multiplications of a run in one thread
WORTH_COMPILING = 2**20  # multiplications of a run; below, a reader's own cell is run by NumPy


class Ways:
    """What follows from a program, made when it is first needed."""

    def __init__(self, program: Program, name: str | None) -> None:
        self.program, self.name = program, name
        self.small: dict[Any, int] = {}  # shapes that were checked, and multiplications per number

    @cached_property
    def plan(self) -> Any:
        return plan_forward(self.program)

    @cached_property
    def back(self) -> Any:
        return plan_back(self.plan)

    @cached_property
    def forward_list(self) -> in_numpy.ForwardList:
        return in_numpy.ForwardList(self.plan)

    @cached_property
    def back_list(self) -> in_numpy_back.BackList:
        return in_numpy_back.BackList(self.back)

    @cached_property
    def loops(self) -> Any:
        compiled = _compiled()
        assert compiled is not None
        return compiled.Loops(self.name, self.plan, self.back)


def ways_of(cell: Cell, params: Any) -> Ways | None:
    """What follows from a cell's program; None if it has to be run step by step."""
    program = program_of(cell, params)
    if program is None:
        return None
    if program.ways is None:
        names = (name for name, known in CELLS.items() if known is cell)
        program.ways = Ways(program, next(names, None))
    ways: Ways = program.ways
    return ways


def can_go_back(cell: Cell, params: Any) -> bool:
    """Whether there are gradients: derived from the page, or those of its ``step_vjp``."""
    return hasattr(cell, "step_vjp") or ways_of(cell, params) is not None


def quick_run(cell: Cell, params: Any, xs: Any, time_major: bool) -> tuple[Array, Any] | None:
    """A small run of all steps from zeros, in shapes whose checks have been passed before; None
    where that is not so, or where there are no compiled loops.
    """
    try:
        ways = ways_of(cell, params)
        key = xs.shape[2], xs.dtype, *[array.shape for array in params]
        if ways is None or key not in ways.small or _failures or _compiled() is None:
            return None
        dtype = xs.dtype
        for array in (*params, xs):
            if array.dtype is not dtype or not array.flags.carray:
                return None
        batch = xs.shape[1 if time_major else 0]
        if not xs.size or xs.size * ways.small[key] > SMALL or type(params) is not cell.Params:
            return None
    except (AttributeError, IndexError, TypeError):
        return None
    state = cell.zero_state(params, batch)
    hs = np.zeros((*xs.shape[:2], state[0].shape[1]), dtype)
    try:
        return hs, _compiled().run_alone(ways.loops, params, xs, state, hs, time_major)  # type: ignore[union-attr]
    except Exception as error:
        give_up(error)
    return None


def remember(cell: Cell, params: Any, xs: Array) -> None:
    """That arguments of these shapes have passed their checks, for `quick_run`."""
    ways = ways_of(cell, params)
    if ways and len(ways.small) < 100 and compiled_for(ways, params, xs) and ways.loops.alone:
        weights = sum(array.size for array in params)
        key = xs.shape[2], xs.dtype, *[array.shape for array in params]
        ways.small[key] = max(1, weights // xs.shape[2])


def run(cell: Cell, params: Any, xs: Array, state: Any, lengths: Array, hs: Array) -> Any:
    """Write the outputs into ``hs``, which is zero, and return the final state."""
    ways = ways_of(cell, params)
    if ways is None:
        return by_steps.run(cell, params, xs, state, lengths, hs)
    if compiled := compiled_for(ways, params, xs):
        try:
            return compiled.run(ways.loops, params, xs, state, lengths, hs)
        except Exception as error:
            give_up(error)
            hs[...] = 0
    return in_numpy.run(ways.forward_list, params, xs, state, lengths, hs)


def vjp(
    cell: Cell, params: Any, xs: Array, state: Any, lengths: Array, hs: Array
) -> tuple[Any, Back]:
    """`run`, and the way back from the gradients at what it gives to those at what it takes."""
    ways = ways_of(cell, params)
    if ways is None:
        return by_steps.vjp(cell, params, xs, state, lengths, hs)
    lists = ways.forward_list, ways.back_list
    if compiled := compiled_for(ways, params, xs):
        try:
            final, compiled_back = compiled.vjp(ways.loops, params, xs, state, lengths, hs)
        except Exception as error:
            give_up(error)
            hs[...] = 0
        else:
            first, shape = type(state)(*map(np.copy, state)), hs.shape

            def numpy_back() -> Back:
                """Of another run, by NumPy."""
                again = np.zeros(shape, xs.dtype)
                return in_numpy_back.vjp(*lists, params, xs, first, lengths, again)[1]

            return final, _back_or(numpy_back, compiled_back)
    return in_numpy_back.vjp(*lists, params, xs, state, lengths, hs)


def _back_or(numpy_back: Callable[[], Back], compiled_back: Back) -> Back:
    """The compiled way back, or, once it has failed, that of NumPy."""
    way_back = compiled_back

    def back(d_hs: Array, d_state: Any, inputs: bool) -> tuple[Any, Array | None, Any]:
        nonlocal way_back
        if way_back is compiled_back:
            try:
                return compiled_back(d_hs, d_state, inputs)
            except Exception as error:
                give_up(error)
            way_back = numpy_back()
        return way_back(d_hs, d_state, inputs)

    return back


# The compiled loops, and what happens where they fail


@cache
def _compiled() -> ModuleType | None:
    """The compiled loops, unless Numba is forbidden, missing, or fails: NumPy needs none of it."""
    if os.environ.get("LSTMBOOK_NUMBA") == "0":
        return None
    try:
        from . import compiled
    except Exception as error:
        if not (isinstance(error, ModuleNotFoundError) and error.name == "numba"):
            give_up(error)  # such as a Numba that refuses this NumPy
        return None
    return compiled


def compiled_for(ways: Ways, params: Any, xs: Array) -> ModuleType | None:
    """The compiled loops, if they take these inputs and have not failed yet."""
    if _failures or xs.dtype not in (np.float32, np.float64) or not xs.shape[1]:
        return None
    if ways.name is None and "loops" not in vars(ways):
        work = sum(array.size for array in params) * xs.shape[0] * xs.shape[1]
        if work < WORTH_COMPILING:
            return None
    return _compiled()


_failures: list[str] = []  # of the compiled loops in this process; after the first, NumPy computes
_failures_lock = Lock()


def give_up(error: Exception) -> None:
    """No compiled loops from now on, which a warning says once.

    What is the caller's is raised again: no memory, an ``np.errstate``, a signal's time-out.
    """
    if isinstance(error, MemoryError | FloatingPointError | TimeoutError):
        raise error
    message = ": ".join([type(error).__name__, *str(error).splitlines()[:1]])
    with _failures_lock:
        _failures.append(message)
        first = len(_failures) == 1
    if first:
        warnings.warn(
            f"the compiled loops of lstmbook failed in Numba ({message}). NumPy computes the same "
            "for the rest of this process. LSTMBOOK_NUMBA=0 in the environment switches the "
            "compiled loops off from the start",
            RuntimeWarning,
            stacklevel=2,
        )
