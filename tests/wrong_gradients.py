"""Wrong gradients: the classical slips of backward code, each a function that really runs.

A wrong ``step_vjp`` is the way back of a cell, stated below by the names of what it computes, with
one formula replaced. A wrong ``backprop`` is the loop over the right steps with one piece changed.
"""

from functools import partial
from inspect import signature
from typing import NamedTuple

import cases
import numpy as np

from lstmbook import CELLS, backprop

LSTMS = ("lstm", "peephole", "coupled", "coupled_peephole")
UNCOUPLED, COUPLED = ("lstm", "peephole"), ("coupled", "coupled_peephole")
PEEPHOLES = ("peephole", "coupled_peephole")
GRUS = ("gru", "gru_reset_after")
ALL = tuple(CELLS)
tanh = np.tanh

# The right way back. A formula takes what it names: gates, parts of the old state and of the
# gradient at the new one, weights, and what other formulas give. ``q`` is what h_old W_h gets.

ANY = {
    "q": lambda dz: dz,
    "W_x": lambda x, dz: x.T @ dz,
    "W_h": lambda h_old, q: h_old.T @ q,
    "b": lambda dz: dz.sum(axis=1),
    "d_x": lambda dz, weights: (dz @ weights.W_x.swapaxes(1, 2)).sum(axis=0),
    "h_by_gates": lambda q, weights: (q @ weights.W_h.swapaxes(1, 2)).sum(axis=0),
    "dh_old": lambda h_by_gates: h_by_gates,
}
RNN = ANY | {
    "dz_n": lambda dh, n: dh * (1 - n**2),
    "dz": lambda dz_n: np.stack([dz_n]),
}
LSTM = ANY | {
    "c": lambda i, f, g, c_old: f * c_old + i * g,
    "dz_o": lambda dh, o, c: dh * tanh(c) * o * (1 - o),
    "c_by_h": lambda dh, o, c: dh * o * (1 - tanh(c) ** 2),
    "c_by_o": lambda: 0,
    "dc": lambda dc_new, c_by_h, c_by_o: dc_new + c_by_h + c_by_o,
    "dz_i": lambda dc, g, i: dc * g * i * (1 - i),
    "dz_f": lambda dc, c_old, f: dc * c_old * f * (1 - f),
    "dz_g": lambda dc, i, g: dc * i * (1 - g**2),
    "dz": lambda dz_i, dz_f, dz_g, dz_o: np.stack([dz_i, dz_f, dz_g, dz_o]),
    "c_by_i": lambda: 0,
    "c_by_f": lambda: 0,
    "dc_old": lambda dc, f, c_by_i, c_by_f: dc * f + c_by_i + c_by_f,
}
HOLES = {
    "c_by_o": lambda dz_o, p_o: dz_o * p_o,
    "c_by_f": lambda dz_f, p_f: dz_f * p_f,
    "d_p_f": lambda dz_f, c_old: dz_f * c_old,
    "d_p_o": lambda dz_o, c: dz_o * c,
}
COUPLED_LSTM = LSTM | {
    "i": lambda f: 1 - f,
    "dz_f": lambda dc, c_old, g, f: dc * (c_old - g) * f * (1 - f),
    "dz": lambda dz_f, dz_g, dz_o: np.stack([dz_f, dz_g, dz_o]),
}
GRU = ANY | {
    "dz_z": lambda dh, h_old, n, z: dh * (h_old - n) * z * (1 - z),
    "dz_n": lambda dh, z, n: dh * (1 - z) * (1 - n**2),
    "dz": lambda dz_r, dz_z, dz_n: np.stack([dz_r, dz_z, dz_n]),
    "h_kept": lambda dh, z: dh * z,
    "dh_old": lambda h_kept, h_by_gates: h_kept + h_by_gates,
}
BACK = {
    "rnn": RNN,
    "lstm": LSTM,
    "peephole": {
        **LSTM,
        **HOLES,
        "c_by_i": lambda dz_i, p_i: dz_i * p_i,
        "d_p_i": lambda dz_i, c_old: dz_i * c_old,
        "p": lambda d_p_i, d_p_f, d_p_o: np.stack([d_p_i, d_p_f, d_p_o]).sum(axis=1),
    },
    "coupled": COUPLED_LSTM,
    "coupled_peephole": {
        **COUPLED_LSTM,
        **HOLES,
        "p": lambda d_p_f, d_p_o: np.stack([d_p_f, d_p_o]).sum(axis=1),
    },
    "gru": {
        **GRU,
        "d_rh": lambda dz_n, weights: dz_n @ weights.W_h[2].T,  # at r * h_old
        "dz_r": lambda d_rh, h_old, r: d_rh * h_old * r * (1 - r),
        "h_by_n": lambda d_rh, r: d_rh * r,
        "h_by_r": lambda dz_r, weights: dz_r @ weights.W_h[0].T,
        "h_by_z": lambda dz_z, weights: dz_z @ weights.W_h[1].T,
        "h_by_gates": lambda h_by_n, h_by_r, h_by_z: h_by_n + h_by_r + h_by_z,
        "W_hn": lambda h_old, r, dz_n: (r * h_old).T @ dz_n,
        "W_h": lambda h_old, dz_r, dz_z, W_hn: np.stack([h_old.T @ dz_r, h_old.T @ dz_z, W_hn]),
    },
    "gru_reset_after": {
        **GRU,
        "a": lambda h_old, weights: h_old @ weights.W_h[2] + weights.b_hn,  # what r scales
        "dz_r": lambda dz_n, a, r: dz_n * a * r * (1 - r),
        "da": lambda dz_n, r: dz_n * r,
        "q": lambda dz_r, dz_z, da: np.stack([dz_r, dz_z, da]),
        "b_hn": lambda da: da.sum(axis=0),
    },
}


