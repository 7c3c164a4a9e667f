"""How each framework stores each cell: one table, and the three functions that read it.

`load` brings a framework's arrays to our Params, `export` takes Params to a framework's arrays,
and `pull_back` brings a framework's gradients to ours. Adding a framework is adding rows to the
table, which is in `table`; what a row says is told there.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ..cells import CELLS, Cell, check_params, find, name_of
from ..cells._activations import Array
from .table import LAYOUTS, Layout, Stored

__all__ = [
    "LAYOUTS",
    "Described",
    "Layout",
    "LayoutError",
    "Stored",
    "describe",
    "export",
    "load",
    "pull_back",
]


class LayoutError(ValueError):
    """A layout cannot hold a cell, or arrays are not what the layout says."""


def load(
    cell: Cell | str,
    layout: str,
    arrays: Mapping[str, ArrayLike],
    *,
    forget_bias: float = 1.0,
    layer: int | None = None,
    reverse: bool | None = None,
) -> Any:
    """Params of a cell from the arrays of a framework.

    Parameters
    ----------
    cell : module of `lstmbook.cells` or its name
    layout : str
        A name in `LAYOUTS`.
    arrays : mapping of str to array
        The framework's own names; for ``tf1`` those below the cell's scope, such as ``kernel``.
        Biases that a layer of Keras, ONNX or PyTorch was made without are zero.
    forget_bias : float
        What the layout's framework adds to the forget gate at run time, so that no file holds it
        (``tf1``, ``tf1_block``, ``haiku``). It becomes part of ``b``.
    layer, reverse : int and bool, optional
        Which layer, and whether its backward half, where the arrays hold several: ``torch`` has
        names such as ``weight_ih_l1_reverse``, ``onnx`` an axis of directions. If neither is
        given, there must be one alone. Other layouts hold one at a time and do not look at them.

    Returns
    -------
    Params
        In the dtype of the arrays.

    Raises
    ------
    LayoutError
        If the layout cannot hold the cell, or a name or shape is not what it should be.
    """
    name, row, table = _row(cell, layout)
    table, arrays = _one(name, layout, row, table, arrays, layer, reverse)
    blocks: dict[tuple[str, str], Array] = {}
    for stored, part, token, block in _read(name, layout, row, table, arrays):
        if token == ".":
            continue
        if row.adds_forget_bias and (part, token) == ("b_x", "f"):
            block = block + block.dtype.type(forget_bias)
        gate, block = token[-1], -block if token[0] == "-" else block
        known = blocks.get((part, gate), block)
        if known is not block and not np.allclose(known, block, 1e-5, 1e-6, equal_nan=True):
            raise LayoutError(
                f"{stored.name} is not that of a coupled cell: the block of the input gate is "
                f"not the negated block of the forget gate. It is an uncoupled cell"
            )
        blocks[part, gate] = known
    own = {("b_h", "n")} if "b_hn" in CELLS[name].Params._fields else set()
    for part, gate in [key for key in blocks if key[0] == "b_h" and key not in own]:
        second = blocks.pop((part, gate))  # two biases that only add are one
        blocks["b_x", gate] = blocks["b_x", gate] + second
    return _assemble(name, blocks)


def export(
    cell: Cell | str,
    layout: str,
    params: Any,
    *,
    forget_bias: float = 1.0,
    layer: int | None = 0,
    reverse: bool = False,
) -> dict[str, Array]:
    """The arrays of a framework from Params of a cell; the inverse of `load`.

    Parameters are those of `load`. ``layer`` and ``reverse`` make the names of ``torch``; with
    ``layer=None`` they are those of ``nn.LSTMCell``, such as ``weight_ih``. What the framework
    keeps twice (a second bias that only adds to the first) is written once and zero.

    Returns
    -------
    dict of str to array
        Fresh arrays in the dtype of ``params``, in the framework's own order.

    Raises
    ------
    LayoutError
        If the layout cannot hold the cell: why, and what is nearest.
    """
    name, row, table = _row(cell, layout)
    params = check_params(name, params)
    input_size, hidden = params.W_x.shape[1:]
    blocks = _blocks(name, params)
    if (
        not any("b_h" in stored.holds for stored in table)
        and blocks.get(("b_h", "n"), np.zeros(1)).any()
    ):
        raise LayoutError(
            f"layout {layout!r} has no place for b_hn, the bias inside the reset gate, and here it "
            f"is not zero. {_others(name, layout)}"
        )
    arrays = {}
    for stored in _named(row, table, _end(layer, reverse)):
        matrix = np.zeros(_shape(stored, input_size, hidden), params.b.dtype)
        for part, token, rows, columns in _split(stored, input_size, hidden):
            block = blocks.get((part, token[-1]))
            if block is None:  # a bias or a gate that we have not
                continue
            if row.adds_forget_bias and (part, token) == ("b_x", "f"):
                block = block - params.b.dtype.type(forget_bias)
            if row.blocks_transposed:
                block = block.T.reshape(block.shape)
            matrix[rows, columns] = -block if token[0] == "-" else block
        arrays[stored.name] = _as_stored(row, stored, matrix)
    return arrays


def pull_back(
    cell: Cell | str,
    layout: str,
    d_arrays: Mapping[str, ArrayLike],
    *,
    layer: int | None = None,
    reverse: bool | None = None,
) -> Any:
    """Gradients with respect to our Params from gradients with respect to a framework's arrays.

    Gradients do not convert like weights: this is the transpose of `export`, so where one of our
    numbers is stored twice, its two gradients add (with the sign it is stored with).

    Parameters
    ----------
    cell, layout, layer, reverse : as in `load`
    d_arrays : mapping of str to array
        The gradient of the loss at each array that `export` writes.

    Returns
    -------
    Params
        The gradient of the loss at each of our arrays.
    """
    name, row, table = _row(cell, layout)
    table, d_arrays = _one(name, layout, row, table, d_arrays, layer, reverse)
    blocks: dict[tuple[str, str], Array] = {}
    for _, part, token, block in _read(name, layout, row, table, d_arrays):
        key = part, token[-1]
        blocks[key] = blocks.get(key, 0) + (-block if token[0] == "-" else block)
    return _assemble(name, blocks)


class Described(NamedTuple):
    """One stored array in words; see `describe`."""

    name: str
    shape: str  # such as "(input + hidden, 4 * hidden)"
    rows: str  # such as "x, h"
    blocks: str  # such as "i g f o"


def describe(cell: Cell | str, layout: str) -> list[Described]:
    """What a framework stores for a cell, array by array, in words.

    ``rows`` says what the rows of the kernel multiply (or that it is a bias or a peephole), with
    ``(T)`` where each block holds the numbers of its own transpose. ``blocks`` are the gates in
    the order of the columns; a minus means the negated block, a dot one that the framework does
    not read.

    Raises
    ------
    LayoutError
        If the layout cannot hold the cell.

    Examples
    --------
    >>> describe("lstm", "tf1")[0]
    Described(name='kernel', shape='(input + hidden, 4 * hidden)', rows='x, h', blocks='i g f o')
    """
    _, row, table = _row(cell, layout)
    turned = " (T)" if row.blocks_transposed else ""
    words = {"W_x": f"x{turned}", "W_h": f"h{turned}", "b_x": "bias", "b_h": "second bias"}
    words["p"] = "peephole"
    return [
        Described(
            stored.name,
            _shape_words(row, stored),
            ", ".join(words[part] for part in stored.holds.split()),
            " ".join(_tokens(stored.gates)),
        )
        for stored in table
    ]


# Params <-> blocks: {("W_x", "f"): (input, hidden), ("b_x", "f"): (1, hidden), …}


def _letters(cell: Cell, field: str) -> str:
    letters: dict[str, str] = {"p": getattr(cell, "PEEPHOLES", ""), "b_hn": "n"}
    return letters.get(field, cell.GATES)


def _part(field: str) -> str:
    return {"b": "b_x", "b_hn": "b_h"}.get(field, field)


def _blocks(name: str, params: Any) -> dict[tuple[str, str], Array]:
    cell, hidden = CELLS[name], params.b.shape[-1]
    blocks: dict[tuple[str, str], Array] = {}
    for field, array in zip(params._fields, params, strict=True):
        letters = _letters(cell, field)
        for gate, block in zip(letters, array.reshape(len(letters), -1, hidden), strict=True):
            blocks[_part(field), gate] = block
    return blocks


def _assemble(name: str, blocks: dict[tuple[str, str], Array]) -> Any:
    """The inverse of `_blocks`; a bias that the framework has not is zero."""
    cell = CELLS[name]
    zero = np.zeros_like(blocks["W_h", cell.GATES[0]][:1])
    fields: dict[str, Array] = {}
    for field in cell.Params._fields:
        array = np.stack([blocks.get((_part(field), gate), zero) for gate in _letters(cell, field)])
        fields[field] = array if field.startswith("W") else array[:, 0]
    if "b_hn" in fields:
        fields["b_hn"] = fields["b_hn"][0]
    return cell.Params(**fields)


# Blocks <-> stored arrays


def _tokens(gates: str) -> list[str]:
    return re.findall("-?.", gates)


def _heights(input_size: int, hidden: int) -> dict[str, int]:
    return {"W_x": input_size, "W_h": hidden, "b_x": 1, "b_h": 1, "p": 1}


def _shape(stored: Stored, input_size: int, hidden: int) -> tuple[int, int]:
    heights = _heights(input_size, hidden)
    return sum(heights[part] for part in stored.holds.split()), len(_tokens(stored.gates)) * hidden


def _split(stored: Stored, input_size: int, hidden: int) -> Iterator[tuple[str, str, slice, slice]]:
    """Which rows and columns of a stored matrix hold which part of which gate."""
    heights, top = _heights(input_size, hidden), 0
    for part in stored.holds.split():
        rows = slice(top, top + heights[part])
        for k, token in enumerate(_tokens(stored.gates)):
            yield part, token, rows, slice(k * hidden, (k + 1) * hidden)
        top = rows.stop


def _is_vector(row: Layout, stored: Stored) -> bool:
    return stored.holds in ("b_x", "b_h", "p") or (row.flat_bias and stored.holds == "b_x b_h")


def _as_stored(row: Layout, stored: Stored, matrix: Array) -> Array:
    if _is_vector(row, stored):
        matrix = matrix.reshape(-1)
    array = np.ascontiguousarray(matrix.T) if row.transposed else matrix
    return array[None] if row.directions else array


def _read(
    name: str,
    layout: str,
    row: Layout,
    table: tuple[Stored, ...],
    arrays: Mapping[str, ArrayLike],
) -> Iterator[tuple[Stored, str, str, Array]]:
    """Every block of every stored array as ``(stored, part, gate token, block)``, checked."""
    matrices = _matrices(name, layout, row, table, arrays)
    first, matrix = next((s, m) for s, m in matrices if s.holds.startswith("W_x"))
    hidden = matrix.shape[1] // len(_tokens(first.gates))
    input_size = len(matrix) - (hidden if first.holds == "W_x W_h" else 0)
    if input_size < 1:
        raise LayoutError(
            f"{layout} {name}: {first.name} has shape {np.shape(arrays[first.name])}, which leaves "
            f"no row for the input: expected {_shape_words(row, first)} with hidden = {hidden}"
            f"{_transposed_mend(matrix.T, first)}"
        )
    for stored, matrix in matrices:
        expected = _shape(stored, input_size, hidden)
        if matrix.shape != expected:
            raise LayoutError(
                f"{layout} {name}: {stored.name} has shape {np.shape(arrays[stored.name])}; "
                f"expected {_shape_words(row, stored)} with input = {input_size} and "
                f"hidden = {hidden}, which {first.name} {np.shape(arrays[first.name])} has"
            )
        for part, token, rows, columns in _split(stored, input_size, hidden):
            block = matrix[rows, columns]
            if row.blocks_transposed:
                block = block.reshape(block.shape[::-1]).T
            yield stored, part, token, block


# One layer and one direction out of many


def _end(layer: int | None, reverse: bool) -> str:
    """How PyTorch ends the names of one layer; those of a cell alone have no end."""
    return "" if layer is None else f"_l{layer}{'_reverse' if reverse else ''}"


def _named(row: Layout, table: tuple[Stored, ...], end: str) -> tuple[Stored, ...]:
    """The table with the names of one layer."""
    if not row.layers:
        return table
    return tuple(stored._replace(name=stored.name.replace("_l0", end)) for stored in table)


def _one(
    name: str,
    layout: str,
    row: Layout,
    table: tuple[Stored, ...],
    arrays: Mapping[str, ArrayLike],
    layer: int | None,
    reverse: bool | None,
) -> tuple[tuple[Stored, ...], Mapping[str, ArrayLike]]:
    """The table and the arrays of the layer and the direction that are asked for."""
    if row.directions and reverse is not None:
        axes = {key: np.asarray(array) for key, array in arrays.items()}
        two = {key: array[[int(reverse)]] for key, array in axes.items() if array.shape[:1] == (2,)}
        return table, axes | two
    if not row.layers:
        return table, arrays
    stems = {stored.name.removesuffix("_l0") for stored in table}
    split = {key: re.fullmatch(r"(.*?)(_l\d+(?:_reverse)?)?", key) for key in arrays}
    ends = {key: found[2] or "" for key, found in split.items() if found and found[1] in stems}
    there = sorted(set(ends.values()))
    asked = layer is not None or reverse is not None
    end = _end(layer or 0, bool(reverse)) if asked or not there else there[0]
    if there == [""] and end == "_l0":
        end = ""
    if there and (end not in there or (len(there) > 1 and not asked)):
        what = f"there is no {end}" if asked else "these are several layers"
        raise LayoutError(
            f"{layout} {name}: {what}; the names end in {', '.join(there)}. "
            "layer=0 picks _l0, layer=1 with reverse=True picks _l1_reverse"
        )
    return _named(row, table, end), {k: a for k, a in arrays.items() if ends.get(k, end) == end}


# Checks


def _row(cell: Cell | str, layout: str) -> tuple[str, Layout, tuple[Stored, ...]]:
    name = name_of(find(cell))
    if layout not in LAYOUTS:
        raise LayoutError(f"there is no layout {layout!r}; the layouts are {', '.join(LAYOUTS)}")
    row = LAYOUTS[layout]
    if name not in row.cells:
        raise LayoutError(
            f"layout {layout!r} cannot hold the cell {name!r}: {row.cannot[name]}. "
            f"{_others(name, layout)}"
        )
    return name, row, row.cells[name]


def _others(name: str, layout: str) -> str:
    others = [other for other, row in LAYOUTS.items() if name in row.cells and other != layout]
    return f"Layouts that have {name}: {', '.join(others)}"


def _matrices(
    name: str,
    layout: str,
    row: Layout,
    table: tuple[Stored, ...],
    arrays: Mapping[str, ArrayLike],
) -> list[tuple[Stored, Array]]:
    """The stored arrays as matrices of ``(rows, gates * hidden)``; names, dtypes, axes checked."""
    names = [stored.name for stored in table]
    without = tuple(stored for stored in table if not stored.holds.startswith("b"))
    if row.bias_optional and set(arrays) == _names(without):
        table = without
    elif set(arrays) != set(names):
        raise LayoutError(
            f"{layout} {name} is stored as {', '.join(names)}; "
            f"got {', '.join(sorted(arrays)) or 'nothing'}{_names_mend(set(arrays), name, layout)}"
        )
    matrices = []
    for stored in table:
        array = np.asarray(arrays[stored.name])
        got = f"{layout} {name}: {stored.name} has"
        expected = f"expected {_shape_words(row, stored)}"
        if array.dtype.kind not in "fc":
            raise LayoutError(f"{got} dtype {array.dtype}; expected floats")
        vector = _is_vector(row, stored)
        if array.ndim != (1 if vector else 2) + row.directions or not array.size:
            raise LayoutError(f"{got} shape {array.shape}; {expected}")
        if row.directions and len(array) != 1:
            raise LayoutError(
                f"{got} shape {array.shape}; {expected}: one direction at a time, "
                f"reverse=False or reverse=True"
            )
        matrix = array[0] if row.directions else array
        parts = len(stored.holds.split())
        count = len(_tokens(stored.gates)) * (parts if vector else 1)
        matrix = matrix[None] if vector else matrix.T if row.transposed else matrix
        if matrix.shape[1] % count:
            raise LayoutError(
                f"{got} shape {array.shape}; {expected}, and {matrix.shape[1]} is no multiple of "
                f"{count}{_transposed_mend(matrix.T, stored)}"
            )
        matrices.append((stored, matrix.reshape(parts, -1) if vector else matrix))
    return matrices


def _names(table: Iterable[Stored]) -> set[str]:
    return {stored.name for stored in table}


def _names_mend(names: set[str], name: str, layout: str) -> str:
    """Why the names may be others than expected."""
    own = [cell for cell, table in LAYOUTS[layout].cells.items() if names == _names(table)]
    if own:
        return f". These are the names of {' or '.join(own)}"
    others = [o for o, row in LAYOUTS.items() if names == _names(row.cells.get(name, ()))]
    if others:
        return f". These are the names of {name} in the layout {' or '.join(others)}"
    if any("projection" in key or "weight_hr" in key for key in names):
        return ". A projection of the output is in no cell here"
    if any(re.search(r"[/.]|:0$", key) for key in names):
        return ". Names stand below the cell's scope, without it and without ':0'"
    return ""


def _shape_words(row: Layout, stored: Stored) -> str:
    count = len(_tokens(stored.gates))
    rows = {"W_x": "input", "W_h": "hidden", "W_x W_h": "input + hidden", "b_x b_h": "2"}
    if _is_vector(row, stored):
        count *= len(stored.holds.split())
        words = ["hidden" if count == 1 else f"{count} * hidden"]
    else:
        words = [rows[stored.holds], "hidden" if count == 1 else f"{count} * hidden"]
    if row.transposed:
        words.reverse()
    if row.directions:
        words.insert(0, "1")
    return f"({', '.join(words)}{',' if len(words) == 1 else ''})"


def _transposed_mend(other: Array, stored: Stored) -> str:
    rows, columns = other.shape
    count = len(_tokens(stored.gates))
    fits = columns % count == 0 and (rows > columns // count or stored.holds != "W_x W_h")
    return ". Is it transposed?" if fits and rows > 1 else ""
