"""JAX in the dtype of our arrays."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

try:
    import jax
except ImportError as error:
    raise ImportError(
        f"the live cells of Flax and Haiku need JAX, which cannot be imported here ({error}); "
        "pip install 'lstmbook[jax]' brings it"
    ) from error

__all__ = ["jax", "precision"]


@contextmanager
def precision(dtype: Any) -> Iterator[None]:
    """Float64 where our arrays have it: JAX by itself computes in float32. On the CPU."""
    with jax.enable_x64(np.dtype(dtype) == np.float64), jax.default_device(jax.devices("cpu")[0]):
        yield
