"""What an answer to a golden vector is, and what is wrong with one that cannot be compared.

An answer is a flat dict of arrays by name: ``hs``, ``final/…`` and, from those who have them,
``gates/…``, ``d_params/…``, ``d_xs`` and ``d_state/…``. Who answers: `functions` in Python, a
`command` in any language, a file of `results`.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from .. import layouts
from ..cells._activations import Array
from .vectors import Vector, flatten

__all__ = ["LIMIT", "AnswerError", "SilentError", "checked", "from_content"]

GROUPS = ("hs", "final", "gates", "d_params", "d_xs", "d_state")
LIMIT = 64 * 2**20  # bytes of a file of results, or of an answer


class AnswerError(Exception):
    """An answer cannot be compared; the message is for the reader."""


class SilentError(AnswerError):
    """There is nobody who answers, so asking again would not help."""


def checked(vector: Vector, flat: Mapping[str, Any]) -> dict[str, Array]:
    """An answer as arrays of the right names and shapes."""
    arrays: dict[str, Array] = {}
    dtype_name = flat.get("dtype", "float64")
    if dtype_name not in ("float64", "float32"):
        raise AnswerError(f"the answer says dtype {dtype_name!r}; expected float64 or float32")
    for name, value in flat.items():
        if value is None or name in ("name", "dtype"):
            continue
        if name not in vector.expected:
            groups = {part.split("/")[0] for part in vector.expected}
            if name.split("/")[0] in set(GROUPS) - groups:
                continue  # more than this vector asks for
            known = ", ".join(vector.expected)
            raise AnswerError(f"the answer has {name!r}, which is unknown; expected {known}")
        array = _array(name, value, vector.expected[name].shape)
        arrays[name] = array.astype(np.float32) if dtype_name == "float32" else array
    if not arrays:
        raise AnswerError(f"the answer is empty; expected {', '.join(vector.expected)}")
    return arrays


def _array(name: str, value: Any, shape: tuple[int, ...]) -> Array:
    try:
        array = np.asarray(value)
        if array.dtype.kind in "iub" or (array.dtype == object and array.size):
            array = array.astype(np.float64)  # whole numbers in JSON; None is NaN
    except Exception as error:
        raise AnswerError(f"{name} is no array of numbers ({error})") from None
    if array.dtype.kind != "f":
        raise AnswerError(f"{name} is of dtype {array.dtype}; expected floats")
    if array.shape != shape:
        axes = {"hs": "(batch, time, hidden) = ", "d_xs": "(batch, time, input) = "}.get(name, "")
        mend = ""
        if len(shape) == 3 and array.shape == (shape[1], shape[0], shape[2]):
            mend = ". Is time the first axis? Batch comes first"
        elif array.ndim == 2 and array.shape == shape[::-1]:
            mend = ". Is it transposed?"
        elif array.size == math.prod(shape):
            mend = ". Is an axis dropped or flattened?"
        elif name == "hs" and array.shape == (shape[0], shape[2]):
            mend = ". Is it the last output alone? All are expected"
        raise AnswerError(f"{name} has shape {array.shape}; expected {axes}{shape}{mend}")
    return array


def from_content(vector: Vector, content: Any, layout: str | None) -> dict[str, Any]:
    """The flat arrays of an answer as it stands in JSON or NPZ."""
    if not isinstance(content, Mapping):
        raise AnswerError(f"the answer is a {type(content).__name__}; expected an object")
    content = dict(content)
    if layout is not None and isinstance(content.get("d_params"), Mapping):
        d_arrays = {
            name: np.asarray(value, np.float64) for name, value in flatten(content["d_params"])
        }
        try:
            content["d_params"] = layouts.pull_back(vector.cell, layout, d_arrays)._asdict()
        except ValueError as error:
            raise AnswerError(str(error)) from None
    return dict(flatten(content))
