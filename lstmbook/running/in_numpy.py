"""Whole runs of a planned program in NumPy, forward and back.

* Features first: a state is ``(hidden, batch)`` and the slots of a step ``(rows, batch)``, so that
  a gate is one piece of memory, and a product with the weights on the left is the faster.
* The products of the inputs are one wide product for a block of steps, before the steps.
* ``sigmoid(z) = (1 + tanh(z / 2)) / 2``, with the half in the weights: slots that are activated as
  they are need one tanh for all.
* A step is a list of NumPy's functions with the numbers of the places that they read and write. The
  list follows from the plan alone and is made once; a run gives it arrays.
* Back, the factors of a block of steps are made at once. Only what needs the next step is a list.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ..cells._activations import Array
from .plan import Back, Forward, Group
from .program import OPERATIONS, Node, in_order, weight

__all__ = ["BackList", "ForwardList", "run", "vjp"]

COLUMNS = 256  # steps times batch of a block: wide enough for BLAS, small enough for the cache


class Places:
    """Numbered places of arrays, each named by what it holds."""

    def __init__(self) -> None:
        self.numbers: dict[tuple[Any, ...], int] = {}
        self.operations: list[tuple[Callable[..., Any], int, int, int]] = []

    def __call__(self, *name: Any) -> int:
        return self.numbers.setdefault(name, len(self.numbers))

    def do(self, function: Callable[..., Any], a: int, b: int, out: int) -> None:
        self.operations.append((function, a, b, out))


def _copy(a: Array, _: Any, out: Array) -> None:
    out[...] = a


def _alone(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of one array, called as one of two."""
    return lambda a, _, out: function(a, out)


def _named_out(function: Callable[..., Any]) -> Callable[..., Any]:
    """Some functions of two arrays want ``out`` by its name."""
    return lambda a, b, out: function(a, b, out=out)


_TWO = {name: ufunc for name, ufunc in OPERATIONS.items() if getattr(ufunc, "nin", 0) == 2}
_TWO |= {name: _named_out(_TWO[name]) for name in ("maximum", "minimum")}
_ONE = {n: _alone(ufunc) for n, ufunc in OPERATIONS.items() if getattr(ufunc, "nin", 0) == 1}


def _at_least(a: Array, b: Array, out: Array) -> None:
    out[...] = a >= b


def _side_by_side(numbers: list[int]) -> list[tuple[int, int]]:
    """``[1, 2, 3, 5]`` as ``[(1, 3), (5, 5)]``."""
    runs: list[tuple[int, int]] = []
    for k in sorted(numbers):
        if runs and runs[-1][1] == k - 1:
            runs[-1] = runs[-1][0], k
        else:
            runs.append((k, k))
    return runs


