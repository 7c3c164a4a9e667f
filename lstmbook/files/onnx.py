"""ONNX models: every RNN, LSTM and GRU node, in subgraphs and functions too."""

from __future__ import annotations

import importlib
import math
from collections.abc import Mapping, Set
from typing import Any

import numpy as np

from ..cells._activations import Array
from ._base import (
    Aside,
    FileError,
    Layer,
    Request,
    assume,
    floats,
    make,
    need,
    refuse,
    unused,
    with_start,
)
from ._onnx_graph import MOVES, Inputs, Scope, Source, is_quantised, nodes_of
from ._torch_names import torch_layers

_INPUTS = ("X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P")
_DEFAULTS = {
    "RNN": ["tanh"],
    "LSTM": ["sigmoid", "tanh", "tanh"],
    "GRU": ["sigmoid", "tanh"],
}
_DEPTH = 64  # of graphs within graphs, and of nodes behind nodes
_WIDTHS = {"FLOAT": 4, "DOUBLE": 8, "FLOAT16": 2, "BFLOAT16": 2, "INT64": 8, "INT32": 4}
_WIDTHS |= {"INT8": 1, "UINT8": 1, "INT16": 2, "UINT16": 2}
# Nodes that are worked out where all that they read is stored: the weights of a quantised model
_ARITHMETIC = ("DequantizeLinear", "Mul", "Add", "Sub", "Div", "Neg", "Sqrt")


def read(request: Request) -> tuple[list[Layer], list[Aside]]:
    """All recurrent nodes of an ONNX model; a bidirectional node is two layers."""
    onnx = library("reading an ONNX model")
    request.fit(request.path.stat().st_size, "the file")
    try:
        model = onnx.load_model(str(request.path), format="protobuf", load_external_data=False)
    except Exception as error:  # protobuf's own errors differ from release to release
        raise FileError(request.path, f"is no ONNX model, or a damaged one: {error}") from error
    if not model.HasField("graph"):
        raise FileError(request.path, "is no ONNX model: it has no graph")
    reader = _Reader(request, onnx, model)
    bodies = [("", model.graph), *((f"{f.name}/", f) for f in model.functions)]
    operators = set()
    for path, body in bodies:
        for name, node, scope in nodes_of(body, path, Scope({}, {}, {}, {}, {}), 0):
            operators.add(node.op_type)
            reader.take(name, node, scope)
    reader.join()
    if not reader.layers:
        reader.by_name(model.graph, operators)
    return reader.layers, reader.aside


def library(what: str) -> Any:
    """The onnx package; the error says ``what`` needs it."""
    try:
        return importlib.import_module("onnx")
    except (ImportError, AttributeError) as error:  # AttributeError: beside an older ml_dtypes
        raise need("onnx", "files", what) from error


