"""The questions that a function is asked: random numbers, and hard ones."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from ..cells._activations import Array

__all__ = [
    "ATOL",
    "LOOSE",
    "STEPS",
    "Call",
    "Case",
    "random_numbers",
    "special_cases",
    "usual_cases",
]

ATOL = 1e-12  # usual numbers
LOOSE = 1e-9  # large numbers, long runs, and whether two functions are the same
STEPS = 5


class Call(NamedTuple):
    """The arguments of one call."""

    params: Any
    x: Array
    state: Any


class Case(NamedTuple):
    """A short sequence, and in what it is special."""

    what: str
    hint: str
    params: Any
    xs: Array  # (time, batch, input)
    state: Any
    tolerance: float


def random_numbers(
    rng: np.random.Generator, cell: Any, batch: int, inputs: int, hidden: int, steps: int = 1
) -> tuple[Any, Array, Any]:
    """Params, xs and state without a zero anywhere, biases included."""
    shapes = cell.init(rng, inputs, hidden, np.float64)
    params = type(shapes)(*(0.5 * rng.normal(size=a.shape) for a in shapes))
    state = cell.State(*(rng.normal(size=(batch, hidden)) for _ in cell.State._fields))
    return params, rng.normal(size=(steps, batch, inputs)), state


def usual_cases(rng: np.random.Generator, cell: Any) -> Iterator[Case]:
    for sizes in ((2, 6, 5), (5, 2, 7), (7, 5, 6)):  # all different, and none is 1, 3 or 4
        yield Case("", "", *random_numbers(rng, cell, *sizes, steps=STEPS), ATOL)


def special_cases(rng: np.random.Generator, cell: Any) -> Iterator[Case]:
    def case(what: str, hint: str, sizes: tuple[int, int, int], **change: Any) -> Case:
        drawn = Case(what, hint, *random_numbers(rng, cell, *sizes), LOOSE)
        return drawn._replace(**{name: f(getattr(drawn, name)) for name, f in change.items()})

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
    params, xs, state = random_numbers(rng, cell, 2, 2, 5, steps=60)
    calm = type(params)(*(0.4 * a for a in params))
    yield Case("60 steps", hint, calm, xs, state, LOOSE)
    if "i" in cell.GATES:
        held = calm._replace(b=np.full_like(calm.b, 8.0))  # c grows by about 1 at every step
        yield Case("a cell state that grows for 60 steps", "Is c clipped?", held, xs, state, LOOSE)
