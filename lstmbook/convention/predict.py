"""What hypotheses compute: many at once, all by the page of their cell.

`predict` runs all rows of a table side by side. A grid holds all hypotheses of a family with one
axis for each column; `first_step` runs one step of it, in which what several hypotheses share is
computed once. A step is the recorded program of the page (`lstmbook.running.program`), with what a
hypothesis says in the places of its nodes.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import Any

import numpy as np

from ..cells import CELLS
from ..cells._activations import Array
from ..running.program import OPERATIONS, Node, Program, Values
from ..wrong_cells.changed import right_of
from .hypotheses import ACTIVATIONS, GATES, Family, Table, blocks_of
from .readings import Reading

__all__ = ["first_step", "predict"]

_GATES, _ACTIVATIONS = tuple(GATES.values()), tuple(ACTIVATIONS.values())
_PLAIN = {op: f for op, f in OPERATIONS.items() if op not in ("sigmoid", "tanh")}  # the page's own


def predict(
    family: Family,
    reading: Reading,
    table: Table,
    forget_biases: Array,
    xs: Array,
    state: tuple[Array, Array],
    *,
    alive: Array | None = None,
    forced: Array | None = None,
    units: Any = slice(None),
) -> Iterator[tuple[Array, Array]]:
    """``h`` and ``c`` after every step, for all hypotheses of a table.

    Parameters
    ----------
    xs : (time, batch, input) array
    state : h and c, (batch, hidden) each
    alive : (time, batch) booleans, optional
        Where not, the state is kept.
    forced : (time, batch, hidden) array, optional
        The true outputs. Each step then starts from the true old ``h``, so that an error of one
        step is not carried on, and units do not need each other.
    units : index
        The units to compute; all of them unless ``forced``.

    Yields
    ------
    h, c : (hypotheses, batch, units) arrays
    """
    step = _Step(family, reading, table, forget_biases, units)
    x_parts = _times(xs, reading.W_x[..., step.seen])  # (time, blocks, batch, units)
    h, c = state[0][None], state[1][None][..., units]
    olds = None if forced is None else np.concatenate([state[0][None], forced[:-1]])
    h_parts = None if olds is None else _times(olds, reading.W_h[..., step.seen])
    for t, x_part in enumerate(x_parts):
        if olds is None or h_parts is None:
            old, h_part = h, _times(h, reading.W_h)
        else:
            old, h_part = olds[t : t + 1], h_parts[t : t + 1]
        new_h, new_c = step(xs[t], x_part, h_part, old, c)
        if alive is not None:
            on = alive[t][:, None]
            new_h, new_c = np.where(on, new_h, old[..., units]), np.where(on, new_c, c)
        h, c = new_h, new_c
        yield h, c


def first_step(
    family: Family,
    reading: Reading,
    sizes: dict[str, int],
    forget_biases: Array,
    x: Array,
    state: tuple[Array, Array],
    units: Any,
) -> Array:
    """``h`` after one step for all hypotheses of ``sizes``, an axis for each, and then the units.

    ``x`` is ``(1, input)`` and the state ``(1, hidden)``. An axis on which nothing depends is 1.
    """
    grid = dict(zip(sizes, np.indices(tuple(sizes.values()), np.int16, sparse=True), strict=True))
    step = _Step(family, reading, grid, forget_biases, units)
    h_part = _times(state[0][None], reading.W_h[..., step.seen])
    x_part = _times(x[None], reading.W_x[..., step.seen])[0]
    h, _ = step(x, x_part, h_part, state[0][None], state[1][None][..., units])
    return h[..., 0, :]


def _times(rows: Array, W: Array) -> Array:
    """``(n, batch, size) @ (blocks, size, hidden)`` as ``(n, blocks, batch, hidden)``."""
    n, batch, size = rows.shape
    products = rows.reshape(n * batch, size) @ W
    return products.reshape(len(W), n, batch, -1).swapaxes(0, 1)


class _Step:
    """One time step of every hypothesis of a table or a grid: the program of the cell's page.

    What a hypothesis says is put in the places of the page's nodes: blocks for weights, other
    functions for sigmoid and tanh, the old c for the new one, 1 - z for z.
    """

    def __init__(
        self, family: Family, reading: Reading, table: Table, forget_biases: Array, units: Any
    ) -> None:
        self.family, self.reading, self.table, self.units = family, reading, table, units
        self.right = right_of(CELLS[family.cell])
        self.inner, shared = _structure(self.right.program)
        self.seen = slice(None) if self.inner else units
        self.grid = table["order"].ndim > 1
        self.rows = np.arange(table["order"].size)
        self.x_at, self.h_at, self.b_at = blocks_of(family, reading, table)
        self.forget = forget_biases.astype(reading.b_x.dtype)[table["forget"]][..., None, None]
        self.flipped = table["flipped"][..., None, None] == 1
        self.old = table["old"][..., None, None] == 1
        self.kinds = {name: _kinds(table[name]) for name in ("squash", "activation", "output")}
        self.vectors: dict[Any, Array] = {}
        self.letters = [self.letter(gate) for gate in CELLS[family.cell].GATES]
        self.changes = dict(self._changes())
        self.kept = shared | self.changes.keys() if self.changes else shared

    def __call__(
        self, x: Array, x_part: Array, h_part: Array, old: Array, c: Array
    ) -> tuple[Array, Array]:
        values, new = _Values(self, (x, x_part, h_part, old, c)), self.right.new
        return values[self.right.program.output], values[new["c"]] if "c" in new else c

    def letter(self, gate: str) -> str:
        """The gate whose blocks stand for a gate of the page."""
        return "i" if gate == "f" and self.family.kept == "i" else gate

    def vector(self, field: str, k: int | None, whole: bool) -> Array:
        """A field of Params for all hypotheses, ``(hypotheses, 1, units)``."""
        reading, family, units = self.reading, self.family, slice(None) if whole else self.units
        b_x, b_h = reading.b_x[:, None, units], reading.b_h[:, None, units]
        if k is None:
            inside: Array = b_h[self.b_at["n"]] + reading.b_hn[units]
            return inside
        if field == "p":
            gate = self.letter(getattr(CELLS[family.cell], "PEEPHOLES", "")[k])
            at = np.array([seen.index(gate) for seen in family.holes])[self.table["holes"]]
            p: Array = reading.p[at][..., None, units]
            return p
        gate = self.letters[k]
        at = self.b_at[gate]
        b: Array = b_x[at]
        if gate == "n" and family.cell == "gru_reset_after":
            return b
        b = b + b_h[at]
        return b + self.forget if gate == "f" else b

    def _changes(self) -> Iterator[tuple[Node, Callable[[Any], Any]]]:
        right = self.right

        def flipped(z: Node, values: _Values) -> Array:
            value = values.compute(z)
            result: Array = np.where(self.flipped, 1.0 - value, value)
            return result

        def old(hole: Node, values: _Values) -> Any:
            c, new = values[right.old["c"]], right.new["c"]
            seen = {new: np.where(self.old, c, values[new])}
            return np.multiply(*(seen[a] if a in seen else values[a] for a in hole.args))

        if self.family.kept == "i":
            f = right.gates["f"]
            yield right.input, lambda values: values.compute(f)
            yield f, lambda values: 1.0 - values[right.input]
        if self.flipped.any():
            yield right.gates["z"], partial(flipped, right.gates["z"])
        if self.old.any():
            for hole in right.parts("o").p:
                yield hole, partial(old, hole)

    def recurrent(self, values: Array, W: Array, at: Array) -> Array:
        """``values @ W`` with block ``at`` for each hypothesis."""
        result = np.zeros(())
        if self.grid:
            for k in np.unique(at):
                result = np.where((at == k)[..., None, None], values @ W[k], result)
            return result
        values = np.broadcast_to(values, (len(at), *values.shape[1:]))
        result = np.empty((*values.shape[:-1], W.shape[-1]), values.dtype)
        for k in np.unique(at):
            chosen = at == k
            part = values[chosen]
            flat = part.reshape(-1, part.shape[-1]) @ W[k]
            result[chosen] = flat.reshape(*part.shape[:-1], -1)
        return result

    def by(self, column: str, functions: Any, z: Array) -> Array:
        """``z`` under each hypothesis' own function; rows of a table stand sorted by it or not."""
        kinds = self.kinds[column]
        if len(kinds) == 1:
            result: Array = functions[kinds[0][0]](z)
            return result
        if self.grid:
            axis = list(self.table).index(column)
            parts = np.split(z, len(kinds), axis) if z.shape[axis] > 1 else [z] * len(kinds)
            return np.concatenate([functions[k](part) for k, part in enumerate(parts)], axis)
        z = np.broadcast_to(z, (len(self.rows), *z.shape[1:]))
        result = np.empty_like(z)
        for kind, chosen in kinds:
            result[chosen] = functions[kind](z[chosen])
        return result


