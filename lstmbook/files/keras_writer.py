"""Keras files, written by Keras: models of recurrent layers, or their weights alone."""

from __future__ import annotations

import importlib
import logging
from pathlib import Path
from typing import Any

from ._base import FileError, Layer, need, unused
from ._keras_config import is_config, neighbour
from ._stack import Level, chains, exported, stack

# Names that the reader takes for the backward half of a layer, and that of a group in HDF5.
_RESERVED = r"(?i)bw|backward_.*|top_level_model_weights"


def companions(path: Path) -> list[Path]:
    """The configuration beside weights alone, by which they would be read."""
    config = neighbour(path)
    if not path.name.endswith(".weights.h5") or not is_config(config):
        return []
    others = [
        other.name
        for other in sorted(path.parent.iterdir())
        if other != path and other.suffix in (".h5", ".hdf5") and neighbour(other) == config
    ]
    if others:
        raise FileError(
            path,
            f"would be read by {config.name} beside it, the configuration of {', '.join(others)}; "
            "choose another name",
        )
    return [config]


def write(path: Path, layers: list[Layer], forget_bias: float) -> None:
    """A model that Keras 3 loads: ``.keras``, ``.h5``, or weights alone (``.weights.h5``)."""
    try:
        keras: Any = importlib.import_module("keras")
    except ImportError as error:
        raise need("Keras", "tf", "writing a Keras file") from error
    levels = stack(layers, _RESERVED)
    alone = [x.name for x in levels if x.layers[0].reverse]
    weights_only = path.name.endswith(".weights.h5")
    if alone and weights_only:
        raise FileError(
            path, f"has no place for go_backwards, which {alone[0]} needs; .keras has one"
        )
    # go_backwards gives its outputs last step first, so that no chain goes through it
    groups = chains(levels, alone=lambda level: level.layers[0].reverse)
    inputs, outputs, names = [], [], {level.name for level in levels}
    for group in groups:
        name = unused("inputs" if len(groups) == 1 else f"{group[0].name}_inputs", names)
        x = keras.Input((None, group[0].input_size), name=name, dtype=group[0].dtype.name)
        inputs.append(x)
        for level in group:
            layer = _keras_layer(keras, level)
            x = layer(x)
            layer.set_weights(
                [array for half in level.layers for array in exported(half, "keras").values()]
            )
        outputs.append(x)
    one = len(groups) == 1
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
