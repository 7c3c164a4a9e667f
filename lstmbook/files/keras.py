"""Keras files, by h5py alone: HDF5 of Keras 1 to 3, ``.weights.h5`` and ``.keras``.

Two forms are in use. The older names every array (``lstm/lstm_cell/kernel:0``); Keras 3's own
numbers them (``layers/lstm/cell/vars/0``). A configuration, where there is one, tells the rest.
"""

from __future__ import annotations

import importlib
import io
import json
import logging
import math
import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..activations import Array
from ._base import (
    Aside,
    FileError,
    Layer,
    Request,
    ambiguous,
    natural,
    need,
    refuse,
    shapes_in_words,
)
from ._names import keras_layer
from ._stack import Level, exported, is_chain, stack

_CELLS = {"SimpleRNN": "rnn", "LSTM": "lstm", "GRU": "gru", "CuDNNLSTM": "lstm", "CuDNNGRU": "gru"}
_CELL_NAME = re.compile(r"(lstm|gru|simple_rnn|peephole_lstm)_cell(_\d+)?")
_DEPTH = 64  # of groups within groups
_OLD = " (Keras before 2.3 took hard_sigmoid by default)"


class _Found(NamedTuple):
    """Arrays that stand together in a file."""

    place: tuple[str, ...]  # of the group, below the root
    names: tuple[str, ...]  # the names of the layers around it
    arrays: dict[str, Any]  # kernel, recurrent_kernel, bias -> dataset


class _Leaf(NamedTuple):
    """What a configuration says of one layer that has weights."""

    place: tuple[str, ...]  # where Keras 3 stores it
    names: tuple[str, ...]  # of the layers around it, and its own
    kind: str  # its class
    config: dict[str, Any]
    reverse: bool


def read(request: Request) -> tuple[list[Layer], list[Aside]]:
    """All recurrent layers of a Keras file, and what else is in it."""
    with _open(request) as (file, config):
        root = _child(request, file, "model_weights") if "model_weights" in file else file
        if config is None and "model_config" in file.attrs:
            config = _json(request, _text(file.attrs["model_config"]))
        named = bool(_listed(root, "layer_names"))
        found = list(_named(request, root) if named else _numbered(request, root))
        leaves = list(_leaves(config)) if config else []
        pairs = _pair_named(found, leaves) if named else _pair_numbered(found, leaves)
        layers, aside, taken = [], [], 0
        for group, leaf in pairs:
            name = _name(group, leaf, found)
            shapes = {key: tuple(data.shape) for key, data in group.arrays.items()}
            old = _keras_1(shapes)
            if "recurrent_kernel" not in shapes and not old:
                kind = f"{leaf.kind}: " if leaf else ""
                aside.append(Aside(name, kind + shapes_in_words(shapes)))
                continue
            if name in request.cells and request.cells[name] is None:
                aside.append(Aside(name, "left aside, as asked for"))
                continue
            taken += sum(
                math.prod(data.shape) * data.dtype.itemsize for data in group.arrays.values()
            )
            request.fit(taken, f"{name}, with what was read before,")
            arrays = {key: _array(request, data) for key, data in group.arrays.items()}
            if old:
                arrays = {
                    today: np.concatenate([arrays[key] for key in keys], axis=-1)
                    for today, keys in old.items()
                }
            if leaf is None:
                layers.append(_guess(request, name, group, arrays, named))
            else:
                layers.append(_settle(request, name, leaf, arrays))
    return layers, aside


# The file


@contextmanager
def _open(request: Request) -> Iterator[tuple[Any, Any]]:
    """The HDF5 file and the configuration beside it, if it is one of ``.keras``."""
    try:
        h5py: Any = importlib.import_module("h5py")
    except ImportError as error:
        raise need("h5py", "files", "reading a Keras file") from error
    with request.path.open("rb") as raw:
        zipped = raw.read(2) == b"PK"
    if not zipped:
        with h5py.File(request.path, "r") as file:
            yield file, None
        return
    with zipfile.ZipFile(request.path) as archive:
        sizes = {entry.filename: entry.file_size for entry in archive.infolist()}
        for name in ("config.json", "model.weights.h5"):
            if name not in sizes:
                raise FileError(request.path, f"is no .keras file: it has no {name} in it")
        request.fit(sizes["model.weights.h5"], "model.weights.h5")
        request.fit(20 * sizes["config.json"], "config.json, once it is parsed,")
        config = _json(request, archive.read("config.json"))
        data = io.BytesIO(archive.read("model.weights.h5"))
    with h5py.File(data, "r") as file:
        yield file, config


