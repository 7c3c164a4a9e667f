"""Whole runs in compiled loops, forward and back, by Numba (the extra ``lstmbook[fast]``).

A run is one call, so NumPy's price per operation is not paid. The loops are generated from the
cells' pages (`generate`); here is what they are given: weights packed for the products, and to each
thread a part of the batch, so that none waits for another.

Forward, ``loop(weights, xs, lengths, hs, z, states)``
    The slots of a step are a row of ``z``, side by side. It is filled with ``x W_x + b``, the
    products with ``h`` are added, and values are computed in their place. ``z`` has room for some
    steps or for all; a part of the state is ``(states, batch, n)``, where a state may take the
    place of the one before the last. The loop returns the number of steps made.

Back, ``loop(weights, xs, lengths, d_hs, d_xs, z, states, d_states, gradients)``
    ``z`` and the states are those of a run that had room for all. ``d_states``, ``(2, batch, n)``
    each, are in turns the gradients at a state and at the state before; the loop returns the place
    of the last. Gradients of weights are added to, a block of steps at a time; their last rows are
    the sums for the biases. ``d_xs`` may be empty.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numba import config
from numba.misc.appdirs import AppDirs

from . import cells_compiled, loops
from .generate import HEADER, mark, source
from .loops import pack, padded
from .plan import Back, Forward
from .program import weight
from .text_rows import vectors_of

__all__ = ["Loops", "run", "threads", "vjp"]

WORTH_A_THREAD = 2**24  # multiplications with the state: a third of a millisecond, or more


def threads() -> int:
    """As many as Numba would take: the environment's NUMBA_NUM_THREADS, or one per processor."""
    count: int = config.NUMBA_NUM_THREADS
    return count


