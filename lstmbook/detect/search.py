"""Which hypotheses compute the pair: a few numbers judge all of them, all numbers the rest."""

import math
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from ..activations import Array
from ..cells import CELLS
from ..slips import SLIPS, Slip
from .hypotheses import Family, Table, families_of, near, params_of, predict
from .pair import Pair
from .readings import Reading

__all__ = [
    "Fit",
    "classes_of",
    "judge",
    "largest_cell_state",
    "nearest",
    "run_fit",
    "search",
    "slips",
    "tolerance_of",
]

_CHUNK = 300_000  # numbers at a time
_MOST = 500  # fits that are kept
_MANY = 500_000  # hypotheses; beyond, the usual ones come first
_TOO_MANY = 4_000_000  # beyond, not all are tried
_TOO_LONG = 40_000_000_000  # hypotheses * steps * hidden**2, without the outputs between


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


class Fits(NamedTuple):
    """What `search` found."""

    fits: list[Fit]
    left_out: int  # fits beyond the number that is kept
    complete: bool  # whether every hypothesis was in reach


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


# Judging


def judge(
    fits: tuple[Family, Reading, Table],
    pair: Pair,
    forget_biases: Array,
    rows: Any = slice(None),
    steps: int | None = None,
    units: int | None = None,
) -> tuple[Array, Array]:
    """``max |Δ|`` and the root of the mean square of Δ for each row of a table.

    On some sequences, steps and units of the pair alone, if so wanted.
    """
    family, reading, table = fits
    count, hidden = len(table["order"]), pair.last.shape[-1]
    forced = pair.hs
    chosen: Any = slice(None)
    if forced is not None and units is not None and family.cell != "gru" and units < hidden:
        chosen = np.unique(np.linspace(0, hidden - 1, units).astype(int))
    xs, alive = pair.xs[:steps, rows], pair.alive[:steps, rows]
    state = pair.state[0][rows], pair.state[1][rows]
    width = hidden if isinstance(chosen, slice) else len(chosen)
    size = xs.shape[1] * width * (1 if forced is not None else len(reading.W_x))
    per_chunk = max(1, _CHUNK // size)
    worst, squares = np.zeros(count), np.zeros(count)
    numbers = 0
    for start in range(0, count, per_chunk):
        part = slice(start, start + per_chunk)
        numbers = 0
        states = predict(
            family,
            reading,
            {name: column[part] for name, column in table.items()},
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


def _take(table: Table, rows: Any) -> Table:
    return {name: column[rows] for name, column in table.items()}


def _stages(pair: Pair) -> list[dict[str, Any]]:
    """Ever more of the pair. Without all outputs, all steps and units are needed at once."""
    long_first = np.argsort(-pair.alive.sum(0), kind="stable")
    if pair.hs is None:
        return [{"rows": long_first[:1]}, {"rows": long_first[:8]}]
    return [
        {"rows": long_first[:2], "steps": 1, "units": 6},
        {"rows": long_first[:2], "steps": 3, "units": 16},
        {"rows": long_first[:8], "steps": 8, "units": 16},
    ]


def _chunks(pair: Pair, reading: Reading) -> list[Any]:
    """All sequences, so many at a time that memory stays small."""
    batch, hidden = pair.last.shape
    at_once = max(1, 4_000_000 // (pair.steps * len(reading.W_x) * hidden))
    return [slice(k, k + at_once) for k in range(0, batch, at_once)]


def search(
    pairs: list[Pair],
    readings: list[Reading],
    cells: Iterable[str],
    forget_biases: Array,
    tolerances: dict[tuple[int, int], float],
) -> Fits:
    """Every hypothesis within its tolerance of every output.

    Where there are too many (an array for each gate, or the last outputs alone), first those with
    the usual activations and the arrays of all gates in one common order, and what stands beside
    one that fits; then more. Of very many, those with both unusual activations and arrays in no
    common order are not tried.
    """
    tried = list(_combined(pairs, readings, cells, tolerances))
    usual, wider = {"plain": True, "aligned": True}, [{"aligned": True}, {"plain": True}, _EVERY]
    rollout = any(pair.hs is None for pair in pairs)  # then every hypothesis runs over all steps
    most = _TOO_MANY
    if rollout:
        work = max(pair.steps * pair.last.shape[-1] ** 2 for pair in pairs)
        most = min(most, _TOO_LONG // work)
    levels = [_EVERY]
    if rollout or _size(tried, forget_biases, _EVERY) > _MANY:
        wider = [less for less in wider if _size(tried, forget_biases, less) <= most]
        levels = [usual, *wider]
    for less in levels:
        found: list[Fit] = []
        left_out = 0
        for pair, reading, family, tolerance in tried:
            if not _same_last(pair, tolerance):
                continue
            table = family.table(reading, len(forget_biases), **less)
            table = _pruned(pair, reading, family, table, forget_biases, tolerance)
            if less is not _EVERY and len(table["order"]):
                table = _beside(reading, family, table, len(forget_biases))
                table = _pruned(pair, reading, family, table, forget_biases, tolerance, some=True)
            fits = list(_whole(pair, reading, family, table, forget_biases, tolerance))
            left_out += max(0, len(fits) - _MOST)
            found += fits[:_MOST]
        if found:
            break
    found.sort(key=_plain)
    return Fits(found[:_MOST], left_out + len(found[_MOST:]), _EVERY in levels)


_EVERY = {"plain": False, "aligned": False}


def _size(
    tried: list[tuple[Pair, Reading, Family, float]], forget_biases: Array, less: dict[str, bool]
) -> int:
    """The number of hypotheses."""
    return sum(
        math.prod(family.sizes(reading, len(forget_biases), **less).values())
        for _, reading, family, _ in tried
    )


def _pruned(
    pair: Pair,
    reading: Reading,
    family: Family,
    table: Table,
    forget_biases: Array,
    tolerance: float,
    *,
    some: bool = False,
) -> Table:
    """The rows of a table that fit a part of the pair; ``some`` if it is no whole table."""
    aligned = len(reading.h_aligned) if table["h"].any() else 1
    # A first step from h = 0 does not see how the blocks of W_h go with those of W_x.
    late = aligned > 1 and not some and pair.hs is not None and not pair.state[0].any()
    if late:
        first = np.flatnonzero(table["h"] == 0)
        group = _codes([column for name, column in table.items() if name != "h"])
    for number, stage in enumerate(_stages(pair)):
        if not len(table["order"]):
            break
        if late and number == 0:
            chosen = _take(table, first)
            worst, _ = judge((family, reading, chosen), pair, forget_biases, **stage)
            good = np.isin(group, group[first][worst <= tolerance])
        else:
            worst, _ = judge((family, reading, table), pair, forget_biases, **stage)
            good = worst <= tolerance
        table = _take(table, good)
    return table


def _beside(reading: Reading, family: Family, table: Table, forget_biases: int) -> Table:
    """The rows of a table, and those near them, each once."""
    every = family.table(reading, forget_biases, aligned=True)
    rows = [_take(table, slice(k, k + 1)) for k in range(min(len(table["h"]), _MOST // 10))]
    parts = [table, *(near(row, reading, every) for row in rows)]
    whole = {name: np.concatenate([part[name] for part in parts]) for name in table}
    _, once = np.unique(_codes(list(whole.values())), return_index=True)
    return _take(whole, np.sort(once))


def _codes(columns: list[Array]) -> Array:
    """One number for each row of several columns."""
    codes: Array = np.ravel_multi_index(columns, [int(column.max()) + 1 for column in columns])
    return codes


def _plain(fit: Fit) -> tuple[int, ...]:
    """The plainest convention first."""
    names = ("h", "b", "squash", "activation", "output", "old", "flipped")
    odd = sum(int(fit.row[name][0]) > 0 for name in names)
    return (odd, list(CELLS).index(fit.family.cell), int(fit.row["holes"][0]))


def _combined(
    pairs: list[Pair],
    readings: list[Reading],
    cells: Iterable[str],
    tolerances: dict[tuple[int, int], float],
) -> Iterator[tuple[Pair, Reading, Family, float]]:
    for m, pair in enumerate(pairs):
        for n, reading in enumerate(readings):
            for family in families_of(reading):
                if family.cell in cells:
                    yield pair, reading, family, tolerances[m, n]


def _same_last(pair: Pair, tolerance: float) -> bool:
    """Whether the final h is the last output, as it is in every cell here."""
    h = pair.final[0]
    return h is None or pair.hs is None or bool((np.abs(h - pair.last) <= tolerance).all())


def _whole(
    pair: Pair,
    reading: Reading,
    family: Family,
    table: Table,
    forget_biases: Array,
    tolerance: float = math.inf,
) -> Iterator[Fit]:
    """The rows of a table that are within the tolerance on the whole pair."""
    count = len(table["order"])
    worst, squares = np.zeros(count), np.zeros(count)
    if count:
        chunks = _chunks(pair, reading)
        for rows in chunks:
            more, spread = judge((family, reading, table), pair, forget_biases, rows)
            worst, squares = np.maximum(worst, more), squares + spread**2
        squares /= len(chunks)
    for k in np.flatnonzero(worst <= tolerance):
        row = _take(table, slice(k, k + 1))
        bias = float(forget_biases[row["forget"][0]]) if "f" in _letters(family) else 0.0
        yield Fit(pair, reading, family, row, bias, float(worst[k]), math.sqrt(squares[k]))


def _letters(family: Family) -> str:
    return family.orders[0]


def nearest(
    pairs: list[Pair], readings: list[Reading], cells: Iterable[str], forget_biases: Array
) -> Fit | None:
    """The hypothesis with the smallest root of the mean square of Δ."""
    best: list[Fit] = []
    tolerances = {(m, n): 0.0 for m in range(len(pairs)) for n in range(len(readings))}
    for pair, reading, family, _ in _combined(pairs, readings, cells, tolerances):
        table = family.table(reading, len(forget_biases), plain=pair.hs is None, aligned=True)
        for stage, kept in zip(_stages(pair), (256, 64, 8), strict=False):
            _, spread = judge((family, reading, table), pair, forget_biases, **stage)
            table = _take(table, np.argsort(spread, kind="stable")[:kept])
        table = _take(table, slice(8))
        best += _whole(pair, reading, family, table, forget_biases)
    best = [fit for fit in best if math.isfinite(fit.spread)]
    return min(best, key=lambda fit: fit.spread, default=None)


# Wrong cells that stood in public code

_HOLES = ("", "ifo", "iof", "fio", "fo", "of")  # the common one, ONNX's, TensorFlow's


def slips(
    pairs: list[Pair],
    readings: list[Reading],
    cells: Iterable[str],
    forget_biases: Array,
    tolerances: dict[tuple[int, int], float],
) -> list[Fit]:
    """The public wrong cells of `lstmbook.slips` that compute the pair, in any gate order.

    Peepholes are tried in the orders of the frameworks.
    """
    found: list[Fit] = []
    if any(pair.hs is None and pair.steps > 5 for pair in pairs):
        return found  # too long without the outputs between
    for pair, reading, family, tolerance in _combined(pairs, readings, cells, tolerances):
        known = [s for s in SLIPS if s.cell == family.cell and s.seen_in]
        known = [s for s in known if not s.name.startswith("order_")]
        if family.kept == "i" or "." in family.orders[0] + family.holes[0]:
            continue
        table = family.table(reading, len(forget_biases), plain=True, aligned=True)
        holes = [k for k, seen in enumerate(family.holes) if seen in _HOLES]
        plain = (table["old"] == 0) & (table["flipped"] == 0) & np.isin(table["holes"], holes)
        row = int(pair.alive.sum(0).argmax())
        for k in np.flatnonzero(plain):
            one = _take(table, slice(k, k + 1))
            bias = float(forget_biases[one["forget"][0]])
            params, _ = params_of(family, reading, one, bias)
            for slip in known:
                fit = Fit(pair, reading, family, one, bias, 0.0, 0.0, slip)
                first = None if pair.hs is None else 1
                if _distance(fit, params, slice(row, row + 1), first) <= tolerance:
                    distance = _distance(fit, params, slice(None), None)
                    if distance <= tolerance:
                        found.append(fit._replace(distance=distance, spread=distance))
    return found


def _distance(fit: Fit, params: Any, rows: slice, steps: int | None) -> float:
    """``max |Δ|`` of a slip."""
    pair, slip = fit.pair, fit.slip
    assert slip is not None
    state = _state(slip.cell, pair.state[0][rows], pair.state[1][rows])
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


def _state(cell: str, h: Array, c: Array) -> Any:
    State = CELLS[cell].State
    return State(h, c) if "c" in State._fields else State(h)


# Which fits are one function


def run_fit(fit: Fit, xs: Array, state: tuple[Array, Array]) -> tuple[Array, Array, Array]:
    """All outputs, and the final h and c, of one hypothesis; time first."""
    hs = []
    if fit.slip:
        params, _ = params_of(fit.family, fit.reading, fit.row, fit.forget_bias)
        now = _state(fit.slip.cell, *state)
        for x in xs:
            h, now = fit.slip.step(params, x, now)
            hs.append(h)
        return np.stack(hs), now.h, getattr(now, "c", state[1])
    biases = np.full(int(fit.row["forget"][0]) + 1, fit.forget_bias)
    h, c = (part[None] for part in state)
    for now in predict(fit.family, fit.reading, fit.row, biases, xs, state):
        h, c = now
        hs.append(h[0])
    return np.stack(hs), h[0], np.broadcast_to(c[0], state[1].shape)


def largest_cell_state(fit: Fit) -> float:
    """``max |c|`` that the pair reached."""
    pair, largest = fit.pair, float(np.abs(fit.pair.state[1]).max())
    biases = np.full(int(fit.row["forget"][0]) + 1, fit.forget_bias)
    states = predict(
        fit.family,
        fit.reading,
        fit.row,
        biases,
        pair.xs,
        pair.state,
        alive=pair.alive,
        forced=pair.hs,
    )
    for _, c in states:
        largest = max(largest, float(np.abs(c).max()))
    return largest


def classes_of(fits: list[Fit], rng: np.random.Generator, precision: str) -> list[list[Fit]]:
    """The fits in classes of equal functions: equal on random inputs of several sizes."""
    bound = {"float16": 1e-2, "float32": 1e-5, "float64": 1e-9}[precision]
    if not fits:
        return []
    steps, batch = 4, 6
    inputs, hidden = fits[0].pair.xs.shape[-1], fits[0].pair.last.shape[-1]
    scale = np.array([0.3, 0.3, 1.0, 1.0, 3.0, 3.0])[:, None]
    size = float(np.sqrt(np.mean(fits[0].pair.xs ** 2))) or 1.0
    xs = size * scale * rng.normal(size=(steps, batch, inputs))
    state = scale * rng.normal(size=(batch, hidden)), scale * rng.normal(size=(batch, hidden))
    weights = rng.normal(size=(steps, batch, hidden))
    classes: list[tuple[tuple[str, str], Array, list[Fit]]] = []
    sums: list[float] = []  # equal functions have equal sums
    for fit in fits:
        key = fit.pair.axes, fit.pair.order
        hs, _, _ = run_fit(fit, xs, state)
        total = float(np.nan_to_num((weights * hs).sum()))
        alike = np.abs(np.array(sums) - total) <= 10 * bound * (1 + np.abs(hs).sum())
        for k in np.flatnonzero(alike):
            other, known, members = classes[k]
            if key == other and _equal(hs, known, bound):
                members.append(fit)
                break
        else:
            classes.append((key, hs, [fit]))
            sums.append(total)
    return [members for _, _, members in classes]


def _equal(a: Array, b: Array, bound: float) -> bool:
    return bool((np.abs(a - b) <= bound * (1 + np.abs(a))).all())
