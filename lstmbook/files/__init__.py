"""Weights from files and to files: every recurrent layer that a file holds, ready to run.

`read` takes TensorFlow checkpoints, SavedModels and frozen graphs (``.pb``), Keras files
(``.keras``, ``.weights.h5``, ``.h5``), ONNX models, PyTorch state dicts and exported programs
(``.safetensors``, ``.pt``, ``.pt2``), layers models of TensorFlow.js (``model.json``) and ``.npz``.
`write` writes TensorFlow 1 checkpoints, Keras files, ONNX models, state dicts and ``.npz``.

What a file is, its bytes tell, not its name; but ONNX models, frozen graphs and those of
TensorFlow.js are known by their endings. Nothing is ever unpickled, no link out of a file is
followed, and a file that claims more than ``max_bytes`` is refused before memory is taken.
"""

from __future__ import annotations

import importlib
import os
import re
import zipfile
from collections.abc import Callable, Iterable, Mapping
from os import PathLike
from pathlib import Path
from typing import Any, BinaryIO

from .. import layouts
from ._base import MAX_BYTES, Aside, Contents, FileError, Layer, Request, first_line
from ._stack import chained
from ._whole import replacing

__all__ = [
    "MAX_BYTES",
    "Aside",
    "Contents",
    "FileError",
    "Layer",
    "chained",
    "contents",
    "read",
    "write",
]

# How each kind is called, which module reads it, and by which function.
_READERS = {
    "tf1": ("TensorFlow checkpoint", "tf1", "read"),
    "frozen": ("frozen TensorFlow graph", "frozen", "read"),
    "keras": ("Keras", "keras", "read"),
    "onnx": ("ONNX", "onnx", "read"),
    "safetensors": ("safetensors", "torch", "read_safetensors"),
    "torch": ("PyTorch", "torch", "read_state_dict"),
    "pt2": ("exported PyTorch program", "pt2", "read"),
    "tfjs": ("TensorFlow.js", "tfjs", "read"),
    "npz": ("NumPy .npz", "npz", "read"),
}


def read(
    path: str | PathLike[str],
    *,
    forget_bias: float | None = None,
    cells: Mapping[str, str | None] | None = None,
    config: str | PathLike[str] | None = None,
    average: bool = False,
    max_bytes: int = MAX_BYTES,
) -> list[Layer]:
    """Every recurrent layer of a file.

    Parameters
    ----------
    path : path
        A file; for a TensorFlow checkpoint its prefix, any of its files or its folder.
    forget_bias : float, optional
        What TensorFlow 1 added to the forget gate at run time, so that no checkpoint holds it. If
        it is not given, 1 is assumed, TensorFlow's default.
    cells : mapping of str to str or None, optional
        What a layer is where the file does not tell: its name to a cell's, or to None to leave it
        aside.
    config : path, optional
        For weights of Keras alone: the JSON that ``model.to_json()`` gives. Without it, a file of
        the same name that ends in ``.json`` is read, if it is one. It must fit the weights.
    average : bool
        Read the moving averages that TensorFlow 1 kept of its variables
        (``ExponentialMovingAverage``), not the variables.
    max_bytes : int
        The limit for all arrays together.

    Returns
    -------
    list of Layer
        ``Layer(name, cell, params, layout, reverse, note, candidates, assumed, reads, between)``,
        in the order of the file. A layer that is ambiguous, or that no cell here computes, has None
        as its ``cell``, and its ``note`` says why and what can be done. ``assumed`` has what the
        file does not say and was taken to be so (the ``note`` says it too); it is empty where the
        file, or the caller, said all. ``reads`` has the names of the layers whose output sequences
        are its input, and ``between`` what is its input otherwise; weights alone do not say it, and
        then ``reads`` is None. What is not recurrent (a dense head, an optimizer's slots) is not in
        the list; `contents` has it too.

    Raises
    ------
    FileError
        If the file is missing, damaged, too large or of another kind.
    ImportError
        If the library that reads this kind of file is not installed, and which extra brings it.

    Examples
    --------
    >>> import numpy as np, tempfile, pathlib
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> arrays = {"rnn/gru_cell/gates/kernel": np.zeros((7, 8)),
    ...           "rnn/gru_cell/gates/bias": np.ones(8),
    ...           "rnn/gru_cell/candidate/kernel": np.zeros((7, 4)),
    ...           "rnn/gru_cell/candidate/bias": np.zeros(4)}
    >>> np.savez(folder / "w.npz", **arrays)
    >>> [layer] = read(folder / "w.npz")
    >>> layer.name, layer.cell, layer.params.W_x.shape
    ('rnn/gru_cell', 'gru', (3, 3, 4))
    """
    options: dict[str, Any] = {"forget_bias": forget_bias, "cells": cells, "config": config}
    return contents(path, average=average, max_bytes=max_bytes, **options).layers


