"""What the frameworks share: a module of `live` says only how its framework makes and calls a cell.

``adapter`` makes ``run`` and ``backprop`` of functions that are given a `Call`: arguments are
checked as `lstmbook.run` checks them, batch and time stand as the framework has them, and what it
returns becomes arrays of NumPy and our State. ``need`` imports the framework.
"""

import importlib
import inspect
import re
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np

from .. import layouts
from .. import running as ours
from ..cells import Cell, find, name_of, sizes
from ..cells._activations import Array
from ..running import by_steps
from ..running.arguments import check_arguments, check_backprop
from . import ENGINES

__all__ = ["Call", "adapter", "need"]

# How people call a package, the extra of lstmbook that brings it, and its oldest release.
PACKAGES = {
    "tensorflow": ("TensorFlow", "tf", ""),
    "keras": ("Keras", "tf", "3"),
    "onnx": ("onnx", "onnx", ""),
    "onnxruntime": ("ONNX Runtime", "onnx", ""),
    "torch": ("PyTorch", "torch", ""),
    "jax": ("JAX", "jax", "0.5.3"),
    "flax": ("Flax", "jax", "0.10.5"),
    "haiku": ("Haiku", "jax", "0.0.16"),
}
_IN_PIP = {"haiku": "dm-haiku"}


def need(package: str) -> Any:
    """The package, imported; an ImportError if it is not there, or in a release that is too old."""
    words, extra, oldest = PACKAGES[package.partition(".")[0]]
    try:  # before the import, which may fail if it is too old
        found = version(_IN_PIP.get(package, package)) if oldest else ""
    except PackageNotFoundError:  # the import tells
        found = ""
    if found and _numbers(found) < _numbers(oldest):
        raise ImportError(
            f"lstmbook.live needs {words} >= {oldest}; found {found}. "
            f"pip install --upgrade 'lstmbook[{extra}]' brings it"
        )
    try:
        return importlib.import_module(package)
    except (ImportError, AttributeError) as error:  # AttributeError: one too new for another
        raise ImportError(
            f"lstmbook.live needs {words}, which cannot be imported here ({error}); "
            f"pip install 'lstmbook[{extra}]' brings it"
        ) from error


def _numbers(release: str) -> list[int]:
    return list(map(int, re.findall(r"\d+", release)[:3]))


class Call(NamedTuple):
    """What a framework is asked to compute. All arrays are of one dtype."""

    cell: Cell
    name: str
    layout: str
    padded: bool  # whether lengths were given; without them all sequences have all steps
    params: Any
    xs: Array  # (batch, time, input), or (time, batch, input) for a framework with time first
    state: Any
    lengths: Array  # (batch,)
    d_hs: Any = None  # for backprop: the gradients at hs and at the final state
    d_state: Any = None

    def arrays(self, forget_bias: float = 1.0) -> dict[str, Array]:
        """The weights as the framework keeps them."""
        return layouts.export(self.name, self.layout, self.params, forget_bias=forget_bias)

    def tree(self) -> dict[str, dict[str, Array]]:
        """The same by modules: a name is ``module/weight``, or the weight's alone."""
        tree: dict[str, dict[str, Array]] = {}
        for key, array in self.arrays().items():
            module, _, leaf = key.rpartition("/")
            tree.setdefault(module, {})[leaf] = array
        return tree

    def by_steps(self, step: Callable[[Array, Any], Any]) -> tuple[Array, Any]:
        """A framework's own step, ``step(x, state) -> (h, state)``, in our loop; time is first."""
        theirs: Any = SimpleNamespace(step=lambda params, x, old: step(x, old))
        hs = np.zeros((*self.xs.shape[:2], sizes(self.cell, self.params)[1]), self.xs.dtype)
        return hs, by_steps.run(theirs, self.params, self.xs, self.state, self.lengths, hs)


# What `lstmbook.run` and `lstmbook.backprop` check their arguments with, and what that returns.
_CHECKS: dict[str, tuple[Callable[..., Any], tuple[str, ...]]] = {
    "run": (check_arguments, ("params", "xs", "state", "lengths")),
    "backprop": (check_backprop, ("params", "xs", "d_hs", "d_state", "state", "lengths")),
}


def adapter(
    layout: str | Callable[..., str], *, time_first: bool = False
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Makes ``run`` or ``backprop`` of a framework from the function of that name below it.

    ``run(call, **options)`` returns the outputs and the parts of the final state in our order;
    ``backprop(call, **options)`` the names of the weights, and the gradients at the weights, at xs
    and at the parts of the initial state.

    Parameters
    ----------
    layout : str or function
        The layout that the framework runs; or ``layout(name, **options)``, which tells it.
    time_first : bool
        Whether time is the first axis of what the framework takes and returns.
    """

    def decorate(compute: Callable[..., Any]) -> Callable[..., Any]:
        engine = ENGINES.get(compute.__module__.rpartition(".")[2])
        own = getattr(ours, compute.__name__)
        check, fields = _CHECKS[compute.__name__]
        shared = inspect.signature(own)
        more = list(inspect.signature(compute).parameters.values())[1:]
        signature = shared.replace(parameters=[*shared.parameters.values(), *more])

        def asked(*args: Any, **kwargs: Any) -> Any:
            given = signature.bind(*args, **kwargs)
            given.apply_defaults()
            arguments = {key: given.arguments[key] for key in shared.parameters}
            options = {key.name: given.arguments[key.name] for key in more}
            cell, name = find(arguments["cell"]), name_of(arguments["cell"])
            checked = dict(zip(fields, check(**arguments), strict=True))
            kind = layout if isinstance(layout, str) else layout(name, **options)
            layouts.describe(name, kind)  # or a LayoutError
            if engine and engine.only and checked["xs"].dtype != np.float32:
                raise TypeError(engine.only.format(checked["xs"].dtype, name))
            if not checked["xs"].size:
                return own(**arguments)
            turn = arguments["time_major"] != time_first
            for key in {"xs", "d_hs"} & checked.keys():
                checked[key] = np.ascontiguousarray(_swap(checked[key], turn))
            call = Call(cell, name, kind, arguments["lengths"] is not None, **checked)
            first, last = compute(call, **options)
            if own is ours.run:
                return _swap(np.asarray(first), turn), cell.State(*map(np.asarray, last))
            gradients = [np.asarray(d) for d in last]
            d_params = layouts.pull_back(name, kind, dict(zip(first, gradients, strict=False)))
            d_xs, *d_first = gradients[len(first) :]
            return d_params, _swap(d_xs, turn), cell.State(*d_first)

        asked.__name__ = asked.__qualname__ = compute.__name__
        asked.__doc__, asked.__module__ = compute.__doc__, compute.__module__
        vars(asked)["__signature__"] = signature
        return asked

    return decorate


def _swap(array: Array, when: bool) -> Array:
    """Batch and time the other way round, if asked for."""
    return np.swapaxes(array, 0, 1) if when else array
