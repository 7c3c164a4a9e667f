"""TensorFlow's operators BlockLSTM, BlockLSTMV2 and GRUBlockCell on our weights.

An operator is called for one step at a time, in our loop: ``BlockLSTM`` knows one length for the
whole batch, and past it both its outputs and its state are zero.
"""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from .. import layouts
from ..cells import Cell, find, name_of
from ..cells._activations import Array
from ..running.arguments import check_arguments
from ._loop import run_steps
from ._tensorflow import tf

__all__ = ["run"]


def run(
    cell: Cell | str,
    params: Any,
    xs: ArrayLike,
    state: Any = None,
    *,
    lengths: ArrayLike | None = None,
    time_major: bool = False,
    forget_bias: float = 1.0,
    v2: bool = False,
) -> tuple[Array, Any]:
    """TensorFlow's operator at every step; same signature and return as `lstmbook.run`.

    Parameters
    ----------
    cell, params, xs, state, lengths, time_major : as in `lstmbook.run`
    forget_bias : float
        The operator's own attribute; the result does not depend on it but for rounding.
    v2 : bool
        ``BlockLSTMV2``, which has another order and no forget bias.

    Returns
    -------
    hs, state : as in `lstmbook.run`

    Raises
    ------
    TypeError
        For another dtype than float32, the one that all of these operators have.
    """
    name, cell = name_of(cell), find(cell)
    params, xs, state, checked = check_arguments(cell, params, xs, state, lengths, time_major)
    layout = "tf1_block_v2" if v2 else "tf1_block"
    arrays = layouts.export(name, layout, params, forget_bias=forget_bias)
    if xs.dtype != np.float32:
        raise TypeError(f"TensorFlow's block operators are float32, got {xs.dtype}")

    def gru(x: Array, old: Any) -> tuple[Array, Any]:
        h = tf.raw_ops.GRUBlockCell(x=x, h_prev=old.h, **arrays).h.numpy()
        return h, cell.State(h)

    none = np.zeros(params.b.shape[-1], np.float32)
    options: dict[str, Any] = {"cell_clip": -1.0, "use_peephole": "wci" in arrays}
    options |= dict.fromkeys(("wci", "wcf", "wco"), none) | arrays
    if not v2:
        options["forget_bias"] = forget_bias

    def lstm(x: Array, old: Any) -> tuple[Array, Any]:
        operator = tf.raw_ops.BlockLSTMV2 if v2 else tf.raw_ops.BlockLSTM
        told = operator(seq_len_max=1, x=x[None], cs_prev=old.c, h_prev=old.h, **options)
        h, c = told.h.numpy()[0], told.cs.numpy()[0]
        return h, cell.State(h, c)

    step = gru if name == "gru" else lstm
    return run_steps(cell, step, params, xs, state, lengths=checked, time_major=time_major)
