"""To look at: differences between results, a framework's own source, a cell as a drawing."""

from .compare import Comparison, Difference, compare
from .draw import COLORS, draw
from .trace import trace

__all__ = ["COLORS", "Comparison", "Difference", "compare", "draw", "trace"]
