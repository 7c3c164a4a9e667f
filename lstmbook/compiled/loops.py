"""The compiled loops: vectors, products, then each cell's steps forward and back.

All in one file: Numba keeps what it has compiled until this file changes, and does not look at
others that it needed.

Forward, ``loop(weights, xs, lengths, hs, z, states)``
    The gates of a step are a row of ``z``, side by side. It is filled with ``x W_x + b``, the
    product with ``h`` is added, and the gates are activated in their place. ``z`` has room for some
    steps or for all; ``h`` and ``c`` are ``(states, batch, hidden)``, where a state may take the
    place of the one before the last. The loop returns the place of the final state.

Back, ``loop(weights, xs, lengths, d_hs, d_xs, z, states, d_states, gradients)``
    ``z`` and the states are those of a run that had room for all. ``d_states`` are the gradients at
    a state, in the place of those at the state after it. A step gives ``dz``, the gradients at the
    gates before they were activated, in rows as those of ``z``, and ``dz W_h^T``. The products that
    no step waits for follow after a block of steps: ``x^T dz`` and ``h^T dz`` for the weights,
    whose last rows are the sums of ``dz``, for the biases; and ``dz W_x^T`` for the inputs, unless
    ``d_xs`` is empty.

``xs``, ``hs`` and their gradients are ``(array, first, per_sequence, per_step)``: sequence ``s`` at
step ``t`` is the row ``first + s * per_sequence + t * per_step`` of an array ``(rows, features)``.
"""

import math

import numpy as np
from llvmlite import ir
from llvmlite.binding import get_host_cpu_features
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic, overload, register_jitable

__all__ = [
    "gru",
    "gru_back",
    "locked",
    "lstm",
    "lstm_back",
    "pack",
    "padded",
    "rnn",
    "rnn_back",
    "steps_at_once",
    "width",
]

# Vectors

# x / 0 is NaN, as in NumPy; a product and a sum may be one instruction.
RULES = {"error_model": "numpy", "fastmath": {"contract"}}
compiled = njit(cache=True, nogil=True, **RULES)


def tanh(x):
    """Of a float: ``t / (t + 2)`` with ``t = e^(2 x) - 1``, to 4 units in the last place.

    ``2 x = n ln 2 + r`` with a whole ``n`` and ``|r|`` at most ``ln 2 / 2``, for which the Taylor
    polynomial is exact to rounding; and ``t = 2^n (e^r - 1) + (2^n - 1)`` loses no digits near 0.
    There is no branch and no table, so it is computed for many numbers at once.
    """
    raise NotImplementedError("for compiled loops alone")