class ForwardList(Places):
    """What a step forward does, whatever the weights and sizes.

    The places: ``("slots", first, last)``, ``("old", k)`` and ``("new", k)`` parts of the state,
    ``("x",)``, ``("vector", node)``, ``("number", value)``, ``("weights", stage, group)``, and
    ``("room", like, k)``, room for the time being, as wide as the place ``like``.
    """

    def __init__(self, plan: Forward) -> None:
        super().__init__()
        self.plan = plan
        # Slots that are activated as they are, and the half of a sigmoid in their weights
        self.direct = {
            k: slot.kept.op
            for k, slot in enumerate(plan.slots)
            if slot.kept.op in ("tanh", "sigmoid") and slot.kept.args[0] is slot.leaf
        }
        self.half = [
            0.5 if self.direct.get(k) == "sigmoid" else 1.0 for k in range(len(plan.slots))
        ]
        self.at: dict[Node, int] = {}  # the place of a node's value
        self.width: dict[int, int] = {}  # a place, and one of known width that is as wide
        self.free: list[int] = []
        self.rooms = 0
        self._write()
        self.output = self._place(plan.output)

    def _place(self, node: Node) -> int:
        if node in self.at:
            return self.at[node]
        names = {"const": ("number", node.value), "state": ("old", node.value), "x": ("x",)}
        return self(*names.get(node.op, ("vector", node)))

    def _room(self, like: int) -> int:
        like = self.width.get(like, like)
        for k, place in enumerate(self.free):
            if self.width[place] == like:
                return self.free.pop(k)
        self.rooms += 1
        place = self("room", like, self.rooms)
        self.width[place] = like
        return place

    def _write(self) -> None:
        plan = self.plan
        nodes = [node for segment in plan.segments for node in segment]
        uses = Counter(argument for node in nodes for argument in node.args)
        uses += Counter([plan.output, *plan.state, *plan.lefts])
        # Where a value has to be: in the place of its slot, or in the new state
        homes: dict[Node, int] = {}
        for k, slot in enumerate(plan.slots):
            self.at[slot.leaf] = self("slots", k, k)
            for node in _way(slot.leaf, slot.kept):
                homes[node] = self.at[slot.leaf]
        for k, node in enumerate(plan.state):
            homes.setdefault(node, self("new", k))
        activated = {plan.slots[k].kept: k for k in self.direct}
        lent: set[Node] = set()
        for stage, segment in enumerate(plan.segments):
            self._activate([activated[node] for node in segment if node in activated])
            for node in segment:
                if node in activated:
                    self.at[node] = self.at[plan.slots[activated[node]].leaf]
                    continue
                places = [self._place(a) for a in node.args]
                for a in node.args:
                    uses[a] -= 1
                    if not uses[a] and a in lent:
                        lent.discard(a)
                        self.free.append(self.at[a])
                if node in homes:
                    self.at[node] = homes[node]
                else:
                    like = [p for a, p in zip(node.args, places, strict=True) if a.op != "const"]
                    wide = [p for p, a in zip(places, node.args, strict=True)
                            if a.op not in ("const", "vector")]  # fmt: skip
                    self.at[node] = self._room((wide or like)[0])
                    lent.add(node)
                self._compute(node.op, places, self.at[node])
            for number, group in enumerate(plan.groups[stage] if stage < len(plan.groups) else ()):
                slots = self("slots", group.first, group.first + len(group.matrices) - 1)
                spare = self._room(slots)
                W = self("weights", stage, number)
                self.do(np.matmul, W, self._place(group.left), spare)
                self.do(np.add, slots, spare, slots)
                self.free.append(spare)
        for k, node in enumerate(plan.state):
            if self._place(node) != self("new", k):
                self.do(_copy, self._place(node), 0, self("new", k))

    def _activate(self, slots: list[int]) -> None:
        """One tanh for all slots side by side that are activated as they are."""
        half = self("number", 0.5)
        for run in _side_by_side(slots):
            block = self("slots", *run)
            self.do(_ONE["tanh"], block, 0, block)
        for run in _side_by_side([k for k in slots if self.direct[k] == "sigmoid"]):
            block = self("slots", *run)
            self.do(np.multiply, block, half, block)
            self.do(np.add, block, half, block)

    def _compute(self, op: str, places: list[int], out: int) -> None:
        if op == "sigmoid":
            half = self("number", 0.5)
            self.do(np.multiply, places[0], half, out)
            self.do(_ONE["tanh"], out, 0, out)
            self.do(np.multiply, out, half, out)
            self.do(np.add, out, half, out)
        elif op == "at_least":
            self.do(_at_least, places[0], places[1], out)
        elif op in _ONE:
            self.do(_ONE[op], places[0], 0, out)
        else:
            self.do(_TWO[op], places[0], places[1], out)


def _way(leaf: Node, end: Node) -> list[Node]:
    """The nodes on the only way from a slot to what is kept in its place."""
    way = []
    while end is not leaf:
        way.append(end)
        end = next(a for a in end.args if a is leaf or _leads(leaf, a))
    return way


def _leads(leaf: Node, node: Node) -> bool:
    return any(argument is leaf or _leads(leaf, argument) for argument in node.args)


