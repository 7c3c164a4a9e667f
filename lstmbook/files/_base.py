"""What all readers share: what is found in a file, errors, limits, and the names of layers."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .. import layouts
from ..cells._activations import Array

Shapes = Mapping[str, tuple[int, ...]]  # of arrays, by their names
Take = Callable[[str], Array]  # an array by its name in the file
MAX_BYTES = 2 * 1024**3  # of arrays read from one file; a file may claim anything


class FileError(ValueError):
    """A file that cannot be read or written; says which file, what the trouble is and the mend."""

    def __init__(self, path: Any, trouble: str) -> None:
        super().__init__(f"{path}: {trouble}")
        self.trouble = trouble


class Layer(NamedTuple):
    """One recurrent layer of a file."""

    name: str  # its scope in the file, such as "rnn/basic_lstm_cell"
    cell: str | None  # its name in CELLS; None if it is ambiguous or no cell of ours: see note
    params: Any  # Params of the cell, ready to run; None if the cell is
    layout: str  # the name in LAYOUTS of how the file stores it
    reverse: bool  # the backward half of a bidirectional layer
    note: str = ""  # how the cell is known, or why there is none and what to do; has `assumed` too
    candidates: tuple[str, ...] = ()  # the cells that an ambiguous layer can be
    assumed: tuple[str, ...] = ()  # what the file does not say, and was taken to be so
    # The layers whose output sequences, side by side and nothing else, are its input; None if the
    # file does not say. The two halves of a bidirectional layer are two names.
    reads: tuple[str, ...] | None = None
    between: str = ""  # in words what it reads, where that is neither a model's input nor `reads`


class Aside(NamedTuple):
    """Something in a file that is not a recurrent layer."""

    name: str
    why: str


class Contents(NamedTuple):
    """What is in a file; see `contents`."""

    path: str
    format: str  # in words, such as "TensorFlow checkpoint"
    layers: list[Layer]
    aside: list[Aside]


class Request(NamedTuple):
    """What the caller of `read` asks for; handed to every reader."""

    path: Path
    forget_bias: float | None  # None: not given
    cells: Mapping[str, str | None]
    max_bytes: int
    config: Path | None = None  # of a Keras model, where the caller gives one
    average: bool = False  # of a checkpoint's variables, where there is one
    graph: Any = None  # a _graph.Graph, where there is one
    variables: Mapping[str, str] | None = None  # of a checkpoint: key -> the variable's own name

    def fit(self, size: int, what: str) -> None:
        """Refuse what is larger than the limit, before any memory is taken for it."""
        if size > self.max_bytes:
            raise FileError(
                self.path,
                f"{what} takes {size:,} bytes; the limit is {self.max_bytes:,}. If the file is to "
                f"be trusted, max_bytes={size} reads it",
            )

    def counting(
        self, sizes: Mapping[str, int], get: Callable[[str], Array]
    ) -> Callable[[str], Array]:
        """``get`` for names of known size, which stops when all that it gave is too much."""
        taken = 0

        def take(name: str) -> Array:
            nonlocal taken
            taken += sizes[name]
            self.fit(taken, f"{name}, with what was read before,")
            return floats(get(name))

        return take


def make(
    name: str,
    cell: str,
    layout: str,
    arrays: Mapping[str, Any],
    *,
    reverse: bool = False,
    note: str = "",
    assumed: Iterable[str] = (),
    **options: Any,
) -> Layer:
    """The layer, or one without a cell that says why its arrays do not make it.

    ``assumed`` is what the file does not say; ``options`` go to `layouts.load`.
    """
    arrays = {key: floats(array) for key, array in arrays.items()}
    wrong = [key for key, array in arrays.items() if not np.isfinite(array).all()]
    if wrong:
        why = f"cannot be used: {', '.join(wrong)} has numbers that are NaN or infinite"
        return refuse(name, layout, why, reverse=reverse)
    try:
        params = layouts.load(cell, layout, arrays, **options)
    except layouts.LayoutError as error:
        return refuse(name, layout, f"cannot be read as {cell}: {error}", reverse=reverse)
    return assume(Layer(name, cell, params, layout, reverse, note), *assumed)


def assume(layer: Layer, *what: str) -> Layer:
    """The layer with a word on what its file does not say; without a cell nothing is assumed."""
    note = "; ".join(filter(None, [layer.note, *what]))
    assumed = (*layer.assumed, *what) if layer.cell else ()
    return layer._replace(note=note, assumed=assumed)


def with_start(layer: Layer, words: str) -> Layer:
    """The layer with a note on the initial state that its model gives it, if there is one."""
    note = f"its initial state is {words}, which is not converted" if words else ""
    return layer._replace(note="; ".join(filter(None, [layer.note, note])))


def as_given(cell: str | None) -> str:
    """The note of a layer whose cell the caller of `read` named; empty if none was named."""
    return f"{cell}, as given" if cell else ""


def refuse(name: str, layout: str, note: str, *, reverse: bool = False) -> Layer:
    """A recurrent layer that no cell of ours computes."""
    return Layer(name, None, None, layout, reverse, note)


def ambiguous(
    name: str, layout: str, candidates: Iterable[str], what: str, *, reverse: bool = False
) -> Layer:
    """A layer that the file does not tell apart: ``what`` it can be, and how to say which."""
    candidates = tuple(candidates)
    note = (
        f"ambiguous: {what}. Say which: cells={{{name!r}: {candidates[0]!r}}}, "
        f"or None to leave it aside"
    )
    return Layer(name, None, None, layout, reverse, note, candidates)


def floats(given: Any) -> Array:
    """Weights as NumPy computes with them: half precision becomes float32, without loss."""
    array: Array = np.asarray(given)
    if array.dtype == np.float16 or array.dtype.name == "bfloat16":
        return array.astype(np.float32)
    native: Array = array.astype(array.dtype.newbyteorder("="), copy=False)
    return native


def natural(name: str) -> list[Any]:
    """Sorts ``cell_10`` behind ``cell_2``."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]


def unused(name: str, taken: set[str]) -> str:
    """The name, or the first of ``name_1``, ``name_2`` that is not taken; it is taken then."""
    ends = ("", *(f"_{k}" for k in range(1, len(taken) + 1)))
    found = next(name + end for end in ends if name + end not in taken)
    taken.add(found)
    return found


def joined(path: Path, tables: Iterable[Mapping[str, Array]]) -> dict[str, Array]:
    """The arrays of all layers in one table, as a file has them; no name may stand twice."""
    table: dict[str, Array] = {}
    for more in tables:
        twice = ", ".join(sorted(table.keys() & more))
        if twice:
            raise FileError(
                path, f"two layers would both have {twice}; layer._replace(name=…) renames one"
            )
        table |= more
    return table


def no_floats(dtype: object, shape: Iterable[int]) -> str:
    """Why an array is not among the weights, such as ``int64 (3,): no floats``."""
    return f"{str(dtype).lower()} {tuple(shape)}: no floats"


def shapes_in_words(shapes: Mapping[str, tuple[int, ...]]) -> str:
    """``kernel (8, 16), bias (16,)``."""
    return ", ".join(f"{name} {tuple(shape)}" for name, shape in shapes.items())


def need(module: str, extra: str, what: str) -> ImportError:
    """The error for a library that is not installed."""
    return ImportError(
        f"{what} needs {module}, which is not installed here; pip install 'lstmbook[{extra}]' "
        "brings it"
    )


def first_line(error: BaseException) -> str:
    """What an error says, cut short: some libraries write pages."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]


Reader = Callable[[Request], tuple[list[Layer], list[Aside]]]
