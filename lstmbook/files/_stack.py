"""How layers become a model: halves of bidirectional layers together, and what reads what."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable
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
    r"(?i)(?<![a-z])(fw|bw)(?![a-z])|(forward|backward)_layer|(forward|backward)_(?=[^/]*$)"
    r"|[/_]reverse$|-(forward|reverse)$"
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
        if not _is_pair(pair, layers):
            pair = pair[:1]
        k += len(pair)
        stem = _SIDE.sub("", pair[0].name) if len(pair) == 2 else pair[0].name
        name = re.sub(r"[^A-Za-z0-9_-]+", "_", stem).strip("_-") or "layer"
        if re.fullmatch(reserved, name):
            name = f"layer_{name}"
        levels.append(Level(unused(name, taken), pair))
    return levels


def _is_pair(pair: tuple[Layer, ...], layers: list[Layer]) -> bool:
    if len(pair) != 2 or pair[0].reverse or not pair[1].reverse or pair[0].cell != pair[1].cell:
        return False
    one, two = (layer.params for layer in pair)
    halves = {layer.name for layer in pair}
    return (
        one.W_x.shape == two.W_x.shape
        and one.b.dtype == two.b.dtype
        and _SIDE.sub("", pair[0].name) == _SIDE.sub("", pair[1].name)
        and (pair[0].reads, pair[0].between) == (pair[1].reads, pair[1].between)
        and all(len(halves & set(layer.reads or ())) != 1 for layer in layers)
    )


def chains(
    levels: list[Level], alone: Callable[[Level], bool] = lambda level: False
) -> list[list[Level]]:
    """The levels in groups, each level of a group reading the one before it, as the layers say.

    A level that nothing reads, or that several read, ends its group; so does one that the form of
    the file cannot have in a chain, by ``alone``.
    """
    by_names = {tuple(layer.name for layer in level.layers): level for level in levels}
    readers = Counter(level.layers[0].reads for level in levels)
    after: dict[str, Level] = {}  # the name of a level -> the one that reads it
    for level in levels:
        before = by_names.get(level.layers[0].reads or ())
        if (
            before is not None
            and before is not level
            and readers[level.layers[0].reads] == 1
            and level.dtype == before.dtype
            and level.input_size == before.output_size
            and not (alone(before) or alone(level))
        ):
            after[before.name] = level
    inner = {level.name for level in after.values()}
    groups = []
    for level in levels:
        if level.name not in inner:
            group = [level]
            while group[-1].name in after:
                group.append(after[group[-1].name])
            groups.append(group)
    in_a_group = {level.name for group in groups for level in group}
    return groups + [[level] for level in levels if level.name not in in_a_group]  # a circle


def chained(layers: Iterable[Layer]) -> list[Layer]:
    """The layers, each with the one before it as its input, for `write`.

    Two halves of a bidirectional layer, one behind the other, read the same and are read together.
    Nothing in the weights says that it is so: the caller does.

    Raises
    ------
    ValueError
        If the input of a layer has not the size of what it would read.
    """
    levels = stack([layer._replace(reads=None, between="") for layer in layers])
    for before, level in pairwise(levels):
        if level.input_size != before.output_size:
            raise ValueError(
                f"{level.layers[0].name} has inputs of {level.input_size} numbers, and "
                f"{before.layers[0].name} before it gives {before.output_size}: no chain"
            )
    names = [(), *(tuple(half.name for half in level.layers) for level in levels)]
    return [
        half._replace(reads=reads)
        for reads, level in zip(names, levels, strict=False)
        for half in level.layers
    ]
