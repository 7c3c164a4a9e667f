"""Losses: each returns its value and its gradient at the outputs.

``loss(outputs, targets, weights=None) -> (value, d_outputs)``; any function of that kind will do
for `lstmbook.training.train`.

The same rules hold for all three:

- Outputs are floats. Arrays or lists will do, for targets and weights too.
- The value is the mean over all steps, a Python float, summed in float64.
- The gradient has the shape and the dtype of the outputs. float16 is computed in float32 and
  rounded at the end; what is below 3e-8 becomes 0 there.
- A step of weight 0 counts nothing, whatever stands there: its outputs may be NaN, its targets NaN
  or a padding such as -1. Its gradient is 0.
- An infinite output gives the limit; NaN if there is none.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..cells._activations import Array, sigmoid

__all__ = ["binary_cross_entropy", "mean_squared_error", "softmax_cross_entropy"]


def softmax_cross_entropy(
    logits: ArrayLike, targets: ArrayLike, weights: ArrayLike | None = None
) -> tuple[float, Array]:
    """``-log softmax(logits)[target]``, the mean over all steps, in nats.

    Parameters
    ----------
    logits : (..., classes) array of floats
        Of any size: nothing overflows.
    targets : (...) integers
        From 0 to ``classes - 1``.
    weights : (...) array, optional
        What each step counts in the mean; all alike if not given.

    Returns
    -------
    loss : float
    d_logits : (..., classes) array
        The gradient, in the dtype of ``logits``.

    Raises
    ------
    TypeError
        If logits are no floats, targets no integers or weights no real numbers.
    ValueError
        If a shape does not fit, a target is no class, or the weights have no positive sum.
    """
    logits, targets = _arrays("logits", logits, targets)
    if targets.dtype.kind not in "iu":
        raise TypeError(f"targets has dtype {targets.dtype}; expected integers, the class numbers")
    _check_shape("targets", targets, logits.shape[:-1])
    share = _shares(weights, logits.shape[:-1])
    z, targets = _where_counted(share, logits, targets)
    classes = z.shape[-1]
    if not 0 <= targets.min() <= targets.max() < classes:
        raise ValueError(
            f"targets go from {targets.min()} to {targets.max()}; expected 0 to {classes - 1}, "
            f"since there are {classes} outputs"
        )
    target = targets[..., None]
    top = z.max(axis=-1, keepdims=True)
    chosen = np.take_along_axis(z, target, -1)
    with np.errstate(over="ignore", invalid="ignore"):
        below = z - top  # (..., classes), from -inf to 0
        gap = np.subtract(top, chosen, dtype=np.float64)  # (..., 1)
    if np.isinf(top).any():  # the limit: a single infinite logit is the whole softmax
        single = np.isinf(top) & ((z == top).sum(axis=-1, keepdims=True) == 1)
        below = np.where(single & (z == top), 0, below)
        gap = np.where(single & (chosen == top), 0, gap)
    log_sum = np.log(np.exp(below).sum(axis=-1, keepdims=True))
    p = np.exp(below - log_sum)
    np.put_along_axis(p, target, np.take_along_axis(p, target, -1) - 1, -1)
    return _mean(share, (log_sum + gap)[..., 0]), _gradient(p, share, logits.dtype)


def binary_cross_entropy(
    logits: ArrayLike, targets: ArrayLike, weights: ArrayLike | None = None
) -> tuple[float, Array]:
    """``-t log p - (1 - t) log(1 - p)`` with ``p = sigmoid(logit)``, the mean, in nats.

    Parameters
    ----------
    logits : (..., output) array of floats
        Of any size: nothing overflows.
    targets : (..., output) array
        Probabilities, as a rule 0 and 1.
    weights : (...) array, optional
        What each step counts in the mean; all alike if not given.

    Returns
    -------
    loss : float
        The mean over steps and outputs.
    d_logits : (..., output) array
        The gradient, in the dtype of ``logits``.

    Raises
    ------
    TypeError
        If logits are no floats, or targets or weights no real numbers.
    ValueError
        If a shape does not fit, or the weights have no positive sum.
    """
    logits, targets = _arrays("logits", logits, targets)
    _check_shape("targets", targets, logits.shape)
    share = _shares(weights, logits.shape[:-1])
    z, t = _where_counted(share, logits, targets)
    t = t.astype(np.result_type(z, t), copy=False)
    # -log p is log(1 + exp(-|z|)), and |z| more where z is below 0; -log(1 - p) where it is above.
    size, off = np.abs(z), np.where(z > 0, 1 - t, t)
    far = np.multiply(size, off, out=np.zeros_like(off), where=off != 0)  # 0, not inf * 0
    value = _mean(share, (far + np.log1p(np.exp(-size))).mean(axis=-1, dtype=np.float64))
    return value, _gradient(sigmoid(z) - t, share / z.shape[-1], logits.dtype)


def mean_squared_error(
    outputs: ArrayLike, targets: ArrayLike, weights: ArrayLike | None = None
) -> tuple[float, Array]:
    """``(output - target)**2``, the mean.

    Parameters
    ----------
    outputs : (..., output) array of floats
    targets : (..., output) array
    weights : (...) array, optional
        What each step counts in the mean; all alike if not given.

    Returns
    -------
    loss : float
        The mean over steps and outputs.
    d_outputs : (..., output) array
        The gradient, in the dtype of ``outputs``.

    Raises
    ------
    TypeError
        If outputs are no floats, or targets or weights no real numbers.
    ValueError
        If a shape does not fit, or the weights have no positive sum.
    """
    outputs, targets = _arrays("outputs", outputs, targets)
    _check_shape("targets", targets, outputs.shape)
    share = _shares(weights, outputs.shape[:-1])
    y, t = _where_counted(share, outputs, targets)
    with np.errstate(invalid="ignore"):  # two infinite numbers have no difference
        error = y - t
    value = _mean(share, np.square(error, dtype=np.float64).mean(axis=-1))
    return value, _gradient(2 * error, share / y.shape[-1], outputs.dtype)


def _arrays(name: str, outputs: ArrayLike, targets: ArrayLike) -> tuple[Array, Array]:
    """Outputs of at least one step, floats, and targets, numbers."""
    outputs, targets = np.asarray(outputs), np.asarray(targets)
    if outputs.dtype.kind != "f":
        raise TypeError(
            f"{name} has dtype {outputs.dtype}; expected floats, "
            f"for example np.asarray({name}, np.float32)"
        )
    if outputs.ndim == 0 or outputs.size == 0:
        raise ValueError(
            f"{name} has shape {outputs.shape}; expected at least one step with at least one "
            "output, (..., output)"
        )
    if targets.dtype.kind not in "fiub":
        raise TypeError(f"targets has dtype {targets.dtype}; expected real numbers")
    return outputs, targets


def _shares(weights: ArrayLike | None, shape: tuple[int, ...]) -> Array:
    """What each step counts, of that shape: float64 numbers that sum to 1."""
    weights = np.ones(shape) if weights is None else np.asarray(weights)
    if weights.dtype.kind not in "fiub":
        raise TypeError(f"weights has dtype {weights.dtype}; expected real numbers")
    _check_shape("weights", weights, shape)
    total = weights.sum(dtype=np.float64)
    if not 0 < total < math.inf or weights.min() < 0:
        raise ValueError(f"weights sum to {total:g}; expected a positive sum and none below 0")
    return np.asarray(weights / total, np.float64)


def _where_counted(share: Array, outputs: Array, targets: Array) -> tuple[Array, Array]:
    """Outputs, in float32 at least, and targets: 0 at the steps that count nothing."""
    outputs = outputs.astype(np.promote_types(outputs.dtype, np.float32), copy=False)
    counted = share > 0
    if counted.all():
        return outputs, targets
    of_targets = counted[..., None] if targets.ndim > counted.ndim else counted
    return np.where(counted[..., None], outputs, 0), np.where(of_targets, targets, 0)


def _mean(share: Array, terms: Array) -> float:
    """The mean of one term per step."""
    return float(np.sum(share * terms, dtype=np.float64))


def _gradient(slope: Array, share: Array, dtype: np.dtype[Any]) -> Array:
    """``share * slope``, computed in the precision of ``slope`` and rounded to ``dtype``."""
    d_outputs: Array = slope * share[..., None].astype(slope.dtype)
    return d_outputs.astype(dtype, copy=False)


def _check_shape(name: str, array: Array, expected: tuple[int, ...]) -> None:
    if array.shape != expected:
        mend = ""
        if array.shape == (*expected, 1):
            mend = f". One axis too many: {name}[..., 0]?"
        elif (*array.shape, 1) == expected:
            mend = f". One axis is missing: {name}[..., None]?"
        raise ValueError(f"{name} has shape {array.shape}; the outputs call for {expected}{mend}")
