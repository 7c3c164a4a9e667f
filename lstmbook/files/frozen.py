"""Frozen TensorFlow 1 graphs (``.pb``): the weights are constants of the graph."""

from __future__ import annotations

import importlib
from typing import Any

from ..cells._activations import Array
from ._base import Aside, FileError, Layer, Request, need
from ._graph import Graph
from ._graph_loops import flat
from ._names import sort_out


def read(request: Request) -> tuple[list[Layer], list[Aside]]:
    """All recurrent layers of a frozen graph, and what else is in it."""
    request.fit(2 * request.path.stat().st_size, "the graph, once it is parsed,")
    try:
        tf: Any = importlib.import_module("tensorflow")
    except ImportError as error:
        raise need("TensorFlow", "tf", "reading a frozen graph") from error
    graph = tf.compat.v1.GraphDef()
    try:
        graph.ParseFromString(request.path.read_bytes())
    except Exception as error:  # protobuf's own errors differ from release to release
        raise FileError(
            request.path, f"is no TensorFlow graph, or a damaged one: {error}"
        ) from error
    if not graph.node or not all(node.name and node.op for node in graph.node):
        raise FileError(request.path, "is no TensorFlow graph: it has no nodes")
    constants = {node.name: node.attr["value"].tensor for node in graph.node if node.op == "Const"}
    dtypes = {name: tf.dtypes.as_dtype(tensor.dtype) for name, tensor in constants.items()}
    shapes = {
        name: tuple(dim.size for dim in tensor.tensor_shape.dim)
        for name, tensor in constants.items()
        if dtypes[name].is_floating and tensor.tensor_shape.dim  # a scalar is a number in the code
    }
    sizes = {name: tf.TensorShape(shape).num_elements() * 8 for name, shape in shapes.items()}

    def get(name: str) -> Array:
        array: Array = tf.make_ndarray(constants[name])
        return array

    nodes = list(flat(graph.node, graph.library))
    facts = Graph(nodes, f"the graph in {request.path.name}")
    request = request._replace(graph=facts, variables={})
    return sort_out(request, shapes, request.counting(sizes, get), {})
