"""`detect` and `detect_file`; see `lstmbook.convention`."""

import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..cells import CELLS, find, name_of
from ..cells._activations import Array
from .classes import classes_of, largest_cell_state, run_fit
from .judge import Fit, Work, tolerance_of
from .pair import BATCH_FIRST, SEQUENCE, Pair, has_cell_state, pairs_of, precision_of, sizes_of
from .readings import Reading, readings_of
from .report import Detection, Match, Probe, match_of
from .search import jobs_of, nearest, search
from .wrong import slips

__all__ = ["detect", "detect_file"]

_PAIR = ("x", "y", "h0", "c0", "hn", "cn", "lengths")
# Operations, each about a nanosecond: of the search, and of what comes after it.
_SEARCH, _REST = 750_000_000, 150_000_000
_NOT_ALL_WRONG = (
    "Known wrong cells were tried as far as the work went, in the usual gate orders first; the "
    "outputs of all steps make that complete."
)
_REPRESENTED = 12  # so many matches are told apart by a probe, and held to the layouts


def detect(
    arrays: Any,
    xs: ArrayLike,
    hs: ArrayLike,
    *,
    state: Any = None,
    final: Any = None,
    lengths: ArrayLike | None = None,
    cells: Iterable[Any] | None = None,
    forget_biases: Sequence[float] = (0.0, 1.0),
    tolerance: float | None = None,
) -> Detection:
    """The convention in which arrays are the weights of a cell, from one input/output pair.

    Parameters
    ----------
    arrays : mapping of str to array
        All arrays of one recurrent layer in one direction, under any names.
    xs : (batch, time, input), (time, batch, input) or (time, input) array
        A two-axis input may also be one step of a batch.
    hs : array
        The outputs for ``xs``: of all steps, or ``(batch, hidden)`` of the last one.
    state, final : optional
        The initial and the final state: ``h`` alone, a tuple of ``h`` and ``c`` in either order,
        a named tuple or mapping of ``h`` and ``c``, or both side by side in one array. The
        initial state is zeros if not given.
    lengths : (batch,) integers, optional
        The valid steps of each sequence; what stands past them is not looked at.
    cells : cells or their names, optional
        Only these.
    forget_biases : sequence of float
        What may be added to the forget gate at run time.
    tolerance : float, optional
        The largest ``max |Δ|`` that still counts as equal. Default: by the dtype and the length,
        1e-12 for float64, 1e-6 to 1e-5 for float32, more for large numbers.

    Returns
    -------
    Detection
        Print it; ``.match`` is the one match or None, ``.matches`` all of them.

    Raises
    ------
    TypeError, ValueError
        If the pair or an array is not what it should be.

    Examples
    --------
    >>> import numpy as np
    >>> from lstmbook import layouts, lstm, run
    >>> rng = np.random.default_rng(0)
    >>> params = lstm.init(rng, input_size=3, hidden_size=4)
    >>> stored = layouts.export(lstm, "tf1", params)
    >>> xs = rng.normal(size=(2, 5, 3)).astype(np.float32)
    >>> hs, _ = run(lstm, params, xs)
    >>> found = detect({"a0": stored["kernel"], "a1": stored["bias"]}, xs, hs)
    >>> found.match.gate_order, found.match.forget_bias, "tf1" in found.match.layouts
    ('i g f o', 1.0, True)
    """
    given = _checked(arrays)
    xs, hs = np.asarray(xs), np.asarray(hs)
    hs = hs.squeeze(1) if hs.ndim == 4 and hs.shape[1] == 1 else hs  # ONNX's axis of directions
    inputs, hidden = sizes_of(xs, hs)
    precision = precision_of(given, xs, hs)
    names = [name_of(find(cell)) for cell in (CELLS if cells is None else cells)]
    if has_cell_state(state, final, hidden):
        names = [name for name in names if "c" in CELLS[name].State._fields]
    biases = np.array(list(dict.fromkeys(map(float, forget_biases))) or [0.0])
    wide = {name: array.astype(np.float64) for name, array in given.items()}
    pairs = list(pairs_of(xs.astype(np.float64), hs.astype(np.float64), state, final, lengths))
    if not pairs:
        raise ValueError(_misfit(xs, hs, state, final, lengths))
    readings = list(readings_of(wide, inputs, hidden))
    tolerances = {
        (m, n): tolerance if tolerance is not None else tolerance_of(pair, reading, precision)
        for m, pair in enumerate(pairs)
        for n, reading in enumerate(readings)
    }
    with np.errstate(all="ignore"):
        jobs = jobs_of(pairs, readings, names, tolerances)
        work, rest = Work(_SEARCH), Work(2 * _REST)
        fits, left_out, near = search(jobs, biases, work)
        if not fits:
            fits = slips(jobs, biases, rest)
        classes = classes_of(fits, np.random.default_rng(0), precision)
        complete = not (work.cut or rest.cut)
        matches = tuple(
            match_of(members[0], wide if k < _REPRESENTED else {}, _same(members, wide))
            for k, members in enumerate(classes)
        )
        close = None if matches else nearest(jobs, near, biases, Work(_REST))
        shown = matches[0].fit if matches else close
        bound = min(tolerances.values(), default=0.0) if tolerance is None else tolerance
        if tolerance is None and shown:
            bound = tolerance_of(shown.pair, shown.reading, precision)
        probe = _probe(matches, xs.ndim, bound) if len(matches) > 1 else None
    return Detection(
        matches=matches,
        nearest=None if close is None else match_of(close, wide),
        probe=probe,
        differ=tuple(_differ(matches)),
        notes=(
            *_notes(given, pairs, readings, matches, close, inputs, hidden),
            *([_not_all(pairs)] if work.cut else []),
            *([_NOT_ALL_WRONG] if rest.cut else []),
        ),
        tolerance=bound,
        precision=precision,
        left_out=left_out,
        complete=complete,
    )


