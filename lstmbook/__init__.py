"""Recurrent cells, stated once and proved live.

======================= ================================================================
`lstmbook.cells`        the equations: rnn, lstm, peephole, coupled, coupled_peephole,
                        gru, gru_reset_after, a page each
`lstmbook.running`      a cell over a batch of sequences: `run`, `unroll`, `record`,
                        `backprop`, `vjp`, `stream`; what follows from a page
`lstmbook.layouts`      weights from and to the frameworks' layouts
`lstmbook.live`         the frameworks' own cells on our weights: tf1, tf1_block, keras,
                        torch, onnx, tflite, flax, haiku
`lstmbook.files`        weights from and to files; a certificate proves a conversion
`lstmbook.wrong_cells`  the slips that people make, as a catalogue
`lstmbook.diagnose`     `check`: is this function that cell? If not, which equation differs?
`lstmbook.golden`       `verify`: does a program in any language give the golden numbers?
`lstmbook.convention`   `detect`: which convention are these arrays in?
`lstmbook.training`     a stack of cells with a head, losses, Adam, the loop, tasks
`lstmbook.showing`      `compare` two results; `trace` a framework's own source; `draw` a cell
`lstmbook.cli`          the command line: info, convert, detect, verify
======================= ================================================================

Importing `lstmbook` imports NumPy and nothing else; the rest comes when it is first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

from . import cells, layouts
from .cells import CELLS, coupled, coupled_peephole, gru, gru_reset_after, lstm, peephole, rnn
from .layouts import LayoutError
from .running import backprop, record, run, unroll, vjp

if TYPE_CHECKING:
    from .convention.detect import detect
    from .diagnose import check
    from .files.convert import convert
    from .golden.verify import verify
    from .running.stream import stream
    from .showing import compare, draw, trace

__version__ = "0.1.0"

# Functions and folders that come when they are first used: the folder that each is in
_LATE = {
    **dict.fromkeys(("check",), "diagnose"),
    **dict.fromkeys(("convert",), "files.convert"),
    **dict.fromkeys(("compare", "draw", "trace"), "showing"),
    **dict.fromkeys(("stream",), "running.stream"),
    **dict.fromkeys(("detect",), "convention"),
    **dict.fromkeys(("verify",), "golden"),
    **{
        folder: folder
        for folder in (
            *("cli", "convention", "diagnose", "files", "golden", "live", "showing", "training"),
            "wrong_cells",
        )
    },
}

__all__ = [
    "CELLS",
    "LayoutError",
    "backprop",
    "cells",
    "check",
    "compare",
    "convert",
    "coupled",
    "coupled_peephole",
    "detect",
    "draw",
    "gru",
    "gru_reset_after",
    "layouts",
    "lstm",
    "peephole",
    "record",
    "rnn",
    "run",
    "stream",
    "trace",
    "unroll",
    "verify",
    "vjp",
]


def __getattr__(name: str) -> Any:
    folder = _LATE.get(name)
    if folder is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(f"{__name__}.{folder}")
    return module if name == folder else getattr(module, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATE})
