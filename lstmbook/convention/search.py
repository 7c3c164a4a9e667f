"""Which hypotheses compute the pair: a few numbers judge all of them, all numbers the rest."""

import math
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from ..cells import CELLS
from ..cells._activations import Array
from .hypotheses import Table, families_of, near, table_of, usual
from .judge import LARGEST, Fit, Job, Work, cost_of, first_cost, first_off, judge, take, whole
from .pair import Pair
from .readings import Reading

__all__ = ["Close", "Fits", "jobs_of", "nearest", "search"]

_MOST, _KEPT = 500, 20_000  # fits, and hypotheses of one table after its first number
_EASY = 50_000_000  # operations; a search of more looks at what is usual first
_ENDS = (8, 4, 2)  # steps
_WIDE, _ROUGH = 32, 1e-2  # from so many units on in float32, which is right within so much
_CLOSE, _FEW = 32, 8  # hypotheses that may be the nearest


class Level(NamedTuple):
    """How much is tried."""

    usual: bool = False  # the orders of the frameworks alone
    plain: bool = False  # no unusual activations
    aligned: bool = False  # the arrays of all gates in one common order


_EVERY = Level()
_LEVELS = (
    Level(usual=True, plain=True, aligned=True),
    Level(plain=True, aligned=True),
    Level(aligned=True),
    Level(plain=True),
    _EVERY,
)


class Close(NamedTuple):
    """A hypothesis that may be the nearest."""

    spread: float  # root of the mean square of Δ, of a few numbers
    job: Job
    row: Table


class Fits(NamedTuple):
    """What `search` found."""

    fits: list[Fit]
    left_out: int  # fits beyond the number that is kept
    close: list[Close]


_Tables = list[tuple[Job, Table]]


def jobs_of(
    pairs: list[Pair],
    readings: list[Reading],
    cells: Iterable[str],
    tolerances: dict[tuple[int, int], float],
) -> list[Job]:
    """All readings of the pair with all readings of the arrays and the families of these."""
    return [
        Job(pair, reading, family, tolerances[m, n])
        for m, pair in enumerate(pairs)
        for n, reading in enumerate(readings)
        for family in families_of(reading)
        if family.cell in cells
    ]


def search(jobs: list[Job], biases: Array, work: Work) -> Fits:
    """Every hypothesis within its tolerance of every output.

    Where there are many (an array for each gate, or the last outputs alone), first those of the
    frameworks and what stands beside one that fits; then ever more, as far as the work goes.
    """
    jobs = [job for job in jobs if _same_last(job)]
    levels = _LEVELS[2 if all(job.pair.first is not None for job in jobs) else 0 :]
    steps = _longest(jobs)
    if sum(_cost(job, sizes, steps) for job, sizes in _sized(jobs, _EVERY, biases)) <= _EASY:
        levels = (_EVERY,)
    found: list[Fit] = []
    close: list[Close] = []
    left_out = 0
    for level in levels:
        tables, more = _first_look(jobs, level, biases, work)
        close += more
        for job, table in tables:
            table = _pruned(job, table, biases, work)
            fits = list(whole(job, table, biases, work, job.tolerance))
            if fits and level is not _EVERY:
                wider = _pruned(job, _beside(job, table, len(biases)), biases, work)
                # None of them where that was too much.
                fits = list(whole(job, wider, biases, work, job.tolerance)) or fits
            left_out += max(0, len(fits) - _MOST)
            found += fits[:_MOST]
        if found:
            break
    found.sort(key=_plain)
    return Fits(found[:_MOST], left_out + len(found[_MOST:]), close)


def _same_last(job: Job) -> bool:
    """Whether the final h is the last output, as it is in every cell here."""
    pair, h = job.pair, job.pair.final[0]
    return h is None or pair.hs is None or bool((np.abs(h - pair.last) <= job.tolerance).all())


def _plain(fit: Fit) -> tuple[int, ...]:
    """The plainest convention first."""
    names = ("h", "b", "squash", "activation", "output", "old", "flipped")
    odd = sum(int(fit.row[name][0]) > 0 for name in names)
    return (odd, list(CELLS).index(fit.family.cell), int(fit.row["holes"][0]))


