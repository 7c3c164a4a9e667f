"""What the cells' ``init`` share: fresh kernels, and what is said about bad arguments."""

from __future__ import annotations

import math
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from ._activations import Array


def glorot(rng: np.random.Generator, *shape: int, dtype: DTypeLike) -> Array:
    """Uniform on ``±sqrt(6 / (fan_in + fan_out))``, the fans being the last two axes of ``shape``.

    A vector counts as square, as in TensorFlow. Source: Glorot and Bengio (2010).

    Raises
    ------
    TypeError, ValueError
        For a generator, a size or a dtype that is none.
    """
    _check(rng, shape, dtype)
    fan_in, fan_out = shape[-2:]
    if len(shape) == 2:  # (gates, hidden): one vector per gate
        fan_in = fan_out
    limit = math.sqrt(6.0 / (fan_in + fan_out))
    return rng.uniform(-limit, limit, shape).astype(dtype)


def _check(rng: Any, shape: tuple[Any, ...], dtype: DTypeLike) -> None:
    if not isinstance(rng, np.random.Generator | np.random.RandomState):
        raise TypeError(
            f"rng is {rng!r}; expected a generator of random numbers, for example "
            "np.random.default_rng(0)"
        )
    if not all(isinstance(size, Integral) for size in shape):
        raise TypeError(f"weights of the shape {shape} cannot be made; sizes are whole numbers")
    if min(shape) < 1:
        raise ValueError(f"weights of the shape {shape} cannot be made; sizes are at least 1")
    if np.dtype(dtype).kind not in "fc":
        raise TypeError(f"dtype is {np.dtype(dtype)}; weights are floats, for example np.float32")
