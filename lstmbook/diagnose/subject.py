"""A reader's function: called safely, and its answers judged for their form."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ..cells._activations import Array
from .cases import Call

__all__ = ["RefusedError", "Subject", "listed", "off_by"]


class RefusedError(Exception):
    """The function cannot be compared at all; the message is for the reader."""


class Subject:
    """The reader's function: called with copies, its answers checked for form and named."""

    def __init__(self, function: Callable[..., Any], cell: Any, name: str, part: str) -> None:
        self.function, self.cell, self.name, self.part = function, cell, name, part
        self.fields: tuple[str, ...] = cell.State._fields
        self.returned: Any = None  # the last state, as the function returned it
        self.arrays: dict[str, Array] = {}  # the last answer, not copied

    def right(self, call: Call) -> dict[str, Array]:
        """What should come out."""
        return self.named(getattr(self.cell, self.part)(*call))

    def named(self, result: Any) -> dict[str, Array]:
        """The arrays of a well-formed answer, by name."""
        if self.part == "gates":
            return dict(zip(self.cell.GATES, result, strict=True))
        h, state = result
        return {"h": h} | {
            "c" if k == "c" else f"state.{k}": getattr(state, k) for k in state._fields
        }

    def __call__(self, call: Call, place: str = "") -> dict[str, Array]:
        """What the function gives, or `RefusedError` with the reason why it cannot be used."""
        copies = Call(*(_copy(argument) for argument in call))
        try:
            result = self.function(*copies)
        except Exception as error:
            message = f"{type(error).__name__}: {error}".rstrip(": ")
            raise RefusedError(
                f"your function raises an error{place}.\n{message}\n"
                f"It was given {_shapes(call)}.{_broadcast_mend(error, call)}"
            ) from None
        changed = [
            name
            for (name, a), (_, b) in zip(_arrays(call), _arrays(copies), strict=True)
            if a.shape != b.shape or not np.array_equal(a, b)
        ]
        if changed:
            raise RefusedError(
                f"your function changes {' and '.join(changed)} in place{place}.\n"
                "The caller still needs them. Make new arrays: c = f * c, not c *= f."
            )
        shape = (call.x.shape[0], call.params.b.shape[-1])
        parts = self._gates(result) if self.part == "gates" else self._pair(result, shape)
        self.arrays = {
            name: self._array(name, part, shape, call.x.dtype, place)
            for name, part in parts.items()
        }
        return {name: array.copy() for name, array in self.arrays.items()}

    def _gates(self, result: Any) -> dict[str, Any]:
        letters = self.cell.GATES
        axes = getattr(result, "ndim", None)
        if len(letters) == 1 and axes == 2:  # n itself, not in a tuple of one
            return {letters: result}
        wanted = f"expected the gates {', '.join(letters)}, a tuple of {len(letters)}"
        if not isinstance(result, tuple | list) and axes != 3:
            raise RefusedError(f"your function returns {_what(result)}; {wanted}.")
        if len(result) != len(letters):
            raise RefusedError(f"your function returns {len(result)} things; {wanted}.")
        return dict(zip(letters, result, strict=True))

    def _pair(self, result: Any, shape: tuple[int, ...]) -> dict[str, Any]:
        names = ", ".join(self.fields)
        state_is = f"State({names})"
        wanted = f"expected a pair: return h, {state_is}"
        if result is None:
            raise RefusedError(f"your function returns nothing; {wanted}.")
        if getattr(result, "_fields", None) == self.fields:
            raise RefusedError(f"your function returns {state_is} alone; {wanted}.")
        if not isinstance(result, tuple | list):
            raise RefusedError(f"your function returns {_what(result)}; {wanted}.")
        if len(result) != 2:
            raise RefusedError(f"your function returns {len(result)} things; {wanted}.")
        h, state = result
        if not isinstance(state, tuple | list):
            mend, fits = "", getattr(state, "shape", None) == shape
            if isinstance(h, tuple | list):
                mend = "\nIs it the other way round? The output comes first, then the state."
            elif fits and len(self.fields) == 2:
                mend = "\nDo you return h, c? The state is one thing that holds both."
            elif fits:
                mend = "\nPut it into a State: return h, State(h)."
            raise RefusedError(f"the state you return is {_what(state)}; {wanted}.{mend}")
        if len(state) != len(self.fields):
            raise RefusedError(f"the state you return holds {len(state)} things; {wanted}.")
        self.returned = state
        got = getattr(state, "_fields", self.fields)
        order = got if sorted(got) == sorted(self.fields) else self.fields
        parts = dict(zip(order, state, strict=True))
        return {"h": h} | {"c" if k == "c" else f"state.{k}": parts[k] for k in self.fields}

    def _array(self, name: str, part: Any, shape: tuple[int, ...], dtype: Any, place: str) -> Array:
        try:
            array = np.asarray(part)
        except Exception as error:
            raise RefusedError(
                f"{name} is {_what(part)}, which NumPy cannot read ({error})."
            ) from None
        if array.dtype.kind != "f":
            raise RefusedError(
                f"{name} is {_what(part)} of dtype {array.dtype}; expected an array of floats."
            )
        if array.shape != shape:
            raise RefusedError(
                f"{name} has shape {array.shape}; expected (batch, hidden) = {shape}{place}."
                f"{self._shape_mend(array.shape, shape)}"
            )
        if dtype == np.float64 and array.dtype.itemsize < dtype.itemsize:
            raise RefusedError(
                f"{name} is {array.dtype}, but all that you were given is float64.\n"
                "So it is rounded to 7 digits or less, too few to compare. Is a dtype written "
                "in your function, or does a framework compute in float32?"
            )
        return array

    def _shape_mend(self, got: tuple[int, ...], wanted: tuple[int, ...]) -> str:
        batch, hidden = wanted
        count = len(self.cell.GATES)
        if got == (hidden, batch):
            return "\nIs it transposed?"
        if got == (hidden,) or (batch == 1 and got == ()):
            return "\nIs the batch axis lost?"
        if got in ((1, batch, hidden), (count, batch, hidden)):
            return "\nIs the gate axis still there?"
        if got == (batch, count * hidden):
            return "\nAre the gates still side by side?"
        if got == (batch, 2 * hidden):
            return "\nAre h and c still side by side?"
        return ""