class Loops:
    """The loops of a planned cell, and what they are given."""

    def __init__(self, name: str | None, plan: Forward, back: Back) -> None:
        self.plan = plan
        text = source(name or "cell", plan, back)
        if name and cells_compiled.MARKS.get(name) == mark(text):
            space = vars(cells_compiled)
        else:  # a reader's own cell, or a page that has changed
            name, space = name or "cell", vars(_compiled_here(text))
        self.forward, self.back = space[f"{name}_forward"], space[f"{name}_back"]
        self.step: Any = space[f"{name}_stream"]
        self.alone: Any = space.get(f"{name}_alone")
        self.inputs = len(plan.inputs)
        self.groups = [*plan.inputs, *(group for groups in plan.groups for group in groups)]
        self.vectors = vectors_of(plan)
        fields = list(plan.program.params)
        self.widths = [fields.index(slot.products[0].args[1].value[0]) for slot in plan.slots]
        self.sides = [_block([matrix.value for matrix in group.matrices]) for group in self.groups]
        self.biases = list(self._biases())

    def _biases(self) -> Iterator[tuple[int, int, int, str, Any]]:
        """Runs of slots and their biases: first and last slot, the group that sums them, the field,
        and its gates: a slice, or None.
        """
        of = [
            next(k for k, g in enumerate(self.groups) if 0 <= slot - g.first < len(g.matrices))
            for slot in range(len(self.plan.slots))
        ]
        first = 0
        while first < len(of):
            values = [bias.value for bias in self.plan.slots[first].biases]
            last = first
            while len(values) == last + 1 - first and last + 1 < len(of):  # one for each so far
                more = [*values, *(bias.value for bias in self.plan.slots[last + 1].biases)]
                if of[last + 1] != of[first] or len(more) != len(values) + 1 or not _block(more):
                    break
                values, last = more, last + 1
            if block := _block(values) if last > first else None:
                yield first, last, of[first], *block
            else:
                for field, gate in values:
                    gates = None if gate is None else slice(gate, gate + 1)
                    yield first, first, of[first], field, gates
            first = last + 1

    def starts(self, params: Any) -> tuple[int, ...]:
        """Where each slot starts in a row, and where the last ends."""
        at = [0]
        for field in self.widths:
            at.append(at[-1] + params[field].shape[-1])
        return tuple(at)

    def side(self, params: Any, k: int) -> Any:
        """The matrices of a group as ``(gates, m, n)``, not copied where they lie side by side."""
        if block := self.sides[k]:
            field, gates = block
            array = getattr(params, field)
            return array[None] if gates is None else array[gates]
        arrays = [weight(params, matrix) for matrix in self.groups[k].matrices]
        if len({array.shape[1] for array in arrays}) == 1:
            return np.stack(arrays)
        return np.concatenate(arrays, axis=1)[None]

    def weights(self, params: Any, at: tuple[int, ...]) -> tuple[Any, ...]:
        """The weights forward; the bias is as long as a row, which the products write into."""
        packed = [pack(self.side(params, k)) for k in range(len(self.groups))]
        ends = [
            at[g.first] + W.shape[0] * W.shape[2] for g, W in zip(self.groups, packed, strict=True)
        ]
        row = np.zeros(max(ends), packed[0].dtype)
        for first, last, _, field, gates in self.biases:
            array = getattr(params, field)
            row[at[first] : at[last + 1]] += (array if gates is None else array[gates]).ravel()
        return *packed, row, *self._vectors(params), at

    def weights_back(self, params: Any, at: tuple[int, ...]) -> tuple[Any, ...]:
        """The weights on the way back: transposed, the slots one below the other."""
        sides = (self.side(params, k).swapaxes(1, 2) for k in range(len(self.groups)))
        packed = [pack(W.reshape(1, -1, W.shape[2])) for W in sides]
        return *packed, *self._vectors(params), at

    def _vectors(self, params: Any) -> list[Any]:
        return [np.array(weight(params, node)) for node in self.vectors]

    def no_gradients(self, params: Any, at: tuple[int, ...]) -> tuple[Any, ...]:
        """Zeros to add to, with a row more for the biases."""
        zeros = []
        for group in self.groups:
            columns = padded(at[group.first + len(group.matrices)] - at[group.first], params[0])
            rows = weight(params, group.matrices[0]).shape[0] + 1
            zeros.append(np.zeros((rows, columns), params[0].dtype))
        zeros += [np.zeros_like(weight(params, node)) for node in self.vectors]
        return tuple(zeros)

    def d_params(self, params: Any, at: tuple[int, ...], gradients: list[Any]) -> Any:
        """The gradients as Params."""
        sums = type(params)(*map(np.zeros_like, params))
        for k, (group, d_W) in enumerate(zip(self.groups, gradients, strict=False)):
            if (block := self.sides[k]) and block[1] is not None:
                total = getattr(sums, block[0])[block[1]]  # (gates, m, n)
                gates, m, n = total.shape
                total += d_W[:-1, : gates * n].reshape(m, gates, n).swapaxes(0, 1)
                continue
            for slot, matrix in enumerate(group.matrices, group.first):
                start = at[slot] - at[group.first]
                weight(sums, matrix)[...] += d_W[:-1, start : start + at[slot + 1] - at[slot]]
        for first, last, k, field, gates in self.biases:
            start = at[self.groups[k].first]
            total = getattr(sums, field)
            total = total if gates is None else total[gates]
            found = gradients[k][-1, at[first] - start : at[last + 1] - start]
            total += found.reshape(total.shape)
        for node, d in zip(self.vectors, gradients[len(self.groups) :], strict=True):
            weight(sums, node)[...] += d
        return sums


def _block(values: list[tuple[str, int | None]]) -> tuple[str, slice | None] | None:
    """The field and the gates of leaves that lie side by side in it; None if they do not."""
    fields, gates = {field for field, _ in values}, [gate for _, gate in values]
    if len(fields) != 1:
        return None
    if gates == [None]:
        return fields.pop(), None
    first = gates[0]
    if first is None or gates != list(range(first, first + len(gates))):
        return None
    return fields.pop(), slice(first, first + len(gates))


