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

from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
from numba import config

from . import cells_compiled, loops
from .generate import HEADER, mark, source
from .loops import locked, pack, padded
from .plan import Back, Forward, Group
from .program import Node, weight

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
        self.step = space[f"{name}_stream"]
        self.inputs = len(plan.inputs)
        self.groups = [*plan.inputs, *(group for groups in plan.groups for group in groups)]
        used = [node for segment in plan.segments for node in segment]
        leaves = [a for node in (*used, plan.output, *plan.state) for a in (node, *node.args)]
        self.vectors = list(dict.fromkeys(n for n in _ordered(leaves) if n.op == "vector"))
        # The group whose sums are those of a slot's biases
        self.sums = [
            next(
                k
                for k, group in enumerate(self.groups)
                if group.first <= slot < group.first + len(group.matrices)
            )
            for slot in range(len(plan.slots))
        ]

    def starts(self, params: Any) -> tuple[int, ...]:
        """Where each slot starts in a row, and where the last ends."""
        at = [0]
        for slot in self.plan.slots:
            at.append(at[-1] + weight(params, slot.products[0].args[1]).shape[-1])
        return tuple(at)

    def weights(self, params: Any, at: tuple[int, ...]) -> tuple[Any, ...]:
        """The weights forward; the bias is as long as a row, which the products write into."""
        packed = [pack(_side(params, group)) for group in self.groups]
        ends = [
            at[g.first] + W.shape[0] * W.shape[2] for g, W in zip(self.groups, packed, strict=True)
        ]
        row = np.zeros(max(ends), packed[0].dtype)
        for k, slot in enumerate(self.plan.slots):
            for bias in slot.biases:
                row[at[k] : at[k + 1]] += weight(params, bias)
        return *packed, row, *self._vectors(params), at

    def weights_back(self, params: Any, at: tuple[int, ...]) -> tuple[Any, ...]:
        """The weights on the way back: transposed, the slots one below the other."""
        sides = (_side(params, group).swapaxes(1, 2) for group in self.groups)
        packed = [pack(W.reshape(1, -1, W.shape[2])) for W in sides]
        return *packed, *self._vectors(params), at

    def _vectors(self, params: Any) -> list[Any]:
        return [locked(weight(params, node)) for node in self.vectors]

    def no_gradients(self, params: Any) -> tuple[Any, ...]:
        """Zeros to add to, with a row more for the biases."""
        zeros = []
        for group in self.groups:
            shapes = [weight(params, matrix).shape for matrix in group.matrices]
            columns = padded(sum(n for _, n in shapes), params[0])
            zeros.append(np.zeros((shapes[0][0] + 1, columns), params[0].dtype))
        zeros += [np.zeros_like(weight(params, node)) for node in self.vectors]
        return tuple(zeros)

    def d_params(self, params: Any, at: tuple[int, ...], gradients: list[Any]) -> Any:
        """The gradients as Params."""
        sums = {field: np.zeros_like(array) for field, array in params._asdict().items()}

        def add(node: Node, gradient: Any) -> None:
            field, gate = node.value
            total = sums[field] if gate is None else sums[field][gate]
            total += gradient

        for group, d_W in zip(self.groups, gradients, strict=False):
            for k, matrix in enumerate(group.matrices, group.first):
                start = at[k] - at[group.first]
                add(matrix, d_W[:-1, start : start + at[k + 1] - at[k]])
        for k, slot in enumerate(self.plan.slots):
            start = at[k] - at[self.groups[self.sums[k]].first]
            for bias in slot.biases:
                add(bias, gradients[self.sums[k]][-1, start : start + at[k + 1] - at[k]])
        for node, d in zip(self.vectors, gradients[len(self.groups) :], strict=True):
            add(node, d)
        return type(params)(**sums)


def _ordered(leaves: list[Node]) -> list[Node]:
    from .program import in_order

    return in_order(leaves)


def _side(params: Any, group: Group) -> Any:
    """The matrices of a group as ``(gates, m, n)``, without a copy where they lie side by side."""
    fields = {matrix.value[0] for matrix in group.matrices}
    gates = [matrix.value[1] for matrix in group.matrices]
    if len(fields) == 1 and None not in gates and gates == list(range(gates[0], gates[-1] + 1)):
        return getattr(params, fields.pop())[gates[0] : gates[-1] + 1]
    arrays = [weight(params, matrix) for matrix in group.matrices]
    if len({array.shape[1] for array in arrays}) == 1:
        return np.stack(arrays)
    return np.concatenate(arrays, axis=1)[None]


