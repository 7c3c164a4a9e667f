"""Wrong cells: the slips that people make, each as a function like the cell's own ``step``.

A slip is the right cell with one piece changed (`changed.assemble`); this module lists the changes.
A slip is a function that really runs. So a wrong cell can be named by running both.

Some slips stood in published code, or were asked about in public: ``seen_in`` says where.
"""

from collections.abc import Callable, Iterator
from itertools import permutations
from typing import Any, NamedTuple

import numpy as np

from ..cells import CELLS
from ..cells._activations import Array, sigmoid, tanh
from .changed import Gates, Pieces, Step, assemble

__all__ = ["GATE_NAMES", "SLIPS", "Slip"]

GATE_NAMES = {
    "i": "input gate i",
    "f": "forget gate f",
    "g": "candidate g",
    "o": "output gate o",
    "r": "reset gate r",
    "z": "update gate z",
    "n": "candidate n",
}


class Slip(NamedTuple):
    """One mistake in one cell."""

    name: str  # unique within its cell
    cell: str  # the name in CELLS
    where: str  # the equation: gate letters, or "c", "h", "state"
    says: str  # to the reader: what it is and what it should be
    seen_in: str  # a public thread, "owner/repository#number", or ""
    step: Step
    gates: Gates
    pieces: Pieces


# The slips


class Idea(NamedTuple):
    """A slip before it is put into a cell."""

    name: str
    where: str
    says: str
    pieces: dict[str, Any]
    seen_in: str = ""


def _rows(piece: str, where: str, right: str, *rows: tuple[Any, ...]) -> Iterator[Idea]:
    """Slips in one piece; each row is ``(name, what is wrong, the wrong piece, seen in)``."""
    for name, wrong, function, *seen_in in rows:
        yield Idea(name, where, f"{wrong}; {right}.", {piece: function}, *seen_in)


def _weights(**change: Callable[[Array], Array]) -> dict[str, Any]:
    """The piece that takes some params for others: ``W_h=function of W_h``."""

    def read(params: Any, x: Array, state: Any) -> tuple[Any, Array, Any]:
        new = {field: f(getattr(params, field)) for field, f in change.items()}
        return params._replace(**new), x, state

    return {"read": read}


def _scaled(row: int, factor: float) -> Callable[[Array], Array]:
    return lambda a: np.concatenate([a[:row], factor * a[row : row + 1], a[row + 1 :]])


def _taken(rows: list[int]) -> Callable[[Array], Array]:
    return lambda a: a[rows]


def _blocks(rows: list[int]) -> dict[str, Any]:
    """The piece by which gate ``j`` takes the weights and the bias of gate ``rows[j]``."""
    return _weights(W_x=_taken(rows), W_h=_taken(rows), b=_taken(rows))


def _every(letters: str, piece: str, value: Any) -> dict[str, Any]:
    return {f"{piece}_{k}": value for k in letters}


def _spaced(letters: str) -> str:
    return ", ".join(letters)


