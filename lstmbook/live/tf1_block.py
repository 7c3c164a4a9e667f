"""TensorFlow's operators BlockLSTM, BlockLSTMV2 and GRUBlockCell on our weights.

An operator is called for one step at a time, in our loop: ``BlockLSTM`` knows one length for the
whole batch, and past it both its outputs and its state are zero.
"""

from typing import Any

import numpy as np

from ..cells._activations import Array
from ._engine import Call, adapter
from ._tensorflow import tf

__all__ = ["run"]


@adapter(lambda name, v2=False, **_: "tf1_block_v2" if v2 else "tf1_block", time_first=True)
def run(call: Call, *, forget_bias: float = 1.0, v2: bool = False) -> Any:
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
    arrays, State = call.arrays(forget_bias), call.cell.State

    def gru(x: Array, old: Any) -> tuple[Array, Any]:
        h = tf.raw_ops.GRUBlockCell(x=x, h_prev=old.h, **arrays).h.numpy()
        return h, State(h)

    none = np.zeros(call.params.b.shape[-1], np.float32)
    options: dict[str, Any] = {"cell_clip": -1.0, "use_peephole": "wci" in arrays}
    options |= dict.fromkeys(("wci", "wcf", "wco"), none) | arrays
    if not v2:
        options["forget_bias"] = forget_bias
    operator = tf.raw_ops.BlockLSTMV2 if v2 else tf.raw_ops.BlockLSTM

    def lstm(x: Array, old: Any) -> tuple[Array, Any]:
        outputs = operator(seq_len_max=1, x=x[None], cs_prev=old.c, h_prev=old.h, **options)
        h, c = outputs.h.numpy()[0], outputs.cs.numpy()[0]
        return h, State(h, c)

    return call.by_steps(gru if call.name == "gru" else lstm)
