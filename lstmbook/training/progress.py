"""How far a training is, on stderr, in terminals and notebooks; silent elsewhere."""

import sys
from typing import Any, Self

__all__ = ["Progress"]


class Progress:
    """A bar of tqdm; where that is not installed, a line ``120/480  loss 0.25`` at each tenth.

    Parameters
    ----------
    total : int
        The number of steps to come.
    show : bool
        False for silence. True shows it if stderr is a terminal or a notebook's.
    """

    def __init__(self, total: int, show: bool = True) -> None:
        self.total = total
        self.show = show and total > 0 and _is_watched(sys.stderr)
        self._bar = _bar(total) if self.show else None

    def update(self, done: int, note: str = "") -> None:
        """Show that ``done`` steps are done, with a short note."""
        if self._bar is not None:
            self._bar.set_postfix_str(note, refresh=False)
            self._bar.update(done - self._bar.n)
        elif self.show and 10 * done // self.total > 10 * (done - 1) // self.total:
            print(f"{done}/{self.total}  {note}", file=sys.stderr, flush=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()


def _bar(total: int) -> Any:
    try:
        from tqdm import tqdm  # not tqdm.auto, which warns in a notebook without ipywidgets
    except ImportError:
        return None
    return tqdm(total=total, file=sys.stderr)


def _is_watched(stream: object) -> bool:
    """Whether somebody can see a line drawn again: a terminal, or a notebook's stream."""
    isatty = getattr(stream, "isatty", None)
    return bool(isatty and isatty()) or type(stream).__module__.startswith("ipykernel")
