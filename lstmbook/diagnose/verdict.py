"""What is said of a function that is wrong: which wrong cell it is, or which gate differs."""

import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations, product
from typing import NamedTuple

import numpy as np

from ..cells._activations import Array
from ..wrong_cells import GATE_NAMES, SLIPS, Slip, assemble, merge
from .cases import LOOSE, STEPS, Call, Case
from .search import Search
from .subject import RefusedError, Subject, listed

__all__ = ["Failure", "Verdict", "explained"]


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


class Failure(NamedTuple):
    """Where a function first differs from its cell."""

    case: Case
    step: int  # counted from 1
    off: dict[str, float]  # by how much, for what differs
    free: bool  # it differs only when it runs on its own state


Record = tuple[Call, dict[str, Array], float]


def explained(
    subject: Subject, failure: Failure, cases: list[Case], rng: np.random.Generator
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
        culprits, text = Search(subject, rng).explain(failure.off)
    except RefusedError:
        culprits, text = "", ""
    pair = _pair_of_slips(subject, mine, culprits, records)
    if pair:
        says = "\n".join(f"{n}. ({_where(subject, s)}) {s.says}" for n, s in enumerate(pair, 1))
        name = " + ".join(slip.name for slip in pair)
        return Verdict(False, f"{head}\nLikely two slips:\n{says}", name)
    return Verdict(False, f"{head}\n{text}".rstrip())


def _head(subject: Subject, failure: Failure) -> str:
    off = dict(failure.off)
    if off.get("h") == off.get("state.h"):  # one thing: the output is the new hidden state
        off.pop("state.h", None)
    names = sorted(off, key=lambda name: name == "h")  # c is computed before h
    amounts = [
        f"{name + ' ' if len(names) > 1 else ''}"
        + (f"by {off[name]:.2g}" if np.isfinite(off[name]) else "is not finite")
        for name in names
    ]
    what = f"{listed(names)} differ{'s' * (len(names) == 1)} from lstmbook's {subject.name}"
    first = f"first at step {failure.step} ({', '.join(amounts)})"
    if failure.free:
        return f"Not yet: run on its own states, {what}, {first}."
    if failure.case.what:
        return f"Not yet: right on usual numbers, but with {failure.case.what}, {what}, {first}."
    return f"Not yet: {what}, {first}."


def _where(subject: Subject, slip: Slip) -> str:
    letters = subject.cell.GATES
    if slip.where in GATE_NAMES:
        return GATE_NAMES[slip.where]
    if slip.where == letters:
        return "all gates"
    return f"gates {', '.join(slip.where)}" if set(slip.where) <= set(letters) else slip.where


def _records(subject: Subject, cases: list[Case]) -> Iterator[Record]:
    """Calls and what the function answered, for every case with a finite answer."""
    for case in cases:
        state = case.state
        for x in case.xs[:STEPS]:
            call = Call(case.params, x, state)
            try:
                answer = subject(call)
            except RefusedError:
                break
            if all(np.isfinite(a).all() for a in answer.values()):
                yield call, answer, max(case.tolerance, LOOSE)
            _, state = subject.cell.step(*call)


def _is_single(record: Record) -> bool:
    return all(np.array_equal(a, a.astype(np.float32)) for a in record[1].values())


def _same(subject: Subject, slip: Slip, records: list[Record], names: tuple[str, ...] = ()) -> bool:
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
    subject: Subject, slips: list[Slip], culprits: str, records: list[Record]
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
    subject: Subject, slips: list[Slip], culprits: str, records: list[Record]
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
