"""Is an implementation, in any language, this cell? `verify` holds it to the golden vectors.

The vectors (`lstmbook.golden.vectors`) say what goes in and what must come out: outputs, final
states and, for those who have them, gates and gradients. The implementation may be a Python
function, a program that answers JSON with JSON (`Command`), or a file of results. What differs is
compared with the wrong cells of `lstmbook.wrong_cells.slips` and with the mistakes around a cell of
`lstmbook.wrong_cells.around`, so that the report can name the likely slip.
"""

from .command import request
from .functions import python_function
from .verify import ArrayResult, Command, Report, VectorResult, verify, verify_named

__all__ = [
    "ArrayResult",
    "Command",
    "Report",
    "VectorResult",
    "python_function",
    "request",
    "verify",
    "verify_named",
]
