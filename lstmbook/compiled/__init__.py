"""Whole runs of the cells, forward and back, compiled by Numba (the extra ``lstmbook[fast]``).

A run is one call, so NumPy's price per operation is not paid. `fast` uses this where Numba is
installed. The first run of a cell waits for the compiler; later ones and other processes find its
work in a cache.

The loops are in `loops`: one for the RNN, one for the four LSTMs, one for both GRUs. Here is what
they are given: weights in the order of a row of gates, packed for the products, and to each thread
a part of the batch, so that none waits for another.
"""

from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
from numba import config

from ..cells import coupled, coupled_peephole, gru, gru_reset_after, lstm, peephole, rnn
from . import loops
from .loops import pack, padded, width

__all__ = ["run", "threads", "vjp"]

WORTH_A_THREAD = 2**24  # multiplications with the state: a third of a millisecond, or more


def threads():
    """As many as Numba would take: the environment's NUMBA_NUM_THREADS, or one per processor."""
    return config.NUMBA_NUM_THREADS


class Rnn:
    """The weights of a cell as its loops take them, and their gradients as Params."""

    AHEAD = 0  # so many gates come in a row before those of W_h
    rest: tuple[object, ...] = ()  # what the loops take besides

    def __init__(self, cell, params):
        self.hidden = params.b.shape[-1]
        self.W, self.b = [params.W_x, params.W_h], params.b  # in the order of a row

    def forward(self):
        """The weights forward; the bias is as long as a row, which the products write into."""
        W_x, W_h, *W_hn = map(pack, self.W)
        ahead = self.AHEAD * self.hidden
        row = np.zeros(max(width(W_x), ahead + width(W_h)), self.b.dtype)
        row[: self.b.size] = self.b.ravel()
        return W_x, W_h, row, *W_hn, *self.rest

    def back(self):
        """The weights on the way back: transposed, the gates one below the other."""
        sides = (W.swapaxes(1, 2).reshape(1, len(W) * self.hidden, W.shape[1]) for W in self.W)
        return *map(pack, sides), *self.rest

    def no_gradients(self):
        """Zeros to add to, with a row more for the biases."""
        sizes = ((W.shape[1] + 1, padded(len(W) * self.hidden, W.dtype)) for W in self.W)
        return [np.zeros(size, self.b.dtype) for size in sizes]

    def by_gate(self, gradients):
        """``(m, gates * hidden)`` as ``(gates, m, hidden)``, in the order of the Params."""
        for W, d_W in zip(self.W, gradients, strict=False):
            gates = d_W[:, : len(W) * self.hidden]
            yield gates.reshape(len(d_W), len(W), self.hidden).swapaxes(0, 1)

    def d_params(self, gradients):
        """Params as a dict."""
        d_W_x, d_W_h = self.by_gate(gradients)
        return {"W_x": d_W_x[:, :-1], "W_h": d_W_h[:, :-1], "b": d_W_x[:, -1]}


class Lstm(Rnn):
    """With the peepholes of i, f, o, zeros where there is none, and the places of i, f, g, o."""

    def __init__(self, cell, params):
        super().__init__(cell, params)
        self.p = np.zeros((3, self.hidden), params.b.dtype)
        self.seen = ["ifo".index(gate) for gate in getattr(cell, "PEEPHOLES", "")]
        if self.seen:
            self.p[self.seen] = params.p
        places = tuple([max(0, cell.GATES.find(gate)) * self.hidden for gate in "ifgo"])
        self.rest = self.p, places, "i" not in cell.GATES

    def no_gradients(self):
        return [*super().no_gradients(), np.zeros_like(self.p)]

    def d_params(self, gradients):
        p = {"p": gradients[2][self.seen]} if self.seen else {}
        return super().d_params(gradients) | p


class Gru(Rnn):
    """A row is n, r, z, and ``W_hn h + b_hn`` where the reset comes after this product."""

    AHEAD = 1

    def __init__(self, cell, params):
        super().__init__(cell, params)
        self.after, (W_x, W_h, b) = "b_hn" in params._fields, params[:3]
        first, order = 3 if self.after else 2, [2, 0, 1]
        self.W = [W_x[order], W_h[:first], W_h[first:]]
        self.b = np.concatenate([b[order], params.b_hn[None]]) if self.after else b[order]

    def by_gate(self, gradients):
        d_W_x, *d_W_h = super().by_gate(gradients)
        return d_W_x[[1, 2, 0]], np.concatenate(d_W_h)

    def d_params(self, gradients):
        inner = slice(2 * self.hidden, 3 * self.hidden)
        b_hn = {"b_hn": gradients[1][-1, inner]} if self.after else {}
        return super().d_params(gradients) | b_hn


