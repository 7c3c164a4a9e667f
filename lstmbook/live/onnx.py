"""ONNX Runtime on our weights: the operators RNN, LSTM and GRU of ONNX, one direction.

A model of one node is built in memory for each call; nothing is written or fetched. Coupled cells
use ``input_forget=1``, where ONNX keeps the input gate (``f = 1 - i``); the weights are converted.
"""

from typing import Any

import numpy as np

from .. import layouts
from ..cells import Cell, find, name_of
from ..layouts.table import ONNX_NODES
from ._engine import Call, adapter, need

__all__ = ["model", "run"]

onnx, onnxruntime = need("onnx"), need("onnxruntime")

_OPSET = 14


def model(cell: Cell | str, params: Any) -> Any:
    """An ONNX model of one node that carries our weights.

    Its inputs are ``X (time, batch, input)``, ``sequence_lens (batch,)`` and the initial states
    ``initial_h`` and ``initial_c``, ``(1, batch, hidden)``; its outputs ``Y``, ``Y_h``, ``Y_c``.

    Parameters
    ----------
    cell : module of `lstmbook.cells` or its name
    params : Params of the cell

    Returns
    -------
    onnx.ModelProto
    """
    name = name_of(cell)
    arrays = layouts.export(name, "onnx", params)
    operator, attributes = ONNX_NODES[name]
    hidden = params.b.shape[-1]
    parts = find(cell).State._fields
    states = [f"initial_{part}" for part in parts]
    inputs = ["X", "W", "R", "B", "sequence_lens", *states]
    if "P" in arrays:
        inputs.append("P")
    outputs = {"Y": ["time", 1, "batch", hidden]}
    outputs |= {f"Y_{part}": [1, "batch", hidden] for part in parts}
    make, kinds = onnx.helper, onnx.TensorProto
    number = make.np_dtype_to_tensor_dtype(params.b.dtype)
    node = make.make_node(operator, inputs, list(outputs), hidden_size=hidden, **attributes)
    graph = make.make_graph(
        [node],
        name,
        [
            make.make_tensor_value_info("X", number, ["time", "batch", params.W_x.shape[1]]),
            make.make_tensor_value_info("sequence_lens", kinds.INT32, ["batch"]),
            *(make.make_tensor_value_info(s, number, [1, "batch", hidden]) for s in states),
        ],
        [make.make_tensor_value_info(key, number, shape) for key, shape in outputs.items()],
        [onnx.numpy_helper.from_array(array, key) for key, array in arrays.items()],
    )
    onnx_model = make.make_model(graph, opset_imports=[make.make_opsetid("", _OPSET)], ir_version=8)
    onnx.checker.check_model(onnx_model)
    return onnx_model


@adapter("onnx", time_first=True)
def run(call: Call) -> Any:
    """ONNX Runtime over a batch; same signature and return as `lstmbook.run`, float32 only.

    Raises
    ------
    TypeError
        For another dtype than float32, which ONNX Runtime's recurrent kernels do not have.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        model(call.cell, call.params).SerializeToString(), options, ["CPUExecutionProvider"]
    )
    feeds = {f"initial_{name}": part[None] for name, part in call.state._asdict().items()}
    feeds |= {"X": call.xs, "sequence_lens": call.lengths.astype(np.int32)}
    hs, *final = session.run(None, feeds)
    idle = call.lengths[:, None] == 0  # where no step is made, ONNX Runtime gives zeros
    kept = zip(call.state, final, strict=True)
    return hs[:, 0], [np.where(idle, first, last[0]) for first, last in kept]
