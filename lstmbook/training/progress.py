"""A progress bar on stderr, in terminals and notebooks; silent elsewhere."""

import sys
import time
from types import TracebackType
from typing import Self

__all__ = ["Progress"]

_WIDTH = 24
_PAUSE = 0.1  # seconds between two drawings


class Progress:
    """``[######------] 120/480  12 s  loss 0.25``: a line that is drawn again and again.

    Parameters
    ----------
    total : int
        The number of steps to come.
    show : bool
        False for silence. True shows the bar if stderr is a terminal or a notebook's.
    """

    def __init__(self, total: int, show: bool = True) -> None:
        self.total = total
        self.show = show and _is_watched(sys.stderr)
        self.started = time.perf_counter()
        self._drawn = -_PAUSE
        self._length = 0

    def update(self, done: int, note: str = "") -> None:
        """Draw the bar with ``done`` steps behind it and a short note."""
        seconds = time.perf_counter() - self.started
        if not self.show or (seconds - self._drawn < _PAUSE and done < self.total):
            return
        full = _WIDTH * done // max(self.total, 1)
        bar = "#" * full + "-" * (_WIDTH - full)
        line = f"[{bar}] {done}/{self.total}  {seconds:.0f} s  {note}"
        print("\r" + line.ljust(self._length), end="", file=sys.stderr, flush=True)
        self._drawn, self._length = seconds, len(line)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._length:
            print(file=sys.stderr)


def _is_watched(stream: object) -> bool:
    """Whether somebody can see a line drawn again: a terminal, or a notebook's stream."""
    isatty = getattr(stream, "isatty", None)
    return bool(isatty and isatty()) or type(stream).__module__.startswith("ipykernel")
