"""Compiled loops as source, written from the plan of a cell.

``source(name, plan, back)`` is the text of two functions, ``{name}_forward`` and ``{name}_back``,
and of what they call for a row of the batch. ``python -m lstmbook.running.generate`` writes those
of the library's cells into ``cells_compiled.py``, which is kept beside this file; a reader's own
cell is written and compiled when it is first run.

A loop over time makes the products of a step, then goes over the rows, a sequence each. The texts
are put together in `text_forward`, `text_back` and `text_small`, of rows (`text_rows`).
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from ..cells import CELLS
from .plan import Back, Forward, plan_back, plan_forward
from .program import sample_program
from .text_back import back_loop
from .text_forward import forward
from .text_rows import Names
from .text_small import alone, can_be_alone, stream

__all__ = ["HEADER", "mark", "source", "written"]

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


def source(name: str, plan: Forward, back: Back) -> str:
    """The loops of a cell, forward and back, and its step for a stream."""
    names = Names(plan)
    lines = [*forward(name, plan, names), "", "", *stream(name, plan, names), "", ""]
    if can_be_alone(plan):
        lines += [*alone(name, plan, names), "", ""]
    lines += back_loop(name, back, names)
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
