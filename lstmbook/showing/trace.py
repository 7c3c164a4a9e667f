"""A function's own source, each line beside the names that it assigned and the shapes they had.

A framework's cell is best read in the framework's own words. `trace` runs one function once and
shows its lines with what happened on them. The text is read from the installed framework when the
function runs; no copy of it is kept here. No framework is imported: whatever has a `shape` will do.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from types import FunctionType, MethodType
from typing import Any

from .recording import Watch
from .rows import rows_of
from .traced import Line, Trace

__all__ = ["Line", "Trace", "trace"]


def trace(
    function: Callable[..., Any],
    /,
    *args: Any,
    inside: Callable[..., Any] | None = None,
    values: bool = False,
    docstring: bool = False,
    **kwargs: Any,
) -> Trace:
    """Run ``function(*args, **kwargs)`` once and show its lines with the shapes they made.

    Parameters
    ----------
    function
        What to call: a function, a method, anything callable.
    inside
        The function whose lines are shown, if not `function` itself but one that it calls.
    values
        Show the values too, rounded.
    docstring
        Show the docstring and the comments too.

    Returns
    -------
    Trace
        Print it, or let it be the last line of a notebook cell.

    Notes
    -----
    Of calls inside one another, only the outermost is watched. Calls one after the other are
    counted together, and the last one is shown. If the function itself has a parameter named
    `inside`, `values` or `docstring`, bind it first with `functools.partial`.

    Examples
    --------
    >>> def step(x, W):
    ...     z = x @ W
    ...     if z.ndim == 1:
    ...         z = z[None]
    ...     return np.tanh(z)
    >>> print(trace(step, np.ones((2, 3)), np.ones((3, 4))))
    def step(x, W):        x: (2, 3) float64
                           W: (3, 4) float64
        z = x @ W          z: (2, 4) float64
        if z.ndim == 1:
            z = z[None]    not run
        return np.tanh(z)  return: (2, 4) float64
    """
    target = _function(function if inside is None else inside)
    name = target.__qualname__.rpartition("<locals>.")[2]
    at = rows_of(target, docstring)
    watch = Watch(target.__code__, at)
    previous = sys.gettrace()
    sys.settrace(watch.on_call)
    try:
        result = function(*args, **kwargs)
    except BaseException as error:
        if row := watch.row_of(error):
            error.add_note(f"in {name}, line {row.number}: {row.source.splitlines()[0].strip()}")
        raise
    finally:
        sys.settrace(previous)
    rows = list(dict.fromkeys(at.values()))
    if not rows[0].executed:
        raise ValueError(
            f"{name} was never reached: the call came back without running its lines. Most likely "
            "another function did the work: an override, a cached result, or a converted copy (of "
            "tf.function or torch.compile; run eagerly instead). To see which, trace the caller, "
            "for example with inside=type(cell).__call__, and read what its lines call."
        )
    for row, below in reversed(list(pairwise(rows))):
        if row.silent and not row.executed:
            row.times, row.executed = below.times, below.executed
    lines = (Line(r.number, r.source, r.names, r.values, r.times, r.executed) for r in rows)
    return Trace(name, result, tuple(lines), watch.locals, values)


def _function(thing: Any) -> FunctionType:
    """Find the Python function behind a method, a partial, a decorator or a callable object."""
    found = thing
    while not isinstance(found, FunctionType) or hasattr(found, "__wrapped__"):
        if hasattr(found, "__wrapped__"):
            found = found.__wrapped__
        elif isinstance(found, MethodType):
            found = found.__func__
        elif isinstance(found, partial):
            found = found.func
        elif not isinstance(found, type) and inspect.isfunction(type(found).__call__):
            found = type(found).__call__
        else:
            raise TypeError(
                f"trace needs a function or method written in Python; got {thing!r}, "
                f"a {type(thing).__name__}, which has no Python lines of its own"
            )
    flags = inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR
    if found.__code__.co_flags & flags or found.__code__.co_name == "<lambda>":
        raise TypeError(
            "trace needs a plain function, written with `def`; "
            f"got {found.__qualname__}, a lambda, a generator or a coroutine"
        )
    return found