def _json(request: Request, text: str | bytes) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise FileError(request.path, f"its configuration is no JSON: {error}") from error


def _text(value: Any) -> str:
    return value.decode("utf-8") if isinstance(value, bytes) else str(value)


def _listed(group: Any, name: str) -> list[str]:
    """A list of names among a group's attributes; a long one is cut into ``name0``, ``name1``."""
    names = [name] if name in group.attrs else []
    while names[:1] != [name] and f"{name}{len(names)}" in group.attrs:
        names.append(f"{name}{len(names)}")
    return [_text(value) for key in names for value in group.attrs[key]]


def _child(request: Request, group: Any, name: str) -> Any:
    """What a group holds under a name; a link that leads out of the file is refused."""
    for part in filter(None, name.split("/")):
        link = group.get(part, getlink=True)
        if type(link).__name__ != "HardLink":
            what = "is missing" if link is None else f"is a {type(link).__name__}, not followed"
            raise FileError(request.path, f"{group.name}/{part} {what}")
        group = group[part]
    return group


def _array(request: Request, data: Any) -> Array:
    if data.is_virtual or data.external:
        raise FileError(request.path, f"{data.name} keeps its numbers in another file: not read")
    array: Array = data[()]
    return array


def _is_data(item: Any) -> bool:
    return hasattr(item, "shape") and item.dtype.kind == "f"


def _named(request: Request, root: Any) -> Iterator[_Found]:
    """The older form: groups by layer, arrays by name."""
    for top in _listed(root, "layer_names"):
        group = _child(request, root, top)
        places: dict[str, dict[str, Any]] = {}
        for name in _listed(group, "weight_names"):
            data = _child(request, group, name)
            if _is_data(data):
                place, _, last = re.sub(r":\d+$", "", name).rpartition("/")
                first = re.fullmatch(r"(.+)_([WUb](_[a-z])?)", last)  # Keras 1: lstm_1_W_i
                if first and not place:
                    place, last = first[1], first[2]
                places.setdefault(place, {})[last] = data
        for place, arrays in places.items():
            parts = tuple(filter(None, place.split("/")))
            names = parts if parts[:1] == (top,) else (top, *parts)
            yield _Found(parts, names, arrays)


def _numbered(request: Request, root: Any) -> Iterator[_Found]:
    """Keras 3's form: arrays by number below ``vars``, in the order in which they were made."""
    seen: set[Any] = set()

    def walk(group: Any, place: tuple[str, ...], names: tuple[str, ...]) -> Iterator[_Found]:
        if len(place) > _DEPTH or group.id in seen:
            return
        seen.add(group.id)
        order = sorted(group, key=lambda name: natural(name.replace("backward_l", "forward_l~")))
        children = {name: _child(request, group, name) for name in order}
        own = children.pop("vars", None)
        if own is not None and hasattr(own, "keys"):
            told = own.attrs.get("name")
            if told is not None and place:
                names = (*names[:-1], _text(told))
            data = [_child(request, own, name) for name in sorted(own, key=natural)]
            data = [item for item in data if _is_data(item)]
            labels = [str(k) for k in range(len(data))]
            cell = place and (place[-1] == "cell" or place[-2:-1] == ("cells",))
            if (cell or (told and _CELL_NAME.fullmatch(_text(told)))) and len(data) in (2, 3):
                labels = ["kernel", "recurrent_kernel", "bias"]
            if data:
                yield _Found(place, names, dict(zip(labels, data, strict=False)))
        for name, child in children.items():
            if hasattr(child, "keys") and not (not place and name == "optimizer"):
                inner = names if name in _CONTAINERS else (*names, name)
                yield from walk(child, (*place, _RENAMED.get(name, name)), inner)

    yield from walk(root, (), ())


_RENAMED = {"_layer_checkpoint_dependencies": "layers"}  # Keras 2.12 to 2.15
_CONTAINERS = {"layers", "_layer_checkpoint_dependencies", "cells"}


def _keras_1(names: Any) -> dict[str, list[str]] | None:
    """Keras 1 kept an array for every gate: which ones make up each of today's."""
    for gates in (["_i", "_f", "_c", "_o"], ["_z", "_r", "_h"], [""]):
        old = {
            today: [letter + gate for gate in gates]
            for today, letter in (("kernel", "W"), ("recurrent_kernel", "U"), ("bias", "b"))
        }
        if {key for keys in old.values() for key in keys} == set(names):
            return old
    return None


