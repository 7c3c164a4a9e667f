"""A cell of the library with some pieces changed: its page's program, with others in their places.

The page is recorded (`lstmbook.running.program`), the piece is found in what it does, and something
else is computed there; all that depends on it follows. So no equation of a right cell stands here:
a page that changes changes all cells that are made of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cache, cached_property, partial
from typing import Any, NamedTuple

import numpy as np

from ..cells import CELLS
from ..cells._activations import Array
from ..running.program import (
    OPERATIONS,
    Node,
    NotRecordableError,
    Program,
    Values,
    gates_of,
    in_order,
    program_of,
    record,
)

__all__ = ["Changed", "Gates", "Pieces", "Right", "Step", "assemble", "merge", "right_of"]

Step = Callable[[Any, Array, Any], tuple[Array, Any]]
Gates = Callable[[Any, Array, Any], tuple[Array, ...]]
Pieces = Mapping[str, Any]  # name of a piece -> what stands there

_FORMULAS = {"input": ("f",), "update": ("i", "f", "g", "c")}  # of what
_ENDS = {"output": ("o", "new", "c"), "blend": ("z", "h", "n", "r"), "mix": ("n", "h")}  # of h
_OF_A_GATE = ("gate", "squash", "sees")  # each with an underscore and the letter of the gate
_IN_A_GATE = {"n": ("candidate",), "z": ("z_sees",)}


def assemble(cell: str, pieces: Pieces) -> tuple[Gates, Step]:
    """``gates`` and ``step`` of a cell with some pieces changed.

    Parameters
    ----------
    cell : str
        A name in `lstmbook.CELLS`.
    pieces : mapping
        What is changed; nothing gives the right cell. The pieces are

        - ``read(params, x, state)``: what the cell takes for its arguments;
        - ``gate_k(squash, x, h, b, p)`` and ``squash_k``: gate ``k`` from its four parts;
        - ``sees_k(c, new, h)``: what the peephole of gate ``k`` looks at, and ``holes``: the rows
          of ``p`` for gates that have none on the page;
        - ``input(f)``: the input gate of a coupled cell;
        - ``candidate(reset, r, x, h, W, b, b_hn)``: the parts of a GRU's candidate, where
          ``reset(r)`` is the recurrent part of the page; ``z_sees(r, h)``;
        - ``update(i, f, g, c)``, ``output(o, new, c)``: c and h of an LSTM;
        - ``blend(z, h, n, r)``, ``mix(n, h)``: h of a GRU and of an RNN;
        - ``returns(new, old)``: what comes back;
        - ``around(gates, step)``: another step, made of both.

    Returns
    -------
    gates, step : functions
        With the signatures of the cell's own.

    Raises
    ------
    ValueError
        For a piece that there is not; when they are called, for one that the page has not.
    """
    changed = Changed(cell, {k: pieces[k] for k in pieces if k != "around"})
    around = pieces.get("around")
    return changed.gates, around(changed.gates, changed.step) if around else changed.step


def merge(first: Pieces, second: Pieces) -> Pieces | None:
    """Two changes at once; None if both want the same piece."""
    if set(first) & set(second) - {"read"}:
        return None
    both = {**first, **second}
    if "read" in first and "read" in second:
        both["read"] = lambda *args: second["read"](*first["read"](*args))
    return both


class Changed:
    """A cell that is another with some pieces changed; it can be run and trained like any other."""

    page: Any  # the module of the cell

    def __init__(self, cell: str, pieces: Pieces, name: str = "") -> None:
        self.page, self.pieces, self.__name__ = CELLS[cell], pieces, name or cell
        self.GATES, self.Params, self.State = self.page.GATES, self.page.Params, self.page.State
        self.init, self.zero_state = self.page.init, self.page.zero_state
        if unknown := set(pieces) - (known := _names(self.page)):
            raise ValueError(f"{cell} has no piece {sorted(unknown)}; it has {sorted(known)}")
        self._kept: _Change | None = None
        self._program: tuple[_Change, Program] | None = None

    def gates(self, params: Any, x: Array, state: Any) -> tuple[Array, ...]:
        """The gates of a step, in the order ``GATES``."""
        change = self._change()
        values = change.values(params, x, state)
        return tuple(values[gate] for gate in change.right.gates.values())

    def step(self, params: Any, x: Array, state: Any) -> tuple[Array, Any]:
        """One time step."""
        change = self._change()
        new = self.State(*change.state(change.values(params, x, state)))
        result: tuple[Array, Any] = self.pieces.get("returns", _returns)(new, state)
        return result

    def recorded(self) -> Program:
        """Its program, made again when the page has changed.

        Raises
        ------
        NotRecordableError
            If it is none: if what it reads is no part of a program.
        """
        change = self._change()
        if self._program is None or self._program[0] is not change:
            self._program = change, record(self, _sample(self.page))
        return self._program[1]

    def _change(self) -> _Change:
        right = right_of(self.page)
        if self._kept is None or self._kept.right is not right:
            self._kept = _Change(right, self.pieces)
        return self._kept


def _returns(new: Any, old: Any) -> tuple[Array, Any]:
    return new.h, new


def _names(page: Any) -> set[str]:
    """The names of the pieces of a cell."""
    letters, holes = page.GATES, hasattr(page, "PEEPHOLES")
    kinds = _OF_A_GATE if holes else _OF_A_GATE[:2]
    names = {"read", "returns", *(f"{kind}_{k}" for kind in kinds for k in letters)}
    if letters == "n":
        return names | {"mix"}
    if "z" in letters:
        return names | {"candidate", "z_sees", "blend"}
    coupled = set() if "i" in letters else {"input"}
    return names | {"update", "output"} | coupled | ({"holes"} if holes else set())


@cache
def _sample(page: Any) -> Any:
    """Params of a cell of the library, whose program does not depend on them."""
    return page.init(np.random.default_rng(0), 2, 3)


class _Parts(NamedTuple):
    """A gate taken apart: what squashes it, and the terms of its sum."""

    squash: Any  # a function
    x: list[Node]  # made of the inputs alone
    h: list[Node]  # made of the state: the recurrent part
    b: list[Node]  # of neither
    p: list[Node]  # peepholes: of the state too, a vector times rows


class Right:
    """The program of a page, and where its pieces are."""

    def __init__(self, program: Program, gates: dict[str, Node]) -> None:
        self.program, self.gates = program, gates
        self.old = {k: program.nodes.leaf("state", j) for j, k in enumerate(program.fields)}
        self.new = dict(zip(program.fields, program.state, strict=True))
        self.parts = cache(self._parts)

    def _parts(self, k: str) -> _Parts:
        gate = self.gates[k]
        if len(gate.args) != 1:
            raise ValueError(f"gate {k} of the page is no function of a sum, so it has no pieces")
        parts = _Parts(OPERATIONS[gate.op], [], [], [], [])
        for term in _terms(gate.args[0]):
            leaves = {node.op for node in in_order([term])}
            if "state" in leaves:
                hole = term.op == "multiply" and "vector" in [a.op for a in term.args]
                (parts.p if hole else parts.h).append(term)
            else:
                (parts.x if "x" in leaves else parts.b).append(term)
        return parts

    @cached_property
    def input(self) -> Node:
        """The input gate, which multiplies g in the new c."""
        g = self.gates["g"]
        for term in _terms(self.new["c"]):
            if term.op == "multiply" and g in term.args:
                return term.args[term.args[0] is g]
        raise ValueError("the new c of the page has no term with g, so it has no input gate")

    @cached_property
    def inside(self) -> tuple[Node, Node | None]:
        """The matrix in the recurrent part of the candidate n, and the bias that is in there."""
        found: dict[str, Node] = {}
        rest = list(self.parts("n").h)
        while rest:
            node = rest.pop()
            found.setdefault(node.op, node)
            rest += [a for a in node.args if a not in self.gates.values()]
        if "matrix" not in found:
            raise ValueError("the candidate n of the page has no recurrent part")
        return found["matrix"], found.get("vector")


_KEPT: dict[Any, tuple[Any, Right]] = {}


def right_of(page: Any) -> Right:
    """Made when it is first needed, and again when the page has changed."""
    program = program_of(page, _sample(page))
    if program is None:
        raise NotRecordableError(f"what {page.__name__} does is no program")
    which = program, page.gates
    if page not in _KEPT or _KEPT[page][0] != which:
        _KEPT[page] = which, Right(program, gates_of(page, _sample(page), program))
    return _KEPT[page][1]


class _Change:
    """What a page computes with pieces changed; a draft is one without its peepholes."""

    def __init__(self, right: Right, pieces: Pieces, draft: bool = False) -> None:
        self.right, self.pieces, self.draft = right, pieces, draft
        self.changes: dict[Node, Callable[[Values], Any]] = {}
        for k, gate in right.gates.items():
            touched = {*(f"{piece}_{k}" for piece in _OF_A_GATE), *_IN_A_GATE.get(k, ())}
            if draft or touched & set(pieces) or k in pieces.get("holes", ()):
                self.changes[gate] = partial(self._gate, k)
        for piece, names in _FORMULAS.items():
            if piece in pieces:
                place = right.input if piece == "input" else right.new["c"]
                self.changes[place] = partial(self._formula, piece, names)

    def values(self, params: Any, x: Any, state: Any) -> Values:
        """Of the nodes of the page, in a step."""
        read = self.pieces.get("read")
        return Values(read(params, x, state) if read else (params, x, state), self.changes)

    def state(self, values: Values) -> Iterator[Any]:
        """The parts of the new state."""
        ends = [partial(self._formula, *end) for end in _ENDS.items() if end[0] in self.pieces]
        h = ends[0](values) if ends else values[self.right.program.output]
        for node in self.right.program.state:
            yield h if node is self.right.program.output else values[node]

    def _formula(self, piece: str, names: tuple[str, ...], values: Values) -> Any:
        return self.pieces[piece](*(self._named(name, values) for name in names))

    def _named(self, name: str, values: Values) -> Any:
        """A gate, the new c, or a part of the old state."""
        right = self.right
        if name == "new":
            return values[right.new["c"]]
        if name == "i" and "i" not in right.gates:
            return values[right.input]
        return values[right.gates[name] if name in right.gates else right.old[name]]

    def _gate(self, k: str, values: Values) -> Any:
        parts, pieces = self.right.parts(k), self.pieces
        squash = pieces.get(f"squash_{k}", parts.squash)
        x, b, p = _sum(values, parts.x), _sum(values, parts.b), self._hole(k, parts.p, values)
        if k == "n" and "candidate" in pieces:
            x, h, b = self._candidate(parts.h, x, b, values)
        elif k == "z" and "z_sees" in pieces:
            h = _sum(
                values, parts.h, {self.right.old["h"]: self._formula("z_sees", ("r", "h"), values)}
            )
        else:
            h = _sum(values, parts.h)
        if f"gate_{k}" in pieces:
            return pieces[f"gate_{k}"](squash, x, h, b, p)
        return squash(x + h + b + p)

    def _candidate(self, recurrent: list[Node], x: Any, b: Any, values: Values) -> Any:
        W, b_hn = self.right.inside
        r, h = self._named("r", values), self._named("h", values)
        return self.pieces["candidate"](
            lambda r: _sum(values, recurrent, {self.right.gates["r"]: r}),
            *(r, x, h, values[W], b, values[b_hn] if b_hn else None),
        )

    def _hole(self, k: str, terms: list[Node], values: Values) -> Any:
        """The peephole of a gate."""
        rows = self.pieces.get("holes", {})
        sees = self.pieces.get(f"sees_{k}", _sees_c if k in rows else None)
        if self.draft or not (terms or k in rows):
            return 0.0
        if sees is None:
            return _sum(values, terms)
        vectors = [values[a] for term in terms for a in term.args if a.op == "vector"]
        p = vectors[0] if vectors else values.given[0].p[rows[k]]

        def new() -> Any:
            """The new c; for a gate that it is made of, as it would be without peepholes."""
            draft = _Change(self.right, self.pieces, draft=True).changes
            return self._named("new", values if k == "o" else Values(values.given, draft))

        return p * sees(self._named("c", values), new, self._named("h", values))


def _sees_c(c: Any, new: Any, h: Any) -> Any:
    return c


def _sum(values: Values, terms: list[Node], others: dict[Node, Any] | None = None) -> Any:
    """A part of a gate; with ``others`` in the places of some nodes."""
    if others:
        put = {node: (lambda _, value=value: value) for node, value in others.items()}
        values = Values(values.given, {**values.changes, **put})
    parts = [values[term] for term in terms]
    return sum(parts[1:], parts[0]) if parts else 0.0


def _terms(node: Node) -> list[Node]:
    """The terms of a sum."""
    return [t for a in node.args for t in _terms(a)] if node.op == "add" else [node]