class Weights:
    """The weights of a planned program, as rows: slot after slot."""

    def __init__(self, plan: Forward, params: Any) -> None:
        self.plan, self.params, self.dtype = plan, params, params[0].dtype
        widths = [weight(params, slot.products[0].args[1]).shape[-1] for slot in plan.slots]
        self.ends = np.cumsum([0, *widths]).tolist()

    def rows(self, first: int, last: int) -> slice:
        """The rows of some slots that stand side by side."""
        return slice(self.ends[first], self.ends[last + 1])

    def span(self, group: Group) -> slice:
        """The rows of the slots of a group."""
        return self.rows(group.first, group.first + len(group.matrices) - 1)

    def stacked(self, group: Group, scale: list[float] | None = None) -> Array:
        """The matrices of a group as ``(rows, left)``, each times the scale of its slot."""
        parts = [weight(self.params, matrix) for matrix in group.matrices]
        rows = np.empty((sum(W.shape[1] for W in parts), parts[0].shape[0]), self.dtype)
        start = 0
        for k, W in enumerate(parts, group.first):
            out = rows[start : start + W.shape[1]]
            start += W.shape[1]
            np.multiply(W.T, 1 if scale is None else scale[k], out=out)
        return rows

    def biases(self, scale: list[float]) -> Array:
        """``(rows, 1)``"""
        b = np.zeros((self.ends[-1], 1), self.dtype)
        for k, slot in enumerate(self.plan.slots):
            for bias in slot.biases:
                b[self.rows(k, k), 0] += weight(self.params, bias) * scale[k]
        return b


class Step:
    """A step forward of one run: the arrays of its places."""

    def __init__(self, listed: ForwardList, weights: Weights, state: Any, x_size: int) -> None:
        plan, batch, dtype = listed.plan, len(state[0]), weights.dtype
        self.z = np.empty((weights.ends[-1], batch), dtype)
        arrays: list[Any] = []
        self.x = None
        for name, *which in listed.numbers:
            match name:
                case "slots":
                    array: Any = self.z[weights.rows(*which)]
                case "old":
                    array = np.array(state[which[0]].T, order="C")
                case "new":
                    array = np.empty(state[which[0]].T.shape, dtype)
                case "x":
                    array = self.x = np.empty((x_size, batch), dtype)
                case "vector":
                    array = weight(weights.params, which[0])[:, None]
                case "number":
                    array = which[0]
                case "weights":
                    stage, number = which
                    array = weights.stacked(plan.groups[stage][number], listed.half)
                case "room":
                    array = np.empty((len(arrays[which[0]]), batch), dtype)
            arrays.append(array)
        self.states = []
        for k, part in enumerate(state):
            places = [listed.numbers.get((name, k)) for name in ("old", "new")]
            pair = [np.array(part.T, order="C") if p is None else arrays[p] for p in places]
            self.states.append((pair, places))
        self.bound = []
        for _ in range(2):
            bound = [(f, arrays[a], arrays[b], arrays[out]) for f, a, b, out in listed.operations]
            self.bound.append((bound, arrays[listed.output]))
            for pair, places in self.states:
                for place, array in zip(places, reversed(pair), strict=True):
                    if place is not None:
                        arrays[place] = array
                pair.reverse()

    def state(self, place: int) -> list[Array]:
        """The parts of the state in one of two places."""
        return [pair[place] for pair, _ in self.states]


