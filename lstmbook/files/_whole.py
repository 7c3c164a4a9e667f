"""Files that are written whole or not at all."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["replacing"]


@contextmanager
def replacing(
    path: Path, stale: Iterable[Path] = (), check: Callable[[Path], None] | None = None
) -> Iterator[Path]:
    """A path to write to, in a folder of its own; what is written there takes its place at the end.

    Every file written into that folder moves to the folder of ``path``, in the order of the names;
    one that is there already is replaced, and the files ``stale`` are removed before. Then
    ``check`` is called with ``path``. If anything fails, all is as it was.
    """
    folder = Path(tempfile.mkdtemp(prefix=".lstmbook-", dir=path.parent))
    new, old = folder / "new", folder / "old"
    restored = True  # else the folder stays: it has the only copy of what was there
    try:
        new.mkdir()
        old.mkdir()
        yield new / path.name
        written = {file: path.parent / file.name for file in sorted(new.iterdir())}
        removed = list(stale)
        before = {place: old / place.name for place in (*removed, *written.values())}
        before = {place: copy for place, copy in before.items() if os.path.lexists(place)}
        for place, copy in before.items():
            _keep(place, copy)
        try:
            for place in removed:
                place.unlink()
            for file, place in written.items():
                os.replace(file, place)
            if check:
                check(path)
        except BaseException:
            restored = False
            for place in written.values():
                if place not in before:
                    place.unlink(missing_ok=True)
            for place, copy in reversed(before.items()):
                os.replace(copy, place)
            restored = True
            raise
    finally:
        if restored:
            shutil.rmtree(folder, ignore_errors=True)


def _keep(place: Path, copy: Path) -> None:
    """A second name for a file; a copy where the file system has no second names."""
    try:
        os.link(place, copy, follow_symlinks=False)
    except (OSError, NotImplementedError):
        shutil.copy2(place, copy, follow_symlinks=False)
