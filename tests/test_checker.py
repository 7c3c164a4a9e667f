"""`check` accepts right cells however they are written, and says of wrong ones what is wrong."""

import math
import re
import time
from collections import namedtuple
from types import SimpleNamespace

import numpy as np
import pytest
from collected import each
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from lstmbook.cells import CELLS, coupled, gru, gru_reset_after, lstm, peephole, rnn
from lstmbook.diagnose.check import Verdict, check
from lstmbook.wrong_cells.slips import SLIPS

pytestmark = pytest.mark.slow

tanh = np.tanh


def sigmoid(a):
    return 1 / (1 + np.exp(-a))  # overflows to the right answer


def sums(params, x, state):
    """``x W_x + h W_h + b`` for every gate."""
    return x @ params.W_x + state[0] @ params.W_h + params.b[:, None]


# Right cells


def concatenated(params, x, state):
    """One kernel for [x, h], as TensorFlow 1 has it."""
    h, c = state
    kernel = np.concatenate([np.hstack(params.W_x), np.hstack(params.W_h)])
    a = np.concatenate([x, h], axis=1) @ kernel + params.b.ravel()
    i, f, g, o = np.split(a, 4, axis=1)
    c = c * sigmoid(f) + sigmoid(i) * tanh(g)
    h = tanh(c) * sigmoid(o)
    return h, (h, c)


def split(params, x, state):
    """A kernel for each gate."""
    (W_xi, W_xf, W_xg, W_xo), (W_hi, W_hf, W_hg, W_ho), (b_i, b_f, b_g, b_o), (p_i, p_f, p_o) = (
        params
    )
    i = sigmoid(x @ W_xi + state.h @ W_hi + b_i + p_i * state.c)
    f = sigmoid(x @ W_xf + state.h @ W_hf + b_f + p_f * state.c)
    c = f * state.c + i * tanh(x @ W_xg + state.h @ W_hg + b_g)
    o = sigmoid(x @ W_xo + state.h @ W_ho + b_o + p_o * c)
    return [o * tanh(c), [o * tanh(c), c]]


def loops(params, x, state):
    """Python's own floats."""
    W_x, W_h, b = (a.tolist() for a in params)
    hidden = len(b[0])
    hs, cs = [], []
    for x_row, h_row, c_row in zip(x.tolist(), state.h.tolist(), state.c.tolist(), strict=True):
        h_new, c_new = [], []
        for u in range(hidden):
            a = [
                b[k][u]
                + sum(x_row[j] * W_x[k][j][u] for j in range(len(x_row)))
                + sum(h_row[j] * W_h[k][j][u] for j in range(hidden))
                for k in range(4)
            ]
            i, f, o = (0.5 + 0.5 * math.tanh(a[k] / 2) for k in (0, 1, 3))
            c_new.append(f * c_row[u] + i * math.tanh(a[2]))
            h_new.append(o * math.tanh(c_new[-1]))
        hs.append(h_new)
        cs.append(c_new)
    return hs, (hs, cs)


def tied(params, x, state):
    """A coupled cell is an LSTM whose input gate has the negated weights of the forget gate."""
    stacked = (np.concatenate([-a[:1], a]) for a in params)
    return lstm.step(lstm.Params(*stacked), x, state)


def other_blend(params, x, state):
    """PyTorch's way to write it."""
    (h,) = state
    a_x = np.einsum("bi,giu->gbu", x, params.W_x) + params.b[:, None, :]
    a_h = np.einsum("bi,giu->gbu", h, params.W_h)
    r, z = sigmoid(a_x[:2] + a_h[:2])
    n = tanh(a_x[2] + r * (a_h[2] + params.b_hn))
    h = n + z * (h - n)
    return h, gru_reset_after.State(h)


def by_unit(params, x, state):
    """One unit at a time."""
    r = sigmoid(x @ params.W_x[0] + state.h @ params.W_h[0] + params.b[0])
    h = np.empty_like(state.h)
    for u in range(h.shape[1]):
        z = sigmoid(x @ params.W_x[1, :, u] + state.h @ params.W_h[1, :, u] + params.b[1, u])
        n = tanh(x @ params.W_x[2, :, u] + (r * state.h) @ params.W_h[2, :, u] + params.b[2, u])
        h[:, u] = z * state.h[:, u] + (1 - z) * n
    return h, (h,)


class Tensor:
    """What a framework returns: no array, but NumPy can read it."""

    def __init__(self, array):
        self.array = array

    def __array__(self, dtype=None, copy=None):
        return np.array(self.array, dtype=dtype)


def with_tensors(params, x, state):
    h, new = lstm.step(params, x, state)
    return Tensor(h), (Tensor(h), Tensor(new.c))


LSTMStateTuple = namedtuple("LSTMStateTuple", "c h")


def named_state(params, x, state):
    h, new = lstm.step(params, x, state)
    return h, LSTMStateTuple(c=new.c, h=h)


RIGHT = [
    *((module.step, name) for name, module in CELLS.items()),
    (concatenated, "lstm"),
    (split, "peephole"),
    (loops, "lstm"),
    (tied, "coupled"),
    (other_blend, "gru_reset_after"),
    (by_unit, "gru"),
    (with_tensors, "lstm"),
    (named_state, "lstm"),
    (lambda params, x, state: (h := tanh(sums(params, x, state)[0]), rnn.State(h)), "rnn"),
]


