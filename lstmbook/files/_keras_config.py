"""The configuration of a Keras model, and which of its layers belongs to which arrays of a file."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ._base import FileError, Request, shapes_in_words
from ._keras_layer import CLASSES, Leaf

Pairs = list[tuple["Found", Leaf | None]]


class Found(NamedTuple):
    """Arrays that stand together in a file."""

    place: tuple[str, ...]  # of the group, below the root
    names: tuple[str, ...]  # the names of the layers around it
    arrays: dict[str, Any]  # kernel, recurrent_kernel, bias -> dataset

    @property
    def parts(self) -> dict[str, list[str]]:
        """Which arrays make up each of today's: Keras 1 kept one for every gate."""
        for gates in (["_i", "_f", "_c", "_o"], ["_z", "_r", "_h"], [""]):
            old = {
                today: [letter + gate for gate in gates]
                for today, letter in (("kernel", "W"), ("recurrent_kernel", "U"), ("bias", "b"))
            }
            if {key for keys in old.values() for key in keys} == set(self.arrays):
                return old
        return {name: [name] for name in self.arrays}

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shapes of today's arrays."""
        shapes = {}
        for today, keys in self.parts.items():
            several = [tuple(self.arrays[key].shape) for key in keys]
            shapes[today] = several[0]
            if len(keys) > 1 and all(several):
                shapes[today] = (*several[0][:-1], sum(shape[-1] for shape in several))
        return shapes

    @property
    def recurrent(self) -> bool:
        return "recurrent_kernel" in self.parts


def read_config(request: Request, text: str | bytes) -> Any:
    """A configuration from its JSON."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise FileError(request.path, f"its configuration is no JSON: {error}") from error


# A configuration that lies beside the weights


def config_beside(request: Request) -> tuple[Any, str]:
    """The configuration in a file of its own, and a note which; None if there is none.

    It is what the caller gives, or else the ``.json`` that has the name of the weights.
    """
    path = request.config or neighbour(request.path)
    if not request.config and not path.is_file():
        return None, ""
    try:
        request._replace(path=path).fit(20 * path.stat().st_size, "the file, once it is parsed,")
        config = model_of(json.loads(path.read_bytes()))
        if config is None:
            raise FileError(path, "is no configuration of a Keras model: model.to_json() gives one")
    except FileError:
        if request.config:
            raise
        return None, ""  # of that name, but something else
    except (OSError, ValueError, RecursionError) as error:
        if request.config:
            why = f"is no JSON, which model.to_json() gives: {error}"
            raise FileError(path, why) from error
        return None, ""
    return config, f"by the configuration in {path.name}" + " beside it" * (not request.config)


def is_config(path: Path) -> bool:
    """Whether a file is the configuration of a Keras model."""
    try:
        return model_of(json.loads(path.read_bytes())) is not None
    except (OSError, ValueError, RecursionError):
        return False


def neighbour(path: Path) -> Path:
    """Where the configuration of weights of this name is looked for."""
    return path.with_name(re.sub(r"(\.weights)?\.[^.]*$", "", path.name) + ".json")


def model_of(value: Any) -> Any:
    """A model's configuration, as ``to_json`` and ``get_config`` give it; None if it is none."""
    if isinstance(value, str):  # JSON of what was JSON already
        value = json.loads(value)
    if isinstance(value, list):
        value = {"layers": value}
    if not isinstance(value, dict):
        return None
    if isinstance(value.get("layers"), list):
        called = any(isinstance(x, dict) and "inbound_nodes" in x for x in value["layers"])
        value = {"class_name": "Model" if called else "Sequential", "config": value}
    own = value.get("config")
    inner = own.get("layers") if isinstance(own, dict) else own
    layers = inner if isinstance(inner, list) else []
    named = isinstance(value.get("class_name"), str)
    return value if named and any(isinstance(layer, dict) for layer in layers) else None


def fitted(request: Request, pairs: Pairs, leaves: list[Leaf], named: bool) -> tuple[Pairs, str]:
    """The pairs of a configuration from elsewhere, if it is one of these weights; and a note.

    Where the names differ, the order tells, as it does for Keras' own ``load_weights``.
    """
    recurrent = [group for group, _ in pairs if group.recurrent]
    own = [leaf for leaf in leaves if leaf.kind in CLASSES]
    matched = [leaf for group, leaf in pairs if group.recurrent and leaf]
    note = ""
    if len(matched) < len(recurrent) or any(leaf not in matched for leaf in own):
        if not named or len(own) != len(recurrent):
            has = ", ".join("/".join(group.names) for group in recurrent) or "none"
            says = ", ".join("/".join(leaf.names) for leaf in own) or "none"
            raise _misfit(request, f"recurrent layers of the weights: {has}; of it: {says}")
        ordered = dict(zip(map(id, recurrent), own, strict=True))
        pairs = [(group, ordered.get(id(group))) for group, _ in pairs]
        note = ", its layers in the order of the weights"
    for group, leaf in pairs:
        trouble = _trouble(leaf, group.shapes) if group.recurrent and leaf else ""
        if trouble:
            what = shapes_in_words(group.shapes)
            raise _misfit(request, f"{'/'.join(group.names)} has {what}, and {trouble}")
    return pairs, note


