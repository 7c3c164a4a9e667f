"""Is this function that cell? If not, which equation differs, and what is the likely slip?

`check` runs a reader's function beside the cell itself, on random numbers and on hard ones (one
sequence alone, large numbers, many steps). A function that differs is compared with the wrong
cells of `lstmbook.wrong_cells.slips`. If it is none of them, `_Search` finds out which gate
differs: it asks the function again and again, each time with other weights set to zero, and reads
the gates off its answers. What it then says was measured; what is only a guess is called likely.
"""

import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import chain, combinations, product
from typing import Any, NamedTuple

import numpy as np

from ..cells import Cell, find, name_of
from ..cells._activations import Array, sigmoid, tanh
from ..wrong_cells import GATE_NAMES, SLIPS, Slip, assemble, merge

__all__ = ["Verdict", "check"]

ATOL = 1e-12  # usual numbers
LOOSE = 1e-9  # large numbers, long runs, and whether two functions are the same
STEPS = 5


@dataclass(frozen=True)
class Verdict:
    """What `check` found; prints as its message and is true if the function is right."""

    ok: bool
    message: str
    slip: str | None = None  # the name of the slip in `lstmbook.wrong_cells.slips`, if it is one

    def __bool__(self) -> bool:
        return self.ok

    def __str__(self) -> str:
        return "\n".join(
            textwrap.fill(line, 76, break_long_words=False, break_on_hyphens=False)
            for line in self.message.splitlines()
        )

    __repr__ = __str__


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
    subject = _Subject(function, find(cell), name_of(cell), part)
    with np.errstate(all="ignore"):
        try:
            return _judge(subject, np.random.default_rng(seed))
        except _RefusedError as refused:
            return Verdict(False, f"Not yet: {refused}")


class _RefusedError(Exception):
    """The function cannot be compared at all; the message is for the reader."""


# Cases


class _Call(NamedTuple):
    """The arguments of one call."""

    params: Any
    x: Array
    state: Any


class _Case(NamedTuple):
    """A short sequence, and in what it is special."""

    what: str
    hint: str
    params: Any
    xs: Array  # (time, batch, input)
    state: Any
    tolerance: float


def _random(
    rng: np.random.Generator, cell: Any, batch: int, inputs: int, hidden: int, steps: int = 1
) -> tuple[Any, Array, Any]:
    """Params, xs and state without a zero anywhere, biases included."""
    shapes = cell.init(rng, inputs, hidden, np.float64)
    params = type(shapes)(*(0.5 * rng.normal(size=a.shape) for a in shapes))
    state = cell.State(*(rng.normal(size=(batch, hidden)) for _ in cell.State._fields))
    return params, rng.normal(size=(steps, batch, inputs)), state


def _usual(rng: np.random.Generator, cell: Any) -> Iterator[_Case]:
    for sizes in ((2, 6, 5), (5, 2, 7), (7, 5, 6)):  # all different, and none is 1, 3 or 4
        yield _Case("", "", *_random(rng, cell, *sizes, steps=STEPS), ATOL)


def _special(rng: np.random.Generator, cell: Any) -> Iterator[_Case]:
    def case(what: str, hint: str, sizes: tuple[int, int, int], **change: Any) -> _Case:
        made = _Case(what, hint, *_random(rng, cell, *sizes), LOOSE)
        return made._replace(**{name: f(getattr(made, name)) for name, f in change.items()})

    def each(f: Callable[[Array], Array]) -> Callable[[Any], Any]:
        return lambda arrays: type(arrays)(*map(f, arrays))

    def negative(a: Array) -> Array:
        return np.negative(np.abs(a))

    def only(name: str, f: Callable[[Array], Array]) -> Callable[[Any], Any]:
        return lambda state: state._replace(**{name: f(getattr(state, name))})

    size = (3, 6, 5)
    count = max(2, len(cell.GATES))
    yield case("a batch of one", "Is an axis of size 1 dropped?", (1, 6, 5))
    yield case("one input and one unit", "Is an axis of size 1 dropped?", (3, 1, 1))
    yield case(
        "batch, input and hidden of the same size",
        "Is something transposed or added along the wrong axis when sizes are equal?",
        (count, count, count),
    )
    yield case("a larger batch and layer", "Is a size written as a number?", (17, 11, 13))
    hint = "Is something left out when the state is zero?"
    yield case("a zero state", hint, size, state=each(np.zeros_like))
    yield case("an input of zeros", "Is something left out then?", size, xs=np.zeros_like)
    hint = "Does something treat the two signs differently?"
    yield case("positive numbers alone", hint, size, xs=np.abs, state=each(np.abs))
    yield case("negative numbers alone", hint, size, xs=negative, state=each(negative))
    hint = "Is something clipped, or is a sigmoid or tanh only approximated?"
    yield case("a large x", hint, size, xs=lambda a: 20 * a)
    yield case("a very large x", hint, size, xs=lambda a: 2000 * a)
    for name in cell.State._fields:
        hint = f"Is {name} clipped?"
        yield case(f"a large old {name}", hint, size, state=only(name, lambda a: 1000 * a))
    single = each(lambda a: a.astype(np.float32))
    yield case(
        "float32",
        "Does it do something else for that dtype?",
        size,
        params=single,
        state=single,
        xs=lambda a: a.astype(np.float32),
    )._replace(tolerance=1e-5)
    hint = "Does something grow or get lost from step to step?"
    params, xs, state = _random(rng, cell, 2, 2, 5, steps=60)
    calm = type(params)(*(0.4 * a for a in params))
    yield _Case("60 steps", hint, calm, xs, state, LOOSE)
    if "i" in cell.GATES:
        held = calm._replace(b=np.full_like(calm.b, 8.0))  # c grows by about 1 at every step
        yield _Case("a cell state that grows for 60 steps", "Is c clipped?", held, xs, state, LOOSE)


