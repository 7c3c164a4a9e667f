"""Slips of the LSTMs: in c, in h, in the state and in the peepholes."""

from collections.abc import Iterator
from itertools import permutations
from typing import Any

import numpy as np

from ..cells._activations import Array, sigmoid, tanh
from .changed import Gates, Step
from .ideas import GATE_NAMES, Idea, every, in_piece, scaled, spaced, taken, weights


def lstms(tied: bool) -> Iterator[Idea]:
    """Slips in c, in h and in the state that every LSTM can have."""
    i = "(1 - f)" if tied else "i"
    c_is = f"it is c = f * c + {i} * g"
    yield from in_piece(
        "update",
        "c",
        c_is,
        ("no_i", f"You leave out {i}", lambda i, f, g, c: f * c + g),
        ("no_f", "You leave out the forget gate", lambda i, f, g, c: c + i * g),
        ("f_plus_c", "You add f and c", lambda i, f, g, c: f + c + i * g),
        (
            "i_plus_g",
            f"You add {i} and g",
            lambda i, f, g, c: f * c + (i + g),
            "MartinuzziFrancesco/torchrecurrent#22",
        ),
        ("sum_as_product", f"You multiply f * c and {i} * g", lambda i, f, g, c: f * c * i * g),
        ("minus", f"You subtract {i} * g", lambda i, f, g, c: f * c - i * g),
        ("no_g", f"You leave out {i} * g", lambda i, f, g, c: f * c, "muditbhargava66/PyxLSTM#22"),
        ("f_times_all", "You multiply the whole sum by f", lambda i, f, g, c: f * (c + i * g)),
        (
            "c_squashed",
            "You apply tanh to the new c before you use it",
            lambda i, f, g, c: tanh(f * c + i * g),
            "nicodjimenez/lstm#43",
        ),
        (
            "c_clipped",
            "You clip the new c at 3, as the raw op LSTMBlockCell of TensorFlow does by default",
            lambda i, f, g, c: np.clip(f * c + i * g, -3, 3),
        ),
    )
    yield from in_piece(
        "output",
        "h",
        "it is h = o * tanh(c), with the new c",
        ("no_tanh", "You leave out the tanh", lambda o, new, c: o * new, "nicodjimenez/lstm#47"),
        ("no_o", "You leave out the output gate", lambda o, new, c: tanh(new)),
        ("sigmoid_c", "You apply sigmoid to c", lambda o, new, c: o * sigmoid(new)),
        ("relu_c", "You apply relu to c", lambda o, new, c: o * np.maximum(new, 0)),
        ("o_plus", "You add o and tanh(c)", lambda o, new, c: o + tanh(new)),
        ("tanh_outside", "You apply tanh to o * c", lambda o, new, c: tanh(o * new)),
        (
            "h_from_old_c",
            "You make h from the old c",
            lambda o, new, c: o * tanh(c),
            "borelien/entailment-neural-attention-lstm-tf#3",
        ),
    )
    yield from in_piece(
        "returns",
        "h",
        "return h = o * tanh(c)",
        (
            "returns_c",
            "You return c as output",
            lambda new, old: (new.c, new),
            "microsoft/nni#2839",
        ),
        ("returns_tanh_c", "You return tanh(c) as output", lambda new, old: (tanh(new.c), new)),
    )
    yield from in_piece(
        "returns",
        "state",
        "the new state is State(h, c), both new, c without tanh",
        (
            "returns_state_swapped",
            "You return State(c, h), TensorFlow 1's order",
            lambda new, old: (new.h, new._replace(h=new.c, c=new.h)),
        ),
        (
            "c_old",
            "You return the old c in the state",
            lambda new, old: (new.h, new._replace(c=old.c)),
        ),
        (
            "state_h_old",
            "You return the old h in the state",
            lambda new, old: (new.h, new._replace(h=old.h)),
        ),
        (
            "tanh_c_kept",
            "You return tanh(c) in the state",
            lambda new, old: (new.h, new._replace(c=tanh(new.c))),
        ),
    )
    yield from in_piece(
        "read",
        "state",
        "the gates see the old h, and c is made from the old c",
        (
            "reads_state_swapped",
            "You read the state as (c, h), TensorFlow 1's order",
            lambda params, x, s: (params, x, s._replace(h=s.c, c=s.h)),
        ),
        (
            "h_for_c",
            "You use the old h where the old c belongs",
            lambda params, x, s: (params, x, s._replace(c=s.h)),
        ),
        (
            "c_for_h",
            "You use the old c where the old h belongs",
            lambda params, x, s: (params, x, s._replace(h=s.c)),
        ),
    )
    yield Idea(
        "state_swapped",
        "state",
        "You read and return the state as (c, h), TensorFlow 1's order; here it is (h, c).",
        {
            "read": lambda params, x, s: (params, x, s._replace(h=s.c, c=s.h)),
            "returns": lambda new, old: (new.h, new._replace(h=new.c, c=new.h)),
        },
    )
    yield Idea(
        "h_first",
        "c",
        "You make the new h from the old c, and then c with the new h; c comes first.",
        {"around": _h_first},
    )


def _h_first(gates: Gates, step: Step) -> Step:
    def wrong(params: Any, x: Array, state: Any) -> tuple[Array, Any]:
        h = gates(params, x, state)[-1] * tanh(state.c)
        _, new = step(params, x, state._replace(h=h))
        return h, new._replace(h=h)

    return wrong