def _anywhere(letters: str) -> Iterator[Idea]:
    """Slips that every cell can have."""
    for name, says, pieces, *seen_in in (
        (
            "W_h_transposed",
            "You use W_h transposed; the recurrent part is h @ W_h.",
            _weights(W_h=lambda W: W.swapaxes(1, 2)),
        ),
        (
            "h_before_x",
            "You stack [h, x], but the rows of the kernel are for [x, h].",
            {"read": _h_before_x},
        ),
        ("no_W_h", "You leave out the recurrent part; add h @ W_h.", _weights(W_h=np.zeros_like)),
        ("no_W_x", "You leave out the input; add x @ W_x.", _weights(W_x=np.zeros_like)),
        ("no_b", "You leave out the bias; add b.", _weights(b=np.zeros_like)),
        (
            "b_twice",
            "You add the bias b twice (to the x part and to the h part?); add it once.",
            _weights(b=lambda b: 2 * b),
            "lisa-lab/DeepLearningTutorials#81",
        ),
        (
            "b_after",
            "You add the bias after the nonlinearity; add it inside.",
            _every(letters, "gate", lambda squash, x, h, b, p: squash(x + h + p) + b),
        ),
        (
            "parts_squashed",
            "You apply the nonlinearity to the x part and to the h part; add them first.",
            _every(letters, "gate", lambda squash, x, h, b, p: squash(x + b + p) + squash(h)),
        ),
        (
            "x_squashed",
            "You apply the nonlinearity to the x part alone; apply it to the whole sum.",
            _every(letters, "gate", lambda squash, x, h, b, p: squash(x + b + p) + h),
        ),
        (
            "parts_multiplied",
            "You multiply the x part and the h part; add them.",
            _every(letters, "gate", lambda squash, x, h, b, p: squash((x + b + p) * h)),
            "keras-team/keras#1231" if letters == "n" else "",
        ),
    ):
        yield Idea(name, letters, says, pieces, *seen_in)
    yield from _rows(
        "returns",
        "state",
        "return the new one",
        ("state_old", "You return the old state", lambda new, old: (new.h, old)),
    )
    yield from _rows(
        "returns",
        "h",
        "return the new one",
        ("h_old", "You return the old h as output", lambda new, old: (old.h, new)),
    )


def _h_before_x(params: Any, x: Array, state: Any) -> tuple[Any, Array, Any]:
    kernel = np.concatenate([params.W_x, params.W_h], axis=1)
    hidden = params.b.shape[-1]
    return params._replace(W_h=kernel[:, :hidden], W_x=kernel[:, hidden:]), x, state


def _candidate(k: str) -> Iterator[Idea]:
    """Slips in the nonlinearity of the candidate."""
    yield from _rows(
        f"squash_{k}",
        k,
        f"the {GATE_NAMES[k]} is tanh of the sum",
        (f"{k}_linear", "You leave out the tanh", lambda a: a),
        (f"{k}_sigmoid", "You use sigmoid for tanh", sigmoid),
        (f"{k}_relu", "You use relu for tanh", lambda a: np.maximum(a, 0)),
        (f"{k}_hard_tanh", "You cut the sum to -1 … 1", lambda a: np.clip(a, -1, 1)),
        (f"{k}_tanh_twice", "You apply tanh twice", lambda a: tanh(tanh(a))),
        (f"{k}_tanh_half", "You use tanh(a / 2), or 2 sigmoid(a) - 1", lambda a: tanh(a / 2)),
    )


def _gated(letters: str) -> Iterator[Idea]:
    """Slips that every cell with gates can have."""
    soft = "".join(k for k in letters if k not in "gn")
    for name, wrong, squash in (
        (
            "hard_sigmoid",
            "You use the hard sigmoid of old Keras, clip(0.2 a + 0.5, 0, 1)",
            lambda a: np.clip(0.2 * a + 0.5, 0, 1),
        ),
        (
            "hard_sigmoid_6",
            "You use the hard sigmoid of PyTorch and Keras 3, clip(a / 6 + 0.5, 0, 1)",
            lambda a: np.clip(a / 6 + 0.5, 0, 1),
        ),
        (
            "sigmoid_sign",
            "Your sigmoid has the wrong sign, 1 / (1 + exp(a))",
            lambda a: sigmoid(-a),
        ),
        ("sigmoid_2a", "Your sigmoid is (1 + tanh(a)) / 2", lambda a: sigmoid(2 * a)),
        ("sigmoid_twice", "You apply the sigmoid twice", lambda a: sigmoid(sigmoid(a))),
    ):
        says = f"{wrong}; the gates {_spaced(soft)} are 1 / (1 + exp(-a)) of their sum a."
        yield Idea(name, soft, says, _every(soft, "squash", squash))
    last = soft[-1]
    yield Idea(
        f"b_{last}_for_all",
        soft,
        f"Your gates {_spaced(soft)} all add b_{last}; each has its own bias.",
        _weights(b=_taken([letters.index(last if k in soft else k) for k in letters])),
        "ddbourgin/numpy-ml#42" if "i" in soft else "",
    )
    for k in soft:
        yield from _rows(
            f"squash_{k}",
            k,
            "it is the sigmoid of the sum",
            (f"{k}_linear", f"Your {GATE_NAMES[k]} has no sigmoid", lambda a: a),
            (f"{k}_tanh", f"Your {GATE_NAMES[k]} is a tanh", tanh),
        )
    for j, k in enumerate(letters):
        yield from _one_gate(letters, j, k)


