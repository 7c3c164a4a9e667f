"""Compiled loops as source, written from the plan of a cell.

``source(name, plan, back)`` is the text of two functions, ``{name}_forward`` and ``{name}_back``,
and of what they call for a row of the batch. ``python -m lstmbook.running.generate`` writes those
of the library's cells into ``cells_compiled.py``, which is kept beside this file; a reader's own
cell is written and compiled when it is first run.

A loop over time makes the products of a step, then goes over the rows, a sequence each. For a row
there is one loop over the units for each value that is to be stored: what is computed on the way is
a number in it, so each of these loops reads and writes few arrays, and runs on whole vectors.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from .plan import Back, Forward, Term
from .program import Node, in_order

__all__ = ["HEADER", "mark", "source", "vectors_of", "written"]

HEADER = '''"""The loops of the cells, generated from their pages: ``make generate``, do not edit.

What a loop is given and what it writes is said in `compiled`.
"""

import math

import numpy as np

from .loops import (
    add,
    add_gradient,
    add_product,
    column,
    compiled,
    copy,
    fill,
    give_inputs,
    input_columns,
    keep_ended,
    longest,
    ones_below,
    pack_here,
    padded,
    picked,
    place,
    project,
    room,
    sigmoid,
    state_columns,
    steps_at_once,
    steps_of_a_block,
    tanh,
    zero,
    zero_rows,
)
'''
DEAR = ("tanh", "sigmoid", "exp", "sqrt", "divide")  # computed once, if two loops need them


class _Row:
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
            name = _vector(node)
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


def _vector(node: Node) -> str:
    field, gate = node.value
    return f"w_{field}" if gate is None else f"w_{field}_{gate}"


def vectors_of(plan: Forward) -> list[Node]:
    """The weights that are vectors and no biases of slots, as loops take them."""
    used = [*(node for segment in plan.segments for node in segment), plan.output, *plan.state]
    return [node for node in in_order(used) if node.op == "vector"]


class _Names:
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
        self.vectors = vectors_of(plan)

    def _letter(self, k: int) -> str:
        field, gate = self.plan.slots[k].products[-1].args[1].value
        letters = self.plan.program.letters
        if gate is not None and gate < len(letters):
            return f"z_{letters[gate]}"
        return f"z_{field}" if gate is None else f"z_{field}_{gate}"

    def slot_rows(self, array: str, k: int) -> str:
        return f"{array}[at[{k}] : at[{k + 1}]]"


def _forward(name: str, plan: Forward, names: _Names) -> list[str]:
    rows: list[_Row] = []
    final = len(plan.segments) - 1
    outside = plan.output if plan.output not in plan.state else None
    for stage, segment in enumerate(plan.segments):
        row = _Row(f"_{name}_row_{stage}")
        wanted: dict[Node, list[str]] = {}
        for k, slot in enumerate(plan.slots):
            array = names.slots[k]
            if slot.kept is not slot.leaf and slot.kept in segment:
                wanted.setdefault(slot.kept, []).append(row.array(array, names.slot_rows("row", k)))
        for k, left in enumerate(plan.lefts):
            if left in segment:
                wanted.setdefault(left, []).append(row.array(f"left_{k}", f"left_{k}[s]"))
        if stage == final:
            for k, node in enumerate(plan.state):
                state = names.states[k]
                wanted.setdefault(node, []).append(row.array(f"new_{state}", f"{state}[new, s]"))
            if outside is not None:
                wanted.setdefault(outside, []).append(row.array("output", "output"))
        _know(row, plan, names, [*wanted], stage)
        for node in in_order(list(wanted)):
            for number, array in enumerate(wanted.get(node, ())):
                if number:
                    row.body += [f"    copy({array}, {row.known[node]})"]
                else:
                    row.loop(array, [node])
                    row.known[node] = array
        rows.append(row)

    text = [line for row in rows if row.body for line in [*row.text(), "", ""]]
    weights = [*(f"W_{g}" for g in names.groups), "b", *map(_vector, names.vectors), "at"]
    text += [
        "@compiled",
        f"def {name}_forward(weights, xs, lengths, hs, z, states):",
        f"    {', '.join(weights)} = weights",
        f"    {', '.join(names.states)}{',' if len(names.states) == 1 else ''} = states",
        "    batch, end = len(lengths), longest(lengths)",
    ]
    for k, left in enumerate(plan.lefts):
        like = _like(left, plan, names)
        text.append(f"    left_{k} = room(batch, {like}, z)")
    if outside is not None:
        text.append(f"    output = room(np.int64(1), {_like(outside, plan, names)}, z)[0]")
    h = names.states[0]
    text += [
        "    for t in range(end):",
        f"        old, new = t % len({h}), (t + 1) % len({h})",
    ]
    text.append("        first = fill(b, t, end, z, batch)")
    for g, group in names.groups.items():
        if g.startswith("x_"):
            text.append(f"        project(W_{g}, at[{group.first}], xs, t, end, z, batch)")
    given = {"row": "z[first + s]", "x": "xs[0][place(xs, s, t)]"}
    for stage, row in enumerate(rows):
        last = stage == final
        if row.body or last:
            text += ["        for s in range(batch):", "            if t < lengths[s]:"]
            text += row.call(given, " " * 16)
        if last:
            out = "output"
            if outside is None:
                out = f"{names.states[plan.state.index(plan.output)]}[new, s]"
            text.append(f"                copy(hs[0][place(hs, s, t)], {out})")
            text.append("            else:")
            text += [f"                copy({n}[new, s], {n}[old, s])" for n in names.states]
        else:
            for g, group in names.groups.items():
                if g.startswith(f"{stage}_"):
                    text.append(
                        f"        add_product(z[first::1, at[{group.first}] :], "
                        f"{_left(group.left, plan, names)}, W_{g})"
                    )
    return [*text, "    return end"]


def _know(row: _Row, plan: Forward, names: _Names, ends: list[Node], stage: int) -> None:
    """The arrays that hold values when a segment begins."""
    done = {node for segment in plan.segments[:stage] for node in segment}
    kept = {
        slot.kept: k for k, slot in enumerate(plan.slots) if slot.kept in done or not slot.kept.args
    }
    leaves = {slot.leaf: k for k, slot in enumerate(plan.slots)}
    lefts = {left: k for k, left in enumerate(plan.lefts) if left in done}

    def visit(node: Node) -> None:
        if node in row.known:
            return
        if node in kept or node in leaves:
            k = kept.get(node, leaves.get(node, 0))
            row.known[node] = row.array(names.slots[k], names.slot_rows("row", k))
        elif node in lefts:
            k = lefts[node]
            row.known[node] = row.array(f"left_{k}", f"left_{k}[s]")
        elif node.op == "state":
            state = names.states[node.value]
            row.known[node] = row.array(f"old_{state}", f"{state}[old, s]")
        elif node.op == "x":
            row.known[node] = row.array("x", "x")
        for argument in () if node in row.known else node.args:
            visit(argument)

    for end in ends:
        if end in kept or end in lefts or not end.args:
            visit(end)
        else:
            for argument in end.args:
                visit(argument)


def _left(left: Node, plan: Forward, names: _Names) -> str:
    if left.op == "state":
        return f"{names.states[left.value]}[old, ::1]"
    return f"left_{plan.lefts.index(left)}[::1]"


def _like(node: Node, plan: Forward, names: _Names) -> str:
    """The width of a node, as an expression."""
    for leaf in in_order([node]):
        if leaf.op == "state":
            return f"{names.states[leaf.value]}.shape[2]"
        if leaf.op == "slot":
            return f"at[{leaf.value[0] + 1}] - at[{leaf.value[0]}]"
    if any(leaf.op == "x" for leaf in in_order([node])):
        return "xs[0].shape[1]"
    vector = next(leaf for leaf in in_order([node]) if leaf.op == "vector")
    return f"len({_vector(vector)})"


# Back


def _back(name: str, back: Back, names: _Names) -> list[str]:
    plan = back.forward
    rows: list[_Row] = []
    nodes: dict[Node, str] = {}  # "d_node", and its width
    scratch: dict[str, str] = {}
    uses_x = False
    final = len(back.segments) - 1
    written: set[Node] = set()

    def source_array(row: _Row, source: Node) -> str:
        match source.op:
            case "d_state":
                state = names.states[source.value]
                return row.array(f"d_{state}", f"d_{state}[turn, s, : {state}.shape[2]]")
            case "d_output":
                return row.array("d_out", "d_hs[0][place(d_hs, s, t)]")
            case "d_slot":
                k = source.value
                return row.array(f"d_{names.slots[k]}", names.slot_rows("d_row", k))
            case "d_left":
                width = _like(plan.lefts[source.value], plan, names)
                name = f"d_left_{source.value}"
                return row.array(name, f"{name}[s, : {width}]")
            case "d_x":
                return row.array("d_x", "d_x[first + s, : xs[0].shape[1]]")
            case "d_old":
                state = names.states[source.value]
                given = f"d_{state}[1 - turn, s, : {state}.shape[2]]"
                return row.array(f"d_old_{state}", given)
        nodes.setdefault(source, "")
        return row.array(f"d_node_{source.value}", f"d_node_{source.value}[s]")

    for stage, segment in enumerate(back.segments):
        row = _Row(f"_{name}_row_back_{stage}")
        jobs: list[tuple[Node | None, Node, tuple[Term, ...]]] = [
            (s.target, s.target, s.terms) for s in segment
        ]
        if stage == final:
            jobs += [(None, node, terms) for node, terms in back.vectors.items()]
        factors = [term.factor for _, _, terms in jobs for term in terms]
        _know_back(row, plan, names, factors)
        # What is dear to compute, and in two loops
        count: dict[Node, int] = {}
        for _, _, terms in jobs:
            for node in in_order([term.factor for term in terms], row.known):
                if node.op in DEAR and node not in row.known:
                    count[node] = count.get(node, 0) + 1
        for node in in_order(factors):
            if count.get(node, 0) > 1:
                array = f"dear_{len(scratch)}"
                scratch[array] = _like(node, plan, names)
                row.loop(row.array(array, array), [node])
                row.known[node] = array
        for target, node, terms in jobs:
            sources = [(source_array(row, term.source), term.factor) for term in terms]
            if target is None:
                row.loop(row.array(f"d_{_vector(node)}", f"d_{_vector(node)}"),
                         [*sources], add=True)  # fmt: skip
                continue
            written.add(target)
            uses_x |= target.op == "d_x"
            if target.op == "d_node":
                like = terms[0].source
                nodes[target] = _like_source(like, nodes, plan, names)
            row.loop(source_array(row, target), [*sources])
        rows.append(row)

    text = [line for row in rows if row.body for line in [*row.text(), "", ""]]
    left_rows = []
    for k, left in enumerate(plan.lefts):
        row = _Row(f"_{name}_left_{k}")
        out = row.array("left", f"left_{k}")
        _know_back(row, plan, names, [left])
        row.loop(out, [left])
        left_rows.append(row)
        text += [*row.text(), "", ""]

    weights = [*(f"W_{g}T" for g in names.groups), *map(_vector, names.vectors), "at"]
    gradients = [*(f"d_W_{g}" for g in names.groups)]
    gradients += [f"d_{_vector(node)}" for node in names.vectors]
    states = names.states
    comma = "," if len(states) == 1 else ""
    text += [
        "@compiled",
        f"def {name}_back(weights, xs, lengths, d_hs, d_xs, z, states, d_states, gradients):",
        f"    {', '.join(weights)} = weights",
        f"    {', '.join(states)}{comma} = states",
        f"    {', '.join(f'd_{state}' for state in states)}{comma} = d_states",
        f"    {', '.join(gradients)}{',' if len(gradients) == 1 else ''} = gradients",
        "    batch, end = len(lengths), longest(lengths)",
        "    steps = steps_of_a_block(batch, end)",
        "    rows = steps * batch",
        "    dz = room(rows, z.shape[1], z)",
        "    panel = room(rows, padded(1, z), z)",
    ]
    x_needed = "rows" if uses_x else "rows if len(d_xs[0]) else 0"
    text += [
        f"    d_x = room({x_needed}, padded(xs[0].shape[1], z), z)",
        "    x_columns = ones_below(xs[0].shape[1], rows, z)",
    ]
    columns: dict[Node, str] = {}
    for group in names.groups.values():
        if group.left.op == "state" and group.left not in columns:
            state = states[group.left.value]
            columns[group.left] = f"{state}_columns"
            text.append(f"    {state}_columns = ones_below({state}.shape[2], rows, z)")
    for k, left in enumerate(plan.lefts):
        columns[left] = f"left_{k}_columns"
        width = _like(left, plan, names)
        text += [
            f"    left_{k} = room(np.int64(1), {width}, z)[0]",
            f"    d_left_{k} = room(batch, padded({width}, z), z)",
            f"    left_{k}_columns = ones_below({width}, rows, z)",
        ]
    for node, width in nodes.items():
        text.append(f"    d_node_{node.value} = room(batch, {width}, z)")
    text += [f"    {array} = room(np.int64(1), {width}, z)[0]" for array, width in scratch.items()]
    text += [
        "    for t in range(end - 1, -1, -1):",
        "        first, turn = t % steps * batch, (end - 1 - t) % 2",
    ]
    for stage, row in enumerate(rows):
        if row.body:
            text += ["        for s in range(batch):", "            if t < lengths[s]:"]
            text += row.call(_given("t") | {"d_row": "dz[first + s]"}, " " * 16)
        if stage < final:
            for target in dict.fromkeys(target for target, _ in back.groups[stage]):
                text.append(f"        zero_rows(d_left_{target.value})")
            for target, group in back.groups[stage]:
                g = next(g for g, other in names.groups.items() if other is group)
                text.append(
                    f"        add_product(d_left_{target.value}[::1, 0:], "
                    f"dz[first::1, at[{group.first}] :][:batch], W_{g}T)"
                )
    for k, state in enumerate(states):
        if not any(node.op == "d_old" and node.value == k for node in written):
            text.append(f"        zero_rows(d_{state}[1 - turn])")
    for target, group in back.state:
        g = next(g for g, other in names.groups.items() if other is group)
        text.append(
            f"        add_product(d_{states[target.value]}[1 - turn, ::1, 0:], "
            f"dz[first::1, at[{group.first}] :][:batch], W_{g}T)"
        )
    text += [f"        keep_ended(d_{n}, turn, t, lengths)" for n in states]
    text += [
        "        if not first:",
        "            stop = min(t + steps, end)",
        "            rows = (stop - t) * batch",
        "            input_columns(x_columns, xs, t, stop, lengths)",
    ]
    for left, array in columns.items():
        if left.op == "state":
            state = states[left.value]
            text.append(f"            state_columns({array}, {state}, t, stop, lengths)")
            continue
        k = plan.lefts.index(left)
        text += [
            "            for u in range(t, stop):",
            "                for s in range(batch):",
            "                    n, alive = (u - t) * batch + s, u < lengths[s]",
            "                    if alive:",
        ]
        text += left_rows[k].call(_given("u"), " " * 24)
        text.append(f"                    column({array}, n, left_{k}, alive)")
    for g, group in names.groups.items():
        array = "x_columns" if g.startswith("x_") else columns[group.left]
        text.append(
            f"            add_gradient(d_W_{g}, {array}, dz[:rows], at[{group.first}], panel)"
        )
    inputs = [(g, group) for g, group in names.groups.items() if g.startswith("x_")]
    text.append("            if len(d_xs[0]):")
    if not uses_x:
        text.append("                zero_rows(d_x[:rows])")
    for g, group in inputs:
        text.append(
            f"                add_product(d_x[::1, 0:], dz[:rows:1, at[{group.first}] :], W_{g}T)"
        )
    text += [
        "                give_inputs(d_xs, d_x, t, stop, lengths)",
        "    return end % 2",
    ]
    return text


def _given(t: str) -> dict[str, str]:
    """What a row of step ``t`` is given on the way back."""
    return {
        "row": f"z[{t} * batch + s]",
        "old": t,
        "new": f"{t} + 1",
        "x": f"xs[0][place(xs, s, {t})]",
    }


def _know_back(row: _Row, plan: Forward, names: _Names, ends: list[Node]) -> None:
    """The arrays that hold values on the way back: slots, both states, inputs."""
    kept = {slot.kept: k for k, slot in enumerate(plan.slots)}
    new = {node: k for k, node in enumerate(plan.state) if node.args or node.op == "slot"}

    def visit(node: Node) -> None:
        if node in row.known:
            return
        if node in kept:
            k = kept[node]
            row.known[node] = row.array(names.slots[k], names.slot_rows("row", k))
        elif node in new:
            state = names.states[new[node]]
            row.known[node] = row.array(f"new_{state}", f"{state}[new, s]")
        elif node.op == "state":
            state = names.states[node.value]
            row.known[node] = row.array(f"old_{state}", f"{state}[old, s]")
        elif node.op == "x":
            row.known[node] = row.array("x", "x")
        else:
            for argument in node.args:
                visit(argument)

    for end in ends:
        visit(end)


def _like_source(source: Node, nodes: dict[Node, str], plan: Forward, names: _Names) -> str:
    match source.op:
        case "d_state" | "d_old":
            return f"{names.states[source.value]}.shape[2]"
        case "d_output":
            return _like(plan.output, plan, names)
        case "d_slot":
            return f"at[{source.value + 1}] - at[{source.value}]"
        case "d_left":
            return _like(plan.lefts[source.value], plan, names)
    return nodes[source]


def _stream(name: str, plan: Forward, names: _Names) -> list[str]:
    """One step in one piece of memory: a call has two arrays to look at, and no more."""
    text = [
        "@compiled",
        f"def {name}_stream(room, sizes):",
        "    batch = sizes[0]",
        f"    at = {', '.join(f'sizes[{k + 1}]' for k in range(len(plan.slots) + 1))}",
        f"    place = {len(plan.slots) + 2}",
    ]

    def piece(array: str, axes: int) -> None:
        """Where it starts and ends, and its shape, stand in ``sizes``."""
        shape = ", ".join(f"sizes[place + {k + 2}]" for k in range(axes))
        text.append(f"    {array} = room[sizes[place] : sizes[place + 1]].reshape({shape})")
        text.append(f"    place += {axes + 2}")

    for g in names.groups:
        piece(f"W_{g}", 3)  # (panels, m, columns)
    for array in ("b", *map(_vector, names.vectors)):
        piece(array, 1)
    for array in ("z", "xs", "hs"):
        piece(array, 2)  # (batch, n)
    for state in names.states:
        piece(state, 3)  # (2, batch, n)
    weights = [*(f"W_{g}" for g in names.groups), "b", *map(_vector, names.vectors), "at"]
    states = ", ".join(names.states) + ("," if len(names.states) == 1 else "")
    text += [
        "    steps = np.empty(batch, np.int64)",
        "    for s in range(batch):",
        "        steps[s] = 1",
        "    first, one = np.int64(0), np.int64(1)",
        f"    weights = {', '.join(weights)}",
        "    inputs, outputs = (xs, first, one, one), (hs, first, one, one)",
        f"    {name}_forward(weights, inputs, steps, outputs, z, ({states}))",
    ]
    for state in names.states:
        text += [
            "    for s in range(batch):",
            f"        copy({state}[0, s], {state}[1, s])",
        ]
    return text


def _alone(name: str, plan: Forward, names: _Names) -> list[str]:
    """A whole run in one thread, the weights packed within: one call, for what is small."""
    fields = [f"params_{field}" for field in plan.program.params]
    text = [
        "@compiled",
        f"def {name}_alone({', '.join(fields)}, xs, hs, {', '.join(names.states)}, ",
    ]
    text[-1] += "per_sequence, per_step, end):"
    text += [f"    batch = len({names.states[0]})"]
    for k, slot in enumerate(plan.slots):
        field, _ = slot.products[0].args[1].value
        before = f"at_{k - 1} + n_{k - 1}" if k else "np.int64(0)"
        axis = plan.program.params[field] - 1
        text += [f"    n_{k} = params_{field}.shape[{axis}]", f"    at_{k} = {before}"]
    last = len(plan.slots) - 1
    places = [*(f"at_{k}" for k in range(len(plan.slots))), f"at_{last} + n_{last}"]
    text.append(f"    at = ({', '.join(places)})")
    ends = []
    for g, group in names.groups.items():
        [field] = {matrix.value[0] for matrix in group.matrices}
        gates = [matrix.value[1] for matrix in group.matrices]
        if gates == [None]:
            given = f"params_{field}.reshape((1, params_{field}.shape[0], params_{field}.shape[1]))"
        elif gates == list(range(gates[0], gates[-1] + 1)):
            given = f"params_{field}[{gates[0]} : {gates[-1] + 1}]"
        else:
            given = f"picked(params_{field}, ({', '.join(map(str, gates))}))"
        text.append(f"    W_{g} = pack_here({given})")
        ends.append(f"at_{group.first} + W_{g}.shape[0] * W_{g}.shape[2]")
    width = ends[0] if len(ends) == 1 else f"max({', '.join(ends)})"
    text += [f"    width = {width}", "    b = room(np.int64(1), width, xs)[0]"]
    for k, slot in enumerate(plan.slots):
        for bias in slot.biases:
            field, gate = bias.value
            given = f"params_{field}" if gate is None else f"params_{field}[{gate}]"
            text.append(f"    add(b[at_{k} :], {given})")
    for node in names.vectors:
        field, gate = node.value
        given = f"params_{field}" if gate is None else f"params_{field}[{gate}]"
        text.append(f"    {_vector(node)} = {given}")
    text.append("    z = room(steps_at_once(batch) * batch, width, xs)")
    for state in names.states:
        text += [
            f"    both_{state} = room(2 * batch, {state}.shape[1], xs)",
            f"    both_{state} = both_{state}.reshape(2, batch, {state}.shape[1])",
            "    for s in range(batch):",
            f"        copy(both_{state}[0, s], {state}[s])",
        ]
    weights = [*(f"W_{g}" for g in names.groups), "b", *map(_vector, names.vectors), "at"]
    states = ", ".join(f"both_{state}" for state in names.states)
    states += "," if len(names.states) == 1 else ""
    text += [
        "    first = np.int64(0)",
        "    inputs = xs, first, per_sequence, per_step",
        "    outputs = hs, first, per_sequence, per_step",
        "    steps = np.empty(batch, np.int64)",
        "    for s in range(batch):",
        "        steps[s] = end",
        f"    {name}_forward(({', '.join(weights)}), inputs, steps, outputs, z, ({states}))",
        "    for s in range(batch):",
    ]
    return [*text, *(f"        copy({n}[s], both_{n}[end % 2, s])" for n in names.states)]


def _can_be_alone(plan: Forward) -> bool:
    """Whether each group of matrices lies in one field."""
    for group in (*plan.inputs, *(group for groups in plan.groups for group in groups)):
        gates = [matrix.value[1] for matrix in group.matrices]
        fields = {matrix.value[0] for matrix in group.matrices}
        if len(fields) > 1 or (None in gates and gates != [None]):
            return False
    return bool(plan.slots)


def source(name: str, plan: Forward, back: Back) -> str:
    """The loops of a cell, forward and back, and its step for a stream."""
    names = _Names(plan)
    lines = [*_forward(name, plan, names), "", "", *_stream(name, plan, names), "", ""]
    if _can_be_alone(plan):
        lines += [*_alone(name, plan, names), "", ""]
    lines += _back(name, back, names)
    return "\n".join(part for line in lines for part in _wrapped(line)) + "\n"


def _wrapped(line: str, width: int = 100) -> list[str]:
    """A line, or where it is too long, its arguments below it, as many on a line as fit."""
    if len(line) <= width:
        return [line]
    margin = " " * (len(line) - len(line.lstrip()) + 4)
    head, _, inside = line.rpartition(")")[0].partition("(")
    lines, now = [head + "("], margin
    depth, start = 0, 0
    for k, letter in enumerate(inside + ","):
        depth += (letter in "([") - (letter in ")]")
        if letter == "," and not depth:
            argument = inside[start:k].strip() + ","
            if len(now) + len(argument) > width:
                lines.append(now.rstrip())
                now = margin
            now += argument + " "
            start = k + 1
    return [*lines, now.rstrip(), margin[4:] + ")" + line.rpartition(")")[2]]


def written() -> str:
    """The text of ``cells_compiled.py`` as it should be."""
    from ..cells import CELLS
    from .plan import plan_back, plan_forward
    from .program import sample_program

    loops = Path(__file__).with_name("loops.py").read_bytes()
    parts, marks = [], {"loops.py": mark(loops.decode())}
    for name, cell in CELLS.items():
        plan = plan_forward(sample_program(cell))
        parts.append(source(name, plan, plan_back(plan)))
        marks[name] = mark(parts[-1])
    marked = "".join(f"    {name!r}: {value!r},\n" for name, value in marks.items())
    return "\n\n".join([f"{HEADER}\nMARKS = {{\n{marked}}}\n", *parts])


def mark(text: str) -> str:
    """A short mark of a text, to tell whether it is still the same."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


if __name__ == "__main__":
    Path(__file__).with_name("cells_compiled.py").write_text(written(), encoding="utf-8")
