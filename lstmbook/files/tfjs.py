"""Layers models of TensorFlow.js: ``model.json`` and the files of weights beside it.

Its layers are those of Keras, with other defaults (hard_sigmoid in the gates of LSTM and GRU, no
reset_after); the configuration that it writes says all of them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from ..cells._activations import Array
from ._base import Aside, FileError, Layer, Request, no_floats
from ._keras_config import model_of
from ._keras_layer import Release
from ._saved_model import Variable, paired
from .keras import layers_of

_WIDTHS = {
    "float32": 4,
    "int32": 4,
    "uint8": 1,
    "uint16": 2,
    "float16": 2,
    "bool": 1,
    "complex64": 8,
}
_SILENT = Release("hard_sigmoid", "TensorFlow.js")


def read(request: Request) -> tuple[list[Layer], list[Aside]]:
    """All recurrent layers of a model, and what else is in it."""
    request.fit(20 * request.path.stat().st_size, "the file, once it is parsed,")
    try:
        model = json.loads(request.path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise FileError(request.path, f"is no JSON: {error}") from error
    if not isinstance(model, dict) or not isinstance(model.get("weightsManifest"), list):
        raise FileError(
            request.path,
            "is no model of TensorFlow.js: it has no weightsManifest. A configuration of Keras "
            "is given with its weights, as config",
        )
    topology = model.get("modelTopology") or {}
    config = model_of(topology.get("model_config", topology))
    if config is None:
        raise FileError(request.path, "is a graph model of TensorFlow.js; layers models are read")
    variables, aside = [], []
    for group in model["weightsManifest"]:
        for item in _weights(request, group):
            if isinstance(item, Aside):
                aside.append(item)
            else:
                variables.append(item)
    layers = layers_of(request, paired(variables, config), config, _SILENT, "", aside)
    return layers, aside


def _weights(request: Request, group: dict[str, Any]) -> Iterator[Variable | Aside]:
    """The arrays of one list of files, which hold them one behind the other."""
    data = b"".join(_files(request, group["paths"]))
    start = 0
    for entry in group["weights"]:
        name, shape = str(entry["name"]), tuple(int(n) for n in entry["shape"])
        packed = entry.get("quantization") or {}
        kind = str(packed.get("dtype") or entry["dtype"])
        if kind not in _WIDTHS:
            raise FileError(request.path, f"{name} has the element type {kind}")
        end = start + math.prod(shape) * _WIDTHS[kind]
        if min(shape, default=0) < 0 or end > len(data):
            raise FileError(
                request.path, f"is damaged: its files of weights are too short for {name}"
            )
        if entry["dtype"] != "float32":
            yield Aside(name, no_floats(entry["dtype"], shape))
        else:
            numbers = np.frombuffer(data[start:end], np.dtype(kind).newbyteorder("<"))
            yield _variable(name, numbers.reshape(shape), packed)
        start = end


def _variable(name: str, numbers: Array, packed: dict[str, Any]) -> Variable:
    array = numbers.astype(np.float32)
    if "scale" in packed:
        array = array * np.float32(packed["scale"]) + np.float32(packed.get("min", 0))
    return Variable(name, array.shape, array.dtype, lambda _: array)


def _files(request: Request, names: Any) -> Iterator[bytes]:
    """The files of weights; never from another folder."""
    folder, size = request.path.resolve().parent, 0
    for name in names:
        path = folder / str(name)
        if path.resolve().parent != folder or not path.is_file():
            raise FileError(
                request.path, f"its weights are said to be in {name!r}, which is no file beside it"
            )
        size += path.stat().st_size
        request.fit(size, "the weights")
        yield path.read_bytes()
