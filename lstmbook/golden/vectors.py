"""Golden vectors: what goes into a cell and what must come out, as data for any language.

Every cell has one file of them, as JSON and, with the same numbers, as NPZ. Each vector has a
purpose: the mistakes that it was made to show. The written format is on the page *Golden
vectors* of the book. What goes in are multiples of 1/32 or 1/1024, so float32 holds them exactly.

A number's name is its path: ``xs``, ``state/c``, ``d_params/W_h``. In NPZ it stands behind the
name of the vector, ``sequence/state/c``.
"""

import json
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..cells import CELLS, Cell, find, name_of
from ..cells._activations import Array

__all__ = ["FORMAT", "VERSION", "Vector", "flatten", "nest", "path", "read"]

FORMAT = "lstmbook-vectors"
VERSION = 1
FOLDER = Path(__file__).parent.parent / "data" / "vectors"


class Vector(NamedTuple):
    """One vector. Arrays are float64, but ``lengths``, which are integers; batch comes first."""

    name: str  # unique within its cell
    cell: str  # the name in CELLS
    purpose: str  # what it was made to show
    source: str  # where the expected numbers come from
    tolerance: dict[str, float]  # what float64 and float32 may be off, see the page
    given: dict[str, Array]  # params/…, xs, lengths, state/…; d_hs and d_final/… with gradients
    expected: dict[str, Array]  # hs, final/…; gates/…; d_params/…, d_xs, d_state/…

    @property
    def params(self) -> Any:
        """The weights as Params of the cell."""
        return self.below("params", CELLS[self.cell].Params)

    @property
    def state(self) -> Any:
        """The initial State."""
        return self.below("state", CELLS[self.cell].State)

    def below(self, group: str, kind: Any) -> Any:
        """A group of what is given, ``params``, ``state`` or ``d_final``, as a NamedTuple."""
        return kind(*(self.given[f"{group}/{field}"] for field in kind._fields))

    @property
    def has_gradients(self) -> bool:
        """Whether gradients of a loss are expected too."""
        return "d_hs" in self.given

    def request(self) -> dict[str, Any]:
        """What is given, nested and of lists, without what is expected: to be written as JSON."""
        return {
            "format": FORMAT,
            "version": VERSION,
            "cell": self.cell,
            "name": self.name,
            "given": nest({name: array.tolist() for name, array in self.given.items()}),
        }


def path(cell: Cell | str, kind: str = "json") -> Path:
    """The file of a cell's vectors, ``json`` or ``npz``."""
    if kind not in ("json", "npz"):
        raise ValueError(f"there is no kind {kind!r} of vectors; the kinds are json, npz")
    return FOLDER / f"{name_of(find(cell))}.{kind}"


@cache
def _all(cell: str) -> tuple[Vector, ...]:
    content = json.loads(path(cell).read_text(encoding="utf-8"))
    return tuple(
        Vector(
            row["name"],
            cell,
            row["purpose"],
            row["source"],
            row["tolerance"],
            _arrays(row["given"]),
            _arrays(row["expected"]),
        )
        for row in content["vectors"]
    )


def _arrays(tree: Mapping[str, Any]) -> dict[str, Array]:
    arrays = {}
    for name, value in flatten(tree):
        array = np.array(value, np.int64 if name == "lengths" else np.float64)
        array.flags.writeable = False
        arrays[name] = array
    return arrays


def read(cell: Cell | str, names: Any = None) -> tuple[Vector, ...]:
    """The vectors of a cell, in the order of the file.

    Parameters
    ----------
    cell : module of `lstmbook.cells` or its name
    names : sequence of str, optional
        Some of them only.

    Raises
    ------
    ValueError
        If there is no such cell or no such vector.

    Examples
    --------
    >>> vector = read("lstm")[0]
    >>> vector.name, vector.given["xs"].shape
    ('one_step', (3, 1, 2))
    """
    vectors = _all(name_of(find(cell)))
    if names is None:
        return vectors
    wanted = [names] if isinstance(names, str) else list(names)
    known = {vector.name: vector for vector in vectors}
    unknown = [name for name in wanted if name not in known]
    if unknown or not wanted:
        what = f"there is no vector {unknown[0]!r} of {vectors[0].cell}" if unknown else "no vector"
        raise ValueError(f"{what}; the vectors are {', '.join(known)}")
    return tuple(known[name] for name in dict.fromkeys(wanted))


def flatten(tree: Mapping[str, Any], start: str = "") -> Iterator[tuple[str, Any]]:
    """Every leaf of nested dicts with its path, ``state/c``."""
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{start}{name}/")
        else:
            yield f"{start}{name}", value


def nest(flat: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of `flatten`."""
    tree: dict[str, Any] = {}
    for name, value in flat.items():
        *groups, last = name.split("/")
        place = tree
        for group in groups:
            place = place.setdefault(group, {})
        place[last] = value
    return tree
