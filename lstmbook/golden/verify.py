"""Holding an implementation to the vectors, and the report of it."""

import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from .. import layouts
from ..cells import CELLS, Cell, find, name_of
from ..cells._activations import Array
from ..diagnose.check import check
from ..wrong_cells.around import AROUND, Around
from ..wrong_cells.slips import SLIPS
from .answers import GROUPS, AnswerError, SilentError, checked
from .command import Command, of_command
from .functions import answer, functions_of, of_functions, python_function
from .results import of_results, read_results
from .vectors import Vector, read

__all__ = ["ArrayResult", "Command", "Report", "VectorResult", "verify", "verify_named"]

GRADIENTS = GROUPS[3:]

Ask = Callable[[Vector], dict[str, Array]]


# The report


class ArrayResult(NamedTuple):
    """One array of an answer against what is expected."""

    name: str  # hs, final/c, d_params/W_h, …
    max_abs: float  # max |Δ|
    tolerance: float
    ok: bool


@dataclass(frozen=True)
class VectorResult:
    """What came of one vector."""

    name: str
    purpose: str
    arrays: tuple[ArrayResult, ...]
    error: str | None = None  # why the answer could not be compared

    @property
    def ok(self) -> bool:
        """Whether every array that was answered is right."""
        return self.error is None and all(row.ok for row in self.arrays)


