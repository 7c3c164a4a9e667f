"""The frameworks' own cells on our weights: NumPy in, NumPy out.

``live.tf1`` (TensorFlow's v1 cells), ``live.tf1_block`` (its fused operators), ``live.keras``
(Keras 3), ``live.tflite`` (TensorFlow Lite's kernel), ``live.onnx`` (ONNX Runtime), ``live.torch``
(PyTorch), ``live.flax`` and ``live.haiku`` (on JAX). Each has ``run`` with the signature and the
return of `lstmbook.run`; tf1, keras and torch have ``backprop`` as well. Without any step or any
sequence there is nothing to compute, and no framework is asked. A module imports its framework when
it is itself imported, which takes a few seconds for TensorFlow. What they all share is in
`live._engine`.
"""

import importlib
from typing import Any, NamedTuple

__all__ = ["ENGINES", "Engine", "engine_of"]


class Engine(NamedTuple):
    """A framework that runs cells: one module of `live`."""

    words: str  # what runs
    package: str  # what it is imported from
    layouts: dict[str, dict[str, Any]]  # whose arrays it runs, and the options of ``run`` for that
    only: str = ""  # of one that computes in float32 alone: the TypeError for a dtype and a cell


_FLAX = ("flax", "flax_nnx", "flax_nnx_lstm")
ENGINES = {
    "tf1": Engine("TensorFlow's v1 cell", "tensorflow", {"tf1": {}, "tf1_tied": {"tied": True}}),
    "tf1_block": Engine(
        "TensorFlow's block operator",
        "tensorflow",
        {"tf1_block": {}, "tf1_block_v2": {"v2": True}},
        "TensorFlow's block operators are float32, got {}",
    ),
    "keras": Engine("Keras", "keras", {"keras": {}, "keras_cudnn": {"cudnn": True}}),
    "tflite": Engine(
        "TensorFlow Lite's kernel",
        "tensorflow",
        {"tflite": {}},
        "TensorFlow Lite's kernel is float32, got {}; for float64 live.tf1.run({!r}, …) has a cell",
    ),
    "onnx": Engine(
        "ONNX Runtime",
        "onnxruntime",
        {"onnx": {}},
        "ONNX Runtime's recurrent kernels are float32, got {}",
    ),
    "torch": Engine("PyTorch", "torch", {"torch": {}}),
    "flax": Engine("Flax", "flax", {layout: {"layout": layout} for layout in _FLAX}),
    "haiku": Engine("Haiku", "haiku", {"haiku": {}}),
}


def engine_of(layout: str) -> str | None:
    """The name of the module that runs the arrays of a layout."""
    return next((name for name, engine in ENGINES.items() if layout in engine.layouts), None)


def __getattr__(name: str) -> Any:
    if name in ENGINES:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
