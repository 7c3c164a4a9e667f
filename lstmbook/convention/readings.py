"""Arrays without meaning, read as the weights of one layer: every way that their shapes allow.

The sizes ``input`` and ``hidden`` are known from the input/output pair. An array of ``input`` rows
multiplies ``x``, one of ``hidden`` rows multiplies ``h``, one of ``input + hidden`` rows both; what
is left over are biases and peepholes. The columns (or, if transposed, the rows) are blocks of
``hidden``, one for each gate; which gate is which is not asked here but in `hypotheses`.
"""

from collections.abc import Iterable, Iterator, Mapping
from itertools import combinations, permutations, product
from typing import NamedTuple

import numpy as np

from ..cells._activations import Array

__all__ = ["Piece", "Reading", "readings_of"]

COUNTS = (1, 3, 4)  # blocks of the cells: rnn; gru and coupled; lstm
# So many arrays, ways or sets are all tried; of more, those that stand in runs or by turns.
_FEW, _FEW_WAYS, _FEW_SETS = 4, 20, 24


class Piece(NamedTuple):
    """What one stored array holds."""

    name: str
    part: str  # "W_x", "W_h", "W_x W_h", "W_h W_x", "b_x", "b_h", "b_x b_h", "b_hn", "p", …
    blocks: tuple[int, ...]  # which blocks of that part, in its own order
    form: str  # of a kernel: "columns", "rows" (transposed) or "blocks transposed"


class Reading(NamedTuple):
    """One way to read the arrays; block ``k`` of a part is ``part[k]``."""

    pieces: tuple[Piece, ...]
    W_x: Array  # (blocks, input, hidden)
    W_h: Array  # (blocks, hidden, hidden)
    b_x: Array  # (blocks, hidden), zeros if there is none
    b_h: Array  # (blocks, hidden), zeros if there is none
    b_hn: Array  # (hidden,): one bias more, of the candidate's h side; zeros if there is none
    p: Array  # (peepholes, hidden)
    h_aligned: tuple[tuple[int, ...], ...]  # which block of W_h goes with each block of W_x
    b_aligned: tuple[tuple[int, ...], ...]  # which block of b goes with each block of W_x
    biases: int  # 0, 1 or 2
    sided: bool  # makes a difference only where the reset gate acts on the h side


class _Block(NamedTuple):
    """One array in one role, its blocks first: ``(blocks, rows, hidden)``."""

    name: str
    role: str  # "x", "h", "xh", "v"
    values: Array


def readings_of(arrays: Mapping[str, Array], inputs: int, hidden: int) -> Iterator[Reading]:
    """Every reading that uses each of the arrays once.

    Parameters
    ----------
    arrays : mapping of str to array
    inputs, hidden : int
        The sizes of the last axes of the pair.
    """
    both = inputs + hidden
    for form in ("columns", "rows"):
        for taken in _choices(arrays, hidden, {"xh": (both, form)}):
            kernels = [block for block in taken if block.role == "xh"]
            for part, top in (("W_x W_h", inputs), ("W_h W_x", hidden)):
                tops = [k._replace(values=k.values[:, :top]) for k in kernels]
                ends = [k._replace(values=k.values[:, top:]) for k in kernels]
                x, h = (tops, ends) if part == "W_x W_h" else (ends, tops)
                pieces = _pieces(part, kernels, form)
                yield from _with_vectors(pieces, x, h, taken, hidden)
    for x_form, h_form in (
        ("columns", "columns"),
        ("rows", "rows"),
        ("columns", "rows"),
        ("rows", "columns"),
        ("blocks transposed", "blocks transposed"),  # Keras 2's CuDNNLSTM and CuDNNGRU
    ):
        for taken in _choices(arrays, hidden, {"x": (inputs, x_form), "h": (hidden, h_form)}):
            x, h = ([b for b in taken if b.role == role] for role in "xh")
            pieces = _pieces("W_x", x, x_form) + _pieces("W_h", h, h_form)
            yield from _with_vectors(pieces, x, h, taken, hidden)


