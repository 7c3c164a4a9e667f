"""Training: the loop, and the names of all that it needs.

Values in, values out: only `fit` changes its argument, the `Run`. Training batch ``k`` is drawn
from ``numpy.random.default_rng([seed, k])``, so a run is known by its seed and its step, and one
that was stopped goes on exactly as if it had not been.

The model is in `lstmbook.training.model`, a run and its file in `lstmbook.training.runs`; losses,
clipping by global norm and Adam are in `lstmbook.training.losses` and `lstmbook.training.adam`.
"""

from __future__ import annotations

import math
import operator
import os
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ..cells._activations import Array
from .adam import Adam, adam_step, clip_by_global_norm, init_adam
from .losses import binary_cross_entropy, mean_squared_error, softmax_cross_entropy
from .model import Loss, Model, forward, gradients, init_model
from .progress import Progress
from .runs import Run, Score, as_saved, load, save

__all__ = [
    "Adam",
    "Batch",
    "Model",
    "Run",
    "Score",
    "adam_step",
    "binary_cross_entropy",
    "clip_by_global_norm",
    "fit",
    "forward",
    "gradients",
    "init_adam",
    "init_model",
    "load",
    "mean_squared_error",
    "save",
    "softmax_cross_entropy",
    "start",
]


class Batch(NamedTuple):
    """What a model is trained on in one step; first axis batch, second time."""

    xs: Array  # (batch, time, input)
    targets: Array
    weights: Array | None = None  # (batch, time)
    lengths: Array | None = None  # (batch,) integers
    carry: bool = False  # whether it goes on where the batch before ended: the state is kept


def start(model: Model, seed: int = 0, **settings: float) -> Run:
    """A run before its first step; ``settings`` are fields of `Adam`, such as ``learning_rate``."""
    return Run(model, init_adam(model, **settings), operator.index(seed))


def fit(
    run: Run,
    source: Callable[[np.random.Generator, int], Batch],
    loss: Loss,
    steps: int,
    *,
    max_norm: float = 1.0,
    evaluate: Callable[[Model], Any] | None = None,
    every: int = 100,
    path: str | os.PathLike[str] | None = None,
    progress: bool = True,
) -> Run:
    """Train until ``run.step == steps``.

    Parameters
    ----------
    run : Run
        Changed in place. It may have been trained, or loaded, before.
    source : function
        ``source(rng, step) -> Batch`` for the steps 1, 2, …; ``rng`` is
        ``numpy.random.default_rng([run.seed, step])``.
    loss : function
        As in `gradients`.
    steps : int
        The number of steps in all, those taken before included.
    max_norm : float
        For `clip_by_global_norm`; ``math.inf`` for no clipping.
    evaluate : function, optional
        ``evaluate(model) -> value``, every ``every`` steps. A value is a number, a string, None, a
        `Score`, or lists and dicts of these, the keys being strings. ``run.evaluations`` holds it
        as a file gives it back: NumPy's numbers as Python's, a tuple as a list.
    path : path, optional
        Where to `save` the run every ``every`` steps and at the end, also if that comes by Ctrl-C.
        Before the first step too, so that a run that cannot be saved is not begun.
    progress : bool
        Whether to draw a bar on stderr, in a terminal or a notebook.

    Returns
    -------
    Run
        The same object.

    Raises
    ------
    FloatingPointError
        If a loss or a gradient is not finite. The run stands as before that step.
    TypeError
        If ``evaluate`` returns something else. The run stands as before that step.
    TypeError, ValueError, OSError
        If the run cannot be saved.

    Examples
    --------
    >>> from lstmbook.training import tasks
    >>> task = tasks.parity(time=6)
    >>> model = init_model(np.random.default_rng(0), "lstm", 1, 12, 1)
    >>> run = start(model, seed=0, learning_rate=0.03)
    >>> run = fit(run, task.source(size=32), task.loss, steps=200, progress=False)
    >>> tasks.evaluate(run.model, task).accuracy > 0.95
    True
    """
    # What a step that was interrupted left behind.
    del run.losses[run.step :], run.norms[run.step :]
    run.evaluations[:] = [e for e in run.evaluations if e[0] <= run.step]
    if path:
        save(path, run)
    before, began = run.seconds, time.perf_counter()
    try:
        with Progress(steps, progress) as bar:
            for step in range(run.step + 1, steps + 1):
                batch = source(np.random.default_rng([run.seed, step]), step)
                value, grads, state = gradients(
                    run.model,
                    batch.xs,
                    batch.targets,
                    loss,
                    run.state if batch.carry else None,
                    weights=batch.weights,
                    lengths=batch.lengths,
                )
                grads, norm = clip_by_global_norm(grads, max_norm)
                _check_finite(step, value, norm)
                model, optimizer = adam_step(run.optimizer, run.model, grads)

                run.losses.append(float(value))
                run.norms.append(norm)
                if evaluate and step % every == 0:
                    judged = as_saved(evaluate(model), f"what evaluate returned at step {step}")
                    run.evaluations.append((step, judged))
                run.seconds = before + time.perf_counter() - began
                # Without a call between, so Ctrl-C finds all of this done or nothing.
                run.model, run.optimizer, run.state, run.step = model, optimizer, state, step
                if path and step % every == 0:
                    save(path, run)
                bar.update(step, f"loss {value:.4g}")
    finally:
        if path:
            save(path, run)
    return run


def _check_finite(step: int, value: float, norm: float) -> None:
    for name, number in [("loss", value), ("norm of the gradient", norm)]:
        if not math.isfinite(number):
            raise FloatingPointError(
                f"the {name} is {number} at step {step}; the run stands as it was before. A lower "
                "learning_rate or max_norm may help, or inputs of the size of 1"
            )
