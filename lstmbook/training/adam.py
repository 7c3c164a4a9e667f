"""One step of learning: gradients clipped by their global norm, and Adam.

Weights and gradients may be a `Model`, Params, or arrays in tuples and lists, nested as you like.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ..cells._activations import Array

__all__ = ["Adam", "adam_step", "clip_by_global_norm", "init_adam"]


def clip_by_global_norm(grads: Any, max_norm: float) -> tuple[Any, float]:
    """Gradients scaled down together until ``sqrt(sum of all squares) <= max_norm``.

    ``grads * max_norm / max(norm, max_norm)``; if the norm is not finite, all become NaN.
    Source: Pascanu, Mikolov and Bengio (2013); ``tf.clip_by_global_norm``.

    Parameters
    ----------
    grads : Model, Params, or arrays in tuples and lists, nested as you like
    max_norm : float

    Returns
    -------
    grads : as given
    norm : float
        The norm before.
    """
    if not max_norm > 0:
        raise ValueError(f"max_norm is {max_norm}; expected a number above 0")
    norm = math.sqrt(sum(float(np.sum(np.square(a, dtype=np.float64))) for a in _arrays(grads)))
    scale = 1.0 if norm <= max_norm else max_norm / norm if math.isfinite(norm) else math.nan
    return _map(lambda a: a * a.dtype.type(scale), grads), norm


class Adam(NamedTuple):
    """Adam's memory and settings. Made by `init_adam`."""

    m: Any  # running mean of the gradients, shaped as the weights
    v: Any  # running mean of their squares
    step: int = 0
    learning_rate: float = 1e-3
    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-7


def init_adam(weights: Any, **settings: float) -> Adam:
    """Adam before its first step; ``settings`` are fields of `Adam`, such as ``learning_rate``.

    ``weights`` is a `Model`, Params, or arrays in tuples and lists, nested as you like.
    """
    return Adam(_map(np.zeros_like, weights), _map(np.zeros_like, weights), **settings)  # type: ignore[arg-type]


def adam_step(adam: Adam, weights: Any, grads: Any) -> tuple[Any, Adam]:
    """One step of Adam, as Keras takes it::

        m = m + (1 - beta_1) * (grad - m)
        v = v + (1 - beta_2) * (grad**2 - v)
        rate = learning_rate * sqrt(1 - beta_2**step) / (1 - beta_1**step)
        weight = weight - rate * m / (sqrt(v) + epsilon)

    ``step`` counts from 1. ``epsilon`` stands outside the correction of ``v``, which is what the
    paper calls "epsilon hat"; PyTorch puts it inside, and its default is 1e-8.
    Source: Kingma and Ba (2015), the end of section 2; ``keras.optimizers.Adam``.

    Returns
    -------
    weights, adam : as given, one step later
    """
    step = adam.step + 1
    m = _map(lambda m, g: m + (1 - adam.beta_1) * (g - m), adam.m, grads)
    v = _map(lambda v, g: v + (1 - adam.beta_2) * (np.square(g) - v), adam.v, grads)
    rate = adam.learning_rate * math.sqrt(1 - adam.beta_2**step) / (1 - adam.beta_1**step)
    weights = _map(lambda w, m, v: w - rate * m / (np.sqrt(v) + adam.epsilon), weights, m, v)
    return weights, adam._replace(m=m, v=v, step=step)


def _map(function: Callable[..., Any], tree: Any, *others: Any) -> Any:
    """``function`` of every array; names and cells, which are no arrays, stay."""
    if isinstance(tree, np.ndarray):
        return function(tree, *others)
    if isinstance(tree, tuple | list):
        parts = [_map(function, *part) for part in zip(tree, *others, strict=True)]
        return type(tree)(*parts) if hasattr(tree, "_fields") else type(tree)(parts)
    return tree


def _arrays(tree: Any) -> list[Array]:
    found: list[Array] = []
    _map(found.append, tree)
    return found