# The configuration


def _leaves(
    config: Any, place: tuple[str, ...] = (), names: tuple[str, ...] = ()
) -> Iterator[_Leaf]:
    """Every layer with weights that a model's configuration names, in its order."""
    own = config.get("config", {}) if isinstance(config, dict) else {}
    inner = own if isinstance(own, list) else own.get("layers", [])
    counts: dict[str, int] = {}
    for layer in inner if isinstance(inner, list) else []:
        if not isinstance(layer, dict) or not isinstance(layer.get("class_name"), str):
            continue
        stem = _snake(layer["class_name"].split(">")[-1])
        number = counts[stem] = counts.get(stem, -1) + 1
        where = (*place, "layers", stem if number == 0 else f"{stem}_{number}")
        yield from _layer_leaves(layer, where, names, False)


def _layer_leaves(
    layer: dict[str, Any],
    place: tuple[str, ...],
    names: tuple[str, ...],
    flip: bool,
    prefix: str = "",
) -> Iterator[_Leaf]:
    kind = layer["class_name"].split(">")[-1]
    own = layer.get("config")
    if isinstance(own, list) or (isinstance(own, dict) and isinstance(own.get("layers"), list)):
        name = layer.get("name") or (own.get("name") if isinstance(own, dict) else None)
        yield from _leaves(layer, place, (*names, str(name or kind)))
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
        yield _Leaf(where, names, kind, own, reverse)


def _cell_leaves(
    cell: dict[str, Any], place: tuple[str, ...], names: tuple[str, ...], reverse: bool
) -> Iterator[_Leaf]:
    kind, own = str(cell.get("class_name")).split(">")[-1], cell.get("config") or {}
    if not isinstance(own, dict):
        return
    if kind != "StackedRNNCells":
        yield _Leaf(place, names, kind.removesuffix("Cell"), own, reverse)
        return
    counts: dict[str, int] = {}
    for part in own.get("cells", []):
        stem = _snake(str(part.get("class_name")).split(">")[-1])
        number = counts[stem] = counts.get(stem, -1) + 1
        where = (*place, "cells", stem if number == 0 else f"{stem}_{number}")
        label = str((part.get("config") or {}).get("name") or stem)
        yield from _cell_leaves(part, where, (*names, label), reverse)


def _snake(name: str) -> str:
    """As Keras names what it stores: ``SimpleRNN`` becomes ``simple_rnn``."""
    name = re.sub(r"\W+", "", name)
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()


# Which configuration belongs to which arrays


def _pair_numbered(
    found: list[_Found], leaves: list[_Leaf]
) -> Iterator[tuple[_Found, _Leaf | None]]:
    by_place = {leaf.place: (k, leaf) for k, leaf in enumerate(leaves)}
    pairs = [(by_place.get(group.place, (len(leaves), None)), group) for group in found]
    for (_, leaf), group in sorted(pairs, key=lambda pair: pair[0][0]):
        yield group, leaf


def _pair_named(found: list[_Found], leaves: list[_Leaf]) -> Iterator[tuple[_Found, _Leaf | None]]:
    """By name within a top layer; by order where the names say nothing and the numbers agree."""
    for top in dict.fromkeys(group.names[0] for group in found):
        groups = [group for group in found if group.names[0] == top]
        own = [leaf for leaf in leaves if leaf.names[0] == top]
        left = list(own)
        matched: dict[int, _Leaf] = {}
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


def _name(group: _Found, leaf: _Leaf | None, found: list[_Found]) -> str:
    if leaf:
        return "/".join(leaf.names)
    names = [name for name in group.names if name != "stacked_rnn_cells"]
    siblings = [g for g in found if g.names[:-1] == group.names[:-1]]
    if len(names) > 1 and len(siblings) == 1 and _is_cell(names[-1]):
        names = names[:-1]
    return "/".join(names)


def _is_cell(name: str) -> bool:
    return name == "cell" or bool(_CELL_NAME.fullmatch(name))


# The layer


def _guess(
    request: Request, name: str, group: _Found, arrays: dict[str, Array], named: bool
) -> Layer:
    """A layer without a configuration: its arrays and its name must do."""
    backward = ("backward_layer", "backward_")
    reverse = any(part.startswith(backward) for part in (*group.place, *group.names))
    one = keras_layer(request, name, arrays, reverse=reverse)
    return one._replace(note=one.note + _OLD) if named and one.cell and one.note else one


