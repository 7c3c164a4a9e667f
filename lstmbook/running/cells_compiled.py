"""The loops of the cells, generated from their pages: ``make generate``, do not edit.

What a loop is given and what it writes is said in `compiled`.
"""

import math

import numpy as np

from .loops import (
    add,
    add_gradient,
    add_product,
    column,
    compiled,
    copy,
    fill,
    give_inputs,
    input_columns,
    keep_ended,
    longest,
    ones_below,
    pack_here,
    padded,
    picked,
    place,
    project,
    room,
    sigmoid,
    state_columns,
    steps_at_once,
    steps_of_a_block,
    tanh,
    zero,
    zero_rows,
)

MARKS = {
    'loops.py': '9feb8ad59e4d8f5b',
    'rnn': '3be162a2d0537e39',
    'lstm': 'a8bdfc38b1e169f3',
    'peephole': '64b6fc5d4aea4c66',
    'coupled': 'c5eac40bd5b7d6b9',
    'coupled_peephole': '48e4983b97da9187',
    'gru': 'f14549bc79d4a979',
    'gru_reset_after': 'f5c9943e4a90a6d0',
}


@compiled
def _rnn_row_1(z_n, new_h):
    for k in range(len(z_n)):
        v0 = tanh(z_n[k])
        z_n[k] = v0
    copy(new_h, z_n)


@compiled
def rnn_forward(weights, xs, lengths, hs, z, states):
    W_x_0, W_0_0, b, at = weights
    h, = states
    batch, end = len(lengths), longest(lengths)
    for t in range(end):
        old, new = t % len(h), (t + 1) % len(h)
        first = fill(b, t, end, z, batch)
        project(W_x_0, at[0], xs, t, end, z, batch)
        add_product(z[first::1, at[0] :], h[old, ::1], W_0_0)
        for s in range(batch):
            if t < lengths[s]:
                row = z[first + s]
                _rnn_row_1(row[at[0] : at[1]], h[new, s])
                copy(hs[0][place(hs, s, t)], h[new, s])
            else:
                copy(h[new, s], h[old, s])
    return end


@compiled
def rnn_stream(room, sizes):
    batch = sizes[0]
    at = sizes[1], sizes[2]
    place = 3
    W_x_0 = room[sizes[place] : sizes[place + 1]].reshape(
        sizes[place + 2], sizes[place + 3], sizes[place + 4],
    )
    place += 5
    W_0_0 = room[sizes[place] : sizes[place + 1]].reshape(
        sizes[place + 2], sizes[place + 3], sizes[place + 4],
    )
    place += 5
    b = room[sizes[place] : sizes[place + 1]].reshape(sizes[place + 2])
    place += 3
    z = room[sizes[place] : sizes[place + 1]].reshape(sizes[place + 2], sizes[place + 3])
    place += 4
    xs = room[sizes[place] : sizes[place + 1]].reshape(sizes[place + 2], sizes[place + 3])
    place += 4
    hs = room[sizes[place] : sizes[place + 1]].reshape(sizes[place + 2], sizes[place + 3])
    place += 4
    h = room[sizes[place] : sizes[place + 1]].reshape(
        sizes[place + 2], sizes[place + 3], sizes[place + 4],
    )
    place += 5
    steps = np.empty(batch, np.int64)
    for s in range(batch):
        steps[s] = 1
    first, one = np.int64(0), np.int64(1)
    weights = W_x_0, W_0_0, b, at
    inputs, outputs = (xs, first, one, one), (hs, first, one, one)
    rnn_forward(weights, inputs, steps, outputs, z, (h,))
    for s in range(batch):
        copy(h[0, s], h[1, s])


@compiled
def rnn_alone(params_W_x, params_W_h, params_b, xs, hs, h, per_sequence, per_step, end):
    batch = len(h)
    n_0 = params_W_h.shape[2]
    at_0 = np.int64(0)
    at = (at_0, at_0 + n_0)
    W_x_0 = pack_here(params_W_x[0 : 1])
    W_0_0 = pack_here(params_W_h[0 : 1])
    width = max(at_0 + W_x_0.shape[0] * W_x_0.shape[2], at_0 + W_0_0.shape[0] * W_0_0.shape[2])
    b = room(np.int64(1), width, xs)[0]
    add(b[at_0 :], params_b[0])
    z = room(steps_at_once(batch) * batch, width, xs)
    both_h = room(2 * batch, h.shape[1], xs)
    both_h = both_h.reshape(2, batch, h.shape[1])
    for s in range(batch):
        copy(both_h[0, s], h[s])
    first = np.int64(0)
    inputs = xs, first, per_sequence, per_step
    outputs = hs, first, per_sequence, per_step
    steps = np.empty(batch, np.int64)
    for s in range(batch):
        steps[s] = end
    weights, states = (W_x_0, W_0_0, b, at), (both_h,)
    rnn_forward(weights, inputs, steps, outputs, z, states)
    for s in range(batch):
        copy(h[s], both_h[end % 2, s])


@compiled
def _rnn_row_back_0(z_n, d_h, d_out, d_node_0, d_z_n):
    number_0 = z_n.dtype.type(1.0)
    for k in range(len(d_node_0)):
        d_node_0[k] = d_h[k] + d_out[k]
    for k in range(len(d_z_n)):
        v0 = z_n[k] * z_n[k]
        v1 = number_0 - v0
        d_z_n[k] = d_node_0[k] * v1


@compiled
def rnn_back(weights, xs, lengths, d_hs, d_xs, z, states, d_states, gradients):
    W_x_0T, W_0_0T, at = weights
    h, = states
    d_h, = d_states
    d_W_x_0, d_W_0_0 = gradients
    batch, end = len(lengths), longest(lengths)
    steps = steps_of_a_block(batch, end)
    rows = steps * batch
    dz = room(rows, z.shape[1], z)
    panel = room(rows, padded(1, z), z)
    d_x = room(rows if len(d_xs[0]) else 0, padded(xs[0].shape[1], z), z)
    x_columns = ones_below(xs[0].shape[1], rows, z)
    h_columns = ones_below(h.shape[2], rows, z)
    d_node_0 = room(batch, h.shape[2], z)
    for t in range(end - 1, -1, -1):
        first, turn = t % steps * batch, (end - 1 - t) % 2
        for s in range(batch):
            if t < lengths[s]:
                row = z[t * batch + s]
                d_row = dz[first + s]
                _rnn_row_back_0(
                    row[at[0] : at[1]], d_h[turn, s, : h.shape[2]], d_hs[0][place(d_hs, s, t)],
                    d_node_0[s], d_row[at[0] : at[1]],
                )
        zero_rows(d_h[1 - turn])
        add_product(d_h[1 - turn, ::1, 0:], dz[first::1, at[0] :][:batch], W_0_0T)
        keep_ended(d_h, turn, t, lengths)
        if not first:
            stop = min(t + steps, end)
            rows = (stop - t) * batch
            input_columns(x_columns, xs, t, stop, lengths)
            state_columns(h_columns, h, t, stop, lengths)
            add_gradient(d_W_x_0, x_columns, dz[:rows], at[0], panel)
            add_gradient(d_W_0_0, h_columns, dz[:rows], at[0], panel)
            if len(d_xs[0]):
                zero_rows(d_x[:rows])
                add_product(d_x[::1, 0:], dz[:rows:1, at[0] :], W_x_0T)
                give_inputs(d_xs, d_x, t, stop, lengths)
    return end % 2


@compiled
def _lstm_row_1(z_i, z_f, z_g, z_o, new_h, new_c, old_c):
    number_0 = z_i.dtype.type(0.5)
    for k in range(len(z_i)):
        v0 = sigmoid(z_i[k], number_0)
        z_i[k] = v0
    for k in range(len(z_f)):
        v0 = sigmoid(z_f[k], number_0)
        z_f[k] = v0
    for k in range(len(z_g)):
        v0 = tanh(z_g[k])
        z_g[k] = v0
    for k in range(len(z_o)):
        v0 = sigmoid(z_o[k], number_0)
        z_o[k] = v0
    for k in range(len(new_c)):
        v0 = z_f[k] * old_c[k]
        v1 = z_i[k] * z_g[k]
        v2 = v0 + v1
        new_c[k] = v2
    for k in range(len(new_h)):
        v0 = tanh(new_c[k])
        v1 = z_o[k] * v0
        new_h[k] = v1


