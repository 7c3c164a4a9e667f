"""One input/output pair, read in every way that its shapes allow: axes, state order, lengths."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from ..cells._activations import Array
from ..running.arguments import check_range, whole_numbers

__all__ = ["Pair", "pairs_of", "precision_of", "sizes_of"]

BATCH_FIRST, TIME_FIRST = "batch first", "time first"
SEQUENCE, STEP = "one sequence, a row is a time step", "one time step, a row is a sequence"


class Pair(NamedTuple):
    """The pair in one reading, time first, in float64."""

    axes: str  # which axis is which; "" where both readings are one
    order: str  # of the states: "h, c", "c, h"; "" where it is not asked
    xs: Array  # (time, batch, input)
    hs: Array | None  # (time, batch, hidden): all outputs
    last: Array  # (batch, hidden): the last output of each sequence
    state: tuple[Array, Array]  # h and c, (batch, hidden); zeros if not given
    final: tuple[Array | None, Array | None]
    alive: Array  # (time, batch): steps before the length

    @property
    def steps(self) -> int:
        return len(self.xs)

    @property
    def first(self) -> int | None:
        """A sequence whose output after its first step is known; the longest one."""
        lengths = self.alive.sum(0)
        known = lengths > 0 if self.hs is not None else lengths == 1
        return int(np.argmax(lengths * known)) if known.any() else None

    @property
    def shortest(self) -> int:
        """The sequence of the fewest steps, of those that have any."""
        lengths = self.alive.sum(0)
        return int(np.argmin(np.where(lengths > 0, lengths, self.steps + 1)))

    def end(self, steps: int) -> "Pair":
        """The shortest sequence alone; if it has more steps, its last ones from zero."""
        row, lengths = self.shortest, self.alive.sum(0)
        start = max(0, int(lengths[row]) - steps)
        h, c = (part[row : row + 1] * (start == 0) for part in self.state)
        return self._replace(
            xs=self.xs[start : lengths[row], row : row + 1],
            hs=None,
            last=self.last[row : row + 1],
            state=(h, c),
            final=(None, None),
            alive=self.alive[start : lengths[row], row : row + 1],
        )


def sizes_of(xs: Array, hs: Array) -> tuple[int, int]:
    """``input`` and ``hidden`` after a check of the pair."""
    for name, array, axes in (("xs", xs, (2, 3)), ("hs", hs, (1, 2, 3))):
        if array.dtype.kind not in "fiu":
            raise TypeError(f"{name} has dtype {array.dtype}; expected floats")
        if array.ndim not in axes or not array.size:
            raise ValueError(
                f"{name} has shape {array.shape}; expected "
                + (
                    "(batch, time, input), (time, batch, input) or (time, input)"
                    if name == "xs"
                    else "the outputs of all steps or of the last one, hidden being the last axis"
                )
            )
        if not np.isfinite(array).all():
            raise ValueError(f"{name} has numbers that are infinite or no numbers (NaN)")
    return xs.shape[-1], hs.shape[-1]


def pairs_of(xs: Array, hs: Array, state: Any, final: Any, lengths: Any) -> Iterator[Pair]:
    """Every reading of the pair; none if the shapes of its parts do not fit together.

    Raises
    ------
    TypeError, ValueError
        For lengths that are no numbers of steps in any reading.
    """
    hidden = hs.shape[-1]
    lengths = None if lengths is None else np.atleast_1d(whole_numbers(lengths))
    if xs.ndim == 3:
        readings = [(BATCH_FIRST, xs.swapaxes(0, 1)), (TIME_FIRST, xs)]
    else:
        readings = [(SEQUENCE, xs[:, None]), (STEP, xs[None])]
    if readings[0][1].shape[:2] == readings[1][1].shape[:2] == (1, 1):
        readings = [("", readings[0][1])]
    if lengths is not None:
        steps_of = [len(inputs) for _, inputs in readings if lengths.shape == inputs.shape[1:2]]
        check_range(lengths, max(steps_of, default=max(xs.shape[:-1])))
    for axes, inputs in readings:
        steps, batch = inputs.shape[:2]
        outputs, last = _outputs(hs, axes, xs.ndim, steps, batch)
        if last is None:
            continue
        limits = np.full(batch, steps) if lengths is None else lengths
        if limits.shape != (batch,) or (limits > steps).any():
            continue
        alive = np.arange(steps)[:, None] < limits
        for order, (h, c), (hn, cn) in _orders(state, final, hidden):
            parts = [_part(part, batch, hidden) for part in (h, c, hn, cn)]
            if any(
                part is None and given is not None
                for part, given in zip(parts, (h, c, hn, cn), strict=True)
            ):
                continue
            zeros = np.zeros((batch, hidden))
            h0, c0 = (zeros if part is None else part for part in parts[:2])
            if outputs is not None:
                ends = outputs[np.maximum(limits, 1) - 1, np.arange(batch)]
                last = np.where(limits[:, None] > 0, ends, h0)
            yield Pair(axes, order, inputs, outputs, last, (h0, c0), (parts[2], parts[3]), alive)


def _outputs(
    hs: Array, axes: str, x_axes: int, steps: int, batch: int
) -> tuple[Array | None, Array | None]:
    """All outputs, time first, and the last ones; ``(None, None)`` if they do not fit."""
    hidden = hs.shape[-1]
    if x_axes == 2 and hs.ndim < 3:
        rows = hs.reshape(-1, hidden)
        if len(rows) == steps * batch:
            outputs = rows.reshape(steps, batch, hidden)
            return outputs, outputs[-1]
        return None, rows if len(rows) == batch else None
    if hs.ndim == 3:
        outputs = hs if axes == TIME_FIRST else hs.swapaxes(0, 1)
        fits = outputs.shape[:2] == (steps, batch)
        return (outputs, outputs[-1]) if fits else (None, None)
    rows = hs.reshape(-1, hidden)
    if len(rows) != batch:
        return None, None
    return (rows[None] if steps == 1 else None), rows


_Parts = tuple[Any, Any]


def _orders(state: Any, final: Any, hidden: int) -> Iterator[tuple[str, _Parts, _Parts]]:
    """The parts h and c of both states, in each order that they can be in."""
    start, start_named = _parts(state, hidden)
    end, end_named = _parts(final, hidden)
    if (len(start) < 2 or start_named) and (len(end) < 2 or end_named):
        yield "", _two(start), _two(end)
        return
    for order in ("h, c", "c, h"):
        turn = order == "c, h"
        yield (
            order,
            _two(start[::-1] if turn and not start_named and len(start) == 2 else start),
            _two(end[::-1] if turn and not end_named and len(end) == 2 else end),
        )


def _two(parts: tuple[Any, ...]) -> _Parts:
    h, c = (*parts, None, None)[:2]
    return h, c


def has_cell_state(state: Any, final: Any, hidden: int) -> bool:
    """Whether a state has two parts."""
    return any(
        len(parts) == 2 and parts[1] is not None
        for parts, _ in (_parts(s, hidden) for s in (state, final))
    )


def _parts(state: Any, hidden: int) -> tuple[tuple[Any, ...], bool]:
    """The one or two parts of a state, and whether they are known by name, then h first."""
    if state is None:
        return (), True
    names = getattr(state, "_fields", None)
    by_name = dict(state) if isinstance(state, Mapping) else None
    if names:
        by_name = dict(zip(names, state, strict=True))
    if by_name is not None:
        if not by_name or not set(by_name) <= {"h", "c"}:
            raise ValueError(f"a state has the parts {', '.join(by_name)}; expected h, or h and c")
        return (by_name.get("h"), by_name.get("c")), True
    if isinstance(state, tuple | list):
        parts = tuple(np.asarray(part) for part in state)
        if len(parts) not in (1, 2):
            raise ValueError(f"a state has {len(parts)} parts; expected h, or h and c")
        return parts, len(parts) == 1
    array = np.asarray(state)
    if array.shape[-1:] == (2 * hidden,):  # TensorFlow's state_is_tuple=False
        return tuple(np.split(array, 2, axis=-1)), False
    return (array,), True


def _part(part: Any, batch: int, hidden: int) -> Array | None:
    if part is None:
        return None
    array = np.asarray(part, np.float64)
    if array.ndim == 3 and 1 in array.shape[:2]:
        array = array.reshape(-1, array.shape[-1])
    array = array[None] if array.ndim == 1 else array
    return array if array.shape == (batch, hidden) else None


def precision_of(arrays: Mapping[str, Array], xs: Array, hs: Array) -> str:
    """The dtype that the outputs were computed in: ``float16``, ``float32`` or ``float64``.

    That of the arrays and inputs, or that which holds every output without loss, if it is less:
    a file of float64 can well hold what a float32 framework computed.
    """
    if len(np.unique(hs)) > 4:
        for name in ("float16", "float32"):
            with np.errstate(over="ignore"):
                if hs.dtype == name or (hs.astype(name) == hs).all():
                    return name
    given = {array.dtype.name for array in (*arrays.values(), xs)}
    return "float32" if given & {"float16", "float32"} else "float64"