def step_back(name, slip, weights, x, state, d_state):
    """`step_vjp` of a cell, with the formulas of a slip in the places of the right ones."""
    cell = CELLS[name]
    known = dict(zip(cell.GATES, cell.gates(weights, x, state), strict=True))
    known |= {"weights": weights, "x": x}
    known |= {f"{k}_old": part for k, part in state._asdict().items()}
    known |= {"dh": d_state.h, "dc_new": getattr(d_state, "c", None)}
    holes = zip(getattr(cell, "PEEPHOLES", ""), getattr(weights, "p", ()), strict=True)
    known |= {f"p_{k}": row for k, row in holes}
    formulas = BACK[name] | slip

    def value(name):
        if name not in known:
            formula = formulas[name]
            known[name] = formula(*map(value, signature(formula).parameters))
        return known[name]

    d_weights = cell.Params(*map(value, cell.Params._fields))
    d_old = cell.State(*(value(f"d{k}_old") for k in cell.State._fields))
    return d_weights, value("d_x"), d_old


class Wrong(NamedTuple):
    name: str
    cell: str
    says: str
    step_vjp: object


def slip(name, cells, says, **formulas):
    """One slip in some cells: what stands in the places of right formulas."""
    for cell in cells:
        assert formulas.keys() <= BACK[cell].keys(), f"{name}: {cell} has no such formula"
        yield Wrong(name, cell, says, partial(step_back, cell, formulas))


