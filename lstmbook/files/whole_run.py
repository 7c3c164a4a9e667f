"""Runs of a file's own model, from the input of one recurrent layer to the output of another.

A certificate holds layers to one another one by one. That they are joined as their files say is
shown by this: Keras or ONNX Runtime runs what stands in the file between the two, as it is.
"""

from __future__ import annotations

import importlib
from collections.abc import Collection, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..cells._activations import Array
from ..running import run
from . import kind
from ._base import MAX_BYTES, Layer, Request, first_line
from ._keras_config import strange_class
from ._stack import Level, chains, stack
from .keras import configuration

Group = Sequence[Level]


class Whole(NamedTuple):
    """A chain of layers that one end ran in one piece."""

    chain: tuple[str, ...]  # the names of its levels' first layers, in the source
    end: str  # "source" or "target"
    words: str  # what ran it, or why nothing did
    max_abs: float | None  # the largest difference from the source's layers, one after the other
    tolerance: float  # that of one layer, for each of them

    @property
    def ok(self) -> bool:
        """Whether nothing speaks against it."""
        return self.max_abs is None or self.max_abs <= self.tolerance

    def __str__(self) -> str:
        chain = " -> ".join(self.chain)
        if self.max_abs is None:
            return f"{chain}: the {self.end} was not run in one piece: {self.words}"
        shown = f"max |Δ| {self.max_abs:.1e}; tolerance {self.tolerance:g}"
        return f"{chain}: the {self.end} in one piece, {self.words}: {shown}"


def wholes(
    source: Path,
    target: Path,
    layers: Sequence[Layer],
    copies: Sequence[Layer],
    names: Mapping[str, str],
    atol: float,
    seed: int = 0,
) -> list[Whole]:
    """Every chain of the target, as each end runs it.

    ``names`` has for each layer of the target the name in the source.
    """
    levels = {level.layers[0].name: level for level in stack(list(layers))}
    found = []
    for group in chains(stack(list(copies))):
        chain = tuple(names[level.layers[0].name] for level in group)
        if len(group) < 2 or not all(name in levels for name in chain):
            continue
        ours = [levels[name] for name in chain]
        xs = np.random.default_rng(seed).normal(size=(4, 7, group[0].input_size))
        xs = xs.astype(np.float32)
        expected = run_here(ours, xs)
        for end, path, whole in (("source", source, ours), ("target", target, group)):
            words, hs = whole_run(path, whole, xs)
            gap = None
            if hs is not None:
                right = expected if hs.shape[1] > 1 else _last_step(expected, ours[-1])
                right = right[: len(hs)]
                if hs.shape == right.shape:
                    gap = float(np.abs(hs - right).max())
                else:
                    words = f"it gives {hs.shape[2]} numbers a step, not {right.shape[2]}"
            found.append(Whole(chain, end, words, gap, atol * len(group)))
    return found


def _last_step(hs: Array, level: Level) -> Array:
    """What Keras gives of a layer's last step: for the backward half, that of the first."""
    ends = [hs[:, -1:], hs[:, :1]] if level.bidirectional else [hs[:, -1:]]
    parts = [
        end[..., k * level.hidden_size : (k + 1) * level.hidden_size] for k, end in enumerate(ends)
    ]
    return np.concatenate(parts, axis=-1)


def whole_run(path: Path, group: Group, xs: Array) -> tuple[str, Array | None]:
    """What ran the layers of a chain in one piece, and the outputs of the last; or why nothing did.

    The outputs are ``(batch, time, features)``, or ``(batch, 1, features)`` where the model gives
    the last step alone; of the first sequences, where a model is made for a smaller batch.
    """
    runner = {"keras": _keras, "onnx": _onnx}.get(kind(path))
    if runner is None:
        return "no program in the file", None
    try:
        return runner(path, group, xs)
    except ImportError as error:
        return f"{error.name} is not installed", None
    except Exception as error:  # a model can need what is not here: classes, custom operators
        return f"it could not be run: {first_line(error)[:120]}", None


def run_here(group: Group, xs: Array) -> Array:
    """The outputs of a chain by `lstmbook.run`: ``(batch, time, features)``."""
    for level in group:
        xs = np.concatenate([_outputs(layer, xs) for layer in level.layers], axis=-1)
    return xs


def _outputs(layer: Layer, xs: Array) -> Array:
    turn = slice(None, None, -1 if layer.reverse else 1)
    hs: Array = run(str(layer.cell), layer.params, xs[:, turn])[0][:, turn]
    return hs