def _copy(argument: Any) -> Any:
    if isinstance(argument, tuple):
        return type(argument)(*(a.copy() for a in argument))
    return argument.copy()


def _arrays(call: Call) -> Iterator[tuple[str, Array]]:
    yield from ((f"params.{k}", a) for k, a in call.params._asdict().items())
    yield "x", call.x
    yield from ((f"state.{k}", a) for k, a in call.state._asdict().items())


def _shapes(call: Call) -> str:
    return ", ".join(f"{name} {a.shape}" for name, a in _arrays(call))


def _what(thing: Any) -> str:
    if hasattr(thing, "shape"):
        return f"one array of shape {tuple(thing.shape)}"
    return f"a {type(thing).__name__}" if thing is not None else "nothing"


def _broadcast_mend(error: Exception, call: Call) -> str:
    if not isinstance(error, ValueError) or "broadcast" not in str(error):
        return ""
    product_shape = (len(call.params.b), len(call.x), call.params.b.shape[-1])
    return (
        f"\nx @ params.W_x has shape {product_shape}: (gates, batch, hidden). "
        "A bias for every gate is added as params.b[:, None]."
    )


def off_by(got: dict[str, Array], want: dict[str, Array], tolerance: float) -> dict[str, float]:
    """By how much each array differs, for those that do."""
    off = {}
    for name, right in want.items():
        distance = np.abs(got[name].astype(np.float64) - right)
        same = (distance <= tolerance * (1 + np.abs(right))) | (got[name] == right)
        same |= np.isnan(got[name]) & np.isnan(right)
        if not same.all():
            off[name] = float(np.max(distance))  # NaN if one is NaN
    return off


def listed(names: list[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
