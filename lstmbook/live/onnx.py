"""ONNX Runtime on our weights: the operators RNN, LSTM and GRU of ONNX, one direction.

A model of one node is built in memory for each call; nothing is written or fetched. Coupled cells
use ``input_forget=1``, where ONNX keeps the input gate (``f = 1 - i``); the weights are converted.
"""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from .. import layouts
from .. import running as sequence
from ..cells import Cell, find, name_of
from ..cells._activations import Array
from ..layouts.table import ONNX_NODES
from ..running.arguments import check_arguments
from ._loop import swap

try:
    import onnx
    import onnxruntime
except (ImportError, AttributeError) as error:  # AttributeError: an onnx too new for its ml_dtypes
    raise ImportError(
        f"lstmbook.live.onnx needs onnx and onnxruntime, which cannot be imported here ({error}); "
        "pip install 'lstmbook[onnx]' brings them"
    ) from error

__all__ = ["model", "run"]

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
    made = make.make_model(graph, opset_imports=[make.make_opsetid("", _OPSET)], ir_version=8)
    onnx.checker.check_model(made)
    return made


def run(
    cell: Cell | str,
    params: Any,
    xs: ArrayLike,
    state: Any = None,
    *,
    lengths: ArrayLike | None = None,
    time_major: bool = False,
) -> tuple[Array, Any]:
    """ONNX Runtime over a batch; same signature and return as `lstmbook.run`, float32 only.

    Raises
    ------
    TypeError
        For another dtype than float32, which ONNX Runtime's recurrent kernels do not have.
    """
    cell = find(cell)
    params, xs, state, checked = check_arguments(cell, params, xs, state, lengths, time_major)
    if xs.dtype != np.float32:
        raise TypeError(f"ONNX Runtime's recurrent kernels are float32, got {xs.dtype}")
    node = model(cell, params)
    if not xs.size:  # ONNX Runtime ends the process where there is no sequence
        return sequence.run(cell, params, xs, state, lengths=lengths, time_major=time_major)
    xs = swap(xs, not time_major)  # ONNX knows time first alone
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        node.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    feeds = {f"initial_{name}": part[None] for name, part in state._asdict().items()}
    feeds |= {"X": np.ascontiguousarray(xs), "sequence_lens": checked.astype(np.int32)}
    hs, *final = session.run(None, feeds)
    hs, idle = hs[:, 0], checked[:, None] == 0  # where no step is made, ONNX Runtime gives zeros
    kept = (np.where(idle, first, last[0]) for first, last in zip(state, final, strict=True))
    return swap(hs, not time_major), cell.State(*kept)
