"""Programs of ``torch.export.save`` (``.pt2``): raw weights in an archive, without PyTorch."""

from __future__ import annotations

import json
import math
import zipfile
from typing import Any

import numpy as np

from ..cells._activations import Array
from ._base import Aside, FileError, Layer, Request
from ._names import sort_out

CONFIG = "/data/weights/model_weights_config.json"
# PyTorch's numbers for element types, as the schema of its exported programs has them
_DTYPES = {6: "<f2", 7: "<f4", 8: "<f8", 13: "<u2"}
_BFLOAT16 = 13


def read(request: Request) -> tuple[list[Layer], list[Aside]]:
    """All recurrent layers of an exported program, and what else is in it, in its own order."""
    with zipfile.ZipFile(request.path) as archive:
        entries = {entry.filename: entry for entry in archive.infolist()}
        place = next(name for name in entries if name.endswith(CONFIG))
        request.fit(20 * entries[place].file_size, "the list of weights, once it is parsed,")
        config: dict[str, Any] = json.loads(archive.read(place))["config"]
        shapes, others = {}, {}
        for name, entry in config.items():
            meta = entry["tensor_meta"]
            shape = tuple(int(size["as_int"]) for size in meta["sizes"])
            if entry.get("use_pickle") or meta["dtype"] not in _DTYPES:
                kind = "is a pickle" if entry.get("use_pickle") else f"of kind {meta['dtype']}"
                others[name] = f"{shape}: {kind}, not read"
            else:
                shapes[name] = shape

        def get(name: str) -> Array:
            path = place.removesuffix(CONFIG) + f"/data/weights/{config[name]['path_name']}"
            if path not in entries:
                raise FileError(request.path, f"is damaged: {path}, which has {name}, is missing")
            request.fit(entries[path].file_size, path)
            return _array(request, name, config[name]["tensor_meta"], archive.read(path))

        sizes = {name: 8 * math.prod(shape) for name, shape in shapes.items()}
        return sort_out(request, shapes, request.counting(sizes, get), others)


def _array(request: Request, name: str, meta: dict[str, Any], data: bytes) -> Array:
    """An array from the numbers of its storage, by its strides."""
    storage = np.frombuffer(data, _DTYPES[meta["dtype"]])
    shape, strides = (
        tuple(int(number["as_int"]) for number in meta[key]) for key in ("sizes", "strides")
    )
    start = int(meta["storage_offset"]["as_int"])
    last = start + sum((n - 1) * step for n, step in zip(shape, strides, strict=True))
    if min(shape, default=1) < 1 or min(start, *strides, 0) < 0 or last >= len(storage):
        raise FileError(request.path, f"is damaged: {name} is larger than what is stored for it")
    if meta["dtype"] == _BFLOAT16:  # which NumPy has not: the upper half of a float32
        storage = (storage.astype("<u4") << 16).view("<f4")
    size = storage.dtype.itemsize
    steps = tuple(step * size for step in strides)
    view = np.lib.stride_tricks.as_strided(storage[start:], shape, steps, writeable=False)
    array: Array = view.copy()
    return array
