"""JAX in the dtype of our arrays."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from ._engine import need

__all__ = ["jax", "precision"]

jax = need("jax")


@contextmanager
def precision(dtype: Any) -> Iterator[None]:
    """Float64 where our arrays have it: JAX by itself computes in float32. On the CPU."""
    try:
        from jax import enable_x64
    except ImportError:  # before JAX 0.8
        from jax.experimental import enable_x64
    with enable_x64(np.dtype(dtype) == np.float64), jax.default_device(jax.devices("cpu")[0]):
        yield