def _choices(
    arrays: Mapping[str, Array], hidden: int, roles: Mapping[str, tuple[int, str]]
) -> Iterator[tuple[_Block, ...]]:
    """Every way to give each array a role in which its shape fits, with one cell's blocks."""
    options: dict[str, dict[str, Array]] = {}
    flat = len(arrays) > 5 and any(array.ndim == 1 for array in arrays.values())
    for name, array in arrays.items():
        fits = {role: _kernel(array, rows, hidden, form) for role, (rows, form) in roles.items()}
        kernel = array.ndim > 1 and any(values is not None for values in fits.values())
        # Of many arrays, some of them flat, one of more axes that can be a kernel is one.
        fits["v"] = None if kernel and flat else _vectors(array, hidden)
        options[name] = {role: values for role, values in fits.items() if values is not None}
        if not options[name]:
            return
    groups: dict[tuple[tuple[int, ...], tuple[str, ...]], list[str]] = {}
    for name, fit in options.items():
        groups.setdefault((arrays[name].shape, tuple(fit)), []).append(name)
    ways = (_assignments(len(names), fit) for (_, fit), names in groups.items())
    for way in product(*ways):
        role_of = {
            name: role
            for names, given in zip(groups.values(), way, strict=True)
            for name, role in zip(names, given, strict=True)
        }
        taken = tuple(_Block(name, role_of[name], options[name][role_of[name]]) for name in arrays)
        counts = {role: sum(len(b.values) for b in taken if b.role == role) for role in roles}
        if len(set(counts.values())) == 1 and min(counts.values()) in COUNTS:
            yield taken


