"""How a slip is written down: a change of pieces, and what it says to the one who made it."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from ..cells._activations import Array

GATE_NAMES = {
    "i": "input gate i",
    "f": "forget gate f",
    "g": "candidate g",
    "o": "output gate o",
    "r": "reset gate r",
    "z": "update gate z",
    "n": "candidate n",
}


class Idea(NamedTuple):
    """A slip before it is put into a cell."""

    name: str
    where: str
    says: str
    pieces: dict[str, Any]
    seen_in: str = ""


def in_piece(piece: str, where: str, right: str, *rows: tuple[Any, ...]) -> Iterator[Idea]:
    """Slips in one piece; each row is ``(name, what is wrong, the wrong piece, seen in)``."""
    for name, wrong, function, *seen_in in rows:
        yield Idea(name, where, f"{wrong}; {right}.", {piece: function}, *seen_in)


def weights(**change: Callable[[Array], Array]) -> dict[str, Any]:
    """The piece that takes some params for others: ``W_h=function of W_h``."""

    def read(params: Any, x: Array, state: Any) -> tuple[Any, Array, Any]:
        new = {field: f(getattr(params, field)) for field, f in change.items()}
        return params._replace(**new), x, state

    return {"read": read}


def scaled(row: int, factor: float) -> Callable[[Array], Array]:
    return lambda a: np.concatenate([a[:row], factor * a[row : row + 1], a[row + 1 :]])


def taken(rows: list[int]) -> Callable[[Array], Array]:
    return lambda a: a[rows]


def blocks(rows: list[int]) -> dict[str, Any]:
    """The piece by which gate ``j`` takes the weights and the bias of gate ``rows[j]``."""
    return weights(W_x=taken(rows), W_h=taken(rows), b=taken(rows))


def every(letters: str, piece: str, value: Any) -> dict[str, Any]:
    return {f"{piece}_{k}": value for k in letters}


def spaced(letters: str) -> str:
    return ", ".join(letters)
