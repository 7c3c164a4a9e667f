"""Wrong cells: the slips that people make, each as a function like the cell's own ``step``.

A slip is the right cell with one piece changed (`changed.assemble`); `any_cell`, `of_lstms` and
`of_grus` list the changes.
A slip is a function that really runs. So a wrong cell can be named by running both.

Some slips stood in published code, or were asked about in public: ``seen_in`` says where.
"""

from collections.abc import Iterator
from typing import NamedTuple

from ..cells import CELLS
from . import any_cell, of_grus, of_lstms
from .changed import Gates, Pieces, Step, assemble
from .ideas import GATE_NAMES, Idea

__all__ = ["GATE_NAMES", "SLIPS", "Slip"]


class Slip(NamedTuple):
    """One mistake in one cell."""

    name: str  # unique within its cell
    cell: str  # the name in CELLS
    where: str  # the equation: gate letters, or "c", "h", "state"
    says: str  # to the reader: what it is and what it should be
    seen_in: str  # a public thread, "owner/repository#number", or ""
    step: Step
    gates: Gates
    pieces: Pieces


def _ideas(cell: str) -> Iterator[Idea]:
    letters, holes = CELLS[cell].GATES, getattr(CELLS[cell], "PEEPHOLES", "")
    yield from any_cell.anywhere(letters)
    yield from any_cell.candidate("g" if "g" in letters else "n")
    if len(letters) > 1:
        yield from any_cell.gated(letters)
        yield from any_cell.orders(letters)
    if letters == "n":
        yield from of_grus.rnns()
    if "z" in letters:
        yield from of_grus.grus()
        yield from of_grus.resets(after=cell == "gru_reset_after")
    if "f" in letters:
        yield from of_lstms.forget_bias()
        yield from of_lstms.lstms(tied="i" not in letters)
        yield from of_lstms.uncoupled(bool(holes)) if "i" in letters else of_lstms.coupled()
    if holes:
        yield from of_lstms.peepholes(holes)


def _slip(cell: str, idea: Idea) -> Slip:
    gates, step = assemble(cell, idea.pieces)
    return Slip(idea.name, cell, idea.where, idea.says, idea.seen_in, step, gates, idea.pieces)


SLIPS = tuple(_slip(cell, idea) for cell in CELLS for idea in _ideas(cell))
