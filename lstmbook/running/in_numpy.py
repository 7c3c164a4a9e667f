"""Whole runs of a planned program in NumPy: forward, and what `in_numpy_back` needs of it.

* Features first: a state is ``(hidden, batch)`` and the slots of a step ``(rows, batch)``, so that
  a gate is one piece of memory, and a product with the weights on the left is the faster.
* The products of the inputs are one wide product for a block of steps, before the steps.
* ``sigmoid(z) = (1 + tanh(z / 2)) / 2``, with the half in the weights: slots that are activated as
  they are need one tanh for all.
* A step is a list of NumPy's functions with the numbers of the places that they read and write. The
  list follows from the plan alone and is made once; a run gives it arrays.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ..cells._activations import Array
from .plan import Forward, Group
from .program import OPERATIONS, Node, weight

__all__ = [
    "ForwardList",
    "Places",
    "Step",
    "Tape",
    "Weights",
    "blocks_of",
    "copy",
    "inputs_of",
    "over_at",
    "run",
    "side_by_side",
]

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


def copy(a: Array, _: Any, out: Array) -> None:
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


def side_by_side(numbers: list[int]) -> list[tuple[int, int]]:
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
                self.do(copy, self._place(node), 0, self("new", k))

    def _activate(self, slots: list[int]) -> None:
        """One tanh for all slots side by side that are activated as they are."""
        half = self("number", 0.5)
        for run in side_by_side(slots):
            block = self("slots", *run)
            self.do(_ONE["tanh"], block, 0, block)
        for run in side_by_side([k for k in slots if self.direct[k] == "sigmoid"]):
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


class Tape:
    """What a run keeps for the way back."""

    def __init__(self, steps: int, state: Any, dtype: Any) -> None:
        # (time + 1, hidden, batch) each
        self.states = [np.empty((steps + 1, *part.T.shape), dtype) for part in state]
        self.slots: list[Array] = []  # (rows, steps * batch) of each block


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
    for start, stop in blocks_of(int(lengths.max(initial=0)), batch):
        x = inputs_of(xs, lengths, start, stop)
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


def blocks_of(steps: int, batch: int) -> Iterator[tuple[int, int]]:
    size = max(1, COLUMNS // max(1, batch))
    for start in range(0, steps, size):
        yield start, min(start + size, steps)


def over_at(lengths: Array, start: int, stop: int) -> Array:
    """``(steps, batch)``: which sequences have ended."""
    return np.arange(start, stop)[:, None] >= lengths


def inputs_of(xs: Array, lengths: Array, start: int, stop: int) -> Array:
    """A block of inputs as ``(steps * batch, input)``, zeros past the lengths."""
    x = xs[start:stop].reshape(-1, xs.shape[2])
    over = over_at(lengths, start, stop)
    return np.where(over.reshape(-1, 1), x.dtype.type(0), x) if over.any() else x
