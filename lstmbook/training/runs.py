"""Training runs: how far one is, and the file that it is saved to and goes on from.

A file is a ``.npz``: the arrays of the model, of Adam and of the state, and a header in JSON.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from ..cells import CELLS, Cell, find
from ..cells._activations import Array
from ..files._whole import replacing
from .adam import Adam
from .model import Model, named

__all__ = ["Run", "Score", "as_saved", "load", "save"]

FORMAT = "lstmbook.train 1"  # of a file, wherever the module lies


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
    layered = tuple(_find(name, cells) for name in header["cells"])

    def layers(kind: str, which: str) -> tuple[Any, ...]:
        kinds = [getattr(find(cell), which) for cell in layered]
        return tuple(
            make(*(arrays[f"{kind}/{k}/{name}"] for name in make._fields))
            for k, make in enumerate(kinds)
        )

    def model(kind: str) -> Model:
        return Model(layered, layers(kind, "Params"), arrays[f"{kind}/W"], arrays[f"{kind}/b"])

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
    names: list[Any] = []
    own: dict[str, Any] = {}
    for cell in map(named, cells):
        if isinstance(cell, str):
            names.append(cell)
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
        names.append({"own": name})
    return names


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


def as_saved(value: Any, what: str) -> Any:
    """A value as a file gives it back, or a TypeError that names ``what`` it is."""
    return _read_json(json.dumps(_stored(value, what)))


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
