"""The loops of a TensorFlow 2 graph, which are functions, as TensorFlow 1 wrote them: as nodes.

A ``While`` is called with the values of its variables; its body gets them and returns the next.
Here each variable becomes Enter, Merge, Switch, NextIteration and Exit, and the body's nodes stand
between Switch and NextIteration; what the body hands on as it is becomes Enter alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

_DEPTH = 8  # of loops within loops
# Outputs of operators that have several, by name: their places
_PLACES = {
    "LSTMBlockCell": ("i", "cs", "f", "o", "ci", "co", "h"),
    "BlockLSTM": ("i", "cs", "f", "o", "ci", "co", "h"),
    "BlockLSTMV2": ("i", "cs", "f", "o", "ci", "co", "h"),
    "GRUBlockCell": ("r", "u", "c", "h"),
}


class Node(NamedTuple):
    """A node of a graph, as far as it is looked at."""

    name: str
    op: str
    input: list[str]
    attr: Mapping[str, Any] = {}


def flat(nodes: Iterable[Any], library: Any) -> Iterator[Any]:
    """The nodes of a graph, those of the bodies of its loops among them."""
    functions = {function.signature.name: function for function in library.function}
    names = {node.name for node in nodes}
    for node in nodes:
        yield from _flat(node, functions, names, 0)


def _flat(node: Any, functions: Mapping[str, Any], names: set[str], depth: int) -> Iterator[Any]:
    body = functions.get(node.attr["body"].func.name) if "While" in node.op else None
    if body is None or depth > _DEPTH:
        yield node
        return
    inputs = [value for value in node.input if not value.startswith("^")]
    arguments = [argument.name for argument in body.signature.input_arg]
    returned = [body.ret[output.name] for output in body.signature.output_arg]
    same = [argument == value for argument, value in zip(arguments, returned, strict=False)]
    known = {
        name: f"{node.name}/{'enter' if same[k] else 'switch'}_{k}"
        for k, name in enumerate(arguments)
    }
    inner = {}  # the name of a node in the body -> its name here, which no other has
    for part in body.node_def:
        name = part.name if part.name not in names else f"{node.name}/{part.name}"
        names.add(name)
        inner[part.name] = Node(name, part.op, [], part.attr)

    def value(text: str) -> str:
        """``node:output:1`` of the body, as a graph has it: ``node:1``."""
        first, *rest = text.lstrip("^").split(":")
        if first in known:
            return known[first]
        place = int(rest[1]) if len(rest) > 1 else 0
        if first in inner and rest and inner[first].op in _PLACES:
            place = _PLACES[inner[first].op].index(rest[0])
        name = inner[first].name if first in inner else first
        return f"{name}:{place}" if place else name

    for part in body.node_def:
        found = inner[part.name]
        found.input.extend(value(x) for x in part.input if not x.startswith("^"))
        yield from _flat(found, functions, names, depth + 1)
    for k, (outer, output) in enumerate(zip(inputs, returned, strict=False)):
        enter, merge, switch, step = (
            f"{node.name}/{part}_{k}" for part in ("enter", "merge", "switch", "next")
        )
        yield Node(enter, "Enter", [outer])
        if not same[k]:
            yield Node(merge, "Merge", [enter, step])
            yield Node(switch, "Switch", [merge])
            yield Node(step, "NextIteration", [value(output)])
        last = enter if same[k] else switch
        yield Node(f"{node.name}:{k}" if k else node.name, "Exit", [last])
