"""Is this Python function that cell? If not, which equation differs?"""

from .check import Verdict, check

__all__ = ["Verdict", "check"]