WRONG = [
    *slip("b_mean", ALL, "the bias gets a mean over the batch, not the sum",
          b=lambda dz: dz.mean(axis=1)),
    *slip("b_first", ALL, "the bias gets the first sequence alone", b=lambda dz: dz[:, 0]),
    *slip("d_x_of_one_gate", LSTMS + GRUS, "x gets the gradient of the last gate alone",
          d_x=lambda dz, weights: (dz[-1:] @ weights.W_x.swapaxes(1, 2)).sum(axis=0)),
    *slip("W_h_sees_new_h", ("rnn",), "W_h gets the new h where the old one belongs",
          W_h=lambda n, dz: n.T @ dz),
    *slip("W_h_sees_new_h", LSTMS, "W_h gets the new h where the old one belongs",
          W_h=lambda o, c, dz: (o * tanh(c)).T @ dz),
    *slip("W_h_not_transposed", ("rnn",), "h's gradient takes W_h for its transpose",
          h_by_gates=lambda dz, weights: (dz @ weights.W_h).sum(axis=0)),
    *slip("no_square", ("rnn",), "the square of tanh' is missing", dz_n=lambda dh, n: dh * (1 - n)),
    *slip("tanh_forgotten", ("rnn",), "tanh' is missing", dz_n=lambda dh: dh),
    *slip("sigmoid_for_tanh", ("rnn",), "sigmoid' stands for tanh'",
          dz_n=lambda dh, n: dh * (n * (1 - n))),
    *slip("o_not_squashed", LSTMS, "the sigmoid' of o is missing", dz_o=lambda dh, c: dh * tanh(c)),
    *slip("o_half_squashed", ("lstm",), "o without 1 - o", dz_o=lambda dh, c, o: dh * tanh(c) * o),
    *slip("tanh_for_o", ("lstm",), "tanh' stands for the sigmoid' of o",
          dz_o=lambda dh, c, o: dh * tanh(c) * (1 - o**2)),
    *slip("tanh_c_forgotten", LSTMS, "the tanh' of c is missing", c_by_h=lambda dh, o: dh * o),
    *slip("c_for_tanh_c", LSTMS, "the tanh' of c takes c for tanh",
          c_by_h=lambda dh, o, c: dh * o * (1 - c**2)),
    *slip("o_for_tanh_c", ("lstm",), "the tanh' of c takes o for tanh",
          c_by_h=lambda dh, o: dh * o * (1 - o**2)),
    *slip("o_sees_c", LSTMS, "o's gradient takes c for tanh(c)",
          dz_o=lambda dh, c, o: dh * c * o * (1 - o)),
    *slip("c_not_carried", LSTMS, "the gradient of c from later is lost",
          dc=lambda c_by_h, c_by_o: c_by_h + c_by_o),
    *slip("h_not_carried", LSTMS, "c gets none of h", c_by_h=lambda: 0),
    *slip("h_sign", ("lstm",), "the sign of what c gets of h",
          c_by_h=lambda dh, o, c: -dh * o * (1 - tanh(c) ** 2)),
    *slip("f_left_out", LSTMS, "c's gradient goes back without f",
          dc_old=lambda dc, c_by_i, c_by_f: dc + c_by_i + c_by_f),
    *slip("h_not_passed_on", ("lstm",), "the old c gets none of h",
          dc_old=lambda dc_new, f: dc_new * f),
    *slip("f_sees_new_c", UNCOUPLED, "f's gradient takes the new c",
          dz_f=lambda dc, c, f: dc * c * f * (1 - f)),
    *slip("i_not_squashed", UNCOUPLED, "the sigmoid' of i is missing", dz_i=lambda dc, g: dc * g),
    *slip("g_not_squashed", UNCOUPLED, "the tanh' of g is missing", dz_g=lambda dc, i: dc * i),
    *slip("blocks_swapped", UNCOUPLED,
          "the blocks of f and g are swapped, as in TensorFlow's gradient of BlockLSTMV2",
          dz=lambda dz_i, dz_f, dz_g, dz_o: np.stack([dz_i, dz_g, dz_f, dz_o])),
    *slip("g_left_out", COUPLED, "f's gradient forgets the input gate",
          dz_f=lambda dc, c_old, f: dc * c_old * f * (1 - f)),
    *slip("coupled_sign", COUPLED, "the sign of 1 - f is lost",
          dz_f=lambda dc, c_old, g, f: dc * (c_old + g) * f * (1 - f)),
    *slip("input_kept", ("coupled",), "f's gradient is that of the input gate",
          dz_f=lambda dc, c_old, g, f: dc * (g - c_old) * f * (1 - f)),
    *slip("g_sees_f", ("coupled",), "g's gradient takes f for 1 - f",
          dz_g=lambda dc, f, g: dc * f * (1 - g**2)),
    *slip("o_hole_forgotten", PEEPHOLES, "c gets nothing through o's peephole", c_by_o=lambda: 0),
    *slip("f_hole_forgotten", PEEPHOLES, "c gets nothing through f's peephole", c_by_f=lambda: 0),
    *slip("old_holes_forgotten", ("peephole",), "the old c gets nothing through peepholes",
          c_by_i=lambda: 0, c_by_f=lambda: 0),
    *slip("o_hole_sign", ("peephole",), "the sign of what c gets through o's peephole",
          c_by_o=lambda dz_o, p_o: -dz_o * p_o),
    *slip("o_hole_to_old_c", ("peephole",), "the old c too gets o's gradient through the peephole",
          dc_old=lambda dc, f, c_by_o, c_by_i, c_by_f: dc * f + c_by_o + c_by_i + c_by_f),
    *slip("o_hole_old_c", PEEPHOLES, "p_o's gradient takes the old c",
          d_p_o=lambda dz_o, c_old: dz_o * c_old),
    *slip("f_hole_new_c", ("peephole",), "p_f's gradient takes the new c",
          d_p_f=lambda dz_f, c: dz_f * c),
    *slip("holes_swapped", ("peephole",), "the gradients of p_i and p_f are swapped",
          p=lambda d_p_i, d_p_f, d_p_o: np.stack([d_p_f, d_p_i, d_p_o]).sum(axis=1)),
    *slip("z_sign", GRUS, "the sign of the blend",
          dz_z=lambda dh, h_old, n, z: dh * (n - h_old) * z * (1 - z)),
    *slip("z_not_squashed", GRUS, "z without its sigmoid'",
          dz_z=lambda dh, h_old, n: dh * (h_old - n)),
    *slip("n_not_blended", GRUS, "n without 1 - z", dz_n=lambda dh, n: dh * (1 - n**2)),
    *slip("h_kept_forgotten", GRUS, "h gets nothing by the blend", h_kept=lambda: 0),
    *slip("r_not_squashed", ("gru",), "the sigmoid' of r is missing",
          dz_r=lambda d_rh, h_old: d_rh * h_old),
    *slip("r_not_squashed", ("gru_reset_after",), "the sigmoid' of r is missing",
          dz_r=lambda dz_n, a: dz_n * a),
    *slip("reset_forgotten", ("gru",), "W_hn forgets r", W_hn=lambda h_old, dz_n: h_old.T @ dz_n),
    *slip("r_path_forgotten", ("gru",), "h gets nothing through the candidate", h_by_n=lambda: 0),
    *slip("h_not_reset", ("gru",), "h gets the candidate's without r", h_by_n=lambda d_rh: d_rh),
    *slip("r_gate_path_forgotten", ("gru",), "h gets nothing through r", h_by_r=lambda: 0),
    *slip("r_h_for_h", ("gru",), "r's gradient takes r * h for h",
          dz_r=lambda d_rh, r, h_old: d_rh * (r * h_old) * r * (1 - r)),
    *slip("r_without_h", ("gru",), "r's gradient forgets h",
          dz_r=lambda d_rh, r: d_rh * r * (1 - r)),
    *slip("keras_order", ("gru",), "the blocks of r and z are swapped, as Keras has them",
          dz=lambda dz_r, dz_z, dz_n: np.stack([dz_z, dz_r, dz_n])),
    *slip("reset_forgotten", ("gru_reset_after",), "W_hn and b_hn forget r", da=lambda dz_n: dz_n),
    *slip("reset_forgotten_in_W_hn", ("gru_reset_after",), "W_hn forgets r",
          q=lambda dz_r, dz_z, dz_n: np.stack([dz_r, dz_z, dz_n])),
    *slip("r_before_the_product", ("gru_reset_after",), "r's gradient takes h for what r scales",
          dz_r=lambda dz_n, h_old, r: dz_n * h_old * r * (1 - r)),
    *slip("b_hn_forgotten", ("gru_reset_after",), "r's gradient forgets b_hn",
          a=lambda h_old, weights: h_old @ weights.W_h[2]),
    *slip("b_hn_outside", ("gru_reset_after",), "b_hn's gradient forgets r",
          b_hn=lambda dz_n: dz_n.sum(axis=0)),
]  # fmt: skip