@compiled
def lstm_forward(weights, xs, lengths, hs, z, states):
    W_x_0, W_0_0, b, at = weights
    h, c = states
    batch, end = len(lengths), longest(lengths)
    for t in range(end):
        old, new = t % len(h), (t + 1) % len(h)
        first = fill(b, t, end, z, batch)
        project(W_x_0, at[0], xs, t, end, z, batch)
        add_product(z[first::1, at[0] :], h[old, ::1], W_0_0)
        for s in range(batch):
            if t < lengths[s]:
                row = z[first + s]
                _lstm_row_1(
                    row[at[0] : at[1]], row[at[1] : at[2]], row[at[2] : at[3]], row[at[3] : at[4]],
                    h[new, s], c[new, s], c[old, s],
                )
                copy(hs[0][place(hs, s, t)], h[new, s])
            else:
                copy(h[new, s], h[old, s])
                copy(c[new, s], c[old, s])
    return end


@compiled
def lstm_stream(room, sizes):
    batch = sizes[0]
    at = sizes[1], sizes[2], sizes[3], sizes[4], sizes[5]
    place = 6
    W_x_0 = room[sizes[place] : sizes[place + 1]].reshape(
        sizes[place + 2], sizes[place + 3], sizes[place + 4],
    )
    place += 5
    W_0_0 = room[sizes[place] : sizes[place + 1]].reshape(
        sizes[place + 2], sizes[place + 3], sizes[place + 4],
    )
    place += 5
    b = room[sizes[place] : sizes[place + 1]].reshape(sizes[place + 2])
    place += 3
    z = room[sizes[place] : sizes[place + 1]].reshape(sizes[place + 2], sizes[place + 3])
    place += 4
    xs = room[sizes[place] : sizes[place + 1]].reshape(sizes[place + 2], sizes[place + 3])
    place += 4
    hs = room[sizes[place] : sizes[place + 1]].reshape(sizes[place + 2], sizes[place + 3])
    place += 4
    h = room[sizes[place] : sizes[place + 1]].reshape(
        sizes[place + 2], sizes[place + 3], sizes[place + 4],
    )
    place += 5
    c = room[sizes[place] : sizes[place + 1]].reshape(
        sizes[place + 2], sizes[place + 3], sizes[place + 4],
    )
    place += 5
    steps = np.empty(batch, np.int64)
    for s in range(batch):
        steps[s] = 1
    first, one = np.int64(0), np.int64(1)
    weights = W_x_0, W_0_0, b, at
    inputs, outputs = (xs, first, one, one), (hs, first, one, one)
    lstm_forward(weights, inputs, steps, outputs, z, (h, c))
    for s in range(batch):
        copy(h[0, s], h[1, s])
    for s in range(batch):
        copy(c[0, s], c[1, s])


@compiled
def lstm_alone(params_W_x, params_W_h, params_b, xs, hs, h, c, per_sequence, per_step, end):
    batch = len(h)
    n_0 = params_W_h.shape[2]
    at_0 = np.int64(0)
    n_1 = params_W_h.shape[2]
    at_1 = at_0 + n_0
    n_2 = params_W_h.shape[2]
    at_2 = at_1 + n_1
    n_3 = params_W_h.shape[2]
    at_3 = at_2 + n_2
    at = (at_0, at_1, at_2, at_3, at_3 + n_3)
    W_x_0 = pack_here(params_W_x[0 : 4])
    W_0_0 = pack_here(params_W_h[0 : 4])
    width = max(at_0 + W_x_0.shape[0] * W_x_0.shape[2], at_0 + W_0_0.shape[0] * W_0_0.shape[2])
    b = room(np.int64(1), width, xs)[0]
    add(b[at_0 :], params_b[0])
    add(b[at_1 :], params_b[1])
    add(b[at_2 :], params_b[2])
    add(b[at_3 :], params_b[3])
    z = room(steps_at_once(batch) * batch, width, xs)
    both_h = room(2 * batch, h.shape[1], xs)
    both_h = both_h.reshape(2, batch, h.shape[1])
    for s in range(batch):
        copy(both_h[0, s], h[s])
    both_c = room(2 * batch, c.shape[1], xs)
    both_c = both_c.reshape(2, batch, c.shape[1])
    for s in range(batch):
        copy(both_c[0, s], c[s])
    first = np.int64(0)
    inputs = xs, first, per_sequence, per_step
    outputs = hs, first, per_sequence, per_step
    steps = np.empty(batch, np.int64)
    for s in range(batch):
        steps[s] = end
    weights, states = (W_x_0, W_0_0, b, at), (both_h, both_c)
    lstm_forward(weights, inputs, steps, outputs, z, states)
    for s in range(batch):
        copy(h[s], both_h[end % 2, s])
        copy(c[s], both_c[end % 2, s])


@compiled
def _lstm_row_back_0(
    new_c, z_o, z_g, z_i, z_f, old_c, dear_0, d_h, d_out, d_node_0, d_c, d_node_1, d_z_g, d_z_i,
    d_old_c, d_z_f, d_z_o,
):
    number_0 = new_c.dtype.type(1.0)
    for k in range(len(dear_0)):
        v0 = tanh(new_c[k])
        dear_0[k] = v0
    for k in range(len(d_node_0)):
        d_node_0[k] = d_h[k] + d_out[k]
    for k in range(len(d_node_1)):
        v0 = dear_0[k] * dear_0[k]
        v1 = number_0 - v0
        v2 = v1 * z_o[k]
        d_node_1[k] = d_c[k] + d_node_0[k] * v2
    for k in range(len(d_z_g)):
        v0 = z_g[k] * z_g[k]
        v1 = number_0 - v0
        v2 = v1 * z_i[k]
        d_z_g[k] = d_node_1[k] * v2
    for k in range(len(d_z_i)):
        v0 = number_0 - z_i[k]
        v1 = v0 * z_i[k]
        v2 = v1 * z_g[k]
        d_z_i[k] = d_node_1[k] * v2
    for k in range(len(d_old_c)):
        d_old_c[k] = d_node_1[k] * z_f[k]
    for k in range(len(d_z_f)):
        v0 = number_0 - z_f[k]
        v1 = v0 * z_f[k]
        v2 = v1 * old_c[k]
        d_z_f[k] = d_node_1[k] * v2
    for k in range(len(d_z_o)):
        v0 = number_0 - z_o[k]
        v1 = v0 * z_o[k]
        v2 = v1 * dear_0[k]
        d_z_o[k] = d_node_0[k] * v2


@compiled
def lstm_back(weights, xs, lengths, d_hs, d_xs, z, states, d_states, gradients):
    W_x_0T, W_0_0T, at = weights
    h, c = states
    d_h, d_c = d_states
    d_W_x_0, d_W_0_0 = gradients
    batch, end = len(lengths), longest(lengths)
    steps = steps_of_a_block(batch, end)
    rows = steps * batch
    dz = room(rows, z.shape[1], z)
    panel = room(rows, padded(1, z), z)
    d_x = room(rows if len(d_xs[0]) else 0, padded(xs[0].shape[1], z), z)
    x_columns = ones_below(xs[0].shape[1], rows, z)
    h_columns = ones_below(h.shape[2], rows, z)
    d_node_0 = room(batch, h.shape[2], z)
    d_node_1 = room(batch, c.shape[2], z)
    dear_0 = room(np.int64(1), at[2] - at[1], z)[0]
    for t in range(end - 1, -1, -1):
        first, turn = t % steps * batch, (end - 1 - t) % 2
        for s in range(batch):
            if t < lengths[s]:
                row = z[t * batch + s]
                old = t
                new = t + 1
                d_row = dz[first + s]
                _lstm_row_back_0(
                    c[new, s], row[at[3] : at[4]], row[at[2] : at[3]], row[at[0] : at[1]],
                    row[at[1] : at[2]], c[old, s], dear_0, d_h[turn, s, : h.shape[2]],
                    d_hs[0][place(d_hs, s, t)], d_node_0[s], d_c[turn, s, : c.shape[2]],
                    d_node_1[s], d_row[at[2] : at[3]], d_row[at[0] : at[1]],
                    d_c[1 - turn, s, : c.shape[2]], d_row[at[1] : at[2]], d_row[at[3] : at[4]],
                )
        zero_rows(d_h[1 - turn])
        add_product(d_h[1 - turn, ::1, 0:], dz[first::1, at[0] :][:batch], W_0_0T)
        keep_ended(d_h, turn, t, lengths)
        keep_ended(d_c, turn, t, lengths)
        if not first:
            stop = min(t + steps, end)
            rows = (stop - t) * batch
            input_columns(x_columns, xs, t, stop, lengths)
            state_columns(h_columns, h, t, stop, lengths)
            add_gradient(d_W_x_0, x_columns, dz[:rows], at[0], panel)
            add_gradient(d_W_0_0, h_columns, dz[:rows], at[0], panel)
            if len(d_xs[0]):
                zero_rows(d_x[:rows])
                add_product(d_x[::1, 0:], dz[:rows:1, at[0] :], W_x_0T)
                give_inputs(d_xs, d_x, t, stop, lengths)
    return end % 2


