"""What each recurrent layer of a TensorFlow 1 graph reads.

Of a layer's step two values are known by its weights: its input and its previous output. The input
is followed back; where it comes, moved about alone, to what another layer gets as its own previous
output, it reads that layer. Nothing is run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from ._graph import Graph

_PASSED = ("Identity", "Enter", "RefEnter", "StopGradient", "PreventGradient", "Snapshot")
_NO_OUTPUTS = ("Const", "Placeholder", "Fill", "Zeros", "Split", "Slice")
# What is named of all that stands between two layers
_COMPUTES = (
    *("MatMul", "BatchMatMul", "BatchMatMulV2", "Conv2D", "Add", "AddV2", "BiasAdd", "Sub", "Mul"),
    *("Tanh", "Sigmoid", "Relu", "Softmax", "Mean", "Max", "ArgMax"),
    *("RandomUniform", "Gather", "GatherV2", "Tile"),
)
# Operators that are a whole step, or a whole run: the places of their input and of their previous
# output, and of the output among what they give
_FUSED = {"LSTMBlockCell": (0, 2, 6), "GRUBlockCell": (0, 1, 3), "BlockLSTM": (1, 3, 6)}
# Reading the steps of an array of tensors, and making one tensor of them: the place of the array
# among the inputs, and the operator that filled it (with the place of what it was filled with)
_READ = {
    "TensorArrayReadV3": (2, "TensorArrayScatterV3", 2),
    "TensorListGetItem": (0, "TensorListFromTensor", 0),
}
_COLLECTED = {
    "TensorArrayGatherV3": (2, "TensorArrayWriteV3"),
    "TensorListStack": (0, "TensorListSetItem"),
}
_MOST = 3000  # nodes that are looked at behind one input


class _Step(NamedTuple):
    """One step of a layer in the graph: a loop has one, an unrolled network one for each time."""

    x: str
    h: str  # the previous output
    output: str | None = None  # the output, where the operator says it


class Reads:
    """What the layers of a graph read."""

    def __init__(self, graph: Graph, kernels: Mapping[str, tuple[str, str]]) -> None:
        """``kernels`` has of every layer the variable of its weights: for inputs, for outputs."""
        self.graph = graph
        self.steps = {name: list(self._steps(*pair)) for name, pair in kernels.items()}
        self.outputs: dict[str, str] = {}  # a value -> the layer whose output it is
        self.times: dict[str, int] = {}  # the same value -> which step of an unrolled layer gave it
        for name, steps in self.steps.items():
            for k, step in enumerate(steps):
                value, _, looped = self._follow(step.h, previous=True)
                if step.output:
                    value, looped = step.output, True
                if self._op(value) not in _NO_OUTPUTS:
                    self.outputs[value] = name
                    self.times[value] = k if looped else k - 1

    def of(self, name: str, backward: Mapping[str, bool]) -> tuple[tuple[str, ...], str] | None:
        """The layers that a layer reads and nothing else, or what it reads; None if unknown.

        ``backward`` says of every layer whether it runs backward.
        """
        steps = self.steps.get(name, [])
        if not steps or name not in self.outputs.values():
            return None
        found = [self._whole(step.x, name, backward, k) for k, step in enumerate(steps)]
        if len(steps) > 1 and self._is_last(steps[-1].x, found[-2]):
            found.pop()  # the last output of an unrolled layer is nobody's previous output
        if found[0] and len(set(found)) == 1:
            return found[0], ""
        return (), self._words(steps[-1].x, name)

    def never_turned(self, name: str) -> bool:
        """Whether a layer runs forward for certain: a loop, on nothing that was turned in time."""
        if len(self.steps.get(name, ())) != 1:  # unrolled, the order of its steps may be turned
            return False
        waiting, seen = [_value(self.steps[name][0].x)], set[str]()
        while waiting and len(seen) < _MOST:
            node = self.graph.node(waiting.pop())
            if node is not None and node.name not in seen:
                seen.add(node.name)
                if node.op.startswith("Reverse"):
                    return False
                waiting += [_value(value) for value in node.input]
        return not waiting

    def _is_last(self, x: str, layers: tuple[str, ...]) -> bool:
        """Whether an input is computed as the outputs of a layer are, and is none that is known.

        It is then its output of the last step, which no step reads back.
        """
        value = self._origin(x)[0]
        known = [v for v, layer in self.outputs.items() if layers == (layer,)]
        return value not in self.outputs and self._form(value) in map(self._form, known)

    def _form(self, value: str) -> tuple[str, ...]:
        """The operator that gives a value, and those that give its inputs."""
        node = self.graph.node(value)
        return () if node is None else (node.op, *map(self._op, node.input))

    def _whole(self, x: str, name: str, backward: Mapping[str, bool], step: int) -> tuple[str, ...]:
        """The layers whose outputs, side by side, are an input; none if it is something else."""
        value, turns = self._origin(x)
        node = self.graph.node(value)
        parts = [(value, turns)]
        if node is not None and node.op in ("ConcatV2", "Concat") and value not in self.outputs:
            inputs = list(node.input[:-1] if node.op == "ConcatV2" else node.input[1:])
            parts = [(end, turns + more) for end, more in map(self._origin, inputs)]
        layers = [(self.outputs.get(end), number) for end, number in parts]
        right = (
            layer is not None
            and number % 2 == (backward[layer] != backward[name])
            and len(self.steps[layer]) == len(self.steps[name])
            and self.times[end] == step
            for (layer, number), (end, _) in zip(layers, parts, strict=True)
        )
        return tuple(str(layer) for layer, _ in layers) if all(right) else ()

    def _origin(self, value: str) -> tuple[str, int]:
        """Where a value comes from, moved about alone; and how often it is turned in time."""
        return self._follow(value)[:2]

    def _follow(self, value: str, previous: bool = False) -> tuple[str, int, bool]:
        """The same, and whether the way leads through a loop.

        With ``previous`` that is to the value of the step before.
        """
        turns, looped = 0, False
        for _ in range(_MOST):
            node = self.graph.node(value)
            if node is None:
                break
            turns += node.op in ("ReverseSequence", "ReverseV2")
            looped |= node.op == "NextIteration"
            after = self._before(node, previous)
            if after is None:
                break
            value = _value(after)
        return value, turns, looped

    def _before(self, node: Any, previous: bool) -> str | None:
        """The value that a node hands on."""
        if node.op in (*_PASSED, "Transpose", "ReverseSequence", "ReverseV2"):
            return str(node.input[0])
        if node.op in ("Select", "SelectV2"):  # where a sequence has ended, and where it has not
            condition = self._maker(node.input[0])
            ended = condition is not None and condition.op == "GreaterEqual"
            return str(node.input[2]) if ended else None
        if node.op in _READ:
            flow, end, place = _READ[node.op]
            found = self._through(node.input[flow], ("Enter",), end, place)
            return found if self._is_time(node) else None
        if node.op in _COLLECTED:
            flow, end = _COLLECTED[node.op]
            loop = ("Exit", "Switch", "Merge", "NextIteration")
            return self._through(node.input[flow], loop, end, 2)
        if previous and node.op in ("Switch", "NextIteration"):
            return str(node.input[0])
        return self._next(node) if previous and node.op == "Merge" else None

    def _through(self, value: str, path: tuple[str, ...], end: str, place: int) -> str | None:
        """What is written into an array of tensors, by the value that stands for the array."""
        for op in path:
            node = self._maker(value)
            if node is None or node.op != op:
                return None
            value = str(self._next(node) if op == "Merge" else node.input[0])
        node = self._maker(value)
        if node is None or node.op != end or (path[0] == "Exit" and not self._is_time(node)):
            return None
        return str(node.input[place])

    def _is_time(self, node: Any) -> bool:
        """Whether an array of tensors is read or written at the time of the step, a loop's own."""
        time = self._maker(node.input[1])
        return time is not None and time.op in ("Switch", "Merge")

    def _maker(self, value: str) -> Any:
        """The node that gives a value, beyond those that hand it on; None if there is none."""
        node = self.graph.node(value)
        for _ in range(_MOST):
            if node is None or node.op not in ("Identity", "Tile", "BroadcastTo", "Reshape"):
                break
            node = self.graph.node(node.input[0])
        return node

    def _next(self, merge: Any) -> str | None:
        """Of the inputs of a loop's Merge, the one of the step before."""
        ops = {str(value): self._op(value) for value in merge.input}
        return next((value for value, op in ops.items() if op == "NextIteration"), None)

    def _steps(self, kernel: str, recurrent: str) -> Iterator[_Step]:
        hs = {}
        for node in self.graph.users(recurrent):
            if node.op == "MatMul":
                hs[node.name.rpartition("/")[0]] = str(node.input[0])
        for node in self.graph.users(kernel):
            if node.op in _FUSED:
                places = _FUSED[node.op]
                x, previous = (str(node.input[k]) for k in places[:2])
                yield _Step(x, previous, f"{node.name}:{places[2]}")
            elif node.op == "MatMul":
                both = self.graph.node(self._origin(node.input[0])[0])
                if kernel != recurrent:
                    h = hs.get(node.name.rpartition("/")[0])
                    if h is not None:
                        yield _Step(node.input[0], h)
                elif both is not None and both.op in ("ConcatV2", "Concat"):
                    values = both.input[:2] if both.op == "ConcatV2" else both.input[1:3]
                    yield _Step(*map(str, values))

    def _words(self, x: str, name: str) -> str:
        """What stands before an input, and which layers before that; empty if there is none."""
        waiting = [_value(x)]
        seen: set[str] = set()
        operators: dict[str, None] = {}
        layers: dict[str, None] = {}
        while waiting and len(seen) < _MOST:
            value = waiting.pop(0)
            layer = self.outputs.get(value)
            if layer == name:
                continue
            if layer is not None:
                layers[layer] = None
                continue
            node = self.graph.node(value)
            if node is None or node.name in seen:
                continue
            seen.add(node.name)
            operators |= {node.op: None} if node.op in _COMPUTES else {}
            waiting += [_value(v) for v in node.input if not v.startswith("^")]
        if not layers:
            return ""
        what = ", ".join(operators) or "a final state, or another order,"
        return f"{what} of {' and '.join(layers)}"

    def _op(self, value: str) -> str:
        node = self.graph.node(value)
        return "" if node is None else str(node.op)


def _value(value: str) -> str:
    return value.removesuffix(":0")