# What no loop over the steps can add up.
OF_WRONG_SHAPE = [
    *slip("b_not_summed", ("rnn",), "the bias gets no sum over the batch", b=lambda dz: dz),
]


# Around the cell: ``backprop(cell, params, xs, d_hs, d_state, state, lengths)``


def right(cell, params, xs, d_hs, d_state, state, lengths):
    """The package's own, in that order of arguments."""
    return backprop(cell, params, xs, d_hs, d_state, state=state, lengths=lengths)


def by_steps(wrong):
    """The package's loop over a wrong ``step_vjp``."""
    module = cases.by_steps(CELLS[wrong.cell], step_vjp=wrong.step_vjp)

    def function(cell, *arguments):
        return right(module, *arguments)

    return function


def _zeros(state):
    return type(state)(*map(np.zeros_like, state))


def no_final(cell, params, xs, d_hs, d_state, state, lengths):
    """The gradient at the final state is left out."""
    return right(cell, params, xs, d_hs, _zeros(d_state), state, lengths)


def no_outputs(cell, params, xs, d_hs, d_state, state, lengths):
    """The gradient at the outputs is left out."""
    return right(cell, params, xs, np.zeros_like(d_hs), d_state, state, lengths)


def state_stopped(cell, params, xs, d_hs, d_state, state, lengths):
    """The gradient at the initial state comes back as zeros."""
    d_params, d_xs, d_old = right(cell, params, xs, d_hs, d_state, state, lengths)
    return d_params, d_xs, _zeros(d_old)