def _one_gate(letters: str, j: int, k: str) -> Iterator[Idea]:
    """Slips with the weights of gate ``k``, which are row ``j``."""
    for name, wrong, pieces in (
        (f"no_b_{k}", f"has no bias; add b_{k}", _weights(b=_scaled(j, 0))),
        (f"b_{k}_twice", f"adds its bias twice; add b_{k} once", _weights(b=_scaled(j, 2))),
        (f"no_W_h{k}", f"does not see h; add h @ W_h{k}", _weights(W_h=_scaled(j, 0))),
        (f"no_W_x{k}", f"does not see x; add x @ W_x{k}", _weights(W_x=_scaled(j, 0))),
    ):
        yield Idea(name, k, f"Your {GATE_NAMES[k]} {wrong}.", pieces)
    for other in letters.replace(k, ""):
        yield Idea(
            f"{k}_reads_{other}",
            k,
            f"Your {GATE_NAMES[k]} uses the weights and the bias of the {GATE_NAMES[other]}; "
            f"it has its own.",
            _blocks([letters.index(other if letter == k else letter) for letter in letters]),
            "farizrahman4u/seq2seq#225" if letters == "ifgo" and k + other == "fi" else "",
        )


_ORDERS = {  # whose order of the gates it is, in our letters
    "iofg": "ONNX's order",
    "igfo": "TensorFlow 1's order, i j f o",
    "gfo": "TensorFlow 1's order, j f o",
    "zrn": "Keras' and ONNX's order",
}
_STORED = {  # gates stored in this order, and read as i f g o
    "iofg": "CrispStrobe/CrispASR#106",
    "figo": "NX-AI/xlstm#98",
}


def _orders(letters: str) -> Iterator[Idea]:
    """The gates unpacked in every wrong order."""
    for gates in map("".join, permutations(letters)):
        rows = [gates.index(k) for k in letters]  # gate k takes the block where its letter stands
        stored = "".join(letters[row] for row in rows)  # or: the same from weights in this order
        whose = f" ({_ORDERS[gates]})" if gates in _ORDERS else ""
        if not whose and stored in _ORDERS:
            whose = f" (as if they were stored in {_ORDERS[stored]})"
        if gates != letters:
            yield Idea(
                f"order_{gates}",
                letters,
                f"You take the gates in the order {_spaced(gates)}{whose}; "
                f"here it is {_spaced(letters)}.",
                _blocks(rows),
                _STORED.get(stored, ""),
            )


def _rnns() -> Iterator[Idea]:
    """Slips in ``h = n``."""
    yield from _rows(
        "mix",
        "h",
        "the new h is n alone",
        ("residual", "You add the new h to the old one", lambda n, h: h + n),
        ("average", "You mix the new h with the old one", lambda n, h: (h + n) / 2),
    )