def _keras(path: Path, group: Group, xs: Array) -> tuple[str, Array | None]:
    strange = strange_class(configuration(Request(path, None, {}, MAX_BYTES)))
    if strange:  # what is not Keras' own can be a program, which is not run for a file's sake
        return f"it has {strange} in it", None
    if path.stat().st_size > MAX_BYTES:
        return "it is too large", None
    keras: Any = importlib.import_module("keras")
    model = keras.models.load_model(str(path), compile=False)
    first, last = (_keras_layer(model, level.layers[0].name) for level in (group[0], group[-1]))
    if first is None or last is None:
        return "its layers are in models within the model", None
    if isinstance(first.input, list) or any(isinstance(x, list) for x in (last.input, last.output)):
        return "its layers get more than one input, or give more than one output", None
    hs = np.asarray(keras.Model(first.input, last.output)(xs, training=False))
    return f"Keras ({keras.__version__})", hs if hs.ndim == 3 else hs[:, None]


def _keras_layer(model: Any, name: str) -> Any:
    """The layer of a model that holds a recurrent layer; None if that is in a model within it."""
    keras: Any = importlib.import_module("keras")
    found = [layer for layer in model.layers if layer.name == name.split("/")[0]]
    return found[0] if found and not isinstance(found[0], keras.Model) else None


def _onnx(path: Path, group: Group, xs: Array) -> tuple[str, Array | None]:
    onnx: Any = importlib.import_module("onnx")
    onnxruntime: Any = importlib.import_module("onnxruntime")
    model = onnx.load(str(path), load_external_data=False)
    names = [level.layers[0].name.removesuffix("/reverse") for level in (group[0], group[-1])]
    nodes = {node.name or f"{node.op_type}_{k}": node for k, node in enumerate(model.graph.node)}
    if not all(name in nodes for name in names):
        return "its layers are in graphs within the graph", None
    first, last = (nodes[name] for name in names)
    if any(a.name == "layout" and a.i for node in (first, last) for a in node.attribute):
        return "its layers have the batch first", None
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    kept, needed = _between(model.graph, first.input[0], last.output[0], stored)
    kinds = {value.name: value for value in model.graph.input}
    free = [name for name in needed if name != first.input[0]]
    used = {name for node in kept if node.op_type != "Shape" for name in node.input}
    if not all(name in kinds for name in free):
        return "it needs what stands before", None
    tensors = [stored[name] for name in {x for node in kept for x in node.input} & stored.keys()]
    if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in tensors):
        return "its weights are in files beside it", None
    make = onnx.helper
    x = make.make_tensor_value_info(first.input[0], onnx.TensorProto.FLOAT, None)
    y = make.make_tensor_value_info(last.output[0], onnx.TensorProto.FLOAT, None)
    graph = make.make_graph(kept, "between", [x, *(kinds[name] for name in free)], [y], tensors)
    part = make.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(part.SerializeToString(), options)
    words = ""
    # A model can be made for one size of batch; its own input can have the batch or the time first
    for batch, batch_first in product((len(xs), 1, 2, 3), (True, False)):
        few = xs[:batch]
        feeds = {name: _feed(kinds[name], few, batch_first, name in used) for name in free}
        feeds[first.input[0]] = few.swapaxes(0, 1)  # (time, batch, input)
        missing = [name for name, feed in feeds.items() if feed is None]
        if missing:
            return f"it needs a value for {missing[0]}", None
        try:
            ys = session.run(None, feeds)[0]  # (time, directions, batch, hidden)
        except Exception as error:
            words = f"it could not be run: {first_line(error)[:120]}"
        else:
            words = f"ONNX Runtime ({onnxruntime.__version__})"
            return words, ys.transpose(2, 0, 1, 3).reshape(batch, xs.shape[1], -1)
    return words, None


def _feed(value: Any, xs: Array, batch_first: bool, used: bool) -> Array | None:
    """Whole lengths, a state of zeros or an input of zeros, for an input of a model.

    An input can be zeros if its numbers are not ``used``, and it lends its shape alone. None if it
    is none of these.
    """
    kind = value.type.tensor_type
    dims = [dim.dim_value for dim in kind.shape.dim]
    if kind.elem_type == 6 and len(dims) == 1:  # int32, one for each sequence
        return np.full(len(xs), xs.shape[1], np.int32)
    if kind.elem_type != 1 or len(dims) != 3 or not dims[2]:
        return None
    if value.name.startswith("initial") and dims[0]:  # (directions, batch, hidden)
        return np.zeros((dims[0], len(xs), dims[2]), np.float32)
    if used:
        return None
    sizes = xs.shape[:2] if batch_first else xs.shape[1::-1]
    return np.zeros((*sizes, dims[2]), np.float32)


def _between(
    graph: Any, start: str, end: str, stored: Collection[str]
) -> tuple[list[Any], list[str]]:
    """The nodes that make a value from another, and what else they need."""
    makers = {output: k for k, node in enumerate(graph.node) for output in node.output}
    waiting, seen, kept = [end], set[str](), set[int]()
    while waiting:
        name = waiting.pop()
        if name and name not in seen:
            seen.add(name)
            if name in makers and name != start:
                kept.add(makers[name])
                waiting += graph.node[makers[name]].input
    needed = [x for x in sorted(seen) if x not in stored and (x not in makers or x == start)]
    return [graph.node[k] for k in sorted(kept)], needed
