"""A certificate that layers compute the same before and after a conversion.

Each layer runs on random inputs, with random initial states and unequal lengths (one of them 0):
once as the source's framework computes it, once as the target's does, each with the arrays of its
own file. What is not installed, `lstmbook.run` stands in for, and the certificate says so. That a
layer reads another is held to what the source says: a target that joins what the source does not is
not equal.

It says *equal* where the source said all of what ran, and *equal, as far as the file tells* where
something was assumed: the numbers agree, but only the program that made the file knows the rest.
"""

from __future__ import annotations

import importlib
import platform
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from .. import live
from ..cells import CELLS
from ..layouts import LayoutError
from ..running import run
from ..showing.compare import Comparison, compare
from .whole_run import Whole

__all__ = ["Certificate", "Certified", "certify"]

TOLERANCE = 1e-5  # float32, as far as it can be held over a few steps
VERDICTS = ("equal", "equal, as far as the file tells", "NOT EQUAL")  # the best first


class Certified(NamedTuple):
    """One layer at both ends."""

    source: str  # its name in the source
    target: str  # its name in the target
    cell: str
    engines: tuple[str, str]  # what ran it at each end, with version
    comparison: Comparison
    reverse: tuple[bool, bool]
    note: str = ""  # what was read of the source, as `lstmbook info` says it
    assumed: tuple[str, ...] = ()  # what the source does not say
    # The sources whose outputs it reads, at each end; None where a file does not say
    reads: tuple[tuple[str, ...] | None, tuple[str, ...] | None] = (None, None)
    between: str = ""  # what it reads in the source, if that is something else

    @property
    def ok(self) -> bool:
        """Whether all agrees."""
        return self.comparison.ok and self.reverse[0] == self.reverse[1] and self.wired

    @property
    def wired(self) -> bool:
        """Whether the target joins it to no layer that it does not read in the source."""
        return not self.reads[1] or self.reads[1] == self.reads[0]

    @property
    def input(self) -> str:
        """In words what it reads."""
        source, target = self.reads
        if not self.wired:
            return f"reads {_and(target)} in the target alone"
        if target:
            return f"reads {_and(target)}, at both ends"
        if source:
            return f"reads {_and(source)} in the source; the target has it with an input of its own"
        if self.between:
            return f"has an input of its own; in the source it reads {self.between}"
        unknown = "; what it reads in the source is not known" * (source is None)
        return f"has an input of its own{unknown}"

    @property
    def verdict(self) -> str:
        """One of `VERDICTS`."""
        return VERDICTS[2 if not self.ok else 1 if self.assumed else 0]


