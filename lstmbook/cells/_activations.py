"""The two squashing functions of every gated cell."""

from typing import Any

import numpy as np
from numpy import tanh

__all__ = ["Array", "sigmoid", "tanh"]

Array = np.ndarray[Any, Any]


def sigmoid(z: Array) -> Array:
    """Logistic function ``1 / (1 + exp(-z)) = (1 + tanh(z / 2)) / 2``.

    The second form never overflows, keeps the dtype of ``z`` and holds for complex ``z`` too
    (so that derivatives can be taken by a complex step).
    Its error is absolute, about one unit in the last place of 1, not relative to the result.
    """
    return 0.5 * (1.0 + tanh(0.5 * z))
