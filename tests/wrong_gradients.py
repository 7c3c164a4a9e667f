"""Wrong gradients: the classical slips of backward code, each a function that really runs.

A wrong ``step_vjp`` is the source of the right one with one piece replaced. A wrong ``backprop``
is the loop over the right steps with one piece changed.
"""

import inspect
from typing import NamedTuple

import cases
import numpy as np

from lstmbook import CELLS, backprop

LSTMS = ("lstm", "peephole", "coupled", "coupled_peephole")
UNCOUPLED, COUPLED = ("lstm", "peephole"), ("coupled", "coupled_peephole")
PEEPHOLES = ("peephole", "coupled_peephole")
GRUS = ("gru", "gru_reset_after")
ALL = tuple(CELLS)

# name, cells, what stands there, what a slip makes of it, in words
REPLACED = [
    (
        "b_mean",
        ALL,
        "b=dz.sum(axis=1)",
        "b=dz.mean(axis=1)",
        "the bias gets a mean over the batch, not the sum",
    ),
    ("b_first", ALL, "b=dz.sum(axis=1)", "b=dz[:, 0]", "the bias gets the first sequence alone"),
    (
        "d_x_of_one_gate",
        LSTMS + GRUS,
        "d_x = (dz @",
        "d_x = (dz[-1:] @",
        "x gets the gradient of the last gate alone",
    ),
    (
        "W_h_sees_new_h",
        ("rnn",),
        "h_old.T @ dz",
        "n.T @ dz",
        "W_h gets the new h where the old one belongs",
    ),
    (
        "W_h_sees_new_h",
        LSTMS,
        "h_old.T @ dz",
        "(o * tanh(c)).T @ dz",
        "W_h gets the new h where the old one belongs",
    ),
    ("no_square", ("rnn",), "(1 - n**2)", "(1 - n)", "the square of tanh' is missing"),
    ("tanh_forgotten", ("rnn",), "(1 - n**2)", "1", "tanh' is missing"),
    ("o_not_squashed", LSTMS, "tanh(c) * o * (1 - o)", "tanh(c)", "the sigmoid' of o is missing"),
    ("tanh_c_forgotten", LSTMS, "o * (1 - tanh(c) ** 2)", "o", "the tanh' of c is missing"),
    ("c_for_tanh_c", LSTMS, "(1 - tanh(c) ** 2)", "(1 - c**2)", "the tanh' of c takes c for tanh"),
    ("o_sees_c", LSTMS, "dh * tanh(c) * o", "dh * c * o", "o's gradient takes c for tanh(c)"),
    ("c_not_carried", LSTMS, "dc = dc + dh", "dc = dh", "the gradient of c from later is lost"),
    (
        "h_not_carried",
        LSTMS,
        "dc = dc + dh * o * (1 - tanh(c) ** 2)",
        "dc = dc",
        "c gets none of h",
    ),
    ("f_left_out", LSTMS, "dc_old = dc * f", "dc_old = dc", "c's gradient goes back without f"),
    ("f_sees_new_c", UNCOUPLED, "dc * c_old * f", "dc * c * f", "f's gradient takes the new c"),
    ("i_not_squashed", UNCOUPLED, "g * i * (1 - i)", "g", "the sigmoid' of i is missing"),
    ("g_not_squashed", UNCOUPLED, "dc * i * (1 - g**2)", "dc * i", "the tanh' of g is missing"),
    (
        "blocks_swapped",
        UNCOUPLED,
        "np.stack([dz_i, dz_f, dz_g, dz_o])",
        "np.stack([dz_i, dz_g, dz_f, dz_o])",
        "the blocks of f and g are swapped, as in TensorFlow's gradient of BlockLSTMV2",
    ),
    ("g_left_out", COUPLED, "(c_old - g) * f", "c_old * f", "f's gradient forgets the input gate"),
    ("coupled_sign", COUPLED, "(c_old - g)", "(c_old + g)", "the sign of 1 - f is lost"),
    ("o_hole_forgotten", PEEPHOLES, " + dz_o * p_o", "", "c gets nothing through o's peephole"),
    ("f_hole_forgotten", PEEPHOLES, " + dz_f * p_f", "", "c gets nothing through f's peephole"),
    ("o_hole_old_c", PEEPHOLES, "dz_o * c]", "dz_o * c_old]", "p_o's gradient takes the old c"),
    ("z_sign", GRUS, "(h_old - n)", "(n - h_old)", "the sign of the blend"),
    ("z_not_squashed", GRUS, "(h_old - n) * z * (1 - z)", "(h_old - n)", "z without its sigmoid'"),
    ("n_not_blended", GRUS, "dh * (1 - z) * (1 - n**2)", "dh * (1 - n**2)", "n without 1 - z"),
    ("h_kept_forgotten", GRUS, "dh_old = dh * z + ", "dh_old = ", "h gets nothing by the blend"),
    ("r_not_squashed", GRUS, " * r * (1 - r)", "", "the sigmoid' of r is missing"),
    ("reset_forgotten", ("gru",), "(r * h_old).T @ dz_n", "h_old.T @ dz_n", "W_hn forgets r"),
    ("r_path_forgotten", ("gru",), " + d_rh * r", "", "h gets nothing through the candidate"),
    ("h_not_reset", ("gru",), "d_rh * r + ", "d_rh + ", "h gets the candidate's without r"),
    ("r_h_for_h", ("gru",), "d_rh * h_old", "d_rh * (r * h_old)", "r's gradient takes r * h for h"),
    (
        "reset_forgotten",
        ("gru_reset_after",),
        "da = dz_n * r",
        "da = dz_n",
        "W_hn and b_hn forget r",
    ),
    (
        "b_hn_forgotten",
        ("gru_reset_after",),
        "h_old @ W_hn + params.b_hn",
        "h_old @ W_hn",
        "r's gradient forgets b_hn",
    ),
    (
        "b_hn_outside",
        ("gru_reset_after",),
        "b_hn=da.sum",
        "b_hn=dz_n.sum",
        "b_hn's gradient forgets r",
    ),
]


class Wrong(NamedTuple):
    name: str
    cell: str
    says: str
    step_vjp: object


def _wrong(name, cell, old, new, says):
    module = CELLS[cell]
    source = inspect.getsource(module.step_vjp)
    start = source.rindex('"""')  # the docstring is left alone
    assert source.count(old, start) == 1, f"{name}: {old!r} is not once in {cell}.step_vjp"
    scope = dict(vars(module))
    exec(source[:start] + source[start:].replace(old, new), scope)
    return Wrong(name, cell, says, scope["step_vjp"])


WRONG = [
    _wrong(name, cell, old, new, says) for name, cells, old, new, says in REPLACED for cell in cells
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
