"""TensorFlow's v1 cells on our weights: eager cell calls, ``dynamic_rnn`` and its gradients.

``rnn_cell`` is the module that ``tf.nn.rnn_cell`` was in TensorFlow 1. Importing it here works
whether or not TensorFlow was imported before, with and without ``tf_keras``.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from .. import layouts
from ..cells import Cell, check_params, find, name_of
from ..cells._activations import Array
from ..layouts import LAYOUTS
from ..running.arguments import check_arguments
from ._engine import Call, adapter
from ._tensorflow import find_rnn_cell, quiet, tf

__all__ = ["backprop", "make", "rnn_cell", "run", "step"]

rnn_cell = find_rnn_cell()

_CLASSES = {"rnn": "BasicRNNCell", "lstm": "BasicLSTMCell", "gru": "GRUCell"}
# All others are an LSTMCell. Coupled cells went with tf.contrib; an LSTMCell whose input gate is
# tied to -f is the same.


def make(cell: Cell | str, params: Any, *, forget_bias: float = 1.0) -> Any:
    """A cell object of TensorFlow that carries our weights.

    Parameters
    ----------
    cell : module of `lstmbook.cells` or its name
    params : Params of the cell
    forget_bias : float
        The cell's own ``forget_bias``. Its stored bias is made so that the sum is ours.

    Returns
    -------
    BasicRNNCell, BasicLSTMCell, LSTMCell or GRUCell
        Built. For a coupled cell an ``LSTMCell`` with tied gates.

    Raises
    ------
    LayoutError
        If TensorFlow 1 has no such cell.
    """
    return _make(cell, check_params(cell, params), forget_bias)[0]


def step(
    cell: Cell | str, params: Any, x: Array, state: Any, *, forget_bias: float = 1.0
) -> tuple[Array, Any]:
    """One call ``cell(x, state)`` of TensorFlow's cell; the same as ``cell.step`` of ours.

    Parameters
    ----------
    cell, params, forget_bias : as in `make`
    x : (batch, input) array
    state : State

    Returns
    -------
    h : (batch, hidden) array
    state : State
    """
    cell = find(cell)
    params, xs, state, _ = check_arguments(cell, params, np.asarray(x)[None], state, None, True)

    def compute() -> tuple[Any, list[Any]]:
        theirs, assigned = _make(cell, params, forget_bias)
        h, new = theirs(tf.constant(xs[0]), _to_tf(state))
        return (h, new), assigned

    h, new = _evaluate(compute)
    return h, _from_tf(cell, new)


def _layout(name: str, tied: bool | None = None, **_: Any) -> str:
    if name in LAYOUTS["tf1_tied"].cells:
        return "tf1_tied"
    if tied is not None:
        raise ValueError(f"tied concerns coupled and coupled_peephole; the cell is {name}")
    return "tf1"


@adapter(_layout, time_first=True)
def run(call: Call, *, forget_bias: float = 1.0, tied: bool | None = None) -> Any:
    """``tf.compat.v1.nn.dynamic_rnn`` over TensorFlow's own cell; same signature as `lstmbook.run`.

    Parameters
    ----------
    cell, params, xs, state, lengths, time_major : as in `lstmbook.run`
    forget_bias : float
        The cell's own ``forget_bias``; the result does not depend on it but for rounding.
    tied : bool, optional
        For the coupled cells, which no v1 class computes any more. False: TensorFlow Lite's
        kernel, which couples the gates itself (float32 only). True: an ``LSTMCell`` with tied
        gates. Default: the kernel for float32, tied for float64.

    Returns
    -------
    hs, state : as in `lstmbook.run`
    """
    tied = call.xs.dtype != np.float32 if tied is None else tied
    if call.layout == "tf1_tied" and not tied:
        from . import tflite

        lengths = call.lengths if call.padded else None
        asked = call.cell, call.params, call.xs, call.state
        return tflite.run(*asked, lengths=lengths, time_major=True)

    def compute() -> tuple[Any, list[Any]]:
        theirs, assigned = _make(call.cell, call.params, forget_bias)
        hs, final = _dynamic_rnn(theirs, call, tf.constant(call.xs), call.state)
        return (hs, final), assigned

    hs, final = _evaluate(compute)
    return hs, _from_tf(call.cell, final)


@adapter(_layout, time_first=True)
def backprop(call: Call, *, forget_bias: float = 1.0) -> Any:
    """TensorFlow's own gradients through ``dynamic_rnn``, brought to our Params.

    The loss is ``sum(d_hs * hs) + sum(d_state * final state)``. Coupled cells are tied.

    Parameters
    ----------
    cell, params, xs, state, lengths, time_major, forget_bias : as in `run`
    d_hs : array shaped as ``hs``
        The gradient of the loss at the outputs.
    d_state : State, optional
        The gradient of the loss at the final state; zero if not given.

    Returns
    -------
    d_params : Params
    d_xs : array shaped as ``xs``
    d_state : State
        The gradient at the initial state.
    """
    keys = [stored.name for stored in layouts.describe(call.name, call.layout)]

    def compute() -> tuple[Any, list[Any]]:
        theirs, assigned = _make(call.cell, call.params, forget_bias)
        x, *first = map(tf.constant, (call.xs, *call.state))
        with tf.GradientTape() as tape:
            tape.watch([x, *first])
            hs, final = _dynamic_rnn(theirs, call, x, call.cell.State(*first))
            loss = tf.reduce_sum(hs * call.d_hs)
            for part, d_part in zip(_from_tf(call.cell, final), call.d_state, strict=True):
                loss += tf.reduce_sum(part * d_part)
        gradient = tape.gradient if tf.executing_eagerly() else tf.gradients
        wanted = [*_variables(theirs, keys).values(), x, *first]
        return gradient(loss, wanted, unconnected_gradients="zero"), assigned

    return keys, _evaluate(compute)


def _dynamic_rnn(theirs: Any, call: Call, xs: Any, state: Any) -> Any:
    """Over the inputs of a call, time first."""
    return tf.compat.v1.nn.dynamic_rnn(
        theirs,
        xs,
        sequence_length=call.lengths if call.padded else None,
        initial_state=_to_tf(state),
        time_major=True,
    )


def _make(cell: Cell | str, params: Any, forget_bias: float) -> tuple[Any, list[Any]]:
    """The built cell and what assigned its variables."""
    name = name_of(cell)
    arrays = layouts.export(name, _layout(name), params, forget_bias=forget_bias)
    input_size, hidden = params.W_x.shape[1:]
    options = {"forget_bias": forget_bias} if "c" in find(cell).State._fields else {}
    if "p" in params._fields:
        options["use_peepholes"] = True
    with quiet():
        make_cell = getattr(rnn_cell, _CLASSES.get(name, "LSTMCell"))
        theirs = make_cell(hidden, dtype=params.b.dtype, **options)
        theirs.build((None, input_size))
    variables = _variables(theirs, list(arrays))
    return theirs, [variables[key].assign(array) for key, array in arrays.items()]


def _variables(theirs: Any, keys: list[str]) -> dict[str, Any]:
    """The cell's variables by their names below its scope."""
    return {
        key: next(v for v in theirs.variables if f"/{v.name}".endswith(f"/{key}:0")) for key in keys
    }


def _to_tf(state: Any) -> Any:
    """Our State as TensorFlow's: ``h`` alone, or its tuple ``(c, h)``."""
    parts = {name: tf.convert_to_tensor(part) for name, part in state._asdict().items()}
    return rnn_cell.LSTMStateTuple(**parts) if "c" in parts else parts["h"]


def _from_tf(cell: Cell, state: Any) -> Any:
    return cell.State(h=state.h, c=state.c) if len(cell.State._fields) == 2 else cell.State(state)


def _evaluate(compute: Callable[[], tuple[Any, list[Any]]]) -> Any:
    """``compute()`` in NumPy: eagerly, or in a session of its own where eager mode is off."""
    with quiet():
        if tf.executing_eagerly():
            return tf.nest.map_structure(lambda tensor: tensor.numpy(), compute()[0])
        with tf.Graph().as_default(), tf.compat.v1.Session() as session:
            tensors, assigned = compute()
            session.run(assigned)
            return session.run(tensors)
