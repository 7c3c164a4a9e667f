"""Haiku on our weights: ``hk.LSTM`` and ``hk.GRU``, their step in our loop."""

from typing import Any

import numpy as np

from ..cells._activations import Array
from ._engine import Call, adapter, need
from ._jax import jax, precision

__all__ = ["run"]

haiku = need("haiku")


@adapter("haiku", time_first=True)
def run(call: Call) -> Any:
    """Haiku's own core at every step; same signature and return as `lstmbook.run`."""
    core = haiku.GRU if call.name == "gru" else haiku.LSTM
    size, tree = (
        call.params.b.shape[-1],
        {f"core/{k}".strip("/"): v for k, v in call.tree().items()},
    )
    pure: Any = haiku.without_apply_rng(
        haiku.transform(lambda x, old: core(size, name="core")(x, old))
    )
    apply = jax.jit(pure.apply)

    def step(x: Array, old: Any) -> tuple[Array, Any]:
        theirs = old.h if call.name == "gru" else haiku.LSTMState(hidden=old.h, cell=old.c)
        h, new = jax.tree.map(np.asarray, apply(tree, x, theirs))
        return h, type(old)(*new) if isinstance(new, tuple) else type(old)(new)

    with precision(call.xs.dtype):
        return call.by_steps(step)
