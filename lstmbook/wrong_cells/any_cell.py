"""Slips that every cell can have, or every cell with gates."""

from collections.abc import Iterator
from itertools import permutations
from typing import Any

import numpy as np

from ..cells._activations import Array, sigmoid, tanh
from .ideas import GATE_NAMES, Idea, blocks, every, in_piece, scaled, spaced, taken, weights


def anywhere(letters: str) -> Iterator[Idea]:
    """Slips that every cell can have."""
    for name, says, pieces, *seen_in in (
        (
            "W_h_transposed",
            "You use W_h transposed; the recurrent part is h @ W_h.",
            weights(W_h=lambda W: W.swapaxes(1, 2)),
        ),
        (
            "h_before_x",
            "You stack [h, x], but the rows of the kernel are for [x, h].",
            {"read": _h_before_x},
        ),
        ("no_W_h", "You leave out the recurrent part; add h @ W_h.", weights(W_h=np.zeros_like)),
        ("no_W_x", "You leave out the input; add x @ W_x.", weights(W_x=np.zeros_like)),
        ("no_b", "You leave out the bias; add b.", weights(b=np.zeros_like)),
        (
            "b_twice",
            "You add the bias b twice (to the x part and to the h part?); add it once.",
            weights(b=lambda b: 2 * b),
            "lisa-lab/DeepLearningTutorials#81",
        ),
        (
            "b_after",
            "You add the bias after the nonlinearity; add it inside.",
            every(letters, "gate", lambda squash, x, h, b, p: squash(x + h + p) + b),
        ),
        (
            "parts_squashed",
            "You apply the nonlinearity to the x part and to the h part; add them first.",
            every(letters, "gate", lambda squash, x, h, b, p: squash(x + b + p) + squash(h)),
        ),
        (
            "x_squashed",
            "You apply the nonlinearity to the x part alone; apply it to the whole sum.",
            every(letters, "gate", lambda squash, x, h, b, p: squash(x + b + p) + h),
        ),
        (
            "parts_multiplied",
            "You multiply the x part and the h part; add them.",
            every(letters, "gate", lambda squash, x, h, b, p: squash((x + b + p) * h)),
            "keras-team/keras#1231" if letters == "n" else "",
        ),
    ):
        yield Idea(name, letters, says, pieces, *seen_in)
    yield from in_piece(
        "returns",
        "state",
        "return the new one",
        ("state_old", "You return the old state", lambda new, old: (new.h, old)),
    )
    yield from in_piece(
        "returns",
        "h",
        "return the new one",
        ("h_old", "You return the old h as output", lambda new, old: (old.h, new)),
    )


def _h_before_x(params: Any, x: Array, state: Any) -> tuple[Any, Array, Any]:
    kernel = np.concatenate([params.W_x, params.W_h], axis=1)
    hidden = params.b.shape[-1]
    return params._replace(W_h=kernel[:, :hidden], W_x=kernel[:, hidden:]), x, state


def candidate(k: str) -> Iterator[Idea]:
    """Slips in the nonlinearity of the candidate."""
    yield from in_piece(
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


def gated(letters: str) -> Iterator[Idea]:
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
        says = f"{wrong}; the gates {spaced(soft)} are 1 / (1 + exp(-a)) of their sum a."
        yield Idea(name, soft, says, every(soft, "squash", squash))
    last = soft[-1]
    yield Idea(
        f"b_{last}_for_all",
        soft,
        f"Your gates {spaced(soft)} all add b_{last}; each has its own bias.",
        weights(b=taken([letters.index(last if k in soft else k) for k in letters])),
        "ddbourgin/numpy-ml#42" if "i" in soft else "",
    )
    for k in soft:
        yield from in_piece(
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
        (f"no_b_{k}", f"has no bias; add b_{k}", weights(b=scaled(j, 0))),
        (f"b_{k}_twice", f"adds its bias twice; add b_{k} once", weights(b=scaled(j, 2))),
        (f"no_W_h{k}", f"does not see h; add h @ W_h{k}", weights(W_h=scaled(j, 0))),
        (f"no_W_x{k}", f"does not see x; add x @ W_x{k}", weights(W_x=scaled(j, 0))),
    ):
        yield Idea(name, k, f"Your {GATE_NAMES[k]} {wrong}.", pieces)
    for other in letters.replace(k, ""):
        yield Idea(
            f"{k}_reads_{other}",
            k,
            f"Your {GATE_NAMES[k]} uses the weights and the bias of the {GATE_NAMES[other]}; "
            f"it has its own.",
            blocks([letters.index(other if letter == k else letter) for letter in letters]),
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


def orders(letters: str) -> Iterator[Idea]:
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
                f"You take the gates in the order {spaced(gates)}{whose}; "
                f"here it is {spaced(letters)}.",
                blocks(rows),
                _STORED.get(stored, ""),
            )
