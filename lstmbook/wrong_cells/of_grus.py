"""Slips of the GRUs and of the simple RNN: in h and in the recurrent part of the candidate."""

from collections.abc import Iterator
from typing import Any

from .ideas import Idea, in_piece


def rnns() -> Iterator[Idea]:
    """Slips in ``h = n``."""
    yield from in_piece(
        "mix",
        "h",
        "the new h is n alone",
        ("residual", "You add the new h to the old one", lambda n, h: h + n),
        ("average", "You mix the new h with the old one", lambda n, h: (h + n) / 2),
    )


def grus() -> Iterator[Idea]:
    """Slips in the blend."""
    yield from in_piece(
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


def resets(after: bool) -> Iterator[Idea]:
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
    yield from in_piece(
        "candidate", "n", f"the recurrent part of the candidate n is {right}", *rows
    )