@each(("function", "cell"), RIGHT)
@each("seed", [0, 1, 2])
def test_right(function, cell, seed):
    verdict = check(function, cell, seed=seed)
    assert verdict, verdict.message
    assert verdict.slip is None
    names = "h and c agree" if "c" in CELLS[cell].State._fields else "h agrees"
    first = f"Right: {names} with lstmbook's {cell} on 5 steps, max |Δ| < 1e-12."
    assert verdict.message.split("\n")[0] == first


@pytest.mark.parametrize("name", CELLS)
def test_a_module_will_do(name):
    assert check(CELLS[name].step, CELLS[name])


@pytest.mark.parametrize("name", CELLS)
def test_right_gates(name):
    verdict = check(CELLS[name].gates, name, part="gates")
    assert verdict.ok
    letters = CELLS[name].GATES
    assert verdict.message.startswith(f"Right: {letters[0]}")
    assert verdict.message.endswith(f"with lstmbook's {name} on 5 steps, max |Δ| < 1e-12.")


def test_right_gates_in_one_array():
    stacked = lambda params, x, state: np.stack(lstm.gates(params, x, state))  # noqa: E731
    assert check(stacked, "lstm", part="gates")
    alone = lambda params, x, state: rnn.gates(params, x, state)[0]  # noqa: E731
    assert check(alone, "rnn", part="gates")


def test_a_tuple_that_the_function_cannot_read_is_noted():
    def step(params, x, state):
        h, new = lstm.step(params, x, state)
        return h, tuple(new)

    verdict = check(step, "lstm")
    assert verdict.ok
    assert "cannot read the plain tuple" in verdict.message
    assert "cannot read" not in check(concatenated, "lstm").message


def test_verdict_prints_as_text():
    verdict = check(lstm.step, "lstm")
    assert str(verdict) == repr(verdict) == verdict.message
    long = Verdict(False, "Not yet: " + "word " * 30 + "\nNext line.")
    assert str(long).replace("\n", " ").split() == long.message.split()
    assert str(long).endswith("\nNext line.")
    assert max(map(len, str(long).splitlines())) <= 76
    assert bool(verdict) is verdict.ok is True
    assert Verdict(False, "Not yet").ok is False
    assert not Verdict(False, "Not yet")


# Slips


@pytest.mark.parametrize("cell", CELLS)
def test_every_slip_is_recognised(cell):
    for slip in (slip for slip in SLIPS if slip.cell == cell):
        verdict = check(slip.step, cell, seed=3)
        assert not verdict.ok, slip.name
        assert verdict.slip == slip.name
        assert f"): {slip.says}" in verdict.message
        assert verdict.message.endswith(f"See {slip.seen_in}.") == bool(slip.seen_in)


@pytest.mark.parametrize("cell", CELLS)
def test_every_slip_in_the_gates_is_recognised(cell):
    for slip in (slip for slip in SLIPS if slip.cell == cell):
        if slip.where not in ("c", "h", "state"):
            verdict = check(slip.gates, cell, part="gates")
            assert not verdict.ok
            assert verdict.slip == slip.name


def test_gates_are_right_although_the_step_is_not():
    for name in ("no_i", "no_tanh", "state_old", "returns_c"):
        (slip,) = (s for s in SLIPS if (s.cell, s.name) == ("lstm", name))
        assert check(slip.gates, "lstm", part="gates")


def test_two_slips():
    def step(params, x, state):
        i, f, g, o = sums(params, x, state)
        f = f - params.b[1]
        c = sigmoid(f) * state.c + sigmoid(i) * tanh(g)
        h = sigmoid(o) * c
        return h, lstm.State(h, c)

    verdict = check(step, "lstm")
    assert verdict.slip == "no_b_f + no_tanh"
    assert "Likely two slips:\n1. (forget gate f) Your forget gate f has no bias" in verdict.message
    assert "2. (h) You leave out the tanh" in verdict.message


# Wrong cells that are in no catalogue: the message names the place


def an_lstm(i=None, f=None, g=None, o=None, c=None, h=None):
    """An LSTM step with one equation replaced: gates see (a, params, x, state)."""

    def step(params, x, state):
        a = sums(params, x, state)
        gates = [
            change(a[k], params, x, state) if change else (tanh if k == 2 else sigmoid)(a[k])
            for k, change in enumerate((i, f, g, o))
        ]
        I, F, G, O = gates  # noqa: E741
        new_c = c(I, F, G, O, state) if c else F * state.c + I * G
        new_h = h(O, new_c, I, F, G, state) if h else O * tanh(new_c)
        return new_h, lstm.State(new_h, new_c)

    return step


def a_gru(r=None, z=None, n=None, h=None):
    def step(params, x, state):
        (x_r, x_z, x_n), (W_r, W_z, W_n) = x @ params.W_x + params.b[:, None], params.W_h
        old = state.h
        R = (r or sigmoid)(x_r + old @ W_r)
        Z = (z or sigmoid)(x_z + old @ W_z)
        N = n(R, x_n, old, W_n) if n else tanh(x_n + (R * old) @ W_n)
        new = h(R, Z, N, old) if h else Z * old + (1 - Z) * N
        return new, gru.State(new)

    return step


