"""Wrong cells: the slips that people make, each with what it says to the one who made it.

`slips` are cells with a piece changed, which `changed` makes of their pages; `around` are mistakes
around a right cell.
"""

from .changed import Changed, assemble, merge
from .slips import GATE_NAMES, SLIPS, Slip

__all__ = ["GATE_NAMES", "SLIPS", "Changed", "Slip", "assemble", "merge"]
