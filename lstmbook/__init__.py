"""Recurrent cells, stated once and proved live.

========================== =============================================================
`lstmbook.cells`           the cells, one module each: rnn, lstm, peephole, coupled,
                           coupled_peephole, gru, gru_reset_after
`lstmbook.sequence`        `run` a cell over a batch of sequences, `unroll`, `record`,
                           `backprop`; `fast` makes them quick
`lstmbook.layouts`         weights from and to the frameworks' layouts
`lstmbook.files`           weights from and to files; `certificate` proves a conversion
`lstmbook.detect`          which convention are these arrays in?
`lstmbook.live`            the frameworks' own cells on our weights: tf1, tf1_block, keras,
                           torch, onnx, tflite, flax, haiku
`lstmbook.compare`         differences between two results, as rows to print
`lstmbook.check`           is this function that cell? If not, which equation differs?
`lstmbook.verify`          the same for any language, by golden vectors
`lstmbook.slips`           the catalogue of wrong cells
`lstmbook.train`           a stack of cells with a head, losses, Adam, and the loop
`lstmbook.tasks`           what to train on, with a known best answer
`lstmbook.experiments`     every cell on every task, and the LSTM without one of its parts
`lstmbook.trace`           a framework's own source, line by line, with shapes
`lstmbook.draw`            the cells as drawings
`lstmbook.cli`             the command line: info, convert, detect, verify
========================== =============================================================

Importing `lstmbook` imports NumPy and nothing else.
"""

import importlib
from typing import TYPE_CHECKING, Any

from . import cells, compare, layouts, sequence
from .cells import CELLS, coupled, coupled_peephole, gru, gru_reset_after, lstm, peephole, rnn
from .layouts import LayoutError
from .sequence import backprop, record, run, unroll

__version__ = "0.1.0"

__all__ = [
    "CELLS",
    "LayoutError",
    "backprop",
    "cells",
    "check",
    "compare",
    "coupled",
    "coupled_peephole",
    "gru",
    "gru_reset_after",
    "layouts",
    "lstm",
    "peephole",
    "record",
    "rnn",
    "run",
    "sequence",
    "unroll",
]

if TYPE_CHECKING:
    from .checker import check

# Modules imported when they are first used.
_LATE = (
    *("certificate", "checker", "cli", "detect", "draw", "experiments", "files", "live"),
    *("slips", "tasks", "trace", "train", "verify"),
)


def __getattr__(name: str) -> Any:
    if name == "check":
        return importlib.import_module(f"{__name__}.checker").check
    if name in _LATE:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