# The function and its reference, with the same names for what comes out


class _Subject:
    """The reader's function: called with copies, its answers checked for form and named."""

    def __init__(self, function: Callable[..., Any], cell: Any, name: str, part: str) -> None:
        self.function, self.cell, self.name, self.part = function, cell, name, part
        self.fields: tuple[str, ...] = cell.State._fields
        self.returned: Any = None  # the last state, as the function returned it
        self.arrays: dict[str, Array] = {}  # the last answer, not copied

    def right(self, call: _Call) -> dict[str, Array]:
        """What should come out."""
        return self.named(getattr(self.cell, self.part)(*call))

    def named(self, result: Any) -> dict[str, Array]:
        """The arrays of a well-formed answer, by name."""
        if self.part == "gates":
            return dict(zip(self.cell.GATES, result, strict=True))
        h, state = result
        return {"h": h} | {
            "c" if k == "c" else f"state.{k}": getattr(state, k) for k in state._fields
        }

    def __call__(self, call: _Call, place: str = "") -> dict[str, Array]:
        """What the function gives, or `_RefusedError` with the reason why it cannot be used."""
        copies = _Call(*(_copy(argument) for argument in call))
        try:
            result = self.function(*copies)
        except Exception as error:
            message = f"{type(error).__name__}: {error}".rstrip(": ")
            raise _RefusedError(
                f"your function raises an error{place}.\n{message}\n"
                f"It was given {_shapes(call)}.{_broadcast_mend(error, call)}"
            ) from None
        changed = [
            name
            for (name, a), (_, b) in zip(_arrays(call), _arrays(copies), strict=True)
            if a.shape != b.shape or not np.array_equal(a, b)
        ]
        if changed:
            raise _RefusedError(
                f"your function changes {' and '.join(changed)} in place{place}.\n"
                "The caller still needs them. Make new arrays: c = f * c, not c *= f."
            )
        shape = (call.x.shape[0], call.params.b.shape[-1])
        parts = self._gates(result) if self.part == "gates" else self._pair(result, shape)
        self.arrays = {
            name: self._array(name, part, shape, call.x.dtype, place)
            for name, part in parts.items()
        }
        return {name: array.copy() for name, array in self.arrays.items()}

    def _gates(self, result: Any) -> dict[str, Any]:
        letters = self.cell.GATES
        axes = getattr(result, "ndim", None)
        if len(letters) == 1 and axes == 2:  # n itself, not in a tuple of one
            return {letters: result}
        wanted = f"expected the gates {', '.join(letters)}, a tuple of {len(letters)}"
        if not isinstance(result, tuple | list) and axes != 3:
            raise _RefusedError(f"your function returns {_what(result)}; {wanted}.")
        if len(result) != len(letters):
            raise _RefusedError(f"your function returns {len(result)} things; {wanted}.")
        return dict(zip(letters, result, strict=True))

    def _pair(self, result: Any, shape: tuple[int, ...]) -> dict[str, Any]:
        names = ", ".join(self.fields)
        state_is = f"State({names})"
        wanted = f"expected a pair: return h, {state_is}"
        if result is None:
            raise _RefusedError(f"your function returns nothing; {wanted}.")
        if getattr(result, "_fields", None) == self.fields:
            raise _RefusedError(f"your function returns {state_is} alone; {wanted}.")
        if not isinstance(result, tuple | list):
            raise _RefusedError(f"your function returns {_what(result)}; {wanted}.")
        if len(result) != 2:
            raise _RefusedError(f"your function returns {len(result)} things; {wanted}.")
        h, state = result
        if not isinstance(state, tuple | list):
            mend, fits = "", getattr(state, "shape", None) == shape
            if isinstance(h, tuple | list):
                mend = "\nIs it the other way round? The output comes first, then the state."
            elif fits and len(self.fields) == 2:
                mend = "\nDo you return h, c? The state is one thing that holds both."
            elif fits:
                mend = "\nPut it into a State: return h, State(h)."
            raise _RefusedError(f"the state you return is {_what(state)}; {wanted}.{mend}")
        if len(state) != len(self.fields):
            raise _RefusedError(f"the state you return holds {len(state)} things; {wanted}.")
        self.returned = state
        got = getattr(state, "_fields", self.fields)
        order = got if sorted(got) == sorted(self.fields) else self.fields
        parts = dict(zip(order, state, strict=True))
        return {"h": h} | {"c" if k == "c" else f"state.{k}": parts[k] for k in self.fields}

    def _array(self, name: str, part: Any, shape: tuple[int, ...], dtype: Any, place: str) -> Array:
        try:
            array = np.asarray(part)
        except Exception as error:
            raise _RefusedError(
                f"{name} is {_what(part)}, which NumPy cannot read ({error})."
            ) from None
        if array.dtype.kind != "f":
            raise _RefusedError(
                f"{name} is {_what(part)} of dtype {array.dtype}; expected an array of floats."
            )
        if array.shape != shape:
            raise _RefusedError(
                f"{name} has shape {array.shape}; expected (batch, hidden) = {shape}{place}."
                f"{self._shape_mend(array.shape, shape)}"
            )
        if dtype == np.float64 and array.dtype.itemsize < dtype.itemsize:
            raise _RefusedError(
                f"{name} is {array.dtype}, but all that you were given is float64.\n"
                "So it is rounded to 7 digits or less, too few to compare. Is a dtype written "
                "in your function, or does a framework compute in float32?"
            )
        return array

    def _shape_mend(self, got: tuple[int, ...], wanted: tuple[int, ...]) -> str:
        batch, hidden = wanted
        count = len(self.cell.GATES)
        if got == (hidden, batch):
            return "\nIs it transposed?"
        if got == (hidden,) or (batch == 1 and got == ()):
            return "\nIs the batch axis lost?"
        if got in ((1, batch, hidden), (count, batch, hidden)):
            return "\nIs the gate axis still there?"
        if got == (batch, count * hidden):
            return "\nAre the gates still side by side?"
        if got == (batch, 2 * hidden):
            return "\nAre h and c still side by side?"
        return ""


