"""Whole runs of small cells, compiled by Numba (the extra ``lstmbook[fast]``).

Where a step is a few thousand multiplications, calling NumPy costs more than computing; here a
block of steps is one call. `fast` uses this where Numba is installed and the cell is small. The
first run of a cell waits for the compiler; later ones and other processes find its work in a cache.

The steps are the cells' equations, the gates side by side in the order of the cell: ``W_x (input,
gates * hidden)``, ``W_h (hidden, gates * hidden)``, ``b``. ``xs (time, batch, input)``; the states
``h`` and ``c`` and ``hs (time, batch, hidden)`` are written in place.
"""

import math

import numpy as np
from numba import njit, types
from numba.extending import overload

__all__ = ["gru", "lstm", "rnn"]

# x / 0 is NaN, as in NumPy; a product and a sum may be one instruction.
RULES = {"error_model": "numpy", "fastmath": {"contract"}}
compiled = njit(cache=True, nogil=True, **RULES)


def _tanh(x):
    """``x P(x**2) / Q(x**2)`` in float32, which the compiler computes for many numbers at once."""
    return math.tanh(x)


# The rational function of degree (9, 8) with the least relative error, 2e-8, up to |x| = 9.
_P = tuple(map(np.float32, (0.99999998, 0.133811299, 3.49570944e-3, 2.06109650e-5, 1.33570320e-8)))
_Q = tuple(map(np.float32, (1.0, 0.467144456, 2.58774504e-2, 3.28582847e-4, 7.77758017e-7)))


@overload(_tanh, jit_options=RULES)
def _tanh_of(x):
    if x != types.float32:
        return lambda x: math.tanh(x)
    (p0, p1, p2, p3, p4), (q0, q1, q2, q3, q4) = _P, _Q
    one, nine = np.float32(1), np.float32(9)

    def rational(x):
        x = -nine if x < -nine else nine if x > nine else x  # a NaN stays one
        u = x * x
        y = x * ((((p4 * u + p3) * u + p2) * u + p1) * u + p0)
        y /= (((q4 * u + q3) * u + q2) * u + q1) * u + q0
        return -one if y < -one else one if y > one else y

    return rational


@compiled
def _sigmoid(z, half):
    return half * _tanh(half * z) + half


@compiled
def _add_product(z, x, W, start, stop):
    """``z += x W`` in some columns, four rows by four: each number that is read serves four."""
    batch, m = len(x), len(W)
    for b in range(0, batch - 3, 4):
        z0, z1, z2, z3 = z[b], z[b + 1], z[b + 2], z[b + 3]
        x0, x1, x2, x3 = x[b], x[b + 1], x[b + 2], x[b + 3]
        for j in range(0, m - 3, 4):
            w0, w1, w2, w3 = W[j], W[j + 1], W[j + 2], W[j + 3]
            for k in range(start, stop):
                v0, v1, v2, v3 = w0[k], w1[k], w2[k], w3[k]
                z0[k] += x0[j] * v0 + x0[j + 1] * v1 + x0[j + 2] * v2 + x0[j + 3] * v3
                z1[k] += x1[j] * v0 + x1[j + 1] * v1 + x1[j + 2] * v2 + x1[j + 3] * v3
                z2[k] += x2[j] * v0 + x2[j + 1] * v1 + x2[j + 2] * v2 + x2[j + 3] * v3
                z3[k] += x3[j] * v0 + x3[j + 1] * v1 + x3[j + 2] * v2 + x3[j + 3] * v3
    for b in range(batch - batch % 4, batch):
        zb, xb = z[b], x[b]
        for j in range(0, m - 3, 4):
            w0, w1, w2, w3 = W[j], W[j + 1], W[j + 2], W[j + 3]
            for k in range(start, stop):
                zb[k] += xb[j] * w0[k] + xb[j + 1] * w1[k] + xb[j + 2] * w2[k] + xb[j + 3] * w3[k]
    for b in range(batch):
        for j in range(m - m % 4, m):
            for k in range(start, stop):
                z[b, k] += x[b, j] * W[j, k]


@compiled
def rnn(W_x, W_h, b, xs, lengths, hs, h):
    """``h = tanh(z)``."""
    hidden = h.shape[1]
    z = np.empty((len(h), hidden), h.dtype)
    for t in range(len(xs)):
        z[:] = b
        _add_product(z, xs[t], W_x, 0, hidden)
        _add_product(z, h, W_h, 0, hidden)
        for row in range(len(h)):
            if t < lengths[row]:
                for k in range(hidden):
                    h[row, k] = _tanh(z[row, k])
                hs[t, row] = h[row]


@compiled
def _lstm_row(i, f, g, o, p, coupled, c, h):
    half = h.dtype.type(0.5)
    for k in range(len(h)):
        old, new_g = c[k], _tanh(g[k])
        new_f = _sigmoid(f[k] + p[1, k] * old, half)
        if coupled:
            new = new_f * (old - new_g) + new_g
        else:
            new = new_f * old + _sigmoid(i[k] + p[0, k] * old, half) * new_g
        c[k] = new
        h[k] = _sigmoid(o[k] + p[2, k] * new, half) * _tanh(new)


@compiled
def lstm(W_x, W_h, b, p, places, coupled, xs, lengths, hs, h, c):
    """``places`` of i, f, g, o in a row of ``z``; ``p (3, hidden)`` of i, f, o."""
    i, f, g, o = places
    width, hidden = len(b), h.shape[1]
    z = np.empty((len(h), width), h.dtype)
    for t in range(len(xs)):
        z[:] = b
        _add_product(z, xs[t], W_x, 0, width)
        _add_product(z, h, W_h, 0, width)
        for row in range(len(h)):
            if t < lengths[row]:
                gates = z[row]
                _lstm_row(
                    gates[i : i + hidden],
                    gates[f : f + hidden],
                    gates[g : g + hidden],
                    gates[o : o + hidden],
                    p,
                    coupled,
                    c[row],
                    h[row],
                )
                hs[t, row] = h[row]


@compiled
def _sigmoids(z, half):
    for k in range(len(z)):
        z[k] = _sigmoid(z[k], half)


@compiled
def _add_times(z, a, b):
    for k in range(len(z)):
        z[k] += a[k] * b[k]


@compiled
def _gru_row(z, n, h):
    for k in range(len(h)):
        new = _tanh(n[k])
        h[k] = z[k] * (h[k] - new) + new


@compiled
def gru(W_x, W_h, b, b_hn, after, xs, lengths, hs, h):
    """The gates are r, z, n; the reset gate after the product, with its bias, or before it."""
    half, hidden = h.dtype.type(0.5), h.shape[1]
    n, end = 2 * hidden, 3 * hidden
    z, inner = np.empty((len(h), end), h.dtype), np.empty((len(h), end), h.dtype)
    reset = np.empty_like(h)
    for t in range(len(xs)):
        z[:] = b
        _add_product(z, xs[t], W_x, 0, end)
        _add_product(z, h, W_h, 0, n)
        for row in range(len(h)):
            _sigmoids(z[row, :n], half)
        if after:
            inner[:] = b_hn
            _add_product(inner, h, W_h, n, end)
            for row in range(len(h)):
                _add_times(z[row, n:], z[row, :hidden], inner[row, n:])
        else:
            reset[:] = 0
            for row in range(len(h)):
                _add_times(reset[row], z[row, :hidden], h[row])
            _add_product(z, reset, W_h, n, end)
        for row in range(len(h)):
            if t < lengths[row]:
                _gru_row(z[row, hidden:n], z[row, n:], h[row])
                hs[t, row] = h[row]