def a_peephole(i=None, f=None, o=None):
    """Peepholes replaced: ``i(p, c)``, ``f(p, c)``, ``o(p, new, old)``."""

    def step(params, x, state):
        a_i, a_f, a_g, a_o = sums(params, x, state)
        p_i, p_f, p_o = params.p
        I = sigmoid(a_i + (i(p_i, state.c) if i else p_i * state.c))  # noqa: E741
        F = sigmoid(a_f + (f(p_f, state.c) if f else p_f * state.c))
        c = F * state.c + I * tanh(a_g)
        O = sigmoid(a_o + (o(p_o, c, state.c) if o else p_o * c))  # noqa: E741
        h = O * tanh(c)
        return h, lstm.State(h, c)

    return step


def a_coupled(i=lambda a: 1 - sigmoid(a), g=lambda a, c: tanh(a)):
    def step(params, x, state):
        a_f, a_g, o = sums(params, x, state)
        c = sigmoid(a_f) * state.c + i(a_f) * g(a_g, state.c)
        h = sigmoid(o) * tanh(c)
        return h, coupled.State(h, c)

    return step


def an_rnn(n):
    def step(params, x, state):
        h = n(sums(params, x, state)[0], params, x, state)
        return h, rnn.State(h)

    return step


def softsign(a):
    return 0.5 * (1 + a / (1 + np.abs(a)))


def wrong_twice(params, x, state):
    h, new = an_lstm(o=lambda a, *_: softsign(a))(params, x, state)
    return h, new._replace(h=h / 2)


def peepholes_mixed(params, x, state):
    p_i, p_f, p_o = params.p
    return peephole.step(params._replace(p=np.stack([p_i, p_f + p_i * p_o, p_o])), x, state)