def _copy(argument: Any) -> Any:
    if isinstance(argument, tuple):
        return type(argument)(*(a.copy() for a in argument))
    return argument.copy()


def _arrays(call: _Call) -> Iterator[tuple[str, Array]]:
    yield from ((f"params.{k}", a) for k, a in call.params._asdict().items())
    yield "x", call.x
    yield from ((f"state.{k}", a) for k, a in call.state._asdict().items())


def _shapes(call: _Call) -> str:
    return ", ".join(f"{name} {a.shape}" for name, a in _arrays(call))


def _what(thing: Any) -> str:
    if hasattr(thing, "shape"):
        return f"one array of shape {tuple(thing.shape)}"
    return f"a {type(thing).__name__}" if thing is not None else "nothing"


def _broadcast_mend(error: Exception, call: _Call) -> str:
    if not isinstance(error, ValueError) or "broadcast" not in str(error):
        return ""
    product_shape = (len(call.params.b), len(call.x), call.params.b.shape[-1])
    return (
        f"\nx @ params.W_x has shape {product_shape}: (gates, batch, hidden). "
        "A bias for every gate is added as params.b[:, None]."
    )


# The verdict


class _Failure(NamedTuple):
    """Where a function first differs from its cell."""

    case: _Case
    step: int  # counted from 1
    off: dict[str, float]  # by how much, for what differs
    free: bool  # it differs only when it runs on its own state


Record = tuple[_Call, dict[str, Array], float]


def _judge(subject: _Subject, rng: np.random.Generator) -> Verdict:
    usual, special = list(_usual(rng, subject.cell)), list(_special(rng, subject.cell))
    first = _first_call(usual[0])
    answer, arrays = subject(first), subject.arrays
    if _off(answer, subject(first), 0.0):
        raise _RefusedError(
            "your function gives two answers to the same question. It is random, or it keeps "
            "something from one call to the next.\nAll that it keeps must be in the state."
        )
    failures = (_try(subject, case) for case in usual + special)
    failure = next((failure for failure in failures if failure), None)
    if _off(arrays, answer, 0.0):
        raise _RefusedError(
            "your function writes into an array that it returned before.\n"
            "Make a new array in each call."
        )
    if _off(answer, subject(first), 0.0):
        raise _RefusedError(
            "your function gives another answer to its first question when it is asked again "
            "later. It keeps something from one call to the next.\n"
            "All that it keeps must be in the state."
        )
    if failure:
        return _explain(subject, failure, usual + special, rng)
    names = list(subject.cell.GATES) if subject.part == "gates" else ["h", *subject.fields[1:]]
    message = (
        f"Right: {_and(names)} agree{'s' * (len(names) == 1)} with lstmbook's {subject.name} "
        f"on {STEPS} steps, max |Δ| < {ATOL:g}."
    )
    return Verdict(True, message + _state_note(subject, first))


def _first_call(case: _Case) -> _Call:
    return _Call(case.params, case.xs[0], case.state)


def _state_note(subject: _Subject, call: _Call) -> str:
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


def _off(got: dict[str, Array], want: dict[str, Array], tolerance: float) -> dict[str, float]:
    """By how much each array differs, for those that do."""
    off = {}
    for name, right in want.items():
        distance = np.abs(got[name].astype(np.float64) - right)
        same = (distance <= tolerance * (1 + np.abs(right))) | (got[name] == right)
        same |= np.isnan(got[name]) & np.isnan(right)
        if not same.all():
            off[name] = float(np.max(distance))  # NaN if one is NaN
    return off


