"""Answers from a file of results, JSON or NPZ."""

import json
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..cells._activations import Array
from . import answers
from .vectors import Vector, nest

__all__ = ["of_results", "read_results"]

UNREADABLE = (  # what a file that is damaged or something else may raise
    OSError,
    ValueError,
    EOFError,
    MemoryError,
    NotImplementedError,
    RecursionError,
    zipfile.BadZipFile,
    zlib.error,
)


def read_results(cell: str, file: Path) -> dict[str, Any]:
    """``{vector: answer}`` from a JSON or NPZ file."""
    try:
        size = file.stat().st_size
        if size > answers.LIMIT:
            raise ValueError(f"it has {size} bytes; at most {answers.LIMIT} are read")
        if zipfile.is_zipfile(file):
            return _results_npz(file)
        content = json.loads(file.read_text(encoding="utf-8"))
    except UNREADABLE as error:
        raise ValueError(f"{file}: cannot be read as JSON or NPZ: {error}") from None
    if isinstance(content, dict) and content.get("cell", cell) != cell:
        raise ValueError(f"{file}: these are results of {content['cell']}, not of {cell}")
    if isinstance(content, dict):
        content = content.get("answers", content)
    if not isinstance(content, dict) or not all(isinstance(a, dict) for a in content.values()):
        raise ValueError(
            f'{file}: expected {{"answers": {{"one_step": {{"hs": …, "final": {{"h": …}}}}, …}}}}'
        )
    return content


def _results_npz(file: Path) -> dict[str, Any]:
    with zipfile.ZipFile(file) as archive:
        whole = sum(entry.file_size for entry in archive.infolist())
    if whole > answers.LIMIT:
        raise ValueError(f"it unpacks to {whole} bytes; at most {answers.LIMIT} are read")
    with np.load(file, allow_pickle=False) as arrays:
        return nest({name: arrays[name] for name in arrays.files})


def of_results(results: Mapping[str, Any], layout: str | None, vector: Vector) -> dict[str, Array]:
    if vector.name not in results:
        raise answers.AnswerError("there is no answer to this vector")
    return answers.from_content(vector, results[vector.name], layout)
