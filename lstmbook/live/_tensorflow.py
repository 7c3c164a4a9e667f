"""TensorFlow and its v1 cells, wherever this release keeps them."""

import importlib
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from ._engine import need

__all__ = ["find_rnn_cell", "quiet", "tf"]

tf = need("tensorflow")

# TensorFlow's own copy first: it needs neither tf_keras nor an environment variable, and it does
# not matter what was imported before. (tf.compat.v1.nn.rnn_cell goes to Keras 3, which has none.)
HOMES = (
    "tensorflow.python.ops.rnn_cell",
    "tensorflow.python.keras.layers.legacy_rnn.rnn_cell_impl",
    "tf_keras.src.layers.rnn.legacy_cells",
    "keras.src.layers.rnn.legacy_cells",
)


def find_rnn_cell() -> ModuleType:
    """The module that has ``BasicLSTMCell`` and its sisters."""
    tried = []
    for home in HOMES:
        try:
            module = importlib.import_module(home)
            module.BasicLSTMCell  # noqa: B018
        except (ImportError, AttributeError) as error:
            tried.append(f"{home}: {error}")
        else:
            return module
    raise ImportError(
        f"TensorFlow {tf.__version__} is installed, but its v1 cells were not found. "
        "They are known to be in TensorFlow 2.16 to 2.21 (pip install 'tensorflow>=2.16,<2.22') "
        "and in tf_keras (pip install tf_keras). Tried:\n  " + "\n  ".join(tried)
    )


@contextmanager
def quiet() -> Iterator[None]:
    """No deprecation notices: that these cells are old is why they are here."""
    deprecation: Any = importlib.import_module("tensorflow.python.util.deprecation")
    with warnings.catch_warnings(), deprecation.silence():
        warnings.simplefilter("ignore")
        yield