def _sized(jobs: list[Job], level: Level, biases: Array) -> Iterator[tuple[Job, dict[str, int]]]:
    """The jobs with what of their families the level has, and the sizes of their tables."""
    for job in jobs:
        family = usual(job.family) if level.usual else job.family
        if family is not None:
            sizes = family.sizes(job.reading, len(biases), plain=level.plain, aligned=level.aligned)
            yield job._replace(family=family), sizes | ({"old": 1} if level.usual else {})


def _longest(jobs: list[Job]) -> int:
    """The steps that the shortest sequence has, in the reading of the pair with most."""
    pairs = {id(job.pair): job.pair for job in jobs}
    return max((len(pair.end(pair.steps).xs) for pair in pairs.values()), default=0)


def _cost(job: Job, sizes: dict[str, int], steps: int) -> float:
    """The operations of a first look: at the first step, or at so many of the last ones."""
    if job.pair.first is not None:
        return first_cost(job, sizes, 1)
    return cost_of(job, math.prod(sizes.values()), steps)


def _first_look(
    jobs: list[Job], level: Level, biases: Array, work: Work
) -> tuple[_Tables, list[Close]]:
    """The hypotheses of a level that fit a few numbers, and some that are close."""
    tables: _Tables = []
    without = []
    for job, sizes in _sized(jobs, level, biases):
        if job.pair.first is None:
            if math.prod(sizes.values()) <= LARGEST:
                without.append((job, sizes))
            else:
                work.cut = True
            continue
        off = first_off(job, sizes, biases, 1, work)
        if off is not None:
            good = np.broadcast_to(off[..., 0] <= job.tolerance, tuple(sizes.values()))
            rows = np.flatnonzero(good)
            work.cut |= len(rows) > _KEPT
            columns = np.unravel_index(rows[:_KEPT], good.shape)
            tables.append((job, dict(zip(sizes, columns, strict=True))))
    ends, close = _ends(without, biases, work)
    return [(job, table) for job, table in tables + ends if len(table["order"])], close


def _ends(
    jobs: list[tuple[Job, dict[str, int]]], biases: Array, work: Work
) -> tuple[_Tables, list[Close]]:
    """The hypotheses that give the last output of the shortest sequence, and some that are close.

    Without the outputs between, each must run over all steps. Where that is too much, each runs
    over the last few steps from zero, since a cell forgets, and the nearest are kept.
    """
    longest = _longest([job for job, _ in jobs])
    for steps in (longest, *(k for k in _ENDS if k < longest)):
        costs = np.cumsum([_cost(job, sizes, steps) for job, sizes in jobs])
        if not jobs or costs[-1] <= work.left / 2:
            break
    else:
        work.cut = True
        jobs = jobs[: np.searchsorted(costs, work.left / 2)]
    looked: list[tuple[Job, Table, Array, Array]] = []
    for job, sizes in jobs:
        table = table_of(sizes)
        off = judge(_ending(job, steps), table, biases, work)
        if off is not None:
            looked.append((job, table, *off))
    nearest_of_each = (
        (float(spread[k]), n, k)
        for n, (_, _, _, spread) in enumerate(looked)
        for k in np.argsort(spread, kind="stable")[:_FEW]
    )
    close = [
        Close(spread, looked[n][0], take(looked[n][1], [k]))
        for spread, n, k in sorted(nearest_of_each)[:_FEW]
    ]
    if steps == longest or not looked:
        return [(job, take(table, worst <= _rough(job))) for job, table, worst, _ in looked], close
    work.cut = True
    spreads = np.sort(np.concatenate([spread for _, _, _, spread in looked]))
    each = max(cost_of(job, 1, longest) for job, _, _, _ in looked)
    limit = spreads[: max(1, int(work.left / 4 / each))][-1]
    return [(job, take(table, spread <= limit)) for job, table, _, spread in looked], close


