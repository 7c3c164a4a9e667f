"""Writes assets/cells.js, the explorer's cells, from their pages.

The explorer computes in the reader's browser, where there is no Python. A
page is run once on symbols (`lstmbook.running.program`), and its operations
are written down in JavaScript, for one unit: there a product with a matrix
is one of two numbers. A gate keeps its letter. ``make generate`` runs this.
"""

from collections import Counter
from pathlib import Path

from lstmbook.cells import CELLS
from lstmbook.running.program import in_order, sample_gates, sample_program

SCRIPT = Path(__file__).parent.parent / "assets" / "cells.js"
HEADER = """\
// The explorer's cells for one unit, generated from their pages: do not
// edit, `make generate` writes them. step(params, x, old) gives every gate
// and the new state; old is the state before it. params has a list for each
// of fields, which have the letters of its numbers.
const lstmbookCells = (() => {
  "use strict";
  const { exp, max, min, sqrt, tanh } = Math;
  const sigmoid = (z) => 0.5 * (1 + tanh(0.5 * z));
  return {
"""
FOOTER = "  };\n})();\n"

# How an operation is written: its words, and how tightly it binds.
SUM, TIMES, SIGN, CALL = range(4)
WORDS = {
    "add": ("{} + {}", SUM),
    "subtract": ("{} - {}", SUM),
    "multiply": ("{} * {}", TIMES),
    "product": ("{} * {}", TIMES),
    "divide": ("{} / {}", TIMES),
    "negative": ("-{}", SIGN),
    "at_least": ("Number({} >= {})", CALL),
    "maximum": ("max({}, {})", CALL),
    "minimum": ("min({}, {})", CALL),
    "exp": ("exp({})", CALL),
    "sigmoid": ("sigmoid({})", CALL),
    "sqrt": ("sqrt({})", CALL),
    "tanh": ("tanh({})", CALL),
}


def fields_of(cell):
    """For each field of Params the letters of its numbers."""
    letters = {"p": getattr(cell, "PEEPHOLES", ""), "b_hn": "n"}
    return {
        name: letters.get(name, cell.GATES) for name in cell.Params._fields
    }


def step_of(cell):
    """The lines of a step.

    A gate has a name, and so has a part of the new state, and each value
    that is needed twice.
    """
    program = sample_program(cell)
    gates = sample_gates(cell, program)
    new = dict(zip(program.fields, program.state, strict=True))
    letters = {node: letter for letter, node in {**new, **gates}.items()}
    order = in_order([*gates.values(), *new.values()])
    uses = Counter(argument for node in order for argument in node.args)
    text, lines = {}, []  # text: a node's words, and how tightly they bind
    for node in order:
        if node.op in WORDS:
            text[node] = operation(node, text)
            if node in letters or uses[node] > 1:
                name = letters.get(node, f"value_{len(lines)}")
                lines.append(f"const {name} = {text[node][0]};")
                text[node] = name, CALL
        else:
            text[node] = leaf(node, program)
    values = {k: text[node][0] for k, node in {**gates, **new}.items()}
    pairs = (k if k == v else f"{k}: {v}" for k, v in values.items())
    return [*lines, f"return {{ {', '.join(pairs)} }};"]


def operation(node, text):
    """Its words, with brackets where an argument binds less tightly."""
    words, binds = WORDS[node.op]
    args = node.args
    if node.op in ("add", "multiply") and args[0].op != "const":
        args = args[::-1]  # as on the page: a program turns them round
    if binds == CALL:
        return words.format(*(text[a][0] for a in args)), CALL
    least = [binds, binds + 1] if len(args) == 2 else [CALL]
    operands = (
        text[a][0] if text[a][1] >= k else f"({text[a][0]})"
        for a, k in zip(args, least, strict=True)
    )
    return words.format(*operands), binds


def leaf(node, program):
    """The words for an input, a number or a weight."""
    match node.op:
        case "x":
            return "x", CALL
        case "state":
            return f"old.{program.fields[node.value]}", CALL
        case "const":
            return repr(node.value), SIGN if node.value < 0 else CALL
    field, gate = node.value
    return f"params.{field}[{gate or 0}]", CALL


def written():
    """The text of ``cells.js`` as it should be."""
    parts = []
    for name, cell in CELLS.items():
        fields = (f'{field}: "{k}"' for field, k in fields_of(cell).items())
        parts += [
            f"    {name}: {{\n",
            f'      gates: "{cell.GATES}",\n',
            f'      states: "{"".join(cell.State._fields)}",\n',
            f"      fields: {{ {', '.join(fields)} }},\n",
            "      step(params, x, old) {\n",
            *(f"        {line}\n" for line in step_of(cell)),
            "      },\n    },\n",
        ]
    return "".join([HEADER, *parts, FOOTER])


if __name__ == "__main__":
    SCRIPT.write_text(written(), encoding="utf-8")
