"""What `run` and `backprop` are given, as arrays of one dtype that fit together.

What does not fit is refused: what was got, what was expected, and the likely mend. `run` and the
frameworks of `live` take their arguments through the same functions, so they take the same.
"""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from ..cells import Cell, check_params, find, sizes
from ..cells._activations import Array

__all__ = [
    "cast",
    "check_arguments",
    "check_backprop",
    "check_gradients",
    "check_range",
    "check_state",
    "whole_numbers",
]


def check_arguments(
    cell: Cell | str, params: Any, xs: ArrayLike, state: Any, lengths: Any, time_major: bool
) -> tuple[Any, Array, Any, Array]:
    """``params, xs, state, lengths`` of `lstmbook.run`, None filled in; the lengths are a copy."""
    cell = find(cell)
    params = check_params(cell, params)
    xs = _check_xs(cell, params, xs, time_major)
    steps, batch = _steps_and_batch(xs, time_major)
    lengths = _check_lengths(lengths, batch, steps)
    state = check_state(cell, params, state, batch, steps)
    dtype = np.result_type(xs, *params, *state)
    return cast(params, dtype), xs.astype(dtype, copy=False), cast(state, dtype), lengths


def check_backprop(
    cell: Cell | str,
    params: Any,
    xs: ArrayLike,
    d_hs: ArrayLike,
    d_state: Any,
    state: Any,
    lengths: Any,
    time_major: bool,
) -> tuple[Any, Array, Array, Any, Any, Array]:
    """``params, xs, d_hs, d_state, state, lengths`` of `lstmbook.backprop`."""
    cell = find(cell)
    params, xs, state, lengths = check_arguments(cell, params, xs, state, lengths, time_major)
    d_hs, d_state = check_gradients(cell, params, xs, d_hs, d_state, time_major)
    dtype = np.result_type(xs, d_hs, *d_state)
    params, d_state, state = (cast(arrays, dtype) for arrays in (params, d_state, state))
    xs, d_hs = (array.astype(dtype, copy=False) for array in (xs, d_hs))
    return params, xs, d_hs, d_state, state, lengths


def check_gradients(
    cell: Cell, params: Any, xs: Array, d_hs: ArrayLike, d_state: Any, time_major: bool
) -> tuple[Array, Any]:
    """The gradients at the outputs and at the final state, each in its own dtype.

    ``params`` and ``xs`` were checked.
    """
    steps, batch = _steps_and_batch(xs, time_major)
    d_hs = _check_d_hs(d_hs, steps, batch, sizes(cell, params)[1], time_major)
    return d_hs, check_state(cell, params, d_state, batch, steps, "d_state")


def cast(arrays: Any, dtype: DTypeLike) -> Any:
    """Params or a State in another dtype; not copied if they have it already."""
    return type(arrays)(*(array.astype(dtype, copy=False) for array in arrays))


def _steps_and_batch(xs: Array, time_major: bool) -> tuple[int, int]:
    first, second = xs.shape[:2]
    return (first, second) if time_major else (second, first)


def _check_xs(cell: Cell, params: Any, xs: ArrayLike, time_major: bool) -> Array:
    """``xs`` as an array of three axes and floats whose last axis fits ``params``."""
    xs = np.asarray(xs)
    input_size, _ = sizes(cell, params)
    axes = "(time, batch, input)" if time_major else "(batch, time, input)"
    if xs.dtype.kind not in "fc":
        raise TypeError(
            f"xs has dtype {xs.dtype}; expected floats, for example xs.astype(np.float32)"
        )
    if xs.ndim != 3:
        mend = ""
        if xs.ndim == 2:
            mend = f". One sequence alone? xs[{':, None' if time_major else 'None'}] adds the batch"
        raise ValueError(f"xs has shape {xs.shape}; expected three axes, {axes}{mend}")
    if input_size is not None and xs.shape[2] != input_size:
        mend = ""
        if input_size in xs.shape[:2]:
            found = xs.shape.index(input_size)
            mend = f". Axis {found} has {input_size}: np.moveaxis(xs, {found}, -1)?"
        raise ValueError(
            f"xs has shape {xs.shape}; expected {axes} with input = {input_size}, "
            f"since params.W_x has shape {params.W_x.shape}{mend}"
        )
    return xs