class _Reader:
    """Collects layers; keeps count of the bytes taken and of the names given."""

    def __init__(self, request: Request, onnx: Any, model: Any) -> None:
        self.request, self.onnx, self.model = request, onnx, model
        self.opsets = {x.domain: x.version for x in model.opset_import}
        self.layers: list[Layer] = []
        self.aside: list[Aside] = []
        self.taken = 0
        self.names: set[str] = set()
        self.nodes: list[tuple[Any, Scope, bool]] = []  # of every layer

    def take(self, name: str, node: Any, scope: Scope) -> None:
        """Add the layers of a node, if it is a recurrent one."""
        standard = node.domain in ("", "ai.onnx")
        if not standard or node.op_type not in _DEFAULTS:
            if node.op_type in ("DynamicQuantizeLSTM", "AttnLSTM", "QLinearLSTM"):
                why = f"{node.domain}.{node.op_type}, which no cell here computes"
                self.layers.append(refuse(name, "onnx", why))
                self.nodes.append((node, scope, False))
            return
        name = unused(name, self.names)
        if name in self.request.cells and self.request.cells[name] is None:
            self.aside.append(Aside(name, "left aside, as asked for"))
            return
        attributes = {a.name: self.onnx.helper.get_attribute_value(a) for a in node.attribute}
        direction = _text(attributes.get("direction", "forward"))
        sides = {"forward": [False], "reverse": [True], "bidirectional": [False, True]}
        if direction not in sides:
            raise FileError(self.request.path, f"{name} has the direction {direction!r}")
        inputs = {key: value for key, value in zip(_INPUTS, node.input, strict=False) if value}
        ends = ["", "/reverse"] if direction == "bidirectional" else [""]
        batch_first = bool(attributes.get("layout", 0))
        arrays: dict[str, Array] = {}
        trouble = ""
        for key in ("W", "R", "B", "P"):
            if key in inputs:
                value = self._weights(inputs[key], scope)
                if isinstance(value, str):
                    trouble = trouble or f"{key} {value}"
                else:
                    arrays[key] = value
        quantised = [key for key in arrays if is_quantised(inputs[key], scope)]
        note = f"{' and '.join(quantised)} from quantised numbers" if quantised else ""
        rows = arrays["R"].shape[-1] if "R" in arrays else 0
        if node.output:
            names = tuple(name + end for end in ends)
            scope.sources[node.output[0]] = Source(names, rows, batch_first)
        scope.words.update(dict.fromkeys(node.output[1:], f"the final state of {name}"))
        for k, (reverse, end) in enumerate(zip(sides[direction], ends, strict=True)):
            label = name + end
            self.nodes.append((node, scope, batch_first))
            why = trouble or _cannot(node.op_type, attributes, k)
            if why:
                self.layers.append(refuse(label, "onnx", f"{node.op_type}: {why}", reverse=reverse))
                continue
            one = {key: array[k : k + 1] for key, array in arrays.items()}
            cell = _cell(node.op_type, attributes, arrays)
            self.layers.append(make(label, cell, "onnx", one, reverse=reverse, note=note))

    def join(self) -> None:
        """Give each layer what it reads, and a word on its initial state: the graph says it."""
        inputs = Inputs(self.onnx, self.model)
        for k, (node, scope, batch_first) in enumerate(self.nodes):
            reads, between = inputs.of(node.input[0], scope, batch_first)
            starts = [value for value in node.input[5:7] if value]
            words = inputs.words(starts, scope)
            stored = any(map(self._is_stored, inputs.stored(starts, scope)))
            if reads and (words or stored):  # a chain in a target begins with zeros
                begin = words or "numbers of the file"
                reads, between = (), f"{' and '.join(reads)}, and has {begin} as initial state"
            layer = with_start(self.layers[k]._replace(reads=reads, between=between), words)
            if stored:
                what = "begins with zeros: the initial state in the file is left out"
                layer = assume(layer, what)
            self.layers[k] = layer

    def _is_stored(self, tensor: Any) -> bool:
        """Whether a tensor behind an initial state has numbers other than zero."""
        array = self._stored(tensor.name, tensor)
        return not isinstance(array, str) and array.dtype.kind == "f" and bool(array.any())

    def by_name(self, graph: Any, operators: Set[str]) -> None:
        """A model without recurrent nodes may be one cell step in plain ones: names may tell."""
        tensors = {tensor.name: tensor for tensor in graph.initializer}
        shapes = {name: tuple(tensor.dims) for name, tensor in tensors.items()}
        layers, _ = torch_layers(self.request, shapes, lambda name: self._array(tensors[name]))
        why = "the model has no recurrent node: told by the names of its arrays"
        for layer in layers:
            needed = {"Tanh"} if layer.cell == "rnn" else {"Tanh", "Sigmoid"}
            missing = ", ".join(sorted(needed - operators))
            if layer.cell and missing:
                names = (
                    f"the names of its arrays are those of {layer.cell}, but it has no {missing}"
                )
                layer = refuse(layer.name, "torch", f"the model has no recurrent node: {names}")
            elif layer.name not in self.request.cells:
                layer = assume(layer, why)
            self.layers.append(layer)

    def _array(self, tensor: Any) -> Array:
        value = self._stored(tensor.name, tensor)
        return np.zeros(0) if isinstance(value, str) else floats(value)

    def _weights(self, name: str, scope: Scope) -> Array | str:
        """An array of floats that the file holds, or in words why there is none."""
        value = self._value(name, scope)
        if (
            not isinstance(value, str)
            and value.dtype.kind != "f"
            and value.dtype.name != "bfloat16"
        ):
            return f"has the element type {value.dtype}; expected floats"
        return value

    def _value(self, name: str, scope: Scope, depth: int = 0) -> Array | str:
        """A stored array, or one that is made of stored arrays by moving numbers about."""
        known: Array | str | None = scope.values.get(name)
        if known is not None:
            return known
        node, tensor = scope.makers.get(name), scope.tensors.get(name)
        value: Array | str
        if tensor is not None:
            value = self._stored(name, tensor)
        elif node is None:
            return "is an input of the model, so the file does not hold it"
        elif node.op_type == "Constant" and any(a.HasField("t") for a in node.attribute):
            value = self._stored(name, next(a.t for a in node.attribute if a.HasField("t")))
        elif node.op_type in (*MOVES, *_ARITHMETIC) and depth < _DEPTH:
            value = self._moved(name, node, scope, depth)
        else:
            return f"is computed by the model itself ({node.op_type}), not stored"
        scope.values[name] = value
        return value

    def _moved(self, name: str, node: Any, scope: Scope, depth: int) -> Array | str:
        """What a node makes of constants, by ONNX's own reference."""
        arrays: dict[str, Any] = {}
        for key in filter(None, node.input):
            value = self._value(key, scope, depth + 1)
            if isinstance(value, str):
                return value
            arrays[key] = value
        if node.op_type in _ARITHMETIC:  # which can make more numbers than it gets
            shape = np.broadcast_shapes(
                *(array.shape for array in arrays.values() if array.ndim != 1)
            )
            self._count(name, 8 * math.prod(shape))
        self._count(name, sum(array.nbytes for array in arrays.values()))
        reference: Any = importlib.import_module("onnx.reference")
        outputs = reference.ReferenceEvaluator(node, opsets=self.opsets).run(None, arrays)
        array: Array = np.asarray(dict(zip(node.output, outputs, strict=False))[name])
        return array

    def _stored(self, name: str, tensor: Any) -> Array | str:
        kind = self.onnx.TensorProto.DataType.Name(tensor.data_type)
        if kind not in _WIDTHS:
            return f"has the element type {kind}"
        if min(tensor.dims, default=1) < 0:
            raise FileError(self.request.path, f"{name} has the shape {list(tensor.dims)}")
        self._count(name, math.prod(tensor.dims) * _WIDTHS[kind])
        if tensor.data_location == self.onnx.TensorProto.EXTERNAL:
            return self._external(tensor, kind)
        array: Array = self.onnx.numpy_helper.to_array(tensor)
        return array

    def _count(self, name: str, size: int) -> None:
        self.taken += size
        self.request.fit(self.taken, f"{name}, with what was read before,")

    def _external(self, tensor: Any, kind: str) -> Array | str:
        """Raw numbers in a file beside the model's; never in another folder."""
        where = {entry.key: entry.value for entry in tensor.external_data}
        folder = self.request.path.resolve().parent
        path = folder / where.get("location", "")
        if path.resolve().parent != folder or not path.is_file():
            raise FileError(
                self.request.path,
                f"{tensor.name} is said to be in {where.get('location')!r}, "
                "which is no file in the model's own folder: not read",
            )
        kinds = {"FLOAT": "<f4", "DOUBLE": "<f8", "FLOAT16": "<f2", "INT64": "<i8", "INT32": "<i4"}
        if kind not in kinds:
            return f"has the element type {kind} in an external file"
        count = math.prod(tensor.dims)
        offset, size = int(where.get("offset", 0)), count * np.dtype(kinds[kind]).itemsize
        if offset < 0 or offset + size > path.stat().st_size:
            raise FileError(self.request.path, f"{path.name} is too short for {tensor.name}")
        with path.open("rb") as file:
            file.seek(offset)
            array: Array = np.frombuffer(file.read(size), kinds[kind]).reshape(tuple(tensor.dims))
        return array


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _cell(operator: str, attributes: Mapping[str, Any], arrays: Mapping[str, Any]) -> str:
    if operator == "GRU":
        return "gru_reset_after" if attributes.get("linear_before_reset", 0) else "gru"
    if operator == "RNN":
        return "rnn"
    name = "coupled" if attributes.get("input_forget", 0) else "lstm"
    if "P" in arrays:
        return "coupled_peephole" if name == "coupled" else "peephole"
    return name


def _cannot(operator: str, attributes: Mapping[str, Any], direction: int) -> str:
    """Why no cell here computes a node; empty if one does."""
    defaults = _DEFAULTS[operator]
    own = [_text(word).lower() for word in attributes.get("activations", ())]
    own = own[direction * len(defaults) :][: len(defaults)] or defaults
    if own != defaults:
        return f"activations {own}; the cells here have {defaults}"
    if attributes.get("clip", 0):
        return f"clip={attributes['clip']:g}, which no cell here does"
    return ""  # activation_alpha and activation_beta: sigmoid and tanh have no parameters
