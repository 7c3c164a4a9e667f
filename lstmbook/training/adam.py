"""One step of learning: gradients clipped by their global norm, and Adam.

Weights and gradients may be a `Model`, Params, or arrays of floats in tuples, lists and dicts,
nested as you like. What comes back is of the same kind, with the same shapes and dtypes.
"""

import copy
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
    grads : Model, Params, or arrays in tuples, lists and dicts, nested as you like
    max_norm : float

    Returns
    -------
    grads : as given
    norm : float
        The norm before.

    Raises
    ------
    TypeError
        If there is something else than arrays of floats in ``grads``.
    ValueError
        If ``max_norm`` is not above 0.
    """
    if not max_norm > 0:
        raise ValueError(f"max_norm is {max_norm}; expected a number above 0")
    squares = []

    def add_square(a: Array) -> Array:
        squares.append(float(np.sum(np.square(a, dtype=np.float64))))
        return a

    def scaled(a: Array) -> Array:
        wide = np.promote_types(a.dtype, np.float32)  # a small scale is 0 in float16
        return np.multiply(a, scale, dtype=wide)

    _map(add_square, grads=grads)
    norm = math.sqrt(sum(squares))
    scale = 1.0 if norm <= max_norm else max_norm / norm if math.isfinite(norm) else math.nan
    return _map(scaled, grads=grads), norm


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

    ``weights`` is a `Model`, Params, or arrays in tuples, lists and dicts, nested as you like.
    """
    # Python's numbers: a float32 would compute otherwise, before and after a run is stored.
    numbers: dict[str, Any] = {name: np.asarray(v).item() for name, v in settings.items()}
    zeros = (_map(np.zeros_like, weights=weights) for _ in range(2))
    return Adam(*zeros, **numbers)


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

    Raises
    ------
    TypeError
        If there is something else than arrays of floats in ``weights`` or ``grads``.
    ValueError
        If the two, or what `init_adam` was given, differ in structure or in a shape.
    """
    step = adam.step + 1
    trees = {"weights": weights, "grads": grads, "m": adam.m}
    m = _map(lambda w, g, m: m + (1 - adam.beta_1) * (g - m), **trees)
    v = _map(lambda v, g: v + (1 - adam.beta_2) * (np.square(g) - v), v=adam.v, grads=grads)
    rate = adam.learning_rate * math.sqrt(1 - adam.beta_2**step) / (1 - adam.beta_1**step)
    weights = _map(
        lambda w, m, v: w - rate * m / (np.sqrt(v) + adam.epsilon), weights=weights, m=m, v=v
    )
    return weights, adam._replace(m=m, v=v, step=step)


def _map(function: Callable[..., Any], path: str = "", /, **trees: Any) -> Any:
    """``function`` of the arrays that stand at the same place of all trees.

    The result is built as the first tree is, with its shapes and dtypes. A dict is taken in the
    order of its keys, so that the order in which they came makes no difference. The fields that
    ``_fixed`` of a NamedTuple names hold no weights and stay.
    """
    (first, tree), *others = trees.items()
    if not isinstance(tree, dict | tuple | list):
        arrays = [_array(name + path, part, np.shape(tree)) for name, part in trees.items()]
        result = np.asarray(function(*arrays), tree.dtype)
        return result if isinstance(tree, np.ndarray) else result[()]

    for name, other in others:
        if not _alike(tree, other):
            raise ValueError(
                f"{name}{path} is {_described(other)}; expected {_described(tree)}, as {first} has"
            )
    if isinstance(tree, dict):
        copied = copy.copy(tree)
        for key in sorted(tree, key=repr):
            parts = {name: part[key] for name, part in trees.items()}
            copied[key] = _map(function, f"{path}[{key!r}]", **parts)
        return copied
    fields = getattr(tree, "_fields", None)
    results = []
    for k, part in enumerate(tree):
        if fields and fields[k] in getattr(tree, "_fixed", ()):
            results.append(part)
        else:
            parts = {name: other[k] for name, other in trees.items()}
            place = f"{path}.{fields[k]}" if fields else f"{path}[{k}]"
            results.append(_map(function, place, **parts))
    return type(tree)(*results) if fields else type(tree)(results)


def _alike(tree: Any, other: Any) -> bool:
    """Whether two containers hold their parts under the same keys, fields or numbers."""
    if isinstance(tree, dict) or isinstance(other, dict):
        return isinstance(tree, dict) and isinstance(other, dict) and tree.keys() == other.keys()
    if not isinstance(other, tuple | list) or len(tree) != len(other):
        return False
    fields = {getattr(part, "_fields", None) for part in (tree, other)} - {None}
    return len(fields) < 2


def _described(tree: Any) -> str:
    kind = type(tree).__name__
    if isinstance(tree, dict):
        return f"a {kind} of {', '.join(map(repr, sorted(tree, key=repr)))}"
    if hasattr(tree, "_fields"):
        return f"a {kind} of {', '.join(tree._fields)}"
    return f"a {kind} of {len(tree)}" if isinstance(tree, tuple | list) else f"of type {kind}"


def _array(name: str, array: Any, shape: tuple[int, ...]) -> Array:
    """``array``, if it is one of floats and of that shape."""
    if not isinstance(array, np.ndarray | np.generic):
        raise TypeError(
            f"{name} is of type {type(array).__name__}; expected arrays of floats, in tuples, "
            "lists and dicts. np.asarray makes one of a number or of a framework's tensor"
        )
    if array.dtype.kind != "f":
        raise TypeError(
            f"{name} has dtype {array.dtype}; expected floats, for example astype(np.float32)"
        )
    if array.shape != shape:
        raise ValueError(f"{name} has shape {array.shape}; expected that of the weights, {shape}")
    return np.asarray(array)