def lengths_ignored(cell, params, xs, d_hs, d_state, state, lengths):
    """The steps past the lengths count too."""
    return right(cell, params, xs, d_hs, d_state, state, np.full(len(xs), xs.shape[1]))


def batch_mean(cell, params, xs, d_hs, d_state, state, lengths):
    """A mean over the batch, not the sum."""
    d_params, d_xs, d_old = right(cell, params, xs, d_hs, d_state, state, lengths)
    return type(d_params)(*(a / len(xs) for a in d_params)), d_xs, d_old


def time_mean(cell, params, xs, d_hs, d_state, state, lengths):
    """A mean over time, not the sum."""
    d_params, d_xs, d_old = right(cell, params, xs, d_hs, d_state, state, lengths)
    return type(d_params)(*(a / xs.shape[1] for a in d_params)), d_xs, d_old


def from_zeros(cell, params, xs, d_hs, d_state, state, lengths):
    """The forward pass is run from zeros."""
    return right(cell, params, xs, d_hs, d_state, _zeros(state), lengths)


def truncated(cell, params, xs, d_hs, d_state, state, lengths):
    """No gradient goes from one step to the one before it."""
    total, d_xs = None, np.zeros_like(xs)
    state = type(state)(*map(np.copy, state))
    for t in range(xs.shape[1]):
        on = np.minimum(np.maximum(np.asarray(lengths) - t, 0), 1)
        last = _zeros(d_state) if t < xs.shape[1] - 1 else d_state
        d_params, d_x, _ = right(
            cell, params, xs[:, t : t + 1], d_hs[:, t : t + 1], last, state, on
        )
        total = d_params if total is None else type(total)(*map(np.add, total, d_params))
        d_xs[:, t : t + 1] = d_x
        for row in np.flatnonzero(on):
            _, new = CELLS[cell].step(params, xs[row : row + 1, t], _row(state, row))
            for whole, part in zip(state, new, strict=True):
                whole[row] = part[0]
    return total, d_xs, _zeros(d_state)


def _row(state, row):
    return type(state)(*(part[row : row + 1] for part in state))


AROUND = [
    no_final,
    no_outputs,
    state_stopped,
    lengths_ignored,
    batch_mean,
    time_mean,
    from_zeros,
    truncated,
]