class _Values(Values):
    """What the nodes of a page are for every hypothesis, in some units."""

    def __init__(self, step: _Step, parts: tuple[Array, ...], whole: bool = False) -> None:
        x, self.x_part, self.h_part, old, c = parts
        self.step, self.parts, self.whole = step, parts, whole
        self.units = slice(None) if whole else step.units  # what stands before a product is whole
        super().__init__((None, x[None], (old[..., self.units], c)), step.changes)

    def __missing__(self, node: Node) -> Any:
        if node in self.step.kept:
            return super().__missing__(node)
        return self.compute(node)  # and not kept: there may be very many hypotheses

    def compute(self, node: Node) -> Any:
        """As the page says, or as the hypotheses say."""
        step = self.step
        if node.op in _PLAIN:
            return _PLAIN[node.op](*[self[a] for a in node.args])
        if node.op == "product":
            return self._product(*node.args)
        if node.op == "vector":
            which = (*node.value, self.whole)
            if which not in step.vectors:
                step.vectors[which] = step.vector(*which)
            return step.vectors[which]
        if node.op == "sigmoid":
            return step.by("squash", _GATES, self[node.args[0]])
        if node.op == "tanh":
            column = "activation" if node in step.right.gates.values() else "output"
            return step.by(column, _ACTIVATIONS, self[node.args[0]])
        return super().compute(node)

    def _product(self, rows: Node, matrix: Node) -> Array:
        step, (field, k) = self.step, matrix.value
        at = (step.x_at if field == "W_x" else step.h_at)[step.letters[k]]
        if (rows.op, field) == ("x", "W_x"):
            found: Array = self.x_part[at]
        elif rows is step.right.old["h"] and field == "W_h":
            part = self.h_part  # one for all hypotheses, or one for each
            found = part[0, at] if len(part) == 1 else part[step.rows, at]
        else:
            whole = _Values(step, self.parts, whole=True)[rows]
            return step.recurrent(whole, getattr(step.reading, field)[..., self.units], at)
        return found[..., self.units] if step.inner and not self.whole else found


@cache
def _structure(program: Program) -> tuple[bool, set[Node]]:
    """Whether rows made in the step, such as r * h, stand before a product; nodes used often."""
    order = program.order()
    uses = Counter([*program.state, program.output, *(a for node in order for a in node.args)])
    inner = any(node.op == "product" and node.args[0].args for node in order)
    return inner, {node for node, count in uses.items() if count > 1}


def _kinds(column: Array) -> list[tuple[int, Array]]:
    """What is in a column, and where."""
    first = column.flat[0]
    found = [first] if (column == first).all() else np.unique(column)
    return [(int(kind), column == kind) for kind in found]
