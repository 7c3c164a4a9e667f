"""Whole runs of the cells, compiled by Numba (the extra ``lstmbook[fast]``).

A run is one call, so NumPy's price per operation is not paid, and no array is larger than the
gates of a step, or of eight where the batch is small. `fast` uses this where Numba is installed.
The first run of a cell waits for the compiler; later ones and other processes find its work in a
cache.

The steps are the cells' equations, the gates side by side in the order of the cell: ``W_x (input,
gates * hidden)`` and ``W_h (hidden, gates * hidden)``, packed by `pack`, and ``b``. The inputs
``xs`` and outputs ``hs`` are ``(rows, features)``: sequence ``s`` at time ``t`` is row ``first +
s * per_sequence + t * per_step``, where ``place`` and ``out`` hold these three numbers. The states
``h`` and ``c`` and the outputs are written in place.
"""

import math

import numpy as np
from llvmlite import ir
from llvmlite.binding import get_host_cpu_features
from numba import config, njit, types
from numba.core import cgutils
from numba.extending import intrinsic, overload

__all__ = ["gru", "locked", "lstm", "pack", "rnn", "threads"]

# x / 0 is NaN, as in NumPy; a product and a sum may be one instruction.
RULES = {"error_model": "numpy", "fastmath": {"contract"}}
compiled = njit(cache=True, nogil=True, **RULES)


def threads():
    """As many as Numba would take: the environment's NUMBA_NUM_THREADS, or one per processor."""
    return config.NUMBA_NUM_THREADS


def locked(array):
    """A contiguous array, or its copy, that is read-only: to Numba another one is another type,
    for which it would compile again.
    """
    array = np.ascontiguousarray(array).view()
    array.flags.writeable = False
    return array


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


# A tile of a product is so many rows and twice so many bytes wide: what the registers can hold.
ROWS, BYTES = (8, 64) if get_host_cpu_features().get("avx512f") else (6, 32)


