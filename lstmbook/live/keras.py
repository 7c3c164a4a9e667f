"""Keras 3 (TensorFlow backend) on our weights, and its gradients."""

import importlib
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from .. import layouts
from .. import running as sequence
from ..cells import Cell, check_params, find, name_of
from ..cells._activations import Array
from ..running.arguments import check_arguments, check_backprop
from ._loop import swap
from ._tensorflow import tf
from ._versions import need

need("lstmbook.live.keras needs", "Keras", "keras", "3", "tf")
try:
    import keras
except ImportError as error:
    raise ImportError(
        f"lstmbook.live.keras needs Keras 3, which cannot be imported here ({error}); "
        "pip install 'lstmbook[tf]' brings it"
    ) from error

__all__ = ["backprop", "make", "run"]


def make(cell: Cell | str, params: Any) -> Any:
    """A Keras layer that carries our weights; it returns its sequence and its states.

    Parameters
    ----------
    cell : module of `lstmbook.cells` or its name
    params : Params of the cell

    Returns
    -------
    keras.layers.SimpleRNN, LSTM or GRU
        Built. For `coupled` an LSTM whose input gate is tied to the forget gate.

    Raises
    ------
    LayoutError
        If Keras has no such cell.
    RuntimeError
        If Keras runs on another backend than TensorFlow.
    """
    if keras.backend.backend() != "tensorflow":
        raise RuntimeError(
            f"Keras runs on its backend {keras.backend.backend()!r}, where float64 is not kept; "
            "set KERAS_BACKEND=tensorflow before Keras is first imported"
        )
    name, params = name_of(cell), check_params(cell, params)
    arrays = layouts.export(name, "keras", params)
    input_size, hidden = params.W_x.shape[1:]
    options = {
        "return_sequences": True,
        "return_state": True,
        "zero_output_for_mask": True,  # Keras' own default repeats the last output instead
        "dtype": params.b.dtype.name,
    }
    if name == "rnn":
        layer = keras.layers.SimpleRNN(hidden, **options)
    elif name.startswith("gru"):
        layer = keras.layers.GRU(hidden, reset_after=name == "gru_reset_after", **options)
    else:
        layer = keras.layers.LSTM(hidden, **options)
    layer.build((None, None, input_size))
    layer.set_weights(list(arrays.values()))
    return layer


def run(
    cell: Cell | str,
    params: Any,
    xs: ArrayLike,
    state: Any = None,
    *,
    lengths: ArrayLike | None = None,
    time_major: bool = False,
    cudnn: bool = False,
) -> tuple[Array, Any]:
    """Keras' own layer, lengths as a mask; same signature and return as `lstmbook.run`.

    Parameters
    ----------
    cell, params, xs, state, lengths, time_major : as in `lstmbook.run`
    cudnn : bool
        The layer gets its weights from the arrays of the layout ``keras_cudnn``, by the function
        with which Keras 2 loaded a CuDNN layer's weights into an ordinary one. (CuDNN layers
        themselves need a GPU.)

    Returns
    -------
    hs, state : as in `lstmbook.run`
    """
    cell = find(cell)
    params, xs, state, checked = check_arguments(cell, params, xs, state, lengths, time_major)
    layer = make(cell, params)
    if cudnn:
        keras_2: Any = importlib.import_module("tensorflow.python.keras.saving.hdf5_format")
        arrays = list(layouts.export(cell, "keras_cudnn", params).values())
        layer.set_weights(keras_2.preprocess_weights_for_loading(layer, arrays, "2"))
    if not xs.size:  # TensorFlow raises an error
        return sequence.run(cell, params, xs, state, lengths=lengths, time_major=time_major)
    xs = swap(xs, time_major)  # Keras 3 knows batch first alone
    mask = None if lengths is None else np.arange(xs.shape[1]) < checked[:, None]
    hs, *final = layer(xs, initial_state=list(state), mask=mask)
    return swap(np.asarray(hs), time_major), cell.State(*map(np.asarray, final))


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
    """TensorFlow's gradients through Keras' layer, brought to our Params.

    Same signature and return as `lstmbook.backprop`.
    """
    name, cell = name_of(cell), find(cell)
    params, xs, d_hs, d_final, state, checked = check_backprop(
        cell, params, xs, d_hs, d_state, state, lengths, time_major
    )
    layer = make(cell, params)
    if not xs.size:
        return sequence.backprop(
            cell, params, xs, d_hs, d_final, state=state, lengths=lengths, time_major=time_major
        )
    xs, d_hs = swap(xs, time_major), swap(d_hs, time_major)
    mask = None if lengths is None else np.arange(xs.shape[1]) < checked[:, None]
    arguments = [keras.ops.convert_to_tensor(array) for array in (xs, *state)]
    with tf.GradientTape() as tape:
        tape.watch(arguments)
        ends = layer(arguments[0], initial_state=arguments[1:], mask=mask)
    weights = {weight.name: weight.value for weight in layer.weights}
    found = tape.gradient(
        ends,
        [*weights.values(), *arguments],
        output_gradients=[tf.constant(d) for d in (d_hs, *d_final)],
        unconnected_gradients="zero",
    )
    gradients = [d.numpy() for d in found]
    d_params = layouts.pull_back(name, "keras", dict(zip(weights, gradients, strict=False)))
    d_xs, *d_first = gradients[len(weights) :]
    return d_params, swap(d_xs, time_major), cell.State(*d_first)
