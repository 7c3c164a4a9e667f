"""The LSTM whose gates also see the cell state, ``LSTMCell(use_peepholes=True)`` of TensorFlow::

    i = sigmoid(x W_xi + h W_hi + b_i + p_i * c)        sees the old cell state
    f = sigmoid(x W_xf + h W_hf + b_f + p_f * c)        sees the old cell state
    g =    tanh(x W_xg + h W_hg + b_g)
    c = f * c + i * g
    o = sigmoid(x W_xo + h W_ho + b_o + p_o * c)        sees the new cell state
    h = o * tanh(c)

``x`` is (batch, input), ``h`` and ``c`` are (batch, hidden); the weights are those of `Params`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from . import lstm
from ._activations import Array, sigmoid, tanh
from ._init import glorot
from .lstm import State, zero_state

__all__ = [
    "GATES",
    "PEEPHOLES",
    "Params",
    "State",
    "gates",
    "init",
    "step",
    "step_vjp",
    "zero_state",
]

GATES = "ifgo"
PEEPHOLES = "ifo"


class Params(NamedTuple):
    """Weights; gates in the order ``i f g o``, peepholes in the order ``i f o``."""

    W_x: Array  # (4, input, hidden)
    W_h: Array  # (4, hidden, hidden)
    b: Array  # (4, hidden)
    p: Array  # (3, hidden): a diagonal, so each unit sees its own cell only


def init(
    rng: np.random.Generator, input_size: int, hidden_size: int, dtype: DTypeLike = np.float32
) -> Params:
    """Fresh weights: as the LSTM's, with Glorot-uniform peepholes (TensorFlow's default)."""
    return Params(
        *lstm.init(rng, input_size, hidden_size, dtype),
        p=glorot(rng, 3, hidden_size, dtype=dtype),
    )


def gates(params: Params, x: Array, state: State) -> tuple[Array, Array, Array, Array]:
    """``i, f, g, o``, each ``(batch, hidden)``: the equations above."""
    i, f, g, o = x @ params.W_x + state.h @ params.W_h + params.b[:, None]
    p_i, p_f, p_o = params.p
    i = sigmoid(i + p_i * state.c)
    f = sigmoid(f + p_f * state.c)
    g = tanh(g)
    c = f * state.c + i * g
    o = sigmoid(o + p_o * c)
    return i, f, g, o


def step(params: Params, x: Array, state: State) -> tuple[Array, State]:
    """One time step: ``c = f * c + i * g`` and ``h = o * tanh(c)``.

    ``o`` has seen the new ``c``. Source: Gers, Schraudolph and
    Schmidhuber (2002); ``LSTMCell`` of TensorFlow 1.12.
    """
    i, f, g, o = gates(params, x, state)
    c = f * state.c + i * g
    h = o * tanh(c)
    return h, State(h, c)


def step_vjp(params: Params, x: Array, state: State, d_state: State) -> tuple[Params, Array, State]:
    """One step back: from the gradient at the new state to the gradients at all that made it.

    The equations in reverse; ``dz`` is the gradient at a gate's pre-activation::

        dz_o = dh * tanh(c) * o * (1 - o)           from h = o * tanh(c)
        dc = dc + dh * o * (1 - tanh(c)**2)
                + dz_o * p_o                        since o sees c
        dz_i = dc * g * i * (1 - i)                 from c = f * c_old + i * g
        dz_f = dc * c_old * f * (1 - f)
        dz_g = dc * i * (1 - g**2)
        dc_old = dc * f
                + dz_i * p_i + dz_f * p_f           since i and f see c_old
        dp = sums over the batch of dz_i * c_old, dz_f * c_old, dz_o * c
        dW_x = x.T dz       dx     = sum over the gates of dz W_x.T
        dW_h = h_old.T dz   dh_old = sum over the gates of dz W_h.T
        db = sum over the batch of dz

    Source: Greff et al. (2017), section II.B; ``tf.gradients`` of TensorFlow 1.12.
    """
    i, f, g, o = gates(params, x, state)
    dh, dc = d_state.h, d_state.c
    h_old, c_old = state.h, state.c
    p_i, p_f, p_o = params.p
    c = f * c_old + i * g
    dz_o = dh * tanh(c) * o * (1 - o)
    dc = dc + dh * o * (1 - tanh(c) ** 2) + dz_o * p_o
    dz_i = dc * g * i * (1 - i)
    dz_f = dc * c_old * f * (1 - f)
    dz_g = dc * i * (1 - g**2)
    dc_old = dc * f + dz_i * p_i + dz_f * p_f
    dp = np.stack([dz_i * c_old, dz_f * c_old, dz_o * c]).sum(axis=1)

    dz = np.stack([dz_i, dz_f, dz_g, dz_o])
    d_params = Params(W_x=x.T @ dz, W_h=h_old.T @ dz, b=dz.sum(axis=1), p=dp)
    d_x = (dz @ params.W_x.swapaxes(1, 2)).sum(axis=0)
    dh_old = (dz @ params.W_h.swapaxes(1, 2)).sum(axis=0)
    return d_params, d_x, State(dh_old, dc_old)