def contents(
    path: str | PathLike[str],
    *,
    forget_bias: float | None = None,
    cells: Mapping[str, str | None] | None = None,
    config: str | PathLike[str] | None = None,
    average: bool = False,
    max_bytes: int = MAX_BYTES,
) -> Contents:
    """What is in a file: its kind, its recurrent layers, and what else, with the reason.

    Parameters and errors are those of `read`.
    """
    request = Request(
        Path(path),
        None if forget_bias is None else float(forget_bias),
        dict(cells or {}),
        int(max_bytes),
        None if config is None else Path(config),
        average,
    )
    which = kind(request.path)
    words, module, function = _READERS[which]
    if request.config and which != "keras":
        raise FileError(path, f"is of the kind {words}; config is for Keras files of weights alone")
    if average and which not in ("tf1", "frozen"):
        raise FileError(path, f"is of the kind {words}; average is for TensorFlow checkpoints")
    reader = getattr(importlib.import_module(f".{module}", __package__), function)
    try:
        layers, aside = reader(request)
    except (FileError, ImportError):
        raise
    except MemoryError as error:
        raise FileError(path, "does not fit into memory") from error
    except Exception as error:  # a damaged file can make a library raise anything
        raise FileError(
            path, f"is damaged, or not what it seems ({words}): {first_line(error)}"
        ) from error
    unknown = set(request.cells) - {item.name for item in (*layers, *aside)}
    if unknown:
        names = ", ".join(sorted(layer.name for layer in layers)) or "none"
        raise FileError(
            path, f"cells names {', '.join(sorted(unknown))}; the layers in the file: {names}"
        )
    return Contents(str(path), words, layers, aside)


# What `write` writes: to which endings, and what is done without one.
_WRITERS = {
    "npz": (".npz",),
    "keras": (".keras", ".weights.h5", ".h5", ".hdf5"),
    "torch": (".safetensors", ".pt", ".pth", ".bin"),
    "onnx": (".onnx",),
    "tf1": (),
}
_MODULES = {"keras": "keras_writer", "onnx": "onnx_writer"}  # that write; the others read as well


def write(
    path: str | PathLike[str],
    layers: Iterable[Layer],
    *,
    to: str,
    overwrite: bool = False,
    forget_bias: float = 1.0,
    check: Callable[[Path], None] | None = None,
) -> list[Path]:
    """Write layers to a file of another kind: all of it, or nothing.

    A layer is joined to the one that it ``reads`` (`chained` says so for layers of which no file
    does); any other has an input of its own. Two halves of a bidirectional layer, one behind the
    other in the list, become one layer.

    Parameters
    ----------
    path : path
        Its ending says the form: ``.keras``, ``.h5`` or ``.weights.h5`` for ``keras``;
        ``.safetensors``, ``.pt`` or ``.pth`` for ``torch``. For ``tf1`` it is the prefix.
    layers : iterable of Layer
        As `read` gives them; each must have a cell.
    to : str
        ``npz`` (this project's own form), ``keras``, ``torch``, ``onnx`` or ``tf1``.
    overwrite : bool
        Whether an older file of that name may be replaced. What lies beside it and would be read
        with it goes too: all files of a checkpoint, its ``.meta`` among them, and the
        configuration of Keras weights.
    forget_bias : float
        For ``tf1``: the ``forget_bias`` of the cell that will use the checkpoint.
    check : function, optional
        Called with ``path`` when the file is there; if it raises, all is as it was before.

    Returns
    -------
    list of Path
        What was written.

    Raises
    ------
    LayoutError
        If a cell cannot be expressed there: why, and what is nearest.
    FileError
        If the file is there already, or what would be read with it; or if it cannot be written.
    """
    path = Path(path)
    if to not in _WRITERS:
        raise ValueError(f"to={to!r}; expected one of {', '.join(_WRITERS)}")
    endings = _WRITERS[to]
    if endings and not path.name.endswith(endings):
        raise FileError(path, f"to={to!r} writes files that end in {', '.join(endings)}")
    layers = list(layers)
    if not layers:
        raise ValueError("there is no layer to write")
    for layer in layers:
        if layer.cell is None:
            raise ValueError(f"{layer.name} has no cell: {layer.note}")
    names = [layer.name for layer in layers]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"two layers are called {name!r}; layer._replace(name=…) renames one")
    for layer in layers if to != "npz" else ():
        try:
            layouts.describe(str(layer.cell), to)
        except layouts.LayoutError as error:
            raise layouts.LayoutError(f"{layer.name}: {error}") from None
    form = importlib.import_module(f".{_MODULES.get(to, to)}", __package__)
    companions = form.companions(path) if hasattr(form, "companions") else []
    there = [file for file in dict.fromkeys((path, *companions)) if os.path.lexists(file)]
    if there and not overwrite:
        others = ", ".join(file.name for file in there if file != path)
        if others:
            what = f"what would be read with it is there already: {others}"
            raise FileError(path, f"{what}; overwrite=True replaces or removes it")
        raise FileError(path, "is there already; overwrite=True replaces it")
    stale = [file for file in there if file in companions]
    try:
        with replacing(path, stale, check) as temporary:
            try:
                form.write(temporary, layers, forget_bias)
            except FileError as error:
                raise FileError(path, error.trouble) from error
            names = [file.name for file in sorted(temporary.parent.iterdir())]
    except OSError as error:
        raise FileError(path, f"cannot be written: {error.strerror or error}") from error
    return [path.parent / name for name in names]