def uncoupled(holes: bool) -> Iterator[Idea]:
    """Slips in ``c = f * c + i * g``."""
    rows: list[tuple[Any, ...]] = [
        (
            "coupled_f",
            "You use 1 - f for the input gate, as the coupled cell does",
            lambda i, f, g, c: f * c + (1 - f) * g,
        ),
        (
            "coupled_i",
            "You use 1 - i for the forget gate",
            lambda i, f, g, c: (1 - i) * c + i * g,
            "glample/tagger#25",
        ),
        ("f_flipped", "You use 1 - f for f", lambda i, f, g, c: (1 - f) * c + i * g),
        ("i_flipped", "You use 1 - i for i", lambda i, f, g, c: f * c + (1 - i) * g),
    ]
    if holes:  # without them this is the same as gates that use each other's weights
        rows += [
            (
                "i_for_f",
                "You use i for f",
                lambda i, f, g, c: i * c + i * g,
                "farizrahman4u/seq2seq#225",
            ),
            ("f_for_i", "You use f for i", lambda i, f, g, c: f * c + f * g),
            ("i_f_swapped", "You swap i and f", lambda i, f, g, c: i * c + f * g, "NX-AI/xlstm#98"),
        ]
    yield from in_piece("update", "c", "it is c = f * c + i * g", *rows)


def coupled() -> Iterator[Idea]:
    """Slips in ``c = f * c + (1 - f) * g``."""
    right = "it is c = f * c + (1 - f) * g"
    yield from in_piece(
        "update",
        "c",
        right,
        (
            "other_way",
            "You couple the gates the other way round, as ONNX does, which keeps i",
            lambda i, f, g, c: (1 - f) * c + f * g,
        ),
        (
            "no_brackets",
            "The brackets around 1 - f are missing",
            lambda i, f, g, c: f * c + 1 - f * g,
        ),
    )
    yield from in_piece(
        "input", "c", right, ("i_is_f", "You use f for the input gate too", lambda f: f)
    )


def forget_bias() -> Iterator[Idea]:
    """Slips with TensorFlow 1's ``forget_bias``."""
    yield from in_piece(
        "gate_f",
        "f",
        "it is a part of b_f already",
        (
            "forget_bias_again",
            "You add a forget bias of 1 to the forget gate f",
            lambda squash, x, h, b, p: squash(x + h + b + p + 1),
            "tensorflow/tensorflow#5090",
        ),
        (
            "forget_bias_taken",
            "You take a forget bias of 1 off the forget gate f",
            lambda squash, x, h, b, p: squash(x + h + b + p - 1),
        ),
    )


def peepholes(holes: str) -> Iterator[Idea]:
    """Slips with the peepholes."""
    old = holes.replace("o", "")
    for name, says, pieces in (
        (
            "no_peepholes",
            f"You leave out the peepholes; the gates {spaced(holes)} also see c.",
            weights(p=np.zeros_like),
        ),
        (
            "peepholes_after",
            "You add the peepholes after the sigmoid; add them inside.",
            every(holes, "gate", lambda squash, x, h, b, p: squash(x + h + b) + p),
        ),
        (
            "one_peephole",
            f"You use p_{holes[0]} for every peephole; each gate has its own.",
            weights(p=taken([0] * len(holes))),
        ),
        (
            "holes_see_h",
            "Your peepholes see h; they are p * c.",
            every(holes, "sees", lambda c, new, h: h),
        ),
        (
            "holes_see_nothing",
            "You add the peephole weights as they are; a peephole is p * c.",
            every(holes, "sees", lambda c, new, h: 1.0),
        ),
        (
            "holes_see_tanh_c",
            "Your peepholes see tanh(c); they see c itself.",
            every(old, "sees", lambda c, new, h: tanh(c))
            | {"sees_o": lambda c, new, h: tanh(new())},
        ),
    ):
        yield Idea(name, holes, says, pieces)
    yield Idea(
        "o_sees_old_c",
        "o",
        "Your output gate's peephole sees the old cell state; it should see the new one.",
        {"sees_o": lambda c, new, h: c},
    )
    yield Idea(
        "old_holes_see_new_c",
        old,
        f"The peephole of {' and '.join(old)} sees a cell state that is already new; "
        f"it should see the old one.",
        every(old, "sees", lambda c, new, h: new()),
    )
    yield Idea(
        "g_peephole",
        "g",
        "Your candidate g has a peephole; it should have none.",
        {"holes": {"g": 0}},
    )
    for j, k in enumerate(holes):
        yield Idea(
            f"no_peephole_{k}",
            k,
            f"Your {GATE_NAMES[k]} has no peephole; add p_{k} * c.",
            weights(p=scaled(j, 0)),
        )
        yield Idea(
            f"peephole_{k}_after",
            k,
            f"You add the peephole of the {GATE_NAMES[k]} after the sigmoid; add it inside.",
            {f"gate_{k}": lambda squash, x, h, b, p: squash(x + h + b) + p},
            "Lasagne/Lasagne#448" if k == "o" else "",
        )
    for order in map("".join, permutations(holes)):
        if order != holes:
            whose = " (ONNX's order)" if order == "iof" else ""
            yield Idea(
                f"peepholes_{order}",
                holes,
                f"You take the peepholes in the order {spaced(order)}{whose}; "
                f"here it is {spaced(holes)}.",
                weights(p=taken([order.index(k) for k in holes])),
            )