def _lstms(coupled: bool) -> Iterator[Idea]:
    """Slips in c, in h and in the state that every LSTM can have."""
    i = "(1 - f)" if coupled else "i"
    c_is = f"it is c = f * c + {i} * g"
    yield from _rows(
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
    yield from _rows(
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
    yield from _rows(
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
    yield from _rows(
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
    yield from _rows(
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


def _uncoupled(peepholes: bool) -> Iterator[Idea]:
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
    if peepholes:  # without them this is the same as gates that use each other's weights
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
    yield from _rows("update", "c", "it is c = f * c + i * g", *rows)


def _coupled() -> Iterator[Idea]:
    """Slips in ``c = f * c + (1 - f) * g``."""
    right = "it is c = f * c + (1 - f) * g"
    yield from _rows(
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
    yield from _rows(
        "input", "c", right, ("i_is_f", "You use f for the input gate too", lambda f: f)
    )


def _forget_bias() -> Iterator[Idea]:
    """Slips with TensorFlow 1's ``forget_bias``."""
    yield from _rows(
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


def _peepholes(holes: str) -> Iterator[Idea]:
    """Slips with the peepholes."""
    old = holes.replace("o", "")
    for name, says, pieces in (
        (
            "no_peepholes",
            f"You leave out the peepholes; the gates {_spaced(holes)} also see c.",
            _weights(p=np.zeros_like),
        ),
        (
            "peepholes_after",
            "You add the peepholes after the sigmoid; add them inside.",
            _every(holes, "gate", lambda squash, x, h, b, p: squash(x + h + b) + p),
        ),
        (
            "one_peephole",
            f"You use p_{holes[0]} for every peephole; each gate has its own.",
            _weights(p=_taken([0] * len(holes))),
        ),
        (
            "holes_see_h",
            "Your peepholes see h; they are p * c.",
            _every(holes, "sees", lambda c, new, h: h),
        ),
        (
            "holes_see_nothing",
            "You add the peephole weights as they are; a peephole is p * c.",
            _every(holes, "sees", lambda c, new, h: 1.0),
        ),
        (
            "holes_see_tanh_c",
            "Your peepholes see tanh(c); they see c itself.",
            _every(old, "sees", lambda c, new, h: tanh(c))
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
        _every(old, "sees", lambda c, new, h: new()),
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
            _weights(p=_scaled(j, 0)),
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
                f"You take the peepholes in the order {_spaced(order)}{whose}; "
                f"here it is {_spaced(holes)}.",
                _weights(p=_taken([order.index(k) for k in holes])),
            )


def _grus() -> Iterator[Idea]:
    """Slips in the blend."""
    yield from _rows(
        "blend",
        "h",
        "it is h = z * h + (1 - z) * n",
        (
            "z_flipped",
            "You swap z and 1 - z",
            lambda z, h, n, r: (1 - z) * h + z * n,
            "tensorflow/tensorflow#13825",
        ),
        ("no_z_for_n", "You leave out 1 - z", lambda z, h, n, r: z * h + n),
        ("no_z_for_h", "You leave out z", lambda z, h, n, r: h + (1 - z) * n),
        ("no_h", "You leave out the old h", lambda z, h, n, r: (1 - z) * n),
        ("no_z", "You return n without the update gate", lambda z, h, n, r: n),
        ("z_twice", "You use z for 1 - z", lambda z, h, n, r: z * h + z * n),
        ("z_plus_h", "You add z and h", lambda z, h, n, r: z + h + (1 - z) * n),
        ("z_plus_n", "You add 1 - z and n", lambda z, h, n, r: z * h + (1 - z) + n),
        ("no_brackets", "The brackets are missing", lambda z, h, n, r: z * h + 1 - z * n),
        ("minus", "You subtract (1 - z) * n", lambda z, h, n, r: z * h - (1 - z) * n),
        (
            "reset_h_kept",
            "You keep r * h in place of h",
            lambda z, h, n, r: z * (r * h) + (1 - z) * n,
        ),
    )
    yield Idea(
        "z_sees_reset_h",
        "z",
        "Your update gate z sees r * h; it sees h.",
        {"z_sees": lambda r, h: r * h},
    )


def _resets(after: bool) -> Iterator[Idea]:
    """Slips in the recurrent part of the candidate."""
    rows: list[tuple[Any, ...]] = [
        (
            "no_r",
            "You leave out the reset gate",
            lambda reset, r, x, h, W, b, b_hn: (x, reset(1.0), b),
            "zhiyongc/GRU-D#2",
        ),
        (
            "r_flipped",
            "You use 1 - r for r",
            lambda reset, r, x, h, W, b, b_hn: (x, reset(1 - r), b),
        ),
        (
            "r_on_x_too",
            "You reset the x part too",
            lambda reset, r, x, h, W, b, b_hn: (r * x, reset(r), b),
        ),
        (
            "r_on_x",
            "You reset the x part, not the h part",
            lambda reset, r, x, h, W, b, b_hn: (r * x, reset(1.0), b),
        ),
        (
            "r_on_all",
            "You multiply the whole sum by r",
            lambda reset, r, x, h, W, b, b_hn: (r * x, r * reset(1.0), r * b),
        ),
    ]
    if after:
        rows += [
            (
                "r_before",
                "You reset before the matrix product, as TensorFlow 1 does",
                lambda reset, r, x, h, W, b, b_hn: (x, (r * h) @ W, b + b_hn),
                "tracel-ai/burn#2701",
            ),
            (
                "r_before_b_hn",
                "You reset h before the matrix product",
                lambda reset, r, x, h, W, b, b_hn: (x, (r * h) @ W + r * b_hn, b),
            ),
            (
                "b_hn_outside",
                "Your b_hn is outside the reset",
                lambda reset, r, x, h, W, b, b_hn: (x, r * (h @ W), b + b_hn),
            ),
            (
                "no_b_hn",
                "You leave out b_hn",
                lambda reset, r, x, h, W, b, b_hn: (x, r * (h @ W), b),
            ),
            (
                "b_hn_twice",
                "You add b_hn twice",
                lambda reset, r, x, h, W, b, b_hn: (x, r * (h @ W + 2 * b_hn), b),
            ),
            (
                "b_hn_for_b_n",
                "You swap b_n and b_hn",
                lambda reset, r, x, h, W, b, b_hn: (x, r * (h @ W + b), b_hn),
            ),
            (
                "b_n_inside",
                "Your b_n is inside the reset too",
                lambda reset, r, x, h, W, b, b_hn: (x, r * (h @ W + b_hn + b), 0.0),
            ),
        ]
    else:
        rows += [
            (
                "r_after",
                "You reset after the matrix product, as PyTorch does",
                lambda reset, r, x, h, W, b, b_hn: (x, r * (h @ W), b),
                "pytorch/pytorch#99531",
            ),
            (
                "r_after_b_n",
                "You reset after the matrix product, and the bias with it",
                lambda reset, r, x, h, W, b, b_hn: (x, r * (h @ W + b), 0.0),
            ),
        ]
    right = "r * (h @ W_hn + b_hn)" if after else "(r * h) @ W_hn"
    yield from _rows("candidate", "n", f"the recurrent part of the candidate n is {right}", *rows)


def _ideas(cell: str) -> Iterator[Idea]:
    letters, holes = CELLS[cell].GATES, getattr(CELLS[cell], "PEEPHOLES", "")
    yield from _anywhere(letters)
    yield from _candidate("g" if "g" in letters else "n")
    if len(letters) > 1:
        yield from _gated(letters)
        yield from _orders(letters)
    if letters == "n":
        yield from _rnns()
    if "z" in letters:
        yield from _grus()
        yield from _resets(after=cell == "gru_reset_after")
    if "f" in letters:
        yield from _forget_bias()
        yield from _lstms(coupled="i" not in letters)
        yield from _uncoupled(bool(holes)) if "i" in letters else _coupled()
    if holes:
        yield from _peepholes(holes)


def _slip(cell: str, idea: Idea) -> Slip:
    gates, step = assemble(cell, idea.pieces)
    return Slip(idea.name, cell, idea.where, idea.says, idea.seen_in, step, gates, idea.pieces)


SLIPS = tuple(_slip(cell, idea) for cell in CELLS for idea in _ideas(cell))