@lru_cache(maxsize=64)
def _compiled_here(text: str) -> Any:
    """A module of loops that lie in no file: compiled once for each process."""
    from types import ModuleType

    module = ModuleType(f"{__package__}.cells_compiled_here")
    text = HEADER.replace("from .loops", f"from {__package__}.loops") + text
    text = text.replace("@compiled\n", "@compiled_here\n")
    vars(module)["compiled_here"] = loops.compiled_here
    exec(compile(text, "<generated loops>", "exec"), vars(module))
    return module


def stream_room(made: Loops, params: Any, state: Any, x_size: int) -> tuple[Any, Any, list[Any]]:
    """All that a stream needs in one piece: the memory, its sizes, and views of its last arrays:
    ``x (batch, input)``, ``h (batch, n)``, and the parts of the state, ``(2, batch, n)``.
    """
    at, batch = made.starts(params), len(state[0])
    *weights, _ = made.weights(params, at)
    width = len(weights[len(made.groups)])
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
    made: Loops, params: Any, xs: Any, state: Any, lengths: Any, hs: Any, keep: bool
) -> tuple[Any, Any]:
    """The final state, and what the loop has used and written for each part of the batch."""
    at = made.starts(params)
    weights, dtype = made.weights(params, at), xs.dtype
    width = len(weights[len(made.groups)])
    x, out, lengths = _rows(xs, lock=True), _rows(hs), lengths.astype(np.int64)
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
        end = made.forward(weights, inputs, steps_of_part, outputs, z, states)
        for each, last in zip(states, final, strict=True):
            last[rows] = each[end % places]
        return rows, steps_of_part, z, states

    each = sum(weight(params, m).size for g in made.groups[made.inputs :] for m in g.matrices)
    work, batch = each * len(xs), xs.shape[1]
    count = max(1, min(threads(), work * batch // WORTH_A_THREAD, (batch + 1) // 2))
    ends = [batch * n // count for n in range(count + 1)]
    return final, _in_threads(part, [slice(*pair) for pair in pairwise(ends)])


def _back(
    made: Loops, params: Any, xs: Any, kept: Any, d_hs: Any, d_state: Any, inputs: bool
) -> tuple[Any, Any, Any]:
    """The gradients at params, xs (None without ``inputs``) and the first state."""
    at = made.starts(params)
    d_xs = np.zeros_like(xs if inputs else xs[:0])
    weights = made.weights_back(params, at)
    all_rows = [_rows(xs, lock=True), _rows(d_hs, lock=True), _rows(d_xs)]
    d_first = [np.empty_like(part) for part in d_state]

    def part(piece: Any) -> Any:
        rows, lengths, z, states = piece
        x, d_out, d_x = (_rows_from(array, rows.start) for array in all_rows)
        gradients = made.no_gradients(params)
        d_states = []
        for d in d_state:  # a product writes into them
            both = np.zeros((2, len(lengths), padded(d.shape[1], d)), d.dtype)
            both[0, :, : d.shape[1]] = d[rows]
            d_states.append(both)
        last = made.back(weights, x, lengths, d_out, d_x, z, states, tuple(d_states), gradients)
        for both, first in zip(d_states, d_first, strict=True):
            first[rows] = both[last, :, : first.shape[1]]
        return gradients

    found = _in_threads(part, kept)
    gradients = [sum(each) for each in zip(*found, strict=True)]
    d_params = made.d_params(params, at, gradients)
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


def _rows(array, lock=False):
    """The rows of what is `_in_rows`, read-only or not: to the compiler these are two types."""
    (steps, batch, features), time_first = array.shape, array.flags.c_contiguous
    array = (array if time_first else array.swapaxes(0, 1)).reshape(-1, features).view()
    if lock:
        array.flags.writeable = False
    return array, 0, *((1, batch) if time_first else (steps, 1))


def _rows_from(rows, s):
    """The rows without the sequences before this one."""
    array, first, per_sequence, per_step = rows
    return array, first + s * per_sequence, per_sequence, per_step
