"""What each recurrent layer of a Keras model reads, by the model's configuration.

The configuration is gone through as the model is called: each layer gets what those before it give.
A layer that is called twice, on two inputs, reads neither.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from ._keras_config import keras_class, placed

Place = tuple[str, ...]
RECURRENT = ("SimpleRNN", "LSTM", "GRU", "CuDNNLSTM", "CuDNNGRU")
_DEPTH = 200  # of models within models, and of calls that wait for others


class Signal(NamedTuple):
    """What a layer gives on: the output sequences of recurrent layers, or something else."""

    layers: tuple[Place, ...] = ()  # side by side, by their places; empty if it is something else
    words: str = ""  # what it is; empty for an input of the model


INPUT = Signal()


def reads_of(config: Any) -> tuple[dict[Place, Signal], dict[Place, str]]:
    """What each layer reads, by its place; and in words the initial states that are not zeros."""
    calls = _Calls()
    calls.model(config, (), [], 0)
    reads = {}
    for place, signals in calls.reads.items():
        signal = signals[0]
        if len(set(signals)) > 1:
            signal = Signal((), f"another input in each of {len(signals)} calls")
        elif any(len(calls.reads[layer]) > 1 for layer in signal.layers):
            signal = Signal((), f"{signal.words}, which is called more than once")
        elif place in calls.starts and signal.layers:
            signal = Signal((), f"{signal.words}, and has {calls.starts[place]} as initial state")
        reads[place] = signal
    return reads, calls.starts


class _Calls:
    """A model's layers, called one after the other."""

    def __init__(self) -> None:
        self.reads: dict[Place, list[Signal]] = {}
        self.starts: dict[Place, str] = {}  # initial states that the model gives, in words

    def model(self, config: Any, place: Place, inputs: list[Signal], depth: int) -> list[Signal]:
        """The outputs of a model."""
        own = config.get("config") if isinstance(config, dict) else None
        layers = own if isinstance(own, list) else own.get("layers") if isinstance(own, dict) else 0
        if not isinstance(layers, list) or depth > _DEPTH:
            return [_something(config, inputs)]
        kind, places = keras_class(config), list(placed(layers, (*place, "layers")))
        called = any(layer.get("inbound_nodes") for layer, _ in places)
        if called and isinstance(own, dict) and kind in ("Sequential", "Functional", "Model"):
            return _Functional(self, own, places, inputs, depth).outputs()
        if called or kind != "Sequential":
            return [_something(config, inputs)]  # only its class knows
        for layer, where in places:
            if layer.get("class_name") != "InputLayer":
                inputs = self.layer(layer, where, inputs, depth)[:1]
        return inputs

    def layer(
        self, layer: dict[str, Any], place: Place, inputs: list[Signal], depth: int
    ) -> list[Signal]:
        """The outputs of a layer: of a recurrent one, the outputs first and then the states."""
        kind, own = keras_class(layer), layer.get("config")
        if isinstance(own, list) or (isinstance(own, dict) and isinstance(own.get("layers"), list)):
            return self.model(layer, place, inputs, depth + 1)
        own = _config(layer)
        x = inputs[0] if inputs else INPUT
        if kind == "Bidirectional" and isinstance(own.get("layer"), dict):
            outputs = self.bidirectional(layer, own, place, x)
            self._begins(place, _config(own["layer"]), inputs[1:])
            return outputs
        ends = self.recurrent(layer, kind, own, place, x)
        if ends is not None:
            self._begins(place, own, inputs[1:])
            return _given(layer, own, ends)
        if isinstance(own.get("layer"), dict):  # TimeDistributed and other wrappers
            self.layer(own["layer"], (*place, "layer"), [_something(layer, inputs)], depth + 1)
        return [_something(layer, inputs)]

    def _begins(self, place: Place, own: Mapping[str, Any], states: list[Signal]) -> None:
        """Takes down the initial state of all cells of a layer, where it is not zeros."""
        words = [*map(_words, states), *["that of the call before"] * bool(own.get("stateful"))]
        for cell in self.reads:
            if words and cell[: len(place)] == place:
                self.starts[cell] = " and ".join(dict.fromkeys(words))

    def recurrent(
        self, layer: Any, kind: str, own: Mapping[str, Any], place: Place, x: Signal
    ) -> tuple[Place, ...] | None:
        """Takes down what a recurrent layer reads; the places of its last cells, if it is one."""
        if kind in RECURRENT:
            where = (*place, "cell") if kind in ("SimpleRNN", "LSTM", "GRU") else place
            self.reads.setdefault(where, []).append(x)
            return (where,)
        if kind != "RNN" or not isinstance(own.get("cell"), dict):
            return None
        return self.cell(own["cell"], (*place, "cell"), x)

    def cell(self, cell: dict[str, Any], place: Place, x: Signal) -> tuple[Place, ...] | None:
        """The same for a cell, or cells one upon the other."""
        own = cell.get("config")
        if keras_class(cell) != "StackedRNNCells" or not isinstance(own, dict):
            self.reads.setdefault(place, []).append(x)
            return (place,)
        ends: tuple[Place, ...] | None = None
        for part, where in placed(own.get("cells"), (*place, "cells")):
            ends = self.cell(part, where, x)
            x = Signal(ends or (), _called(part))
        return ends

    def bidirectional(
        self, layer: Any, own: Mapping[str, Any], place: Place, x: Signal
    ) -> list[Signal]:
        """The outputs of a bidirectional layer, and then the states."""
        name, inner = _called(layer), _config(own["layer"])
        ends: list[Place] = []
        for key, half in (("forward", own["layer"]), ("backward", own.get("backward_layer"))):
            half = half or own["layer"]
            where = (*place, f"{key}_layer")
            ends += self.recurrent(half, keras_class(half), _config(half), where, x) or ()
        merge = own.get("merge_mode", "concat")
        outputs = [Signal(tuple(ends), name)]
        if not inner.get("return_sequences"):
            outputs = [Signal((), f"the last outputs of {name}")]
        elif merge is None and len(ends) == 2:
            outputs = [Signal((end,), name) for end in ends]
        elif merge != "concat" or len(ends) != 2:
            outputs = [Signal((), f"{name} with merge_mode={merge!r}")]
        return [*outputs, *[Signal((), f"a final state of {name}")] * 4]


