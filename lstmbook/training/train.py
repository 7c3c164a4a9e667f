"""Training: a stack of cells with a linear head, and the loop.

Values in, values out: only `fit` changes its argument, the `Run`. Training batch ``k`` is drawn
from ``numpy.random.default_rng([seed, k])``, so a run is known by its seed and its step, and one
that was stopped goes on exactly as if it had not been.

`lstmbook.training.losses` and `lstmbook.training.adam` hold the rest: three losses, clipping by
global norm, and Adam. Their names are here too.
"""

from __future__ import annotations

import copy
import importlib
import json
import math
import operator
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from .. import running
from ..cells import CELLS, Cell, find
from ..cells._activations import Array
from ..cells._init import glorot
from ..files._whole import replacing
from .adam import Adam, adam_step, clip_by_global_norm, init_adam
from .losses import binary_cross_entropy, mean_squared_error, softmax_cross_entropy
from .progress import Progress

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

Loss = Callable[[Array, ArrayLike, ArrayLike | None], tuple[float, Array]]
FORMAT = "lstmbook.train 1"  # of a file, wherever the module lies


# The model


class Model(NamedTuple):
    """Layers of cells, the outputs of each being the inputs of the next, and a linear head::

        outputs = hs W + b

    ``hs`` are the outputs of the last layer.
    """

    cells: tuple[Cell | str, ...]  # one per layer: a name in `CELLS`, or a cell of your own
    params: tuple[Any, ...]  # the Params of each
    W: Array  # (hidden, output)
    b: Array  # (output,)

    @property
    def _fixed(self) -> tuple[str, ...]:
        """The fields that hold no weights: `lstmbook.training.adam` leaves them."""
        return ("cells",)

    def __copy__(self) -> Model:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Model:
        """Copies of all weights. A cell is a set of functions: it stays itself."""
        return Model(self.cells, *copy.deepcopy(self[1:], memo))

    def __reduce__(self) -> tuple[Any, ...]:
        """For pickle: a module is stored by its name, as a function is, and imported again."""
        cells = (
            _Imported(cell.__name__)
            if isinstance(cell, ModuleType) and sys.modules.get(cell.__name__) is cell
            else cell
            for cell in self.cells
        )
        return Model, (tuple(cells), *self[1:])


class _Imported(NamedTuple):
    """A module in a pickle."""

    name: str

    def __reduce__(self) -> tuple[Any, ...]:
        return importlib.import_module, (self.name,)


def init_model(
    rng: np.random.Generator,
    cells: Cell | str | Sequence[Cell | str],
    input_size: int,
    hidden_size: int,
    output_size: int,
    dtype: DTypeLike = np.float32,
) -> Model:
    """A fresh model: every layer by its cell's ``init``, a Glorot-uniform head, zero bias.

    Parameters
    ----------
    rng : numpy.random.Generator
    cells : a cell, or a sequence of them
        Modules or names; the first layer sees the inputs. The model holds the names of the cells
        of `lstmbook.cells`, and a cell of your own as it is.
    input_size, hidden_size, output_size : int
        All layers have the same hidden size.
    dtype : dtype
        That of all weights and of all that is computed with them.
    """
    layers = tuple(cells) if isinstance(cells, list | tuple) else (cells,)
    if not layers:
        raise ValueError("cells is empty; expected at least one layer, for example 'lstm'")
    sizes = [input_size] + [hidden_size] * (len(layers) - 1)
    params = tuple(
        find(cell).init(rng, size, hidden_size, dtype)
        for cell, size in zip(layers, sizes, strict=True)
    )
    (W,) = glorot(rng, 1, hidden_size, output_size, dtype=dtype)
    return Model(tuple(map(_named, layers)), params, W, np.zeros(output_size, dtype))


def _named(cell: Cell | str) -> Cell | str:
    """The name of a cell of `CELLS`; a cell of the reader's own as it is."""
    module = find(cell)
    return next((name for name, known in CELLS.items() if known is module), module)


