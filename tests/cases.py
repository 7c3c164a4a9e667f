"""Inputs that can fail: random weights, non-zero biases, random states, all sizes different."""

from types import SimpleNamespace
from typing import NamedTuple

import numpy as np

from lstmbook import CELLS

BATCH, TIME, INPUT, HIDDEN = 4, 6, 3, 5
LENGTHS = [TIME, 0, 2, 5]


class Case(NamedTuple):
    cell: object
    params: object
    xs: np.ndarray  # (batch, time, input)
    state: object


def params_of(cell, rng, input_size=INPUT, hidden=HIDDEN, dtype=np.float64):
    """Kernels of unit gain; biases and peepholes far from zero and from each other."""
    fresh = cell.init(rng, input_size, hidden, np.float64)
    scale = {"W_x": 1 / np.sqrt(input_size), "W_h": 1 / np.sqrt(hidden)}
    return cell.Params(
        *(
            (rng.normal(size=a.shape) * scale.get(name, 0.7)).astype(dtype)
            for name, a in fresh._asdict().items()
        )
    )


def case(
    name,
    *,
    seed=0,
    dtype=np.float64,
    batch=BATCH,
    time=TIME,
    input_size=INPUT,
    hidden=HIDDEN,
    scale=0.7,
):
    """A cell and what to run it on; ``scale`` is that of the inputs and the initial state."""
    cell, rng = CELLS[name], np.random.default_rng([seed, *name.encode()])
    params = params_of(cell, rng, input_size, hidden, dtype)
    xs = (scale * rng.normal(size=(batch, time, input_size))).astype(dtype)
    parts = ((scale * rng.normal(size=(batch, hidden))).astype(dtype) for _ in cell.State._fields)
    return Case(cell, params, xs, cell.State(*parts))


def by_steps(cell, **others):
    """The same cell, whose step no program can say: it runs step by step, by its own functions."""

    def step(params, x, state):
        return cell.step(params, np.asarray(x), state)  # a symbol has no numbers

    return SimpleNamespace(**vars(cell) | {"step": step} | others)
