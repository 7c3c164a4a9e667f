"""Wrong cells: the slips that people make, each with what it says to the one who made it.

`slips` are cells with a piece changed; `around` are mistakes around a right cell.
"""

from .slips import GATE_NAMES, SLIPS, Slip, assemble, merge

__all__ = ["GATE_NAMES", "SLIPS", "Slip", "assemble", "merge"]