@lru_cache(maxsize=64)
def _compiled_here(text: str) -> Any:
    """A module of loops for a reader's own cell, in a folder of the user's cache, so that the next
    process finds what Numba has compiled; where none can be written, in this process alone.
    """
    name = f"lstmbook_cell_{mark(text + cells_compiled.MARKS['loops.py'])}"
    text = HEADER.replace("from .loops", f"from {__package__}.loops") + "\n\n" + text
    try:
        folder = Path(config.CACHE_DIR or AppDirs("lstmbook").user_cache_dir) / "cells"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = folder / f"{name}.py"
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            part = path.with_name(f"{name}.{os.getpid()}.part")
            part.write_text(text, encoding="utf-8")
            os.replace(part, path)
        where = str(path)
    except OSError:
        text = text.replace("    compiled,\n", "    compiled_here as compiled,\n")
        where = "<generated loops>"
    module = ModuleType(name)
    sys.modules[name] = module
    exec(compile(text, where, "exec"), vars(module))
    return module


def stream_room(
    cell_loops: Loops, params: Any, state: Any, x_size: int
) -> tuple[Any, Any, list[Any]]:
    """All that a stream needs in one piece: the memory, its sizes, and views of its last arrays:
    ``x (batch, input)``, ``h (batch, n)``, and the parts of the state, ``(2, batch, n)``.
    """
    at, batch = cell_loops.starts(params), len(state[0])
    *weights, _ = cell_loops.weights(params, at)
    width = len(weights[len(cell_loops.groups)])
    shapes = [(batch, width), (batch, x_size), state[0].shape]
    arrays = [*weights, *map(np.zeros, shapes), *(np.stack([part, part]) for part in state)]
    sizes, end = [batch, *at], 0
    room = np.zeros(sum(array.size + 16 for array in arrays), weights[0].dtype)
    views = []
    for array in arrays:
        sizes += [end, end + array.size, *array.shape]
        views.append(room[end : end + array.size].reshape(array.shape))
        views[-1][...] = array
        end += (array.size + 15) // 16 * 16  # a cache line, or two
    return room, np.array(sizes), views[len(weights) + 1 :]


def run_alone(
    cell_loops: Loops, params: Any, xs: Any, state: Any, hs: Any, time_major: bool
) -> Any:
    """A run in this thread with all steps: nothing is arranged here. The arrays are contiguous and
    writable; ``xs`` and ``hs`` as the caller has them; ``state`` is overwritten and returned.
    """
    first, second, x_size = xs.shape
    steps, rows = (first, (1, second)) if time_major else (second, (second, 1))
    inputs, outputs = xs.reshape(-1, x_size), hs.reshape(-1, hs.shape[2])
    cell_loops.alone(*params, inputs, outputs, *state, *rows, steps)
    return state


def run(loops: Loops, params: Any, xs: Any, state: Any, lengths: Any, hs: Any) -> Any:
    """Write the outputs into ``hs``, which is zero, and return the final state.

    All is time first, checked and of one dtype.
    """
    return _forward(loops, params, _in_rows(xs), state, lengths, hs, keep=False)[0]


def vjp(loops: Loops, params: Any, xs: Any, state: Any, lengths: Any, hs: Any) -> Any:
    """`run`, and the way back from the gradients at what it gives to those at what it takes."""
    xs = _in_rows(xs)
    final, kept = _forward(loops, params, xs, state, lengths, hs, keep=True)

    def back(d_hs: Any, d_state: Any, inputs: bool) -> Any:
        return _back(loops, params, xs, kept, _in_rows(d_hs), d_state, inputs)

    return final, back


