"""What each recurrent node of an ONNX model reads, by what stands between the nodes."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

# Nodes that compute nothing: they move numbers about, or find out where these go.
MOVES = ("Identity", "Unsqueeze", "Squeeze", "Concat", "Slice", "Transpose", "Reshape", "Cast")
_SHAPES = ("Constant", "Shape", "Gather", "Flatten", "Split", "Expand", "ConstantOfShape")
_MOST = 200  # nodes between two recurrent ones, and at least as many numbers in their constants


class Source(NamedTuple):
    """A recurrent node, as those behind it see it."""

    layers: tuple[str, ...]  # one, or both directions
    hidden: int
    batch_first: bool


class Scope(NamedTuple):
    """What can be seen from inside a graph, by name."""

    tensors: dict[str, Any]  # stored with the graph, or with one around it
    makers: dict[str, Any]  # the nodes that make values
    values: dict[str, Any]  # arrays found so far, or why there is none
    sources: dict[str, Source]  # the outputs Y of recurrent nodes of this very graph
    words: dict[str, str]  # what else recurrent nodes give: final states, outputs in a graph around


def nodes_of(graph: Any, path: str, outer: Scope, depth: int) -> Iterator[tuple[str, Any, Scope]]:
    """Every node of a graph and of the graphs within it, with a name and what it can see."""
    if depth > 64:
        return
    around = {key: f"the output of {' and '.join(x.layers)}" for key, x in outer.sources.items()}
    scope = Scope(dict(outer.tensors), dict(outer.makers), {}, {}, outer.words | around)
    for tensor in getattr(graph, "initializer", ()):
        scope.tensors[tensor.name] = tensor
    for node in graph.node:
        for output in node.output:
            scope.makers[output] = node
    for k, node in enumerate(graph.node):
        name = path + (node.name or f"{node.op_type}_{k}")
        yield name, node, scope
        for attribute in node.attribute:
            inner = [attribute.g] if attribute.HasField("g") else list(attribute.graphs)
            for body in inner:
                yield from nodes_of(body, f"{name}/{attribute.name}/", scope, depth + 1)


class Inputs:
    """Finds what recurrent nodes read."""

    def __init__(self, onnx: Any, model: Any) -> None:
        self.onnx, self.opsets = onnx, model.opset_import
        # Times and batches to try. A cut after some steps shows where there are more; and where the
        # model is made for one size, a Reshape may hold for that alone, in one of two orders.
        self.sizes = []
        for value in model.graph.input:
            dims = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
            if len(dims) == 3 and all(0 < dim < 2000 for dim in dims[:2]):
                self.sizes += [(dims[0], dims[1]), (dims[1], dims[0])]
        self.sizes = self.sizes or [(3, 2), (5, 3), (1200, 2)]

    def of(self, value: str, scope: Scope, batch_first: bool) -> tuple[tuple[str, ...], str]:
        """The layers whose output sequences a node reads and nothing else, or what it reads."""
        nodes, ends = _behind(value, scope)
        sources = [end for end in ends if end in scope.sources]
        others = [scope.words[end] for end in ends if end in scope.words]
        if not sources and not others:
            return (), ""
        if len(ends) == len(sources) == 1:
            source = scope.sources[sources[0]]
            if self._only_moves(nodes, scope, sources[0], value, batch_first):
                return source.layers, ""
        operators = [x.op_type for x in nodes if x.op_type not in (*MOVES, *_SHAPES)]
        words = [" and ".join(scope.sources[end].layers) for end in sources] + others
        what = ", ".join(dict.fromkeys(operators[:6])) or "a rearrangement"
        return (), f"{what} of {', '.join(dict.fromkeys(words))}"

    def words(self, values: Iterable[str], scope: Scope) -> str:
        """What initial states are, where they are no inputs of the model and no constants."""
        ends = [end for value in values for end in _behind(value, scope, shapes=False)[1]]
        found = [
            scope.words.get(x) or " and ".join(scope.sources[x].layers)
            for x in ends
            if x in scope.words or x in scope.sources
        ]
        return " and ".join(dict.fromkeys(found))

    def stored(self, values: Iterable[str], scope: Scope) -> Iterator[Any]:
        """The tensors of the file that initial states are made of."""
        for value in values:
            nodes = _behind(value, scope, shapes=False)[0]
            for name in {value, *(x for node in nodes for x in node.input)} & scope.tensors.keys():
                yield scope.tensors[name]
            for node in nodes:
                yield from (a.t for a in node.attribute if a.HasField("t"))

    def _only_moves(
        self, nodes: list[Any], scope: Scope, source: str, value: str, batch_first: bool
    ) -> bool:
        """Whether the outputs come to a node as they are: tried with numbers."""
        if any(node.op_type not in (*MOVES, *_SHAPES) for node in nodes) or len(nodes) > _MOST:
            return False
        names = {name for node in nodes for name in node.input}
        tensors = [scope.tensors[name] for name in sorted(names & scope.tensors.keys())]
        external = self.onnx.TensorProto.EXTERNAL
        if any(x.data_location == external or np.prod(x.dims) > _MOST for x in tensors):
            return False
        helper, kinds = self.onnx.helper, self.onnx.TensorProto
        ends = [[helper.make_tensor_value_info(x, kinds.FLOAT, None)] for x in (source, value)]
        graph = helper.make_graph(nodes, "between", *ends, tensors)
        model = helper.make_model(graph, opset_imports=self.opsets)
        evaluator = importlib.import_module("onnx.reference").ReferenceEvaluator(model)
        found = [
            _is_same(evaluator, scope.sources[source], source, time, batch, batch_first)
            for time, batch in self.sizes
            if time > 1  # no order shows in one step
        ]
        return True in found and False not in found


def _is_same(
    evaluator: Any, source: Source, name: str, time: int, batch: int, batch_first: bool
) -> bool | None:
    """Whether outputs come as they are; None if the model is not made for these sizes."""
    shape = (time, len(source.layers), batch, source.hidden)
    y = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    expected = y.transpose(0, 2, 1, 3).reshape(time, batch, -1)  # (time, batch, features)
    given = y.transpose(2, 0, 1, 3) if source.batch_first else y
    try:
        (x,) = evaluator.run(None, {name: given})
    except Exception:  # the reference raises what it likes
        return None
    x = np.asarray(x)
    if batch_first and x.ndim == 3:
        x = x.transpose(1, 0, 2)
    if time != batch and x.shape == (batch, time, expected.shape[2]):
        return None  # a Reshape for the other order of the two
    return x.shape == expected.shape and bool((x == expected).all())


def is_quantised(value: str, scope: Scope) -> bool:
    """Whether a value is made of numbers of a few bits each."""
    return any(node.op_type == "DequantizeLinear" for node in _behind(value, scope)[0])


def _behind(value: str, scope: Scope, shapes: bool = True) -> tuple[list[Any], list[str]]:
    """The nodes that a value is made by, in their order, and what it is made of in the end.

    That are recurrent nodes' outputs and inputs of the graph, but no constants; and with ``shapes``
    also what lends its shape alone.
    """
    nodes: list[Any] = []
    ends: dict[str, None] = {}
    seen: set[str] = set()
    waiting: list[tuple[str, bool]] = [(value, False)]
    while waiting:
        name, done = waiting.pop()
        node = scope.makers.get(name)
        if done:
            nodes.append(node)
        elif name and name not in seen and name not in scope.tensors:
            seen.add(name)
            if node is None or name in scope.sources or name in scope.words:
                ends[name] = None
            elif not seen & set(node.output) - {name}:
                waiting.append((name, True))
                if shapes or node.op_type != "Shape":
                    waiting += [(x, False) for x in reversed(node.input)]
    return nodes, list(ends)
