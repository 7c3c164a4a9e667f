"""Mistakes that are made not in a cell but around it: with lengths, states and time.

A vector is what a run is given (`golden.vectors`), and ``answer(step, vector)`` what comes out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from ..cells import CELLS
from ..cells._activations import Array
from ..running.by_steps import rows_of

__all__ = ["AROUND", "Around"]

Answer = Callable[[Any, Any], dict[str, Array]]  # (step, vector)
Wrong = Callable[[Any, Answer], dict[str, Array]]  # (vector, answer)


class Around(NamedTuple):
    """A mistake not in a cell but around it."""

    says: str
    answer: Wrong


def _changed(change: Callable[[Any], dict[str, Array]]) -> Wrong:
    """The right run on changed numbers."""

    def wrong(vector: Any, answer: Answer) -> dict[str, Array]:
        changed = vector._replace(given=vector.given | change(vector))
        return answer(CELLS[vector.cell].step, changed)

    return wrong


def _full(vector: Any, answer: Answer) -> dict[str, Array]:
    """What comes out if there are no lengths."""
    batch, time = vector.given["xs"].shape[:2]
    ends = {"lengths": np.full(batch, time)}
    return answer(CELLS[vector.cell].step, vector._replace(given=vector.given | ends))


def _mixed(hs: Wrong, final: Wrong) -> Wrong:
    """Outputs of one run and final states of another."""

    def wrong(vector: Any, answer: Answer) -> dict[str, Array]:
        return final(vector, answer) | {"hs": hs(vector, answer)["hs"]}

    return wrong


def _right(vector: Any, answer: Answer) -> dict[str, Array]:
    return answer(CELLS[vector.cell].step, vector)


def _repeated(vector: Any, answer: Answer) -> dict[str, Array]:
    flat = _right(vector, answer)
    hs = flat["hs"].copy()
    for row, length in enumerate(vector.given["lengths"]):
        if length:
            hs[row, length:] = hs[row, length - 1]
    return flat | {"hs": hs}


def _backwards(vector: Any) -> dict[str, Array]:
    return {"xs": vector.given["xs"][:, ::-1]}


def _zeros(vector: Any) -> dict[str, Array]:
    return {k: np.zeros_like(a) for k, a in vector.given.items() if k.startswith("state/")}


def _swapped(group: str, flat: Mapping[str, Array]) -> dict[str, Array]:
    if f"{group}/c" not in flat:
        return {}
    return {f"{group}/h": flat[f"{group}/c"], f"{group}/c": flat[f"{group}/h"]}


def _swapped_out(vector: Any, answer: Answer) -> dict[str, Array]:
    flat = _right(vector, answer)
    return flat | _swapped("final", flat)


def _reset(vector: Any, answer: Answer) -> dict[str, Array]:
    """Every step from the initial state."""
    state, lengths, xs = vector.state, vector.given["lengths"], vector.given["xs"]
    flat = _right(vector, answer)
    hs = np.zeros_like(flat["hs"])
    for t in range(xs.shape[1]):
        on = lengths > t
        h, _ = CELLS[vector.cell].step(vector.params, xs[on, t], rows_of(state, on))
        hs[on, t] = h
    return flat | {"hs": hs}


AROUND: dict[str, Around] = {
    "lengths_ignored": Around(
        "You run past the lengths; there outputs are 0 and states stay.", _full
    ),
    "outputs_past_the_end": Around(
        "Your outputs go on past the lengths; there they are 0.", _mixed(_full, _right)
    ),
    "outputs_repeated": Around(
        "Past a length you repeat the last output, as Keras does with a mask; it is 0.", _repeated
    ),
    "states_past_the_end": Around(
        "Your final state is that of the last step; it is that of the last valid one.",
        _mixed(_right, _full),
    ),
    "state_ignored": Around("You begin with zeros, not with the state given.", _changed(_zeros)),
    "state_swapped_in": Around(
        "You take the initial state as (c, h), TensorFlow 1's order; here it is (h, c).",
        _changed(lambda vector: _swapped("state", vector.given)),
    ),
    "state_swapped_out": Around(
        "You return the final state as (c, h), TensorFlow 1's order; here it is (h, c).",
        _swapped_out,
    ),
    "state_not_carried": Around(
        "Every step begins with the initial state; it begins with the last one's.", _reset
    ),
    "reversed": Around("You go through time backwards.", _changed(_backwards)),
}