def _try(subject: _Subject, case: _Case) -> _Failure | None:
    """Each step from the right state; then the whole run on the function's own states."""
    place = f" with {case.what}" if case.what else ""
    right = case.state
    calls = []
    for t, x in enumerate(case.xs, 1):
        call = _Call(case.params, x, right)
        calls.append(call)
        off = _off(subject(call, f"{place} (step {t})"), subject.right(call), case.tolerance)
        if off:
            return _Failure(case, t, off, free=False)
        _, right = subject.cell.step(*call)
    if subject.part == "gates":
        return None
    state = case.state
    for t, call in enumerate(calls, 1):
        got = subject(call._replace(state=state), f"{place} (step {t} on your own states)")
        off = _off(got, subject.right(call), case.tolerance)
        if off:
            return _Failure(case, t, off, free=True)
        state = type(state)(*(got["c" if k == "c" else f"state.{k}"] for k in subject.fields))
    return None


def _explain(
    subject: _Subject, failure: _Failure, cases: list[_Case], rng: np.random.Generator
) -> Verdict:
    head = _head(subject, failure)
    if failure.free:
        text = "From the right state, each of these steps is right. Likely small errors add up."
        return Verdict(False, f"{head}\n{text}")
    records = list(_records(subject, cases))
    if not records:
        text = "It is not finite. Is something divided by 0?"
        return Verdict(False, f"{head}\n{text}")
    if max(failure.off.values()) < 1e-5 and all(map(_is_single, records)):
        text = "All that you return fits into float32. Likely something is computed in float32."
        return Verdict(False, f"{head}\n{text}")
    mine = [slip for slip in SLIPS if slip.cell == subject.name]
    for slip in mine:
        if _same(subject, slip, records):
            see = f"\nSee {slip.seen_in}." if slip.seen_in else ""
            message = f"{head}\nLikely slip ({_where(subject, slip)}): {slip.says}{see}"
            return Verdict(False, message, slip.name)
    if failure.case.what:
        hint = failure.case.hint
        if not all(map(np.isfinite, failure.off.values())):
            hint = "Does an exp overflow? sigmoid(a) = (1 + tanh(a / 2)) / 2 never does."
        return Verdict(False, f"{head}\n{hint}")
    try:
        culprits, text = _Search(subject, rng).explain(failure.off)
    except _RefusedError:
        culprits, text = "", ""
    pair = _pair_of_slips(subject, mine, culprits, records)
    if pair:
        says = "\n".join(f"{n}. ({_where(subject, s)}) {s.says}" for n, s in enumerate(pair, 1))
        name = " + ".join(slip.name for slip in pair)
        return Verdict(False, f"{head}\nLikely two slips:\n{says}", name)
    return Verdict(False, f"{head}\n{text}".rstrip())


def _head(subject: _Subject, failure: _Failure) -> str:
    off = dict(failure.off)
    if off.get("h") == off.get("state.h"):  # one thing: the output is the new hidden state
        off.pop("state.h", None)
    names = sorted(off, key=lambda name: name == "h")  # c is computed before h
    amounts = [
        f"{name + ' ' if len(names) > 1 else ''}"
        + (f"by {off[name]:.2g}" if np.isfinite(off[name]) else "is not finite")
        for name in names
    ]
    what = f"{_and(names)} differ{'s' * (len(names) == 1)} from lstmbook's {subject.name}"
    first = f"first at step {failure.step} ({', '.join(amounts)})"
    if failure.free:
        return f"Not yet: run on its own states, {what}, {first}."
    if failure.case.what:
        return f"Not yet: right on usual numbers, but with {failure.case.what}, {what}, {first}."
    return f"Not yet: {what}, {first}."