@dataclass(frozen=True)
class Report:
    """What `verify` found; prints as a table and is true if all that was answered is right."""

    cell: str
    dtype: str  # "float64" or "float32": whose tolerance holds
    vectors: tuple[VectorResult, ...]
    missing: tuple[str, ...]  # what a vector expects and was not answered, so not verified
    likely: str | None  # the likely slip, in words
    slip: str | None  # its name in `lstmbook.wrong_cells.slips` or in `AROUND`

    @property
    def ok(self) -> bool:
        """Whether every vector passes."""
        return all(result.ok for result in self.vectors)

    def __bool__(self) -> bool:
        return self.ok

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON can hold it; a difference that is not finite is None."""
        return {
            "cell": self.cell,
            "ok": self.ok,
            "passed": sum(result.ok for result in self.vectors),
            "total": len(self.vectors),
            "dtype": self.dtype,
            "missing": list(self.missing),
            "likely": self.likely,
            "slip": self.slip,
            "vectors": [
                {
                    "name": result.name,
                    "purpose": result.purpose,
                    "ok": result.ok,
                    "error": result.error,
                    "arrays": [
                        row._asdict()
                        | {"max_abs": row.max_abs if math.isfinite(row.max_abs) else None}
                        for row in result.arrays
                    ],
                }
                for result in self.vectors
            ],
        }

    def __str__(self) -> str:
        passed = sum(result.ok for result in self.vectors)
        head = f"{self.cell}: {passed} of {len(self.vectors)} vectors pass, as {self.dtype}"
        columns = ["hs", *(f"final/{k}" for k in CELLS[self.cell].State._fields)]
        rows = [("vector", *columns, "gates", "gradients", "")]
        for result in self.vectors:
            cells = [_worst(result, column) for column in columns]
            cells += [_worst(result, "gates"), _worst(result, *GRADIENTS)]
            rows.append((result.name, *cells, "pass" if result.ok else "FAIL"))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [head, ""] + [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in rows
        ]
        text = ["\n".join(lines)]
        failures = [result for result in self.vectors if not result.ok]
        for error in dict.fromkeys(result.error for result in failures if result.error):
            where = [result.name for result in failures if result.error == error]
            text.append(f"{', '.join(where)}: {error}")
        for result in failures:
            wrong = [f"{a.name} by {a.max_abs:.2g}" for a in result.arrays if not a.ok]
            if wrong and len(failures) < len(self.vectors):
                text.append(f"{result.name}: {', '.join(wrong)}\n  It shows: {result.purpose}")
        if self.likely:
            text.append(self.likely)
        if self.missing:
            text.append(f"Not answered, so not verified: {', '.join(self._missing_groups())}")
        return "\n\n".join(text)

    __repr__ = __str__

    def _missing_groups(self) -> dict[str, None]:
        """What is missing, in short: a group alone if nothing of it was answered."""
        answered = {a.name.split("/")[0] for result in self.vectors for a in result.arrays}
        groups = ((name, name.split("/")[0]) for name in self.missing)
        return dict.fromkeys(name if group in answered else group for name, group in groups)


def _worst(result: VectorResult, *parts: str) -> str:
    """The largest difference of some arrays, or of groups of them."""
    found = [a.max_abs for a in result.arrays if {a.name, a.name.split("/")[0]} & set(parts)]
    return f"{np.max(found):.1e}" if found else "-"


# Judging


def verify(
    cell: Cell | str,
    implementation: Any,
    *,
    gradients: Callable[..., Any] | None = None,
    layout: str | None = None,
    forget_bias: float = 1.0,
    dtype: DTypeLike = np.float64,
    tolerance: float | None = None,
    vectors: Sequence[str] | None = None,
) -> Report:
    """Hold an implementation to the golden vectors of a cell.

    Parameters
    ----------
    cell : module of `lstmbook.cells` or its name
    implementation : function, object, `Command`, path or mapping
        - ``step(params, x, state) -> (h, state)``: one step;
        - ``run(params, xs, state, lengths) -> (hs, state)``: a whole batch of sequences, known
          by its parameter ``lengths``; ``hs`` alone will do;
        - an object that has ``step`` or ``run``, and perhaps ``gates``, ``step_vjp`` or
          ``backprop``, such as a module of `lstmbook.cells`;
        - a `Command`: a program in any language;
        - a path to a JSON or NPZ file of results, or such a mapping ``{vector: answer}``.
    gradients : function, optional
        Beside a step: ``step_vjp(params, x, state, d_state) -> (d_params, d_x, d_state)``.
        Beside a run: ``backprop(params, xs, d_hs, d_state, state, lengths)``, which returns
        ``(d_params, d_xs, d_state)``.
    layout : str, optional
        A name in `lstmbook.layouts.LAYOUTS`: params are handed over as that framework's arrays,
        in a dict, and ``d_params`` comes back as one.
    forget_bias : float
        What the layout's framework adds at run time (``tf1`` only), as in `layouts.load`.
    dtype : float dtype
        Of the arrays that a function is given.
    tolerance : float, optional
        What an array may be off, relative to its largest number where that is above 1. If not
        given, each vector's own, by the dtype of the answers: 1e-12 for float64, 1e-6 for float32
        (1e-5 for many steps), ten times that for gradients. Numbers of at most 9 digits count as
        float32.
    vectors : sequence of str, optional
        Names of some vectors; all if not given.

    Returns
    -------
    Report
        Print it; ``if verify(...)`` works too, and ``.to_dict()`` is for JSON.

    Raises
    ------
    TypeError, ValueError
        If there is no such cell, vector or layout, or the file of results cannot be read. What
        goes wrong inside the implementation is not raised; the report says it.

    Examples
    --------
    >>> import numpy as np
    >>> from lstmbook import lstm
    >>> from lstmbook.golden import verify
    >>> bool(verify("lstm", lstm))
    True
    >>> def step(params, x, state):
    ...     i, f, g, o = lstm.gates(params, x, state)
    ...     c = f * state.c + i * g
    ...     return o * c, lstm.State(o * c, c)
    >>> report = verify("lstm", step)
    >>> report.ok, report.slip
    (False, 'no_tanh')
    """
    name = name_of(find(cell))
    if tolerance is not None and not tolerance >= 0:
        raise ValueError(f"tolerance is {tolerance}; expected a number that is not negative")
    chosen = read(name, vectors)
    if layout is not None:
        layouts.describe(name, layout)  # raises if the layout cannot hold the cell
    ask, step = _ask_of(name, implementation, gradients, layout, forget_bias, np.dtype(dtype))
    answers: dict[str, dict[str, Array]] = {}
    errors: dict[str, str] = {}
    silent = ""
    for vector in chosen:
        if silent:
            errors[vector.name] = silent
            continue
        try:
            with np.errstate(all="ignore"):
                answers[vector.name] = checked(vector, ask(vector))
        except AnswerError as error:
            errors[vector.name] = str(error)
            silent = str(error) if isinstance(error, SilentError) else ""
    kind = _precision(answers)
    results = tuple(
        VectorResult(
            vector.name,
            vector.purpose,
            tuple(_compared(vector, answers.get(vector.name, {}), kind, tolerance)),
            errors.get(vector.name),
        )
        for vector in chosen
    )
    answered = [vector for vector in chosen if vector.name in answers]
    missing = dict.fromkeys(
        part for vector in answered for part in vector.expected if part not in answers[vector.name]
    )
    likely, slip = None, None
    if not all(result.ok for result in results):
        likely, slip = _likely(name, chosen, answers, results, kind, step)
    return Report(name, kind, results, tuple(missing), likely, slip)


def verify_named(
    cell: str,
    *,
    command: str | None = None,
    python: str | None = None,
    results: str | os.PathLike[str] | None = None,
    timeout: float = 60.0,
    layout: str | None = None,
    forget_bias: float = 1.0,
    dtype: str = "float64",
    tolerance: float | None = None,
    vectors: Sequence[str] | None = None,
) -> Report:
    """`verify` by plain values, for the command line: one of command, python and results.

    Parameters
    ----------
    cell : str
    command : str, optional
        A program and its arguments; see `Command`.
    python : str, optional
        ``module:function``; see `python_function`. It is run, so it must be trusted.
    results : path, optional
        A JSON or NPZ file.
    timeout : float
        Seconds for one vector, of a command.
    layout, forget_bias, dtype, tolerance, vectors : as in `verify`

    Raises
    ------
    TypeError, ValueError
        If not exactly one is given, or as `verify` does.
    """
    given = [k for k in (command, python, results) if k is not None]
    if len(given) != 1:
        raise ValueError("what is to be verified? Give one of command, python and results")
    implementation: Any = results
    if command is not None:
        implementation = Command(command, timeout)
        implementation.words()
    elif python is not None:
        implementation = python_function(python)
    return verify(
        cell,
        implementation,
        layout=layout,
        forget_bias=forget_bias,
        dtype=dtype,
        tolerance=tolerance,
        vectors=vectors,
    )


def _ask_of(
    cell: str,
    implementation: Any,
    gradients: Callable[..., Any] | None,
    layout: str | None,
    forget_bias: float,
    dtype: np.dtype[Any],
) -> tuple[Ask, Callable[..., Any] | None]:
    """The function that answers a vector, and the reader's step if there is one."""
    if isinstance(implementation, Command):
        return partial(of_command, implementation, layout, forget_bias), None
    if isinstance(implementation, str | os.PathLike):
        implementation = read_results(cell, Path(implementation))
    if isinstance(implementation, Mapping):
        return partial(of_results, implementation, layout), None
    if dtype.kind != "f":
        raise TypeError(f"dtype is {dtype}; expected a float dtype such as np.float32")
    at = functions_of(implementation, gradients)
    step = at.get("step") if layout is None and dtype == np.float64 else None
    return partial(of_functions, at, layout, forget_bias, dtype), step