def _check_lengths(lengths: ArrayLike | None, batch: int, steps: int) -> Array:
    """``lengths`` as ``(batch,)`` integers between 0 and ``steps``; all ``steps`` if None."""
    if lengths is None:
        return np.full(batch, steps)
    lengths = whole_numbers(lengths)
    if lengths.shape != (batch,):
        mend = _axis_mend(lengths.shape[:1] == (steps,), steps, batch)
        raise ValueError(
            f"lengths has shape {lengths.shape}; expected one for each of the {batch} sequences "
            f"of the batch, ({batch},){mend}"
        )
    check_range(lengths, steps)
    return lengths


def whole_numbers(lengths: ArrayLike) -> Array:
    """``lengths`` as integers, in an array of their own: the way back keeps them."""
    lengths = np.array(lengths)
    if lengths.size == 0:
        lengths = lengths.astype(int)
    if lengths.dtype.kind not in "iu":
        raise TypeError(f"lengths has dtype {lengths.dtype}; expected integers")
    return lengths


def check_range(lengths: Array, steps: int) -> None:
    """Whether no sequence has fewer steps than none or more than there are."""
    wrong = (lengths < 0) | (lengths > steps)
    if wrong.any():
        mend = "; np.minimum(lengths, time) cuts them" if (lengths > steps).any() else ""
        raise ValueError(
            f"lengths has {lengths[wrong][0]} at position {np.flatnonzero(wrong)[0]}; expected "
            f"0 to {steps}, the number of time steps{mend}"
        )


def _check_d_hs(d_hs: ArrayLike, steps: int, batch: int, hidden: int, time_major: bool) -> Array:
    """``d_hs`` as floats of the shape of ``hs``."""
    d_hs = np.asarray(d_hs)
    axes = "(time, batch, hidden)" if time_major else "(batch, time, hidden)"
    shape = (steps, batch, hidden) if time_major else (batch, steps, hidden)
    if d_hs.dtype.kind not in "fc":
        raise TypeError(f"d_hs has dtype {d_hs.dtype}; expected floats, {axes} = {shape}")
    if d_hs.shape != shape:
        mend = ""
        if d_hs.shape == (batch, hidden):
            mend = (
                ". A gradient at the last output alone is one at the final state: d_state with "
                "this as its h, and d_hs zeros"
            )
        elif d_hs.ndim == 3 and d_hs.shape[:2] == shape[1::-1] and steps != batch:
            mend = ". Are batch and time the wrong way round? See time_major"
        raise ValueError(
            f"d_hs has shape {d_hs.shape}; expected that of the outputs, {axes} = {shape}{mend}"
        )
    return d_hs


def check_state(
    cell: Cell, params: Any, state: Any, batch: int, steps: int, what: str = "state"
) -> Any:
    """``state`` as the cell's State of ``(batch, hidden)`` arrays; zeros if None."""
    if state is None:
        return cell.zero_state(params, batch)
    names = cell.State._fields
    zero = cell.zero_state(params, 1)
    shapes = {name: (batch, part.shape[-1]) for name, part in zip(names, zero, strict=True)}
    hidden = shapes[names[0]][1]
    wanted = f"State({', '.join(names)}), each (batch, hidden) = ({batch}, {hidden})"
    if isinstance(state, np.ndarray) or not isinstance(state, tuple | list):
        mend = ""
        shape = np.shape(state)
        if names == ("h",) and shape == (batch, hidden):
            mend = ". State(state) wraps it"
        elif names == ("h", "c") and shape == (batch, 2 * hidden):
            mend = (
                ". TensorFlow's state_is_tuple=False stores c and h side by side: "
                "c, h = np.split(state, 2, axis=1), then State(h, c)"
            )
        raise TypeError(f"{what} is one {type(state).__name__}; expected {wanted}{mend}")
    got = getattr(state, "_fields", names)
    if len(state) != len(names) or sorted(got) != sorted(names):
        kind = f"{type(state).__name__}({', '.join(got)})" if got is not names else "a tuple"
        raise ValueError(f"{what} is {kind} of {len(state)}; expected {wanted}")
    by_name = dict(zip(got, map(np.asarray, state), strict=True))
    for name, part in by_name.items():
        if part.dtype.kind not in "fc":
            raise TypeError(f"{what}.{name} has dtype {part.dtype}; expected floats")
        if part.shape != shapes[name]:
            mend = _axis_mend(part.shape == (steps, shapes[name][1]), steps, batch)
            raise ValueError(
                f"{what}.{name} has shape {part.shape}; expected (batch, hidden) = "
                f"{shapes[name]}{mend}"
            )
    return cell.State(**by_name)


def _axis_mend(fits_time: bool, steps: int, batch: int) -> str:
    if fits_time and steps != batch:
        return (
            f". {steps} is the size of the time axis: are batch and time the wrong way round? "
            "See time_major"
        )
    return ""
