"""TensorFlow Lite's LSTM kernel on our weights: plain, with peepholes, coupled, and both.

The kernel couples the gates itself (``i = 1 - f``) when a model leaves out the input gate's
tensors. A model of one operation is built in memory for each call; nothing is written or fetched.
"""

import importlib
from typing import Any

import numpy as np

from ..cells._activations import Array
from ._engine import Call, adapter
from ._tensorflow import quiet

__all__ = ["run"]

# The kernel's 24 inputs, in its order. Those that a model does not have are -1.
_INPUTS = (
    "x",
    *(f"input_to_{gate}_weights" for gate in ("input", "forget", "cell", "output")),
    *(f"recurrent_to_{gate}_weights" for gate in ("input", "forget", "cell", "output")),
    *(f"cell_to_{gate}_weights" for gate in ("input", "forget", "output")),
    *(f"{gate}_gate_bias" for gate in ("input", "forget", "cell", "output")),
    "projection_weights",
    "projection_bias",
    "h",
    "c",
    *(f"{gate}_layer_norm" for gate in ("input", "forget", "cell", "output")),
)


@adapter("tflite")
def run(call: Call) -> Any:
    """TensorFlow Lite's kernel over a batch; same signature and return as `lstmbook.run`.

    The kernel is float32 and knows no lengths: sequences of one length go through it together.

    Raises
    ------
    LayoutError
        For a cell that the kernel cannot compute.
    TypeError
        For another dtype than float32.
    """
    arrays, state = call.arrays(), call.state
    hs = np.zeros((*call.xs.shape[:2], state.h.shape[1]), np.float32)
    final = [part.copy() for part in state]
    for length in np.unique(call.lengths[call.lengths > 0]):
        rows = np.flatnonzero(call.lengths == length)
        first = {name: part[rows] for name, part in state._asdict().items()}
        hs[rows, :length], *last = _invoke(arrays, call.xs[rows, :length], first)
        for part, new in zip(final, last, strict=True):
            part[rows] = new
    return hs, final


def _invoke(arrays: dict[str, Array], xs: Array, state: dict[str, Array]) -> tuple[Array, ...]:
    """``hs, h, c`` of the kernel for a batch of sequences of one length."""
    with quiet():
        lite: Any = importlib.import_module("tensorflow.lite.python.interpreter")
        interpreter = lite.Interpreter(
            model_content=_model(arrays, xs.shape, state["h"].shape),
            experimental_op_resolver_type=lite.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        )
    interpreter.allocate_tensors()
    interpreter.reset_all_variables()
    index = {tensor["name"]: tensor["index"] for tensor in interpreter.get_tensor_details()}
    for name, value in {"x": xs, **state}.items():
        interpreter.set_tensor(index[name], np.ascontiguousarray(value))
    interpreter.invoke()
    return tuple(interpreter.get_tensor(index[name]) for name in ("hs", "h", "c"))


def _model(
    arrays: dict[str, Array], xs_shape: tuple[int, ...], state_shape: tuple[int, ...]
) -> bytes:
    """A model file of one UNIDIRECTIONAL_SEQUENCE_LSTM: x in, hs out, h and c its variables."""
    schema: Any = importlib.import_module("tensorflow.lite.python.schema_py_generated")
    flatbuffers: Any = importlib.import_module("flatbuffers")
    graph, model = schema.SubGraphT(), schema.ModelT()
    graph.tensors, model.buffers = [], [schema.BufferT()]

    def tensor(name: str, shape: tuple[int, ...], value: Array | None = None) -> int:
        t = schema.TensorT()
        t.name, t.shape, t.type = name, list(shape), schema.TensorType.FLOAT32
        t.buffer, t.isVariable = 0, name in ("h", "c")
        if value is not None:
            t.buffer = len(model.buffers)
            model.buffers.append(schema.BufferT())
            model.buffers[-1].data = np.frombuffer(value.astype("<f4").tobytes(), np.uint8)
        graph.tensors.append(t)
        return len(graph.tensors) - 1

    places = {name: tensor(name, array.shape, array) for name, array in arrays.items()}
    places |= {"h": tensor("h", state_shape), "c": tensor("c", state_shape)}
    places["x"] = tensor("x", xs_shape)
    operator = schema.OperatorT()
    operator.inputs = [places.get(name, -1) for name in _INPUTS]
    operator.outputs = [tensor("hs", (*xs_shape[:2], state_shape[1]))]
    operator.builtinOptionsType = schema.BuiltinOptions.UnidirectionalSequenceLSTMOptions
    operator.builtinOptions = schema.UnidirectionalSequenceLSTMOptionsT()
    operator.builtinOptions.fusedActivationFunction = schema.ActivationFunctionType.TANH
    code = schema.OperatorCodeT()
    code.builtinCode = schema.BuiltinOperator.UNIDIRECTIONAL_SEQUENCE_LSTM
    code.deprecatedBuiltinCode, code.version = code.builtinCode, 1
    graph.inputs, graph.outputs, graph.operators = [places["x"]], operator.outputs, [operator]
    model.version, model.operatorCodes, model.subgraphs = 3, [code], [graph]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())
