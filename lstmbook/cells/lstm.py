"""The LSTM with a forget gate and no peepholes, TensorFlow's ``BasicLSTMCell``::

    i = sigmoid(x W_xi + h W_hi + b_i)      input gate
    f = sigmoid(x W_xf + h W_hf + b_f)      forget gate
    g =    tanh(x W_xg + h W_hg + b_g)      candidate
    o = sigmoid(x W_xo + h W_ho + b_o)      output gate
    c = f * c + i * g                       new cell state
    h = o * tanh(c)                         new hidden state, the output

``x`` is (batch, input), ``h`` and ``c`` are (batch, hidden); the weights are those of `Params`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from ._activations import Array, sigmoid, tanh
from ._init import glorot

GATES = "ifgo"


class Params(NamedTuple):
    """Weights; the first axis counts the gates in the order ``i f g o``."""

    W_x: Array  # (4, input, hidden)
    W_h: Array  # (4, hidden, hidden)
    b: Array  # (4, hidden)


class State(NamedTuple):
    """What is carried from step to step. (TensorFlow 1's tuple is the other way round, (c, h).)"""

    h: Array  # (batch, hidden): hidden state, equal to the last output
    c: Array  # (batch, hidden): cell state


def init(
    rng: np.random.Generator, input_size: int, hidden_size: int, dtype: DTypeLike = np.float32
) -> Params:
    """Fresh weights: Glorot-uniform kernels, zero biases but 1 for the forget gate."""
    params = Params(
        W_x=glorot(rng, 4, input_size, hidden_size, dtype=dtype),
        W_h=glorot(rng, 4, hidden_size, hidden_size, dtype=dtype),
        b=np.zeros((4, hidden_size), dtype),
    )
    params.b[GATES.index("f")] = 1
    return params


def zero_state(params: Params, batch: int) -> State:
    """State of zeros, ``(batch, hidden)`` each, in the dtype of ``params``."""
    shape, dtype = (batch, params.b.shape[-1]), params.b.dtype
    return State(h=np.zeros(shape, dtype), c=np.zeros(shape, dtype))


def gates(params: Params, x: Array, state: State) -> tuple[Array, Array, Array, Array]:
    """``i, f, g, o``, each ``(batch, hidden)``: the equations above."""
    i, f, g, o = x @ params.W_x + state.h @ params.W_h + params.b[:, None]
    return sigmoid(i), sigmoid(f), tanh(g), sigmoid(o)


def step(params: Params, x: Array, state: State) -> tuple[Array, State]:
    """One time step: ``c = f * c + i * g`` and ``h = o * tanh(c)``.

    TensorFlow's ``forget_bias`` is part of ``b`` here (`layouts.load`).
    Source: Hochreiter and Schmidhuber (1997); Gers, Schmidhuber and
    Cummins (2000); ``BasicLSTMCell`` of TensorFlow 1.12.
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
        dz_i = dc * g * i * (1 - i)                 from c = f * c_old + i * g
        dz_f = dc * c_old * f * (1 - f)
        dz_g = dc * i * (1 - g**2)
        dc_old = dc * f
        dW_x = x.T dz       dx     = sum over the gates of dz W_x.T
        dW_h = h_old.T dz   dh_old = sum over the gates of dz W_h.T
        db = sum over the batch of dz

    Source: Graves and Schmidhuber (2005); ``tf.gradients`` of TensorFlow 1.12.
    """
    i, f, g, o = gates(params, x, state)
    dh, dc = d_state.h, d_state.c
    h_old, c_old = state.h, state.c
    c = f * c_old + i * g
    dz_o = dh * tanh(c) * o * (1 - o)
    dc = dc + dh * o * (1 - tanh(c) ** 2)
    dz_i = dc * g * i * (1 - i)
    dz_f = dc * c_old * f * (1 - f)
    dz_g = dc * i * (1 - g**2)
    dc_old = dc * f

    dz = np.stack([dz_i, dz_f, dz_g, dz_o])
    d_params = Params(W_x=x.T @ dz, W_h=h_old.T @ dz, b=dz.sum(axis=1))
    d_x = (dz @ params.W_x.swapaxes(1, 2)).sum(axis=0)
    dh_old = (dz @ params.W_h.swapaxes(1, 2)).sum(axis=0)
    return d_params, d_x, State(dh_old, dc_old)
