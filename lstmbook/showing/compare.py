"""The differences between two results, as rows to print."""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

__all__ = ["Comparison", "Difference", "compare"]


class Difference(NamedTuple):
    """One array of ours against one of theirs."""

    name: str
    shape: tuple[int, ...]
    max_abs: float  # max |ours - theirs|; NaN where only one of the two is NaN
    ok: bool  # max_abs <= atol


class Comparison(tuple[Difference, ...]):
    """Rows of `Difference`; prints as a table. Made by `compare`."""

    atol: float

    @property
    def ok(self) -> bool:
        """Whether every array agrees within ``atol``."""
        return all(row.ok for row in self)

    @property
    def max_abs(self) -> float:
        """The largest difference of all."""
        return float(np.max([row.max_abs for row in self], initial=0.0))

    def summary(self) -> str:
        """One line that reads the same on every machine: names, bound, and whether it holds."""
        return f"{', '.join(row.name for row in self)}: max |Δ| < {self.atol:g}: {self.ok}"

    def __str__(self) -> str:
        cells = [("array", "shape", "max |Δ|", f"< {self.atol:g}")]
        cells += [(r.name, str(r.shape), f"{r.max_abs:.1e}", str(r.ok)) for r in self]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        return "\n".join(
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in cells
        )

    __repr__ = __str__


def compare(ours: Any, theirs: Any, *, atol: float = 1e-6) -> Comparison:
    """``max |ours - theirs|`` for every array of two results of the same structure.

    Parameters
    ----------
    ours, theirs : array, dict, list, tuple or NamedTuple, nested as you like
        A pair ``(hs, State)``, as `lstmbook.run` returns it, gets the names ``hs``, ``h``, ``c``.
        What stands deeper is named by the whole way to it, ``layer.h``.
    atol : float
        The largest difference that still counts as agreement. Two NaNs at the same place agree.

    Returns
    -------
    Comparison
        Rows to print; ``.ok`` says whether all agree.

    Raises
    ------
    TypeError
        If something is neither a number nor an array of numbers.
    ValueError
        If structure, names or shapes differ, or if there is nothing to compare.
    """
    rows = []
    left, right = _arrays("ours", ours), _arrays("theirs", theirs)
    if left.keys() != right.keys():
        raise ValueError(f"ours has {_listed(left)}; theirs has {_listed(right)}")
    if not left:
        raise ValueError("there is nothing to compare: no array on either side")
    for way, a in left.items():
        name, b = _name(way, left), right[way]
        if a.shape != b.shape:
            raise ValueError(f"{name} has shape {a.shape} in ours and {b.shape} in theirs")
        same = (a == b) | (np.isnan(a) & np.isnan(b))
        with np.errstate(invalid="ignore"):
            difference = np.where(same, 0.0, np.abs(np.subtract(a, b, dtype=_wide(a, b))))
        max_abs = float(np.max(difference, initial=0.0))
        rows.append(Difference(name, a.shape, max_abs, max_abs <= atol))
    result = Comparison(rows)
    result.atol = atol
    return result


def _wide(a: Any, b: Any) -> np.dtype[Any]:
    return np.result_type(a, b, np.float64)


Way = tuple[str, ...]  # keys, fields and numbers that lead to an array


def _arrays(side: str, value: Any) -> dict[Way, Any]:
    """All arrays, by the way to them."""
    arrays: dict[Way, Any] = {}
    for way, array in _leaves((), value):
        if way in arrays:
            raise ValueError(
                f"{side} has two arrays of the name {'.'.join(way)}; as text their keys are alike"
            )
        arrays[way] = np.asarray(array)
        if arrays[way].dtype.kind in "OSUMm":
            raise TypeError(
                f"{_name(way, arrays)} in {side} is of type {type(array).__name__} and dtype "
                f"{arrays[way].dtype}; expected numbers"
            )
    return arrays


def _leaves(way: Way, value: Any) -> Iterator[tuple[Way, Any]]:
    fields = getattr(value, "_fields", None)
    if isinstance(value, dict):
        items = list(value.items())
    elif fields:
        items = list(zip(fields, value, strict=True))
    elif isinstance(value, tuple | list):
        items = list(enumerate(value))
        if len(value) == 2 and "h" in getattr(value[1], "_fields", ()):  # a result of run
            items = [("hs", value[0]), *zip(value[1]._fields, value[1], strict=True)]
    else:
        yield way, value
        return
    for key, part in items:
        yield from _leaves((*way, str(key)), part)


def _name(way: Way, ways: Iterable[Way]) -> str:
    """``a.b``; with quotes where another way reads the same, as that of the key ``"a.b"`` does."""
    name = ".".join(way)
    if sum(".".join(other) == name for other in ways) > 1:
        name = ".".join(repr(key) if "." in key else key for key in way)
    return name or "array"


def _listed(ways: Iterable[Way]) -> str:
    return ", ".join(_name(way, ways) for way in ways)