def _misfit(request: Request, what: str) -> FileError:
    path = request.config or neighbour(request.path)
    mend = "config takes that of the model that wrote the weights"
    return FileError(path, f"does not fit {request.path.name}: {what}; {mend}")


def _trouble(leaf: Leaf, shapes: Mapping[str, tuple[int, ...]]) -> str:
    """In which words a configuration differs from the arrays of a layer; empty if it fits."""
    recurrent, bias = shapes["recurrent_kernel"], shapes.get("bias")
    gates = {"rnn": 1, "gru": 3, "lstm": 4}.get(CLASSES.get(leaf.kind, ""))
    units = leaf.config.get("units", leaf.config.get("output_dim"))
    if gates is None or len(recurrent) != 2:  # of a class of the user's own
        return ""
    words = f"it says {leaf.kind}"
    if units is not None and recurrent[0] != units:
        return f"{words} with {units} units"
    if recurrent[1] != gates * recurrent[0]:
        return f"{words}, which has {gates} gates"
    if not leaf.kind.startswith("CuDNN") and leaf.config.get("use_bias", True) != (
        bias is not None
    ):
        return f"{words} with use_bias={leaf.config.get('use_bias', True)}"
    if leaf.kind == "GRU" and bias:
        reset_after = bool(leaf.config.get("reset_after", False))
        if reset_after != (bias != recurrent[1:]):
            return f"{words} with reset_after={reset_after}"
    return ""


# Its layers


def leaves_of(
    config: Any, place: tuple[str, ...] = (), names: tuple[str, ...] = ()
) -> Iterator[Leaf]:
    """Every layer with weights that a model's configuration names, in its order."""
    own = config.get("config", {}) if isinstance(config, dict) else {}
    inner = own if isinstance(own, list) else own.get("layers", [])
    for layer, where in placed(inner, (*place, "layers")):
        yield from _layer_leaves(layer, where, names, False)


def placed(
    layers: Any, folder: tuple[str, ...]
) -> Iterator[tuple[dict[str, Any], tuple[str, ...]]]:
    """The layers of a list in a configuration, each with the place where Keras 3 stores it."""
    counts: dict[str, int] = {}
    for layer in layers if isinstance(layers, list) else []:
        if isinstance(layer, dict) and isinstance(layer.get("class_name"), str):
            stem = _snake(class_of(layer))
            number = counts[stem] = counts.get(stem, -1) + 1
            yield layer, (*folder, stem if number == 0 else f"{stem}_{number}")


def class_of(layer: Mapping[str, Any]) -> str:
    """The class of a layer, without its package."""
    return str(layer.get("class_name")).split(">")[-1]


def _layer_leaves(
    layer: dict[str, Any],
    place: tuple[str, ...],
    names: tuple[str, ...],
    flip: bool,
    prefix: str = "",
) -> Iterator[Leaf]:
    kind = class_of(layer)
    own = layer.get("config")
    if isinstance(own, list) or (isinstance(own, dict) and isinstance(own.get("layers"), list)):
        name = layer.get("name") or (own.get("name") if isinstance(own, dict) else None)
        yield from leaves_of(layer, place, (*names, str(name or kind)))
        return
    if not isinstance(own, dict):
        return
    name = str(own.get("name") or layer.get("name") or kind)
    if prefix and not name.startswith(prefix):
        name = prefix + name
    names = (*names, name)
    if kind == "Bidirectional" and isinstance(own.get("layer"), dict):
        forward = own["layer"]
        backward = own.get("backward_layer") or forward
        yield from _layer_leaves(forward, (*place, "forward_layer"), names, False, "forward_")
        yield from _layer_leaves(
            backward, (*place, "backward_layer"), names, backward is forward, "backward_"
        )
    elif isinstance(own.get("layer"), dict):  # TimeDistributed and other wrappers
        yield from _layer_leaves(own["layer"], (*place, "layer"), names, flip)
    elif kind == "RNN" and isinstance(own.get("cell"), dict):
        reverse = bool(own.get("go_backwards")) != flip
        yield from _cell_leaves(own["cell"], (*place, "cell"), names, reverse)
    else:
        reverse = bool(own.get("go_backwards")) != flip
        where = (*place, "cell") if kind in ("SimpleRNN", "LSTM", "GRU") else place
        yield Leaf(where, names, keras_class(layer), own, reverse)


