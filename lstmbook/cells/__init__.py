"""The recurrent cells: one module each, all with the same names (see `Cell`).

=================== ====================================================== ==============
module              TensorFlow 1 name                                      ``GATES``
=================== ====================================================== ==============
`rnn`               ``BasicRNNCell``                                       ``n``
`lstm`              ``BasicLSTMCell``                                      ``i f g o``
`peephole`          ``LSTMCell(use_peepholes=True)``                       ``i f g o``
`coupled`           ``CoupledInputForgetGateLSTMCell``                     ``f g o``
`coupled_peephole`  ``CoupledInputForgetGateLSTMCell(use_peepholes=True)`` ``f g o``
`gru`               ``GRUCell``                                            ``r z n``
`gru_reset_after`   none (Keras' default, PyTorch's)                       ``r z n``
=================== ====================================================== ==============
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import DTypeLike

from . import coupled, coupled_peephole, gru, gru_reset_after, lstm, peephole, rnn
from ._activations import Array, sigmoid, tanh

__all__ = ["CELLS", "Cell", "check_params", "find", "name_of", "sigmoid", "sizes", "tanh"]


class Cell(Protocol):
    """What every module in ``lstmbook.cells`` has. ``Any`` stands for its own Params and State."""

    GATES: str  # the gate letters, in the order of every gate axis
    Params: Any  # NamedTuple of arrays, gate axis first
    State: Any  # NamedTuple (h) or (h, c), each (batch, hidden)

    def init(
        self,
        rng: np.random.Generator,
        input_size: int,
        hidden_size: int,
        dtype: DTypeLike = np.float32,
    ) -> Any:
        """Fresh Params.

        Raises
        ------
        TypeError, ValueError
            For what is no generator, size or dtype of floats.
        """

    def zero_state(self, params: Any, batch: int) -> Any:
        """The zero State, in the dtype of params."""

    def gates(self, params: Any, x: Array, state: Any) -> tuple[Array, ...]:
        """The activated gates, each ``(batch, hidden)``, in ``GATES`` order."""

    def step(self, params: Any, x: Array, state: Any) -> tuple[Array, Any]:
        """One time step.

        Parameters
        ----------
        params : Params
        x : (batch, input) array
        state : State

        Returns
        -------
        h : (batch, hidden) array
            The output, which is also the new hidden state: it is the array ``state.h`` itself, so
            what is written into one is written into the other.
        state : State
            The new state. All is in the dtype of the arguments, and none of them is changed.
        """

    def step_vjp(self, params: Any, x: Array, state: Any, d_state: Any) -> tuple[Any, Array, Any]:
        """One step back: the vector-Jacobian product of ``step``.

        Parameters
        ----------
        params, x, state : as in ``step``
        d_state : State
            The gradient of the loss at the new state. The output is the new ``h``, so a gradient
            at the output is added to ``d_state.h``.

        Returns
        -------
        d_params : Params
        d_x : (batch, input) array
        d_state : State
            The gradient at the old state.
        """


CELLS: dict[str, Cell] = {
    "rnn": rnn,
    "lstm": lstm,
    "peephole": peephole,
    "coupled": coupled,
    "coupled_peephole": coupled_peephole,
    "gru": gru,
    "gru_reset_after": gru_reset_after,
}


def find(cell: Cell | str) -> Cell:
    """The cell module for a module or its name.

    Raises
    ------
    ValueError
        For a name that is not in `CELLS`.
    TypeError
        For something that is no cell at all.
    """
    if isinstance(cell, str):
        if cell not in CELLS:
            raise ValueError(f"there is no cell {cell!r}; the cells are {', '.join(CELLS)}")
        return CELLS[cell]
    missing = [
        name
        for name in ("GATES", "Params", "State", "zero_state", "gates", "step")
        if not hasattr(cell, name)
    ]
    if missing:
        raise TypeError(
            f"expected a cell module or its name ({', '.join(CELLS)}), got {cell!r}, "
            f"which has no {', '.join(missing)}"
        )
    return cell


def name_of(cell: Cell | str) -> str:
    """The name in `CELLS` of a cell given as module or name."""
    module = find(cell)
    for name, known in CELLS.items():
        if known is module:
            return name
    raise ValueError(f"{cell!r} is not one of the cells {', '.join(CELLS)}")


def check_params(cell: Cell | str, params: Any) -> Any:
    """Params of the cell as arrays, after a check of their cell, names, shapes and dtypes.

    Raises
    ------
    TypeError, ValueError
        Saying what was got, what is expected and, where it can be told, what is the matter.
    """
    module = find(cell)
    label = _label(module)
    fields = module.Params._fields
    got = getattr(params, "_fields", None)
    others = [
        name
        for name, known in CELLS.items()
        if isinstance(params, known.Params) and not issubclass(module.Params, known.Params)
    ]
    if got != fields or others:
        what = f"Params({', '.join(got)})" if got else type(params).__name__
        mend = ""
        if others:
            what += f" of {others[0]}"
            if got == fields and len(CELLS[others[0]].GATES) == len(module.GATES):
                mend = f"; {label}.Params(*params) takes these numbers for {label}"
        raise TypeError(f"{label} needs Params({', '.join(fields)}), got {what}{mend}")
    params = module.Params(*map(np.asarray, params))
    for field, array in zip(fields, params, strict=True):
        if array.dtype.kind not in "fc":
            raise TypeError(
                f"params.{field} has dtype {array.dtype}; weights must be floats, "
                f"for example params.{field}.astype(np.float32)"
            )
    if any(issubclass(module.Params, known.Params) for known in CELLS.values()):
        _check_shapes(module, params)  # another cell says itself what fits
    return params


_AXES = {
    "W_x": ("gates", "input", "hidden"),
    "W_h": ("gates", "hidden", "hidden"),
    "b": ("gates", "hidden"),
    "p": ("peepholes", "hidden"),
    "b_hn": ("hidden",),
}


def _check_shapes(module: Any, params: Any) -> None:
    """Of Params as the cells here have them."""
    label = _label(module)
    if params.W_x.ndim != 3:
        raise ValueError(
            f"params.W_x has shape {params.W_x.shape}; expected (gates, input, hidden) = "
            f"({len(module.GATES)}, input, hidden)"
        )
    if not all(params.W_x.shape[1:]):
        raise ValueError(
            f"params.W_x has shape {params.W_x.shape}; expected (gates, input, hidden) with an "
            "input and a hidden size of at least 1"
        )
    sizes = {"gates": len(module.GATES), "peepholes": len(getattr(module, "PEEPHOLES", ""))}
    sizes["input"], sizes["hidden"] = params.W_x.shape[1:]
    for field, array in params._asdict().items():
        expected = tuple(sizes[axis] for axis in _AXES[field])
        if array.shape != expected:
            raise ValueError(
                f"params.{field} has shape {array.shape}; {label} with gates "
                f"{' '.join(module.GATES)} needs ({', '.join(_AXES[field])}) = {expected}"
            )


def sizes(cell: Cell, params: Any) -> tuple[int | None, int]:
    """The number of inputs, None where the names of the weights do not tell, and of outputs."""
    W_x = getattr(params, "W_x", None)
    if type(params) in _PARAMS:
        hidden = params.b.shape[-1]
    else:
        hidden = cell.zero_state(params, 1)[0].shape[-1]
    return None if W_x is None or W_x.ndim < 2 else int(W_x.shape[-2]), int(hidden)


_PARAMS = {cell.Params for cell in CELLS.values()}


def _label(module: Any) -> str:
    return str(getattr(module, "__name__", "this cell")).rpartition(".")[2]