def forward(
    model: Model, xs: ArrayLike, state: Any = None, *, lengths: ArrayLike | None = None
) -> tuple[Array, tuple[Any, ...]]:
    """Outputs and final states.

    Parameters
    ----------
    model : Model
    xs : (batch, time, input) array
    state : one State per layer, optional
        The initial states; zeros if not given.
    lengths : (batch,) integers, optional
        As in `lstmbook.run`. Past its length the outputs of a sequence are the head's bias.

    Returns
    -------
    outputs : (batch, time, output) array
    state : tuple of State
        One per layer.
    """
    hs = _checked_inputs(model, xs, state)
    final = []
    for cell, params, first in _layers_of(model, state):
        hs, last = running.run(cell, params, hs, first, lengths=lengths)
        final.append(last)
    return hs @ model.W + model.b, tuple(final)


def gradients(
    model: Model,
    xs: ArrayLike,
    targets: ArrayLike,
    loss: Loss,
    state: Any = None,
    *,
    weights: ArrayLike | None = None,
    lengths: ArrayLike | None = None,
) -> tuple[float, Model, tuple[Any, ...]]:
    """The loss, its gradients at all weights, and the final states.

    Parameters
    ----------
    model, xs, state, lengths : as in `forward`
    targets : array
        What ``loss`` compares the outputs with.
    loss : function
        ``loss(outputs, targets, weights) -> (value, d_outputs)``, for example
        `softmax_cross_entropy`.
    weights : (batch, time) array, optional
        What each step counts; all alike if not given. Past a length ``loss`` is given weights of 0:
        what the targets are there makes no difference to those of `lstmbook.training.losses`.

    Returns
    -------
    value : float
    grads : Model
        The gradient at every array of the model.
    state : tuple of State
        Hand it to the next call for truncated backpropagation through time: no gradient flows
        through it.
    """
    hs = _checked_inputs(model, xs, state)
    if weights is not None and np.shape(weights) != hs.shape[:2]:
        raise ValueError(
            f"weights has shape {np.shape(weights)}; expected (batch, time) = {hs.shape[:2]}"
        )
    final, backs = [], []
    for cell, params, first in _layers_of(model, state):
        hs, last, back = running.vjp(cell, params, hs, first, lengths=lengths)
        final.append(last)
        backs.append(back)
    if lengths is not None:
        alive = np.arange(hs.shape[1]) < np.asarray(lengths)[:, None]
        weights = alive.astype(hs.dtype) if weights is None else np.where(alive, weights, 0)
    value, d_outputs = loss(hs @ model.W + model.b, targets, weights)

    d_hs = d_outputs @ model.W.T
    d_params: list[Any] = []
    for k, back in reversed(list(enumerate(backs))):
        d_layer, d_hs, _ = back(d_hs, inputs=k > 0)
        d_params.insert(0, d_layer)
    dW = np.tensordot(hs, d_outputs, axes=([0, 1], [0, 1]))
    grads = Model(model.cells, tuple(d_params), dW, d_outputs.sum(axis=(0, 1)))
    return value, grads, tuple(final)


def _checked_inputs(model: Model, xs: ArrayLike, state: Any) -> Array:
    """The inputs in the model's precision, whatever the data's."""
    xs = np.asarray(xs)
    layers = len(model.cells)
    if model.W.dtype.kind not in "fc":
        raise TypeError(
            f"model.W has dtype {model.W.dtype}; expected floats, since it is the dtype of all "
            "that is computed"
        )
    if state is not None and len(state) != layers:
        raise ValueError(f"state has {len(state)} parts; expected one State per layer, {layers}")
    return xs.astype(model.W.dtype, copy=False) if xs.dtype.kind == "f" else xs


def _layers_of(model: Model, state: Any) -> Iterator[tuple[Cell | str, Any, Any]]:
    """The cell, the Params and the initial state of every layer."""
    return zip(model.cells, model.params, state or [None] * len(model.cells), strict=True)