@compiled
def _peephole_row_1(z_i, z_f, z_g, z_o, new_h, new_c, old_c, w_p_0, w_p_1, w_p_2):
    number_0 = z_i.dtype.type(0.5)
    for k in range(len(z_i)):
        v0 = w_p_0[k] * old_c[k]
        v1 = v0 + z_i[k]
        v2 = sigmoid(v1, number_0)
        z_i[k] = v2
    for k in range(len(z_f)):
        v0 = w_p_1[k] * old_c[k]
        v1 = v0 + z_f[k]
        v2 = sigmoid(v1, number_0)
        z_f[k] = v2
    for k in range(len(z_g)):
        v0 = tanh(z_g[k])
        z_g[k] = v0
    for k in range(len(new_c)):
        v0 = z_f[k] * old_c[k]
        v1 = z_i[k] * z_g[k]
        v2 = v0 + v1
        new_c[k] = v2
    for k in range(len(z_o)):
        v0 = w_p_2[k] * new_c[k]
        v1 = v0 + z_o[k]
        v2 = sigmoid(v1, number_0)
        z_o[k] = v2
    for k in range(len(new_h)):
        v0 = tanh(new_c[k])
        v1 = z_o[k] * v0
        new_h[k] = v1


@compiled
def peephole_forward(weights, xs, lengths, hs, z, states):
    W_x_0, W_0_0, b, w_p_1, w_p_0, w_p_2, at = weights
    h, c = states
    batch, end = len(lengths), longest(lengths)
    for t in range(end):
        old, new = t % len(h), (t + 1) % len(h)
        first = fill(b, t, end, z, batch)
        project(W_x_0, at[0], xs, t, end, z, batch)
        add_product(z[first::1, at[0] :], h[old, ::1], W_0_0)
        for s in range(batch):
            if t < lengths[s]:
                row = z[first + s]
                _peephole_row_1(
                    row[at[0] : at[1]], row[at[1] : at[2]], row[at[2] : at[3]], row[at[3] : at[4]],
                    h[new, s], c[new, s], c[old, s], w_p_0, w_p_1, w_p_2,
                )
                copy(hs[0][place(hs, s, t)], h[new, s])
            else:
                copy(h[new, s], h[old, s])
                copy(c[new, s], c[old, s])
    return end


@compiled
def peephole_stream(room, sizes):
    batch = sizes[0]
    at = sizes[1], sizes[2], sizes[3], sizes[4], sizes[5]
    place = 6
    W_x_0 = room[sizes[place] : sizes[place + 1]].reshape(
        sizes[place + 2], sizes[place + 3], sizes[place + 4],
    )
    place += 5
    W_0_0 = room[sizes[place] : sizes[place + 1]].reshape(
        sizes[place + 2], sizes[place + 3], sizes[place + 4],
    )
    place += 5
    b = room[sizes[place] : sizes[place + 1]].reshape(sizes[place + 2])
    place += 3
    w_p_1 = room[sizes[place] : sizes[place + 1]].reshape(sizes[place + 2])
    place += 3
    w_p_0 = room[sizes[place] : sizes[place + 1]].reshape(sizes[place + 2])
    place += 3
    w_p_2 = room[sizes[place] : sizes[place + 1]].reshape(sizes[place + 2])
    place += 3
    z = room[sizes[place] : sizes[place + 1]].reshape(sizes[place + 2], sizes[place + 3])
    place += 4
    xs = room[sizes[place] : sizes[place + 1]].reshape(sizes[place + 2], sizes[place + 3])
    place += 4
    hs = room[sizes[place] : sizes[place + 1]].reshape(sizes[place + 2], sizes[place + 3])
    place += 4
    h = room[sizes[place] : sizes[place + 1]].reshape(
        sizes[place + 2], sizes[place + 3], sizes[place + 4],
    )
    place += 5
    c = room[sizes[place] : sizes[place + 1]].reshape(
        sizes[place + 2], sizes[place + 3], sizes[place + 4],
    )
    place += 5
    steps = np.empty(batch, np.int64)
    for s in range(batch):
        steps[s] = 1
    first, one = np.int64(0), np.int64(1)
    weights = W_x_0, W_0_0, b, w_p_1, w_p_0, w_p_2, at
    inputs, outputs = (xs, first, one, one), (hs, first, one, one)
    peephole_forward(weights, inputs, steps, outputs, z, (h, c))
    for s in range(batch):
        copy(h[0, s], h[1, s])
    for s in range(batch):
        copy(c[0, s], c[1, s])


@compiled
def peephole_alone(
    params_W_x, params_W_h, params_b, params_p, xs, hs, h, c, per_sequence, per_step, end,
):
    batch = len(h)
    n_0 = params_W_h.shape[2]
    at_0 = np.int64(0)
    n_1 = params_W_h.shape[2]
    at_1 = at_0 + n_0
    n_2 = params_W_h.shape[2]
    at_2 = at_1 + n_1
    n_3 = params_W_h.shape[2]
    at_3 = at_2 + n_2
    at = (at_0, at_1, at_2, at_3, at_3 + n_3)
    W_x_0 = pack_here(params_W_x[0 : 4])
    W_0_0 = pack_here(params_W_h[0 : 4])
    width = max(at_0 + W_x_0.shape[0] * W_x_0.shape[2], at_0 + W_0_0.shape[0] * W_0_0.shape[2])
    b = room(np.int64(1), width, xs)[0]
    add(b[at_0 :], params_b[0])
    add(b[at_1 :], params_b[1])
    add(b[at_2 :], params_b[2])
    add(b[at_3 :], params_b[3])
    w_p_1 = params_p[1]
    w_p_0 = params_p[0]
    w_p_2 = params_p[2]
    z = room(steps_at_once(batch) * batch, width, xs)
    both_h = room(2 * batch, h.shape[1], xs)
    both_h = both_h.reshape(2, batch, h.shape[1])
    for s in range(batch):
        copy(both_h[0, s], h[s])
    both_c = room(2 * batch, c.shape[1], xs)
    both_c = both_c.reshape(2, batch, c.shape[1])
    for s in range(batch):
        copy(both_c[0, s], c[s])
    first = np.int64(0)
    inputs = xs, first, per_sequence, per_step
    outputs = hs, first, per_sequence, per_step
    steps = np.empty(batch, np.int64)
    for s in range(batch):
        steps[s] = end
    weights, states = (W_x_0, W_0_0, b, w_p_1, w_p_0, w_p_2, at), (both_h, both_c)
    peephole_forward(weights, inputs, steps, outputs, z, states)
    for s in range(batch):
        copy(h[s], both_h[end % 2, s])
        copy(c[s], both_c[end % 2, s])


@compiled
def _peephole_row_back_0(
    z_o, new_c, z_g, z_i, z_f, old_c, dear_0, d_h, d_out, d_node_0, d_z_o, d_c, d_node_2, w_p_2,
    d_z_g, d_z_i, d_z_f, d_old_c, w_p_0, w_p_1, d_w_p_0, d_w_p_1, d_w_p_2,
):
    number_0 = z_o.dtype.type(1.0)
    for k in range(len(dear_0)):
        v0 = tanh(new_c[k])
        dear_0[k] = v0
    for k in range(len(d_node_0)):
        d_node_0[k] = d_h[k] + d_out[k]
    for k in range(len(d_z_o)):
        v0 = number_0 - z_o[k]
        v1 = v0 * z_o[k]
        v2 = v1 * dear_0[k]
        d_z_o[k] = d_node_0[k] * v2
    for k in range(len(d_node_2)):
        v0 = dear_0[k] * dear_0[k]
        v1 = number_0 - v0
        v2 = v1 * z_o[k]
        d_node_2[k] = d_c[k] + d_node_0[k] * v2 + d_z_o[k] * w_p_2[k]
    for k in range(len(d_z_g)):
        v0 = z_g[k] * z_g[k]
        v1 = number_0 - v0
        v2 = v1 * z_i[k]
        d_z_g[k] = d_node_2[k] * v2
    for k in range(len(d_z_i)):
        v0 = number_0 - z_i[k]
        v1 = v0 * z_i[k]
        v2 = v1 * z_g[k]
        d_z_i[k] = d_node_2[k] * v2
    for k in range(len(d_z_f)):
        v0 = number_0 - z_f[k]
        v1 = v0 * z_f[k]
        v2 = v1 * old_c[k]
        d_z_f[k] = d_node_2[k] * v2
    for k in range(len(d_old_c)):
        d_old_c[k] = d_z_i[k] * w_p_0[k] + d_node_2[k] * z_f[k] + d_z_f[k] * w_p_1[k]
    for k in range(len(d_w_p_0)):
        d_w_p_0[k] += d_z_i[k] * old_c[k]
    for k in range(len(d_w_p_1)):
        d_w_p_1[k] += d_z_f[k] * old_c[k]
    for k in range(len(d_w_p_2)):
        d_w_p_2[k] += d_z_o[k] * new_c[k]