def _and(names: list[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _where(subject: _Subject, slip: Slip) -> str:
    letters = subject.cell.GATES
    if slip.where in GATE_NAMES:
        return GATE_NAMES[slip.where]
    if slip.where == letters:
        return "all gates"
    return f"gates {', '.join(slip.where)}" if set(slip.where) <= set(letters) else slip.where


def _records(subject: _Subject, cases: list[_Case]) -> Iterator[Record]:
    """Calls and what the function answered, for every case with a finite answer."""
    for case in cases:
        state = case.state
        for x in case.xs[:STEPS]:
            call = _Call(case.params, x, state)
            try:
                answer = subject(call)
            except _RefusedError:
                break
            if all(np.isfinite(a).all() for a in answer.values()):
                yield call, answer, max(case.tolerance, LOOSE)
            _, state = subject.cell.step(*call)


def _is_single(record: Record) -> bool:
    return all(np.array_equal(a, a.astype(np.float32)) for a in record[1].values())


def _same(
    subject: _Subject, slip: Slip, records: list[Record], names: tuple[str, ...] = ()
) -> bool:
    """Whether a wrong cell answers as the function did, in every record."""
    wrong = slip.gates if subject.part == "gates" else slip.step
    for call, got, tolerance in records:
        for name, a in subject.named(wrong(*call)).items():
            b = got[name]
            same = np.abs(a - b) <= tolerance * (1 + np.abs(a))
            if name in (names or got) and not same.all():
                return False
    return True


def _pair_of_slips(
    subject: _Subject, slips: list[Slip], culprits: str, records: list[Record]
) -> tuple[Slip, Slip] | None:
    """Two slips that together do what the function does."""
    for first, second in _likely_pairs(subject, slips, culprits, records):
        pieces = merge(first.pieces, second.pieces)
        if pieces is not None:
            gates, step = assemble(subject.name, pieces)
            if _same(subject, first._replace(gates=gates, step=step), records):
                return first, second
    return None


def _likely_pairs(
    subject: _Subject, slips: list[Slip], culprits: str, records: list[Record]
) -> Iterator[tuple[Slip, Slip]]:
    """All pairs are too many: two slips in the gates to blame, or one in c and one in h."""
    rare = ("order_", "_reads_")
    pool = [slip for slip in slips if not any(word in slip.name for word in rare)]
    if "c" in records[0][1]:
        right = [(call, subject.right(call), tolerance) for call, _, tolerance in records[:1]]
        in_c = [slip for slip in slips if _same(subject, slip, records, ("c",))]
        in_h = [slip for slip in pool if _same(subject, slip, right, ("c",))]
        yield from product(in_c, in_h)
        pool = [slip for slip in pool if slip not in in_h]
    blamed = [slip for slip in pool if set(slip.where) & set(culprits)]
    if subject.part == "step":
        blamed += [slip for slip in pool if slip.where in ("c", "h")]
    if culprits:
        yield from combinations(blamed, 2)


# Which gate differs

Read = Callable[[_Call], Array | None]  # a gate, as it can be read off the function's answers


class _Finding(NamedTuple):
    culprit: str  # the letter of a gate that explains it, or ""
    text: str


def _clear(findings: list[_Finding | None]) -> bool:
    """Whether gates explain all that was found."""
    return all(finding is None or finding.culprit for finding in findings)


class _Search:
    """Finds the gate that differs, with calls that are made for it.

    If all equations but one are right, that one can be read off the answers: where
    ``c = f * c + i * g`` holds with the right ``i`` and ``g``, ``f`` is ``(c_new - i * g) / c``.
    A reading is trusted only if it does not change when the weights of the other gates do, so a
    gate is blamed only if it explains all that was seen.
    """

    def __init__(self, subject: _Subject, rng: np.random.Generator) -> None:
        self.subject, self.rng, self.cell = subject, rng, subject.cell
        self.letters: str = self.cell.GATES
        self.holes: str = getattr(self.cell, "PEEPHOLES", "")

    def explain(self, off: dict[str, float]) -> tuple[str, str]:
        """The gates to blame and the text, for a function that is ``off``."""
        call, where = self.probe(), ""
        if self.subject.part == "gates":
            return self.direct(call)
        if "h" in off and "state.h" not in off:
            return "", "In the state, h is right. The h that you return beside it is not the same."
        if "h" not in off and "state.h" in off:
            return "", "The h that you return is right. In the state, h is not the same."
        if off.get("h") != off.get("state.h"):
            culprits, text = self.explain({"h": 1.0, "state.h": 1.0})
            note = "The h that you return and the h in your state are not the same. Beside that:"
            return culprits, f"{note}\n{text}"
        if not self.wrong(call):
            return "", "On numbers of moderate size it is right. Likely something is clipped."
        if self.holes:
            none = call._replace(params=call.params._replace(p=np.zeros_like(call.params.p)))
            if not self.wrong(none):
                return self.peepholes(call, none)
            call, where = none, "Without peepholes (all p = 0), "
        if self.letters == "n":
            groups = {"h": [self.judge("n", partial(self.asked, "h"), call)]}
        elif "z" in self.letters:
            groups = {"h": self.gru(call)}
        else:
            groups = {"c": self.new_c(call), "h": self.new_h(call)}
        found = {name: [f for f in group if f] for name, group in groups.items()}
        everything = list(chain(*found.values()))
        culprits = "".join(finding.culprit for finding in everything)
        if len(culprits) == len(everything):  # each by a gate
            return culprits, self.words("all" if where else "All", everything, where)
        texts = [self.words(name, group, where) for name, group in found.items() if group]
        return culprits, "\n".join(texts)

    def words(self, name: str, findings: list[_Finding], where: str) -> str:
        culprits = [finding.culprit for finding in findings]
        texts = [finding.text for finding in findings]
        if not all(culprits):
            return "\n".join(texts)
        only = f"only the {GATE_NAMES[culprits[0]]} is wrong"
        if len(culprits) > 1:
            only = f"{_and(culprits)} are wrong and nothing else"
        return "\n".join([f"{where}{name} fits if {only}.", *texts])

    # Calls

    def probe(self) -> _Call:
        """Numbers for which no gate is near 0 or 1, and no state near 0."""
        params, xs, state = _random(self.rng, self.cell, 3, 4, 5)
        state = type(state)(*(np.copysign(self.rng.uniform(0.4, 1.2, a.shape), a) for a in state))
        return self.other(_Call(params, xs[0], state), self.letters)

    def other(self, call: _Call, letters: str) -> _Call:
        """Other weights for these gates; zero peepholes stay zero."""
        inputs, hidden = call.params.W_x.shape[1:]
        for k in letters:
            new = {
                "W_x": 0.3 * self.rng.normal(size=(inputs, hidden)),
                "W_h": 0.6 * np.linalg.qr(self.rng.normal(size=(hidden, hidden)))[0],
                "b": 0.4 * self.rng.normal(size=hidden),
            }
            if k in self.holes and np.any(call.params.p):
                new["p"] = 0.4 * self.rng.normal(size=hidden)
            if k == "n" and "b_hn" in call.params._fields:
                new["b_hn"] = 0.4 * self.rng.normal(size=hidden)
            call = self.put(call, k, **new)
        return call

    def put(self, call: _Call, k: str, **values: Any) -> _Call:
        """The call with these weights for gate ``k``."""
        params = call.params
        for field, value in values.items():
            array = getattr(params, field).copy()
            row: Any = (self.holes if field == "p" else self.letters).index(k)
            array[... if field == "b_hn" else row] = value
            params = params._replace(**{field: array})
        return call._replace(params=params)

    def hold(self, call: _Call, **at: int) -> _Call:
        """The call with gates held at 0 or 1 by their biases (g at 1)."""
        for k, one in at.items():
            call = self.put(call, k, W_x=0.0, W_h=0.0, b=50.0 if one else -50.0)
        return call

    def old(self, call: _Call, name: str, value: Array) -> _Call:
        return call._replace(state=call.state._replace(**{name: value}))

    def ask(self, call: _Call) -> dict[str, Array]:
        answer = self.subject(call)
        if not all(np.isfinite(a).all() for a in answer.values()):
            raise _RefusedError("not finite")
        return answer

    def asked(self, name: str, call: _Call) -> Array:
        return self.ask(call)[name]

    def right(self, call: _Call) -> dict[str, Array]:
        """The right gates."""
        return dict(zip(self.letters, self.cell.gates(*call), strict=True))

    def wrong(self, call: _Call) -> bool:
        return bool(_off(self.ask(call), self.subject.right(call), TINY))

    # Judging one gate

    def judge(self, k: str, read: Read, call: _Call, own: str = "") -> _Finding | None:
        """What is wrong with a gate; None if nothing is.

        ``own`` are the gates that may change the reading, ``k`` if not given.
        """
        got, right = read(call), self.right(call)[k]
        if got is not None and not _differ(got, right):
            return None
        if got is None:
            return _Finding("", f"{k} cannot be told.")
        leaks = self.leaks(read, call, own or k, TINY + 1e-3 * _distance(got, right))
        if leaks == ["the old c"]:
            return _Finding(k, f"{k}: changes with the old c. Does it see c?")
        if leaks:
            return _Finding("", f"What should be {k} also changes with {_and(leaks)}.")
        return _Finding(k, f"{k}: {self.parts(k, read, call)}")

    def leaks(self, read: Read, call: _Call, own: str, tolerance: float) -> list[str]:
        """What changes a reading and should not: other gates' weights, or the old c."""
        others = {f"the weights of {k}": self.other(call, k) for k in self.letters if k not in own}
        if "c" in call.state._fields:
            others["the old c"] = self.old(call, "c", -1.1 * call.state.c)
        first, found = read(call), []
        for name, other in others.items():
            again = read(other)
            if first is None or again is None or _differ(first, again, tolerance):
                found.append(name)
        return found

    def parts(self, k: str, read: Read, call: _Call) -> str:
        """Which parts of its sum make a gate wrong: all subsets of them are tried."""
        names = {"W_x": f"x @ W_x{k}", "W_h": f"h @ W_h{k}", "b": f"b_{k}"}
        if k == "n" and "r" in self.letters:
            names["W_h"] = "(r * h) @ W_hn"
        if k == "n" and "b_hn" in call.params._fields:
            names |= {"W_h": "r * (h @ W_hn)", "b_hn": "r * b_hn"}
        if k in self.holes and np.any(call.params.p):
            names["p"] = f"p_{k} * c"
        wrong = {}
        for there in _subsets(tuple(names)):
            less = self.put(call, k, **{part: 0.0 for part in names if part not in there})
            got, want = read(less), self.want(k, less)
            wrong[there] = got is None or _differ(got, want)
            if not there and wrong[there]:
                return (
                    f"where {_and(list(names.values()))} are all 0, it should be "
                    f"{want.flat[0]:.3g} and yours is {_range(got, want)}. Likely its "
                    "nonlinearity, or something that is added to it."
                )
        alone = tuple(part for part in names if wrong[part,])
        rest = tuple(part for part in names if part not in alone)
        if not rest:
            return (
                f"right where {_and(list(names.values()))} are all 0, wrong with each of them "
                "alone. Likely its nonlinearity."
            )
        if not wrong[rest]:
            listed = _and([names[part] for part in alone])
            return f"right where {listed} {'is' if len(alone) == 1 else 'are'} 0. Look there."
        together = next(there for there in wrong if wrong[there] and set(there) <= set(rest))
        listed = _and([names[part] for part in together])
        return f"wrong when {listed} are there together, but right with each of them alone."

    def want(self, k: str, call: _Call) -> Array:
        if self.subject.part == "gates":
            return self.given(call, self.ask(call))[k]
        return self.right(call)[k]

    def facts(self, call: _Call, name: str, *facts: tuple[dict[str, int], str, Any]) -> str:
        """What should hold with gates held at 0 or 1 and does not."""
        text = ""
        for held, words, want in facts:
            still = self.hold(call, **held)
            answer = self.ask(still)
            distance = _distance(answer[name], want(still, answer))
            if distance > TINY:
                gates = _and([f"{k} held at {at}" for k, at in held.items()])
                bias = "its bias" if len(held) == 1 else "their biases"
                text += f"\nWith {gates} by {bias}, {words}; yours is off by {distance:.2g}."
        return text

    # Cells

    def new_c(self, call: _Call) -> list[_Finding | None]:
        if not _differ(self.ask(call)["c"], self.cell.step(*call)[1].c):
            return []
        coupled = "i" not in self.letters
        share = "(1 - f)" if coupled else "i"
        look = f"Look at c = f * c + {share} * g."
        look += self.facts(
            call,
            "c",
            (
                {"f": 1} if coupled else {"f": 1, "i": 0},
                "c should stay as it is",
                lambda call, answer: call.state.c,
            ),
            (
                {"f": 0} if coupled else {"f": 0, "i": 1},
                "c should be g",
                lambda call, answer: self.right(call)["g"],
            ),
        )

        def line(call: _Call) -> tuple[Array, Array] | None:
            """``c = slope * old c + rest``, or None if it is not of this form."""
            olds = [call.state.c, call.state.c + 0.7, call.state.c - 0.9]
            first, second, third = (self.ask(self.old(call, "c", c))["c"] for c in olds)
            slope = (second - first) / 0.7
            rest = first - slope * olds[0]
            return None if _differ(third, slope * olds[2] + rest) else (slope, rest)

        def read(part: int, divide: Callable[[_Call, Array], Array]) -> Read:
            def reading(call: _Call) -> Array | None:
                parts = line(call)
                return None if parts is None else _ratio(parts[part], divide(call, parts[0]))

            return reading

        def one(call: _Call, f: Array) -> Array:
            return np.ones_like(f)

        def held(**at: int) -> Read:
            plain = read(1, one)
            return lambda call: plain(self.hold(call, **at))

        text = "The new c is not something times the old c plus something."
        findings: list[_Finding | None] = [_Finding("", f"{text} {look}")]
        straight = line(call) is not None
        if straight:
            f = self.judge("f", read(0, one), call)
            others = [self.judge("g", read(1, lambda call, f: 1 - f), call)]
            if not coupled:
                others = [self.judge("i", read(1, lambda call, f: self.right(call)["g"]), call)]
                if not _clear(others):
                    others = [self.judge("g", read(1, lambda call, f: self.right(call)["i"]), call)]
                if not _clear(others):  # neither alone; both?
                    i, g, both = held(g=1), held(i=1), read(1, one)
                    if all(_times(i(c), g(c), both(c)) for c in (call, self.other(call, "ig"))):
                        others = [self.judge("i", i, call), self.judge("g", g, call)]
            findings = [f, *others]
            if _clear(findings):
                return findings
            if not _clear(others):
                findings = [_Finding("", f"What is added to f * c is not {share} * g. {look}")]
                if f:
                    text = f"What multiplies the old c is not {f.text}" if f.culprit else f.text
                    findings.insert(0, _Finding("", text))
            elif f:
                findings[0] = f._replace(text=f"{f.text} {look}")
        for k in self.letters.replace("o", "").replace("f", "" if straight else "f"):
            if self.leaks(partial(self.alone, k), call, k, TINY) == ["the old c"]:
                mend = f", or is c = f * c + {share} * g another" if k == "f" else ""
                return [_Finding(k, f"{k}: changes with the old c. Does it see c{mend}?")]
        return findings

    def alone(self, k: str, call: _Call) -> Array:
        """Gate ``k`` if all else in c is right."""
        new, old, right = self.ask(call)["c"], call.state.c, self.right(call)
        f, g, i = right["f"], right["g"], right.get("i")
        if k == "f":
            return _ratio(new - g, old - g) if i is None else _ratio(new - i * g, old)
        if k == "i":
            return _ratio(new - f * old, g)
        return _ratio(new - f * old, 1 - f if i is None else i)

    def new_h(self, call: _Call) -> list[_Finding | None]:
        """What is wrong in h, given the function's own c."""

        def read_o(call: _Call) -> Array | None:
            answer = self.ask(call)
            return _ratio(answer["h"], tanh(answer["c"]))

        found = self.judge("o", read_o, call)
        if found and not found.culprit:
            text = "h is not o * tanh(c), with your own new c. Look at this line." + self.facts(
                call,
                "h",
                ({"o": 1}, "h should be tanh(c)", lambda call, answer: tanh(answer["c"])),
                ({"o": 0}, "h should be 0", lambda call, answer: np.zeros_like(answer["h"])),
            )
            found = _Finding("", text)
        return [found]

    def gru(self, call: _Call) -> list[_Finding | None]:
        after = "b_hn" in call.params._fields

        def n_from_z(call: _Call) -> Array:
            z = self.right(call)["z"]
            return _ratio(self.ask(call)["h"] - z * call.state.h, 1 - z)

        def n_held(call: _Call) -> Array:
            return self.ask(self.hold(call, z=0))["h"]

        def z_from(read_n: Callable[[_Call], Array]) -> Read:
            def reading(call: _Call) -> Array:
                n = read_n(call)
                return _ratio(self.ask(call)["h"] - n, call.state.h - n)

            return reading

        def r_from(read_n: Callable[[_Call], Array]) -> Read:
            def reading(call: _Call) -> Array | None:
                n, params, h = read_n(call), call.params, call.state.h
                if not np.all(np.abs(n) < 1):
                    return None
                recurrent = np.arctanh(n) - call.x @ params.W_x[2] - params.b[2]
                if after:
                    return _ratio(recurrent, h @ params.W_h[2] + params.b_hn)
                return _ratio(recurrent @ np.linalg.inv(params.W_h[2]), h)

            return reading

        def candidate(read_n: Callable[[_Call], Array]) -> _Finding | None:
            found = self.judge("n", read_n, call, own="rn")
            r = self.judge("r", r_from(read_n), call) if found and found.culprit else None
            if r and r.culprit:  # the one cannot be told from the other
                part = "r * (h @ W_hn + b_hn)" if after else "(r * h) @ W_hn"
                return r._replace(text=f"{r.text}\nOr it is {part} in the candidate n.")
            return found

        found = candidate(n_from_z)
        if found and found.culprit:
            return [found]
        found = self.judge("z", z_from(lambda call: self.right(call)["n"]), call)
        if found and found.culprit:
            return [found]
        look = "Look at h = z * h + (1 - z) * n."
        stays = ({"z": 1}, "h should stay as it is", lambda call, answer: call.state.h)
        if not self.facts(call, "h", stays):  # so z can be held, and n be read off
            both = [candidate(n_held), self.judge("z", z_from(n_held), call)]
            if _clear(both):
                return both
            if both[0] is None and both[1]:  # n is right, so this can be trusted
                look = f"{both[1].text} {look}"
        is_n = ({"z": 0}, "h should be n", lambda call, answer: self.right(call)["n"])
        return [_Finding("", look + self.facts(call, "h", stays, is_n))]

    def peepholes(self, call: _Call, none: _Call) -> tuple[str, str]:
        """What is wrong if all is right without peepholes."""
        rows = dict(zip(self.holes, call.params.p, strict=True))
        alone = [k for k in self.holes if self.wrong(self.put(none, k, p=rows[k]))]
        text = "With all peephole weights 0 it is right: look at the peepholes."
        if not alone:
            text += "\nEach of them alone is right too; together they are not."
        for k in alone:
            c = "new c" if k == "o" else "old c"
            text += f"\nWith p_{k} alone it is wrong: the {GATE_NAMES[k]} should see p_{k} * c, "
            text += f"with the {c}."
        return "".join(alone), text

    def direct(self, call: _Call) -> tuple[str, str]:
        """What is wrong in gates that the function returns itself."""
        answer, right = self.ask(call), self.right(call)
        order = "".join(
            next((k for k, a in right.items() if not _differ(a, answer[place])), "?")
            for place in self.letters
        )
        if sorted(order) == sorted(self.letters) and order != self.letters:
            text = f"You return the gates in the order {', '.join(order)}; "
            return "", f"{text}here it is {', '.join(self.letters)}."
        culprits, lines = "", []
        for k, want in self.given(call, answer).items():
            if _differ(answer[k], want):
                culprits += k
                lines.append(f"{k}: {self.parts(k, partial(self.asked, k), call)}")
            elif _differ(answer[k], right[k]):
                lines.append(f"{k}: right for your other gates.")
        return culprits, "\n".join(lines)

    def given(self, call: _Call, answer: dict[str, Array]) -> dict[str, Array]:
        """The right gates; one that depends on others takes the function's own others."""
        right = self.right(call)
        params, x, (h, *_) = call
        if "o" in self.holes:
            f, g, p_o = answer["f"], answer["g"], params.p[-1]
            c = f * call.state.c + answer.get("i", 1 - f) * g
            right["o"] = sigmoid(x @ params.W_x[-1] + h @ params.W_h[-1] + params.b[-1] + p_o * c)
        if "r" in self.letters:
            r, W_hn = answer["r"], params.W_h[-1]
            recurrent = r * (h @ W_hn + params.b_hn) if "b_hn" in params._fields else (r * h) @ W_hn
            right["n"] = tanh(x @ params.W_x[-1] + recurrent + params.b[-1])
        return right


TINY = 1e-11  # readings divide, which costs a digit


def _distance(a: Array, b: Array) -> float:
    """How far two readings are apart, where both could be made; infinite if nowhere."""
    distance = np.abs(a - b)
    known = distance[~np.isnan(distance)]
    return float(np.max(known)) if known.size else float("inf")


def _differ(a: Array, b: Array, tolerance: float = TINY) -> bool:
    return _distance(a, b) > tolerance


def _times(a: Array | None, b: Array | None, product: Array | None) -> bool:
    """Whether three readings could be made and ``a * b = product``."""
    return not (a is None or b is None or product is None) and not _differ(a * b, product)


def _ratio(a: Array, b: Array) -> Array:
    """``a / b``; NaN where ``b`` is too near 0 to divide by."""
    return np.divide(a, b, out=np.full_like(a, np.nan), where=np.abs(b) > 0.02)


def _range(a: Array | None, right: Array) -> str:
    if a is None or np.isnan(a).all():
        return "unknown: your answer does not show it"
    if _distance(a, right) < 1e-3:
        return f"off by {_distance(a, right):.2g}"
    low, high = (round(float(v), 9) + 0.0 for v in (np.nanmin(a), np.nanmax(a)))
    return f"{low:.3g}" if low == high else f"between {low:.3g} and {high:.3g}"


def _subsets(names: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    for count in range(len(names) + 1):
        yield from combinations(names, count)