@intrinsic(prefer_literal=True)
def _add_tile(typing, rows, z, x, w, row, column):
    """``z[row : row + rows, column : column + columns] += x[row : row + rows] @ w``.

    In LLVM's own instructions: the compiler does not find by itself that the sums can stay in
    registers. ``rows`` is a literal; ``w (m, columns)`` is two vectors wide.
    """

    def code(context, builder, signature, args):
        _, z_array, x_array, w_array, row, column = args
        number, index, one_lane = context.get_data_type(z.dtype), ir.IntType(64), ir.IntType(32)
        size = z.dtype.bitwidth // 8
        vector = ir.VectorType(number, BYTES // size)
        once = ir.Constant(vector, ir.Undefined)
        every = ir.Constant(ir.VectorType(one_lane, vector.count), None)  # lane 0, everywhere

        def address(kind, array, *place):
            array = context.make_array(kind)(context, builder, array)
            return cgutils.get_item_pointer(context, builder, kind, array, place)

        def two_vectors(kind, array, *place):
            pointer = builder.bitcast(address(kind, array, *place), vector.as_pointer())
            return pointer, builder.gep(pointer, [index(1)])

        each_row = [builder.add(row, index(r)) for r in range(rows.literal_value)]
        places = [two_vectors(z, z_array, r, column) for r in each_row]
        numbers = [address(x, x_array, r, index(0)) for r in each_row]
        sums = [
            [cgutils.alloca_once_value(builder, builder.load(place, align=size)) for place in two]
            for two in places
        ]
        m = builder.extract_value(context.make_array(w)(context, builder, w_array).shape, 0)
        with cgutils.for_range(builder, m) as loop:
            j = loop.index
            weights = [builder.load(at, align=size) for at in two_vectors(w, w_array, j, index(0))]
            for r, number in enumerate(numbers):
                value = builder.load(builder.gep(number, [j]))
                value = builder.insert_element(once, value, one_lane(0))
                value = builder.shuffle_vector(value, once, every)
                for weight, total in zip(weights, sums[r], strict=True):
                    product = builder.fmul(value, weight, flags=["contract"])
                    more = builder.fadd(product, builder.load(total), flags=["contract"])
                    builder.store(more, total)
        for r, two in enumerate(sums):
            for total, place in zip(two, places[r], strict=True):
                builder.store(builder.load(total), place, align=size)
        return context.get_dummy_value()

    return types.void(rows, z, x, w, row, column), code


@compiled
def _copy(out, a):
    """``out[: len(a)] = a``, which takes the compiler two seconds less."""
    for k in range(len(a)):
        out[k] = a[k]


def pack(W):
    """``(gates, m, hidden)`` as ``(panels, m, columns)``: gates side by side, then a few zeros."""
    gates, m, hidden = W.shape
    columns = 2 * BYTES // W.itemsize
    return _packed(locked(W), np.zeros((-(-gates * hidden // columns), m, columns), W.dtype))


@compiled
def _packed(W, panels):
    gates, m, hidden = W.shape
    columns = panels.shape[2]
    for gate in range(gates):
        k = 0
        while k < hidden:
            panel, column = divmod(gate * hidden + k, columns)
            many = min(columns - column, hidden - k)
            for j in range(m):
                _copy(panels[panel, j, column:], W[gate, j, k : k + many])
            k += many
    return panels


@compiled
def _add_product(z, x, W):
    """``z += x W``, where ``W`` comes from `pack`."""
    columns, rows = W.shape[2], len(x)
    for p in range(len(W)):
        row = 0
        while rows - row >= ROWS:
            _add_tile(ROWS, z, x, W[p], row, p * columns)
            row += ROWS
        if rows - row >= 4:
            _add_tile(4, z, x, W[p], row, p * columns)
            row += 4
        if rows - row >= 2:
            _add_tile(2, z, x, W[p], row, p * columns)
            row += 2
        if rows - row >= 1:
            _add_tile(1, z, x, W[p], row, p * columns)


@compiled
def _room(batch, W):
    """An array for the gates of a step, or of eight: a product of a few rows is a slow one."""
    steps = 8 if batch < 4 else 1
    return np.zeros((steps * batch, len(W) * W.shape[2]), W.dtype)


@compiled
def _project(z, W_x, b, xs, place, t, end, batch):
    """``x W_x + b`` of the step ``t``, from the row of ``z`` that is returned.

    It is computed for as many steps at once as ``z`` has room for.
    """
    steps = len(z) // batch
    if t % steps:
        return t % steps * batch
    for row in range(len(z)):
        _copy(z[row], b)
    first, per_sequence, per_step = place
    now = first + t * per_step
    if steps == 1:
        _add_product(z[::1], xs[now::per_sequence][:batch], W_x)
    else:
        for s in range(batch):
            rows = xs[now + s * per_sequence :: per_step]
            _add_product(z[s::batch], rows[: min(steps, end - t)], W_x)
    return 0


@compiled
def rnn(W_x, W_h, b, xs, place, lengths, hs, out, h):
    """``h = tanh(z)``."""
    first, per_sequence, per_step = out
    (batch, hidden), end = h.shape, lengths.max()
    z = _room(batch, W_x)
    for t in range(end):
        row = _project(z, W_x, b, xs, place, t, end, batch)
        _add_product(z[row::1], h[::1], W_h)
        for s in range(batch):
            if t < lengths[s]:
                for k in range(hidden):
                    h[s, k] = _tanh(z[row + s, k])
                _copy(hs[first + s * per_sequence + t * per_step], h[s])


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
def lstm(W_x, W_h, b, p, places, coupled, xs, place, lengths, hs, out, h, c):
    """``places`` of i, f, g, o in a row of ``z``; ``p (3, hidden)`` of i, f, o."""
    (first, per_sequence, per_step), (i, f, g, o) = out, places
    (batch, hidden), end = h.shape, lengths.max()
    z = _room(batch, W_x)
    for t in range(end):
        row = _project(z, W_x, b, xs, place, t, end, batch)
        _add_product(z[row::1], h[::1], W_h)
        for s in range(batch):
            if t < lengths[s]:
                gates = z[row + s]
                _lstm_row(
                    gates[i : i + hidden],
                    gates[f : f + hidden],
                    gates[g : g + hidden],
                    gates[o : o + hidden],
                    p,
                    coupled,
                    c[s],
                    h[s],
                )
                _copy(hs[first + s * per_sequence + t * per_step], h[s])


@compiled
def _sigmoids(z, half):
    for k in range(len(z)):
        z[k] = _sigmoid(z[k], half)


@compiled
def _add_times(z, a, b):
    for k in range(len(z)):
        z[k] += a[k] * b[k]


@compiled
def _times(out, a, b):
    for k in range(len(out)):
        out[k] = a[k] * b[k]


@compiled
def _gru_row(z, n, h):
    for k in range(len(h)):
        new = _tanh(n[k])
        h[k] = z[k] * (h[k] - new) + new


@compiled
def gru(W_x, W_h, b, W_xn, W_hn, b_n, b_hn, after, xs, place, lengths, hs, out, h):
    """``W_x, W_h, b`` are those of r and z; ``after`` tells where the reset gate is: after the
    product with ``W_hn``, which has ``b_hn`` then, or before it.
    """
    first, per_sequence, per_step = out
    half, (batch, hidden), end = h.dtype.type(0.5), h.shape, lengths.max()
    rz, n = _room(batch, W_x), _room(batch, W_xn)
    reset, inner = np.zeros_like(h), np.zeros((batch, n.shape[1]), n.dtype)
    for t in range(end):
        row = _project(rz, W_x, b, xs, place, t, end, batch)
        _project(n, W_xn, b_n, xs, place, t, end, batch)
        _add_product(rz[row::1], h[::1], W_h)
        if after:
            for s in range(batch):
                _copy(inner[s], b_hn)
            _add_product(inner[::1], h[::1], W_hn)
        for s in range(batch):
            r = rz[row + s, :hidden]
            _sigmoids(rz[row + s, : 2 * hidden], half)
            if after:
                _add_times(n[row + s, :hidden], r, inner[s, :hidden])
            else:
                _times(reset[s], r, h[s])
        if not after:
            _add_product(n[row::1], reset[::1], W_hn)
        for s in range(batch):
            if t < lengths[s]:
                _gru_row(rz[row + s, hidden : 2 * hidden], n[row + s, :hidden], h[s])
                _copy(hs[first + s * per_sequence + t * per_step], h[s])
