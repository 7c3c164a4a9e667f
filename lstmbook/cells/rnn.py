"""The simple recurrent network (Elman), TensorFlow's ``BasicRNNCell``::

    n = tanh(x W_x + h W_h + b)
    h = n

``x`` is (batch, input), ``h`` is (batch, hidden); the weights are those of `Params`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from ._activations import Array, tanh
from ._init import glorot

GATES = "n"


class Params(NamedTuple):
    """Weights; the first axis counts the gates, here the candidate ``n`` alone."""

    W_x: Array  # (1, input, hidden)
    W_h: Array  # (1, hidden, hidden)
    b: Array  # (1, hidden)


class State(NamedTuple):
    """What is carried from step to step."""

    h: Array  # (batch, hidden)


def init(
    rng: np.random.Generator, input_size: int, hidden_size: int, dtype: DTypeLike = np.float32
) -> Params:
    """Fresh weights: Glorot-uniform kernels, zero bias."""
    return Params(
        W_x=glorot(rng, 1, input_size, hidden_size, dtype=dtype),
        W_h=glorot(rng, 1, hidden_size, hidden_size, dtype=dtype),
        b=np.zeros((1, hidden_size), dtype),
    )


def zero_state(params: Params, batch: int) -> State:
    """State of zeros, ``(batch, hidden)``, in the dtype of ``params``."""
    return State(h=np.zeros((batch, params.b.shape[-1]), params.b.dtype))


def gates(params: Params, x: Array, state: State) -> tuple[Array]:
    """``n = tanh(x W_x + h W_h + b)``, (batch, hidden), in a tuple."""
    (n,) = x @ params.W_x + state.h @ params.W_h + params.b[:, None]
    return (tanh(n),)


def step(params: Params, x: Array, state: State) -> tuple[Array, State]:
    """One time step: ``h = n``.

    Source: Elman (1990); ``BasicRNNCell`` of TensorFlow 1.12.
    """
    (n,) = gates(params, x, state)
    h = n
    return h, State(h)


def step_vjp(params: Params, x: Array, state: State, d_state: State) -> tuple[Params, Array, State]:
    """One step back: from the gradient at the new state to the gradients at all that made it.

    The equations in reverse; ``dz`` is the gradient at a gate's pre-activation::

        dz = dh * (1 - n**2)                        from h = n = tanh(z)
        dW_x = x.T dz       dx     = dz W_x.T
        dW_h = h_old.T dz   dh_old = dz W_h.T
        db = sum over the batch of dz

    Source: Werbos (1990); ``tf.gradients`` of TensorFlow 1.12.
    """
    (n,) = gates(params, x, state)
    dh, h_old = d_state.h, state.h
    dz = (dh * (1 - n**2))[None]
    d_params = Params(W_x=x.T @ dz, W_h=h_old.T @ dz, b=dz.sum(axis=1))
    d_x = (dz @ params.W_x.swapaxes(1, 2)).sum(axis=0)
    dh_old = (dz @ params.W_h.swapaxes(1, 2)).sum(axis=0)
    return d_params, d_x, State(dh_old)