def _rough(job: Job) -> float:
    """The tolerance of a first look, which may be in float32."""
    return max(job.tolerance, _ROUGH * float(np.abs(job.pair.last).max()))


def _ending(job: Job, steps: int) -> Job:
    """The job for the end of the shortest sequence; in float32 if the products are much work."""
    pair = job.pair.end(steps)
    if len(pair.last[0]) < _WIDE:
        return job._replace(pair=pair)
    half: dict[str, Any] = {
        name: part.astype(np.float32)
        for name, part in job.reading._asdict().items()
        if isinstance(part, np.ndarray)
    }
    xs, last, h, c = (part.astype(np.float32) for part in (pair.xs, pair.last, *pair.state))
    pair = pair._replace(xs=xs, last=last, state=(h, c))
    return job._replace(pair=pair, reading=job.reading._replace(**half))


def _pruned(job: Job, table: Table, biases: Array, work: Work) -> Table:
    """The rows of a table that fit ever more of the pair."""
    lengths = job.pair.alive.sum(0)
    longest = np.argsort(-lengths, kind="stable")
    shortest = longest[lengths[longest] > 0][::-1]
    stages: list[dict[str, Any]] = [
        {"rows": longest[:2], "steps": 1, "units": 6},
        {"rows": longest[:2], "steps": 3, "units": 16},
        {"rows": longest[:8], "steps": 8, "units": 16},
    ]
    if job.pair.hs is None:
        stages = [{"rows": shortest[:1]}, {"rows": shortest[:8]}]
    for stage in stages:
        judged = judge(job, table, biases, work, **stage) if len(table["order"]) else None
        table = take(table, judged[0] <= job.tolerance if judged else slice(0))
    return table


def _beside(job: Job, table: Table, biases: int) -> Table:
    """The rows of a table, and those near them, each once."""
    sizes = job.family.sizes(job.reading, biases)
    rows = [take(table, [k]) for k in range(min(len(table["h"]), _MOST // 10))]
    parts = [table, *(near(row, sizes) for row in rows)]
    both = {name: np.concatenate([part[name] for part in parts]) for name in table}
    codes = np.ravel_multi_index(list(both.values()), tuple(sizes.values()))
    _, once = np.unique(codes, return_index=True)
    return take(both, np.sort(once))


def nearest(jobs: list[Job], close: list[Close], biases: Array, work: Work) -> Fit | None:
    """The hypothesis with the smallest root of the mean square of Δ.

    Of those that are close on a few numbers; if none are given, on those of the first step.
    """
    if not close:
        first = [job for job in jobs if job.pair.first is not None]
        for level in _LEVELS[2::-1]:
            looks = list(_sized(first, level, biases))
            if sum(first_cost(job, sizes, 6) for job, sizes in looks) <= work.left / 2:
                break
        for job, sizes in looks:
            close += _closest(job, sizes, biases, work)
    close = sorted(close, key=lambda c: c.spread)[:_CLOSE]
    looked = [(judge(c.job, c.row, biases, work, slice(1), steps=3), c) for c in close]
    closer = sorted(((float(j[1][0]), k) for k, (j, _) in enumerate(looked) if j))[:_FEW]
    fits = [fit for _, k in closer for fit in whole(close[k].job, close[k].row, biases, work)]
    fits = [fit for fit in fits if math.isfinite(fit.spread)]
    return min(fits, key=lambda fit: fit.spread, default=None)


def _closest(job: Job, sizes: dict[str, int], biases: Array, work: Work) -> list[Close]:
    """The hypotheses that are nearest after the first step."""
    off = first_off(job, sizes, biases, 6, work)
    if off is None:
        return []
    spread = np.sqrt((off**2).mean(-1))
    spread = np.broadcast_to(spread, tuple(sizes.values())).ravel()
    rows = np.flatnonzero(spread <= np.partition(spread, at := min(15, len(spread) - 1))[at])[:16]
    table = dict(zip(sizes, np.unravel_index(rows, tuple(sizes.values())), strict=True))
    return [Close(float(spread[k]), job, take(table, [n])) for n, k in enumerate(rows)]
