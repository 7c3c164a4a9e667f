"""TensorFlow 1 checkpoints, by TensorFlow's own reader and writer."""

from __future__ import annotations

import importlib
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..cells._activations import Array
from ._base import Aside, FileError, Layer, Request, first_line, joined, natural, need, no_floats
from ._graph import graph_of, meta_of, saved_model_of
from ._keras_layer import Release
from ._names import sort_out
from ._saved_model import Variable, keras_metadata, paired
from ._stack import Level, chains, exported, stack
from ._tf1_names import FOREIGN
from .keras import layers_of


def read(request: Request) -> tuple[list[Layer], list[Aside]]:
    """All recurrent layers of a checkpoint, and what else is in it."""
    reader, prefix = _open(request)
    dtypes = reader.get_variable_to_dtype_map()
    every = reader.get_variable_to_shape_map()
    variables = _variables(request, reader) if _OBJECTS in dtypes else {}
    keys = {name: name for name in sorted(every, key=natural) if name != _OBJECTS}
    if variables:
        keys = _renamed(keys, variables)
        variables |= {name: variables[key] for name, key in keys.items() if key in variables}
    floats = {name: key for name, key in keys.items() if dtypes[key].is_floating}
    shapes = {name: tuple(every[key]) for name, key in floats.items()}
    others = {
        name: no_floats(dtypes[key].name, every[key])
        for name, key in keys.items()
        if name not in floats
    }
    data = _data_of(prefix)
    stored = sum(path.stat().st_size for path in data)
    sizes = {name: math.prod(shapes[name]) * dtypes[key].size for name, key in floats.items()}

    def get(name: str) -> Array:
        if data and sizes[name] > stored:
            raise FileError(
                request.path,
                f"is damaged: {name} {shapes[name]} takes {sizes[name]:,} bytes, "
                f"and the data files have {stored:,}",
            )
        array: Array = reader.get_tensor(floats[name])
        return array

    request = request._replace(graph=graph_of(prefix, request.max_bytes), variables=variables)
    config = keras_metadata(request, prefix)
    if config:
        kept = [name for name in floats if not _OPTIMIZER.search(name)]
        parts = [
            Variable(name, shapes[name], dtypes[keys[name]].as_numpy_dtype, get) for name in kept
        ]
        aside = [Aside(name, why) for name, why in others.items() if not _OPTIMIZER.search(name)]
        return layers_of(request, paired(parts, config), config, Release(), "", aside), aside
    return sort_out(request, shapes, request.counting(sizes, get), others)


_OBJECTS = "_CHECKPOINTABLE_OBJECT_GRAPH"
_OPTIMIZER = re.compile(r"^(optimizer|keras_api)/|/\.OPTIMIZER_SLOT/")  # and metrics
_NUMBERED = re.compile(r"(?:(?P<owner>.+)/)?(?:_all_)?variables/\d+/\.ATTRIBUTES/VARIABLE_VALUE")


def _variables(request: Request, reader: Any) -> dict[str, str]:
    """The variables of a checkpoint of objects: its key to the name in the program."""
    protos: Any = importlib.import_module("tensorflow.core.protobuf.trackable_object_graph_pb2")
    graph = protos.TrackableObjectGraph()
    graph.ParseFromString(reader.get_tensor(_OBJECTS))
    request.fit(20 * graph.ByteSize(), "its list of objects, once it is parsed,")
    return {
        value.checkpoint_key: value.full_name for node in graph.nodes for value in node.attributes
    }


def _renamed(keys: Mapping[str, str], variables: Mapping[str, str]) -> dict[str, str]:
    """The keys of a SavedModel by the names of the program, where a number is all they say.

    A name that stands for two variables of one list says nothing: then the keys stay.
    """
    names: dict[str, str] = {}
    for key in keys:
        match = _NUMBERED.fullmatch(key)
        name = variables.get(key, "").removesuffix(":0") if match else ""
        owner = f"{match['owner']}/" if match and match["owner"] else ""
        name = owner + name if name else key
        if name in names and _list_of(names[name]) == _list_of(key):
            return dict(keys)
        names.setdefault(name, key)
    return names


def _list_of(key: str) -> str:
    """The list that a numbered key is in."""
    return re.sub(r"\d+/\.ATTRIBUTES/.*", "", key)


def _open(request: Request) -> tuple[Any, Path]:
    prefix = _prefix(request.path)
    tf = _tensorflow("reading a TensorFlow checkpoint")
    try:
        return tf.train.load_checkpoint(str(prefix)), prefix
    except Exception as error:  # TensorFlow raises what it likes
        raise FileError(
            request.path, f"is no TensorFlow checkpoint, or a damaged one: {first_line(error)}"
        ) from error


def _tensorflow(what: str) -> Any:
    try:
        return importlib.import_module("tensorflow")
    except ImportError as error:
        raise need("TensorFlow", "tf", what) from error


_PART = re.compile(r"\.(index|meta|data-\d{5}-of-\d{5})$")  # what follows the prefix


def _data_of(prefix: Path) -> list[Path]:
    return sorted(prefix.parent.glob(prefix.name.replace("[", "[[]") + ".data-*"))