WRONG = {
    "f softsign": (
        an_lstm(f=lambda a, *_: softsign(a)),
        "lstm",
        r"only the forget gate f is wrong.*\nf: right where .* are all 0.*Likely its nonlin",
    ),
    "i squared": (
        an_lstm(i=lambda a, *_: sigmoid(a) ** 2),
        "lstm",
        r"only the input gate i is wrong.*\ni: where .* should be 0.5 and yours is 0.25\.",
    ),
    "g sees h backwards": (
        an_lstm(g=lambda a, p, x, s: tanh(x @ p.W_x[2] + s.h[:, ::-1] @ p.W_h[2] + p.b[2])),
        "lstm",
        r"only the candidate g is wrong\.\ng: right where h @ W_hg is 0\. Look there",
    ),
    "o with half its bias": (
        an_lstm(o=lambda a, p, x, s: sigmoid(a - p.b[3] / 2)),
        "lstm",
        r"h differs .*\nAll fits if only the output gate o is wrong\.\no: right where b_o is 0",
    ),
    "f with x a bit larger": (
        an_lstm(f=lambda a, p, x, s: sigmoid(a + 0.01 * x @ p.W_x[1])),
        "lstm",
        r"only the forget gate f is wrong\.\nf: right where x @ W_xf is 0",
    ),
    "half a forget bias more": (
        an_lstm(f=lambda a, *_: sigmoid(a + 0.5)),
        "lstm",
        r"only the forget gate f .*\nf: where .* should be 0.5 and yours is 0.622",
    ),
    "forget gate of x and h multiplied": (
        an_lstm(f=lambda a, p, x, s: sigmoid(a + (x @ p.W_x[1]) * (s.h @ p.W_h[1]))),
        "lstm",
        r"f: wrong when x @ W_xf and h @ W_hf are there together, but right with each of them al",
    ),
    "o sees the weights of i": (
        an_lstm(o=lambda a, p, x, s: sigmoid(a + 0.1 * x @ p.W_x[0])),
        "lstm",
        r"h is not o \* tanh\(c\), with your own new c",
    ),
    "f sees the weights of g": (
        an_lstm(f=lambda a, p, x, s: sigmoid(a + 0.1 * p.b[2])),
        "lstm",
        r"What should be f also changes with the weights of g\.",
    ),
    "g sees c": (
        an_lstm(g=lambda a, p, x, s: tanh(a + 0.1 * s.c)),
        "lstm",
        r"only the candidate g is wrong\.\ng: changes with the old c\. Does it see c\?",
    ),
    "f sees c": (
        an_lstm(f=lambda a, p, x, s: sigmoid(a + 0.1 * s.c)),
        "lstm",
        r"only the forget gate f is wrong\.\nf: changes with the old c\. Does it see c, or is c",
    ),
    "o sees the old c": (
        an_lstm(o=lambda a, p, x, s: sigmoid(a + 0.1 * s.c)),
        "lstm",
        r"only the output gate o is wrong\.\no: changes with the old c\. Does it see c\?",
    ),
    "c squared": (
        an_lstm(c=lambda i, f, g, o, s: f * s.c**2 + i * g),
        "lstm",
        r"f: changes with the old c\. .* or is c = f \* c \+ i \* g another\?",
    ),
    "c in both terms": (
        an_lstm(c=lambda i, f, g, o, s: f * s.c**2 + i * g * np.abs(s.c)),
        "lstm",
        r"not something times the old c .*\nWith f held at 1 and i held at 0 by their biases, c ",
    ),
    "the root of f": (
        an_lstm(c=lambda i, f, g, o, s: np.sqrt(f) * s.c + i * g),
        "lstm",
        r"only the forget gate f is wrong\.\nf: where .* should be 0.5 and yours is 0.707",
    ),
    "i times g squared": (
        an_lstm(c=lambda i, f, g, o, s: f * s.c + i * g**2),
        "lstm",
        r"only the candidate g is wrong\.",
    ),
    "o in c": (
        an_lstm(c=lambda i, f, g, o, s: f * s.c + i * g * o),
        "lstm",
        r"What is added to f \* c is not i \* g\.",
    ),
    "one unit of c is lost": (
        an_lstm(c=lambda i, f, g, o, s: (f * s.c + i * g) * (np.arange(s.c.shape[1]) > 0)),
        "lstm",
        r"c fits if f and i are wrong and nothing else|f and i are wrong and nothing else",
    ),
    "i and g": (
        an_lstm(i=lambda a, *_: sigmoid(a) ** 2, g=lambda a, *_: tanh(a) ** 3),
        "lstm",
        r"All fits if i and g are wrong and nothing else",
    ),
    "f and o": (
        an_lstm(f=lambda a, *_: softsign(a), o=lambda a, *_: softsign(a)),
        "lstm",
        r"All fits if f and o are wrong and nothing else",
    ),
    "f and o in c": (
        an_lstm(f=lambda a, *_: softsign(a), c=lambda i, f, g, o, s: f * s.c + i * g * o),
        "lstm",
        r"\nWhat multiplies the old c is not f: right where .*\nWhat is added to f \* c is not",
    ),
    "the state twice as large": (
        lambda *args: (
            lstm.step(*args)[0],
            lstm.State(2 * lstm.step(*args)[0], lstm.step(*args)[1].c),
        ),
        "lstm",
        r"state.h differs from .*\nThe h that you return is right\. In the state, h is not",
    ),
    "the output twice as large": (
        lambda *args: (2 * lstm.step(*args)[0], lstm.step(*args)[1]),
        "lstm",
        r": h differs from .*\nIn the state, h is right\. The h that you return beside it is not",
    ),
    "a wrong output and another wrong state": (
        wrong_twice,
        "lstm",
        r"are not the same\. Beside that:\nAll fits if only the output gate o is wrong\.",
    ),
    "arctan of c": (
        an_lstm(h=lambda o, c, *_: o * np.arctan(c)),
        "lstm",
        r"h is not o \* tanh\(c\).*\nWith o held at 1 by its bias, h should be tanh\(c\)",
    ),
    "something added to h": (
        an_lstm(h=lambda o, c, *_: o * tanh(c) + 0.01),
        "lstm",
        r"With o held at 0 by its bias, h should be 0; yours is off by 0\.01\.",
    ),
    "h from the mean of old and new c": (
        an_lstm(h=lambda o, c, i, f, g, s: o * tanh((c + s.c) / 2)),
        "lstm",
        r"h is not o \* tanh\(c\), with your own new c",
    ),
    "o peephole sees both": (
        a_peephole(o=lambda p, new, old: p * (new + old) / 2),
        "peephole",
        r"With all peephole weights 0 it is right.*\nWith p_o alone it is wrong.*with the new c\.$",
    ),
    "f peephole with the wrong sign": (
        a_peephole(f=lambda p, c: -p * c),
        "peephole",
        r"\nWith p_f alone it is wrong: the forget gate f should see p_f \* c, with the old c\.$",
    ),
    "i peephole squared": (
        a_peephole(i=lambda p, c: p * c**2),
        "peephole",
        r"\nWith p_i alone it is wrong: ",
    ),
    "peepholes mixed": (
        peepholes_mixed,
        "peephole",
        r"look at the peepholes\.\nEach of them alone is right too; together they are not\.",
    ),
    "peephole cell with a wrong gate": (
        lambda params, x, state: split(
            params._replace(b=params.b * np.array([1, 1, 1, 0.9])[:, None]), x, state
        ),
        "peephole",
        r"Without peepholes \(all p = 0\), all fits if only the output gate o .*\no: right",
    ),
    "1 - f squared": (
        a_coupled(lambda a: 1 - sigmoid(a) ** 2),
        "coupled",
        r"What is added to f \* c is not \(1 - f\) \* g",
    ),
    "1 - f before the sigmoid": (
        a_coupled(lambda a: sigmoid(1 - a)),
        "coupled",
        r"What is added to f \* c is not \(1 - f\) \* g",
    ),
    "coupled, g sees c": (
        a_coupled(g=lambda a, c: tanh(a + 0.1 * c)),
        "coupled",
        r"only the candidate g is wrong\.\ng: changes with the old c\. Does it see c\?",
    ),
    "r squared": (
        a_gru(r=lambda a: sigmoid(a) ** 2),
        "gru",
        r"only the reset gate r is wrong.*\nr: where .* should be 0.5 and yours is 0.25(.|\n)*"
        r"\nOr it is \(r \* h\) @ W_hn in the candidate n\.",
    ),
    "z softsign": (
        a_gru(z=softsign),
        "gru",
        r"only the update gate z is wrong",
    ),
    "r and z squared": (
        a_gru(r=lambda a: sigmoid(a) ** 2, z=lambda a: sigmoid(a) ** 2),
        "gru",
        r"r and z are wrong and nothing else",
    ),
    "r squared and a z that cannot be held": (
        a_gru(r=lambda a: sigmoid(a) ** 2, z=lambda a: sigmoid(tanh(a))),
        "gru",
        r"step 1 \(by .*\)\.\nLook at h = z \* h \+ \(1 - z\) \* n\.\nWith z held at 1 by its bias",
    ),
    "z with r": (
        a_gru(h=lambda r, z, n, h: z ** (1 + r) * h + (1 - z ** (1 + r)) * n),
        "gru",
        r"What should be z also changes with the weights of r\. Look at h = z \* h",
    ),
    "n arctan": (
        a_gru(n=lambda r, x, h, W: np.arctan(x + (r * h) @ W)),
        "gru",
        r"only the candidate n is wrong.*\nn: right where .* are all 0, wrong with each",
    ),
    "reset twice": (
        a_gru(n=lambda r, x, h, W: tanh(x + r * ((r * h) @ W))),
        "gru",
        r"only the candidate n is wrong\.\nn: right where \(r \* h\) @ W_hn is 0",
    ),
    "something added to the blend": (
        a_gru(h=lambda r, z, n, h: z * h + (1 - z) * n + 0.1 * r),
        "gru",
        r"Look at h = z \* h \+ \(1 - z\) \* n\.\nWith z held at 1 by its bias, h should stay",
    ),
    "half of b_hn": (
        lambda params, x, state: gru_reset_after.step(
            params._replace(b_hn=params.b_hn / 2), x, state
        ),
        "gru_reset_after",
        r"only the candidate n is wrong\.\nn: right where r \* b_hn is 0",
    ),
    "sine": (
        an_rnn(lambda a, *_: np.sin(a)),
        "rnn",
        r"only the candidate n is wrong\.\nn: right where .* Likely its nonlinearity",
    ),
    "h squared in the recurrent part": (
        an_rnn(lambda a, p, x, s: tanh(x @ p.W_x[0] + s.h**2 @ p.W_h[0] + p.b[0])),
        "rnn",
        r"n: right where h @ W_hn is 0",
    ),
}