@compiled
def peephole_back(weights, xs, lengths, d_hs, d_xs, z, states, d_states, gradients):
    W_x_0T, W_0_0T, w_p_1, w_p_0, w_p_2, at = weights
    h, c = states
    d_h, d_c = d_states
    d_W_x_0, d_W_0_0, d_w_p_1, d_w_p_0, d_w_p_2 = gradients
    batch, end = len(lengths), longest(lengths)
    steps = steps_of_a_block(batch, end)
    rows = steps * batch
    dz = room(rows, z.shape[1], z)
    panel = room(rows, padded(1, z), z)
    d_x = room(rows if len(d_xs[0]) else 0, padded(xs[0].shape[1], z), z)
    x_columns = ones_below(xs[0].shape[1], rows, z)
    h_columns = ones_below(h.shape[2], rows, z)
    d_node_0 = room(batch, h.shape[2], z)
    d_node_2 = room(batch, c.shape[2], z)
    dear_0 = room(np.int64(1), c.shape[2], z)[0]
    for t in range(end - 1, -1, -1):
        first, turn = t % steps * batch, (end - 1 - t) % 2
        for s in range(batch):
            if t < lengths[s]:
                row = z[t * batch + s]
                old = t
                new = t + 1
                d_row = dz[first + s]
                _peephole_row_back_0(
                    row[at[3] : at[4]], c[new, s], row[at[2] : at[3]], row[at[0] : at[1]],
                    row[at[1] : at[2]], c[old, s], dear_0, d_h[turn, s, : h.shape[2]],
                    d_hs[0][place(d_hs, s, t)], d_node_0[s], d_row[at[3] : at[4]],
                    d_c[turn, s, : c.shape[2]], d_node_2[s], w_p_2, d_row[at[2] : at[3]],
                    d_row[at[0] : at[1]], d_row[at[1] : at[2]], d_c[1 - turn, s, : c.shape[2]],
                    w_p_0, w_p_1, d_w_p_0, d_w_p_1, d_w_p_2,
                )
        zero_rows(d_h[1 - turn])
        add_product(d_h[1 - turn, ::1, 0:], dz[first::1, at[0] :][:batch], W_0_0T)
        keep_ended(d_h, turn, t, lengths)
        keep_ended(d_c, turn, t, lengths)
        if not first:
            stop = min(t + steps, end)
            rows = (stop - t) * batch
            input_columns(x_columns, xs, t, stop, lengths)
            state_columns(h_columns, h, t, stop, lengths)
            add_gradient(d_W_x_0, x_columns, dz[:rows], at[0], panel)
            add_gradient(d_W_0_0, h_columns, dz[:rows], at[0], panel)
            if len(d_xs[0]):
                zero_rows(d_x[:rows])
                add_product(d_x[::1, 0:], dz[:rows:1, at[0] :], W_x_0T)
                give_inputs(d_xs, d_x, t, stop, lengths)
    return end % 2


@compiled
def _coupled_row_1(z_f, z_g, z_o, new_h, new_c, old_c):
    number_0 = z_f.dtype.type(0.5)
    number_1 = z_f.dtype.type(1.0)
    for k in range(len(z_f)):
        v0 = sigmoid(z_f[k], number_0)
        z_f[k] = v0
    for k in range(len(z_g)):
        v0 = tanh(z_g[k])
        z_g[k] = v0
    for k in range(len(z_o)):
        v0 = sigmoid(z_o[k], number_0)
        z_o[k] = v0
    for k in range(len(new_c)):
        v0 = z_f[k] * old_c[k]
        v1 = number_1 - z_f[k]
        v2 = v1 * z_g[k]
        v3 = v0 + v2
        new_c[k] = v3
    for k in range(len(new_h)):
        v0 = tanh(new_c[k])
        v1 = z_o[k] * v0
        new_h[k] = v1


@compiled
def coupled_forward(weights, xs, lengths, hs, z, states):
    W_x_0, W_0_0, b, at = weights
    h, c = states
    batch, end = len(lengths), longest(lengths)
    for t in range(end):
        old, new = t % len(h), (t + 1) % len(h)
        first = fill(b, t, end, z, batch)
        project(W_x_0, at[0], xs, t, end, z, batch)
        add_product(z[first::1, at[0] :], h[old, ::1], W_0_0)
        for s in range(batch):
            if t < lengths[s]:
                row = z[first + s]
                _coupled_row_1(
                    row[at[0] : at[1]], row[at[1] : at[2]], row[at[2] : at[3]], h[new, s],
                    c[new, s], c[old, s],
                )
                copy(hs[0][place(hs, s, t)], h[new, s])
            else:
                copy(h[new, s], h[old, s])
                copy(c[new, s], c[old, s])
    return end


@compiled
def coupled_stream(room, sizes):
    batch = sizes[0]
    at = sizes[1], sizes[2], sizes[3], sizes[4]
    place = 5
    W_x_0 = room[sizes[place] : sizes[place + 1]].reshape(
        sizes[place + 2], sizes[place + 3], sizes[place + 4],
    )
    place += 5
    W_0_0 = room[sizes[place] : sizes[place + 1]].reshape(
        sizes[place + 2], sizes[place + 3], sizes[place + 4],
    )
    place += 5
    b = room[sizes[place] : sizes[place + 1]].reshape(sizes[place + 2])
    place += 3
    z = room[sizes[place] : sizes[place + 1]].reshape(sizes[place + 2], sizes[place + 3])
    place += 4
    xs = room[sizes[place] : sizes[place + 1]].reshape(sizes[place + 2], sizes[place + 3])
    place += 4
    hs = room[sizes[place] : sizes[place + 1]].reshape(sizes[place + 2], sizes[place + 3])
    place += 4
    h = room[sizes[place] : sizes[place + 1]].reshape(
        sizes[place + 2], sizes[place + 3], sizes[place + 4],
    )
    place += 5
    c = room[sizes[place] : sizes[place + 1]].reshape(
        sizes[place + 2], sizes[place + 3], sizes[place + 4],
    )
    place += 5
    steps = np.empty(batch, np.int64)
    for s in range(batch):
        steps[s] = 1
    first, one = np.int64(0), np.int64(1)
    weights = W_x_0, W_0_0, b, at
    inputs, outputs = (xs, first, one, one), (hs, first, one, one)
    coupled_forward(weights, inputs, steps, outputs, z, (h, c))
    for s in range(batch):
        copy(h[0, s], h[1, s])
    for s in range(batch):
        copy(c[0, s], c[1, s])


@compiled
def coupled_alone(params_W_x, params_W_h, params_b, xs, hs, h, c, per_sequence, per_step, end):
    batch = len(h)
    n_0 = params_W_h.shape[2]
    at_0 = np.int64(0)
    n_1 = params_W_h.shape[2]
    at_1 = at_0 + n_0
    n_2 = params_W_h.shape[2]
    at_2 = at_1 + n_1
    at = (at_0, at_1, at_2, at_2 + n_2)
    W_x_0 = pack_here(params_W_x[0 : 3])
    W_0_0 = pack_here(params_W_h[0 : 3])
    width = max(at_0 + W_x_0.shape[0] * W_x_0.shape[2], at_0 + W_0_0.shape[0] * W_0_0.shape[2])
    b = room(np.int64(1), width, xs)[0]
    add(b[at_0 :], params_b[0])
    add(b[at_1 :], params_b[1])
    add(b[at_2 :], params_b[2])
    z = room(steps_at_once(batch) * batch, width, xs)
    both_h = room(2 * batch, h.shape[1], xs)
    both_h = both_h.reshape(2, batch, h.shape[1])
    for s in range(batch):
        copy(both_h[0, s], h[s])
    both_c = room(2 * batch, c.shape[1], xs)
    both_c = both_c.reshape(2, batch, c.shape[1])
    for s in range(batch):
        copy(both_c[0, s], c[s])
    first = np.int64(0)
    inputs = xs, first, per_sequence, per_step
    outputs = hs, first, per_sequence, per_step
    steps = np.empty(batch, np.int64)
    for s in range(batch):
        steps[s] = end
    weights, states = (W_x_0, W_0_0, b, at), (both_h, both_c)
    coupled_forward(weights, inputs, steps, outputs, z, states)
    for s in range(batch):
        copy(h[s], both_h[end % 2, s])
        copy(c[s], both_c[end % 2, s])


