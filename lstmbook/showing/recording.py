"""The recording of a run: what happened in one function, line by line."""

from __future__ import annotations

import ast
from types import CodeType, FrameType
from typing import Any

from .rows import Row

__all__ = ["Watch"]


class Watch:  # pragma: no cover (Python does not trace a trace function, so coverage is blind)
    """The trace function: it follows one code object from line to line and fills the rows."""

    def __init__(self, code: CodeType, at: dict[int, Row]) -> None:
        self.code, self.at = code, at
        self.busy = False
        self.locals: dict[str, Any] = {}

    def on_call(self, frame: FrameType, event: str, arg: Any) -> Any:
        if frame.f_code is not self.code or self.busy:
            return None
        self.busy = True
        self.leaving: Row | None = None  # the `return` that was met
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

    def begin(self, row: Row, frame: FrameType) -> None:
        self.row, self.raised, self.before = row, False, dict(frame.f_locals)
        row.executed = True
        if isinstance(row.node, ast.Return):  # a `finally` may still come between
            self.leaving = row

    def end(self, frame: FrameType, following: Row | None) -> None:
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

    def row_of(self, error: BaseException) -> Row | None:
        """Find the row that the error passed through."""
        place = error.__traceback__
        while place is not None and place.tb_frame.f_code is not self.code:
            place = place.tb_next
        return None if place is None else self.at.get(place.tb_lineno)