@each("name", WRONG)
@each("seed", [0, 1])
def test_wrong_cells_out_of_the_catalogue(name, seed):
    function, cell, expected = WRONG[name]
    verdict = check(function, cell, seed=seed)
    assert not verdict.ok
    assert verdict.slip is None, verdict.message
    assert verdict.message.startswith("Not yet: ")
    assert "first at step 1" in verdict.message
    assert re.search(expected, verdict.message), verdict.message


def test_there_are_enough_of_them():
    assert len(WRONG) >= 25


# Wrong only now and then


def only_when(condition, what=lambda a: a + 0.25):
    """An LSTM whose c is changed on some condition."""

    def step(params, x, state):
        _, (_, c) = lstm.step(params, x, state)
        o = lstm.gates(params, x, state)[3]
        if condition(params, x, state):
            c = what(c)
        h = o * tanh(c)
        return h, lstm.State(h, c)

    return step


def wrap(cell, wrong):
    """The right step with something done to its arguments or its result."""
    return lambda params, x, state: wrong(CELLS[cell].step, params, x, state)


def skips_b_hn(step, params, x, state):
    return step(params if state.h.any() else params._replace(b_hn=0 * params.b_hn), x, state)


def turns_a_square(step, params, x, state):
    if params.W_x.shape[1] == params.W_x.shape[2]:
        params = params._replace(W_x=params.W_x.swapaxes(1, 2))
    return step(params, x, state)


def overflowing(params, x, state):
    i, f, g, o = sums(params, x, state)
    i, f, o = (np.exp(a) / (1 + np.exp(a)) for a in (i, f, o))
    c = f * state.c + i * tanh(g)
    return o * tanh(c), lstm.State(o * tanh(c), c)


NOW_AND_THEN = {
    "a batch of one": only_when(lambda p, x, s: len(x) == 1),
    "a larger batch and layer": only_when(lambda p, x, s: len(x) > 16),
    "one input and one unit": only_when(lambda p, x, s: x.shape[1] == 1),
    "batch, input and hidden of the same size": wrap("lstm", turns_a_square),
    "a zero state": only_when(lambda p, x, s: not s.c.any()),
    "an input of zeros": only_when(lambda p, x, s: not x.any()),
    "positive numbers alone": only_when(lambda p, x, s: (x > 0).all() and len(x) > 1),
    "negative numbers alone": only_when(lambda p, x, s: (x < 0).all() and len(x) > 1),
    "a large old h": only_when(lambda p, x, s: np.abs(s.h).max() > 100),
    "a large old c": only_when(lambda p, x, s: True, lambda c: np.clip(c, -10, 10)),
    "a large x": an_lstm(f=lambda a, *_: np.clip(sigmoid(a), 1e-4, 1 - 1e-4)),
    "a very large x": overflowing,
    "float32": only_when(lambda p, x, s: x.dtype == np.float32),
    "60 steps": wrap(
        "lstm",
        lambda step, p, x, s: (
            step(p, x, s) if np.abs(s.h).max() > 0.02 else step(p._replace(b=0 * p.b), x, s)
        ),
    ),
}


@pytest.mark.parametrize("what", NOW_AND_THEN)
def test_wrong_only_now_and_then(what):
    verdict = check(NOW_AND_THEN[what], "lstm")
    assert not verdict.ok
    if what != "60 steps":
        assert f"right on usual numbers, but with {what}, " in verdict.message
    assert re.search(r"\n.*\?", verdict.message)


def test_a_growing_cell_state():
    clipped = only_when(lambda p, x, s: np.abs(s.c).max() < 100, lambda c: np.clip(c, -30, 30))
    verdict = check(clipped, "lstm")
    assert "with a cell state that grows for 60 steps" in verdict.message
    assert "Is c clipped?" in verdict.message


