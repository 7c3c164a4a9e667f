"""What the compiled loops are made of: vectors, products, rows of sequences.

The loops themselves are generated from the cells' pages (`generate`), and use these. Numba keeps
what it has compiled until the file of a loop changes, and does not look at others; so a file of
loops says which state of this file it was generated with.

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

# Vectors

# x / 0 is NaN, as in NumPy; a product and a sum may be one instruction.
RULES = {"error_model": "numpy", "fastmath": {"contract"}}
compiled = njit(cache=True, nogil=True, **RULES)
compiled_here = njit(nogil=True, **RULES)  # where there is no file to keep it beside


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
def sigmoid(z, half):
    return half * tanh(half * z) + half


@compiled
def copy(out, a):
    """``out[: len(a)] = a``, which takes the compiler two seconds less."""
    for k in range(len(a)):
        out[k] = a[k]


@compiled
def zero(out):
    for k in range(len(out)):
        out[k] = 0


@compiled
def room(rows, columns, like):
    """Zeros. (NumPy's own function would be compiled anew for every use.)"""
    return np.zeros((rows, columns), like.dtype)


@compiled
def ones_below(rows, columns, like):
    """``(rows + 1, columns)``, the last row ones: its products are the sums for biases."""
    whole = room(rows + 1, columns, like)
    for k in range(columns):
        whole[rows, k] = 1
    return whole


@compiled
def longest(lengths):
    end = np.int64(0)
    for s in range(len(lengths)):
        end = max(end, lengths[s])
    return end


@compiled
def zero_rows(out):
    for row in range(len(out)):
        zero(out[row])


@compiled
def add(out, a):
    for k in range(len(a)):
        out[k] += a[k]


@compiled
def add_times(out, a, b):
    for k in range(len(a)):
        out[k] += a[k] * b[k]


# Products


# A tile of a product is so many rows and twice so many bytes wide: what the registers can hold.
ROWS, BYTES = (8, 64) if get_host_cpu_features().get("avx512f") else (6, 32)


@intrinsic(prefer_literal=True)
def add_tile(typing, rows, panels, z, x, W, row, panel, column):
    """``z[row : row + rows, column : column + width] += x[row : row + rows] @ W[panel : panel +
    panels]``.

    In LLVM's own instructions: the compiler does not find by itself that the sums can stay in
    registers. ``rows`` and ``panels`` are literals; ``W (panels, m, columns)`` comes from `pack`,
    and
    ``width`` is ``panels * columns``.
    """

    def code(context, builder, signature, args):
        _, _, z_array, x_array, W_array, row, panel, column = args
        number, index, one_lane = context.get_data_type(z.dtype), ir.IntType(64), ir.IntType(32)
        size = z.dtype.bitwidth // 8
        lanes = BYTES // size
        vector = ir.VectorType(number, lanes)
        once = ir.Constant(vector, ir.Undefined)
        every = ir.Constant(ir.VectorType(one_lane, lanes), None)  # lane 0, everywhere

        def address(kind, array, *place):
            array = context.make_array(kind)(context, builder, array)
            return cgutils.get_item_pointer(context, builder, kind, array, place)

        def vectors(kind, array, count, *place):
            pointer = builder.bitcast(address(kind, array, *place), vector.as_pointer())
            return [builder.gep(pointer, [index(k)]) for k in range(count)]

        each_row = [builder.add(row, index(r)) for r in range(rows.literal_value)]
        each_panel = [builder.add(panel, index(p)) for p in range(panels.literal_value)]
        places = [vectors(z, z_array, 2 * len(each_panel), r, column) for r in each_row]
        numbers = [address(x, x_array, r, index(0)) for r in each_row]
        sums = [
            [cgutils.alloca_once_value(builder, builder.load(place, align=size)) for place in line]
            for line in places
        ]
        m = builder.extract_value(context.make_array(W)(context, builder, W_array).shape, 1)
        with cgutils.for_range(builder, m) as loop:
            j = loop.index
            weights = [
                builder.load(at, align=size)
                for p in each_panel
                for at in vectors(W, W_array, 2, p, j, index(0))
            ]
            for r, number in enumerate(numbers):
                value = builder.load(builder.gep(number, [j]))
                value = builder.insert_element(once, value, one_lane(0))
                value = builder.shuffle_vector(value, once, every)
                for weight, total in zip(weights, sums[r], strict=True):
                    product = builder.fmul(value, weight, flags=["contract"])
                    more = builder.fadd(product, builder.load(total), flags=["contract"])
                    builder.store(more, total)
        for line_of_sums, line in zip(sums, places, strict=True):
            for total, place in zip(line_of_sums, line, strict=True):
                builder.store(builder.load(total), place, align=size)
        return context.get_dummy_value()

    return types.void(rows, panels, z, x, W, row, panel, column), code


def pack(W):
    """``(gates, m, hidden)`` as ``(panels, m, columns)``: gates side by side, then a few zeros."""
    (gates, m, hidden), columns = W.shape, 2 * BYTES // W.itemsize
    panels = padded(gates * hidden, W) // columns
    W = np.ascontiguousarray(W)
    if not W.flags.writeable:  # to the compiler another type, for which it would compile again
        W = W.copy()
    return _packed(W, np.zeros((panels, m, columns), W.dtype))


@register_jitable
def padded(count, like):
    """So many columns, and zeros up to the end of a panel of numbers as in ``like``."""
    columns = 2 * BYTES // like.itemsize
    return (count + columns - 1) // columns * columns


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
                copy(panels[panel, j, column:], W[gate, j, k : k + many])
            k += many
    return panels


@compiled
def pack_here(W):
    """`pack`, within a compiled loop."""
    gates, m, n = W.shape
    columns = padded(1, W)
    panels = padded(gates * n, W) // columns
    return _packed(W, room(panels * m, columns, W).reshape(panels, m, columns))


@compiled
def picked(W, gates):
    """Some gates, in an order of their own."""
    _, m, n = W.shape
    chosen = room(len(gates) * m, n, W).reshape(len(gates), m, n)
    for k in range(len(gates)):
        for j in range(m):
            copy(chosen[k, j], W[gates[k], j])
    return chosen


@compiled
def add_product(z, x, W):
    """``z += x W``, where ``W`` comes from `pack`."""
    full, rows, columns = len(x) - len(x) % 4, len(x), W.shape[2]
    if full:
        for p in range(len(W)):
            add_panel(z, x, W[::1], p, p * columns)
    for row in range(full, rows):  # a row alone: its sums need more panels to hide each other
        p = 0
        while len(W) - p >= 4:
            add_tile(1, 4, z, x, W[::1], row, p, p * columns)
            p += 4
        while p < len(W):
            add_tile(1, 1, z, x, W[::1], row, p, p * columns)
            p += 1


@compiled
def add_panel(z, x, W, panel, column):
    """``z[:, column : column + columns] += x W[panel]``, but for the last rows, up to three."""
    rows, row = len(x), 0
    while rows - row >= ROWS:
        add_tile(ROWS, 1, z, x, W, row, panel, column)
        row += ROWS
    while rows - row >= 4:
        add_tile(4, 1, z, x, W, row, panel, column)
        row += 4


# Rows of sequences


@compiled
def place(rows, s, t):
    """The row of a sequence at a step."""
    _, first, per_sequence, per_step = rows
    return first + s * per_sequence + t * per_step


@register_jitable
def steps_at_once(batch):
    """For so many steps the inputs' product is made at once: one of a few rows is a slow one."""
    return 8 if batch < 4 else 1


@compiled
def fill(b, t, end, z, batch):
    """Rows of ``z`` begin as ``b``; returns the first row of the step ``t``."""
    steps = steps_at_once(batch)
    now = t % (len(z) // batch) * batch
    if t % steps == 0:
        for row in range(now, now + min(steps, end - t) * batch):
            copy(z[row], b)
    return now


@compiled
def project(W_x, ahead, xs, t, end, z, batch):
    """Add ``x W_x`` to rows of ``z``, to the columns from ``ahead`` on."""
    steps = steps_at_once(batch)
    now = t % (len(z) // batch) * batch
    if t % steps:  # done already
        return
    steps = min(steps, end - t)
    array, _, per_sequence, per_step = xs
    if steps == 1:
        add_product(
            z[now::1, ahead:], array[place(xs, np.int64(0), t) :: per_sequence][:batch], W_x
        )
    else:
        for s in range(batch):
            add_product(
                z[now + s :: batch, ahead:], array[place(xs, s, t) :: per_step][:steps], W_x
            )


# A block of steps on the way back

BLOCK = 256  # steps times batch: so many rows of a panel of dz stay in the first cache


@register_jitable
def steps_of_a_block(batch, end):
    return max(1, min(end, BLOCK // batch))


@compiled
def column(columns, n, vector, alive):
    """One of the columns, zeros for what stands past a length: it may be anything."""
    for k in range(len(vector)):
        columns[k, n] = vector[k] if alive else 0


@compiled
def input_columns(columns, xs, start, stop, lengths):
    """The inputs of a block of steps, a column each."""
    for t in range(start, stop):
        for s in range(len(lengths)):
            n = (t - start) * len(lengths) + s
            column(columns, n, xs[0][place(xs, s, t)], t < lengths[s])


@compiled
def state_columns(columns, states, start, stop, lengths):
    """The states before a block of steps, a column each."""
    for t in range(start, stop):
        for s in range(len(lengths)):
            column(columns, (t - start) * len(lengths) + s, states[t, s], t < lengths[s])


@compiled
def give_inputs(d_xs, d_x, start, stop, lengths):
    """The gradients at the inputs of a block of steps, where the caller wants them."""
    for t in range(start, stop):
        for s in range(len(lengths)):
            if t < lengths[s]:
                out = d_xs[0][place(d_xs, s, t)]
                copy(out, d_x[(t - start) * len(lengths) + s, : len(out)])


@compiled
def keep_ended(d, turn, t, lengths):
    """Past its length a sequence keeps its gradient."""
    for s in range(len(lengths)):
        if t >= lengths[s]:
            copy(d[1 - turn, s], d[turn, s])


@compiled
def add_gradient(d_W, columns, dz, ahead, panel):
    """``d_W += columns dz``, where the columns of ``dz`` begin ``ahead``; ``panel`` is room."""
    rows, width = len(dz), panel.shape[1]
    none = np.int64(0)  # a literal 0 would be compiled for itself
    sums, panels = d_W[::1, 0:], panel.reshape(1, panel.shape[0], width)[::1, :rows]
    for first in range(0, d_W.shape[1], width):
        for row in range(rows):
            copy(panel[row], dz[row, ahead + first : ahead + first + width])
        add_panel(sums, columns[::1, :rows], panels, none, first)
        for row in range(len(sums) - len(sums) % 4, len(sums)):
            add_tile(1, 1, sums, columns[::1, :rows], panels, row, 0, first)
