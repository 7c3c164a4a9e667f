"""Keras 3 (TensorFlow backend) on our weights, and its gradients."""

import importlib
from typing import Any

import numpy as np

from .. import layouts
from ..cells import Cell, check_params, name_of
from ..cells._activations import Array
from ._engine import Call, adapter, need
from ._tensorflow import tf

__all__ = ["backprop", "make", "run"]

keras = need("keras")


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
    kind = {"rnn": "SimpleRNN", "gru": "GRU", "gru_reset_after": "GRU"}.get(name, "LSTM")
    if kind == "GRU":
        options["reset_after"] = name == "gru_reset_after"
    layer = getattr(keras.layers, kind)(hidden, **options)
    layer.build((None, None, input_size))
    layer.set_weights(list(arrays.values()))
    return layer


@adapter(lambda name, cudnn=False: "keras_cudnn" if cudnn else "keras")
def run(call: Call, *, cudnn: bool = False) -> Any:
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
    layer = make(call.cell, call.params)
    if cudnn:
        keras_2: Any = importlib.import_module("tensorflow.python.keras.saving.hdf5_format")
        arrays = list(call.arrays().values())
        layer.set_weights(keras_2.preprocess_weights_for_loading(layer, arrays, "2"))
    hs, *final = layer(call.xs, initial_state=list(call.state), mask=_mask(call))
    return hs, final


@adapter("keras")
def backprop(call: Call) -> Any:
    """TensorFlow's gradients through Keras' layer, brought to our Params.

    Same signature and return as `lstmbook.backprop`.
    """
    layer = make(call.cell, call.params)
    arguments = [keras.ops.convert_to_tensor(array) for array in (call.xs, *call.state)]
    with tf.GradientTape() as tape:
        tape.watch(arguments)
        ends = layer(arguments[0], initial_state=arguments[1:], mask=_mask(call))
    weights = {weight.name: weight.value for weight in layer.weights}
    return weights, tape.gradient(
        ends,
        [*weights.values(), *arguments],
        output_gradients=[tf.constant(d) for d in (call.d_hs, *call.d_state)],
        unconnected_gradients="zero",
    )


def _mask(call: Call) -> Array | None:
    return np.arange(call.xs.shape[1]) < call.lengths[:, None] if call.padded else None