def detect_file(
    path: str | PathLike[str],
    pair: str | PathLike[str] | None = None,
    *,
    cells: Iterable[Any] | None = None,
    forget_biases: Sequence[float] = (0.0, 1.0),
    tolerance: float | None = None,
) -> Detection:
    """`detect` on ``.npz`` files.

    Parameters
    ----------
    path : path
        The arrays of the layer, under any names; and the pair, if there is no second file.
    pair : path, optional
        ``x``, ``y`` and, if known, ``h0``, ``c0``, ``hn``, ``cn`` and ``lengths``.
    cells, forget_biases, tolerance
        As in `detect`.

    Returns
    -------
    Detection

    Raises
    ------
    OSError, ValueError
        If a file is missing, is not a whole ``.npz`` file, or lacks something.
    """
    read = _read(path)
    told = read if pair is None else _read(pair)
    arrays = {k: v for k, v in read.items() if pair is not None or k not in _PAIR}
    source = path if pair is None else pair
    for name in ("x", "y"):
        if name not in told:
            raise ValueError(
                f"{source} has no array {name!r}; the input is x and the output y. "
                f"It has {', '.join(told) or 'nothing'}"
            )
    if not arrays:
        raise ValueError(f"{path} has no array beside those of the pair")
    states = {}
    for key, h, c in (("state", "h0", "c0"), ("final", "hn", "cn")):
        parts = {short: told[name] for short, name in (("h", h), ("c", c)) if name in told}
        states[key] = parts or None
    return detect(
        arrays,
        told["x"],
        told["y"],
        **states,
        lengths=told.get("lengths"),
        cells=cells,
        forget_biases=forget_biases,
        tolerance=tolerance,
    )


_LARGEST = 2**31  # bytes, unpacked
_UNREADABLE = (  # what zipfile and NumPy raise for damaged files
    *(ValueError, EOFError, KeyError, NotImplementedError, RuntimeError, SyntaxError, MemoryError),
    *(OverflowError, zipfile.BadZipFile, zlib.error, struct.error, tokenize.TokenError),
)


def _read(path: str | PathLike[str]) -> dict[str, Array]:
    try:
        with zipfile.ZipFile(Path(path)) as file:
            size = sum(entry.file_size for entry in file.infolist())
        if size > _LARGEST:
            raise ValueError(f"it holds {size} bytes unpacked, more than {_LARGEST}")
        with np.load(Path(path), allow_pickle=False) as loaded:
            return dict(loaded)
    except FileNotFoundError:
        raise FileNotFoundError(f"there is no file {path}") from None
    except _UNREADABLE as error:
        raise ValueError(f"{path} cannot be read as an .npz file of arrays: {error}") from error


