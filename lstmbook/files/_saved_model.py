"""What a SavedModel of Keras 2 says of its layers, in ``keras_metadata.pb`` beside its graph."""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from ..cells._activations import Array
from ._base import Request
from ._keras_config import Found, Pairs, leaves_of
from ._keras_layer import Leaf


def keras_metadata(request: Request, prefix: Path) -> Any:
    """The configuration of the model; None if there is none that can be read.

    A model of a class of the user's own has none as a whole, but one for each of its layers.
    """
    path = prefix.parent.parent / "keras_metadata.pb"
    if prefix.parent.name != "variables" or not path.is_file():
        return None
    request._replace(path=path).fit(20 * path.stat().st_size, "the file, once it is parsed,")
    protos: Any = importlib.import_module("tensorflow.python.keras.protobuf.saved_metadata_pb2")
    metadata = protos.SavedMetadata()
    try:
        metadata.ParseFromString(path.read_bytes())
        nodes = [json.loads(node.metadata) for node in metadata.nodes]
    except Exception:  # it is not needed: the arrays are read without it
        return None
    models = [x for x in nodes if isinstance(x.get("config"), dict) and "layers" in x["config"]]
    return models[0] if models else {"class_name": "Model", "config": {"layers": nodes}}


class Variable:
    """An array of a checkpoint, with the face of one in HDF5; it is read when it is asked for."""

    is_virtual = external = False

    def __init__(
        self, name: str, shape: tuple[int, ...], dtype: Any, get: Callable[[str], Array]
    ) -> None:
        self.name, self.shape, self.dtype, self._get = name, shape, np.dtype(dtype), get

    def __getitem__(self, _: Any) -> Array:
        return self._get(self.name)


def paired(variables: Iterable[Variable], config: Any) -> Pairs:
    """The variables of each layer, with what the configuration says of it."""
    groups: dict[tuple[str, ...], dict[str, Variable]] = {}
    for variable in variables:
        *names, last = re.sub(r"/\.ATTRIBUTES/VARIABLE_VALUE$", "", variable.name).split("/")
        groups.setdefault(tuple(names), {})[last] = variable
    leaves = list(leaves_of(config))
    return [(Found(names, names, arrays), _leaf(names, leaves)) for names, arrays in groups.items()]


def _leaf(names: tuple[str, ...], leaves: Iterable[Leaf]) -> Leaf | None:
    """The one leaf whose name is among those around some variables."""
    fitting = [leaf for leaf in leaves if leaf.names[-1] in names]
    return fitting[0] if len(fitting) == 1 else None
