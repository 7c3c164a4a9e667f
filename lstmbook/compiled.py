"""The loops of `fast` for small cells, compiled by Numba (the extra ``lstmbook[fast]``).

Where a step is a few thousand multiplications, calling NumPy costs more than computing. Here a
whole run is one call. `fast` uses this where Numba is installed and the cell is small; the first
run of a cell waits for the compiler, later ones and other processes find its work in a cache.

The arrays are those of `fast.Kernel`, with a row for each sequence: ``zx (time, batch, rows)`` is
the input's share of the gates, ``W (hidden, rows)`` the recurrent weights; states and outputs,
``h``, ``c`` and ``hs (time, batch, hidden)``, are written in place.
"""

import math

import numpy as np
from numba import njit

__all__ = ["gru", "lstm", "rnn"]


@njit(cache=True)
def _add_product(z, h, W, start, stop):
    """``z[start:stop] += h @ W[:, start:stop]``."""
    for j in range(len(h)):
        for k in range(start, stop):
            z[k] += h[j] * W[j, k]


@njit(cache=True)
def _sigmoid(half_z):
    half = half_z * 0 + 0.5
    return half * math.tanh(half_z) + half


@njit(cache=True)
def rnn(W, zx, lengths, hs, h):
    """``h = tanh(z)``."""
    z = np.empty_like(zx[0, 0])
    for b in range(h.shape[0]):
        for t in range(lengths[b]):
            z[:] = zx[t, b]
            _add_product(z, h[b], W, 0, len(z))
            for j in range(len(z)):
                h[b, j] = math.tanh(z[j])
            hs[t, b] = h[b]


@njit(cache=True)
def lstm(W, zx, lengths, hs, h, c, p, coupled):
    """Rows ``o i f g`` or, coupled, ``o f g``; ``p (3, hidden)`` in the order ``i f o``, halved."""
    z, hidden = np.empty_like(zx[0, 0]), h.shape[1]
    f_row, g_row = len(z) - 2 * hidden, len(z) - hidden
    for b in range(h.shape[0]):
        for t in range(lengths[b]):
            z[:] = zx[t, b]
            _add_product(z, h[b], W, 0, len(z))
            for j in range(hidden):
                old, g = c[b, j], math.tanh(z[g_row + j])
                f = _sigmoid(z[f_row + j] + p[1, j] * old)
                if coupled:
                    new = f * (old - g) + g
                else:
                    new = f * old + _sigmoid(z[hidden + j] + p[0, j] * old) * g
                c[b, j] = new
                h[b, j] = _sigmoid(z[j] + p[2, j] * new) * math.tanh(new)
            hs[t, b] = h[b]


@njit(cache=True)
def gru(W, zx, lengths, hs, h, b_hn, after):
    """Rows ``r z n``; the reset gate before the product, or after it and its bias ``b_hn``."""
    z, hidden = np.empty_like(zx[0, 0]), h.shape[1]
    n, inner = 2 * hidden, np.empty_like(h[0])
    for b in range(h.shape[0]):
        for t in range(lengths[b]):
            z[:] = zx[t, b]
            _add_product(z, h[b], W, 0, n)
            for k in range(n):
                z[k] = _sigmoid(z[k])
            if after:
                inner[:] = b_hn
                for j in range(hidden):
                    for k in range(hidden):
                        inner[k] += h[b, j] * W[j, n + k]
                for j in range(hidden):
                    z[n + j] += z[j] * inner[j]
            else:
                for j in range(hidden):
                    inner[j] = z[j] * h[b, j]
                _add_product(z, inner, W, n, len(z))
            for j in range(hidden):
                new = math.tanh(z[n + j])
                h[b, j] = z[hidden + j] * (h[b, j] - new) + new
            hs[t, b] = h[b]