def keras_class(layer: Mapping[str, Any]) -> str:
    """The class of a layer; with its package or module, if it is not Keras' own."""
    name, module = str(layer.get("class_name")), layer.get("module") or "keras"
    registered = layer.get("registered_name") or ""
    if ">" in str(registered):
        return str(registered)
    own = str(module).partition(".")[0] in ("keras", "tf_keras", "tensorflow")
    return name if own else f"{module}>{name}"


def _cell_leaves(
    cell: dict[str, Any], place: tuple[str, ...], names: tuple[str, ...], reverse: bool
) -> Iterator[Leaf]:
    kind, own = class_of(cell), cell.get("config") or {}
    if not isinstance(own, dict) or "class_name" not in cell:
        return
    if kind != "StackedRNNCells":
        yield Leaf(place, names, keras_class(cell).removesuffix("Cell"), own, reverse)
        return
    for part, where in placed(own.get("cells"), (*place, "cells")):
        label = str((part.get("config") or {}).get("name") or where[-1])
        yield from _cell_leaves(part, where, (*names, label), reverse)


def _snake(name: str) -> str:
    """As Keras names what it stores: ``SimpleRNN`` becomes ``simple_rnn``."""
    name = re.sub(r"\W+", "", name)
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()


# Which configuration belongs to which arrays


def pair_numbered(found: list[Found], leaves: list[Leaf]) -> Iterator[tuple[Found, Leaf | None]]:
    by_place = {leaf.place: (k, leaf) for k, leaf in enumerate(leaves)}
    pairs = [
        (by_place.get(group.place) or by_place.get(group.place[:-1]) or (len(leaves), None), group)
        for group in found
    ]
    for (_, leaf), group in sorted(pairs, key=lambda pair: pair[0][0]):
        yield group, leaf


def pair_named(found: list[Found], leaves: list[Leaf]) -> Iterator[tuple[Found, Leaf | None]]:
    """By name within a top layer; by order where the names say nothing and the numbers agree."""
    for top in dict.fromkeys(group.names[0] for group in found):
        groups = [group for group in found if group.names[0] == top]
        own = [leaf for leaf in leaves if leaf.names[0] == top]
        left = list(own)
        matched: dict[int, Leaf] = {}
        for k, group in enumerate(groups):
            for leaf in left:
                if leaf.names[-1] in group.names:
                    matched[k] = leaf
                    left.remove(leaf)
                    break
        rest = [k for k in range(len(groups)) if k not in matched]
        if len(rest) == len(left):
            matched |= dict(zip(rest, left, strict=True))
        for k, group in enumerate(groups):
            yield group, matched.get(k)


# What a configuration makes when Keras loads it: with these names, nothing but layers of its own
_PLAIN = {
    *("Sequential", "Functional", "Model", "InputLayer", "Identity", "Activation", "Masking"),
    *("LSTM", "GRU", "SimpleRNN", "RNN", "LSTMCell", "GRUCell", "SimpleRNNCell", "Bidirectional"),
    *("StackedRNNCells", "TimeDistributed", "Dense", "Embedding", "Conv1D", "RepeatVector"),
    *("Dropout", "SpatialDropout1D", "GaussianNoise", "GaussianDropout", "BatchNormalization"),
    *("LayerNormalization", "ReLU", "LeakyReLU", "PReLU", "ELU", "Softmax", "Flatten", "Reshape"),
    *("Permute", "Concatenate", "Add", "Average", "Multiply", "Subtract", "Maximum", "Minimum"),
    *("Dot", "Attention", "MaxPooling1D", "AveragePooling1D", "GlobalMaxPooling1D"),
    *("GlobalAveragePooling1D", "ZeroPadding1D", "UpSampling1D"),
    *("GlorotUniform", "GlorotNormal", "HeUniform", "HeNormal", "LecunUniform", "LecunNormal"),
    *("Orthogonal", "OrthogonalInitializer", "Zeros", "Ones", "Constant", "Identity"),
    *("RandomUniform", "RandomNormal", "TruncatedNormal", "VarianceScaling"),
    *("L1", "L2", "L1L2", "MaxNorm", "NonNeg", "UnitNorm", "MinMaxNorm"),
    *("DTypePolicy", "__keras_tensor__", "__tuple__"),
}


def strange_class(config: Any) -> str:
    """The first class in a configuration that may be more than a layer of Keras; else empty."""
    waiting = [config]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            name = str(value.get("class_name", ""))
            module = str(value.get("module") or "keras").partition(".")[0]
            own = value.get("registered_name") in (None, "", name) and module == "keras"
            if "class_name" in value and not (own and name in _PLAIN):
                return name or "a class without a name"
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value
    return ""
