"""A function's source, cut into rows: one for each statement, with the names that it assigns."""

from __future__ import annotations

import ast
import linecache
from collections.abc import Iterator
from types import FunctionType
from typing import Any

from .values import numbers_of, safely, shape_of

__all__ = ["Row", "rows_of"]

_STATEMENTS = (ast.stmt, ast.ExceptHandler, ast.match_case)
_STRINGS = (ast.Constant, ast.JoinedStr)
_QUIET = (ast.Global, ast.Nonlocal, ast.AnnAssign, ast.Expr)


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


class Row:
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
        self.names[name] = safely(shape_of, value, type(value).__name__)
        self.values[name] = safely(numbers_of, value, "")


def rows_of(function: FunctionType, docstring: bool) -> dict[int, Row]:
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
        row = Row(covered[0], "\n".join(texts), nodes, runs.isdisjoint(covered))
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