@compiled
def _coupled_row_back_0(
    new_c, z_o, z_g, z_f, old_c, dear_0, d_h, d_out, d_node_0, d_c, d_node_1, d_z_g, d_old_c, d_z_f,
    d_z_o,
):
    number_0 = new_c.dtype.type(1.0)
    number_1 = new_c.dtype.type(-1.0)
    for k in range(len(dear_0)):
        v0 = tanh(new_c[k])
        dear_0[k] = v0
    for k in range(len(d_node_0)):
        d_node_0[k] = d_h[k] + d_out[k]
    for k in range(len(d_node_1)):
        v0 = dear_0[k] * dear_0[k]
        v1 = number_0 - v0
        v2 = v1 * z_o[k]
        d_node_1[k] = d_c[k] + d_node_0[k] * v2
    for k in range(len(d_z_g)):
        v0 = z_g[k] * z_g[k]
        v1 = number_0 - v0
        v2 = number_0 - z_f[k]
        v3 = v1 * v2
        d_z_g[k] = d_node_1[k] * v3
    for k in range(len(d_old_c)):
        d_old_c[k] = d_node_1[k] * z_f[k]
    for k in range(len(d_z_f)):
        v0 = number_0 - z_f[k]
        v1 = v0 * z_f[k]
        v2 = number_1 * z_g[k]
        v3 = old_c[k] + v2
        v4 = v1 * v3
        d_z_f[k] = d_node_1[k] * v4
    for k in range(len(d_z_o)):
        v0 = number_0 - z_o[k]
        v1 = v0 * z_o[k]
        v2 = v1 * dear_0[k]
        d_z_o[k] = d_node_0[k] * v2


@compiled
def coupled_back(weights, xs, lengths, d_hs, d_xs, z, states, d_states, gradients):
    W_x_0T, W_0_0T, at = weights
    h, c = states
    d_h, d_c = d_states
    d_W_x_0, d_W_0_0 = gradients
    batch, end = len(lengths), longest(lengths)
    steps = steps_of_a_block(batch, end)
    rows = steps * batch
    dz = room(rows, z.shape[1], z)
    panel = room(rows, padded(1, z), z)
    d_x = room(rows if len(d_xs[0]) else 0, padded(xs[0].shape[1], z), z)
    x_columns = ones_below(xs[0].shape[1], rows, z)
    h_columns = ones_below(h.shape[2], rows, z)
    d_node_0 = room(batch, h.shape[2], z)
    d_node_1 = room(batch, c.shape[2], z)
    dear_0 = room(np.int64(1), at[1] - at[0], z)[0]
    for t in range(end - 1, -1, -1):
        first, turn = t % steps * batch, (end - 1 - t) % 2
        for s in range(batch):
            if t < lengths[s]:
                row = z[t * batch + s]
                old = t
                new = t + 1
                d_row = dz[first + s]
                _coupled_row_back_0(
                    c[new, s], row[at[2] : at[3]], row[at[1] : at[2]], row[at[0] : at[1]],
                    c[old, s], dear_0, d_h[turn, s, : h.shape[2]], d_hs[0][place(d_hs, s, t)],
                    d_node_0[s], d_c[turn, s, : c.shape[2]], d_node_1[s], d_row[at[1] : at[2]],
                    d_c[1 - turn, s, : c.shape[2]], d_row[at[0] : at[1]], d_row[at[2] : at[3]],
                )
        zero_rows(d_h[1 - turn])
        add_product(d_h[1 - turn, ::1, 0:], dz[first::1, at[0] :][:batch], W_0_0T)
        keep_ended(d_h, turn, t, lengths)
        keep_ended(d_c, turn, t, lengths)
        if not first:
            stop = min(t + steps, end)
            rows = (stop - t) * batch
            input_columns(x_columns, xs, t, stop, lengths)
            state_columns(h_columns, h, t, stop, lengths)
            add_gradient(d_W_x_0, x_columns, dz[:rows], at[0], panel)
            add_gradient(d_W_0_0, h_columns, dz[:rows], at[0], panel)
            if len(d_xs[0]):
                zero_rows(d_x[:rows])
                add_product(d_x[::1, 0:], dz[:rows:1, at[0] :], W_x_0T)
                give_inputs(d_xs, d_x, t, stop, lengths)
    return end % 2


@compiled
def _coupled_peephole_row_1(z_f, z_g, z_o, new_h, new_c, old_c, w_p_0, w_p_1):
    number_0 = z_f.dtype.type(0.5)
    number_1 = z_f.dtype.type(1.0)
    for k in range(len(z_f)):
        v0 = w_p_0[k] * old_c[k]
        v1 = v0 + z_f[k]
        v2 = sigmoid(v1, number_0)
        z_f[k] = v2
    for k in range(len(z_g)):
        v0 = tanh(z_g[k])
        z_g[k] = v0
    for k in range(len(new_c)):
        v0 = z_f[k] * old_c[k]
        v1 = number_1 - z_f[k]
        v2 = v1 * z_g[k]
        v3 = v0 + v2
        new_c[k] = v3
    for k in range(len(z_o)):
        v0 = w_p_1[k] * new_c[k]
        v1 = v0 + z_o[k]
        v2 = sigmoid(v1, number_0)
        z_o[k] = v2
    for k in range(len(new_h)):
        v0 = tanh(new_c[k])
        v1 = z_o[k] * v0
        new_h[k] = v1


@compiled
def coupled_peephole_forward(weights, xs, lengths, hs, z, states):
    W_x_0, W_0_0, b, w_p_0, w_p_1, at = weights
    h, c = states
    batch, end = len(lengths), longest(lengths)
    for t in range(end):
        old, new = t % len(h), (t + 1) % len(h)
        first = fill(b, t, end, z, batch)
        project(W_x_0, at[0], xs, t, end, z, batch)
        add_product(z[first::1, at[0] :], h[old, ::1], W_0_0)
        for s in range(batch):
            if t < lengths[s]:
                row = z[first + s]
                _coupled_peephole_row_1(
                    row[at[0] : at[1]], row[at[1] : at[2]], row[at[2] : at[3]], h[new, s],
                    c[new, s], c[old, s], w_p_0, w_p_1,
                )
                copy(hs[0][place(hs, s, t)], h[new, s])
            else:
                copy(h[new, s], h[old, s])
                copy(c[new, s], c[old, s])
    return end


@compiled
def coupled_peephole_stream(room, sizes):
    batch = sizes[0]
    at = sizes[1], sizes[2], sizes[3], sizes[4]
    place = 5
    W_x_0 = room[sizes[place] : sizes[place + 1]].reshape(
        sizes[place + 2], sizes[place + 3], sizes[place + 4],
    )
    place += 5
    W_0_0 = room[sizes[place] : sizes[place + 1]].reshape(
        sizes[place + 2], sizes[place + 3], sizes[place + 4],
    )
    place += 5
    b = room[sizes[place] : sizes[place + 1]].reshape(sizes[place + 2])
    place += 3
    w_p_0 = room[sizes[place] : sizes[place + 1]].reshape(sizes[place + 2])
    place += 3
    w_p_1 = room[sizes[place] : sizes[place + 1]].reshape(sizes[place + 2])
    place += 3
    z = room[sizes[place] : sizes[place + 1]].reshape(sizes[place + 2], sizes[place + 3])
    place += 4
    xs = room[sizes[place] : sizes[place + 1]].reshape(sizes[place + 2], sizes[place + 3])
    place += 4
    hs = room[sizes[place] : sizes[place + 1]].reshape(sizes[place + 2], sizes[place + 3])
    place += 4
    h = room[sizes[place] : sizes[place + 1]].reshape(
        sizes[place + 2], sizes[place + 3], sizes[place + 4],
    )
    place += 5
    c = room[sizes[place] : sizes[place + 1]].reshape(
        sizes[place + 2], sizes[place + 3], sizes[place + 4],
    )
    place += 5
    steps = np.empty(batch, np.int64)
    for s in range(batch):
        steps[s] = 1
    first, one = np.int64(0), np.int64(1)
    weights = W_x_0, W_0_0, b, w_p_0, w_p_1, at
    inputs, outputs = (xs, first, one, one), (hs, first, one, one)
    coupled_peephole_forward(weights, inputs, steps, outputs, z, (h, c))
    for s in range(batch):
        copy(h[0, s], h[1, s])
    for s in range(batch):
        copy(c[0, s], c[1, s])