def test_not_a_number():
    verdict = check(overflowing, "lstm")
    assert "c is not finite" in verdict.message
    assert "Does an exp overflow?" in verdict.message


def test_a_bias_that_is_left_out_of_a_zero_state():
    """As in ml-explore/mlx#3252."""
    verdict = check(wrap("gru_reset_after", skips_b_hn), "gru_reset_after")
    assert "with a zero state, h differs" in verdict.message
    assert "Is something left out when the state is zero?" in verdict.message


def test_moderate_numbers_are_right():
    clipped = an_lstm(f=lambda a, *_: sigmoid(np.clip(a, -2.5, 2.5)))
    verdict = check(clipped, "lstm")
    assert not verdict.ok
    assert (
        "On numbers of moderate size it is right. Likely something is clipped." in verdict.message
    )


def test_random_and_stateful_functions():
    rng = np.random.default_rng(0)
    noisy = only_when(lambda p, x, s: True, lambda c: c + 0.01 * rng.normal(size=c.shape))
    assert "two answers to the same question" in check(noisy, "lstm").message

    count = iter(range(10**6))
    tired = only_when(lambda p, x, s: next(count) > 100)
    verdict = check(tired, "lstm")
    assert "keeps something from one call to the next" in verdict.message


def test_one_array_for_all_answers():
    kept = {}

    def step(params, x, state):
        h, new = lstm.step(params, x, state)
        out = kept.setdefault(h.shape, np.empty_like(h))
        out[:] = h
        return out, new

    assert "writes into an array that it returned before" in check(step, "lstm").message


def test_small_errors_add_up():
    """Each step is right to 1e-12, a run on the function's own states is not."""

    def step(params, x, state):
        h, new = lstm.step(params, x, state)
        return h, new._replace(c=new.c * (1 + 0.8e-12))

    verdict = check(step, "lstm")
    assert verdict.message.startswith("Not yet: run on its own states, ")
    assert "each of these steps is right. Likely small errors add up." in verdict.message


def test_never_finite():
    verdict = check(an_lstm(c=lambda i, f, g, o, s: f * s.c / 0.0), "lstm")
    assert "(c is not finite, h by " in verdict.message
    assert "Is something divided by 0?" in verdict.message


def test_a_slip_is_named_although_an_exp_overflows():
    def step(params, x, state):
        i, f, g, o = sums(params, x, state)
        i, f, o = (np.exp(a) / (1 + np.exp(a)) for a in (i, f, o))
        c = f * state.c + i * tanh(g)
        return o * c, lstm.State(o * c, c)

    assert check(step, "lstm").slip == "no_tanh"


def test_float32_inside():
    def step(params, x, state):
        single = [type(t)(*(a.astype(np.float32) for a in t)) for t in (params, state)]
        h, new = lstm.step(single[0], x.astype(np.float32), single[1])
        return h.astype(x.dtype), lstm.State(*(a.astype(x.dtype) for a in new))

    verdict = check(step, "lstm")
    assert not verdict.ok
    assert "All that you return fits into float32." in verdict.message


# Small errors

PHASES = [Phase.explicit, Phase.reuse, Phase.generate]  # a failure needs no smaller example


@settings(max_examples=40, deadline=None, phases=PHASES)
@given(
    st.sampled_from(list(CELLS)),
    st.integers(0, 10**6),
    st.data(),
)
def test_a_small_change_of_one_gate_is_seen_and_named(name, seed, data):
    module = CELLS[name]
    k = data.draw(st.sampled_from(module.GATES))
    fields = ["W_x", "W_h", "b"]
    if k in getattr(module, "PEEPHOLES", ""):
        fields.append("p")
    field = data.draw(st.sampled_from(fields))
    row = (module.PEEPHOLES if field == "p" else module.GATES).index(k)
    larger = data.draw(st.booleans())

    def step(params, x, state):
        array = getattr(params, field).copy()
        if larger:
            array[row] *= 1 + 1e-6
        else:
            rng = np.random.default_rng(seed)
            array[row] += 1e-6 * rng.choice([-1, 1], size=array[row].shape)
        return module.step(params._replace(**{field: array}), x, state)

    verdict = check(step, name, seed=seed)
    assert not verdict.ok
    assert verdict.slip is None
    place = f"(gate|candidate) {k} (is wrong|should see)|@ W_hn in the candidate {k}"
    if k + field == "op" and not larger:  # a peephole that is there where p is 0
        place = r"h is not o \* tanh"
    assert re.search(place, verdict.message), verdict.message
    if larger and field != "p" and "in the candidate" not in verdict.message:
        part = {"W_x": f"x @ W_x{k}", "W_h": f"W_h{k}", "b": f"b_{k}"}[field]
        assert re.search(rf"right where .*{part}.* 0\. Look there", verdict.message)


@settings(max_examples=25, deadline=None, phases=PHASES)
@given(st.sampled_from(list(CELLS)), st.integers(0, 10**6), st.data())
def test_a_small_change_is_seen_in_the_gates(name, seed, data):
    module = CELLS[name]
    k = data.draw(st.sampled_from(module.GATES))
    row = module.GATES.index(k)

    def gates(params, x, state):
        b = params.b.copy()
        b[row] += 1e-6
        return module.gates(params._replace(b=b), x, state)

    message = check(gates, name, part="gates", seed=seed).message
    assert re.search(rf"^{k}: where .* off by", message, re.MULTILINE), message
    for other in module.GATES.replace(k, ""):
        assert not re.search(rf"^{other}: (?!right for your other gates)", message, re.MULTILINE)


