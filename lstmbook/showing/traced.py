"""A trace as it is shown: lines of text, or a table in a notebook."""

from __future__ import annotations

import html
import textwrap
from dataclasses import dataclass, replace
from typing import Any

__all__ = ["Line", "Trace"]


@dataclass(frozen=True)
class Line:
    """One statement of the source, and what it made the last time it ran.

    Attributes
    ----------
    number
        Its line in the file.
    source
        Its text, several physical lines if need be. Of `if`, `for` and the like, the header only.
    names
        The names that it assigned, each with its shape. Under `return`, what was returned.
    values
        The numbers in the arrays among them, rounded.
    times
        How often it ran; of a `for`, the number of rounds.
    executed
        Whether it ran at all.
    """

    number: int
    source: str
    names: dict[str, str]
    values: dict[str, str]
    times: int
    executed: bool

    def notes(self, values: bool = False) -> list[str]:
        """Say, line by line, what stands beside the source. Names of one shape stand together."""
        if not self.executed:
            return ["not run"]
        groups: dict[tuple[str, str, bool], list[str]] = {}
        for name, shape in self.names.items():
            value = self.values[name] if values else ""
            groups.setdefault((shape, value, name == "return"), []).append(name)
        notes = []
        for (shape, value, _), names in groups.items():
            notes += textwrap.wrap(f"{', '.join(names)}: {shape}", 56, subsequent_indent="  ")
            notes += [f"  {text}" for text in value.splitlines()]
        if self.times != 1:
            notes[:1] = [f"(×{self.times}) {''.join(notes[:1])}".rstrip()]
        return notes


@dataclass(frozen=True, repr=False, eq=False)
class Trace:
    """What `trace` gives: the lines of one function, and the result of the call.

    Attributes
    ----------
    name
        The function whose lines these are.
    result
        What the call returned.
    lines
        The statements in order, each a `Line`.
    locals
        The function's local names, and what they stood for when it returned.
    values
        Whether the values are shown, too.

    Examples
    --------
    >>> from lstmbook import trace
    >>> def double(x):
    ...     y = 2 * x
    ...     return y
    >>> t = trace(double, np.eye(2))
    >>> t.lines[1].names
    {'y': '(2, 2) float64'}
    >>> print(t.show(values=True))
    def double(x):  x: (2, 2) float64
                      [[1. 0.]
                       [0. 1.]]
        y = 2 * x   y: (2, 2) float64
                      [[2. 0.]
                       [0. 2.]]
        return y    return: (2, 2) float64
                      [[2. 0.]
                       [0. 2.]]
    """

    name: str
    result: Any
    lines: tuple[Line, ...]
    locals: dict[str, Any]
    values: bool = False

    def show(self, values: bool = True) -> Trace:
        """Give the same trace with the values, or without."""
        return replace(self, values=values)

    def __str__(self) -> str:
        width = min(60, max(len(text) for line in self.lines for text in line.source.splitlines()))
        out = []
        for line in self.lines:
            notes = line.notes(self.values)
            for text in line.source.splitlines():  # no note fits beside a longer line: go below it
                beside = notes.pop(0) if notes and len(text) <= width else ""
                out.append(f"{text:<{width}}  {beside}".rstrip())
            out += [f"{'':<{width}}  {note}" for note in notes]
        return "\n".join(out)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        name, rows = html.escape(self.name), ""
        for line in self.lines:
            cells = (line.source, "\n".join(line.notes(self.values)))
            faint = "" if line.executed else ' style="opacity:.8;font-style:italic"'
            data = "".join(f'<td style="{_CELL}">{html.escape(text)}</td>' for text in cells)
            rows += f"<tr{faint}>{data}</tr>"
        return (  # the class tells a Sphinx theme that this table can be dark
            f'<div role="region" tabindex="0" aria-label="{name}, line by line" style="{_BOX}">'
            f'<table class="dataframe" translate="no" style="{_TABLE}"><thead><tr>'
            f'<th scope="col" style="{_HEAD}">{name}</th>'
            f'<th scope="col" style="{_HEAD}">what the line made</th>'
            f"</tr></thead><tbody>{rows}</tbody></table></div>"
        )


_BOX = "overflow-x:auto;max-width:100%"
_TABLE = "border-collapse:collapse;margin:0;color:inherit;font-size:.8em"
_HEAD = (
    "border:0;border-bottom:1px solid var(--pst-color-border,var(--jp-border-color2,#8888));"
    "padding:.2em .6em;text-align:left;vertical-align:top;white-space:pre-wrap"
)
_FONT = "var(--pst-font-family-monospace,var(--jp-code-font-family,monospace)),monospace"
_CELL = f"{_HEAD};font-family:{_FONT};min-width:14em"
