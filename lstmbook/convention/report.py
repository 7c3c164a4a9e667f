"""What was found, as fields and as sentences."""

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np

from .. import layouts
from ..cells import CELLS
from ..cells._activations import Array
from ..wrong_cells.slips import GATE_NAMES
from .classes import run_fit
from .hypotheses import ACTIVATIONS, GATES, params_of
from .judge import Fit
from .readings import Piece

__all__ = ["Detection", "Match", "Probe", "match_of"]

_SHOWN = 5


@dataclass(frozen=True)
class Probe:
    """Another input that tells the matches apart: run it where the pair came from."""

    says: str
    xs: Array  # in the axes of the pair
    state: tuple[Array, ...] | None  # h, or h and c; (batch, hidden) each
    distance: float  # the smallest max |Δ| of two matches on it


@dataclass(frozen=True)
class Match:
    """One convention; what its cell does not have is None."""

    cell: str  # the name in `lstmbook.CELLS`
    arrays: dict[str, str]  # for each given array, what it holds
    gate_order: str  # of the blocks, such as "i f g o"; a dot is a block that is not used
    kernels: str  # "[x, h]", "[h, x]" or "separate"
    orientation: str  # "columns": x @ W; "rows": W @ x; "columns, rows" for W_x and W_h;
    # "blocks transposed": columns, and each block holds the numbers of its own transpose
    biases: int
    forget_bias: float | None  # added at run time
    gate_activation: str | None
    activation: str  # of the candidate
    output_activation: str | None
    reset: str | None  # "before" or "after" the matrix product
    blend: str | None
    coupling: str | None
    peephole_order: str | None
    output_gate_sees: str | None  # "new" or "old" cell state
    axes: str | None
    state_order: str | None
    slip: str | None  # the wrong cell of `lstmbook.wrong_cells.slips`, if it is one
    distance: float  # max |Δ|
    params: Any = field(repr=False)  # Params for `lstmbook.run`, or None
    why_no_params: str
    layouts: tuple[str, ...]  # layouts of `lstmbook.layouts` that store it so
    nearest_layout: str | None  # if there is none
    same: tuple[str, ...]  # other conventions that are the same function with these arrays
    fit: Fit = field(repr=False)

    def run(
        self, xs: Array, state: tuple[Array, ...] | None = None
    ) -> tuple[Array, tuple[Array, ...]]:
        """Outputs and final state of the detected function, whether or not a cell has it.

        Parameters
        ----------
        xs : (batch, time, input) array
        state : (h,) or (h, c), (batch, hidden) each, optional

        Returns
        -------
        hs : (batch, time, hidden) array of float64
        state : (h,) or (h, c)
        """
        xs = np.asarray(xs, np.float64)
        zeros = np.zeros((len(xs), self.fit.pair.last.shape[-1]))
        parts = [np.asarray(part, np.float64) for part in state or ()]
        h, c = [*parts, zeros, zeros][:2] if len(parts) != 1 else (parts[0], zeros)
        hs, h, c = run_fit(self.fit, xs.swapaxes(0, 1), (h, c))
        return hs.swapaxes(0, 1), (h, c) if "c" in CELLS[self.cell].State._fields else (h,)

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain values; without ``params``."""
        left = ("params", "fit")
        values = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in left}
        return values | {"layouts": list(self.layouts), "same": list(self.same)}

    def sentence(self) -> str:
        """The convention in one sentence."""
        parts = [f"{self.cell}: " + "; ".join(f"{k} is {v}" for k, v in self.arrays.items())]
        if not self.biases:
            parts.append("no bias")
        if self.forget_bias is not None:
            added = f"a forget bias of {self.forget_bias:g} is"
            parts.append(f"{added if self.forget_bias else 'no forget bias is'} added at run time")
        acts = [f"gates {self.gate_activation}"] if self.gate_activation else []
        if self.output_activation in (None, self.activation):
            both = " and output" if self.output_activation else ""
            acts.append(f"candidate{both} {self.activation}")
        else:
            acts.append(f"candidate {self.activation}, output {self.output_activation}")
        parts.append(", ".join(acts))
        if self.reset:
            parts.append(f"reset {self.reset} the matrix product, h = {self.blend}")
        if self.coupling:
            parts.append(f"coupled, {self.coupling}")
        if self.output_gate_sees:
            parts.append(f"the output gate's peephole sees the {self.output_gate_sees} cell state")
        if self.axes:
            parts.append(self.axes)
        if self.state_order:
            parts.append(f"states in the order ({self.state_order})")
        if self.slip:
            parts.append(f"a known wrong cell: {self.slip}")
        return "; ".join(parts) + "."

    def _more(self) -> list[str]:
        lines = []
        if self.layouts:
            adds = any(layouts.LAYOUTS[name].adds_forget_bias for name in self.layouts)
            known = self.forget_bias is not None and adds
            bias = f" (forget_bias={self.forget_bias:g})" if known else ""
            word = "layout" if len(self.layouts) == 1 else "layouts"
            lines.append(f"So it is stored in the {word} {', '.join(self.layouts)}{bias}.")
        elif self.nearest_layout:
            lines.append(f"No layout here stores it so; the nearest is {self.nearest_layout}.")
        if self.params is None and not self.slip:
            lines.append(f"No cell of lstmbook computes it: {self.why_no_params}.")
        lines += self.same
        return lines


@dataclass(frozen=True)
class Detection:
    """What `detect` found; prints as its message and is true for one match alone."""

    matches: tuple[Match, ...]  # all conventions that fit, each a different function
    nearest: Match | None  # if none fits
    probe: Probe | None  # if several fit
    differ: tuple[str, ...]  # the fields of Match in which several matches differ
    notes: tuple[str, ...]
    tolerance: float
    precision: str
    left_out: int  # fits beyond the number that is looked at
    complete: bool  # whether the search came to its end; if not, a note says what would help

    @property
    def match(self) -> Match | None:
        """The one match, or None."""
        return self.matches[0] if len(self.matches) == 1 else None

    def __bool__(self) -> bool:
        return self.match is not None

    def to_dict(self) -> dict[str, Any]:
        """All as plain values, for JSON."""
        probe = self.probe and {
            "says": self.probe.says,
            "xs": self.probe.xs.tolist(),
            "state": self.probe.state and [part.tolist() for part in self.probe.state],
            "distance": self.probe.distance,
        }
        return {
            "unique": bool(self),
            "matches": [match.to_dict() for match in self.matches],
            "nearest": self.nearest and self.nearest.to_dict(),
            "probe": probe,
            "differ": list(self.differ),
            "notes": list(self.notes),
            "tolerance": self.tolerance,
            "precision": self.precision,
            "left_out": self.left_out,
            "complete": self.complete,
            "text": str(self),
        }

    def __str__(self) -> str:
        bound = f"tolerance {self.tolerance:.1e} for {self.precision}"
        lines = []
        if self.match:
            lines = [
                f"One match (max |Δ| {self.match.distance:.1e}, {bound}).",
                self.match.sentence(),
            ]
            lines += self.match._more()
        elif self.matches:
            more = f", and {self.left_out} more that were not looked at" if self.left_out else ""
            lines = [f"{len(self.matches)} different functions fit{more} ({bound})."]
            for number, match in enumerate(self.matches[:_SHOWN], 1):
                lines += [f"{number}. {match.sentence()}", *match._more()]
            if len(self.matches) > _SHOWN:
                lines.append(f"… and {len(self.matches) - _SHOWN} more.")
            lines.append(f"They differ in: {', '.join(map(_spaced, self.differ))}.")
            if self.probe:
                lines.append(
                    f"A probe that tells them apart: {self.probe.says} (there they differ by "
                    f"{self.probe.distance:.1e} or more)."
                )
        elif self.nearest:
            lines = [
                f"No convention fits ({bound}). The nearest is off by {self.nearest.distance:.1e}:",
                self.nearest.sentence(),
            ]
        else:
            lines = ["No convention fits."]
        lines += self.notes
        return "\n".join(
            textwrap.fill(line, 88, break_long_words=False, break_on_hyphens=False)
            for line in lines
        )

    __repr__ = __str__


def _spaced(name: str) -> str:
    return name.replace("_", " ")


def match_of(fit: Fit, arrays: Mapping[str, Array], same: tuple[str, ...] = ()) -> Match:
    """The fields of a fit."""
    family, reading = fit.family, fit.reading
    row = {name: int(column[0]) for name, column in fit.row.items()}
    letters = family.orders[row["order"]]
    seen = family.holes[row["holes"]]
    lstm, gru = "g" in letters, "z" in letters
    stacked = next((p.part for p in reading.pieces if " " in p.part and "W" in p.part), "")
    ways = dict.fromkeys(p.form for p in reading.pieces if p.part[0] == "W")
    params, why = params_of(family, reading, fit.row, fit.forget_bias)
    if fit.slip:
        params, why = None, "it is a wrong cell"
    keep = {"f": "i = 1 - f", "i": "f = 1 - i", "": None}[family.kept]
    match = Match(
        cell=family.cell,
        arrays=_said(fit, letters, seen),
        gate_order=" ".join(letters),
        kernels={"W_x W_h": "[x, h]", "W_h W_x": "[h, x]", "": "separate"}[stacked],
        orientation=", ".join(ways),
        biases=reading.biases,
        forget_bias=fit.forget_bias if "f" in letters else None,
        gate_activation=list(GATES)[row["squash"]] if lstm or gru else None,
        activation=list(ACTIVATIONS)[row["activation"]],
        output_activation=list(ACTIVATIONS)[row["output"]] if lstm else None,
        reset=("after" if family.cell == "gru_reset_after" else "before") if gru else None,
        blend=("(1 - z) h + z n" if row["flipped"] else "z h + (1 - z) n") if gru else None,
        coupling=keep,
        peephole_order=" ".join(seen) or None,
        output_gate_sees=("old" if row["old"] else "new") if seen else None,
        axes=fit.pair.axes or None,
        state_order=fit.pair.order or None,
        slip=f"{fit.slip.name} (seen in {fit.slip.seen_in}): {fit.slip.says.rstrip('.')}"
        if fit.slip
        else None,
        distance=fit.distance,
        params=params,
        why_no_params=why,
        layouts=(),
        nearest_layout=None,
        same=same,
        fit=fit,
    )
    if params is None or not arrays:
        return match
    exact, close = _layouts(match, arrays)
    return _replaced(match, layouts=exact, nearest_layout=close)


def _replaced(match: Match, **changes: Any) -> Match:
    return Match(**({f.name: getattr(match, f.name) for f in fields(match)} | changes))


def _said(fit: Fit, letters: str, seen: str) -> dict[str, str]:
    """What each array holds, in words."""
    row, reading = fit.row, fit.reading
    h_aligned = reading.h_aligned[int(row["h"][0])]
    b_aligned = reading.b_aligned[int(row["b"][0])]
    held = {
        "W_x": letters,
        "W_h": "".join(letters[h_aligned.index(k)] for k in range(len(letters))),
        "b": "".join(letters[b_aligned.index(k)] for k in range(len(letters))),
        "p": seen,
        "b_hn": "n",
    }
    return {piece.name: _words(piece, held) for piece in reading.pieces}


def _words(piece: Piece, held: dict[str, str]) -> str:
    part = piece.part.split()[0]
    letters = held[part if part in held else "b"]
    letters = "".join(letters[k] for k in piece.blocks)
    if piece.part[0] == "W":
        what = " then ".join(p[-1] for p in piece.part.split())
        if len(letters) == 1:
            name = GATE_NAMES.get(letters, "unused block")
            return f"the kernel of {what} for the {name}{', transposed' * (piece.form == 'rows')}"
        sides = ("columns", "rows") if piece.form == "rows" else ("rows", "columns")
        turned = ", each block transposed" if piece.form == "blocks transposed" else ""
        return f"the kernel ({sides[0]} {what}, {sides[1]} {' '.join(letters)}{turned})"
    word = {
        "b_x": "the bias",
        "b_h": "the bias of the h side",
        "b_hn": "the bias of the candidate's h side",
        "b_x b_h": "two biases, of x then of h",
        "b_h b_x": "two biases, of h then of x",
        "p": "the peephole" if len(letters) == 1 else "the peepholes",
    }[piece.part]
    return f"{word} ({' '.join(letters)})"


def _layouts(match: Match, arrays: Mapping[str, Array]) -> tuple[tuple[str, ...], str | None]:
    """Layouts that store the cell in such arrays, by comparing with what they would store."""
    scores: dict[str, float] = {}
    bias = match.forget_bias or 0.0
    for name, layout in layouts.LAYOUTS.items():
        if match.cell not in layout.cells:
            continue
        own = bias if layout.adds_forget_bias else 0.0
        try:
            theirs = layouts.export(match.cell, name, match.params, forget_bias=own)
        except layouts.LayoutError:
            continue
        left, hits = list(theirs.values()), 0
        for array in arrays.values():
            kernel = array.size > 2 * match.fit.pair.last.shape[-1] * 4
            loose = match.biases == 2 and not kernel  # only the sum of two biases is known
            hit = next((k for k, a in enumerate(left) if _alike(array, a, loose)), None)
            if hit is not None:
                del left[hit]
                hits += 1
        scores[name] = hits / max(len(theirs), len(arrays))
    exact = tuple(name for name, score in scores.items() if score == 1.0)
    best = max(scores, key=lambda name: scores[name], default=None)
    return exact, None if exact else best


def _alike(ours: Array, theirs: Array, loose: bool) -> bool:
    """Equal, but for blocks that an export leaves zero."""
    if ours.shape != theirs.shape:
        return False
    return loose or bool(np.allclose(np.where(theirs == 0, 0, ours), theirs, rtol=1e-5, atol=1e-7))
