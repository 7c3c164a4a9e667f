"""ONNX models, written by the onnx package: recurrent nodes, joined as their layers are."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..cells._activations import Array
from ..layouts.table import ONNX_NODES
from ._base import Layer
from ._stack import Level, chains, exported, stack
from .onnx import library


def write(path: Path, layers: list[Layer], forget_bias: float) -> None:
    """A model of recurrent nodes, each reading what its layer reads.

    Inputs: ``X (time, batch, input)`` of the first node of a chain, ``sequence_lens (batch,)`` and
    the initial states ``initial_h`` and ``initial_c``, ``(directions, batch, hidden)``; outputs:
    ``Y (time, batch, directions * hidden)`` of the last of a chain, ``Y_h`` and ``Y_c``. With
    several nodes, states end in ``_0``, ``_1``; with several chains, ``X`` and ``Y`` do too.
    Numbers are float32, since ONNX Runtime's recurrent kernels are.
    """
    onnx = library("writing an ONNX model")
    levels = stack(layers)
    groups = chains(levels)
    make, kinds = onnx.helper, onnx.TensorProto
    nodes, stored, inputs, outputs = [], [], [], []
    inputs.append(make.make_tensor_value_info("sequence_lens", kinds.INT32, ["batch"]))
    stored.append(onnx.numpy_helper.from_array(np.array([0, 0, -1]), "rows"))

    def value(name: str, shape: list[Any]) -> Any:
        return make.make_tensor_value_info(name, kinds.FLOAT, shape)

    k = 0
    for group in groups:
        side = f"_{k}" if len(groups) > 1 else ""
        x = "X" + side
        inputs.append(value(x, ["time", "batch", group[0].input_size]))
        for level in group:
            end = f"_{k}" if len(levels) > 1 else ""
            k += 1
            weights = _weights(level)
            stored += [onnx.numpy_helper.from_array(a, key + end) for key, a in weights.items()]
            shape = [len(level.layers), "batch", level.hidden_size]
            inputs += [value(f"initial_{part}{end}", shape) for part in level.states]
            outputs += [value(f"Y_{part}{end}", shape) for part in level.states]
            y = "Y" + side if level is group[-1] else f"x{end}"
            nodes += _level_nodes(make, level, x, y, end, weights)
            x = y
        outputs.append(value(x, ["time", "batch", group[-1].output_size]))
    graph = make.make_graph(nodes, "lstmbook", inputs, outputs, stored)
    model = make.make_model(graph, opset_imports=[make.make_opsetid("", 14)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save_model(model, str(path))


def _weights(level: Level) -> dict[str, Array]:
    halves = [exported(half, "onnx") for half in level.layers]
    return {
        key: np.concatenate([half[key] for half in halves]).astype(np.float32) for key in halves[0]
    }


def _level_nodes(
    make: Any, level: Level, x: str, y: str, end: str, weights: Mapping[str, Array]
) -> list[Any]:
    """The recurrent node, and what brings its ``(time, directions, batch, hidden)`` to ``y``."""
    operator, attributes = ONNX_NODES[level.cell]
    direction = "reverse" if level.layers[0].reverse else "forward"
    states = [f"initial_{part}{end}" for part in level.states]
    inputs = [x, f"W{end}", f"R{end}", f"B{end}", "sequence_lens", *states]
    inputs += [f"P{end}"] * ("P" in weights)
    return [
        make.make_node(
            operator,
            inputs,
            [f"all{end}", *(f"Y_{part}{end}" for part in level.states)],
            name=level.name,
            hidden_size=level.hidden_size,
            direction="bidirectional" if level.bidirectional else direction,
            **attributes,
        ),
        make.make_node("Transpose", [f"all{end}"], [f"turned{end}"], perm=[0, 2, 1, 3]),
        make.make_node("Reshape", [f"turned{end}", "rows"], [y]),
    ]
