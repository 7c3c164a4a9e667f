"""Weights that PyTorch computes from others before it uses them.

Weight normalisation keeps a norm ``g`` and a direction ``v``: the weight is ``g v / |v|``, the norm
taken over each row (`torch.nn.utils.weight_norm`, and its successor in ``parametrizations``). A
layer with dropped weights (AWD-LSTM) keeps the weight itself as ``…_raw``, and what lies under its
name is left over from the last step of training.
"""

from __future__ import annotations

import re

import numpy as np

from ..cells._activations import Array
from ._base import Shapes, Take

_WEIGHT = r"(?P<weight>weight_(?:ih|hh|hr)(?:_l\d+)?(?:_reverse)?)"
_KEPT = (  # how a part of a weight is called, and how the other part is
    (re.compile(rf"(?P<above>.*){_WEIGHT}_g"), "{above}{weight}_v"),
    (
        re.compile(rf"(?P<above>.*)parametrizations\.{_WEIGHT}\.original0"),
        "{above}parametrizations.{weight}.original1",
    ),
)
_RAW = re.compile(rf"(?P<above>.*?){_WEIGHT}_raw")


def worked_out(shapes: Shapes, take: Take) -> tuple[Shapes, Take, dict[str, str]]:
    """The arrays by the names under which PyTorch uses them; and of some, how they were found."""
    names = dict(shapes)
    sources: dict[str, tuple[str, ...]] = {}
    words: dict[str, str] = {}
    for name in shapes:
        for pattern, other in _KEPT:
            match = pattern.fullmatch(name)
            direction = other.format(**match.groupdict()) if match else ""
            if match and _is_norm(shapes[name], shapes.get(direction)):
                weight = match["above"] + match["weight"]
                sources[weight] = (name, direction)
                words[weight] = f"{match['weight']} from its norm and direction"
        match = _RAW.fullmatch(name)
        if match:
            inner = f"{match['above']}module."
            above = inner if any(other.startswith(inner) for other in shapes) else match["above"]
            weight = above + match["weight"]
            sources[weight] = (name,)
            words[weight] = f"{match['weight']} as it is before weights are dropped"
    for weight, stored in sources.items():
        names[weight] = shapes[stored[-1]]
        for name in stored:
            names.pop(name, None)

    def get(name: str) -> Array:
        if name not in sources:
            return take(name)
        parts = [take(part) for part in sources[name]]
        return parts[0] if len(parts) == 1 else _with_norm(*parts)

    return names, get, words


def _is_norm(norm: tuple[int, ...], direction: tuple[int, ...] | None) -> bool:
    """Whether one array can be the norms of another: 1 along the axes that they are taken over."""
    return direction is not None and (
        not norm
        or (
            len(norm) == len(direction)
            and all(a in (1, b) for a, b in zip(norm, direction, strict=True))
        )
    )


def _with_norm(g: Array, v: Array) -> Array:
    """``g v / |v|``, the norm over those axes that ``g`` does not have."""
    axes = tuple(k for k in range(v.ndim) if k >= g.ndim or g.shape[k] == 1)
    norm: Array = np.sqrt(np.square(v, dtype=np.float64).sum(axis=axes, keepdims=True))
    weight: Array = (g.reshape(norm.shape) * (v / norm)).astype(v.dtype)
    return weight
