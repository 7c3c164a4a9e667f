"""Haiku on our weights: ``hk.LSTM`` and ``hk.GRU``, their step in our loop."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from .. import layouts
from ..cells import Cell, find, name_of
from ..cells._activations import Array
from ..running.arguments import check_arguments
from ._jax import jax, precision
from ._loop import run_steps
from ._versions import need

need("lstmbook.live.haiku needs", "Haiku", "dm-haiku", "0.0.16", "jax")
try:
    import haiku
except (ImportError, AttributeError) as error:  # AttributeError: a JAX that it does not know
    raise ImportError(
        f"lstmbook.live.haiku needs Haiku, which cannot be imported here ({error}); "
        "pip install 'lstmbook[jax]' brings it"
    ) from error

__all__ = ["run"]


def run(
    cell: Cell | str,
    params: Any,
    xs: ArrayLike,
    state: Any = None,
    *,
    lengths: ArrayLike | None = None,
    time_major: bool = False,
) -> tuple[Array, Any]:
    """Haiku's own core at every step; same signature and return as `lstmbook.run`."""
    name, cell = name_of(cell), find(cell)
    params, xs, state, checked = check_arguments(cell, params, xs, state, lengths, time_major)
    tree: dict[str, dict[str, Array]] = {}
    for key, array in layouts.export(name, "haiku", params).items():
        module, _, leaf = f"core/{key}".rpartition("/")
        tree.setdefault(module, {})[leaf] = array
    core = haiku.GRU if name == "gru" else haiku.LSTM
    pure: Any = haiku.without_apply_rng(
        haiku.transform(lambda x, old: core(params.b.shape[-1], name="core")(x, old))
    )
    apply = jax.jit(pure.apply)

    def step(x: Array, old: Any) -> tuple[Array, Any]:
        theirs = old.h if name == "gru" else haiku.LSTMState(hidden=old.h, cell=old.c)
        h, new = jax.tree.map(np.asarray, apply(tree, x, theirs))
        return h, cell.State(*new) if isinstance(new, tuple) else cell.State(new)

    with precision(xs.dtype):
        return run_steps(cell, step, params, xs, state, lengths=checked, time_major=time_major)
