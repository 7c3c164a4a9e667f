"""Rows of a compiled loop as text: what is computed element by element, and the names in it.

For a row, which is a sequence of the batch, there is one loop over the units for each value that is
to be stored: what is computed on the way is a number in it, so each of these loops reads and writes
few arrays, and runs on whole vectors.
"""

from __future__ import annotations

import re

from .plan import Forward
from .program import Node, in_order

__all__ = ["Names", "Row", "vector_name", "vectors_of", "width_of"]


class Row:
    """A function for one row: loops over the units, and the arrays that they need."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.arrays: dict[str, str] = {}  # a parameter, and what the caller gives
        self.numbers: dict[float, str] = {}
        self.known: dict[Node, str] = {}  # a node, and the array that has its value
        self.body: list[str] = []

    def array(self, name: str, given: str) -> str:
        self.arrays[name] = given
        return name

    def number(self, value: float) -> str:
        return self.numbers.setdefault(value, f"number_{len(self.numbers)}")

    def loop(self, out: str, ends: list[Node | tuple[str, Node]], *, add: bool = False) -> None:
        """``out[k] = sum of ends``; an end is a node, or an array times a node."""
        lines: list[str] = []
        values: dict[Node, str] = {}
        terms = []
        for end in ends:
            source, node = end if isinstance(end, tuple) else (None, end)
            if source is None:
                terms.append(self._value(node, values, lines))
            elif node.op == "const" and node.value == 1:
                terms.append(f"{source}[k]")
            else:
                factor = self._value(node, values, lines)
                terms.append(f"{source}[k] * {factor}")
        self.body += [f"    for k in range(len({out})):"]
        self.body += [f"        {line}" for line in lines]
        self.body += [f"        {out}[k] {'+' if add else ''}= {' + '.join(terms)}"]

    def _value(self, node: Node, values: dict[Node, str], lines: list[str]) -> str:
        """A name or a simple expression for a node's number ``k``."""
        if node in self.known:
            return f"{self.known[node]}[k]"
        if node in values:
            return values[node]
        if node.op == "const":
            return self.number(node.value)
        if node.op == "vector":
            name = vector_name(node)
            return f"{self.array(name, name)}[k]"
        args = [self._value(a, values, lines) for a in node.args]
        name = f"v{len(values)}"
        values[node] = name
        lines.append(f"{name} = {_expression(node.op, args, self.number)}")
        return name

    def text(self) -> list[str]:
        lines = ["@compiled", f"def {self.name}({', '.join(self.arrays)}):"]
        first = next(iter(self.arrays))
        for value, name in self.numbers.items():
            lines.append(f"    {name} = {first}.dtype.type({value!r})")
        return [*lines, *self.body]

    def call(self, names: dict[str, str], margin: str) -> list[str]:
        """The call, after those of ``names``, each with its value, that what is given has."""
        words = set(re.findall(r"\w+", " ".join(self.arrays.values())))
        before = [f"{name} = {value}" for name, value in names.items() if name in words]
        call = f"{self.name}({', '.join(self.arrays.values())})"
        return [margin + line for line in [*before, call]] if self.body else []


def _expression(op: str, args: list[str], number: object) -> str:
    signs = {"add": "+", "subtract": "-", "multiply": "*", "divide": "/"}
    a, b = (*args, "")[:2]
    if op in signs:
        return f"{a} {signs[op]} {b}"
    match op:
        case "negative":
            return f"-{a}"
        case "sigmoid":
            return f"sigmoid({a}, {number(0.5)})"  # type: ignore[operator]
        case "tanh":
            return f"tanh({a})"
        case "maximum":  # a NaN stays one
            return f"{a} if {a} >= {b} or {a} != {a} else {b}"
        case "minimum":
            return f"{a} if {a} <= {b} or {a} != {a} else {b}"
        case "at_least":
            return f"{number(1.0)} if {a} >= {b} else {number(0.0)}"  # type: ignore[operator]
    return f"math.{op}({a})"


def vector_name(node: Node) -> str:
    field, gate = node.value
    return f"w_{field}" if gate is None else f"w_{field}_{gate}"


def vectors_of(plan: Forward) -> list[Node]:
    """The weights that are vectors and no biases of slots, as loops take them."""
    used = [*(node for segment in plan.segments for node in segment), plan.output, *plan.state]
    return [node for node in in_order(used) if node.op == "vector"]


class Names:
    """How the arrays of a plan are called in the text."""

    def __init__(self, plan: Forward) -> None:
        self.plan = plan
        # h and c as they are; a reader may have any name
        self.states = [f if f in ("h", "c") else f"state_{f}" for f in plan.program.fields]
        letters = [self._letter(k) for k in range(len(plan.slots))]
        self.slots = [
            letter if letters.count(letter) == 1 else f"{letter}_{k}"
            for k, letter in enumerate(letters)
        ]
        groups = [*((f"x_{k}", g) for k, g in enumerate(plan.inputs))]
        groups += [
            (f"{stage}_{k}", g)
            for stage, each in enumerate(plan.groups)
            for k, g in enumerate(each)
        ]
        self.groups = dict(groups)
        self.vectors = [vector_name(node) for node in vectors_of(plan)]

    @property
    def weights(self) -> str:
        """What a loop forward is given of the weights."""
        return ", ".join([*(f"W_{g}" for g in self.groups), "b", *self.vectors, "at"])

    def state(self, prefix: str = "") -> str:
        """The parts of a state as a tuple."""
        parts = [prefix + part for part in self.states]
        return ", ".join(parts) + ("," if len(parts) == 1 else "")

    def _letter(self, k: int) -> str:
        field, gate = self.plan.slots[k].products[-1].args[1].value
        letters = self.plan.program.letters
        if gate is not None and gate < len(letters):
            return f"z_{letters[gate]}"
        return f"z_{field}" if gate is None else f"z_{field}_{gate}"

    def slot_rows(self, array: str, k: int) -> str:
        return f"{array}[at[{k}] : at[{k + 1}]]"


def width_of(node: Node, plan: Forward, names: Names) -> str:
    """The width of a node, as an expression."""
    for leaf in in_order([node]):
        if leaf.op == "state":
            return f"{names.states[leaf.value]}.shape[2]"
        if leaf.op == "slot":
            return f"at[{leaf.value[0] + 1}] - at[{leaf.value[0]}]"
    if any(leaf.op == "x" for leaf in in_order([node])):
        return "xs[0].shape[1]"
    vector = next(leaf for leaf in in_order([node]) if leaf.op == "vector")
    return f"len({vector_name(vector)})"
