"""Losses: each returns its value and its gradient at the outputs.

``loss(outputs, targets, weights=None) -> (value, d_outputs)``; any function of that kind will do
for `lstmbook.training.train`.
"""

import numpy as np
from numpy.typing import ArrayLike

from ..cells._activations import Array, sigmoid

__all__ = ["binary_cross_entropy", "mean_squared_error", "softmax_cross_entropy"]


def softmax_cross_entropy(
    logits: Array, targets: ArrayLike, weights: ArrayLike | None = None
) -> tuple[float, Array]:
    """``-log softmax(logits)[target]``, the mean over all steps, in nats.

    Parameters
    ----------
    logits : (..., classes) array
        Of any size: nothing overflows.
    targets : (...) integers
        From 0 to ``classes - 1``.
    weights : (...) array, optional
        What each step counts in the mean; all alike if not given.

    Returns
    -------
    loss : float
    d_logits : array shaped as ``logits``
        Its gradient.
    """
    targets = np.asarray(targets)
    if targets.dtype.kind not in "iu":
        raise TypeError(f"targets has dtype {targets.dtype}; expected integers, the class numbers")
    _check_shape("targets", targets, logits.shape[:-1])
    classes = logits.shape[-1]
    if targets.size and not 0 <= targets.min() <= targets.max() < classes:
        raise ValueError(
            f"targets go from {targets.min()} to {targets.max()}; expected 0 to {classes - 1}, "
            f"since there are {classes} outputs"
        )
    share = _shares(weights, logits)
    z = logits - logits.max(axis=-1, keepdims=True)
    log_p = z - np.log(np.exp(z).sum(axis=-1, keepdims=True))
    here = targets[..., None]
    loss = -float(np.sum(share * np.take_along_axis(log_p, here, -1), dtype=np.float64))
    p = np.exp(log_p)
    np.put_along_axis(p, here, np.take_along_axis(p, here, -1) - 1, -1)
    return loss, p * share


def binary_cross_entropy(
    logits: Array, targets: ArrayLike, weights: ArrayLike | None = None
) -> tuple[float, Array]:
    """``-t log p - (1 - t) log(1 - p)`` with ``p = sigmoid(logit)``, the mean, in nats.

    Parameters
    ----------
    logits : (..., output) array
        Of any size: nothing overflows.
    targets : array shaped as ``logits``
        Probabilities, as a rule 0 and 1.
    weights : (...) array, optional
        What each step counts in the mean; all alike if not given.

    Returns
    -------
    loss : float
    d_logits : array shaped as ``logits``
    """
    targets = np.asarray(targets)
    _check_shape("targets", targets, logits.shape)
    share = _shares(weights, logits) / logits.dtype.type(logits.shape[-1])
    terms = np.maximum(logits, 0) - logits * targets + np.log1p(np.exp(-np.abs(logits)))
    d_logits = (sigmoid(logits) - targets) * share
    return float(np.sum(share * terms, dtype=np.float64)), d_logits.astype(logits.dtype)


def mean_squared_error(
    outputs: Array, targets: ArrayLike, weights: ArrayLike | None = None
) -> tuple[float, Array]:
    """``(output - target)**2``, the mean.

    Parameters
    ----------
    outputs : (..., output) array
    targets : array shaped as ``outputs``
    weights : (...) array, optional
        What each step counts in the mean; all alike if not given.

    Returns
    -------
    loss : float
    d_outputs : array shaped as ``outputs``
    """
    targets = np.asarray(targets)
    _check_shape("targets", targets, outputs.shape)
    share = _shares(weights, outputs) / outputs.dtype.type(outputs.shape[-1])
    error = outputs - targets
    d_outputs = (2 * error * share).astype(outputs.dtype)
    return float(np.sum(share * error**2, dtype=np.float64)), d_outputs


def _shares(weights: ArrayLike | None, outputs: Array) -> Array:
    """Weights that sum to 1, with an axis for the outputs added."""
    shape = outputs.shape[:-1]
    weights = np.ones(shape) if weights is None else np.asarray(weights, np.float64)
    _check_shape("weights", weights, shape)
    total = weights.sum()
    if not total > 0 or weights.min() < 0:
        raise ValueError(f"weights sum to {total:g}; expected a positive sum and none below 0")
    share: Array = (weights / total)[..., None]
    return share.astype(outputs.dtype)


def _check_shape(name: str, array: Array, expected: tuple[int, ...]) -> None:
    if array.shape != expected:
        mend = ""
        if array.shape == (*expected, 1):
            mend = f". One axis too many: {name}[..., 0]?"
        elif (*array.shape, 1) == expected:
            mend = f". One axis is missing: {name}[..., None]?"
        raise ValueError(f"{name} has shape {array.shape}; the outputs call for {expected}{mend}")
