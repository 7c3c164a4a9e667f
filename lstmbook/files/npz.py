"""``.npz``: this project's own form, and arrays under the names that a framework gives them.

The own form has an array ``layer/field`` for every field of Params, such as
``rnn/basic_lstm_cell/W_x``, and a text ``lstmbook`` (JSON) that lists the layers.
"""

from __future__ import annotations

import io
import json
import math
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..cells import CELLS, check_params
from ..cells._activations import Array
from ._base import Aside, FileError, Layer, Request, no_floats
from ._names import sort_out

_HEADER, _VERSION = "lstmbook", 1
_KEYS = ("name", "cell", "reverse", "reads", "between")  # of a layer, besides its arrays


class _Head(NamedTuple):
    entry: zipfile.ZipInfo
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def size(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


def read(request: Request) -> tuple[list[Layer], list[Aside]]:
    """All recurrent layers of an ``.npz``, and what else is in it."""
    with zipfile.ZipFile(request.path) as archive:
        heads = {
            entry.filename.removesuffix(".npy"): _head(request, archive, entry)
            for entry in archive.infolist()
            if not entry.is_dir()
        }

        def get(name: str) -> Array:
            with archive.open(heads[name].entry) as file:
                array: Array = np.lib.format.read_array(file, allow_pickle=False)
            return array

        floats = {name: head for name, head in heads.items() if head.dtype.kind in "fc"}
        take = request.counting({name: head.size for name, head in floats.items()}, get)
        if _HEADER in heads:
            request.fit(heads[_HEADER].size, "the list of layers")
            return _own(request, str(get(_HEADER)), take), []
        others = {
            name: no_floats(head.dtype, head.shape)
            for name, head in heads.items()
            if name not in floats
        }
        return sort_out(request, {name: head.shape for name, head in floats.items()}, take, others)


def _head(request: Request, archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> _Head:
    """Shape and dtype of one array, refused if they are not what the file has numbers for."""
    form: Any = np.lib.format
    with archive.open(entry) as file:
        version = form.read_magic(file)
        reader = form.read_array_header_1_0 if version == (1, 0) else form.read_array_header_2_0
        shape, _, dtype = reader(file)
        there = entry.file_size - file.tell()
    if dtype.hasobject:
        raise FileError(
            request.path, f"{entry.filename} holds Python objects (a pickle), which are not read"
        )
    head = _Head(entry, shape, dtype)
    if head.size != there:
        raise FileError(
            request.path,
            f"is damaged: {entry.filename} is said to be {dtype} {shape}, {head.size:,} bytes, "
            f"and has {there:,}",
        )
    return head


def _own(request: Request, text: str, take: Callable[[str], Array]) -> list[Layer]:
    header = json.loads(text)
    if header.get("version") != _VERSION:
        raise FileError(
            request.path, f"was written by a later lstmbook (version {header.get('version')!r})"
        )
    layers = []
    for entry in header["layers"]:
        name, cell = str(entry["name"]), str(entry["cell"])
        if cell not in CELLS:
            raise FileError(request.path, f"{name} is said to be a {cell!r}, which is no cell")
        kind = CELLS[cell].Params
        params = kind(*(take(f"{name}/{field}") for field in kind._fields))
        check_params(cell, params)
        reads = entry.get("reads")  # which a file of an earlier release does not say
        layers.append(
            Layer(
                name,
                cell,
                params,
                "lstmbook",
                bool(entry["reverse"]),
                reads=None if reads is None else tuple(map(str, reads)),
                between=str(entry.get("between", "")),
            )
        )
    return layers


def write(path: Path, layers: list[Layer], forget_bias: float) -> None:
    """The own form. The same layers give the same bytes."""
    header = {
        "version": _VERSION,
        "layers": [{key: getattr(layer, key) for key in _KEYS} for layer in layers],
    }
    arrays: Mapping[str, Array] = {_HEADER: np.array(json.dumps(header, ensure_ascii=False))} | {
        f"{layer.name}/{field}": array
        for layer in layers
        for field, array in layer.params._asdict().items()
    }
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in arrays.items():
            data = io.BytesIO()
            np.lib.format.write_array(data, np.asarray(array), allow_pickle=False)
            entry = zipfile.ZipInfo(name + ".npy")  # its date is always 1980-01-01
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, data.getvalue())
