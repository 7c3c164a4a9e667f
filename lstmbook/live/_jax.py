"""JAX in the dtype of our arrays."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from ._versions import need

need("the live cells of Flax and Haiku need", "JAX", "jax", "0.5.3", "jax")
try:
    import jax
except (ImportError, AttributeError) as error:
    raise ImportError(
        f"the live cells of Flax and Haiku need JAX, which cannot be imported here ({error}); "
        "pip install 'lstmbook[jax]' brings it"
    ) from error

try:
    from jax import enable_x64
except ImportError:  # before JAX 0.8
    from jax.experimental import enable_x64

__all__ = ["jax", "precision"]


@contextmanager
def precision(dtype: Any) -> Iterator[None]:
    """Float64 where our arrays have it: JAX by itself computes in float32. On the CPU."""
    with enable_x64(np.dtype(dtype) == np.float64), jax.default_device(jax.devices("cpu")[0]):
        yield