@compiled
def coupled_peephole_alone(
    params_W_x, params_W_h, params_b, params_p, xs, hs, h, c, per_sequence, per_step, end,
):
    batch = len(h)
    n_0 = params_W_h.shape[2]
    at_0 = np.int64(0)
    n_1 = params_W_h.shape[2]
    at_1 = at_0 + n_0
    n_2 = params_W_h.shape[2]
    at_2 = at_1 + n_1
    at = (at_0, at_1, at_2, at_2 + n_2)
    W_x_0 = pack_here(params_W_x[0 : 3])
    W_0_0 = pack_here(params_W_h[0 : 3])
    width = max(at_0 + W_x_0.shape[0] * W_x_0.shape[2], at_0 + W_0_0.shape[0] * W_0_0.shape[2])
    b = room(np.int64(1), width, xs)[0]
    add(b[at_0 :], params_b[0])
    add(b[at_1 :], params_b[1])
    add(b[at_2 :], params_b[2])
    w_p_0 = params_p[0]
    w_p_1 = params_p[1]
    z = room(steps_at_once(batch) * batch, width, xs)
    both_h = room(2 * batch, h.shape[1], xs)
    both_h = both_h.reshape(2, batch, h.shape[1])
    for s in range(batch):
        copy(both_h[0, s], h[s])
    both_c = room(2 * batch, c.shape[1], xs)
    both_c = both_c.reshape(2, batch, c.shape[1])
    for s in range(batch):
        copy(both_c[0, s], c[s])
    first = np.int64(0)
    inputs = xs, first, per_sequence, per_step
    outputs = hs, first, per_sequence, per_step
    steps = np.empty(batch, np.int64)
    for s in range(batch):
        steps[s] = end
    weights, states = (W_x_0, W_0_0, b, w_p_0, w_p_1, at), (both_h, both_c)
    coupled_peephole_forward(weights, inputs, steps, outputs, z, states)
    for s in range(batch):
        copy(h[s], both_h[end % 2, s])
        copy(c[s], both_c[end % 2, s])


@compiled
def _coupled_peephole_row_back_0(
    z_o, new_c, z_g, z_f, old_c, dear_0, d_h, d_out, d_node_0, d_z_o, d_c, d_node_2, w_p_1, d_z_g,
    d_z_f, d_old_c, w_p_0, d_w_p_0, d_w_p_1,
):
    number_0 = z_o.dtype.type(1.0)
    number_1 = z_o.dtype.type(-1.0)
    for k in range(len(dear_0)):
        v0 = tanh(new_c[k])
        dear_0[k] = v0
    for k in range(len(d_node_0)):
        d_node_0[k] = d_h[k] + d_out[k]
    for k in range(len(d_z_o)):
        v0 = number_0 - z_o[k]
        v1 = v0 * z_o[k]
        v2 = v1 * dear_0[k]
        d_z_o[k] = d_node_0[k] * v2
    for k in range(len(d_node_2)):
        v0 = dear_0[k] * dear_0[k]
        v1 = number_0 - v0
        v2 = v1 * z_o[k]
        d_node_2[k] = d_c[k] + d_node_0[k] * v2 + d_z_o[k] * w_p_1[k]
    for k in range(len(d_z_g)):
        v0 = z_g[k] * z_g[k]
        v1 = number_0 - v0
        v2 = number_0 - z_f[k]
        v3 = v1 * v2
        d_z_g[k] = d_node_2[k] * v3
    for k in range(len(d_z_f)):
        v0 = number_0 - z_f[k]
        v1 = v0 * z_f[k]
        v2 = number_1 * z_g[k]
        v3 = old_c[k] + v2
        v4 = v1 * v3
        d_z_f[k] = d_node_2[k] * v4
    for k in range(len(d_old_c)):
        d_old_c[k] = d_node_2[k] * z_f[k] + d_z_f[k] * w_p_0[k]
    for k in range(len(d_w_p_0)):
        d_w_p_0[k] += d_z_f[k] * old_c[k]
    for k in range(len(d_w_p_1)):
        d_w_p_1[k] += d_z_o[k] * new_c[k]


@compiled
def coupled_peephole_back(weights, xs, lengths, d_hs, d_xs, z, states, d_states, gradients):
    W_x_0T, W_0_0T, w_p_0, w_p_1, at = weights
    h, c = states
    d_h, d_c = d_states
    d_W_x_0, d_W_0_0, d_w_p_0, d_w_p_1 = gradients
    batch, end = len(lengths), longest(lengths)
    steps = steps_of_a_block(batch, end)
    rows = steps * batch
    dz = room(rows, z.shape[1], z)
    panel = room(rows, padded(1, z), z)
    d_x = room(rows if len(d_xs[0]) else 0, padded(xs[0].shape[1], z), z)
    x_columns = ones_below(xs[0].shape[1], rows, z)
    h_columns = ones_below(h.shape[2], rows, z)
    d_node_0 = room(batch, h.shape[2], z)
    d_node_2 = room(batch, c.shape[2], z)
    dear_0 = room(np.int64(1), c.shape[2], z)[0]
    for t in range(end - 1, -1, -1):
        first, turn = t % steps * batch, (end - 1 - t) % 2
        for s in range(batch):
            if t < lengths[s]:
                row = z[t * batch + s]
                old = t
                new = t + 1
                d_row = dz[first + s]
                _coupled_peephole_row_back_0(
                    row[at[2] : at[3]], c[new, s], row[at[1] : at[2]], row[at[0] : at[1]],
                    c[old, s], dear_0, d_h[turn, s, : h.shape[2]], d_hs[0][place(d_hs, s, t)],
                    d_node_0[s], d_row[at[2] : at[3]], d_c[turn, s, : c.shape[2]], d_node_2[s],
                    w_p_1, d_row[at[1] : at[2]], d_row[at[0] : at[1]],
                    d_c[1 - turn, s, : c.shape[2]], w_p_0, d_w_p_0, d_w_p_1,
                )
        zero_rows(d_h[1 - turn])
        add_product(d_h[1 - turn, ::1, 0:], dz[first::1, at[0] :][:batch], W_0_0T)
        keep_ended(d_h, turn, t, lengths)
        keep_ended(d_c, turn, t, lengths)
        if not first:
            stop = min(t + steps, end)
            rows = (stop - t) * batch
            input_columns(x_columns, xs, t, stop, lengths)
            state_columns(h_columns, h, t, stop, lengths)
            add_gradient(d_W_x_0, x_columns, dz[:rows], at[0], panel)
            add_gradient(d_W_0_0, h_columns, dz[:rows], at[0], panel)
            if len(d_xs[0]):
                zero_rows(d_x[:rows])
                add_product(d_x[::1, 0:], dz[:rows:1, at[0] :], W_x_0T)
                give_inputs(d_xs, d_x, t, stop, lengths)
    return end % 2


@compiled
def _gru_row_1(z_r, z_z, left_0, old_h):
    number_0 = z_r.dtype.type(0.5)
    for k in range(len(z_r)):
        v0 = sigmoid(z_r[k], number_0)
        z_r[k] = v0
    for k in range(len(z_z)):
        v0 = sigmoid(z_z[k], number_0)
        z_z[k] = v0
    for k in range(len(left_0)):
        v0 = z_r[k] * old_h[k]
        left_0[k] = v0


@compiled
def _gru_row_2(z_n, new_h, z_z, old_h):
    number_0 = z_n.dtype.type(1.0)
    for k in range(len(z_n)):
        v0 = tanh(z_n[k])
        z_n[k] = v0
    for k in range(len(new_h)):
        v0 = z_z[k] * old_h[k]
        v1 = number_0 - z_z[k]
        v2 = v1 * z_n[k]
        v3 = v0 + v2
        new_h[k] = v3


@compiled
def gru_forward(weights, xs, lengths, hs, z, states):
    W_x_0, W_0_0, W_1_0, b, at = weights
    h, = states
    batch, end = len(lengths), longest(lengths)
    left_0 = room(batch, at[1] - at[0], z)
    for t in range(end):
        old, new = t % len(h), (t + 1) % len(h)
        first = fill(b, t, end, z, batch)
        project(W_x_0, at[0], xs, t, end, z, batch)
        add_product(z[first::1, at[0] :], h[old, ::1], W_0_0)
        for s in range(batch):
            if t < lengths[s]:
                row = z[first + s]
                _gru_row_1(row[at[0] : at[1]], row[at[1] : at[2]], left_0[s], h[old, s])
        add_product(z[first::1, at[2] :], left_0[::1], W_1_0)
        for s in range(batch):
            if t < lengths[s]:
                row = z[first + s]
                _gru_row_2(row[at[2] : at[3]], h[new, s], row[at[1] : at[2]], h[old, s])
                copy(hs[0][place(hs, s, t)], h[new, s])
            else:
                copy(h[new, s], h[old, s])
    return end


