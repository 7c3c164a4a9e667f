"""PyTorch on our weights: ``nn.RNN``, ``nn.LSTM`` and ``nn.GRU``, and their gradients."""

from typing import Any

import numpy as np

from .. import layouts
from ..cells import Cell, check_params, name_of
from ..cells._activations import Array
from ._engine import Call, adapter, need

__all__ = ["backprop", "make", "run"]

torch = need("torch")

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


@adapter("torch")
def run(call: Call) -> Any:
    """PyTorch's own layer, lengths as a packed sequence; as `lstmbook.run`.

    A packed sequence cannot have the length 0: such a sequence is left out, and keeps its state.
    """
    with torch.no_grad():
        inputs = map(torch.tensor, (call.xs, *call.state))  # copies
        hs, *final = _forward(make(call.cell, call.params), *inputs, lengths=call.lengths)
    return hs, final


@adapter("torch")
def backprop(call: Call) -> Any:
    """PyTorch's own gradients (autograd), brought to our Params; as `lstmbook.backprop`."""
    layer = make(call.cell, call.params)
    inputs = [torch.tensor(array).requires_grad_() for array in (call.xs, *call.state)]
    weights = dict(layer.named_parameters())
    return weights, torch.autograd.grad(
        _forward(layer, *inputs, lengths=call.lengths),
        [*weights.values(), *inputs],
        [torch.tensor(d) for d in (call.d_hs, *call.d_state)],
        allow_unused=True,  # with no step to make, nothing depends on the weights
        materialize_grads=True,
    )


def _forward(layer: Any, xs: Any, *state: Any, lengths: Array) -> list[Any]:
    """``hs`` and the parts of the final state, batch first."""
    rows = np.flatnonzero(lengths)
    hs = xs.new_zeros(*xs.shape[:2], layer.hidden_size, requires_grad=xs.requires_grad)
    if not len(rows):
        return [hs, *state]
    packing = torch.nn.utils.rnn
    packed = packing.pack_padded_sequence(
        xs[rows], torch.tensor(lengths[rows].tolist()), batch_first=True, enforce_sorted=False
    )
    first = [part[None, rows] for part in state]
    out, last = layer(packed, tuple(first) if len(first) > 1 else first[0])
    out, _ = packing.pad_packed_sequence(out, batch_first=True, total_length=xs.shape[1])
    rows = torch.from_numpy(rows)
    last = last if len(first) > 1 else [last]
    kept = (part.index_copy(0, rows, new[0]) for part, new in zip(state, last, strict=True))
    return [hs.index_copy(0, rows, out), *kept]
