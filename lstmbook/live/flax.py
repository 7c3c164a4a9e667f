"""Flax on our weights: the cells of Linen and of NNX, their step in our loop."""

from typing import Any

import numpy as np

from ..cells._activations import Array
from ._engine import Call, adapter, need
from ._jax import jax, precision

__all__ = ["run"]

flax = need("flax")
linen, nnx = need("flax.linen"), need("flax.nnx")

_CELLS = {"rnn": "SimpleCell", "gru_reset_after": "GRUCell"}
_LSTMS = {"flax": "LSTMCell", "flax_nnx": "OptimizedLSTMCell", "flax_nnx_lstm": "LSTMCell"}


@adapter(lambda name, layout="flax": layout, time_first=True)
def run(call: Call, *, layout: str = "flax") -> Any:
    """Flax's own cell at every step; same signature and return as `lstmbook.run`.

    Parameters
    ----------
    cell, params, xs, state, lengths, time_major : as in `lstmbook.run`
    layout : str
        ``flax`` for Linen, ``flax_nnx`` for NNX (an LSTM is an ``OptimizedLSTMCell``),
        ``flax_nnx_lstm`` for the ``LSTMCell`` of NNX.

    Returns
    -------
    hs, state : as in `lstmbook.run`
    """
    dtype, tree, kind = call.xs.dtype, call.tree(), _CELLS.get(call.name, _LSTMS[layout])
    with precision(dtype):
        if layout == "flax":
            linens = getattr(linen, kind)(call.params.b.shape[-1], param_dtype=dtype)
            theirs = jax.jit(lambda carry, x: linens.apply({"params": tree}, carry, x))
        else:
            sizes, kinds = call.params.W_x.shape[1:], {"dtype": dtype, "param_dtype": dtype}
            make = getattr(nnx, kind)
            module = nnx.eval_shape(lambda: make(*sizes, **kinds, rngs=nnx.Rngs(0)))  # no weights
            nnx.update(module, jax.tree.map(jax.numpy.asarray, tree))
            theirs = nnx.jit(module)

        def step(x: Array, old: Any) -> tuple[Array, Any]:
            carry = (old.c, old.h) if len(old) == 2 else old.h
            new, h = jax.tree.map(np.asarray, theirs(carry, x))
            return h, type(old)(h=new[1], c=new[0]) if len(old) == 2 else type(old)(new)

        return call.by_steps(step)
