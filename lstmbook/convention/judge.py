"""How far hypotheses are from the pair, and what it costs to know."""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from ..cells._activations import Array
from ..wrong_cells.slips import Slip
from .hypotheses import Family, Table
from .pair import Pair
from .predict import first_step, predict
from .readings import Reading

__all__ = [
    "LARGEST",
    "Fit",
    "Job",
    "Work",
    "cost_of",
    "first_cost",
    "first_off",
    "judge",
    "take",
    "tolerance_of",
    "whole",
]

_CHUNK = 100_000  # numbers at a time
# Operations, each about a nanosecond: a number in a grid and the calls for a grid; a number in a
# table, a product with a weight and the calls for a step of a table.
_IN_GRID, _GRID = 25, 400_000
_IN_TABLE, _PRODUCT, _CALLS = 30, 0.06, 80_000
LARGEST = 500_000  # hypotheses in one table or grid


class Work:
    """What may still be computed, in operations and not in seconds.

    So the same input gives the same answer on any machine.
    """

    def __init__(self, operations: float) -> None:
        self.left = operations
        self.cut = False  # whether anything was not allowed

    def allows(self, operations: float) -> bool:
        """Take so many, if there are so many."""
        if operations > self.left:
            self.cut = True
            return False
        self.left -= operations
        return True


class Job(NamedTuple):
    """One reading of the pair and of the arrays, for one family; its hypotheses are tables."""

    pair: Pair
    reading: Reading
    family: Family
    tolerance: float


class Fit(NamedTuple):
    """One hypothesis about one reading of the arrays and of the pair, and how well it fits."""

    pair: Pair
    reading: Reading
    family: Family
    row: Table  # one row
    forget_bias: float
    distance: float  # max |Δ| over all outputs, and final states if given
    spread: float  # root of the mean square of Δ
    slip: Slip | None = None


# |Δ| that rounding explains


def tolerance_of(pair: Pair, reading: Reading, precision: str) -> float:
    """``max |Δ|`` that rounding explains, by dtype, length and size.

    float64 1e-12; float32 1e-6 for up to 20 steps and 32 units, else 1e-5; float16 5e-3. Sums of
    many or large terms (up to a hundredfold) and outputs beyond 1 (relu) have more in proportion.
    """
    short = pair.steps <= 20 and pair.last.shape[-1] <= 32
    base = {"float16": 5e-3, "float32": 1e-6 if short else 1e-5, "float64": 1e-12}[precision]
    outputs = pair.last if pair.hs is None else pair.hs
    terms = np.abs(pair.xs).max((0, 1)) @ np.abs(reading.W_x)
    terms = terms + np.abs(outputs).max(tuple(range(outputs.ndim - 1))) @ np.abs(reading.W_h)
    return base * max(1.0, float(np.abs(outputs).max()), min(100.0, float(terms.max()) / 16))


# The first step alone


def first_off(
    job: Job, sizes: dict[str, int], forget_biases: Array, units: int, work: Work
) -> Array | None:
    """``|Δ|`` of some units after one step of one sequence, an axis for each column of ``sizes``.

    None if the pair has no output of a first step, or if that is too much. A first step from zero
    uses neither ``W_h`` nor the forget gate: what concerns them is an axis of 1.
    """
    pair, reading, family, _ = job
    row, seen = pair.first, _seen(job, sizes)
    if math.prod(seen.values()) > LARGEST:
        work.cut = True
        return None
    if row is None or not work.allows(first_cost(job, sizes, units)):
        return None
    h, c = (part[row : row + 1] for part in pair.state)
    wanted = pair.last[row] if pair.hs is None else pair.hs[0, row]
    # Units spread over the sizes of the outputs: a zero tells little.
    ranked = np.argsort(-np.abs(wanted), kind="stable")[: max(1, np.count_nonzero(wanted))]
    at = ranked[np.linspace(0, len(ranked) - 1, units + 2).astype(int)[1:-1]]
    got = first_step(family, reading, seen, forget_biases, pair.xs[0, row : row + 1], (h, c), at)
    off: Array = np.abs(got - wanted[at])
    return np.nan_to_num(off, nan=np.inf, posinf=np.inf)


def first_cost(job: Job, sizes: dict[str, int], units: int) -> float:
    """The operations of `first_off`."""
    return _GRID + math.prod(_seen(job, sizes).values()) * units * _IN_GRID


def _seen(job: Job, sizes: dict[str, int]) -> dict[str, int]:
    """The sizes without what the first step does not see."""
    h, c = (part[job.pair.first].any() for part in job.pair.state)
    forget = bool(c) or bool(job.family.kept)  # a coupled input gate is 1 - f
    return sizes | ({} if h else {"h": 1}) | ({} if forget else {"forget": 1})


# All steps