@compiled
def gru_stream(room, sizes):
    batch = sizes[0]
    at = sizes[1], sizes[2], sizes[3], sizes[4]
    place = 5
    W_x_0 = room[sizes[place] : sizes[place + 1]].reshape(
        sizes[place + 2], sizes[place + 3], sizes[place + 4],
    )
    place += 5
    W_0_0 = room[sizes[place] : sizes[place + 1]].reshape(
        sizes[place + 2], sizes[place + 3], sizes[place + 4],
    )
    place += 5
    W_1_0 = room[sizes[place] : sizes[place + 1]].reshape(
        sizes[place + 2], sizes[place + 3], sizes[place + 4],
    )
    place += 5
    b = room[sizes[place] : sizes[place + 1]].reshape(sizes[place + 2])
    place += 3
    z = room[sizes[place] : sizes[place + 1]].reshape(sizes[place + 2], sizes[place + 3])
    place += 4
    xs = room[sizes[place] : sizes[place + 1]].reshape(sizes[place + 2], sizes[place + 3])
    place += 4
    hs = room[sizes[place] : sizes[place + 1]].reshape(sizes[place + 2], sizes[place + 3])
    place += 4
    h = room[sizes[place] : sizes[place + 1]].reshape(
        sizes[place + 2], sizes[place + 3], sizes[place + 4],
    )
    place += 5
    steps = np.empty(batch, np.int64)
    for s in range(batch):
        steps[s] = 1
    first, one = np.int64(0), np.int64(1)
    weights = W_x_0, W_0_0, W_1_0, b, at
    inputs, outputs = (xs, first, one, one), (hs, first, one, one)
    gru_forward(weights, inputs, steps, outputs, z, (h,))
    for s in range(batch):
        copy(h[0, s], h[1, s])


@compiled
def gru_alone(params_W_x, params_W_h, params_b, xs, hs, h, per_sequence, per_step, end):
    batch = len(h)
    n_0 = params_W_h.shape[2]
    at_0 = np.int64(0)
    n_1 = params_W_h.shape[2]
    at_1 = at_0 + n_0
    n_2 = params_W_h.shape[2]
    at_2 = at_1 + n_1
    at = (at_0, at_1, at_2, at_2 + n_2)
    W_x_0 = pack_here(params_W_x[0 : 3])
    W_0_0 = pack_here(params_W_h[0 : 2])
    W_1_0 = pack_here(params_W_h[2 : 3])
    width = max(
        at_0 + W_x_0.shape[0] * W_x_0.shape[2], at_0 + W_0_0.shape[0] * W_0_0.shape[2],
        at_2 + W_1_0.shape[0] * W_1_0.shape[2],
    )
    b = room(np.int64(1), width, xs)[0]
    add(b[at_0 :], params_b[0])
    add(b[at_1 :], params_b[1])
    add(b[at_2 :], params_b[2])
    z = room(steps_at_once(batch) * batch, width, xs)
    both_h = room(2 * batch, h.shape[1], xs)
    both_h = both_h.reshape(2, batch, h.shape[1])
    for s in range(batch):
        copy(both_h[0, s], h[s])
    first = np.int64(0)
    inputs = xs, first, per_sequence, per_step
    outputs = hs, first, per_sequence, per_step
    steps = np.empty(batch, np.int64)
    for s in range(batch):
        steps[s] = end
    weights, states = (W_x_0, W_0_0, W_1_0, b, at), (both_h,)
    gru_forward(weights, inputs, steps, outputs, z, states)
    for s in range(batch):
        copy(h[s], both_h[end % 2, s])


@compiled
def _gru_row_back_0(z_n, z_z, old_h, d_h, d_out, d_node_1, d_z_n, d_z_z):
    number_0 = z_n.dtype.type(1.0)
    number_1 = z_n.dtype.type(-1.0)
    for k in range(len(d_node_1)):
        d_node_1[k] = d_h[k] + d_out[k]
    for k in range(len(d_z_n)):
        v0 = z_n[k] * z_n[k]
        v1 = number_0 - v0
        v2 = number_0 - z_z[k]
        v3 = v1 * v2
        d_z_n[k] = d_node_1[k] * v3
    for k in range(len(d_z_z)):
        v0 = number_0 - z_z[k]
        v1 = v0 * z_z[k]
        v2 = number_1 * z_n[k]
        v3 = old_h[k] + v2
        v4 = v1 * v3
        d_z_z[k] = d_node_1[k] * v4


@compiled
def _gru_row_back_1(z_r, old_h, z_z, d_left_0, d_z_r, d_node_1, d_old_h):
    number_0 = z_r.dtype.type(1.0)
    for k in range(len(d_z_r)):
        v0 = number_0 - z_r[k]
        v1 = v0 * z_r[k]
        v2 = v1 * old_h[k]
        d_z_r[k] = d_left_0[k] * v2
    for k in range(len(d_old_h)):
        d_old_h[k] = d_left_0[k] * z_r[k] + d_node_1[k] * z_z[k]


@compiled
def _gru_left_0(left, z_r, old_h):
    for k in range(len(left)):
        v0 = z_r[k] * old_h[k]
        left[k] = v0


@compiled
def gru_back(weights, xs, lengths, d_hs, d_xs, z, states, d_states, gradients):
    W_x_0T, W_0_0T, W_1_0T, at = weights
    h, = states
    d_h, = d_states
    d_W_x_0, d_W_0_0, d_W_1_0 = gradients
    batch, end = len(lengths), longest(lengths)
    steps = steps_of_a_block(batch, end)
    rows = steps * batch
    dz = room(rows, z.shape[1], z)
    panel = room(rows, padded(1, z), z)
    d_x = room(rows if len(d_xs[0]) else 0, padded(xs[0].shape[1], z), z)
    x_columns = ones_below(xs[0].shape[1], rows, z)
    h_columns = ones_below(h.shape[2], rows, z)
    left_0 = room(np.int64(1), at[1] - at[0], z)[0]
    d_left_0 = room(batch, padded(at[1] - at[0], z), z)
    left_0_columns = ones_below(at[1] - at[0], rows, z)
    d_node_1 = room(batch, h.shape[2], z)
    for t in range(end - 1, -1, -1):
        first, turn = t % steps * batch, (end - 1 - t) % 2
        for s in range(batch):
            if t < lengths[s]:
                row = z[t * batch + s]
                old = t
                d_row = dz[first + s]
                _gru_row_back_0(
                    row[at[2] : at[3]], row[at[1] : at[2]], h[old, s], d_h[turn, s, : h.shape[2]],
                    d_hs[0][place(d_hs, s, t)], d_node_1[s], d_row[at[2] : at[3]],
                    d_row[at[1] : at[2]],
                )
        zero_rows(d_left_0)
        add_product(d_left_0[::1, 0:], dz[first::1, at[2] :][:batch], W_1_0T)
        for s in range(batch):
            if t < lengths[s]:
                row = z[t * batch + s]
                old = t
                d_row = dz[first + s]
                _gru_row_back_1(
                    row[at[0] : at[1]], h[old, s], row[at[1] : at[2]], d_left_0[s, : at[1] - at[0]],
                    d_row[at[0] : at[1]], d_node_1[s], d_h[1 - turn, s, : h.shape[2]],
                )
        add_product(d_h[1 - turn, ::1, 0:], dz[first::1, at[0] :][:batch], W_0_0T)
        keep_ended(d_h, turn, t, lengths)
        if not first:
            stop = min(t + steps, end)
            rows = (stop - t) * batch
            input_columns(x_columns, xs, t, stop, lengths)
            state_columns(h_columns, h, t, stop, lengths)
            for u in range(t, stop):
                for s in range(batch):
                    n, alive = (u - t) * batch + s, u < lengths[s]
                    if alive:
                        row = z[u * batch + s]
                        old = u
                        _gru_left_0(left_0, row[at[0] : at[1]], h[old, s])
                    column(left_0_columns, n, left_0, alive)
            add_gradient(d_W_x_0, x_columns, dz[:rows], at[0], panel)
            add_gradient(d_W_0_0, h_columns, dz[:rows], at[0], panel)
            add_gradient(d_W_1_0, left_0_columns, dz[:rows], at[2], panel)
            if len(d_xs[0]):
                zero_rows(d_x[:rows])
                add_product(d_x[::1, 0:], dz[:rows:1, at[0] :], W_x_0T)
                give_inputs(d_xs, d_x, t, stop, lengths)
    return end % 2


