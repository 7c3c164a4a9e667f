"""The frameworks' own cells on our weights: NumPy in, NumPy out.

``live.tf1`` (TensorFlow's v1 cells), ``live.tf1_block`` (its fused operators), ``live.keras``
(Keras 3), ``live.tflite`` (TensorFlow Lite's kernel), ``live.onnx`` (ONNX Runtime), ``live.torch``
(PyTorch), ``live.flax`` and ``live.haiku`` (on JAX). Each has ``run`` with the signature and the
return of `lstmbook.run`; tf1, keras and torch have ``backprop`` as well. Without any step or any
sequence a framework that would fail is not asked: there is nothing to compute. A module imports its
framework when it is itself imported, which takes a few seconds for TensorFlow.
"""

import importlib
from typing import Any

_MODULES = ("flax", "haiku", "keras", "onnx", "tf1", "tf1_block", "tflite", "torch")


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
