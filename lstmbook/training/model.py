"""A stack of cells with a linear head: its outputs, and the gradients of a loss at its weights."""

from __future__ import annotations

import copy
import importlib
import sys
from collections.abc import Callable, Iterator, Sequence
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from .. import running
from ..cells import CELLS, Cell, find
from ..cells._activations import Array
from ..cells._init import glorot

__all__ = ["Loss", "Model", "forward", "gradients", "init_model"]

Loss = Callable[[Array, ArrayLike, ArrayLike | None], tuple[float, Array]]


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
    return Model(tuple(map(named, layers)), params, W, np.zeros(output_size, dtype))


def named(cell: Cell | str) -> Cell | str:
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