LSTM = Lstm, loops.lstm, loops.lstm_back
GRU = Gru, loops.gru, loops.gru_back
KINDS = {
    rnn: (Rnn, loops.rnn, loops.rnn_back),
    **dict.fromkeys((lstm, peephole, coupled, coupled_peephole), LSTM),
    **dict.fromkeys((gru, gru_reset_after), GRU),
}


def run(cell, params, xs, state, lengths, hs):
    """Write the outputs into ``hs``, which is zero, and return the final state.

    All is time first, checked and of one dtype.
    """
    return _forward(cell, params, _in_rows(xs), state, lengths, hs, keep=False)[0]


def vjp(cell, params, xs, state, lengths, hs):
    """`run`, and the way back from the gradients at what it gives to those at what it takes."""
    xs = _in_rows(xs)
    final, kept = _forward(cell, params, xs, state, lengths, hs, keep=True)

    def back(d_hs, d_state, inputs):
        return _back(cell, params, xs, kept, _in_rows(d_hs), d_state, inputs)

    return final, back


def _forward(cell, params, xs, state, lengths, hs, keep):
    """The final state, and what the loop has used and written for each part of the batch."""
    kind, loop, _ = KINDS[cell]
    weights, dtype = kind(cell, params).forward(), xs.dtype
    x, out, lengths = _rows(xs, lock=True), _rows(hs), lengths.astype(np.int64)
    final = type(state)(*[np.empty(first.shape, dtype) for first in state])

    def part(some):
        (batch, hidden), now = state.h[some].shape, lengths[some]
        steps, many = (len(xs), len(xs) + 1) if keep else (loops.steps_at_once(batch), 2)
        z = np.empty((steps * batch, len(weights[2])), dtype)
        states = tuple([np.empty((many, batch, hidden), dtype) for _ in state])
        for every, first in zip(states, state, strict=True):
            every[0] = first[some]
        rows = _rows_from(x, some.start), now, _rows_from(out, some.start)
        end = loop(weights, *rows, z, states)
        for every, last in zip(states, final, strict=True):
            last[some] = every[end % many]
        return some, now, z, states

    work, batch = params.W_h.size * xs.shape[0], xs.shape[1]
    many = max(1, min(threads(), work * batch // WORTH_A_THREAD, (batch + 1) // 2))
    ends = [batch * n // many for n in range(many + 1)]
    return final, _in_threads(part, [slice(*pair) for pair in pairwise(ends)])


def _back(cell, params, xs, kept, d_hs, d_state, inputs):
    """The gradients at params, xs (None without ``inputs``) and the first state."""
    kind, _, loop = KINDS[cell]
    weighted = kind(cell, params)
    d_xs = np.zeros_like(xs if inputs else xs[:0])
    weights, rows = weighted.back(), [_rows(xs, lock=True), _rows(d_hs, lock=True), _rows(d_xs)]
    batch, hidden = d_state.h.shape
    d = [part.copy() for part in d_state]
    d[0] = np.zeros((batch, padded(hidden, xs.dtype)), xs.dtype)  # a product writes into it
    d[0][:, :hidden] = d_state.h

    def part(kept):
        some, lengths, z, states = kept
        x, d_out, d_x = (_rows_from(part, some.start) for part in rows)
        gradients = tuple(weighted.no_gradients())
        d_some = tuple(part[some] for part in d)
        loop(weights, x, lengths, d_out, d_x, z, states, d_some, gradients)
        return gradients

    d_params = weighted.d_params([sum(each) for each in zip(*_in_threads(part, kept), strict=True)])
    d_params = {name: np.ascontiguousarray(array) for name, array in d_params.items()}
    d_state = type(d_state)(np.ascontiguousarray(d[0][:, :hidden]), *d[1:])
    return type(params)(**d_params), d_xs if inputs else None, d_state


def _in_threads(do, parts):
    """What it does for each part; the first here, where a pool of none would take time."""
    first, *others = parts
    if not others:
        return [do(first)]
    with ThreadPoolExecutor(len(others)) as pool:
        others = [pool.submit(do, part) for part in others]
        return [do(first), *(other.result() for other in others)]


def _in_rows(array):
    """``(time, batch, features)``, copied if neither batch nor time comes first in memory."""
    return array if array.swapaxes(0, 1).flags.c_contiguous else np.ascontiguousarray(array)


def _rows(array, lock=False):
    """The rows of what is `_in_rows`, read-only or not: to the compiler these are two types."""
    (steps, batch, features), time_first = array.shape, array.flags.c_contiguous
    array = (array if time_first else array.swapaxes(0, 1)).reshape(-1, features).view()
    if lock:
        array.flags.writeable = False
    return array, 0, *((1, batch) if time_first else (steps, 1))


def _rows_from(rows, s):
    """The rows without the sequences before this one."""
    array, first, per_sequence, per_step = rows
    return array, first + s * per_sequence, per_sequence, per_step
