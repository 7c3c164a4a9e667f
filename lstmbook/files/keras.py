"""Keras files, by h5py alone: HDF5 of Keras 1 to 3, ``.weights.h5`` and ``.keras``.

Two forms are in use. The older names every array (``lstm/lstm_cell/kernel:0``); Keras 3's own
numbers them (``layers/lstm/cell/vars/0``). A configuration, where there is one, tells the rest.
"""

from __future__ import annotations

import importlib
import io
import math
import re
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from ..cells._activations import Array
from ._base import (
    Aside,
    FileError,
    Layer,
    Request,
    natural,
    need,
    no_floats,
    shapes_in_words,
    with_start,
)
from ._keras_config import (
    Found,
    Pairs,
    config_beside,
    fitted,
    leaves_of,
    pair_named,
    pair_numbered,
    read_config,
)
from ._keras_graph import Signal, reads_of
from ._keras_layer import (
    CELL_NAME,
    NUMBERED,
    Leaf,
    Release,
    by_arrays,
    by_config,
    release_of,
    side_of,
)

_DEPTH = 64  # of groups within groups


def read(request: Request) -> tuple[list[Layer], list[Aside]]:
    """All recurrent layers of a Keras file, and what else is in it."""
    with _open(request) as (file, config):
        root = _child(request, file, "model_weights") if "model_weights" in file else file
        if "nb_layers" in root.attrs:
            raise FileError(
                request.path,
                "is of Keras before 1.0, which gave arrays no names: not read. Keras 1 reads it, "
                "and writes what is",
            )
        config = _own(request, file, config)
        if config is not None and request.config:
            raise FileError(
                request.path, "has a configuration of its own; config is for weights alone"
            )
        source = ""
        if config is None:
            config, source = config_beside(request)
        named = bool(_listed(root, "layer_names"))
        release = release_of(_version(file, root)) if named else NUMBERED
        others: list[Aside] = []
        found = list((_named if named else _numbered)(request, root, others))
        leaves = list(leaves_of(config)) if config else []
        pairs = list((pair_named if named else pair_numbered)(found, leaves))
        if source:
            pairs, more = fitted(request, pairs, leaves, named)
            source += more
        return layers_of(request, pairs, config, release, source, others), others


def layers_of(
    request: Request, pairs: Pairs, config: Any, release: Release, source: str, others: list[Aside]
) -> list[Layer]:
    """The recurrent layers of arrays and what a configuration says of them.

    What is none of them joins the others.
    """
    reads, starts = reads_of(config) if config else ({}, {})
    found = [group for group, _ in pairs]
    names: dict[tuple[str, ...], str] = {}  # of the layers, by their places
    layers, taken = [], 0
    for group, leaf in pairs:
        name = _name(group, leaf if not source else None, found)
        if not group.recurrent:
            kind = f"{leaf.kind}: " if leaf else ""
            shapes = {key: tuple(data.shape) for key, data in group.arrays.items()}
            others.append(Aside(name, kind + shapes_in_words(shapes)))
            continue
        if name in request.cells and request.cells[name] is None:
            others.append(Aside(name, "left aside, as asked for"))
            continue
        taken += sum(math.prod(data.shape) * data.dtype.itemsize for data in group.arrays.values())
        request.fit(taken, f"{name}, with what was read before,")
        stored = {key: _array(request, data) for key, data in group.arrays.items()}
        arrays = {
            today: np.concatenate([stored[key] for key in keys], axis=-1)
            if len(keys) > 1
            else stored[keys[0]]
            for today, keys in group.parts.items()
        }
        if leaf:
            names[leaf.place] = name
            layer = by_config(request, name, leaf, arrays, release, source)
            layers.append((leaf.place, with_start(layer, starts.get(leaf.place, ""))))
        else:
            reverse, side = side_of(group.names, group.place)
            layer = by_arrays(request, name, arrays, reverse=reverse, release=release, side=side)
            layers.append(((), layer))
    return [_with_input(layer, reads.get(place), names) for place, layer in layers]


def _with_input(layer: Layer, signal: Signal | None, names: Mapping[tuple[str, ...], str]) -> Layer:
    """The layer with what it reads; without a configuration nothing tells."""
    if signal is None:
        return layer
    if signal.layers and all(place in names for place in signal.layers):
        return layer._replace(reads=tuple(names[place] for place in signal.layers))
    return layer._replace(reads=(), between=signal.words)


def configuration(request: Request) -> Any:
    """The configuration in a file; None if it has weights alone."""
    with _open(request) as (file, config):
        return _own(request, file, config)


