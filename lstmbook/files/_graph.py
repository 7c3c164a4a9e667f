"""What the graph beside a checkpoint says of its cells, which the arrays do not.

The arrays of a cell are followed to the nodes that use them: the number that is added to the forget
gate, the activation, whether the cell state is clipped, and, where a name says nothing, whether a
kernel belongs to an LSTM, a simple network or no recurrent layer at all. Nothing is run.
"""

from __future__ import annotations

import importlib
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ._graph_loops import flat


class Facts(NamedTuple):
    """What a graph says of the cell of one bias variable; None where it says nothing."""

    kind: str | None = None  # "lstm", "coupled", "rnn", "dense"
    forget_bias: float | None = None
    activation: str | None = None  # TensorFlow's operator, such as Tanh; several if none is known
    clip: bool = False


_PASSED = ("Identity", "Enter", "RefEnter", "ReadVariableOp", "Switch", "RefSwitch", "Cast")
_ACTIVATIONS = ("Tanh", "Relu", "Relu6", "Sigmoid", "Elu", "Selu", "Softplus", "Softsign")
_BENDS = (*_ACTIVATIONS, "LeakyRelu", "Minimum", "Maximum", "ClipByValue", "Softmax", "Exp", "Erf")
_ENDS = ("Exit", "NextIteration", "TensorArrayWriteV3", "TensorArrayWrite")  # of one step


class Graph:
    """A graph as a map from each value to the nodes that read it."""

    def __init__(self, nodes: Any, words: str) -> None:
        self.words = words  # which graph it is
        self.nodes = {node.name: node for node in nodes if "gradients" not in node.name}
        self.readers: dict[str, list[Any]] = {}
        for node in self.nodes.values():
            for value in node.input:
                self.readers.setdefault(value.removesuffix(":0"), []).append(node)

    def node(self, value: str) -> Any:
        """The node that gives a value; None if there is none."""
        return self.nodes.get(value) or self.nodes.get(value.partition(":")[0])

    def of(self, variable: str) -> Facts:
        """What the graph says of the cell with this bias; nothing if it does not use it."""
        for node in self.users(variable):
            if node.op in ("LSTMBlockCell", "BlockLSTM"):
                attributes = node.attr
                clip = attributes["cell_clip"].f > 0
                return Facts("lstm", attributes["forget_bias"].f, "Tanh", clip)
            if node.op not in ("BiasAdd", "Add", "AddV2"):
                continue
            for user in self.users(node.name):
                if user.op in ("Split", "SplitV"):
                    return self._of_split(user)
                if user.op in _ACTIVATIONS:
                    return Facts("rnn" if self._loops(variable) else "dense", None, user.op)
            kind = None if self._loops(variable) else "dense"
            return Facts(kind, None, self._activation(node.name, _BENDS))
        return Facts()

    def _activation(self, value: str, bends: Sequence[str] = ()) -> str | None:
        """The activation of a value, or the operators in its place: all, or those that bend it."""
        found = [node.op for node in self.users(value)]
        known = [op for op in found if op in _ACTIVATIONS][:1]
        return "/".join(known or [op for op in found if op in bends or not bends]) or None

    def bends(self, variable: str, scope: str) -> Counter[str]:
        """The operators that bend numbers in a step of the layer with this recurrent kernel."""
        top = scope.rpartition("/")[0] or scope  # a bidirectional layer's names stand one above
        found, waiting, seen = Counter[str](), [variable], set()
        while waiting:
            for node in self.readers.get(waiting.pop(), ()):
                if node.name not in seen and (node.name + "/").startswith(f"{top}/"):
                    seen.add(node.name)
                    found.update({node.op} & set(_BENDS))
                    waiting += [node.name] * (node.op not in _ENDS)
        return found

    def _of_split(self, split: Any) -> Facts:
        gates = split.attr["num_split"].i
        if gates not in (3, 4):
            return Facts()
        candidate, forget = (1, 2) if gates == 4 else (0, 1)
        activation = self._activation(f"{split.name}:{candidate}")
        bias = None
        for node in self.users(f"{split.name}:{forget}"):
            if node.op == "Sigmoid":
                bias = 0.0
            elif node.op in ("Add", "AddV2"):
                bias = next(filter(lambda x: x is not None, map(self._number, node.input)), None)
        scope = split.name.rpartition("/")[0] + "/"
        clip = any(
            name.startswith(scope) and node.op in ("Minimum", "ClipByValue")
            for name, node in self.nodes.items()
        )
        return Facts("lstm" if gates == 4 else "coupled", bias, activation, clip)

    def users(self, value: str) -> Iterator[Any]:
        """The nodes that use a value, beyond those that only hand it on."""
        for node in self._chain(value):
            if node.op not in _PASSED:
                yield node

    def _chain(self, value: str) -> Iterator[Any]:
        waiting, seen = [value.removesuffix(":0")], set()
        while waiting:
            for node in self.readers.get(waiting.pop(), ()):
                if node.name not in seen:
                    seen.add(node.name)
                    yield node
                    if node.op in _PASSED:
                        waiting.append(node.name)

    def _loops(self, variable: str) -> bool:
        return any(node.op.endswith("Enter") for node in self._chain(variable))

    def _number(self, value: str) -> float | None:
        """A constant scalar, if a value is one."""
        node = self.node(value)
        while node is not None and node.op in _PASSED and node.input:
            node = self.node(node.input[0])
        if node is None or node.op != "Const":
            return None
        array = importlib.import_module("tensorflow").make_ndarray(node.attr["value"].tensor)
        return float(array) if np.ndim(array) == 0 and array.dtype.kind == "f" else None


def meta_of(prefix: Path) -> Path:
    """The graph that Saver wrote beside a checkpoint, whether or not it is there."""
    return prefix.with_name(prefix.name + ".meta")


def saved_model_of(prefix: Path) -> Path | None:
    """The graph of a SavedModel, if a checkpoint lies where the variables of one do."""
    path = prefix.parent.parent / "saved_model.pb"
    return path if prefix.parent.name == "variables" and path.is_file() else None


def graph_of(prefix: Path, max_bytes: int) -> Graph | None:
    """The graph beside a checkpoint; None if there is none that can be read."""
    meta = meta_of(prefix)
    path = meta if meta.is_file() else saved_model_of(prefix)
    if path is None or path.stat().st_size > max_bytes:
        return None
    protos: Any = importlib.import_module("tensorflow.core.protobuf.saved_model_pb2")
    model = protos.SavedModel()
    try:
        (model.meta_graphs.add() if path == meta else model).ParseFromString(path.read_bytes())
        graphs = [one.graph_def for one in model.meta_graphs]
        nodes = [node for graph in graphs for node in flat(graph.node, graph.library)]
        return Graph(nodes, "the graph in " + (".meta" if path == meta else path.name))
    except Exception:  # it is not needed: a checkpoint reads without it
        return None