class Certificate(tuple[Certified, ...]):
    """Rows of `Certified`; prints as text. Made by `certify`."""

    seed: int
    asked: bool = False  # whether what reads what is the caller's word, not the source's
    wholes: Sequence[Whole] = ()  # the chains of the target, as each end ran them in one piece

    @property
    def ok(self) -> bool:
        """Whether every layer agrees, and every chain."""
        return all(row.ok for row in self) and all(whole.ok for whole in self.wholes)

    @property
    def verdict(self) -> str:
        """One of `VERDICTS`: the worst of the layers', or of a chain."""
        if not self.ok:
            return VERDICTS[2]
        return max((row.verdict for row in self), key=VERDICTS.index, default=VERDICTS[0])

    @property
    def proved(self) -> str:
        """What was shown, in a sentence."""
        shown = "each layer ran alone, at both ends, on the same random inputs"
        if len(self) == 1:
            return shown
        if not any(row.reads[1] for row in self):
            return f"{shown}; the target joins none of them"
        if self.asked:
            return f"{shown}; that they are joined was asked for, and is no part of the proof"
        return f"{shown}; the target joins only what the source joins, as both files were read"

    def versions(self) -> dict[str, str]:
        """Of Python, NumPy, lstmbook and the frameworks that took part."""
        ran = " ".join(engine for row in self for engine in row.engines)
        took_part = {e.package for e in live.ENGINES.values() if f"{e.words} (" in ran}
        if "keras" in took_part:  # which computes with it
            took_part.add("tensorflow")
        found = {"Python": platform.python_version(), "NumPy": np.__version__}
        for name in ("lstmbook", *sorted(took_part)):
            found[name] = str(getattr(sys.modules[name], "__version__", "?"))
        return found

    def to_dict(self) -> dict[str, Any]:
        """The same as plain values, for JSON."""
        return {
            "ok": self.ok,
            "verdict": self.verdict.lower(),
            "proved": self.proved,
            "asked": self.asked,
            "seed": self.seed,
            "versions": self.versions(),
            "chains": [whole._asdict() | {"ok": whole.ok} for whole in self.wholes],
            "layers": [
                {
                    "source": row.source,
                    "target": row.target,
                    "cell": row.cell,
                    "ran": {"source": row.engines[0], "target": row.engines[1]},
                    "direction_kept": row.reverse[0] == row.reverse[1],
                    "reads": None if row.reads[0] is None else list(row.reads[0]),
                    "joined": bool(row.reads[1]),
                    "between": row.between,
                    "tolerance": row.comparison.atol,
                    "max_abs_difference": {part.name: part.max_abs for part in row.comparison},
                    "ok": row.ok,
                    "verdict": row.verdict.lower(),
                    "note": row.note,
                    "assumed": list(row.assumed),
                }
                for row in self
            ],
        }

    def __str__(self) -> str:
        lines = []
        for row in self:
            parts = ", ".join(f"{part.name} {part.max_abs:.1e}" for part in row.comparison)
            lines += [
                f"{row.source} -> {row.target} ({row.cell}): {row.verdict}",
                f"    {row.engines[0]} against {row.engines[1]}",
                f"    max |Δ|: {parts}; tolerance {row.comparison.atol:g}",
            ]
            if row.reverse[0] != row.reverse[1]:
                lines.append("    one end runs backward, the other forward")
            if len(self) > 1 or row.between:
                lines.append(f"    {row.input}")
            if row.note:
                lines.append(f"    {row.note}")
        lines += [str(whole) for whole in self.wholes]
        lines.append(self.proved)
        lines.append("with " + ", ".join(f"{k} {v}" for k, v in self.versions().items()))
        return "\n".join(lines)


def certify(
    sources: Sequence[Any],
    targets: Sequence[Any],
    *,
    atol: float = TOLERANCE,
    forget_bias: float = 1.0,
    seed: int = 0,
) -> Certificate:
    """Run the layers of two files against one another.

    Parameters
    ----------
    sources, targets : sequences of Layer
        As `lstmbook.files.read` gives them. Each source is paired with the target that is nearest
        to it, since not every kind of file keeps an order.
    atol : float
        The largest difference that still counts as equal.
    forget_bias : float
        What TensorFlow's v1 cells are made with; the result does not depend on it.
    seed : int
        Of the random inputs.

    Returns
    -------
    Certificate

    Raises
    ------
    ValueError
        If the numbers of layers differ, or no target has the sizes of a source.
    """
    if len(sources) != len(targets):
        raise ValueError(f"the source has {len(sources)} layers and the target {len(targets)}")
    left, rows = list(targets), []
    reads, names = [], {}  # the two ends of every layer; the name of a target -> its source's
    for source in sources:
        same = [t for t in left if t.cell and _sizes(t.params) == _sizes(source.params)]
        if not same:
            raise ValueError(f"no layer of the target has the sizes of {source.name}")
        target = min(same, key=lambda t: (t.reverse != source.reverse, _distance(source, t, seed)))
        left.remove(target)
        inputs = _inputs(source, seed, _dtype(source, target))
        ran = [_run(layer, inputs, forget_bias) for layer in (source, target)]
        found = compare(ran[0][1], ran[1][1], atol=atol)
        engines = (ran[0][0], ran[1][0])
        sides = (source.reverse, target.reverse)
        notes = (source.note, source.assumed)
        names[target.name] = source.name
        rows.append(Certified(source.name, target.name, source.cell, engines, found, sides, *notes))
        reads.append((source, target))
    certificate = Certificate(
        row._replace(reads=_reads(*pair, names), between=pair[0].between)
        for row, pair in zip(rows, reads, strict=True)
    )
    certificate.seed = seed
    return certificate


