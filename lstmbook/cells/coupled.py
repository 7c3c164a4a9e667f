"""The LSTM with coupled gates, ``CoupledInputForgetGateLSTMCell`` of TensorFlow 1::

    f = sigmoid(x W_xf + h W_hf + b_f)      forget gate; the input gate is 1 - f
    g =    tanh(x W_xg + h W_hg + b_g)      candidate
    o = sigmoid(x W_xo + h W_ho + b_o)      output gate
    c = f * c + (1 - f) * g
    h = o * tanh(c)

``x`` is (batch, input), ``h`` and ``c`` are (batch, hidden); the weights are those of `Params`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from ._activations import Array, sigmoid, tanh
from ._init import glorot
from .lstm import State, zero_state

__all__ = ["GATES", "Params", "State", "gates", "init", "step", "step_vjp", "zero_state"]

GATES = "fgo"


class Params(NamedTuple):
    """Weights; the first axis counts the gates in the order ``f g o``."""

    W_x: Array  # (3, input, hidden)
    W_h: Array  # (3, hidden, hidden)
    b: Array  # (3, hidden)


def init(
    rng: np.random.Generator, input_size: int, hidden_size: int, dtype: DTypeLike = np.float32
) -> Params:
    """Fresh weights: Glorot-uniform kernels, zero biases but 1 for the forget gate."""
    params = Params(
        W_x=glorot(rng, 3, input_size, hidden_size, dtype=dtype),
        W_h=glorot(rng, 3, hidden_size, hidden_size, dtype=dtype),
        b=np.zeros((3, hidden_size), dtype),
    )
    params.b[GATES.index("f")] = 1
    return params


def gates(params: Params, x: Array, state: State) -> tuple[Array, Array, Array]:
    """``f, g, o``, each ``(batch, hidden)``: the equations above."""
    f, g, o = x @ params.W_x + state.h @ params.W_h + params.b[:, None]
    return sigmoid(f), tanh(g), sigmoid(o)


def step(params: Params, x: Array, state: State) -> tuple[Array, State]:
    """One time step: ``c = f * c + (1 - f) * g`` and ``h = o * tanh(c)``.

    TensorFlow keeps the forget gate, as here. ONNX keeps the input gate
    (``f = 1 - i``), and so do Greff et al. (2017) in their variant CIFG.
    Source: ``tf.contrib.rnn`` of TensorFlow 1.12.
    """
    f, g, o = gates(params, x, state)
    c = f * state.c + (1 - f) * g
    h = o * tanh(c)
    return h, State(h, c)


def step_vjp(params: Params, x: Array, state: State, d_state: State) -> tuple[Params, Array, State]:
    """One step back: from the gradient at the new state to the gradients at all that made it.

    The equations in reverse; ``dz`` is the gradient at a gate's pre-activation::

        dz_o = dh * tanh(c) * o * (1 - o)           from h = o * tanh(c)
        dc = dc + dh * o * (1 - tanh(c)**2)
        dz_f = dc * (c_old - g) * f * (1 - f)       from c = f * c_old + (1 - f) * g
        dz_g = dc * (1 - f) * (1 - g**2)
        dc_old = dc * f
        dW_x = x.T dz       dx     = sum over the gates of dz W_x.T
        dW_h = h_old.T dz   dh_old = sum over the gates of dz W_h.T
        db = sum over the batch of dz

    Source: as the LSTM's, with ``i = 1 - f``; ``tf.gradients`` of TensorFlow 1.12.
    """
    f, g, o = gates(params, x, state)
    dh, dc = d_state.h, d_state.c
    h_old, c_old = state.h, state.c
    c = f * c_old + (1 - f) * g
    dz_o = dh * tanh(c) * o * (1 - o)
    dc = dc + dh * o * (1 - tanh(c) ** 2)
    dz_f = dc * (c_old - g) * f * (1 - f)
    dz_g = dc * (1 - f) * (1 - g**2)
    dc_old = dc * f

    dz = np.stack([dz_f, dz_g, dz_o])
    d_params = Params(W_x=x.T @ dz, W_h=h_old.T @ dz, b=dz.sum(axis=1))
    d_x = (dz @ params.W_x.swapaxes(1, 2)).sum(axis=0)
    dh_old = (dz @ params.W_h.swapaxes(1, 2)).sum(axis=0)
    return d_params, d_x, State(dh_old, dc_old)