def _checked(arrays: Any) -> dict[str, Array]:
    """The arrays as float arrays by name."""
    if hasattr(arrays, "_asdict"):
        arrays = arrays._asdict()
    if not isinstance(arrays, Mapping):
        raise TypeError(f"arrays is of type {type(arrays).__name__}; expected names to arrays")
    if not arrays:
        raise ValueError("there is no array; expected all arrays of one recurrent layer")
    given = {str(name): np.asarray(array) for name, array in arrays.items()}
    for name, array in given.items():
        if array.dtype.kind != "f":
            raise TypeError(f"array {name} has dtype {array.dtype}; weights must be floats")
        if not np.isfinite(array).all():
            raise ValueError(f"array {name} has numbers that are infinite or no numbers (NaN)")
    return given


def _misfit(xs: Array, hs: Array, state: Any, final: Any, lengths: Any) -> str:
    shapes = [f"xs has shape {xs.shape}", f"hs {hs.shape}"]
    for name, value in (("state", state), ("final", final)):
        if value is not None:
            parts = value.values() if isinstance(value, Mapping) else value
            parts = parts if isinstance(value, tuple | list | Mapping) else [value]
            shapes.append(f"{name} {', '.join(str(np.shape(part)) for part in parts)}")
    if lengths is not None:
        shapes.append(f"lengths {np.shape(lengths)}")
    return (
        f"{', '.join(shapes)}; these do not fit together. Expected xs (batch, time, input), hs "
        "(batch, time, hidden) or (batch, hidden), states (batch, hidden), lengths (batch,) from "
        "0 to time, or the same with time first"
    )


# Several matches


def _conventions(match: Match) -> dict[str, Any]:
    """What is compared to say in what matches differ."""
    left = ("distance", "layouts", "nearest_layout", "same", "why_no_params")
    return {name: value for name, value in match.to_dict().items() if name not in left}


def _differ(matches: Iterable[Match]) -> dict[str, list[str]]:
    """The conventions in which some matches are not as the first, and what these have there."""
    first, *others = [_conventions(match) for match in matches] or [{}]
    values = {k: [str(other[k]) for other in others if other[k] != first[k]] for k in first}
    return {name: list(dict.fromkeys(words)) for name, words in values.items() if words}


def _same(members: list[Fit], arrays: Mapping[str, Array]) -> tuple[str, ...]:
    """What the members of one class leave open, in words."""
    if len(members) == 1:
        return ()
    lines = []
    for name, values in _differ(match_of(member, {}) for member in members).items():
        if name == "arrays":
            continue
        shown = ", ".join(values[:3]) + (", …" if len(values) > 3 else "")
        lines.append(f"{name.replace('_', ' ')} {shown}")
    zero = [name for name, array in arrays.items() if not array.any()]
    why = f" ({', '.join(zero)}: all zero)" if zero else ""
    what = f" ({'; '.join(lines)})" if lines else " (the arrays in other roles)"
    count = f"{len(members) - 1} other reading{'s' if len(members) > 2 else ''}"
    return (f"With these arrays {count}{what} would be the same function{why}.",)


def _probe(matches: tuple[Match, ...], axes: int, tolerance: float) -> Probe | None:
    """An input on which all matches differ; the plainest that was found."""
    fits = [match.fit for match in matches[:_REPRESENTED]]
    keys = {(fit.pair.axes, fit.pair.order) for fit in fits}
    inputs, hidden = fits[0].pair.xs.shape[-1], fits[0].pair.last.shape[-1]
    rng, best = np.random.default_rng(1), None
    cell_state = "c" in CELLS[matches[0].cell].State._fields
    for steps, with_state, size in (
        (2, False, 1), (1, True, 1), (5, True, 1), (5, True, 3), (10, True, 10), (10, True, 0.1),
    ):  # fmt: skip
        batch = 3 if axes == 3 else 1
        steps = steps + 1 if steps == batch else steps
        xs = size * rng.normal(size=(batch, steps, inputs))
        parts = [size * with_state * rng.normal(size=(batch, hidden)) for _ in "hc"]
        views = [_seen(fit, xs, parts) for fit in fits]
        distance = min(
            float("inf") if a.shape != b.shape else float(np.nan_to_num(np.abs(a - b).max(), nan=1))
            for a, b in combinations(views, 2)
        )
        if best is None or distance > best.distance:
            words = f"{steps} time step{'s' if steps > 1 else ''}"
            if axes == 3 and len({axis for axis, _ in keys}) > 1:
                words += f" of {batch} sequences"
            words += " from a non-zero state" if with_state else " from a zero state"
            if cell_state and len({order for _, order in keys}) > 1:
                words += ", h and c different"
            words += ", all outputs" if fits[0].pair.hs is None else ""
            words += {
                3: ", inputs of size 3",
                10: ", inputs of size 10",
                0.1: ", small inputs",
            }.get(size, "")
            state = tuple(parts if cell_state else parts[:1]) if with_state else None
            best = Probe(words, xs if axes == 3 else xs[0], state, distance)
        if distance > max(1e-3, 100 * tolerance):
            break
    return best if best is not None and best.distance > tolerance else None