# Gates


def test_gates_in_another_order():
    def gates(params, x, state):
        i, f, g, o = lstm.gates(params, x, state)
        return i, g, f, o

    message = check(gates, "lstm", part="gates").message
    assert "You return the gates in the order i, g, f, o; here it is i, f, g, o." in message
    assert "f and g differ from lstmbook's lstm" in message


def test_wrong_gates_are_told_from_those_that_follow():
    def gates(params, x, state):
        r = softsign(x @ params.W_x[0] + state.h @ params.W_h[0] + params.b[0])
        z = gru.gates(params, x, state)[1]
        n = tanh(x @ params.W_x[2] + (r * state.h) @ params.W_h[2] + params.b[2])
        return r, z, n

    message = check(gates, "gru", part="gates").message
    assert "r and n differ from lstmbook's gru" in message
    assert re.search(r"\nr: right where .* Likely its nonlinearity\.", message)
    assert "\nn: right for your other gates." in message

    def peeping(params, x, state):
        i, f, g, o = peephole.gates(params, x, state)
        a = x @ params.W_x[1] + state.h @ params.W_h[1] + params.b[1]
        f = sigmoid(a + 2 * params.p[1] * state.c)
        c = f * state.c + i * g
        o = sigmoid(x @ params.W_x[3] + state.h @ params.W_h[3] + params.b[3] + params.p[2] * c)
        return i, f, g, o

    message = check(peeping, "peephole", part="gates").message
    assert "\nf: right where p_f * c is 0. Look there." in message
    assert "\no: right for your other gates." in message


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        (None, "returns nothing; expected the gates i, f, g, o, a tuple of 4"),
        (np.zeros((2, 5)), "returns one array of shape (2, 5); expected the gates i, f, g, o"),
        ((0, 0), "returns 2 things; expected the gates i, f, g, o, a tuple of 4"),
        ((np.zeros((5, 2)),) * 4, "i has shape (5, 2); expected (batch, hidden) = (2, 5)"),
        ((None,) * 4, "i is nothing of dtype object; expected an array of floats"),
    ],
)
def test_gates_of_a_wrong_form(result, expected):
    assert expected in check(lambda *_: result, "lstm", part="gates").message


# Functions that cannot be compared


def test_an_exception():
    def step(params, x, state):
        return state.hidden

    message = check(step, "lstm").message
    assert "your function raises an error" in message
    assert "AttributeError: 'State' object has no attribute 'hidden'" in message
    assert "params.W_x (4, 6, 5), params.W_h (4, 5, 5), params.b (4, 5), x (2, 6)" in message
    assert "state.h (2, 5), state.c (2, 5)" in message


def test_an_exception_in_a_later_call():
    def step(params, x, state):
        if len(x) == 1:
            raise RuntimeError
        return lstm.step(params, x, state)

    message = check(step, "lstm").message
    assert "raises an error with a batch of one (step 1).\nRuntimeError\n" in message


def test_a_wrong_function_that_sometimes_raises():
    """What can be said without an answer is said."""

    def step(params, x, state):
        if x.shape[1] == 4 or len(x) == 1:
            raise ValueError("no such size")
        return an_lstm(f=lambda a, *_: softsign(a))(params, x, state)

    message = check(step, "lstm").message
    assert re.fullmatch(
        r"Not yet: c and h differ from lstmbook's lstm, first at step 1 .*", message
    )
    no_tanh = next(slip for slip in SLIPS if (slip.cell, slip.name) == ("lstm", "no_tanh"))

    def slipping(params, x, state):
        if len(x) == 1:
            raise ValueError("no such size")
        return no_tanh.step(params, x, state)

    assert check(slipping, "lstm").slip == "no_tanh"


def test_a_bias_without_its_axis():
    def step(params, x, state):
        i, f, _, _ = x @ params.W_x + state.h @ params.W_h + params.b
        return i, (i, f)

    message = check(step, "lstm").message
    assert "ValueError: operands could not be broadcast" in message
    assert "x @ params.W_x has shape (4, 2, 5): (gates, batch, hidden)." in message
    assert "params.b[:, None]" in message


