"""Wrong cells that stood in public code."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from ..cells._activations import Array
from ..wrong_cells.slips import SLIPS, Slip
from .classes import state_of
from .hypotheses import Table, params_of, table_of, usual
from .judge import Fit, Job, Work, take

__all__ = ["slips"]

_HOLES = ("", "ifo", "iof", "fio", "fo", "of")  # the common one, ONNX's, TensorFlow's
_UNITS = 4  # that are looked at first
# Operations, each about a nanosecond: of the calls of one step, and of a product with a weight.
_CALLS, _PRODUCT = 100_000, 0.5


def slips(jobs: list[Job], biases: Array, work: Work) -> list[Fit]:
    """The public wrong cells of `lstmbook.wrong_cells.slips` that compute the pair.

    In the gate orders of the frameworks, or else in any; with the peepholes of frameworks alone.
    """
    jobs = [job for job in jobs if job.family.kept != "i" and "." not in job.family.orders[0]]
    common = [(job, usual(job.family)) for job in jobs]
    for some in ([job._replace(family=family) for job, family in common if family], jobs):
        found = [fit for job in some for fit in _of_job(job, biases, work)]
        if found:
            return found
    return []


def _of_job(job: Job, biases: Array, work: Work) -> Iterator[Fit]:
    pair, reading, family, tolerance = job
    family = family._replace(holes=tuple(seen for seen in family.holes if seen in _HOLES))
    if not family.holes:
        return
    sizes = family.sizes(reading, len(biases), plain=True, aligned=True)
    table = table_of(sizes | {"old": 1, "flipped": 1})
    known = [s for s in SLIPS if s.cell == family.cell and s.seen_in]
    known = [s for s in known if not s.name.startswith("order_")]
    job = job._replace(family=family)
    right = np.ones((len(known), len(table["order"])), bool)
    if pair.first is not None and "z" not in family.orders[0]:
        right = _side_by_side(job, table, known, biases, work)
    start = pair.first if pair.hs is not None else None
    row = pair.shortest if start is None else start
    look = slice(row, row + 1), None if start is None else 1
    for k in np.flatnonzero(right.any(0)):
        one = take(table, slice(k, k + 1))
        bias = float(biases[one["forget"][0]])
        if not work.allows(_CALLS + 4 * reading.W_h.size):  # params
            return
        params, _ = params_of(family, reading, one, bias)
        for slip in (slip for slip, so in zip(known, right[:, k], strict=True) if so):
            fit = Fit(pair, reading, family, one, bias, 0.0, 0.0, slip)
            if _distance(fit, params, *look, work) <= tolerance:
                distance = _distance(fit, params, slice(None), None, work)
                if distance <= tolerance:
                    yield fit._replace(distance=distance, spread=distance)


def _side_by_side(job: Job, table: Table, known: list[Slip], biases: Array, work: Work) -> Array:
    """Which slips (rows) are right after the first step for which rows of a table (columns).

    Without a reset gate, a unit needs of x and h only what comes out of the kernels. So a few
    units of all rows stand side by side as the units of one cell.
    """
    pair, reading, family, tolerance = job
    row, count = pair.first, len(table["order"])
    if not work.allows((count + len(known)) * _CALLS):
        return np.zeros((len(known), count), bool)
    wanted = pair.last[row] if pair.hs is None else pair.hs[0, row]
    at = np.argsort(-np.abs(wanted), kind="stable")[:_UNITS]
    x, h, c = pair.xs[0, row], pair.state[0][row], pair.state[1][row, at]
    few = reading._replace(
        W_x=(x @ reading.W_x[..., at])[:, None],
        W_h=(h @ reading.W_h[..., at])[:, None],
        **{name: getattr(reading, name)[..., at] for name in ("b_x", "b_h", "b_hn", "p")},
    )
    rows = [take(table, slice(k, k + 1)) for k in range(count)]
    each = [params_of(family, few, one, float(biases[one["forget"][0]]))[0] for one in rows]
    params = type(each[0])(*(np.concatenate(parts, -1) for parts in zip(*each, strict=True)))
    one = np.ones((1, 1))
    state = state_of(family.cell, one, np.tile(c, count)[None])
    got = np.stack([slip.step(params, one, state)[0].reshape(count, -1) for slip in known])
    right: Array = (np.abs(got - wanted[at]) <= tolerance).all(-1)
    return right


def _distance(fit: Fit, params: Any, rows: slice, steps: int | None, work: Work) -> float:
    """``max |Δ|`` of a slip on some sequences and steps; infinite if that is too much."""
    pair, slip = fit.pair, fit.slip
    assert slip is not None
    weights = params.W_x.size + params.W_h.size
    batch = len(pair.last[rows])
    if not work.allows(len(pair.xs[:steps]) * (_CALLS + _PRODUCT * weights * batch)):
        return math.inf
    state = state_of(slip.cell, pair.state[0][rows], pair.state[1][rows])
    alive, worst = pair.alive[:steps, rows], 0.0
    last = pair.last[rows]
    for t, x in enumerate(pair.xs[:steps, rows]):
        h, new = slip.step(params, x, state)
        on = alive[t][:, None]
        state = type(state)(*(np.where(on, n, o) for n, o in zip(new, state, strict=True)))
        last = np.where(on, h, last)
        if pair.hs is not None and alive[t].any():
            worst = max(worst, float(np.abs(h - pair.hs[t, rows])[alive[t]].max()))
        if not worst < 1.0:  # NaN too: far off
            return math.inf
    if steps is None:
        for got, right in ((last, pair.last), *zip(state, pair.final, strict=False)):
            if right is not None:
                worst = max(worst, float(np.nan_to_num(np.abs(got - right[rows]), nan=9.9).max()))
    return worst