def _settle(request: Request, name: str, leaf: _Leaf, arrays: dict[str, Array]) -> Layer:
    """A layer as its configuration says."""
    config, reverse = leaf.config, leaf.reverse
    if leaf.kind not in _CELLS:
        guess = keras_layer(request, name, arrays, reverse=reverse, note="")
        if guess.cell is None:
            return guess._replace(note=f"{leaf.kind}, which no cell here computes")
        if name in request.cells:
            return guess
        return ambiguous(
            name,
            "keras",
            (guess.cell,),
            f"{leaf.kind} is no class of Keras' own; its arrays are those of {guess.cell}",
            reverse=reverse,
        )
    wrong = [
        f"{key}={_word(config[key])!r}"
        for key, expected in (("activation", "tanh"), ("recurrent_activation", "sigmoid"))
        if key in config and _word(config[key]) != expected and not leaf.kind.startswith("CuDNN")
        if not (leaf.kind == "SimpleRNN" and key == "recurrent_activation")
    ]
    inner = config.get("inner_activation")  # Keras 1
    if inner is not None and _word(inner) != "sigmoid":
        wrong.append(f"inner_activation={_word(inner)!r}")
    if wrong:
        return refuse(
            name,
            "keras",
            f"{leaf.kind} with {', '.join(wrong)}: the cells here have tanh and sigmoid; nearest "
            f"is {_CELLS[leaf.kind]}, a different function",
            reverse=reverse,
        )
    note = ""
    if reverse and "backward_layer" not in leaf.place:
        note = "go_backwards: Keras gives the outputs of this layer last step first"
    gru = "gru_reset_after" if config.get("reset_after") else "gru"
    return keras_layer(request, name, arrays, reverse=reverse, gru=gru, note=note)


def _word(activation: Any) -> str:
    """An activation's name, however Keras wrote it down."""
    if isinstance(activation, dict):
        config = activation.get("config")
        activation = config if isinstance(config, str) else activation.get("class_name")
    return str(activation).lower()


# Writing


def write(path: Path, layers: list[Layer], forget_bias: float) -> None:
    """A model that Keras 3 loads: ``.keras``, ``.h5``, or weights alone (``.weights.h5``)."""
    try:
        keras: Any = importlib.import_module("keras")
    except ImportError as error:
        raise need("Keras", "tf", "writing a Keras file") from error
    levels = stack(layers)
    alone = [x.name for x in levels if x.layers[0].reverse]
    weights_only = path.name.endswith(".weights.h5")
    if alone and weights_only:
        raise FileError(
            path, f"has no place for go_backwards, which {alone[0]} needs; .keras has one"
        )
    made = [_keras_layer(keras, level) for level in levels]
    chain = is_chain(levels) and (not alone or len(levels) == 1)
    inputs, outputs = [], []
    for k, (level, layer) in enumerate(zip(levels, made, strict=True)):
        if k == 0 or not chain:
            name = "inputs" if chain else f"{level.name}_inputs"
            shape = (None, level.input_size)
            inputs.append(keras.Input(shape, name=name, dtype=level.dtype.name))
            outputs.append(inputs[-1])
        outputs[-1] = layer(outputs[-1])
        layer.set_weights(
            [array for half in level.layers for array in exported(half, "keras").values()]
        )
    one = len(inputs) == 1
    model = keras.Model(inputs[0] if one else inputs, outputs[0] if one else outputs)
    log = logging.getLogger("absl")
    before, log.disabled = log.disabled, True  # Keras would rather have .keras than .h5
    try:
        (model.save_weights if weights_only else model.save)(str(path))
    finally:
        log.disabled = before


def _keras_layer(keras: Any, level: Level) -> Any:
    kinds = {"rnn": "SimpleRNN", "gru": "GRU", "gru_reset_after": "GRU"}
    options = {"return_sequences": True, "dtype": level.dtype.name}
    if level.cell in ("gru", "gru_reset_after"):
        options["reset_after"] = level.cell == "gru_reset_after"
    # A coupled cell is an LSTM whose input gate is tied to the forget gate.
    kind = getattr(keras.layers, kinds.get(level.cell, "LSTM"))
    if level.bidirectional:
        return keras.layers.Bidirectional(kind(level.hidden_size, **options), name=level.name)
    options |= {"go_backwards": level.layers[0].reverse, "name": level.name}
    return kind(level.hidden_size, **options)
