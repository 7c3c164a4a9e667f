"""Is this function that cell? If not, which equation differs, and what is the likely slip?

`check` runs a reader's function beside the cell itself, on random numbers and on hard ones (one
sequence alone, large numbers, many steps: `cases`). A function that differs is compared with the
wrong cells of `lstmbook.wrong_cells` (`verdict`). If it is none of them, `search` finds out which
gate differs: it asks the function again and again, each time with other weights set to zero, and
reads the gates off its answers. What it then says was measured; what is only a guess is called
likely.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from ..cells import Cell, find, name_of
from .cases import ATOL, STEPS, Call, Case, special_cases, usual_cases
from .subject import RefusedError, Subject, listed, off_by
from .verdict import Failure, Verdict, explained

__all__ = ["Verdict", "check"]


def check(
    function: Callable[..., Any], cell: Cell | str, *, seed: int = 0, part: str = "step"
) -> Verdict:
    """Whether a function computes a cell; if not, which equation differs.

    Parameters
    ----------
    function : function
        ``function(params, x, state) -> (h, state)``, like ``cell.step``. The state may come back
        as a plain tuple in the order of ``cell.State``.
    cell : module of `lstmbook.cells` or its name
    seed : int
        Other random numbers.
    part : {"step", "gates"}
        ``"gates"`` checks a function like ``cell.gates``: ``function(params, x, state)`` gives
        the activated gates in the order ``cell.GATES``.

    Returns
    -------
    Verdict
        Print it; ``if check(...)`` works too.

    Raises
    ------
    TypeError, ValueError
        If ``function`` cannot be called, or if there is no such cell or part. What goes wrong
        inside ``function`` is not raised; the verdict says it.

    Examples
    --------
    >>> import numpy as np
    >>> import lstmbook
    >>> def step(params, x, state):
    ...     i, f, g, o = lstmbook.lstm.gates(params, x, state)
    ...     c = f * state.c + i * g
    ...     h = o * c
    ...     return h, (h, c)
    >>> lstmbook.check(step, "lstm")  # doctest: +ELLIPSIS, +NORMALIZE_WHITESPACE
    Not yet: h differs from lstmbook's lstm, first at step 1 (by ...).
    Likely slip (h): You leave out the tanh; it is h = o * tanh(c), with the new c.
    See nicodjimenez/lstm#47.
    """
    if not callable(function):
        mend = ". The function comes first: check(function, cell)" if callable(cell) else ""
        raise TypeError(f"function is of type {type(function).__name__}; expected a function{mend}")
    if part not in ("step", "gates"):
        raise ValueError(f"there is no part {part!r}; the parts are step, gates")
    subject = Subject(function, find(cell), name_of(cell), part)
    with np.errstate(all="ignore"):
        try:
            return _judge(subject, np.random.default_rng(seed))
        except RefusedError as refused:
            return Verdict(False, f"Not yet: {refused}")


def _judge(subject: Subject, rng: np.random.Generator) -> Verdict:
    usual, special = list(usual_cases(rng, subject.cell)), list(special_cases(rng, subject.cell))
    first = _first_call(usual[0])
    answer, arrays = subject(first), subject.arrays
    if off_by(answer, subject(first), 0.0):
        raise RefusedError(
            "your function gives two answers to the same question. It is random, or it keeps "
            "something from one call to the next.\nAll that it keeps must be in the state."
        )
    failures = (_try(subject, case) for case in usual + special)
    failure = next((failure for failure in failures if failure), None)
    if off_by(arrays, answer, 0.0):
        raise RefusedError(
            "your function writes into an array that it returned before.\n"
            "Make a new array in each call."
        )
    if off_by(answer, subject(first), 0.0):
        raise RefusedError(
            "your function gives another answer to its first question when it is asked again "
            "later. It keeps something from one call to the next.\n"
            "All that it keeps must be in the state."
        )
    if failure:
        return explained(subject, failure, usual + special, rng)
    names = list(subject.cell.GATES) if subject.part == "gates" else ["h", *subject.fields[1:]]
    message = (
        f"Right: {listed(names)} agree{'s' * (len(names) == 1)} with lstmbook's {subject.name} "
        f"on {STEPS} steps, max |Δ| < {ATOL:g}."
    )
    return Verdict(True, message + _state_note(subject, first))


def _first_call(case: Case) -> Call:
    return Call(case.params, case.xs[0], case.state)


def _state_note(subject: Subject, call: Call) -> str:
    """A right function can still be one that cannot read the state that it returns."""
    if subject.part == "gates" or hasattr(subject.returned, "_fields"):
        return ""
    try:
        subject.function(call.params, call.x, subject.returned)
    except Exception:
        names = ", ".join(subject.fields)
        return (
            f"\nBut your function cannot read the plain tuple that it returns: "
            f"return State({names}), so that it can be run in a loop."
        )
    return ""


def _try(subject: Subject, case: Case) -> Failure | None:
    """Each step from the right state; then the whole run on the function's own states."""
    place = f" with {case.what}" if case.what else ""
    right = case.state
    calls = []
    for t, x in enumerate(case.xs, 1):
        call = Call(case.params, x, right)
        calls.append(call)
        off = off_by(subject(call, f"{place} (step {t})"), subject.right(call), case.tolerance)
        if off:
            return Failure(case, t, off, free=False)
        _, right = subject.cell.step(*call)
    if subject.part == "gates":
        return None
    state = case.state
    for t, call in enumerate(calls, 1):
        got = subject(call._replace(state=state), f"{place} (step {t} on your own states)")
        off = off_by(got, subject.right(call), case.tolerance)
        if off:
            return Failure(case, t, off, free=True)
        state = type(state)(*(got["c" if k == "c" else f"state.{k}"] for k in subject.fields))
    return None
