"""The GRU with the reset gate before the matrix product, TensorFlow's ``GRUCell``::

    r = sigmoid(x W_xr + h W_hr + b_r)              reset gate
    z = sigmoid(x W_xz + h W_hz + b_z)              update gate
    n =    tanh(x W_xn + (r * h) W_hn + b_n)        candidate
    h = z * h + (1 - z) * n

``x`` is (batch, input), ``h`` is (batch, hidden); the weights are those of `Params`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from ._activations import Array, sigmoid, tanh
from ._init import glorot
from .rnn import State, zero_state

__all__ = ["GATES", "Params", "State", "gates", "init", "step", "step_vjp", "zero_state"]

GATES = "rzn"


class Params(NamedTuple):
    """Weights; the first axis counts the gates in the order ``r z n``."""

    W_x: Array  # (3, input, hidden)
    W_h: Array  # (3, hidden, hidden)
    b: Array  # (3, hidden)


def init(
    rng: np.random.Generator, input_size: int, hidden_size: int, dtype: DTypeLike = np.float32
) -> Params:
    """Fresh weights: Glorot-uniform kernels, zero biases."""
    return Params(
        W_x=glorot(rng, 3, input_size, hidden_size, dtype=dtype),
        W_h=glorot(rng, 3, hidden_size, hidden_size, dtype=dtype),
        b=np.zeros((3, hidden_size), dtype),
    )


def gates(params: Params, x: Array, state: State) -> tuple[Array, Array, Array]:
    """``r, z, n``, each ``(batch, hidden)``: the equations above."""
    r, z, n = x @ params.W_x + params.b[:, None]
    W_hr, W_hz, W_hn = params.W_h
    r = sigmoid(r + state.h @ W_hr)
    z = sigmoid(z + state.h @ W_hz)
    n = tanh(n + (r * state.h) @ W_hn)
    return r, z, n


def step(params: Params, x: Array, state: State) -> tuple[Array, State]:
    """One time step: ``h = z * h + (1 - z) * n``.

    Source: Cho et al. (2014), version 3 of the preprint; ``GRUCell`` of
    TensorFlow 1.12.
    """
    _, z, n = gates(params, x, state)
    h = z * state.h + (1 - z) * n
    return h, State(h)


def step_vjp(params: Params, x: Array, state: State, d_state: State) -> tuple[Params, Array, State]:
    """One step back: from the gradient at the new state to the gradients at all that made it.

    The equations in reverse; ``dz`` is the gradient at a gate's pre-activation::

        dz_z = dh * (h_old - n) * z * (1 - z)       from h = z * h_old + (1 - z) * n
        dz_n = dh * (1 - z) * (1 - n**2)
        d_rh = dz_n W_hn.T                          at r * h_old, which n reads
        dz_r = d_rh * h_old * r * (1 - r)
        dh_old = dh * z + d_rh * r + dz_r W_hr.T + dz_z W_hz.T
        dW_hr = h_old.T dz_r        dW_hz = h_old.T dz_z        dW_hn = (r * h_old).T dz_n
        dW_x = x.T dz               dx = sum over the gates of dz W_x.T
        db = sum over the batch of dz

    Source: the chain rule; ``tf.gradients`` of TensorFlow 1.12.
    """
    r, z, n = gates(params, x, state)
    dh, h_old = d_state.h, state.h
    W_hr, W_hz, W_hn = params.W_h
    dz_z = dh * (h_old - n) * z * (1 - z)
    dz_n = dh * (1 - z) * (1 - n**2)
    d_rh = dz_n @ W_hn.T
    dz_r = d_rh * h_old * r * (1 - r)
    dh_old = dh * z + d_rh * r + dz_r @ W_hr.T + dz_z @ W_hz.T
    dW_h = np.stack([h_old.T @ dz_r, h_old.T @ dz_z, (r * h_old).T @ dz_n])

    dz = np.stack([dz_r, dz_z, dz_n])
    d_params = Params(W_x=x.T @ dz, W_h=dW_h, b=dz.sum(axis=1))
    d_x = (dz @ params.W_x.swapaxes(1, 2)).sum(axis=0)
    return d_params, d_x, State(dh_old)
