"""Flax on our weights: the cells of Linen and of NNX, their step in our loop."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from .. import layouts
from ..cells import Cell, find, name_of
from ..cells._activations import Array
from ..running.arguments import check_arguments
from ._jax import jax, precision
from ._loop import run_steps
from ._versions import need

need("lstmbook.live.flax needs", "Flax", "flax", "0.10.5", "jax")
try:
    from flax import linen, nnx
except (ImportError, AttributeError) as error:  # AttributeError: a JAX that it does not know
    raise ImportError(
        f"lstmbook.live.flax needs Flax, which cannot be imported here ({error}); "
        "pip install 'lstmbook[jax]' brings it"
    ) from error

__all__ = ["run"]

_CELLS = {"rnn": "SimpleCell", "gru_reset_after": "GRUCell"}
_LSTMS = {"flax": "LSTMCell", "flax_nnx": "OptimizedLSTMCell", "flax_nnx_lstm": "LSTMCell"}


def run(
    cell: Cell | str,
    params: Any,
    xs: ArrayLike,
    state: Any = None,
    *,
    lengths: ArrayLike | None = None,
    time_major: bool = False,
    layout: str = "flax",
) -> tuple[Array, Any]:
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
    name, cell = name_of(cell), find(cell)
    params, xs, state, checked = check_arguments(cell, params, xs, state, lengths, time_major)
    arrays = layouts.export(name, layout, params)
    tree: dict[str, dict[str, Array]] = {}
    for key, array in arrays.items():
        module, _, leaf = key.partition("/")
        tree.setdefault(module, {})[leaf] = array
    kind = _CELLS.get(name, _LSTMS[layout])
    with precision(xs.dtype):
        if layout == "flax":
            theirs = getattr(linen, kind)(params.b.shape[-1], param_dtype=xs.dtype)
            call = jax.jit(lambda carry, x: theirs.apply({"params": tree}, carry, x))
        else:
            sizes, kinds = params.W_x.shape[1:], {"dtype": xs.dtype, "param_dtype": xs.dtype}
            make = getattr(nnx, kind)
            theirs = nnx.eval_shape(lambda: make(*sizes, **kinds, rngs=nnx.Rngs(0)))  # no weights
            nnx.update(theirs, jax.tree.map(jax.numpy.asarray, tree))
            call = nnx.jit(theirs)

        def step(x: Array, old: Any) -> tuple[Array, Any]:
            carry = (old.c, old.h) if len(old) == 2 else old.h
            new, h = jax.tree.map(np.asarray, call(carry, x))
            return h, cell.State(h=new[1], c=new[0]) if len(old) == 2 else cell.State(new)

        return run_steps(cell, step, params, xs, state, lengths=checked, time_major=time_major)