def _forward(
    cell_loops: Loops, params: Any, xs: Any, state: Any, lengths: Any, hs: Any, keep: bool
) -> tuple[Any, Any]:
    """The final state, and what the loop has used and written for each part of the batch."""
    at = cell_loops.starts(params)
    weights, dtype = cell_loops.weights(params, at), xs.dtype
    width = len(weights[len(cell_loops.groups)])
    x, out, lengths = _rows(xs), _rows(hs), lengths.astype(np.int64)
    final = type(state)(*[np.empty(first.shape, dtype) for first in state])

    def part(rows: slice) -> Any:
        batch = rows.stop - rows.start
        steps, places = (len(xs), len(xs) + 1) if keep else (loops.steps_at_once(batch), 2)
        z = np.empty((steps * batch, width), dtype)
        states = tuple([np.empty((places, batch, first.shape[1]), dtype) for first in state])
        for each, first in zip(states, state, strict=True):
            each[0] = first[rows]
        steps_of_part = lengths[rows]
        inputs, outputs = _rows_from(x, rows.start), _rows_from(out, rows.start)
        end = cell_loops.forward(weights, inputs, steps_of_part, outputs, z, states)
        for each, last in zip(states, final, strict=True):
            last[rows] = each[end % places]
        return rows, steps_of_part, z, states

    each = sum(
        weight(params, m).size for g in cell_loops.groups[cell_loops.inputs :] for m in g.matrices
    )
    work, batch = each * len(xs), xs.shape[1]
    count = max(1, min(threads(), work * batch // WORTH_A_THREAD, (batch + 1) // 2))
    ends = [batch * n // count for n in range(count + 1)]
    return final, _in_threads(part, [slice(*pair) for pair in pairwise(ends)])


def _back(
    cell_loops: Loops, params: Any, xs: Any, kept: Any, d_hs: Any, d_state: Any, inputs: bool
) -> tuple[Any, Any, Any]:
    """The gradients at params, xs (None without ``inputs``) and the first state."""
    at = cell_loops.starts(params)
    d_xs = np.zeros_like(xs if inputs else xs[:0])
    weights = cell_loops.weights_back(params, at)
    all_rows = [_rows(xs), _rows(d_hs), _rows(d_xs)]
    d_first = [np.empty_like(part) for part in d_state]

    def part(piece: Any) -> Any:
        rows, lengths, z, states = piece
        x, d_out, d_x = (_rows_from(array, rows.start) for array in all_rows)
        gradients = cell_loops.no_gradients(params, at)
        d_states = []
        for d in d_state:  # a product writes into them
            both = np.zeros((2, len(lengths), padded(d.shape[1], d)), d.dtype)
            both[0, :, : d.shape[1]] = d[rows]
            d_states.append(both)
        last = cell_loops.back(
            weights, x, lengths, d_out, d_x, z, states, tuple(d_states), gradients
        )
        for both, first in zip(d_states, d_first, strict=True):
            first[rows] = both[last, :, : first.shape[1]]
        return gradients

    found = _in_threads(part, kept)
    gradients = [sum(each) for each in zip(*found, strict=True)]
    d_params = cell_loops.d_params(params, at, gradients)
    return d_params, d_xs if inputs else None, type(d_state)(*d_first)


def _in_threads(do: Any, parts: list[Any]) -> list[Any]:
    """``do(part)`` for every part, each in a thread; the first in this one."""
    first, *others = parts
    if not others:
        return [do(first)]
    with ThreadPoolExecutor(len(others)) as pool:
        tasks = [pool.submit(do, part) for part in others]
        return [do(first), *(task.result() for task in tasks)]


def _in_rows(array: Any) -> Any:
    """``(time, batch, features)``, copied if neither batch nor time comes first in memory."""
    return array if array.swapaxes(0, 1).flags.c_contiguous else np.ascontiguousarray(array)


def _rows(array):
    """The rows of what is `_in_rows`; what is read-only is copied: to the compiler it would be of
    another type, for which it would compile again.
    """
    (steps, batch, features), time_first = array.shape, array.flags.c_contiguous
    array = (array if time_first else array.swapaxes(0, 1)).reshape(-1, features)
    if not array.flags.writeable:
        array = array.copy()
    return array, 0, *((1, batch) if time_first else (steps, 1))


def _rows_from(rows, s):
    """The rows without the sequences before this one."""
    array, first, per_sequence, per_step = rows
    return array, first + s * per_sequence, per_sequence, per_step