def _prefix(path: Path) -> Path:
    """What TensorFlow calls a checkpoint: the path without ``.index``, ``.data-…``, ``.meta``."""
    if path.name == "saved_model.pb":
        path = path.parent
    if path.is_dir():
        return _newest(path)
    name = _PART.sub("", path.name)
    prefix = path.with_name(name)
    if name != path.name or not path.exists():
        if not path.with_name(name + ".index").exists() and not prefix.exists():
            raise FileError(path, f"a checkpoint needs {name}.index, which is not there")
        if prefix.exists() and not path.with_name(name + ".index").exists():
            return prefix  # the older format, one file
        if not _data_of(prefix):
            raise FileError(
                path, f"the index is there, but no {name}.data-00000-of-00001, which has the arrays"
            )
    return prefix


def _newest(folder: Path) -> Path:
    """The checkpoint that a folder's ``checkpoint`` file names, a SavedModel's, or the only one."""
    if (folder / "variables" / "variables.index").exists():
        return folder / "variables" / "variables"
    found = sorted(path.with_suffix("") for path in folder.glob("*.index"))
    listed = folder / "checkpoint"
    if listed.is_file():
        text = listed.read_bytes()[:65536].decode("utf-8", "replace")
        match = re.search(r'^model_checkpoint_path: "([^"]*)"', text, re.MULTILINE)
        if match:  # often an absolute path of the machine that trained: its last part counts
            named = folder / re.split(r"[/\\]", match[1])[-1]
            if named in found or named.is_file():
                return named
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(path.name for path in found[:8])
        raise FileError(folder, f"has several checkpoints: {names}; name one of them")
    raise FileError(folder, "is a folder without a checkpoint in it (no .index file)")


def companions(prefix: Path) -> list[Path]:
    """All files of a checkpoint, the index first, and what else is read by its prefix."""
    if _PART.search(prefix.name):
        name = _PART.sub("", prefix.name)
        raise FileError(prefix, f"is the name of one of a checkpoint's files; its prefix is {name}")
    if prefix.is_dir():
        raise FileError(
            prefix, f"is a folder; the prefix of a checkpoint in it is such as {prefix / 'model'}"
        )
    graph = saved_model_of(prefix)
    if graph:
        raise FileError(
            prefix, f"would be read by the graph of another model, {graph}; choose another folder"
        )
    index = prefix.with_name(prefix.name + ".index")
    return [index, meta_of(prefix), *_data_of(prefix), prefix]


def write(path: Path, layers: list[Layer], forget_bias: float) -> None:
    """A checkpoint by TensorFlow's own writer, under the names that its cells look for."""
    arrays = [exported(layer, "tf1", forget_bias=forget_bias) for layer in layers]
    tensors = joined(
        path,
        (
            {f"{scope}/{name}": array for name, array in table.items()}
            for scope, table in zip(_scopes(layers), arrays, strict=True)
        ),
    )
    tf = _tensorflow("writing a TensorFlow checkpoint")
    tf.raw_ops.SaveV2(
        prefix=str(path),
        tensor_names=list(tensors),
        shape_and_slices=[""] * len(tensors),
        tensors=[tf.constant(array) for array in tensors.values()],
    )


# The scope that TensorFlow gives a cell by default.
_DEFAULT = {
    "rnn": "basic_rnn_cell",
    "lstm": "basic_lstm_cell",
    "peephole": "lstm_cell",
    "gru": "gru_cell",
    "coupled": "coupled_input_forget_gate_lstm_cell",
    "coupled_peephole": "coupled_input_forget_gate_lstm_cell",
}


def _scopes(layers: list[Layer]) -> list[str]:
    """A checkpoint's own scopes where the layers come from one; else TensorFlow's defaults."""
    if all(layer.layout.startswith("tf1") for layer in layers):
        return [layer.name for layer in layers]
    levels = stack(layers, rf"(?i)bw|backward_.*|({FOREIGN.pattern})(_\d+)?")
    scopes: dict[str, str] = {}
    # TensorFlow has no backward half alone, and so none in a stack
    groups = chains(levels, alone=_is_backward)
    for group in groups:
        stacked = len(group) > 1 and len({level.bidirectional for level in group}) == 1
        for k, level in enumerate(group):
            if stacked:
                kind = "stack_bidirectional_rnn" if level.bidirectional else "rnn/multi_rnn_cell"
                above = [group[0].name] * (len(groups) > 1) + [kind, f"cell_{k}"]
            elif len(levels) > 1 or _is_backward(level):
                above = [level.name]
            else:
                above = ["rnn"] * (not level.bidirectional)
            sides = [["bw"] * _is_backward(level)]
            if level.bidirectional:
                sides = [["bidirectional_rnn", "fw"], ["bidirectional_rnn", "bw"]]
            for layer, side in zip(level.layers, sides, strict=True):
                cell = _DEFAULT.get(level.cell, level.cell)
                scopes[layer.name] = "/".join([*above, *side, cell])
    return [scopes[layer.name] for layer in layers]


def _is_backward(level: Level) -> bool:
    return level.layers[0].reverse and not level.bidirectional