H, C = np.zeros((2, 5)), np.ones((2, 5))


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        (None, "returns nothing; expected a pair: return h, State(h, c)."),
        (H, "returns one array of shape (2, 5); expected a pair"),
        (lstm.State(H, C), "returns State(h, c) alone; expected a pair"),
        ((H,), "returns 1 things; expected a pair"),
        ((H, H, C), "returns 3 things; expected a pair"),
        ((H, C), "Do you return h, c? The state is one thing that holds both."),
        ((lstm.State(H, C), H), "Is it the other way round? The output comes first"),
        ((H, (H,)), "the state you return holds 1 things; expected a pair"),
        ((H, {"h": H}), "the state you return is a dict; expected a pair"),
        ((H, None), "the state you return is nothing; expected a pair"),
        (
            (H.T, (H, C)),
            "h has shape (5, 2); expected (batch, hidden) = (2, 5).\nIs it transposed?",
        ),
        (
            (H[0], (H, C)),
            "h has shape (5,); expected (batch, hidden) = (2, 5).\nIs the batch axis lost?",
        ),
        ((H, (H, C[None])), "c has shape (1, 2, 5); expected (batch, hidden) = (2, 5)"),
        ((np.stack([H] * 4), (H, C)), "Is the gate axis still there?"),
        ((np.hstack([H] * 4), (H, C)), "Are the gates still side by side?"),
        ((H, (np.hstack([H, C]), C)), "state.h has shape (2, 10)"),
        ((H, (np.hstack([H, C]), C)), "Are h and c still side by side?"),
        ((np.zeros((3, 3)), (H, C)), "h has shape (3, 3); expected (batch, hidden) = (2, 5)"),
        ((H, (H, H.astype(int))), "c is one array of shape (2, 5) of dtype int64; expected an arr"),
        ((H, (H, H + 0j)), "of dtype complex128; expected an array of floats"),
        ((H, (H, [[1], [1, 2]])), "c is a list, which NumPy cannot read"),
        ((H.astype(np.float32), (H, C)), "h is float32, but all that you were given is float64."),
    ],
)
def test_a_wrong_form(result, expected):
    verdict = check(lambda *_: result, "lstm")
    assert not verdict.ok
    assert verdict.slip is None
    assert verdict.message.startswith("Not yet: ")
    assert expected in verdict.message


def test_a_bare_state():
    def step(params, x, state):
        h, _ = gru.step(params, x, state)
        return h, h

    assert "Put it into a State: return h, State(h)." in check(step, "gru").message


def test_a_lost_batch_axis():
    squeezed = wrap("gru", lambda step, *args: (h := step(*args)[0].squeeze(), (h,)))
    message = check(squeezed, "gru").message
    assert "h has shape (5,); expected (batch, hidden) = (1, 5) with a batch of one" in message
    assert "Is the batch axis lost?" in message


def test_something_that_is_no_array():
    class Closed:
        def __array__(self, dtype=None, copy=None):
            raise RuntimeError("needs detach()")

    message = check(lambda *_: (Closed(), (H, C)), "lstm").message
    assert "h is a Closed, which NumPy cannot read (needs detach())." in message


@pytest.mark.parametrize("what", ["params.b", "x", "state.h", "state.c"])
def test_changes_in_place(what):
    def step(params, x, state):
        result = lstm.step(params, x, state)
        arrays = {"params.b": params.b, "x": x, "state.h": state.h, "state.c": state.c}
        arrays[what] *= 2
        return result

    message = check(step, "lstm").message
    assert f"your function changes {what} in place" in message
    assert "c = f * c, not c *= f" in message


def test_the_caller_s_own_misuse():
    with pytest.raises(ValueError, match="there is no cell 'lstmm'; the cells are rnn, lstm"):
        check(lstm.step, "lstmm")
    with pytest.raises(TypeError, match="expected a cell module or its name"):
        check(lstm.step, 3)
    with pytest.raises(TypeError, match=r"function is of type str; expected a function\. The fun"):
        check("lstm", lstm.step)
    with pytest.raises(TypeError, match=r"function is of type module; expected a function$"):
        check(lstm, "lstm")
    with pytest.raises(ValueError, match="there is no part 'cell'; the parts are step, gates"):
        check(lstm.step, "lstm", part="cell")
    mine = SimpleNamespace(**{n: getattr(lstm, n) for n in ("GATES", "Params", "State", "gates")})
    mine.step, mine.zero_state = lstm.step, lstm.zero_state
    with pytest.raises(ValueError, match="is not one of the cells"):
        check(lstm.step, mine)


def test_errors_of_the_interpreter_are_not_swallowed():
    def step(params, x, state):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        check(step, "lstm")


# What a reader sees stays the same, and comes at once


def test_messages_are_the_same_each_time():
    for function, cell, _ in list(WRONG.values())[::6]:
        assert check(function, cell).message == check(function, cell).message


def test_it_is_fast():
    wrong = [function for function, cell, _ in WRONG.values() if cell == "lstm"]
    check(lstm.step, "lstm")
    start = time.process_time()
    for function in wrong:
        check(function, "lstm")
    assert (time.process_time() - start) / len(wrong) < 0.5


def test_what_is_said_follows_the_page(monkeypatch):
    """The page alone says what a gate is for a function's other gates."""
    right = CELLS["peephole"].gates

    def twice(params, x, state):  # another page: o looks at the new c twice as hard
        i, f, g, _ = right(params, x, state)
        *_, z = x @ params.W_x + state.h @ params.W_h + params.b[:, None]
        return i, f, g, sigmoid(z + 2 * params.p[2] * (f * state.c + i * g))

    def wrong(params, x, state):  # for that page: a bias of f is missing, the rest follows
        i, f, g, _ = right(params._replace(b=params.b * [[1], [0], [1], [1]]), x, state)
        *_, z = x @ params.W_x + state.h @ params.W_h + params.b[:, None]
        return i, np.sin(f), g, sigmoid(z + 2 * params.p[2] * (np.sin(f) * state.c + i * g))

    monkeypatch.setattr(CELLS["peephole"], "gates", twice)
    assert check(twice, "peephole", part="gates")
    verdict = check(wrong, "peephole", part="gates")
    assert "\nf: " in verdict.message
    assert verdict.message.endswith("\no: right for your other gates.")
