"""PyTorch state dicts: ``.safetensors`` by its own library, ``.pt`` by PyTorch, never unpickled."""

from __future__ import annotations

import importlib
import json
import math
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..cells._activations import Array
from ._base import Aside, FileError, Layer, Request, first_line, joined, natural, need, no_floats
from ._names import sort_out
from ._stack import Level, chains, exported, stack

_BYTES = {"F16": 2, "BF16": 2, "F32": 4, "F64": 8}


def read_safetensors(request: Request) -> tuple[list[Layer], list[Aside]]:
    """All recurrent layers of a ``.safetensors`` file, and what else is in it."""
    header = _header(request)
    shapes, sizes, others = {}, {}, {}
    for name, entry in sorted(header.items(), key=lambda item: natural(item[0])):
        if name == "__metadata__":
            continue
        if entry["dtype"] not in _BYTES:
            others[name] = no_floats(entry["dtype"], entry["shape"])
        else:
            shapes[name] = tuple(entry["shape"])
            sizes[name] = math.prod(shapes[name]) * _BYTES[entry["dtype"]]
    try:
        safetensors: Any = importlib.import_module("safetensors")
    except ImportError as error:
        raise need("safetensors", "files", "reading a .safetensors file") from error

    def get(name: str) -> Array:
        if header[name]["dtype"] == "BF16":  # which NumPy has not: the upper half of a float32
            start, end = header[name]["data_offsets"]
            with request.path.open("rb") as raw:
                raw.seek(8 + length + start)
                half = np.frombuffer(raw.read(end - start), "<u2").astype("<u4") << 16
            return half.view("<f4").reshape(shapes[name])
        array: Array = file.get_tensor(name)
        return array

    with request.path.open("rb") as raw:
        length = int.from_bytes(raw.read(8), "little")
    with safetensors.safe_open(str(request.path), framework="np") as file:
        return sort_out(request, shapes, request.counting(sizes, get), others)


def _header(request: Request) -> dict[str, Any]:
    with request.path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        size = request.path.stat().st_size
        if length > size - 8:
            raise FileError(
                request.path,
                f"is no .safetensors file, or a truncated one: its header is said to have "
                f"{length:,} bytes, and the file has {size:,}",
            )
        request.fit(20 * length, "the header, once it is parsed,")
        header = json.loads(file.read(length))
    if not isinstance(header, dict):
        raise FileError(request.path, "is no .safetensors file: its header is no table")
    return header


def read_state_dict(request: Request) -> tuple[list[Layer], list[Aside]]:
    """All recurrent layers of a PyTorch file, and what else is in it.

    ``torch.load(weights_only=True)`` makes tensors and plain containers alone.
    """
    size = request.path.stat().st_size
    if zipfile.is_zipfile(request.path):
        with zipfile.ZipFile(request.path) as archive:
            entries = archive.infolist()
            size = max(size, sum(entry.file_size for entry in entries))
            if any(entry.filename.endswith("/constants.pkl") for entry in entries):
                raise FileError(
                    request.path,
                    "is a TorchScript archive, which is a program; save its numbers: "
                    "torch.save(torch.jit.load(path).state_dict(), 'weights.pt')",
                )
    request.fit(size, "the file")
    try:
        torch: Any = importlib.import_module("torch")
    except ImportError as error:
        raise need("PyTorch", "torch", "reading a .pt file") from error
    try:
        loaded = torch.load(str(request.path), map_location="cpu", weights_only=True)
    except Exception as error:  # PyTorch raises what it likes
        text = first_line(error)
        if "weights only" in str(error).lower() or "Unsupported" in text:
            raise FileError(
                request.path,
                "holds more than tensors (a whole model, perhaps), and nothing is unpickled here. "
                "Where the file is trusted: torch.save(model.state_dict(), 'weights.pt')",
            ) from error
        raise FileError(request.path, f"is no PyTorch file, or a damaged one: {text}") from error
    found = dict(_tensors(torch, loaded))
    tensors = {name: tensor for name, tensor in found.items() if _is_read(torch, tensor)}
    others = {name: _words(torch, found[name]) for name in found if name not in tensors}
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    sizes = {name: math.prod(shape) * 8 for name, shape in shapes.items()}

    def get(name: str) -> Array:
        tensor = tensors[name].detach()
        if tensor.dtype in (torch.bfloat16, torch.float16):
            tensor = tensor.float()
        array: Array = tensor.contiguous().numpy()
        return array

    return sort_out(request, shapes, request.counting(sizes, get), others)


def _tensors(torch: Any, value: Any, path: str = "", depth: int = 0) -> Iterator[tuple[str, Any]]:
    """Tensors by name; a dict within a dict (``state_dict``) adds its name in front."""
    if isinstance(value, Mapping) and depth < 8:
        for key, part in value.items():
            yield from _tensors(torch, part, f"{path}.{key}" if path else str(key), depth + 1)
    elif isinstance(value, torch.Tensor):
        yield path, value


def _is_read(torch: Any, tensor: Any) -> bool:
    return bool(
        tensor.is_floating_point() and tensor.layout == torch.strided and not tensor.is_meta
    )


def _words(torch: Any, tensor: Any) -> str:
    """Why a tensor is not among the weights."""
    dtype = str(tensor.dtype).removeprefix("torch.")
    if not tensor.is_floating_point():
        return no_floats(dtype, tensor.shape)
    why = "without numbers (meta)" if tensor.is_meta else f"stored as {tensor.layout}"
    return f"{dtype} {tuple(tensor.shape)}: {why}"


def write(path: Path, layers: list[Layer], forget_bias: float) -> None:
    """A state dict: ``.safetensors``, or PyTorch's own ``.pt`` and ``.pth``.

    A chain of layers that makes up one ``nn.RNN``, ``nn.LSTM`` or ``nn.GRU`` has its names as they
    are, such as ``weight_ih_l0``; with others beside it, and else, each has its name in front, such
    as ``encoder.weight_ih_l0``.
    """
    levels = stack(layers)
    for level in levels:
        if level.layers[0].reverse:
            raise FileError(
                path,
                f"PyTorch has no module for a backward layer alone, as {level.name} is; with "
                "layer._replace(reverse=False) it is written, and the sequences are yours to turn",
            )
    modules = [
        module
        for group in chains(levels)
        for module in ([group] if len({_module(x) for x in group}) == 1 else [[x] for x in group])
    ]
    tables = []
    for module in modules:
        prefix = f"{module[0].name}." if len(modules) > 1 else ""
        for number, level in enumerate(module):
            for half in level.layers:
                own = exported(half, "torch", layer=number, reverse=half.reverse)
                tables.append({prefix + name: np.ascontiguousarray(a) for name, a in own.items()})
    arrays = joined(path, tables)
    if path.suffix == ".safetensors":
        try:
            safetensors: Any = importlib.import_module("safetensors.numpy")
        except ImportError as error:
            raise need("safetensors", "files", "writing a .safetensors file") from error
        safetensors.save_file(arrays, str(path))
        return
    try:
        torch: Any = importlib.import_module("torch")
    except ImportError as error:
        raise need("PyTorch", "torch", "writing a .pt file (not .safetensors)") from error
    torch.save({name: torch.from_numpy(array) for name, array in arrays.items()}, str(path))


def _module(level: Level) -> tuple[str, int, bool]:
    """What all layers of one module of PyTorch have in common."""
    return level.cell, level.hidden_size, level.bidirectional