def _given(layer: Any, own: Mapping[str, Any], ends: tuple[Place, ...]) -> list[Signal]:
    """What a recurrent layer gives on: its outputs, then its states."""
    name = _called(layer)
    outputs = Signal(ends, name)
    if not own.get("return_sequences"):
        outputs = Signal((), f"the last output of {name}")
    elif own.get("go_backwards"):
        outputs = Signal((), f"the outputs of {name}, last step first")
    return [outputs, *[Signal((), f"a final state of {name}")] * 4]


def _config(layer: Mapping[str, Any]) -> Mapping[str, Any]:
    own = layer.get("config")
    return own if isinstance(own, dict) else {}


class _Functional:
    """A model whose layers say what they are called on."""

    def __init__(
        self, calls: _Calls, own: dict[str, Any], places: Any, inputs: list[Signal], depth: int
    ) -> None:
        self.calls, self.own, self.depth = calls, own, depth
        self.layers = {str(_name(layer)): (layer, place) for layer, place in places}
        self.known: dict[tuple[str, int], list[Signal]] = {}
        for k, (name, node, _) in enumerate(_references(own.get("input_layers"))):
            self.known[name, node] = [inputs[k] if k < len(inputs) else INPUT]
        self.open: set[tuple[str, int]] = set()

    def outputs(self) -> list[Signal]:
        """What the model gives; every layer in it has been called then."""
        for name, (layer, _) in self.layers.items():
            for node in range(len(layer.get("inbound_nodes") or ())):
                self.call(name, node)
        return [self.tensor(*key) for key in _references(self.own.get("output_layers"))]

    def tensor(self, name: str, node: int, index: int) -> Signal:
        """One output of one call of a layer."""
        outputs = self.call(name, node)
        return outputs[index] if index < len(outputs) else Signal((), f"{name}")

    def call(self, name: str, node: int) -> list[Signal]:
        """The outputs of one call of a layer."""
        key = (name, node)
        if key in self.known:
            return self.known[key]
        if name not in self.layers or key in self.open or len(self.open) > _DEPTH:
            return [Signal((), name)]
        layer, place = self.layers[name]
        nodes = layer.get("inbound_nodes") or []
        if not nodes or keras_class(layer) == "InputLayer":
            return self.known.setdefault(key, [INPUT])
        if node >= len(nodes):
            return [Signal((), name)]
        self.open.add(key)
        inputs = [self.tensor(*reference) for reference in _references(nodes[node])]
        self.open.discard(key)
        outputs = self.calls.layer(layer, place, inputs, self.depth)
        return self.known.setdefault(key, outputs)


def _references(node: Any) -> Iterator[tuple[str, int, int]]:
    """The tensors that a call is made on, in the order of its arguments.

    Keras 2 has ``["lstm", 0, 0, {}]``, Keras 3 ``{"keras_history": ["lstm", 0, 0]}``.
    """
    if isinstance(node, Mapping):
        history = (node.get("config") or {}).get("keras_history") if _is_tensor(node) else None
        if isinstance(history, list):
            yield from _references(history)
        else:
            for key, value in node.items():
                if key != "mask":
                    yield from _references(value)
    elif isinstance(node, list):
        if (
            len(node) >= 3
            and isinstance(node[0], str)
            and all(isinstance(k, int) for k in node[1:3])
        ):
            yield node[0], node[1], node[2]
            yield from _references(node[3:])
        else:
            for part in node:
                yield from _references(part)


def _is_tensor(node: Mapping[str, Any]) -> bool:
    return node.get("class_name") == "__keras_tensor__" and isinstance(node.get("config"), Mapping)


def _name(layer: Mapping[str, Any]) -> Any:
    own = layer.get("config")
    return layer.get("name") or (own.get("name") if isinstance(own, dict) else None)


def _words(signal: Signal) -> str:
    return signal.words or "an input of the model"


def _called(layer: Mapping[str, Any]) -> str:
    name = _name(layer)
    return f"{keras_class(layer)} {name!r}" if name else keras_class(layer)


def _something(layer: Any, inputs: list[Signal]) -> Signal:
    """What a layer that is not recurrent gives, with what it is made of."""
    name = _called(layer) if isinstance(layer, dict) else "a model"
    if all(signal == INPUT for signal in inputs):
        return Signal((), name)
    of = dict.fromkeys(signal.words for signal in inputs if signal.words)
    return Signal((), f"{name} of {' and '.join(of)}"[:200])
