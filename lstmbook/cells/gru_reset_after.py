"""The GRU with the reset gate after the matrix product: Keras' default, cuDNN, PyTorch::

    r = sigmoid(x W_xr + h W_hr + b_r)                      reset gate
    z = sigmoid(x W_xz + h W_hz + b_z)                      update gate
    n =    tanh(x W_xn + b_n + r * (h W_hn + b_hn))         candidate
    h = z * h + (1 - z) * n

``x`` is (batch, input), ``h`` is (batch, hidden); the weights are those of `Params`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from . import gru
from ._activations import Array, sigmoid, tanh
from .rnn import State, zero_state

__all__ = ["GATES", "Params", "State", "gates", "init", "step", "step_vjp", "zero_state"]

GATES = "rzn"


class Params(NamedTuple):
    """Weights; the first axis counts the gates in the order ``r z n``."""

    W_x: Array  # (3, input, hidden)
    W_h: Array  # (3, hidden, hidden)
    b: Array  # (3, hidden)
    b_hn: Array  # (hidden,): the one bias more, inside the reset


def init(
    rng: np.random.Generator, input_size: int, hidden_size: int, dtype: DTypeLike = np.float32
) -> Params:
    """Fresh weights: Glorot-uniform kernels, zero biases."""
    return Params(
        *gru.init(rng, input_size, hidden_size, dtype),
        b_hn=np.zeros(hidden_size, dtype),
    )


def gates(params: Params, x: Array, state: State) -> tuple[Array, Array, Array]:
    """``r, z, n``, each ``(batch, hidden)``: the equations above."""
    r, z, n = x @ params.W_x + params.b[:, None]
    h_r, h_z, h_n = state.h @ params.W_h
    r = sigmoid(r + h_r)
    z = sigmoid(z + h_z)
    n = tanh(n + r * (h_n + params.b_hn))
    return r, z, n


def step(params: Params, x: Array, state: State) -> tuple[Array, State]:
    """One time step: ``h = z * h + (1 - z) * n``.

    Frameworks keep two biases for ``r`` and ``z`` as well; only their sum
    matters, so here it is one. Source: Cho et al. (2014), version 1 of the
    preprint; Keras 3 ``GRU(reset_after=True)``, PyTorch ``nn.GRU``.
    """
    _, z, n = gates(params, x, state)
    h = z * state.h + (1 - z) * n
    return h, State(h)


def step_vjp(params: Params, x: Array, state: State, d_state: State) -> tuple[Params, Array, State]:
    """One step back: from the gradient at the new state to the gradients at all that made it.

    The equations in reverse; ``dz`` is the gradient at a gate's pre-activation::

        dz_z = dh * (h_old - n) * z * (1 - z)       from h = z * h_old + (1 - z) * n
        dz_n = dh * (1 - z) * (1 - n**2)
        dz_r = dz_n * a * r * (1 - r)               a = h_old W_hn + b_hn, which r scales
        da = dz_n * r
        dW_h = h_old.T q            q is dz_r, dz_z, da: what h_old W_h gets
        dh_old = dh * z + sum over the gates of q W_h.T
        dW_x = x.T dz               dx = sum over the gates of dz W_x.T
        db = sum over the batch of dz, db_hn of da

    Source: the chain rule; ``tf.GradientTape`` through Keras 3 ``GRU(reset_after=True)``.
    """
    r, z, n = gates(params, x, state)
    dh, h_old = d_state.h, state.h
    _, _, W_hn = params.W_h
    a = h_old @ W_hn + params.b_hn
    dz_z = dh * (h_old - n) * z * (1 - z)
    dz_n = dh * (1 - z) * (1 - n**2)
    dz_r = dz_n * a * r * (1 - r)
    da = dz_n * r

    dz, q = np.stack([dz_r, dz_z, dz_n]), np.stack([dz_r, dz_z, da])
    d_params = Params(W_x=x.T @ dz, W_h=h_old.T @ q, b=dz.sum(axis=1), b_hn=da.sum(axis=0))
    d_x = (dz @ params.W_x.swapaxes(1, 2)).sum(axis=0)
    dh_old = dh * z + (q @ params.W_h.swapaxes(1, 2)).sum(axis=0)
    return d_params, d_x, State(dh_old)