@overload(tanh, jit_options=RULES)
def _tanh(x):
    digits, degree, enough = {32: (23, 7, 10), 64: (52, 13, 20)}[x.bitwidth]  # 1 from enough on
    number, whole = np.dtype(f"f{x.bitwidth // 8}").type, np.dtype(f"i{x.bitwidth // 8}").type
    per_ln2, one, two, enough = map(number, (2 / math.log(2), 1, 2, enough))
    # ln 2 as a sum, whose first part has so few digits that n times it is exact.
    high = number(math.floor(math.log(2) * 2 ** (digits // 2)) / 2 ** (digits // 2))
    low = number(math.log(2) - high)
    taylor = tuple(number(1 / math.factorial(k)) for k in range(degree, 1, -1))
    # What is added to this number stands in its last bits; in those of the exponent it is 2^n.
    shifter, places = number(1.5 * 2**digits), whole(digits)
    bias = whole(np.finfo(number).maxexp - 1)

    def vectorised(x):
        x = -enough if x < -enough else enough if x > enough else x  # a NaN stays one
        shifted = x * per_ln2 + shifter
        n = shifted - shifter
        r = two * x - n * high - n * low
        series = number(0)
        for coefficient in taylor:
            series = series * r + coefficient
        power = whole((number(shifted).view(whole) + bias) << places).view(number)
        t = power * (series * r * r + r) + (power - one)
        return t / (t + two)

    return vectorised


@compiled
def _sigmoid(z, half):
    return half * tanh(half * z) + half


@compiled
def _copy(out, a):
    """``out[: len(a)] = a``, which takes the compiler two seconds less."""
    for k in range(len(a)):
        out[k] = a[k]


@compiled
def _zero(out):
    for k in range(len(out)):
        out[k] = 0


@compiled
def _add(out, a):
    for k in range(len(a)):
        out[k] += a[k]


@compiled
def _add_times(out, a, b):
    for k in range(len(a)):
        out[k] += a[k] * b[k]


@compiled
def _times(out, a, b):
    for k in range(len(out)):
        out[k] = a[k] * b[k]


# Products


def locked(array):
    """A contiguous array, or its copy, that is read-only: to Numba another one is another type,
    for which it would compile again.
    """
    array = np.ascontiguousarray(array).view()
    array.flags.writeable = False
    return array


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


def pack(W):
    """``(gates, m, hidden)`` as ``(panels, m, columns)``: gates side by side, then a few zeros."""
    (gates, m, hidden), columns = W.shape, 2 * BYTES // W.itemsize
    panels = padded(gates * hidden, W.dtype) // columns
    return _packed(locked(W), np.zeros((panels, m, columns), W.dtype))


def padded(many, dtype):
    """So many columns, and zeros up to the end of a panel."""
    columns = 2 * BYTES // dtype.itemsize
    return -(-many // columns) * columns


def width(W):
    """How many columns the panels have."""
    return W.shape[0] * W.shape[2]


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
    for p in range(len(W)):
        _add_panel(z, x, W[p], p * W.shape[2])


@compiled
def _add_panel(z, x, w, column):
    """``z[:, column : column + columns] += x w``, where ``w (m, columns)`` is two vectors wide."""
    rows, row = len(x), 0
    while rows - row >= ROWS:
        _add_tile(ROWS, z, x, w, row, column)
        row += ROWS
    if rows - row >= 4:
        _add_tile(4, z, x, w, row, column)
        row += 4
    if rows - row >= 2:
        _add_tile(2, z, x, w, row, column)
        row += 2
    if rows - row >= 1:
        _add_tile(1, z, x, w, row, column)


# Forward


@compiled
def _place(rows, s, t):
    """The row of a sequence at a step."""
    _, first, per_sequence, per_step = rows
    return first + s * per_sequence + t * per_step


@register_jitable
def steps_at_once(batch):
    """For so many steps the inputs' product is made at once: one of a few rows is a slow one."""
    return 8 if batch < 4 else 1


@compiled
def _project(W_x, b, xs, t, end, z, batch):
    """Fill rows of ``z`` with ``x W_x + b``, and return the first of the step ``t``."""
    steps = steps_at_once(batch)
    now = t % (len(z) // batch) * batch
    if t % steps:  # done already
        return now
    steps = min(steps, end - t)
    for row in range(now, now + steps * batch):
        _copy(z[row], b)
    array, _, per_sequence, per_step = xs
    if steps == 1:
        _add_product(z[now::1], array[_place(xs, 0, t) :: per_sequence][:batch], W_x)
    else:
        for s in range(batch):
            _add_product(z[now + s :: batch], array[_place(xs, s, t) :: per_step][:steps], W_x)
    return now


@compiled
def rnn(weights, xs, lengths, hs, z, states):
    """``h = tanh(z)``; the weights are ``W_x, W_h, b``."""
    (W_x, W_h, b), (h,) = weights, states
    batch, end = len(lengths), lengths.max()
    for t in range(end):
        old, new = h[t % len(h)], h[(t + 1) % len(h)]
        first = _project(W_x, b, xs, t, end, z, batch)
        _add_product(z[first::1], old[::1], W_h)
        for s in range(batch):
            if t < lengths[s]:
                _rnn_row(z[first + s], new[s])
                _copy(hs[0][_place(hs, s, t)], new[s])
            else:
                _copy(new[s], old[s])
    return end


@compiled
def _rnn_row(z, h):
    for k in range(len(h)):
        h[k] = tanh(z[k])


@compiled
def lstm(weights, xs, lengths, hs, z, states):
    """The weights are ``W_x, W_h, b``, ``p (3, hidden)`` of i, f, o, the places of i, f, g, o in a
    row of ``z``, and whether the input gate is coupled.
    """
    (W_x, W_h, b, p, places, coupled), (h, c) = weights, states
    (_, batch, hidden), end = h.shape, lengths.max()
    for t in range(end):
        old, new = t % len(h), (t + 1) % len(h)
        first = _project(W_x, b, xs, t, end, z, batch)
        _add_product(z[first::1], h[old, ::1], W_h)
        for s in range(batch):
            if t < lengths[s]:
                gates = _lstm_gates(z[first + s], places, hidden)
                _lstm_row(gates, p, coupled, c[old, s], c[new, s], h[new, s])
                _copy(hs[0][_place(hs, s, t)], h[new, s])
            else:
                _copy(h[new, s], h[old, s])
                _copy(c[new, s], c[old, s])
    return end


@compiled
def _lstm_gates(row, places, hidden):
    i, f, g, o = places
    return row[i : i + hidden], row[f : f + hidden], row[g : g + hidden], row[o : o + hidden]


@compiled
def _lstm_row(gates, p, coupled, c_old, c, h):
    (i, f, g, o), half, hidden = gates, h.dtype.type(0.5), len(h)
    for k in range(hidden):
        f[k] = _sigmoid(f[k] + p[1, k] * c_old[k], half)
    for k in range(hidden):
        g[k] = tanh(g[k])
    if coupled:
        for k in range(hidden):
            c[k] = f[k] * (c_old[k] - g[k]) + g[k]
    else:
        for k in range(hidden):
            i[k] = _sigmoid(i[k] + p[0, k] * c_old[k], half)
        for k in range(hidden):
            c[k] = f[k] * c_old[k] + i[k] * g[k]
    for k in range(hidden):
        o[k] = _sigmoid(o[k] + p[2, k] * c[k], half)
    for k in range(hidden):
        h[k] = o[k] * tanh(c[k])


@compiled
def gru(weights, xs, lengths, hs, z, states):
    """The weights are ``W_x, W_h, b, W_hn``. A row of ``z`` is n, r, z, and, if the reset comes
    after the product, ``W_hn h + b_hn``: then ``W_h`` has all gates, and ``W_hn`` none.
    """
    (W_x, W_h, b, W_hn), (h,) = weights, states
    (_, batch, hidden), end, half = h.shape, lengths.max(), h.dtype.type(0.5)
    after, reset = W_hn.size == 0, np.zeros((batch, hidden), z.dtype)
    for t in range(end):
        old, new = h[t % len(h)], h[(t + 1) % len(h)]
        first = _project(W_x, b, xs, t, end, z, batch)
        _add_product(z[first::1, hidden:], old[::1], W_h)
        for s in range(batch):
            n, r, _, inner = _gru_gates(z[first + s], hidden)
            _sigmoids(z[first + s, hidden : 3 * hidden], half)
            if after:
                _add_times(n, r, inner)
            else:
                _times(reset[s], r, old[s])
        if not after:
            _add_product(z[first::1], reset[::1], W_hn)
        for s in range(batch):
            if t < lengths[s]:
                n, _, update, _ = _gru_gates(z[first + s], hidden)
                _gru_row(n, update, old[s], new[s])
                _copy(hs[0][_place(hs, s, t)], new[s])
            else:
                _copy(new[s], old[s])
    return end


@compiled
def _gru_gates(row, hidden):
    n, r, z = row[:hidden], row[hidden : 2 * hidden], row[2 * hidden : 3 * hidden]
    return n, r, z, row[3 * hidden : 4 * hidden]


@compiled
def _sigmoids(z, half):
    for k in range(len(z)):
        z[k] = _sigmoid(z[k], half)


@compiled
def _gru_row(n, z, h_old, h):
    for k in range(len(h)):
        n[k] = tanh(n[k])
        h[k] = z[k] * (h_old[k] - n[k]) + n[k]


# Back

BLOCK = 256  # steps times batch: so many rows of a panel of dz stay in the first cache


@compiled
def _room(weights, batch, end, xs, d_xs, z, h):
    """For a block of steps: ``dz (steps * batch, gates)``; ``d_x (steps * batch, input)``; a column
    of the inputs and one of the states for each row of ``dz``, with a one at its end; and a panel
    of ``dz``, as `pack` would make it.

    Past a length, ``dz`` is the zeros that it is here: the blocks come from the end, and a row
    that a sequence has reached in one block it has in those that follow.
    """
    rows = max(1, min(end, BLOCK // batch)) * batch
    W_xT, columns = weights[0], weights[0].shape[2]
    return (
        np.zeros((rows, z.shape[1]), z.dtype),
        np.zeros((rows if len(d_xs[0]) else 0, len(W_xT) * columns), z.dtype),
        np.ones((xs[0].shape[1] + 1, rows), z.dtype),
        np.ones((h.shape[2] + 1, rows), z.dtype),
        np.zeros((rows, columns), z.dtype),
    )


@compiled
def _collect(room, start, stop, ahead, W_xT, xs, lengths, d_xs, h, d_W_x, d_W_h):
    """What a block gives to the gradients; ``dz`` of ``W_h`` begins ``ahead``."""
    (dz, d_x, x_columns, h_columns, panel), batch = room, len(lengths)
    rows = (stop - start) * batch
    for t in range(start, stop):
        for s in range(batch):
            row = (t - start) * batch + s
            _column(x_columns, row, xs[0][_place(xs, s, t)], t < lengths[s])
            _column(h_columns, row, h[t, s], t < lengths[s])
    _add_gradient(d_W_x, x_columns, dz[:rows], 0, panel)
    _add_gradient(d_W_h, h_columns, dz[:rows], ahead, panel)
    if len(d_x):
        for row in range(rows):
            _zero(d_x[row])
        _add_product(d_x[::1], dz[:rows:1], W_xT)
        for t in range(start, stop):
            for s in range(batch):
                if t < lengths[s]:  # past it they are zero, even where a weight is NaN
                    out = d_xs[0][_place(d_xs, s, t)]
                    _copy(out, d_x[(t - start) * batch + s, : len(out)])


@compiled
def _column(columns, n, vector, alive):
    """The inputs past a length may be anything."""
    for k in range(len(vector)):
        columns[k, n] = vector[k] if alive else 0


@compiled
def _add_gradient(d_W, columns, dz, ahead, panel):
    """``d_W += columns dz``, without the first gates."""
    rows, width = len(dz), panel.shape[1]
    for first in range(0, d_W.shape[1], width):
        for row in range(rows):
            _copy(panel[row], dz[row, ahead + first : ahead + first + width])
        _add_panel(d_W, columns[::1, :rows], panel[:rows], first)


@compiled
def _through_state(d_h, dz, W_hT, lengths, t, kept):
    """``d_h += dz W_h^T``, but for sequences that have ended: zero times NaN is not zero. ``kept``
    is room for their gradients.
    """
    for s in range(len(lengths)):
        if t >= lengths[s]:
            _copy(kept[s], d_h[s])
    _add_product(d_h[::1], dz, W_hT)
    for s in range(len(lengths)):
        if t >= lengths[s]:
            _copy(d_h[s], kept[s])


@compiled
def rnn_back(weights, xs, lengths, d_hs, d_xs, z, states, d_states, gradients):
    """The weights are ``W_x^T, W_h^T``, the gradients those of ``W_x, W_h``."""
    (W_xT, W_hT), (h,), (d_h,), (d_W_x, d_W_h) = weights, states, d_states, gradients
    batch, end = len(lengths), lengths.max()
    room, kept = _room(weights, batch, end, xs, d_xs, z, h), np.empty_like(d_h)
    dz = room[0]
    steps = len(dz) // batch
    for t in range(end - 1, -1, -1):
        first = t % steps * batch
        for s in range(batch):
            if t < lengths[s]:
                _add(d_h[s], d_hs[0][_place(d_hs, s, t)])
                _rnn_row_back(h[t + 1, s], d_h[s], dz[first + s])
        _through_state(d_h, dz[first::1][:batch], W_hT, lengths, t, kept)
        if not first:
            stop = min(t + steps, end)
            _collect(room, t, stop, 0, W_xT, xs, lengths, d_xs, h, d_W_x, d_W_h)


@compiled
def _rnn_row_back(h, d_h, dz):
    one = h.dtype.type(1)
    for k in range(len(h)):
        dz[k] = d_h[k] * (one - h[k] * h[k])
        d_h[k] = 0


@compiled
def lstm_back(weights, xs, lengths, d_hs, d_xs, z, states, d_states, gradients):
    """The weights are ``W_x^T, W_h^T``, and the last three of the loop forward; the gradients
    those of ``W_x, W_h, p``.
    """
    (W_xT, W_hT, p, places, coupled), (h, c) = weights, states
    (d_h, d_c), (d_W_x, d_W_h, d_p) = d_states, gradients
    (_, batch, hidden), end = h.shape, lengths.max()
    room, kept = _room(weights, batch, end, xs, d_xs, z, h), np.empty_like(d_h)
    dz = room[0]
    steps = len(dz) // batch
    for t in range(end - 1, -1, -1):
        first = t % steps * batch
        for s in range(batch):
            if t < lengths[s]:
                _add(d_h[s], d_hs[0][_place(d_hs, s, t)])
                gates = _lstm_gates(z[t * batch + s], places, hidden)
                d_gates = _lstm_gates(dz[first + s], places, hidden)
                old, new = c[t, s], c[t + 1, s]
                _lstm_row_back(gates, p, coupled, old, new, d_h[s], d_c[s], d_gates)
                d_i, d_f, _, d_o = d_gates
                _add_times(d_p[0], d_i, old)
                _add_times(d_p[1], d_f, old)
                _add_times(d_p[2], d_o, new)
        _through_state(d_h, dz[first::1][:batch], W_hT, lengths, t, kept)
        if not first:
            stop = min(t + steps, end)
            _collect(room, t, stop, 0, W_xT, xs, lengths, d_xs, h, d_W_x, d_W_h)


@compiled
def _lstm_row_back(gates, p, coupled, c_old, c, d_h, d_c, d_gates):
    (i, f, g, o), (d_i, d_f, d_g, d_o), one = gates, d_gates, c.dtype.type(1)
    for k in range(len(c)):
        tanh_c = tanh(c[k])
        d_o[k] = d_h[k] * tanh_c * o[k] * (one - o[k])
        d = d_c[k] + d_h[k] * o[k] * (one - tanh_c * tanh_c) + p[2, k] * d_o[k]
        if coupled:
            d_f[k] = d * (c_old[k] - g[k]) * f[k] * (one - f[k])
            d_g[k] = d * (one - f[k]) * (one - g[k] * g[k])
            d_c[k] = d * f[k] + p[1, k] * d_f[k]
        else:
            d_i[k] = d * g[k] * i[k] * (one - i[k])
            d_f[k] = d * c_old[k] * f[k] * (one - f[k])
            d_g[k] = d * i[k] * (one - g[k] * g[k])
            d_c[k] = d * f[k] + p[0, k] * d_i[k] + p[1, k] * d_f[k]
        d_h[k] = 0


@compiled
def gru_back(weights, xs, lengths, d_hs, d_xs, z, states, d_states, gradients):
    """The weights are ``W_x^T, W_h^T, W_hn^T``, the gradients those of ``W_x, W_h, W_hn``."""
    (W_xT, W_hT, W_hnT), (d_W_x, d_W_h, d_W_hn) = weights, gradients
    (h,), (d_h,) = states, d_states
    (_, batch, hidden), end, after = h.shape, lengths.max(), W_hnT.size == 0
    room = _room(weights, batch, end, xs, d_xs, z, h)
    d_reset, kept = np.zeros_like(d_h), np.empty_like(d_h)
    dz = room[0]
    steps = len(dz) // batch
    for t in range(end - 1, -1, -1):
        first = t % steps * batch
        for s in range(batch):
            if t < lengths[s]:
                n, r, update, inner = _gru_gates(z[t * batch + s], hidden)
                d_n, d_r, d_update, d_inner = _gru_gates(dz[first + s], hidden)
                _add(d_h[s], d_hs[0][_place(d_hs, s, t)])
                _gru_row_back(n, update, h[t, s], d_h[s], d_n, d_update)
                if after:
                    _reset_back(r, inner, d_n, d_r)
                    _times(d_inner, d_n, r)
        if not after:
            for s in range(batch):
                _zero(d_reset[s])
            _add_product(d_reset[::1], dz[first::1][:batch], W_hnT)
            for s in range(batch):
                if t < lengths[s]:
                    r = _gru_gates(z[t * batch + s], hidden)[1]
                    d_r = _gru_gates(dz[first + s], hidden)[1]
                    _reset_back(r, h[t, s], d_reset[s], d_r)
                    _add_times(d_h[s], r, d_reset[s])
        _through_state(d_h, dz[first::1, hidden:][:batch], W_hT, lengths, t, kept)
        if not first:
            stop = min(t + steps, end)
            _collect(room, t, stop, hidden, W_xT, xs, lengths, d_xs, h, d_W_x, d_W_h)
            if not after:
                _, _, _, columns, panel = room
                for u in range(t, stop):
                    for s in range(batch):
                        if u < lengths[s]:
                            r = _gru_gates(z[u * batch + s], hidden)[1]
                            _scale_column(columns, (u - t) * batch + s, r)
                _add_gradient(d_W_hn, columns, dz[: (stop - t) * batch], 0, panel)


@compiled
def _gru_row_back(n, z, h, d_h, d_n, d_z):
    one = h.dtype.type(1)
    for k in range(len(h)):
        d_n[k] = d_h[k] * (one - z[k]) * (one - n[k] * n[k])
        d_z[k] = d_h[k] * (h[k] - n[k]) * z[k] * (one - z[k])
        d_h[k] *= z[k]


@compiled
def _reset_back(r, a, d, d_r):
    """``d`` is the gradient at ``r * a``."""
    one = r.dtype.type(1)
    for k in range(len(r)):
        d_r[k] = d[k] * a[k] * r[k] * (one - r[k])


@compiled
def _scale_column(columns, n, vector):
    for k in range(len(vector)):
        columns[k, n] *= vector[k]
