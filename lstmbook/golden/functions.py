"""Answers of Python functions: a step, a run, their gradients."""

import importlib
import inspect
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from .. import layouts
from ..cells import CELLS
from ..cells._activations import Array
from .answers import AnswerError
from .vectors import Vector, flatten

__all__ = ["answer", "functions_of", "of_functions", "python_function", "rows"]


def functions_of(implementation: Any, gradients: Callable[..., Any] | None) -> dict[str, Any]:
    names = ("step", "gates", "step_vjp", "run", "backprop")
    at = {k: getattr(implementation, k) for k in names if callable(getattr(implementation, k, 0))}
    if "step" in at or "run" in at:
        at.pop("run" if "step" in at else "", None)
    elif callable(implementation):
        at = {"run" if _takes(implementation, "lengths") else "step": implementation}
    else:
        raise TypeError(
            f"implementation is of type {type(implementation).__name__}; expected a function "
            "step(params, x, state) or run(params, xs, state, lengths), an object that has one, "
            "a Command, or the path of a file of results"
        )
    if gradients is not None:
        if not callable(gradients):
            raise TypeError(f"gradients is of type {type(gradients).__name__}; expected a function")
        at["step_vjp" if "step" in at else "backprop"] = gradients
    return at


def _takes(function: Callable[..., Any], name: str) -> bool:
    try:
        return name in inspect.signature(function).parameters
    except (TypeError, ValueError):
        return False


def of_functions(
    at: Mapping[str, Any],
    layout: str | None,
    forget_bias: float,
    dtype: np.dtype[Any],
    vector: Vector,
) -> dict[str, Array]:
    """Ask Python functions: run, then gates, then gradients."""

    def cast(arrays: Any) -> Any:
        return type(arrays)(*(array.astype(dtype) for array in arrays))

    def params() -> Any:
        fresh = cast(vector.params)
        if layout is None:
            return fresh
        return layouts.export(vector.cell, layout, fresh, forget_bias=forget_bias)

    xs, lengths = vector.given["xs"].astype(dtype), vector.given["lengths"].copy()
    with _Told():
        if "run" in at:
            result = at["run"](params(), xs, cast(vector.state), lengths)
        else:
            result = _run_step(at["step"], params(), xs, cast(vector.state), lengths)
        flat = _named(vector, result)
        if "gates" in at and any(name.startswith("gates/") for name in vector.expected):
            gates = at["gates"](params(), xs[:, 0], cast(vector.state))
            letters = CELLS[vector.cell].GATES
            flat |= {f"gates/{k}": a for k, a in zip(letters, gates, strict=True)}
        if vector.has_gradients and ("backprop" in at or "step_vjp" in at):
            d_hs = vector.given["d_hs"].astype(dtype)
            d_final = cast(vector.below("d_final", CELLS[vector.cell].State))
            arguments = (params(), xs, d_hs, d_final, cast(vector.state), lengths)
            if "backprop" in at:
                result = at["backprop"](*arguments)
            else:
                result = _back_steps(at["step"], at["step_vjp"], *arguments)
            flat |= _named_gradients(vector, result, layout)
    return flat


class _Told:
    """Errors of the reader's code become the message of one vector."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, Exception) and not isinstance(error, AnswerError):
            text = f"{type(error).__name__}: {error}".rstrip(": ")
            raise AnswerError(f"your function raises an error. {text}") from None


def _run_step(
    step: Callable[..., Any], params: Any, xs: Array, state: Any, lengths: Array
) -> tuple[Array, Any]:
    """A step over sequences that end at different times."""
    hs = np.zeros((*xs.shape[:2], state.h.shape[-1]), xs.dtype)
    for t in range(xs.shape[1]):
        on = lengths > t
        if on.any():
            h, new = _pair(state, step(params, xs[on, t], rows(state, on)))
            hs = hs.astype(np.result_type(h), copy=False)  # what the step computes in
            hs[on, t] = h
            state = _written(state, on, new)
    return hs, state


def _back_steps(
    step: Callable[..., Any],
    step_vjp: Callable[..., Any],
    params: Any,
    xs: Array,
    d_hs: Array,
    d_state: Any,
    state: Any,
    lengths: Array,
) -> tuple[Any, Array, Any]:
    """``step_vjp`` from the last step to the first."""
    states = [state]
    for t in range(xs.shape[1]):
        on = lengths > t
        if on.any():
            _, new = _pair(state, step(params, xs[on, t], rows(state, on)))
            state = _written(state, on, new)
        states.append(state)
    total: dict[Any, Any] = {}
    d_xs = np.zeros_like(xs)
    for t in reversed(range(xs.shape[1])):
        on = lengths > t
        if not on.any():
            continue
        d_new = rows(d_state, on)
        d_new = d_new._replace(h=d_new.h + d_hs[on, t])
        d_params, d_x, d_old = step_vjp(params, xs[on, t], rows(states[t], on), d_new)
        for name, part in _items(d_params, params):
            total[name] = total.get(name, 0) + part
        d_xs[on, t] = d_x
        d_state = _written(d_state, on, d_old)
    return total, d_xs, d_state


def _pair(state: Any, result: Any) -> tuple[Any, Any]:
    """A step's answer; a plain tuple is taken in the order of State."""
    if not isinstance(result, tuple | list) or len(result) != 2:
        raise AnswerError("your step returns no pair; expected (h, state)")
    h, new = result
    return h, _as_state(type(state), new)