def _own(request: Request, file: Any, config: Any) -> Any:
    """The configuration of ``.keras``, or the one that stands in an ``.h5``."""
    if config is None and "model_config" in file.attrs:
        return read_config(request, _text(file.attrs["model_config"]))
    return config


def _version(*groups: Any) -> str | None:
    """The release that wrote a file, where it says so: at its root, or beside the weights."""
    found = [group.attrs["keras_version"] for group in groups if "keras_version" in group.attrs]
    return _text(found[0]) if found else None


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
        config = read_config(request, archive.read("config.json"))
        data = io.BytesIO(archive.read("model.weights.h5"))
    with h5py.File(data, "r") as file:
        yield file, config


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


def _is_data(item: Any, others: list[Aside]) -> bool:
    """Whether it is an array of floats; an array of something else joins the others."""
    if not hasattr(item, "shape"):
        return False
    if item.dtype.kind != "f":
        others.append(Aside(item.name.lstrip("/"), no_floats(item.dtype, item.shape or ())))
    return bool(item.dtype.kind == "f")


def _named(request: Request, root: Any, others: list[Aside]) -> Iterator[Found]:
    """The older form: groups by layer, arrays by name."""
    for top in _listed(root, "layer_names"):
        group = _child(request, root, top)
        places: dict[str, dict[str, Any]] = {}
        for name in _listed(group, "weight_names"):
            data = _child(request, group, name)
            if _is_data(data, others):
                place, _, last = re.sub(r":\d+$", "", name).rpartition("/")
                first = re.fullmatch(r"(.+)_([WUb](_[a-z])?)", last)  # Keras 1: lstm_1_W_i
                if first and not place:
                    place, last = first[1], first[2]
                places.setdefault(place, {})[last] = data
        for place, arrays in places.items():
            parts = tuple(filter(None, place.split("/")))
            names = parts if parts[:1] == (top,) else (top, *parts)
            yield Found(parts, names, arrays)


def _numbered(request: Request, root: Any, others: list[Aside]) -> Iterator[Found]:
    """Keras 3's form: arrays by number below ``vars``, in the order in which they were made."""
    seen: set[Any] = set()
    place_of = importlib.import_module("h5py").h5o.get_info

    def walk(group: Any, place: tuple[str, ...], names: tuple[str, ...]) -> Iterator[Found]:
        if len(place) > _DEPTH or group.id in seen:
            return
        seen.add(group.id)
        children = {name: _child(request, group, name) for name in group}
        # As they were written: HDF5 lists them by the alphabet. Keras writes backward_layer first.
        places = {
            name: (name == "backward_layer", place_of(child.id).addr)
            for name, child in children.items()
        }
        children = {name: children[name] for name in sorted(children, key=places.__getitem__)}
        own = children.pop("vars", None)
        if own is not None and hasattr(own, "keys"):
            variable = own.attrs.get("name")
            if variable is not None and place:
                names = (*names[:-1], _text(variable))
            data = [_child(request, own, name) for name in sorted(own, key=natural)]
            data = [item for item in data if _is_data(item, others)]
            labels = [str(k) for k in range(len(data))]
            cell: Any = place and (place[-1] == "cell" or place[-2:-1] == ("cells",))
            cell = cell or (variable and CELL_NAME.fullmatch(_text(variable)))
            if cell and len(data) in (2, 3):
                labels = ["kernel", "recurrent_kernel", "bias"]
            if data:
                yield Found(place, names, dict(zip(labels, data, strict=False)))
        for name, child in children.items():
            if hasattr(child, "keys") and not (not place and name == "optimizer"):
                inner = names if name in _CONTAINERS else (*names, name)
                yield from walk(child, (*place, _RENAMED.get(name, name)), inner)

    yield from walk(root, (), ())


_RENAMED = {"_layer_checkpoint_dependencies": "layers"}  # Keras 2.12 to 2.15
_CONTAINERS = {"layers", "_layer_checkpoint_dependencies", "cells"}


def _name(group: Found, leaf: Leaf | None, found: list[Found]) -> str:
    if leaf:
        return "/".join(leaf.names)
    names = [name for name in group.names if name != "stacked_rnn_cells"]
    siblings = [g for g in found if g.names[:-1] == group.names[:-1]]
    if (
        len(names) > 1
        and len(siblings) == 1
        and (names[-1] == "cell" or CELL_NAME.fullmatch(names[-1]))
    ):
        names = names[:-1]
    return "/".join(names)
