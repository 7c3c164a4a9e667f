"""From a file of one framework to a file of another, with a certificate of what was written."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

from ..layouts import LayoutError
from . import Aside, Layer, contents, read, write
from ._base import MAX_BYTES
from ._stack import chained
from .certificate import TOLERANCE, Certificate, certify
from .whole_run import wholes

__all__ = ["KINDS", "Conversion", "convert", "kind_of_name"]

KINDS = ("keras", "torch", "onnx", "tf1", "npz")
_ENDINGS = {".keras": "keras", ".h5": "keras", ".safetensors": "torch", ".pt": "torch"}
_ENDINGS |= {".pth": "torch", ".onnx": "onnx", ".npz": "npz"}


class Conversion(NamedTuple):
    """What `convert` has done."""

    written: tuple[Path, ...]  # the files; none if the certificate is not ok
    certificate: Certificate
    to: str
    cells: dict[str, str]  # what `read` must be told to find all layers of the new file
    aside: tuple[Aside, ...] = ()  # what of the source is not in it, recurrent layers among it

    @property
    def ok(self) -> bool:
        """Whether both ends compute the same, and the file is there."""
        return self.certificate.ok


def convert(
    source: str | PathLike[str],
    target: str | PathLike[str],
    *,
    to: str | None = None,
    layers: Iterable[str] = (),
    chain: Iterable[str] = (),
    overwrite: bool = False,
    tolerance: float = TOLERANCE,
    forget_bias: float | None = None,
    target_forget_bias: float = 1.0,
    cells: Mapping[str, str | None] | None = None,
    config: str | PathLike[str] | None = None,
    average: bool = False,
    max_bytes: int = MAX_BYTES,
    progress: Callable[[str], None] = lambda text: None,
    quiet: Callable[[str], AbstractContextManager[None]] = lambda kind: nullcontext(),
) -> Conversion:
    """Write the recurrent layers of a file for another framework, and prove what was written.

    Both ends run on random inputs, in the frameworks' own cells where these are installed: the
    source as it is, the target as it lies on disk in the end. If they differ, nothing is written,
    and what was there before stays.

    Parameters
    ----------
    source, target : paths
        A TensorFlow checkpoint by its prefix.
    to : str, optional
        One of `KINDS`; by the ending of ``target`` if it is not given.
    layers : names or patterns
        The layers to convert, such as ``["encoder/*"]``; all if there are none.
    chain : names or patterns
        Layers that become a chain, each reading the one before it, in the order of the patterns
        and of the file. Else a layer reads in the target what the source says that it reads: the
        layer before it and nothing else; where the source does not say, or something stands
        between, it has an input of its own.
    overwrite : bool
        Whether a file that is there already may be replaced.
    tolerance : float
        The largest difference that still counts as equal.
    forget_bias, cells, config, average, max_bytes : as in `files.read`, of the source
    target_forget_bias : float
        What a TensorFlow 1 checkpoint is written for.
    progress, quiet : functions
        Get a line of what is being done, and the kind of file that is being written.

    Returns
    -------
    Conversion
        Its ``certificate`` prints as text.

    Raises
    ------
    FileError, LayoutError, ValueError
        If a file cannot be read or written, a layer is ambiguous, or the target has no such cell.
    """
    target = Path(target)
    to = to or kind_of_name(target)
    options: dict[str, Any] = {"forget_bias": forget_bias, "cells": cells, "config": config}
    options["average"] = average
    found = contents(source, **options, max_bytes=max_bytes)
    links = list(chain)
    chosen = _joined(_chosen(found, list(layers)), links)
    certificates: list[Certificate] = []
    untold: dict[str, str] = {}

    def check(path: Path) -> None:
        progress("running both ends …")
        copies = read(path, forget_bias=target_forget_bias)
        if to == "tf1":  # whose scopes do not always tell the cell: then it is the one written
            untold.update(_untold(chosen, copies))
            if untold:
                copies = read(path, forget_bias=target_forget_bias, cells=untold)
        certificate = certify(chosen, copies, atol=tolerance, forget_bias=target_forget_bias)
        names = {row.target: row.source for row in certificate}
        certificate.asked = bool(links)
        certificate.wholes = wholes(Path(source), path, chosen, copies, names, tolerance)
        certificates.append(certificate)
        if not certificates[0].ok:
            raise _NotEqualError

    progress(f"writing {target} …")
    written: Sequence[Path] = ()
    try:
        with quiet(to):
            written = write(
                target, chosen, to=to, overwrite=overwrite, forget_bias=target_forget_bias,
                check=check,
            )  # fmt: skip
    except _NotEqualError:
        pass
    names = {layer.name for layer in chosen}
    others = (Aside(x.name, "not chosen") for x in found.layers if x.name not in names)
    return Conversion(tuple(written), certificates[0], to, untold, (*others, *found.aside))


class _NotEqualError(Exception):
    """The two ends differ."""


def kind_of_name(path: Path) -> str:
    """The kind of file that a name asks for, by its ending."""
    kind = _ENDINGS.get(path.suffix.lower())
    if kind is None:
        raise ValueError(f"{path}: its ending says no kind; to={'|'.join(KINDS)} does")
    return kind


def _untold(layers: Sequence[Layer], copies: Sequence[Layer]) -> dict[str, str]:
    """The cells of written layers that a reader of the file does not find by itself."""
    written = {layer.name: str(layer.cell) for layer in layers}
    return {x.name: written[x.name] for x in copies if x.cell != written.get(x.name, x.cell)}


def _chosen(found: Any, patterns: list[str]) -> list[Layer]:
    """The layers to convert; none that has no cell, and none missed in silence."""
    chosen: list[Layer] = list(found.layers)
    for pattern in patterns:
        if not any(_is_named(layer, pattern) for layer in chosen):
            names = ", ".join(layer.name for layer in chosen) or "none"
            raise ValueError(f"layers={pattern!r}: no such layer; in the file: {names}")
    if patterns:
        chosen = [x for x in chosen if any(_is_named(x, pattern) for pattern in patterns)]
    if not chosen:
        raise LayoutError(f"{found.path} has no recurrent layer")
    for layer in chosen:
        if layer.cell is None:
            mend = "" if patterns else " (layers=[…] chooses the others)"
            raise LayoutError(f"{layer.name}: {layer.note}{mend}")
    return chosen


def _joined(layers: list[Layer], patterns: list[str]) -> list[Layer]:
    """The layers, those that a pattern names as a chain, in the place of the first of them."""
    chain: dict[str, Layer] = {}
    for pattern in patterns:
        named = {x.name: x for x in layers if _is_named(x, pattern)}
        if not named:
            names = ", ".join(layer.name for layer in layers)
            raise ValueError(f"chain={pattern!r}: no such layer; among those chosen: {names}")
        chain |= {name: layer for name, layer in named.items() if name not in chain}
    if not chain:
        return layers
    links = [_as_asked(layer) for layer in chained(chain.values())]
    first = next(k for k, layer in enumerate(layers) if layer.name in chain)
    others = [layer for layer in layers if layer.name not in chain]
    return [*others[:first], *links, *others[first:]]


def _as_asked(layer: Layer) -> Layer:
    note = f"reads {' and '.join(layer.reads)}, as asked for" if layer.reads else ""
    return layer._replace(note="; ".join(filter(None, [layer.note, note])))


def _is_named(layer: Layer, pattern: str) -> bool:
    return layer.name == pattern or fnmatch.fnmatchcase(layer.name, pattern)