def judge(
    job: Job,
    table: Table,
    forget_biases: Array,
    work: Work,
    rows: Any = slice(None),
    steps: int | None = None,
    units: int | None = None,
) -> tuple[Array, Array] | None:
    """``max |Δ|`` and the root of the mean square of Δ for each row of a table.

    On some sequences, steps and units of the pair alone, if so wanted. None if that is too much.
    """
    pair, reading, family, _ = job
    count, hidden = len(table["order"]), pair.last.shape[-1]
    forced = pair.hs
    chosen: Any = slice(None)
    if forced is not None and units is not None and units < hidden:
        chosen = np.unique(np.linspace(0, hidden - 1, units).astype(int))
    xs, alive = pair.xs[:steps, rows], pair.alive[:steps, rows]
    state = pair.state[0][rows], pair.state[1][rows]
    width = hidden if isinstance(chosen, slice) else len(chosen)
    if not work.allows(cost_of(job, count, xs.shape[0], xs.shape[1], width)):
        return None
    per_chunk = _per_chunk(job, xs.shape[1], width)
    worst, squares = np.zeros(count), np.zeros(count)
    numbers = 0
    for start in range(0, count, per_chunk):
        part = slice(start, start + per_chunk)
        numbers = 0
        states = predict(
            family,
            reading,
            take(table, part),
            forget_biases,
            xs,
            state,
            alive=alive,
            forced=None if forced is None else forced[:steps, rows],
            units=chosen,
        )
        wanted: list[tuple[Array, Array, Any]] = []
        h = c = state[0]
        for t, now in enumerate(states):
            h, c = now
            if forced is not None and alive[t].any():
                wanted = [(h, forced[t, rows][:, chosen], alive[t])]
                numbers += _add(worst[part], squares[part], wanted)
        if steps is None or steps >= pair.steps:
            every = np.ones(len(state[0]), bool)
            wanted = [] if forced is not None else [(h, pair.last[rows][:, chosen], alive.any(0))]
            if pair.final[0] is not None and forced is None:
                wanted.append((h, pair.final[0][rows][:, chosen], every))
            if pair.final[1] is not None:
                wanted.append((c, pair.final[1][rows][:, chosen], every))
            numbers += _add(worst[part], squares[part], wanted)
    return worst, np.sqrt(squares / max(1, numbers))


def _add(worst: Array, squares: Array, wanted: list[tuple[Array, Array, Any]]) -> int:
    """Differences into the two sums; the number of them."""
    numbers = 0
    for got, right, on in wanted:
        delta = np.abs(got[:, on] - right[on])
        delta[~np.isfinite(delta)] = np.inf
        if delta.size:
            np.maximum(worst, delta.max((1, 2)), out=worst)
            squares += (delta**2).sum((1, 2))
            numbers += delta[0].size
    return numbers


def cost_of(job: Job, count: int, steps: int, batch: int = 1, width: int | None = None) -> float:
    """The operations of `judge` on so many hypotheses, steps, sequences and units."""
    pair, reading, family, _ = job
    width = width or pair.last.shape[-1]
    products = 0.0
    chunks = math.ceil(count / _per_chunk(job, batch, width))
    if pair.hs is None or family.cell == "gru":
        blocks, hidden, _ = reading.W_h.shape
        products = _PRODUCT * hidden * width * (blocks if pair.hs is None else 1)
    return steps * (chunks * _CALLS + count * batch * ((width + 10) * _IN_TABLE + products))


def _per_chunk(job: Job, batch: int, width: int) -> int:
    blocks = 1 if job.pair.hs is not None else len(job.reading.W_x)
    return max(1, _CHUNK // (batch * width * blocks))


def take(table: Table, rows: Any) -> Table:
    return {name: column[rows] for name, column in table.items()}


def whole(
    job: Job, table: Table, forget_biases: Array, work: Work, tolerance: float = np.inf
) -> Iterator[Fit]:
    """The rows of a table that are within the tolerance on the whole pair."""
    pair, reading, family, _ = job
    count = len(table["order"])
    if not count:
        return
    batch, hidden = pair.last.shape
    at_once = max(1, 4_000_000 // (pair.steps * len(reading.W_x) * hidden))  # memory stays small
    worst, squares = np.zeros(count), np.zeros(count)
    for start in range(0, batch, at_once):
        judged = judge(job, table, forget_biases, work, slice(start, start + at_once))
        if judged is None:
            return
        worst = np.maximum(worst, judged[0])
        squares += judged[1] ** 2 * min(at_once, batch - start) / batch
    for k in np.flatnonzero(worst <= tolerance):
        row = take(table, slice(k, k + 1))
        bias = float(forget_biases[row["forget"][0]]) if "f" in family.orders[0] else 0.0
        yield Fit(pair, reading, family, row, bias, float(worst[k]), math.sqrt(squares[k]))