def _reads(
    source: Any, target: Any, names: Mapping[str, str]
) -> tuple[tuple[str, ...] | None, tuple[str, ...] | None]:
    """The layers that are read at each end, by the names of the source.

    A TensorFlow 1 checkpoint joins nothing, whatever its names: a program does.
    """
    if target.reads is None or target.layout.startswith("tf1"):
        return source.reads, None
    return source.reads, tuple(names.get(name, name) for name in target.reads)


def _and(names: Sequence[str] | None) -> str:
    return " and ".join(names or ())


def _sizes(params: Any) -> tuple[int, int]:
    return params.W_x.shape[1], params.W_x.shape[2]


def _dtype(*layers: Any) -> Any:
    """That of the weights; float32 where what runs a layer has no other."""
    modules = (_module(layer.layout) for layer in layers)
    if any(module and live.ENGINES[module].only for module in modules):
        return np.dtype(np.float32)
    return np.result_type(*(layer.params.b.dtype for layer in layers))


def _module(layout: str) -> str | None:
    """The module of `live` that runs what is in such a layout."""
    if layout == "tf1_block":  # a fused operator's file: the v1 cell runs the same in float64 too
        return "tf1"
    return live.engine_of(layout)


def _inputs(layer: Any, seed: int, dtype: Any) -> tuple[Any, Any, Any]:
    """xs, initial state and lengths, all sizes different."""
    batch, time = 4, 7
    input_size, hidden = _sizes(layer.params)
    rng = np.random.default_rng([seed, input_size, hidden])
    xs = rng.normal(size=(batch, time, input_size)).astype(dtype)
    state = CELLS[layer.cell].State
    parts = (0.5 * rng.normal(size=(batch, hidden)) for _ in state._fields)
    return xs, state(*(part.astype(dtype) for part in parts)), np.array([time, 0, 3, time - 1])


def _distance(source: Any, target: Any, seed: int) -> float:
    inputs = _inputs(source, seed, np.dtype(np.float64))
    ours, theirs = (_run_here(layer, inputs) for layer in (source, target))
    return compare(ours, theirs).max_abs if ours[1]._fields == theirs[1]._fields else np.inf


def _run_here(layer: Any, inputs: tuple[Any, Any, Any]) -> Any:
    xs, state, lengths = inputs
    return run(layer.cell, layer.params, xs, _fitting(layer, state), lengths=lengths)


def _fitting(layer: Any, state: Any) -> Any:
    kind = CELLS[layer.cell].State
    return kind(*state) if len(kind._fields) == len(state) else None


def _run(layer: Any, inputs: tuple[Any, Any, Any], forget_bias: float) -> tuple[str, Any]:
    """What ran the layer, and its outputs and final state."""
    xs, state, lengths = inputs
    params = type(layer.params)(*(array.astype(xs.dtype) for array in layer.params))
    why = ""
    module = _module(layer.layout)
    if module:
        words, package, kinds, _ = live.ENGINES[module]
        options = dict(kinds.get(layer.layout, {}))
        if module == "tf1":
            options["forget_bias"] = forget_bias
        try:
            theirs: Any = importlib.import_module(f"..live.{module}", __package__)
            result = theirs.run(
                layer.cell, params, xs, _fitting(layer, state), lengths=lengths, **options
            )
            version = getattr(importlib.import_module(package), "__version__", "?")
            return f"{words} ({version})", result
        except ImportError:
            why = f" ({package} is not installed)"
        except (LayoutError, RuntimeError):
            why = f" ({words} does not compute {layer.cell} here)"
    return f"lstmbook itself{why}", _run_here(layer._replace(params=params), inputs)
