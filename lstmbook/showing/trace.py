"""A function's own source, each line beside the names that it assigned and the shapes they had.

A framework's cell is best read in the framework's own words. `trace` runs one function once and
shows its lines with what happened on them. The text is read from the installed framework when the
function runs; no copy of it is kept here. No framework is imported: whatever has a `shape` will do.
"""

from __future__ import annotations

import ast
import html
import inspect
import linecache
import sys
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from types import CodeType, FrameType, FunctionType, MethodType
from typing import Any

import numpy as np

__all__ = ["Line", "Trace", "trace"]


def trace(
    function: Callable[..., Any],
    /,
    *args: Any,
    inside: Callable[..., Any] | None = None,
    values: bool = False,
    docstring: bool = False,
    **kwargs: Any,
) -> Trace:
    """Run ``function(*args, **kwargs)`` once and show its lines with the shapes they made.

    Parameters
    ----------
    function
        What to call: a function, a method, anything callable.
    inside
        The function whose lines are shown, if not `function` itself but one that it calls.
    values
        Show the values too, rounded.
    docstring
        Show the docstring and the comments too.

    Returns
    -------
    Trace
        Print it, or let it be the last line of a notebook cell.

    Notes
    -----
    Of calls inside one another, only the outermost is watched. Calls one after the other are
    counted together, and the last one is shown. If the function itself has a parameter named
    `inside`, `values` or `docstring`, bind it first with `functools.partial`.

    Examples
    --------
    >>> def step(x, W):
    ...     z = x @ W
    ...     if z.ndim == 1:
    ...         z = z[None]
    ...     return np.tanh(z)
    >>> print(trace(step, np.ones((2, 3)), np.ones((3, 4))))
    def step(x, W):        x: (2, 3) float64
                           W: (3, 4) float64
        z = x @ W          z: (2, 4) float64
        if z.ndim == 1:
            z = z[None]    not run
        return np.tanh(z)  return: (2, 4) float64
    """
    target = _function(function if inside is None else inside)
    name = target.__qualname__.rpartition("<locals>.")[2]
    at = _rows(target, docstring)
    watch = _Watch(target.__code__, at)
    previous = sys.gettrace()
    sys.settrace(watch.on_call)
    try:
        result = function(*args, **kwargs)
    except BaseException as error:
        if row := watch.row_of(error):
            error.add_note(f"in {name}, line {row.number}: {row.source.splitlines()[0].strip()}")
        raise
    finally:
        sys.settrace(previous)
    rows = list(dict.fromkeys(at.values()))
    if not rows[0].executed:
        raise ValueError(
            f"{name} was never reached: the call came back without running its lines. Most likely "
            "another function did the work: an override, a cached result, or a converted copy (of "
            "tf.function or torch.compile; run eagerly instead). To see which, trace the caller, "
            "for example with inside=type(cell).__call__, and read what its lines call."
        )
    for row, below in reversed(list(pairwise(rows))):
        if row.silent and not row.executed:
            row.times, row.executed = below.times, below.executed
    lines = (Line(r.number, r.source, r.names, r.values, r.times, r.executed) for r in rows)
    return Trace(name, result, tuple(lines), watch.locals, values)


# What is shown.


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


def _shape(value: Any, depth: int = 0) -> str:
    """Describe a value: shape and dtype, the shapes in a tuple, a short repr, or the type."""
    shape: Any = getattr(value, "shape", None)
    if hasattr(shape, "__len__"):  # a module or a class may have another kind of `shape`
        sizes = ", ".join(map(str, shape)) + ("," if len(shape) == 1 else "")
        dtype = getattr(value, "dtype", "")
        kind = getattr(dtype, "name", None) or str(dtype).removeprefix("torch.")
        return f"({sizes})" if depth else f"({sizes}) {kind}".rstrip()
    if isinstance(value, tuple | list) or hasattr(value, "as_list"):  # tf.TensorShape has as_list
        parts = [f"{label}{_shape(item, depth + 1)}" for label, item in _items(value, depth)]
        more = ["…"] if len(parts) < len(value) else []
        text = ", ".join(parts + more)
        if isinstance(value, list):
            return f"[{text}]"
        if hasattr(value, "_fields"):
            return f"({text})"
        kind = "" if type(value) is tuple else f"{type(value).__name__} "
        return f"{kind}({text},)" if len(value) == 1 else f"{kind}({text})"
    if value is None or isinstance(value, bool | int | float | complex | str | bytes):
        text = repr(value)
        return text if len(text) <= 40 else f"{text[:39]}…"
    return type(value).__name__


def _numbers(value: Any, depth: int = 0) -> str:
    """Print the arrays in a value, rounded and cut short."""
    if isinstance(value, tuple | list):
        parts = [(label, _numbers(item, depth + 1)) for label, item in _items(value, depth)]
        return "\n".join(k + v.replace("\n", "\n" + " " * len(k)) for k, v in parts if v)
    if not hasattr(getattr(value, "shape", None), "__len__"):
        return ""
    array = np.asarray(value.detach() if hasattr(value, "detach") else value)
    with np.printoptions(precision=3, suppress=True, threshold=20, edgeitems=2, linewidth=44):
        return "" if array.dtype == object else str(array)