# The first bytes of a file, and what it then is
_HDF5 = b"\x89HDF\r\n\x1a\n"
_MAGIC = {
    _HDF5: "keras",
    b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19": "torch",  # before 1.6; torch.load reads no more
}
_REFUSED = {
    b"\x93NUMPY": "is one array without a name (.npy); an .npz, with names, is read",
    b"\x80": "is a pickle, or begins like one: nothing is unpickled here",
}
_NAMES = {
    ".onnx": "onnx",
    ".pb": "frozen",
    ".safetensors": "safetensors",
    ".npz": "npz",
    ".keras": "keras",
}
_NAMES |= {".h5": "keras", ".hdf5": "keras", ".pt": "torch", ".pth": "torch"}
_NAMES |= {".bin": "torch", ".json": "tfjs"}
_TABLE = b"\x57\xfb\x80\x8b\x24\x75\x47\xdb"  # at the end of what TensorFlow's Saver writes


def kind(path: str | PathLike[str]) -> str:
    """What a file is, by what is in it: tf1, frozen, keras, onnx, torch, pt2, tfjs, npz or
    safetensors."""
    path = Path(path)
    try:
        if path.is_dir() or path.name == "saved_model.pb":
            return "tf1"
        if re.search(r"\.(index|meta|data-\d{5}-of-\d{5})$", path.name) or (
            path.with_name(path.name + ".index").exists() and not path.exists()
        ):
            return "tf1"
        if not path.is_file():
            what = "is no file" if path.exists() else "there is no such file"
            raise FileError(path, what)
        with path.open("rb") as file:
            first = file.read(512)
            size = path.stat().st_size
            file.seek(max(0, size - 8))
            last = file.read(8)
            has_block = _has_user_block(file, size)
    except OSError as error:
        raise FileError(path, f"cannot be opened: {error.strerror or error}") from error
    if not first:
        raise FileError(path, "is empty")
    for magic, found in _MAGIC.items():
        if first.startswith(magic):
            return found
    # Its first bytes are a length, which can look like an archive's or a pickle's.
    if first[8:9] == b"{" and not has_block and not first.startswith(b"\x93NUMPY"):
        return "safetensors"
    if first.startswith(b"PK"):
        return _kind_of_zip(path)
    if has_block:
        return "keras"
    for magic, why in _REFUSED.items():
        if first.startswith(magic):
            raise FileError(path, why)
    if first[4:8] == b"TFL3":
        raise FileError(path, "is a TensorFlow Lite model, which is not read here")
    if last == _TABLE:
        return "tf1"
    expected = _NAMES.get(path.suffix.lower())
    if expected in ("onnx", "frozen", "tfjs"):
        return expected
    names = "TensorFlow checkpoint, frozen graph (.pb), Keras, ONNX (.onnx), safetensors, PyTorch, "
    names += "TensorFlow.js (.json), .npz"
    claim = f"its name says {_READERS[expected][0]}, but " if expected else ""
    raise FileError(path, f"{claim}it begins with {first[:8]!r}, which is none of: {names}")


def _has_user_block(file: BinaryIO, size: int) -> bool:
    """Whether it is HDF5 behind bytes of the user's own: 512 of them, 1024, 2048 and so on."""
    at = 512
    while at < size:
        file.seek(at)
        if file.read(len(_HDF5)) == _HDF5:
            return True
        at *= 2
    return False


def _kind_of_zip(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            names = {name for name in archive.namelist() if not name.endswith("/")}
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, EOFError) as error:
        raise FileError(path, f"is a damaged or truncated archive: {first_line(error)}") from error
    if {"config.json", "model.weights.h5"} & names:
        return "keras"
    if any(name.endswith("/data/weights/model_weights_config.json") for name in names):
        return "pt2"
    if any(name == "data.pkl" or name.endswith("/data.pkl") for name in names):
        return "torch"
    if names and all(name.endswith(".npy") for name in names):
        return "npz"
    raise FileError(
        path, "is an archive, but not of Keras (config.json), PyTorch (data.pkl) or NumPy (.npy)"
    )
