"""A value in a few words: its shape and dtype, and its numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

__all__ = ["numbers_of", "safely", "shape_of"]


def shape_of(value: Any, depth: int = 0) -> str:
    """Describe a value: shape and dtype, the shapes in a tuple, a short repr, or the type."""
    shape: Any = getattr(value, "shape", None)
    if hasattr(shape, "__len__"):  # a module or a class may have another kind of `shape`
        sizes = ", ".join(map(str, shape)) + ("," if len(shape) == 1 else "")
        dtype = getattr(value, "dtype", "")
        kind = getattr(dtype, "name", None) or str(dtype).removeprefix("torch.")
        return f"({sizes})" if depth else f"({sizes}) {kind}".rstrip()
    if isinstance(value, tuple | list) or hasattr(value, "as_list"):  # tf.TensorShape has as_list
        parts = [f"{label}{shape_of(item, depth + 1)}" for label, item in _items(value, depth)]
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


def numbers_of(value: Any, depth: int = 0) -> str:
    """Print the arrays in a value, rounded and cut short."""
    if isinstance(value, tuple | list):
        parts = [(label, numbers_of(item, depth + 1)) for label, item in _items(value, depth)]
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


def safely(describe: Callable[[Any], str], value: Any, otherwise: str) -> str:
    """Describe a value of any make: a symbolic tensor, say, has no numbers and raises."""
    try:
        return describe(value)
    except Exception:
        return otherwise
