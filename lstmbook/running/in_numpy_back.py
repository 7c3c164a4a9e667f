"""The way back over a sequence in NumPy.

The factors of a block of steps are made at once. Only what needs the next step is a list.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..cells._activations import Array
from .in_numpy import (
    ForwardList,
    Places,
    Tape,
    Weights,
    blocks_of,
    copy,
    inputs_of,
    over_at,
    run,
    side_by_side,
)
from .plan import Back, Group
from .program import OPERATIONS, Node, in_order, weight

__all__ = ["BackList", "vjp"]


class BackList(Places):
    """What a step back does, whatever the weights and sizes.

    The places: ``("d_slots", first, last)``, ``("d_state", k)`` and ``("d_old", k)``, the gradients
    at the new and the old state, ``("d_output",)``, ``("d_x",)``, ``("d_node", k)``, ``("d_left",
    k)``, ``("factor", node)``, ``("weights", k)``, and ``("room", like)``.
    """

    def __init__(self, back: Back) -> None:
        super().__init__()
        self.back, self.plan = back, back.forward
        self.first: dict[int, Node] = {}  # the factor that a slot's gradient begins as
        self.width: dict[int, int] = {}
        self.products: list[Group] = []
        terms = [term for segment in back.segments for s in segment for term in s.terms]
        vectors = [term for found in back.vectors.values() for term in found]
        # Gradients that weights need after the block, which a step would forget
        sources = dict.fromkeys(term.source for term in vectors)
        self.stored = [node for node in sources if node.op != "d_slot"]
        known = {slot.kept for slot in self.plan.slots} | set(self.plan.state)
        factors = [term.factor for term in (*terms, *vectors)]
        self.values = in_order([*factors, *self.plan.lefts], known)
        self.written: set[int] = set()
        self._write()
        self.unwritten = [
            self("d_old", k)
            for k in range(len(self.plan.state))
            if self("d_old", k) not in self.written
        ]
        self.dynamic = [
            (number, name)
            for name, number in self.numbers.items()
            if name[0] in ("d_slots", "factor", "d_x")
        ]

    def _place(self, node: Node) -> int:
        if node.op == "d_slot":
            return self("d_slots", node.value, node.value)
        return self(node.op, *([] if node.value is None else [node.value]))

    def _write(self) -> None:
        one = self.plan.program.nodes.const(1)
        for k, segment in enumerate(self.back.segments):
            grouped: set[Node] = set()
            single = {
                s.target: s.terms[0].source
                for s in segment
                if s.target.op == "d_slot" and len(s.terms) == 1
            }
            for target, terms in segment:
                if target in grouped:
                    self.first[target.value] = terms[0].factor
                    continue
                out = self._place(target)
                if target in single:
                    alike = [s.value for s, source in single.items() if source is terms[0].source]
                    [run] = [r for r in side_by_side(alike) if r[0] <= target.value <= r[1]]
                    grouped |= {s for s in single if run[0] <= s.value <= run[1]}
                    out = self("d_slots", *run)
                self._sum(target, terms, out, one)
            groups = self.back.groups[k] if k < len(self.back.groups) else self.back.state
            for target, group in groups:
                self._product(target, group)

    def _sum(self, target: Node, terms: Any, out: int, one: Node) -> None:
        for k, (source, factor) in enumerate(terms):
            place = self._place(source)
            self.width.setdefault(out, place)
            if target.op == "d_slot" and k == 0:  # it begins as its first factor
                self.first[target.value] = factor
                self.do(_multiply_all, out, place, out)
            elif factor is one:
                self.do(*((copy, place, 0, out) if k == 0 else (np.add, out, place, out)))
            elif k == 0:
                self.do(np.multiply, place, self("factor", factor), out)
            else:
                spare = self("room", place)
                self.do(np.multiply, place, self("factor", factor), spare)
                self.do(np.add, out, spare, out)
        self.written.add(out)

    def _product(self, target: Node, group: Group) -> None:
        out, W = self._place(target), self("weights", len(self.products))
        self.products.append(group)
        slots = self("d_slots", group.first, group.first + len(group.matrices) - 1)
        self.width.setdefault(out, -1 - W)  # as wide as the product
        if out in self.written:
            spare = self("room", out)
            self.do(np.matmul, W, slots, spare)
            self.do(np.add, out, spare, out)
        else:
            self.do(np.matmul, W, slots, out)
        self.written.add(out)


def _multiply_all(slots: Array, d: Array, out: Array) -> None:
    """``(slots * n, batch)`` times ``(n, batch)``, for each slot."""
    if slots.shape != d.shape:
        slots = out = slots.reshape(-1, *d.shape)
    np.multiply(slots, d, out)


def vjp(
    listed: ForwardList,
    back: BackList,
    params: Any,
    xs: Array,
    state: Any,
    lengths: Array,
    hs: Array,
) -> tuple[Any, Callable[[Array, Any, bool], tuple[Any, Array | None, Any]]]:
    """`run`, and the way back from the gradients at what it gives to those at what it takes."""
    tape = Tape(len(xs), state, xs.dtype)
    final = run(listed, params, xs, state, lengths, hs, tape)

    def way_back(d_hs: Array, d_state: Any, inputs: bool) -> tuple[Any, Array | None, Any]:
        d_xs = np.zeros_like(xs) if inputs else None
        return _WayBack(back, params, xs, lengths, tape, d_hs, d_state, d_xs).run()

    return final, way_back


class _WayBack:
    """The way back over a sequence."""

    def __init__(
        self,
        listed: BackList,
        params: Any,
        xs: Array,
        lengths: Array,
        tape: Tape,
        d_hs: Array,
        d_state: Any,
        d_xs: Array | None,
    ) -> None:
        self.listed, self.plan, self.lengths, self.tape = listed, listed.plan, lengths, tape
        self.params, self.xs, self.d_hs, self.d_xs = params, xs, d_hs, d_xs
        self.weights = Weights(listed.plan, params)
        self.dtype, self.batch, self.kind = xs.dtype, xs.shape[1], type(d_state)
        self.sums = type(params)(*map(np.zeros_like, params))
        self.arrays: list[Any] = [None] * len(listed.numbers)
        for number, part in enumerate(d_state):
            for name in ("d_state", "d_old"):
                place = listed.numbers.get((name, number))
                if place is not None:
                    self.arrays[place] = np.array(part.T, order="C")
        # BLAS multiplies a transposed matrix by a few columns faster if it lies in Fortran order.
        for (name, *which), number in listed.numbers.items():
            if name == "weights":
                self.arrays[number] = self.weights.stacked(listed.products[which[0]]).T
        self.turns = [
            (listed.numbers[("d_state", k)], listed.numbers[("d_old", k)])
            for k in range(len(d_state))
        ]
        self.inputs = [
            (self.weights.span(group), self.weights.stacked(group)) for group in self.plan.inputs
        ]

    def run(self) -> tuple[Any, Array | None, Any]:
        steps, lengths = len(self.xs), self.lengths
        blocks = list(blocks_of(int(lengths.max(initial=0)), self.batch))
        shortest = int(lengths.min(initial=steps))
        for (start, stop), slots in zip(reversed(blocks), reversed(self.tape.slots), strict=True):
            self._block(start, stop, slots, shortest)
        final = (np.ascontiguousarray(self.arrays[place].T) for place, _ in self.turns)
        return self.sums, self.d_xs, self.kind(*final)

    def _block(self, start: int, stop: int, slots: Array, shortest: int) -> None:
        listed, arrays, batch, lengths = self.listed, self.arrays, self.batch, self.lengths
        over = over_at(lengths, start, stop).ravel()
        x = inputs_of(self.xs, lengths, start, stop)
        old = [_columns(states[start:stop], over) for states in self.tape.states]
        values = self._values(slots, over, x, old, start, stop)
        dz = np.empty_like(slots)
        for k in range(len(self.plan.slots)):
            dz[self.weights.rows(k, k)] = values[listed.first[k]] if k in listed.first else 0
        d_x = np.zeros((x.shape[1], len(x)), self.dtype) if self._has("d_x") else None
        dynamic: list[tuple[int, Any]] = []
        for number, (name, *which) in listed.dynamic:
            if name == "d_slots":
                dynamic.append((number, dz[self.weights.rows(*which)]))
            elif name == "d_x":
                dynamic.append((number, d_x))
            else:
                factor = values[which[0]]
                arrays[number] = factor
                if np.ndim(factor) == 2 and factor.shape[1] == len(x) and which[0].op != "vector":
                    dynamic.append((number, factor))
        for number, array in dynamic:
            arrays[number] = array[:, :batch]
        self._make_room()
        stored = [
            (listed.numbers[(node.op, *([] if node.value is None else [node.value]))], node)
            for node in listed.stored
        ]
        kept: dict[Node, Array] = {}
        output = listed.numbers.get(("d_output",))
        for t in reversed(range(start, stop)):
            columns = slice((t - start) * batch, (t - start + 1) * batch)
            for number, array in dynamic:
                arrays[number] = array[:, columns]
            if t < shortest:
                d_h = self.d_hs[t].T
            else:  # past its length a sequence keeps its gradient and adds nothing
                ended = lengths <= t
                past = [arrays[place][:, ended] for place, _ in self.turns]
                for place, _ in self.turns:
                    arrays[place][:, ended] = 0
                d_h = np.where(ended, 0, self.d_hs[t].T)
            if output is not None:
                arrays[output] = d_h
            for function, one, two, out in listed.operations:
                function(arrays[one], arrays[two], arrays[out])
            for place in listed.unwritten:
                arrays[place][...] = 0
            for number, node in stored:
                if node not in kept:
                    kept[node] = np.empty((len(arrays[number]), len(x)), self.dtype)
                kept[node][:, columns] = arrays[number]
            if t >= shortest:
                for (_, place), before in zip(self.turns, past, strict=True):
                    arrays[place][:, ended] = before
            for one, two in self.turns:
                arrays[one], arrays[two] = arrays[two], arrays[one]
        self._collect(values, dz, old, x, kept)
        if self.d_xs is not None:
            total = 0 if d_x is None else d_x
            for rows, W in self.inputs:
                total = W.T @ dz[rows] + total
            if over.any():
                total = np.where(over, self.dtype.type(0), total)
            self.d_xs[start:stop] = np.reshape(np.transpose(total), (stop - start, batch, -1))

    def _has(self, name: str) -> bool:
        return (name,) in self.listed.numbers

    def _values(
        self, slots: Array, over: Array, x: Array, old: list[Array], start: int, stop: int
    ) -> dict[Node, Any]:
        """What the factors and the products need to know of a block, zeros past the lengths."""
        if over.any():
            slots = np.where(over, self.dtype.type(0), slots)
        values: dict[Node, Any] = {}
        for k, slot in enumerate(self.plan.slots):
            values[slot.kept] = slots[self.weights.rows(k, k)]
        for node, states in zip(self.plan.state, self.tape.states, strict=True):
            if node not in values:
                values[node] = _columns(states[start + 1 : stop + 1], over)
        for node in self.listed.values:
            if node in values:
                continue
            if node.op == "const":
                values[node] = node.value
            elif node.op == "state":
                values[node] = old[node.value]
            elif node.op == "x":
                values[node] = x.T
            elif node.op == "vector":
                values[node] = weight(self.params, node)[:, None]
            else:
                values[node] = OPERATIONS[node.op](*[values[a] for a in node.args])
        return values

    def _make_room(self) -> None:
        listed, arrays = self.listed, self.arrays
        for (name, *which), number in listed.numbers.items():
            if arrays[number] is None and name in ("d_node", "d_left", "room"):
                arrays[number] = np.empty((self._wide(number, which), self.batch), self.dtype)

    def _wide(self, number: int, which: list[Any]) -> int:
        name = list(self.listed.numbers)[number]
        like = which[0] if name[0] == "room" else self.listed.width[number]
        if like < 0:
            return len(self.arrays[-1 - like])
        if self.arrays[like] is not None:
            return len(self.arrays[like])
        kind, *inner = list(self.listed.numbers)[like]
        if kind == "d_output":
            return int(self.d_hs.shape[2])
        return self._wide(like, inner)

    def _collect(
        self,
        values: dict[Node, Any],
        dz: Array,
        old: list[Array],
        x: Array,
        kept: dict[Node, Array],
    ) -> None:
        """Add what a block gives to the gradients of the weights."""
        plan, weights, sums = self.plan, self.weights, self.sums
        for group in (*plan.inputs, *(group for groups in plan.groups for group in groups)):
            left = group.left
            if left.op == "x":
                lefts = x.T
            else:
                lefts = old[left.value] if left.op == "state" else values[left]
            found, at = dz[weights.span(group)] @ lefts.T, 0  # (rows, left)
            for matrix in group.matrices:
                total = weight(sums, matrix)  # a view
                total += found[at : at + total.shape[1]].T
                at += total.shape[1]
        total = dz.sum(axis=1)
        for k, slot in enumerate(plan.slots):
            for bias in slot.biases:
                weight(sums, bias)[...] += total[weights.rows(k, k)]
        for node, terms in self.listed.back.vectors.items():
            for source, factor in terms:
                if source.op == "d_slot":
                    d = dz[weights.rows(source.value, source.value)]
                else:
                    d = kept[source]
                weight(sums, node)[...] += (d * values[factor]).sum(axis=1)


def _columns(states: Array, over: Array) -> Array:
    """``(steps, hidden, batch)`` as ``(hidden, steps * batch)``, zeros past the lengths."""
    columns = states.swapaxes(0, 1).reshape(states.shape[1], -1)
    return np.where(over, columns.dtype.type(0), columns) if over.any() else columns