def run(
    listed: ForwardList,
    params: Any,
    xs: Array,
    state: Any,
    lengths: Array,
    hs: Array,
    tape: Tape | None = None,
) -> Any:
    """Write the outputs into ``hs``, which is zero, and return the final state.

    All is time first, checked and of one dtype. ``tape`` gets what `vjp` needs.
    """
    (steps, batch, x_size), plan = xs.shape, listed.plan
    weights = Weights(plan, params)
    step = Step(listed, weights, state, x_size)
    b, inputs = weights.biases(listed.half), [
        (weights.span(group), weights.stacked(group, listed.half)) for group in plan.inputs
    ]  # fmt: skip
    place = 0
    if tape:
        for states, part in zip(tape.states, step.state(0), strict=True):
            states[0] = part
    shortest = int(lengths.min(initial=steps))
    room = None
    for start, stop in _blocks(int(lengths.max(initial=0)), batch):
        x = _inputs(xs, lengths, start, stop)
        if tape or room is None:
            room = np.empty((weights.ends[-1], len(x)), xs.dtype)
            if tape:
                tape.slots.append(room)
        zx = room[:, : len(x)]
        zx[...] = b
        for rows, W in inputs:
            zx[rows] += W @ x.T
        for t in range(start, stop):
            columns = slice((t - start) * batch, (t - start + 1) * batch)
            step.z[...] = zx[:, columns]
            if step.x is not None:
                step.x[...] = x[columns].T
            operations, output = step.bound[place]
            for function, one, two, out in operations:
                function(one, two, out)
            if t < shortest:
                hs[t] = output.T
            else:  # past its length a sequence keeps its state
                over = lengths <= t
                hs[t] = np.where(over, 0, output).T
                for part, before in zip(step.state(1 - place), step.state(place), strict=True):
                    part[:, over] = before[:, over]
            place = 1 - place
            if tape:
                zx[:, columns] = step.z  # in the place of zx, which is used up
                for states, part in zip(tape.states, step.state(place), strict=True):
                    states[t + 1] = part
    return type(state)(*(np.ascontiguousarray(part.T) for part in step.state(place)))


# Back


class Tape:
    """What a run keeps for the way back."""

    def __init__(self, steps: int, state: Any, dtype: Any) -> None:
        # (time + 1, hidden, batch) each
        self.states = [np.empty((steps + 1, *part.T.shape), dtype) for part in state]
        self.slots: list[Array] = []  # (rows, steps * batch) of each block


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
                    [run] = [r for r in _side_by_side(alike) if r[0] <= target.value <= r[1]]
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
                self.do(*((_copy, place, 0, out) if k == 0 else (np.add, out, place, out)))
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
        blocks = list(_blocks(int(lengths.max(initial=0)), self.batch))
        shortest = int(lengths.min(initial=steps))
        for (start, stop), slots in zip(reversed(blocks), reversed(self.tape.slots), strict=True):
            self._block(start, stop, slots, shortest)
        final = (np.ascontiguousarray(self.arrays[place].T) for place, _ in self.turns)
        return self.sums, self.d_xs, self.kind(*final)

    def _block(self, start: int, stop: int, slots: Array, shortest: int) -> None:
        listed, arrays, batch, lengths = self.listed, self.arrays, self.batch, self.lengths
        over = _over(lengths, start, stop).ravel()
        x = _inputs(self.xs, lengths, start, stop)
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


def _blocks(steps: int, batch: int) -> Iterator[tuple[int, int]]:
    size = max(1, COLUMNS // max(1, batch))
    for start in range(0, steps, size):
        yield start, min(start + size, steps)


def _over(lengths: Array, start: int, stop: int) -> Array:
    """``(steps, batch)``: which sequences have ended."""
    return np.arange(start, stop)[:, None] >= lengths


def _inputs(xs: Array, lengths: Array, start: int, stop: int) -> Array:
    """A block of inputs as ``(steps * batch, input)``, zeros past the lengths."""
    x = xs[start:stop].reshape(-1, xs.shape[2])
    over = _over(lengths, start, stop)
    return np.where(over.reshape(-1, 1), x.dtype.type(0), x) if over.any() else x


def _columns(states: Array, over: Array) -> Array:
    """``(steps, hidden, batch)`` as ``(hidden, steps * batch)``, zeros past the lengths."""
    columns = states.swapaxes(0, 1).reshape(states.shape[1], -1)
    return np.where(over, columns.dtype.type(0), columns) if over.any() else columns