def _items(value: Any, depth: int) -> list[tuple[str, Any]]:
    """The first few items of a sequence, each with the name that a namedtuple gives it."""
    count = len(value) if len(value) <= 6 else 4
    if depth > 2:
        count = 0
    labels = [f"{name} " for name in getattr(value, "_fields", ())] or [""] * count
    return list(zip(labels, value, strict=False))[:count]


def _safely(describe: Callable[[Any], str], value: Any, otherwise: str) -> str:
    """Describe a value of any make: a symbolic tensor, say, has no numbers and raises."""
    try:
        return describe(value)
    except Exception:
        return otherwise


# What is traced: a function, cut into rows.

_STATEMENTS = (ast.stmt, ast.ExceptHandler, ast.match_case)
_STRINGS = (ast.Constant, ast.JoinedStr)
_QUIET = (ast.Global, ast.Nonlocal, ast.AnnAssign, ast.Expr)


def _function(thing: Any) -> FunctionType:
    """Find the Python function behind a method, a partial, a decorator or a callable object."""
    found = thing
    while not isinstance(found, FunctionType) or hasattr(found, "__wrapped__"):
        if hasattr(found, "__wrapped__"):
            found = found.__wrapped__
        elif isinstance(found, MethodType):
            found = found.__func__
        elif isinstance(found, partial):
            found = found.func
        elif not isinstance(found, type) and inspect.isfunction(type(found).__call__):
            found = type(found).__call__
        else:
            raise TypeError(
                f"trace needs a function or method written in Python; got {thing!r}, "
                f"a {type(thing).__name__}, which has no Python lines of its own"
            )
    flags = inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR
    if found.__code__.co_flags & flags or found.__code__.co_name == "<lambda>":
        raise TypeError(
            "trace needs a plain function, written with `def`; "
            f"got {found.__qualname__}, a lambda, a generator or a coroutine"
        )
    return found


def _definition(function: FunctionType) -> tuple[Any, list[str]]:
    """Read the file or notebook cell of the function: its `def` as a tree, and all the lines."""
    code = function.__code__
    linecache.checkcache(code.co_filename)
    lines = linecache.getlines(code.co_filename, function.__globals__)
    try:
        tree = ast.parse("".join(lines))
    except SyntaxError:
        tree = ast.Module([], [])
    for node in ast.walk(tree):
        named = isinstance(node, ast.FunctionDef) and node.name == code.co_name
        if named and _first(node) == code.co_firstlineno:
            return node, lines
    raise OSError(
        f"trace needs the source of {function.__qualname__}, and there is none at line "
        f"{code.co_firstlineno} of {code.co_filename!r}: define it in a file or a notebook cell, "
        "not with exec or at a prompt; if the file was edited since, restart Python"
    )


class _Row:
    """A `Line` in the making: one statement, or a keyword such as `else:` (then no nodes)."""

    def __init__(self, number: int, source: str, nodes: list[Any], silent: bool) -> None:
        node = nodes[0] if len(nodes) == 1 else None  # several on one line: `a = 1; b = 2`
        block = any(_children(n) for n in nodes)
        self.number, self.source, self.node = number, source, node
        self.targets = [] if block and not node else [name for n in nodes for name in _targets(n)]
        self.returns = any(isinstance(n, ast.Return) for n in nodes)
        # A `for` or `with` is met again on the way out: it counts when its block is entered.
        body: Any = node.body if isinstance(node, ast.For | ast.With) else None
        self.body = range(_first(body[0]), body[-1].end_lineno + 1) if body else None
        # Python may run nothing for `else:`, `while True:`, `global x`: the row below then tells.
        self.silent = not nodes or bool(node and block) or (silent and isinstance(node, _QUIET))
        self.names: dict[str, str] = {}
        self.values: dict[str, str] = {}
        self.times = 0
        self.executed = False

    def note(self, name: str, value: Any) -> None:
        self.names[name] = _safely(_shape, value, type(value).__name__)
        self.values[name] = _safely(_numbers, value, "")


def _rows(function: FunctionType, docstring: bool) -> dict[int, _Row]:
    """Cut a function into rows. Each is listed under every line that it covers."""
    root, lines = _definition(function)
    starts: dict[int, list[Any]] = {}
    for node in _below(root.body):
        starts.setdefault(_first(node), []).append(node)
    last = max(root.lineno, _first(root.body[0]) - 1)
    groups: list[tuple[list[Any], list[int]]] = [([], [])]
    for number in _shown(root, lines, docstring):
        if number > last:
            groups.append(([], []))
        nodes = starts.get(number, [])
        groups[-1][0].extend(nodes)
        groups[-1][1].append(number)
        last = max([last, number, *map(_last, nodes)])
    indent = lines[root.lineno - 1][: root.col_offset]
    runs = {line for *_, line in function.__code__.co_lines()}
    at = {}
    for nodes, covered in groups:
        texts = [lines[n - 1].removeprefix(indent).expandtabs().rstrip() for n in covered]
        row = _Row(covered[0], "\n".join(texts), nodes, runs.isdisjoint(covered))
        at.update(dict.fromkeys(covered, row))
    return at