# The loop


class Batch(NamedTuple):
    """What a model is trained on in one step; first axis batch, second time."""

    xs: Array  # (batch, time, input)
    targets: Array
    weights: Array | None = None  # (batch, time)
    lengths: Array | None = None  # (batch,) integers
    carry: bool = False  # whether it goes on where the batch before ended: the state is kept


class Score(NamedTuple):
    """How good answers are."""

    loss: float  # the task's own: nats per step, or a squared error
    accuracy: float  # the share of right answers, as the task counts them


@dataclass
class Run:
    """A training run: what is trained, how far it is, and what happened. Made by `start`."""

    model: Model
    optimizer: Adam
    seed: int = 0
    step: int = 0
    state: tuple[Any, ...] | None = None  # after the last batch
    losses: list[float] = field(default_factory=list)  # of each step, before its update
    norms: list[float] = field(default_factory=list)  # of each step's gradient, before clipping
    evaluations: list[tuple[int, Any]] = field(default_factory=list)  # (step, value)
    seconds: float = 0.0


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
                    judged = _stored(evaluate(model), f"what evaluate returned at step {step}")
                    run.evaluations.append((step, _read_json(json.dumps(judged))))
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


def save(path: str | os.PathLike[str], run: Run) -> None:
    """Write all of a run to a ``.npz`` file: the whole file or, if something fails, nothing.

    A cell of `CELLS` is stored by its name there, a cell of your own by its ``__name__`` and as
    your own, whatever that name is: `load` asks for it.

    Raises
    ------
    TypeError, ValueError
        If something cannot be stored: a cell of your own without a name, two of the same name, or
        an evaluation that is none of those that `fit` allows.
    """
    path, done, optimizer = Path(path), run.step, run.optimizer
    header = {
        "format": FORMAT,
        "cells": _stored_cells(run.model.cells),
        "adam": _stored(dict(zip(Adam._fields[2:], optimizer[2:], strict=True)), "run.optimizer"),
        "run": _stored({"seed": run.seed, "step": done, "seconds": run.seconds}, "run"),
        "evaluations": [
            [step, _stored(value, f"the evaluation at step {step}")]
            for step, value in run.evaluations
            if step <= done
        ],
    }
    arrays = {"header": np.array(json.dumps(header)), "losses": np.array(run.losses[:done])}
    arrays["norms"] = np.array(run.norms[:done])
    for kind, model in [("model", run.model), ("m", optimizer.m), ("v", optimizer.v)]:
        arrays |= {f"{kind}/W": model.W, f"{kind}/b": model.b, **_layers(kind, model.params)}
    arrays |= _layers("state", run.state or ())
    with replacing(path) as temporary, open(temporary, "wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]


def load(path: str | os.PathLike[str], cells: Mapping[str, Cell] | None = None) -> Run:
    """The run that `save` wrote. Nothing is unpickled.

    Parameters
    ----------
    path : path
    cells : dict, optional
        Cells of your own by the names that they were saved under, the last part of their
        ``__name__``. A cell that was saved as one of `CELLS` is always that one.

    Raises
    ------
    ValueError
        If the file is not such a run, whole and undamaged, or has a cell that ``cells`` lacks.
    """
    with open(path, "rb") as stream:
        try:
            return _read(stream, cells or {})
        except _CellMissing as error:
            raise ValueError(f"{path} has a cell of your own: {error}") from None
        except Exception as error:  # a damaged file can fail in any way
            raise ValueError(
                f"{path} is no run that lstmbook.training.train saved: {error}"
            ) from error


def _read(stream: BinaryIO, cells: Mapping[str, Cell]) -> Run:
    with np.load(stream, allow_pickle=False) as file:
        arrays = dict(file)
    header = _read_json(str(arrays["header"]))
    if header["format"] != FORMAT:
        raise ValueError(f"its format is {header['format']!r}; expected {FORMAT!r}")
    named = tuple(_find(name, cells) for name in header["cells"])

    def layers(kind: str, which: str) -> tuple[Any, ...]:
        kinds = [getattr(find(cell), which) for cell in named]
        return tuple(
            make(*(arrays[f"{kind}/{k}/{name}"] for name in make._fields))
            for k, make in enumerate(kinds)
        )

    def model(kind: str) -> Model:
        return Model(named, layers(kind, "Params"), arrays[f"{kind}/W"], arrays[f"{kind}/b"])

    return Run(
        model("model"),
        Adam(model("m"), model("v"), **header["adam"]),
        state=layers("state", "State") if "state/0/h" in arrays else None,
        losses=arrays["losses"].tolist(),
        norms=arrays["norms"].tolist(),
        evaluations=[(step, value) for step, value in header["evaluations"]],
        **header["run"],
    )


def _layers(kind: str, layers: Sequence[Any]) -> dict[str, Array]:
    return {
        f"{kind}/{k}/{name}": array
        for k, layer in enumerate(layers)
        for name, array in layer._asdict().items()
    }


def _stored_cells(cells: Sequence[Cell | str]) -> list[Any]:
    """A name for each cell of `CELLS`, ``{"own": name}`` for each other."""
    stored: list[Any] = []
    own: dict[str, Any] = {}
    for cell in map(_named, cells):
        if isinstance(cell, str):
            stored.append(cell)
            continue
        name = str(getattr(cell, "__name__", "")).rpartition(".")[2]
        if not name:
            raise TypeError(
                f"the cell {cell!r} has no __name__; a run is saved with the names of its cells"
            )
        if own.setdefault(name, cell) is not cell:
            raise ValueError(
                f"two cells are called {name!r}; load(path, cells=...) could not tell them apart. "
                "Give one another __name__"
            )
        stored.append({"own": name})
    return stored


class _CellMissing(ValueError):
    """A run is whole, but the caller has to give one of its cells."""


def _find(stored: Any, cells: Mapping[str, Cell]) -> Cell | str:
    if isinstance(stored, str) and stored in CELLS:
        return stored
    name = stored["own"] if isinstance(stored, dict) else stored
    if name in cells:
        return cells[name]
    mend = f"load(path, cells={{{name!r}: ...}}) gives it"
    if isinstance(stored, dict):
        raise _CellMissing(f"cells has no cell {name!r}; {mend}")
    raise ValueError(f"there is no cell {name!r}; {mend}")


_SCORE = "lstmbook.Score"


def _stored(value: Any, what: str) -> Any:
    """A value that JSON holds, a `Score` as a dict of one entry, from which `_read_json` makes it.

    What would come back as something else is refused, but for NumPy's numbers and for tuples.
    """
    if isinstance(value, np.generic) or (isinstance(value, np.ndarray) and value.ndim == 0):
        value = value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Score):
        return {_SCORE: _stored(list(value), what)}
    if isinstance(value, list | tuple) and not hasattr(value, "_fields"):
        return [_stored(part, f"{what}[{k}]") for k, part in enumerate(value)]
    if isinstance(value, dict) and {type(key) for key in value} <= {str} and _SCORE not in value:
        return {key: _stored(part, f"{what}[{key!r}]") for key, part in value.items()}
    mend = ""
    if isinstance(value, np.ndarray):
        mend = ". array.tolist() makes a list"
    elif hasattr(value, "_asdict"):
        mend = f". {type(value).__name__}._asdict makes a dict"
    elif isinstance(value, dict):
        mend = " with strings as keys"
    raise TypeError(
        f"{what} is of type {type(value).__name__}, which cannot be saved; expected numbers, "
        f"strings, None, a Score, or lists and dicts of these{mend}"
    )


def _read_json(text: str) -> Any:
    def with_scores(entry: dict[str, Any]) -> Any:
        return Score(*entry[_SCORE]) if entry.keys() == {_SCORE} else entry

    return json.loads(text, object_hook=with_scores)