def _as_state(made: Any, new: Any) -> Any:
    fields = made._fields
    if isinstance(new, Mapping):
        new = [new[k] for k in fields]
    elif hasattr(new, "_fields") and set(new._fields) == set(fields):
        new = [getattr(new, k) for k in fields]
    if not isinstance(new, tuple | list) or len(new) != len(fields):
        raise AnswerError(f"the state that comes back is no State({', '.join(fields)})")
    return made(*new)


def rows(state: Any, on: Array) -> Any:
    """The State of some sequences of the batch."""
    return type(state)(*(part[on] for part in state))


def _written(state: Any, on: Array, new: Any) -> Any:
    parts = []
    for whole, part in zip(state, new, strict=True):
        whole = whole.astype(np.result_type(part), copy=True)
        whole[on] = part
        parts.append(whole)
    return type(state)(*parts)


def _items(group: Any, like: Any) -> Iterator[tuple[str, Any]]:
    """Params, a dict or a plain tuple, by the names of ``like``."""
    if isinstance(group, Mapping):
        yield from group.items()
    else:
        names = like.keys() if isinstance(like, Mapping) else like._fields
        names = getattr(group, "_fields", names)
        yield from zip(names, group, strict=True)


def _named(vector: Vector, result: Any) -> dict[str, Any]:
    """``hs``, ``(hs, state)`` or a mapping, by name."""
    if isinstance(result, Mapping):
        return dict(flatten(result))
    if not isinstance(result, tuple | list):
        return {"hs": result}
    if len(result) != 2:
        raise AnswerError(f"your function returns {len(result)} things; expected (hs, state)")
    hs, state = result
    final = _as_state(CELLS[vector.cell].State, state)
    return {"hs": hs} | {f"final/{k}": a for k, a in final._asdict().items()}


def _named_gradients(vector: Vector, result: Any, layout: str | None) -> dict[str, Any]:
    if not isinstance(result, tuple | list) or len(result) != 3:
        raise AnswerError("your gradients are no triple; expected (d_params, d_xs, d_state)")
    d_params, d_xs, d_state = result
    page = CELLS[vector.cell]
    if layout is None:
        named = dict(_items(d_params, vector.params))
    else:
        named = dict(layouts.pull_back(vector.cell, layout, d_params)._asdict())
    flat = {f"d_params/{k}": a for k, a in named.items()} | {"d_xs": d_xs}
    return flat | {f"d_state/{k}": a for k, a in _as_state(page.State, d_state)._asdict().items()}


def answer(step: Callable[..., Any], vector: Vector) -> dict[str, Array]:
    """``hs`` and ``final/…`` that a step, right or wrong, gives for a vector."""
    with np.errstate(all="ignore"):
        result = _run_step(
            step, vector.params, vector.given["xs"], vector.state, vector.given["lengths"]
        )
    return _named(vector, result)


def python_function(place: str) -> Any:
    """The function or object at ``module:name``, with the working folder on the path.

    Raises
    ------
    ValueError
        If there is no such module or name.
    """
    module_name, colon, name = place.partition(":")
    if not (module_name and colon and name):
        raise ValueError(f"{place!r} names no function; expected module:function")
    if (here := os.getcwd()) not in sys.path:
        sys.path.insert(0, here)
    try:
        thing = importlib.import_module(module_name)
    except Exception as error:
        text = f"{type(error).__name__}: {error}"
        raise ValueError(f"module {module_name!r} cannot be imported: {text}") from None
    for part in name.split("."):
        if not hasattr(thing, part):
            raise ValueError(f"module {module_name!r} has no {name!r}")
        thing = getattr(thing, part)
    return thing