def _shown(root: Any, lines: list[str], docstring: bool) -> list[int]:
    """Number the lines to show: no blank ones; docstring and comments only if asked for."""
    strings: list[Any] = [n for n in ast.walk(root) if isinstance(n, _STRINGS)]
    text = {line for n in strings for line in range(n.lineno + 1, n.end_lineno + 1)}
    hidden: Any = range(0)
    if not docstring and ast.get_docstring(root, clean=False) is not None:
        hidden = range(max(root.lineno + 1, root.body[0].lineno), root.body[0].end_lineno + 1)
    shown = []
    for number in range(root.lineno, root.end_lineno + 1):
        line = lines[number - 1].strip()
        code = line and (docstring or not line.startswith("#"))
        if (code or number in text) and number not in hidden:
            shown.append(number)
    return shown


def _children(node: ast.AST) -> list[Any]:
    """The statements below a compound statement. A nested definition is shown whole: none."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return []
    return [n for n in ast.iter_child_nodes(node) if isinstance(n, _STATEMENTS)]


def _below(nodes: list[Any]) -> Iterator[Any]:
    """Every statement among the nodes and below them, in the order of the text."""
    for node in nodes:
        yield node
        yield from _below(_children(node))


def _first(node: Any) -> int:
    """The first line of a statement, its decorators included."""
    start = node.pattern if isinstance(node, ast.match_case) else node
    return min(int(n.lineno) for n in [start, *getattr(node, "decorator_list", [])])


def _last(node: Any) -> int:
    """The last line of a statement; of one with a block, the last before its block."""
    children = _children(node)
    return _first(children[0]) - 1 if children else int(node.end_lineno)


def _targets(node: ast.AST) -> Iterator[str]:
    """The names that a statement assigns itself; none of a block, lambda or comprehension."""
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
        yield node.id
    for child in ast.iter_child_nodes(node):
        own = isinstance(node, ast.comprehension) and child is node.target
        if not own and not isinstance(child, (*_STATEMENTS, ast.Lambda)):
            yield from _targets(child)


class _Watch:  # pragma: no cover (Python does not trace a trace function, so coverage is blind)
    """The trace function: it follows one code object from line to line and fills the rows."""

    def __init__(self, code: CodeType, at: dict[int, _Row]) -> None:
        self.code, self.at = code, at
        self.busy = False
        self.locals: dict[str, Any] = {}

    def on_call(self, frame: FrameType, event: str, arg: Any) -> Any:
        if frame.f_code is not self.code or self.busy:
            return None
        self.busy = True
        self.leaving: _Row | None = None  # the `return` that was met
        self.begin(next(iter(self.at.values())), frame)
        for name, value in self.before.items():
            if name not in ("self", "cls", *self.code.co_freevars):
                self.row.note(name, value)
        return self.on_event

    def on_event(self, frame: FrameType, event: str, arg: Any) -> Any:
        if event == "exception":
            self.raised, self.leaving = True, None
        elif event == "line":
            row = self.at.get(frame.f_lineno, self.row)
            if row is not self.row:  # the line moves inside a long statement, too
                self.end(frame, row)
                self.begin(row, frame)
        elif event == "return":
            self.end(frame, None)
            self.locals = dict(frame.f_locals)
            self.busy = False
            leaving = self.row if self.row.returns else self.leaving
            if leaving is not None and not self.raised:
                leaving.note("return", arg)
        return self.on_event

    def begin(self, row: _Row, frame: FrameType) -> None:
        self.row, self.raised, self.before = row, False, dict(frame.f_locals)
        row.executed = True
        if isinstance(row.node, ast.Return):  # a `finally` may still come between
            self.leaving = row

    def end(self, frame: FrameType, following: _Row | None) -> None:
        row = self.row
        if row.body is not None and (following is None or following.number not in row.body):
            return
        now = dict(frame.f_locals)
        for name in dict.fromkeys([*row.targets, *now]):
            if name in now:
                new = name not in self.before or self.before[name] is not now[name]
                if new or (name in row.targets and not self.raised):
                    row.note(name, now[name])
        row.times += 1

    def row_of(self, error: BaseException) -> _Row | None:
        """Find the row that the error passed through."""
        place = error.__traceback__
        while place is not None and place.tb_frame.f_code is not self.code:
            place = place.tb_next
        return None if place is None else self.at.get(place.tb_lineno)