def _precision(answers: Mapping[str, Mapping[str, Array]]) -> str:
    """Whether the answers are of float32: by dtype, or since no number has more digits."""
    arrays = [array for flat in answers.values() for array in flat.values()]
    if any(array.dtype.itemsize < 8 for array in arrays):
        return "float32"
    values = np.concatenate([array.ravel() for array in arrays]) if arrays else np.zeros(0)
    values = values[np.isfinite(values)]
    with np.errstate(over="ignore"):
        single = values == values.astype(np.float32)
    few = all(float(f"{v:.9g}") == v for v in values[~single])
    return "float32" if few and values.any() else "float64"


def _compared(
    vector: Vector, arrays: Mapping[str, Array], kind: str, tolerance: float | None
) -> Iterator[ArrayResult]:
    for name, right in vector.expected.items():
        if name in arrays:
            allowed = vector.tolerance[kind] if tolerance is None else tolerance
            if tolerance is None and name.split("/")[0] in GRADIENTS:
                allowed *= 10
            allowed *= max(1.0, float(np.max(np.abs(right), initial=0.0)))
            off = np.abs(arrays[name].astype(np.float64) - right)
            max_abs = float(np.max(off, initial=0.0))  # NaN if one is NaN
            yield ArrayResult(name, max_abs, allowed, max_abs <= allowed)


# Likely slips


def _likely(
    cell: str,
    chosen: Sequence[Vector],
    answers: Mapping[str, Mapping[str, Array]],
    results: Sequence[VectorResult],
    kind: str,
    step: Callable[..., Any] | None,
) -> tuple[str | None, str | None]:
    """What the wrong answers have in common with a known slip."""
    forward = [
        vector
        for vector, result in zip(chosen, results, strict=True)
        if any(not row.ok and row.name.split("/")[0] in ("hs", "final") for row in result.arrays)
    ]
    if forward:
        answered = [vector for vector in chosen if vector.name in answers]
        for slip in (slip for slip in SLIPS if slip.cell == cell):
            if _alike(partial(answer, slip.step), answered, answers, kind):
                see = f" See {slip.seen_in}." if slip.seen_in else ""
                return f"Likely slip: {slip.says}{see}", slip.name
        for name, around in AROUND.items():
            if _alike(partial(_around, around), answered, answers, kind):
                return f"Likely slip: {around.says}", name
        if step is not None:
            verdict = check(step, cell)
            if not verdict.ok:
                return verdict.message, verdict.slip
        return None, None
    wrong = dict.fromkeys(row.name for result in results for row in result.arrays if not row.ok)
    if wrong and all(name.split("/")[0] in GRADIENTS for name in wrong):
        right = {row.name for result in results for row in result.arrays} - set(wrong)
        also = sorted(name for name in right if name.split("/")[0] in GRADIENTS)
        return (
            f"Outputs and states are right; wrong gradients: {', '.join(wrong)}. "
            f"Right gradients: {', '.join(also) or 'none'}."
        ), None
    return None, None


def _around(mistake: Around, vector: Vector) -> Mapping[str, Array]:
    return mistake.answer(vector, answer)


def _alike(
    wrong: Callable[[Vector], Mapping[str, Array]],
    vectors: Sequence[Vector],
    answers: Mapping[str, Mapping[str, Array]],
    kind: str,
) -> bool:
    """Whether a wrong cell gives the same answers to all vectors."""
    loose = 1e-9 if kind == "float64" else 1e-5
    for vector in vectors:
        for name, want in wrong(vector).items():
            got = answers[vector.name].get(name)
            if got is None:
                continue
            same = np.abs(got - want) <= loose * (1 + np.abs(want))
            if not (same | (np.isnan(got) & np.isnan(want))).all():
                return False
    return True
