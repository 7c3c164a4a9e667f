"""PyTorch on our weights: ``nn.RNN``, ``nn.LSTM`` and ``nn.GRU``, and their gradients."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from .. import layouts
from ..cells import Cell, check_params, find, name_of
from ..cells._activations import Array
from ..running.arguments import check_arguments, check_backprop
from ._loop import swap

try:
    import torch
    from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
except ImportError as error:
    raise ImportError(
        f"lstmbook.live.torch needs PyTorch, which cannot be imported here ({error}); "
        "pip install 'lstmbook[torch]' brings it"
    ) from error

__all__ = ["backprop", "make", "run"]

_LAYERS = {"rnn": "RNN", "lstm": "LSTM", "coupled": "LSTM", "gru_reset_after": "GRU"}


def make(cell: Cell | str, params: Any) -> Any:
    """A PyTorch layer, batch first, that carries our weights.

    Parameters
    ----------
    cell : module of `lstmbook.cells` or its name
    params : Params of the cell

    Returns
    -------
    torch.nn.RNN, LSTM or GRU
        For `coupled` an LSTM whose input gate is tied to the forget gate.

    Raises
    ------
    LayoutError
        If PyTorch has no such cell.
    """
    name, params = name_of(cell), check_params(cell, params)
    arrays = layouts.export(name, "torch", params)
    options = {"batch_first": True, "dtype": getattr(torch, params.b.dtype.name)}
    layer = getattr(torch.nn, _LAYERS[name])(*params.W_x.shape[1:], **options)
    layer.load_state_dict({key: torch.from_numpy(array) for key, array in arrays.items()})
    return layer


def run(
    cell: Cell | str,
    params: Any,
    xs: ArrayLike,
    state: Any = None,
    *,
    lengths: ArrayLike | None = None,
    time_major: bool = False,
) -> tuple[Array, Any]:
    """PyTorch's own layer, lengths as a packed sequence; as `lstmbook.run`.

    A packed sequence cannot have the length 0: such a sequence is left out, and keeps its state.
    """
    cell = find(cell)
    params, xs, state, checked = check_arguments(cell, params, xs, state, lengths, time_major)
    xs = swap(xs, time_major)
    with torch.no_grad():
        hs, *final = _forward(make(cell, params), *map(_tensor, (xs, *state)), lengths=checked)
    return swap(hs.numpy(), time_major), cell.State(*(part.numpy() for part in final))


def backprop(
    cell: Cell | str,
    params: Any,
    xs: ArrayLike,
    d_hs: ArrayLike,
    d_state: Any = None,
    *,
    state: Any = None,
    lengths: ArrayLike | None = None,
    time_major: bool = False,
) -> tuple[Any, Array, Any]:
    """PyTorch's own gradients (autograd), brought to our Params; as `lstmbook.backprop`."""
    name, cell = name_of(cell), find(cell)
    params, xs, d_hs, d_final, state, checked = check_backprop(
        cell, params, xs, d_hs, d_state, state, lengths, time_major
    )
    xs, d_hs = swap(xs, time_major), swap(d_hs, time_major)
    layer = make(cell, params)
    arguments = [_tensor(array).requires_grad_() for array in (xs, *state)]
    weights = dict(layer.named_parameters())
    found = torch.autograd.grad(
        _forward(layer, *arguments, lengths=checked),
        [*weights.values(), *arguments],
        [_tensor(d) for d in (d_hs, *d_final)],
        allow_unused=True,  # with no step to make, nothing depends on the weights
        materialize_grads=True,
    )
    gradients = [d.numpy() for d in found]
    d_params = layouts.pull_back(name, "torch", dict(zip(weights, gradients, strict=False)))
    d_xs, *d_first = gradients[len(weights) :]
    return d_params, swap(d_xs, time_major), cell.State(*d_first)


def _tensor(array: Array) -> Any:
    return torch.tensor(array)  # a copy


def _forward(layer: Any, xs: Any, *state: Any, lengths: Array) -> list[Any]:
    """``hs`` and the parts of the final state, batch first."""
    rows = np.flatnonzero(lengths)
    hs = xs.new_zeros(*xs.shape[:2], layer.hidden_size, requires_grad=xs.requires_grad)
    if not len(rows):
        return [hs, *state]
    packed = pack_padded_sequence(
        xs[rows], torch.tensor(lengths[rows].tolist()), batch_first=True, enforce_sorted=False
    )
    first = [part[None, rows] for part in state]
    out, last = layer(packed, tuple(first) if len(first) > 1 else first[0])
    out, _ = pad_packed_sequence(out, batch_first=True, total_length=xs.shape[1])
    rows = torch.from_numpy(rows)
    last = last if len(first) > 1 else [last]
    kept = (part.index_copy(0, rows, new[0]) for part, new in zip(state, last, strict=True))
    return [hs.index_copy(0, rows, out), *kept]