def _assignments(count: int, roles: tuple[str, ...]) -> Iterable[tuple[str, ...]]:
    """Roles for arrays of one shape: all ways for a few, else in runs or by turns."""
    if len(roles) == 1:
        return [roles * count]
    if len(roles) ** count <= _FEW_WAYS:
        return product(roles, repeat=count)
    found = set()
    for used in range(1, len(roles) + 1):
        for order in permutations(roles, used):
            if count % used == 0:
                found.add(order * (count // used))
            for cuts in combinations(range(1, count), used - 1):
                edges = (0, *cuts, count)
                runs = (
                    (role,) * (end - start)
                    for role, start, end in zip(order, edges, edges[1:], strict=False)
                )
                found.add(sum(runs, ()))
    return sorted(found)


def _kernel(array: Array, rows: int, hidden: int, form: str) -> Array | None:
    """``(blocks, rows, hidden)`` if the array can be such a kernel."""
    if array.ndim == 3 and len(array) == 1:  # ONNX's axis of directions
        array = array[0]
    if array.ndim == 1:
        array = array[None]
        if form == "rows":
            return None
    if array.ndim == 3:  # gates first
        array = array.swapaxes(1, 2) if form == "rows" else array
        if form == "blocks transposed":
            return None
        return array if array.shape[1:] == (rows, hidden) and len(array) in (2, 3, 4) else None
    if array.ndim != 2:
        return None
    array = array.T if form == "rows" else array
    blocks, left = divmod(array.shape[1], hidden)
    if array.shape[0] != rows or left or not 1 <= blocks <= max(COUNTS):
        return None
    values = array.reshape(rows, blocks, hidden).swapaxes(0, 1)
    if form == "blocks transposed":
        values = values.reshape(blocks, hidden, rows).swapaxes(1, 2)
        return values if blocks > 1 else None
    return values


def _vectors(array: Array, hidden: int) -> Array | None:
    """``(blocks, 1, hidden)`` if the array can be biases or peepholes."""
    while array.ndim > 1 and 1 in array.shape:
        array = array.squeeze(array.shape.index(1))
    if array.size % hidden or not 1 <= array.size // hidden <= 2 * max(COUNTS):
        return None
    if array.ndim == 2 and not (len(array) == 2 or array.shape[1] == hidden):
        return None
    return array.reshape(-1, 1, hidden) if array.ndim <= 2 else None


def _pieces(part: str, blocks: list[_Block], form: str = "") -> tuple[Piece, ...]:
    pieces, at = [], 0
    for block in blocks:
        end = at + len(block.values)
        pieces.append(Piece(block.name, part, tuple(range(at, end)), form))
        at = end
    return tuple(pieces)


def _with_vectors(
    pieces: tuple[Piece, ...],
    x: list[_Block],
    h: list[_Block],
    taken: tuple[_Block, ...],
    hidden: int,
) -> Iterator[Reading]:
    """The readings of the vectors as biases and peepholes, beside given kernels."""
    W_x, W_h = (np.concatenate([block.values for block in part]) for part in (x, h))
    vectors = [block for block in taken if block.role == "v"]
    count = len(W_x)
    stacked = x[0].name == h[0].name
    h_aligned = [tuple(range(count))] if stacked else list(_alignments(_widths(x), _widths(h)))
    for b_x, b_h, extra, holes, biases, sided in _splits(vectors, count):
        widths = _widths(b_x or b_h)
        b_pieces = _pieces("b_x", b_x) + _pieces("b_h", b_h)
        if b_x and b_h and b_x[0].name == b_h[0].name:
            first, second = sorted("xh", key=lambda side: b_x[0].role != side)
            half = tuple(range(count))
            b_pieces = (Piece(b_x[0].name, f"b_{first} b_{second}", half + half, ""),)
        yield Reading(
            pieces + b_pieces + _pieces("b_hn", extra) + _pieces("p", holes),
            W_x,
            W_h,
            b_x=_rows(b_x, count, hidden),
            b_h=_rows(b_h, count, hidden),
            b_hn=_rows(extra, 1, hidden)[0],
            p=_rows(holes, 0, hidden),
            h_aligned=tuple(h_aligned),
            b_aligned=tuple(_alignments(_widths(x), widths)) if widths else (tuple(range(count)),),
            biases=biases,
            sided=sided,
        )


class _Split(NamedTuple):
    """Vectors shared out; the last two as in `Reading`."""

    b_x: list[_Block]
    b_h: list[_Block]
    b_hn: list[_Block]
    p: list[_Block]
    biases: int
    sided: bool


def _splits(vectors: list[_Block], count: int) -> Iterator[_Split]:
    """Every way to share out the vectors."""
    holes_of = {1: (0,), 3: (0, 2), 4: (0, 2, 3)}[count]
    for biases, holes in _subsets(vectors, holes_of):
        total = _total(biases)
        if total in (0, count):
            yield _Split(biases, [], [], holes, int(total > 0), False)
            if total and count == 3 and not holes:
                yield _Split([], biases, [], holes, 1, True)
        if total == 2 * count:
            for first, second in _halves(biases, count):
                yield _Split(first, second, [], holes, 2, False)
                if count == 3 and not holes:
                    yield _Split(second, first, [], holes, 2, True)
        if count == 3 and total == 4 and not holes:
            for extra in biases:
                if len(extra.values) == 1:
                    rest = [block for block in biases if block is not extra]
                    yield _Split(rest, [], [extra], holes, 1, True)


def _subsets(
    vectors: list[_Block], holes_of: tuple[int, ...]
) -> Iterator[tuple[list[_Block], list[_Block]]]:
    """Which vectors are biases and which are peepholes, of which there are ``holes_of``."""
    size = len(vectors)
    chosen = [
        holes
        for count in range(min(size, max(holes_of)) + 1)
        for holes in combinations(range(size), count)
        if _total([vectors[k] for k in holes]) in holes_of
    ]
    if len(chosen) > _FEW_SETS:  # many alike: either kind of them stands in one run
        chosen = [holes for holes in chosen if _in_runs(holes, size)]
    for holes in chosen:
        yield (
            [block for k, block in enumerate(vectors) if k not in holes],
            [vectors[k] for k in holes],
        )


def _in_runs(holes: tuple[int, ...], size: int) -> bool:
    rest = tuple(k for k in range(size) if k not in holes)
    return any(not run or run[-1] - run[0] + 1 == len(run) for run in (holes, rest))


def _halves(biases: list[_Block], count: int) -> Iterator[tuple[list[_Block], list[_Block]]]:
    """Two biases: halves of one array, or some arrays and the others."""
    if len(biases) == 1:
        (block,) = biases
        yield (
            [block._replace(role="x", values=block.values[:count])],
            [block._replace(role="h", values=block.values[count:])],
        )
        return
    size = len(biases)
    if size <= _FEW:
        ways = [(0, *rest) for k in range(size - 1) for rest in combinations(range(1, size), k)]
    else:
        ways = [tuple(range(size // 2)), tuple(range(0, size, 2))]
    for way in ways:
        first = [biases[k] for k in way]
        second = [block for k, block in enumerate(biases) if k not in way]
        if _total(first) != count or _total(second) != count:
            continue
        turns = permutations(second) if size <= _FEW else [tuple(second)]
        for turned in turns:
            if _widths(first) == _widths(list(turned)):
                yield first, list(turned)


def _alignments(of: tuple[int, ...], other: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """Ways to pair the blocks of one part with those of another: arrays of like width, or any.

    Blocks inside one array keep their order if both parts have such arrays. The first way is the
    one by the order of the arrays.
    """
    count = sum(of)
    if sorted(of) != sorted(other):
        yield from permutations(range(count))
        return
    starts = [sum(other[:k]) for k in range(len(other))]
    for order in permutations(range(len(other))):
        if all(other[k] == width for k, width in zip(order, of, strict=True)):
            yield tuple(
                starts[k] + j for k, width in zip(order, of, strict=True) for j in range(width)
            )


def _widths(blocks: list[_Block]) -> tuple[int, ...]:
    return tuple(len(block.values) for block in blocks)


def _total(blocks: list[_Block]) -> int:
    return sum(_widths(blocks))


def _rows(blocks: list[_Block], count: int, hidden: int) -> Array:
    """``(count, hidden)``; zeros if there are no blocks."""
    if not blocks:
        return np.zeros((count, hidden))
    rows: Array = np.concatenate([block.values for block in blocks])[:, 0]
    return rows