@compiled
def _gru_reset_after_row_1(z_r, z_z, z_n_3, new_h, z_n_0, old_h):
    number_0 = z_r.dtype.type(0.5)
    number_1 = z_r.dtype.type(1.0)
    for k in range(len(z_r)):
        v0 = sigmoid(z_r[k], number_0)
        z_r[k] = v0
    for k in range(len(z_z)):
        v0 = sigmoid(z_z[k], number_0)
        z_z[k] = v0
    for k in range(len(z_n_3)):
        v0 = z_r[k] * z_n_0[k]
        v1 = v0 + z_n_3[k]
        v2 = tanh(v1)
        z_n_3[k] = v2
    for k in range(len(new_h)):
        v0 = z_z[k] * old_h[k]
        v1 = number_1 - z_z[k]
        v2 = v1 * z_n_3[k]
        v3 = v0 + v2
        new_h[k] = v3


@compiled
def gru_reset_after_forward(weights, xs, lengths, hs, z, states):
    W_x_0, W_0_0, b, at = weights
    h, = states
    batch, end = len(lengths), longest(lengths)
    for t in range(end):
        old, new = t % len(h), (t + 1) % len(h)
        first = fill(b, t, end, z, batch)
        project(W_x_0, at[1], xs, t, end, z, batch)
        add_product(z[first::1, at[0] :], h[old, ::1], W_0_0)
        for s in range(batch):
            if t < lengths[s]:
                row = z[first + s]
                _gru_reset_after_row_1(
                    row[at[1] : at[2]], row[at[2] : at[3]], row[at[3] : at[4]], h[new, s],
                    row[at[0] : at[1]], h[old, s],
                )
                copy(hs[0][place(hs, s, t)], h[new, s])
            else:
                copy(h[new, s], h[old, s])
    return end


@compiled
def gru_reset_after_stream(room, sizes):
    batch = sizes[0]
    at = sizes[1], sizes[2], sizes[3], sizes[4], sizes[5]
    place = 6
    W_x_0 = room[sizes[place] : sizes[place + 1]].reshape(
        sizes[place + 2], sizes[place + 3], sizes[place + 4],
    )
    place += 5
    W_0_0 = room[sizes[place] : sizes[place + 1]].reshape(
        sizes[place + 2], sizes[place + 3], sizes[place + 4],
    )
    place += 5
    b = room[sizes[place] : sizes[place + 1]].reshape(sizes[place + 2])
    place += 3
    z = room[sizes[place] : sizes[place + 1]].reshape(sizes[place + 2], sizes[place + 3])
    place += 4
    xs = room[sizes[place] : sizes[place + 1]].reshape(sizes[place + 2], sizes[place + 3])
    place += 4
    hs = room[sizes[place] : sizes[place + 1]].reshape(sizes[place + 2], sizes[place + 3])
    place += 4
    h = room[sizes[place] : sizes[place + 1]].reshape(
        sizes[place + 2], sizes[place + 3], sizes[place + 4],
    )
    place += 5
    steps = np.empty(batch, np.int64)
    for s in range(batch):
        steps[s] = 1
    first, one = np.int64(0), np.int64(1)
    weights = W_x_0, W_0_0, b, at
    inputs, outputs = (xs, first, one, one), (hs, first, one, one)
    gru_reset_after_forward(weights, inputs, steps, outputs, z, (h,))
    for s in range(batch):
        copy(h[0, s], h[1, s])


@compiled
def gru_reset_after_alone(
    params_W_x, params_W_h, params_b, params_b_hn, xs, hs, h, per_sequence, per_step, end,
):
    batch = len(h)
    n_0 = params_W_h.shape[2]
    at_0 = np.int64(0)
    n_1 = params_W_h.shape[2]
    at_1 = at_0 + n_0
    n_2 = params_W_h.shape[2]
    at_2 = at_1 + n_1
    n_3 = params_W_x.shape[2]
    at_3 = at_2 + n_2
    at = (at_0, at_1, at_2, at_3, at_3 + n_3)
    W_x_0 = pack_here(params_W_x[0 : 3])
    W_0_0 = pack_here(picked(params_W_h, (2, 0, 1)))
    width = max(at_1 + W_x_0.shape[0] * W_x_0.shape[2], at_0 + W_0_0.shape[0] * W_0_0.shape[2])
    b = room(np.int64(1), width, xs)[0]
    add(b[at_0 :], params_b_hn)
    add(b[at_1 :], params_b[0])
    add(b[at_2 :], params_b[1])
    add(b[at_3 :], params_b[2])
    z = room(steps_at_once(batch) * batch, width, xs)
    both_h = room(2 * batch, h.shape[1], xs)
    both_h = both_h.reshape(2, batch, h.shape[1])
    for s in range(batch):
        copy(both_h[0, s], h[s])
    first = np.int64(0)
    inputs = xs, first, per_sequence, per_step
    outputs = hs, first, per_sequence, per_step
    steps = np.empty(batch, np.int64)
    for s in range(batch):
        steps[s] = end
    weights, states = (W_x_0, W_0_0, b, at), (both_h,)
    gru_reset_after_forward(weights, inputs, steps, outputs, z, states)
    for s in range(batch):
        copy(h[s], both_h[end % 2, s])


@compiled
def _gru_reset_after_row_back_0(
    z_n_3, z_z, z_r, z_n_0, old_h, d_h, d_out, d_node_0, d_z_n_3, d_z_n_0, d_z_r, d_old_h, d_z_z,
):
    number_0 = z_n_3.dtype.type(1.0)
    number_1 = z_n_3.dtype.type(-1.0)
    for k in range(len(d_node_0)):
        d_node_0[k] = d_h[k] + d_out[k]
    for k in range(len(d_z_n_3)):
        v0 = z_n_3[k] * z_n_3[k]
        v1 = number_0 - v0
        v2 = number_0 - z_z[k]
        v3 = v1 * v2
        d_z_n_3[k] = d_node_0[k] * v3
    for k in range(len(d_z_n_0)):
        d_z_n_0[k] = d_z_n_3[k] * z_r[k]
    for k in range(len(d_z_r)):
        v0 = number_0 - z_r[k]
        v1 = v0 * z_r[k]
        v2 = v1 * z_n_0[k]
        d_z_r[k] = d_z_n_3[k] * v2
    for k in range(len(d_old_h)):
        d_old_h[k] = d_node_0[k] * z_z[k]
    for k in range(len(d_z_z)):
        v0 = number_0 - z_z[k]
        v1 = v0 * z_z[k]
        v2 = number_1 * z_n_3[k]
        v3 = old_h[k] + v2
        v4 = v1 * v3
        d_z_z[k] = d_node_0[k] * v4


@compiled
def gru_reset_after_back(weights, xs, lengths, d_hs, d_xs, z, states, d_states, gradients):
    W_x_0T, W_0_0T, at = weights
    h, = states
    d_h, = d_states
    d_W_x_0, d_W_0_0 = gradients
    batch, end = len(lengths), longest(lengths)
    steps = steps_of_a_block(batch, end)
    rows = steps * batch
    dz = room(rows, z.shape[1], z)
    panel = room(rows, padded(1, z), z)
    d_x = room(rows if len(d_xs[0]) else 0, padded(xs[0].shape[1], z), z)
    x_columns = ones_below(xs[0].shape[1], rows, z)
    h_columns = ones_below(h.shape[2], rows, z)
    d_node_0 = room(batch, h.shape[2], z)
    for t in range(end - 1, -1, -1):
        first, turn = t % steps * batch, (end - 1 - t) % 2
        for s in range(batch):
            if t < lengths[s]:
                row = z[t * batch + s]
                old = t
                d_row = dz[first + s]
                _gru_reset_after_row_back_0(
                    row[at[3] : at[4]], row[at[2] : at[3]], row[at[1] : at[2]], row[at[0] : at[1]],
                    h[old, s], d_h[turn, s, : h.shape[2]], d_hs[0][place(d_hs, s, t)], d_node_0[s],
                    d_row[at[3] : at[4]], d_row[at[0] : at[1]], d_row[at[1] : at[2]],
                    d_h[1 - turn, s, : h.shape[2]], d_row[at[2] : at[3]],
                )
        add_product(d_h[1 - turn, ::1, 0:], dz[first::1, at[0] :][:batch], W_0_0T)
        keep_ended(d_h, turn, t, lengths)
        if not first:
            stop = min(t + steps, end)
            rows = (stop - t) * batch
            input_columns(x_columns, xs, t, stop, lengths)
            state_columns(h_columns, h, t, stop, lengths)
            add_gradient(d_W_x_0, x_columns, dz[:rows], at[1], panel)
            add_gradient(d_W_0_0, h_columns, dz[:rows], at[0], panel)
            if len(d_xs[0]):
                zero_rows(d_x[:rows])
                add_product(d_x[::1, 0:], dz[:rows:1, at[1] :], W_x_0T)
                give_inputs(d_xs, d_x, t, stop, lengths)
    return end % 2