def _seen(fit: Fit, xs: Array, parts: list[Array]) -> Array:
    """The outputs of a hypothesis that takes an input of the user's axes its own way."""
    first = fit.pair.axes in ("", BATCH_FIRST, SEQUENCE)
    batch = len(xs) if first else xs.shape[1]
    h, c = parts if fit.pair.order != "c, h" else parts[::-1]
    if not first:  # a state for as many sequences as this hypothesis sees
        h, c = (np.resize(part, (batch, part.shape[-1])) for part in (h, c))
    inputs = xs.swapaxes(0, 1) if first else xs
    hs, _, _ = run_fit(fit, inputs, (h, c))
    return hs.swapaxes(0, 1) if first else hs


def _not_all(pairs: list[Pair]) -> str:
    """What was left out, and what would help."""
    mend = "the arrays of all gates in one common order, or in one array"
    if any(pair.hs is None for pair in pairs):
        mend = "the outputs of all steps, or a sequence of few steps"
    elif any(part.any() for pair in pairs for part in pair.state):
        mend += ", and a pair that begins at the zero state"
    return (
        "Not all was tried: the search ends after a fixed amount of work, and what is usual came "
        f"first. To make it complete, give {mend}; or name the cells."
    )


def _notes(
    arrays: Mapping[str, Array],
    pairs: list[Pair],
    readings: list[Reading],
    matches: tuple[Match, ...],
    close: Fit | None,
    inputs: int,
    hidden: int,
) -> list[str]:
    """What helps to understand the answer."""
    if not readings:
        shapes = ", ".join(f"{name} {array.shape}" for name, array in arrays.items())
        return [
            f"The shapes are those of no cell with input {inputs} and hidden {hidden} (the last "
            f"axes of xs and hs): {shapes}. Expected every array of one layer in one direction, "
            "and no other."
        ]
    notes = []
    if len(matches) == 1 and "c" in CELLS[matches[0].cell].State._fields and not matches[0].slip:
        notes.append(
            f"|c| stayed below {np.ceil(10 * largest_cell_state(matches[0].fit)) / 10:.1f}: a clip "
            "of the cell state beyond that does not show in this pair."
        )
    if len(matches) > 1:
        pair = matches[0].fit.pair
        still = not any(part.any() for part in pair.state)
        if not pair.last.any() and (pair.hs is None or not pair.hs.any()):
            notes.append("The outputs are all zero: they tell next to nothing.")
        if not pair.xs.any():
            notes.append("The input is zero: it tells nothing of the input's kernel.")
        if still and pair.steps == 1:
            notes.append("One step from a zero state uses neither W_h nor the forget gate.")
        elif pair.hs is None:
            notes.append("Only the last outputs are given; all outputs tell more.")
        zero = [name for name, array in arrays.items() if not array.any()]
        if zero:
            notes.append(f"All zero, so that their order cannot be seen: {', '.join(zero)}.")
        if len(matches) > _REPRESENTED:
            notes.append(f"The probe is for the first {_REPRESENTED} of them.")
    if close is not None and close.distance < 1e-3:
        notes.append(
            "That is near: if the outputs were rounded or computed in a lower precision, "
            f"tolerance={10 ** np.ceil(np.log10(close.distance)):.0e} takes it."
        )
    return notes
