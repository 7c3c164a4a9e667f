"""Which fits are one function, and what a fit computes."""

from typing import Any

import numpy as np

from ..cells import CELLS
from ..cells._activations import Array
from .hypotheses import params_of
from .judge import Fit
from .predict import predict

__all__ = ["classes_of", "largest_cell_state", "run_fit", "state_of"]


def state_of(cell: str, h: Array, c: Array) -> Any:
    State = CELLS[cell].State
    return State(h, c) if "c" in State._fields else State(h)


def run_fit(fit: Fit, xs: Array, state: tuple[Array, Array]) -> tuple[Array, Array, Array]:
    """All outputs, and the final h and c, of one hypothesis; time first."""
    hs = []
    if fit.slip:
        params, _ = params_of(fit.family, fit.reading, fit.row, fit.forget_bias)
        now = state_of(fit.slip.cell, *state)
        for x in xs:
            h, now = fit.slip.step(params, x, now)
            hs.append(h)
        return np.stack(hs), now.h, getattr(now, "c", state[1])
    biases = np.full(int(fit.row["forget"][0]) + 1, fit.forget_bias)
    h, c = (part[None] for part in state)
    for now in predict(fit.family, fit.reading, fit.row, biases, xs, state):
        h, c = now
        hs.append(h[0])
    return np.stack(hs), h[0], np.broadcast_to(c[0], state[1].shape)


def largest_cell_state(fit: Fit) -> float:
    """``max |c|`` that the pair reached."""
    pair, largest = fit.pair, float(np.abs(fit.pair.state[1]).max())
    biases = np.full(int(fit.row["forget"][0]) + 1, fit.forget_bias)
    states = predict(
        fit.family,
        fit.reading,
        fit.row,
        biases,
        pair.xs,
        pair.state,
        alive=pair.alive,
        forced=pair.hs,
    )
    for _, c in states:
        largest = max(largest, float(np.abs(c).max()))
    return largest


def classes_of(fits: list[Fit], rng: np.random.Generator, precision: str) -> list[list[Fit]]:
    """The fits in classes of equal functions: equal on random inputs of several sizes."""
    bound = {"float16": 1e-2, "float32": 1e-5, "float64": 1e-9}[precision]
    if not fits:
        return []
    steps, batch = 4, 6
    inputs, hidden = fits[0].pair.xs.shape[-1], fits[0].pair.last.shape[-1]
    scale = np.array([0.3, 0.3, 1.0, 1.0, 3.0, 3.0])[:, None]
    size = float(np.sqrt(np.mean(fits[0].pair.xs ** 2))) or 1.0
    xs = size * scale * rng.normal(size=(steps, batch, inputs))
    state = scale * rng.normal(size=(batch, hidden)), scale * rng.normal(size=(batch, hidden))
    weights = rng.normal(size=(steps, batch, hidden))
    classes: list[tuple[tuple[str, str], Array, list[Fit]]] = []
    sums: list[float] = []  # equal functions have equal sums
    for fit in fits:
        key = fit.pair.axes, fit.pair.order
        hs, _, _ = run_fit(fit, xs, state)
        total = float(np.nan_to_num((weights * hs).sum()))
        alike = np.abs(np.array(sums) - total) <= 10 * bound * (1 + np.abs(hs).sum())
        for k in np.flatnonzero(alike):
            other, known, members = classes[k]
            if key == other and _equal(hs, known, bound):
                members.append(fit)
                break
        else:
            classes.append((key, hs, [fit]))
            sums.append(total)
    return [members for _, _, members in classes]


def _equal(a: Array, b: Array, bound: float) -> bool:
    return bool((np.abs(a - b) <= bound * (1 + np.abs(a))).all())
