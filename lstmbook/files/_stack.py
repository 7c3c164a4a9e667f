"""How a list of layers becomes a model: halves of bidirectional layers together, then a chain."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Any, NamedTuple

from .. import layouts
from ..cells import CELLS
from ..cells._activations import Array
from ._base import Layer, unused


def exported(layer: Layer, layout: str, /, **options: Any) -> dict[str, Array]:
    """The arrays of a layer in a framework's layout."""
    return layouts.export(str(layer.cell), layout, layer.params, **options)


class Level(NamedTuple):
    """One layer of a model: forward, backward, or both halves of a bidirectional one."""

    name: str  # unique, of letters, digits, "_" and "-"
    layers: tuple[Layer, ...]

    @property
    def cell(self) -> str:
        return str(self.layers[0].cell)

    @property
    def bidirectional(self) -> bool:
        return len(self.layers) == 2

    @property
    def input_size(self) -> int:
        return int(self.layers[0].params.W_x.shape[1])

    @property
    def hidden_size(self) -> int:
        return int(self.layers[0].params.b.shape[-1])

    @property
    def output_size(self) -> int:
        return self.hidden_size * len(self.layers)

    @property
    def dtype(self) -> Any:
        return self.layers[0].params.b.dtype

    @property
    def states(self) -> tuple[str, ...]:
        names: tuple[str, ...] = CELLS[self.cell].State._fields
        return names


_SIDE = re.compile(
    r"(?i)(?<![a-z])(fw|bw)(?![a-z])|(forward|backward)_(?=[^/]*$)|[/_]reverse$|-(forward|reverse)$"
)


def stack(layers: list[Layer], reserved: str = "") -> list[Level]:
    """The levels of a model, in the order of the layers.

    A name that the form of the file has for something else, by the pattern ``reserved``, gets
    ``layer_`` in front.
    """
    levels: list[Level] = []
    taken: set[str] = set()
    k = 0
    while k < len(layers):
        pair = tuple(layers[k : k + 2])
        if not _is_pair(pair):
            pair = pair[:1]
        k += len(pair)
        stem = _SIDE.sub("", pair[0].name) if len(pair) == 2 else pair[0].name
        name = re.sub(r"[^A-Za-z0-9_-]+", "_", stem).strip("_-") or "layer"
        if re.fullmatch(reserved, name):
            name = f"layer_{name}"
        levels.append(Level(unused(name, taken), pair))
    return levels


def _is_pair(pair: tuple[Layer, ...]) -> bool:
    if len(pair) != 2 or pair[0].reverse or not pair[1].reverse or pair[0].cell != pair[1].cell:
        return False
    one, two = (layer.params for layer in pair)
    return (
        one.W_x.shape == two.W_x.shape
        and one.b.dtype == two.b.dtype
        and _SIDE.sub("", pair[0].name) == _SIDE.sub("", pair[1].name)
    )


def is_chain(levels: list[Level]) -> bool:
    """Whether each level can read what the one before it gives."""
    return all(
        after.input_size == before.output_size and after.dtype == before.dtype
        for before, after in pairwise(levels)
    )
