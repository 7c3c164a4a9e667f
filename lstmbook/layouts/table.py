"""The table of `lstmbook.layouts`: how each framework stores each cell.

A row says what one stored array holds, as a matrix: ``holds`` names the parts that are stacked as
rows (``W_x`` has ``input`` rows, ``W_h`` has ``hidden``, ``b_x``, ``b_h`` and ``p`` have one each),
``gates`` names the blocks of ``hidden`` columns. So TensorFlow's ``[x, h] @ kernel`` with columns
``i, j, f, o`` is ``Stored("kernel", "W_x W_h", "igfo")``. ``-f`` is the negated block of ``f``:
``sigmoid(-z) = 1 - sigmoid(z)``, so an input gate made of ``-f`` is ``1 - f``, and a layer of a
framework that has no coupled cell computes one. A block that the framework does not read is a dot.
"""

from typing import NamedTuple

__all__ = ["LAYOUTS", "ONNX_NODES", "Layout", "Stored"]


class Stored(NamedTuple):
    """One array of a layout, as a matrix of ``(rows, gates * hidden)``."""

    name: str
    holds: str  # the parts stacked as rows: "W_x W_h", "b_x", "b_x b_h", "p", …
    gates: str  # the blocks of columns, in order: "igfo", "-ffgo", …


class Layout(NamedTuple):
    """How one framework stores its cells."""

    framework: str
    state: str  # the order of the framework's own state tuple
    cells: dict[str, tuple[Stored, ...]]
    cannot: dict[str, str]  # why a cell is missing, and what is nearest
    adds_forget_bias: bool = False  # at run time, to the forget gate, so that it is in no file
    transposed: bool = False  # kernels are (gates * hidden, rows)
    blocks_transposed: bool = False  # a kernel's block holds the numbers of its own transpose
    flat_bias: bool = False  # two rows of bias stand behind one another in one vector
    directions: bool = False  # a first axis counts directions
    layers: bool = False  # the end of a name, _l0, counts layers; _l0_reverse is the backward half
    bias_optional: bool = False  # a layer can be made without biases: then they are zero


def _rows(arrays: tuple[tuple[str, str], ...], gates: str) -> tuple[Stored, ...]:
    return tuple(Stored(name, holds, gates) for name, holds in arrays)


_NO_PEEPHOLES = (
    "{} has no cell with peepholes; the nearest there is {}, a different function unless every "
    "peephole weight is zero"
)
_RESET_BEFORE = (
    "{} applies the reset gate before the matrix product; the nearest there is gru, a different "
    "function"
)
_RESET_AFTER = (
    "{} applies the reset gate after the matrix product; the nearest there is gru_reset_after, a "
    "different function"
)


def _no_peepholes(framework: str) -> dict[str, str]:
    nearest = {"peephole": "lstm", "coupled_peephole": "coupled"}
    return {name: _NO_PEEPHOLES.format(framework, other) for name, other in nearest.items()}


# TensorFlow 1

_TF1 = ("kernel", "W_x W_h"), ("bias", "b_x")
_BLOCK = ("w", "W_x W_h"), ("b", "b_x")


def _block_peepholes(gates: str, input_gate: str = "i") -> tuple[Stored, ...]:
    w, b = _rows(_BLOCK, gates)
    peepholes = (("wci", input_gate), ("wcf", "f"), ("wco", "o"))
    return (w, *(Stored(name, "p", gate) for name, gate in peepholes), b)


# Keras

_KERAS = ("kernel", "W_x"), ("recurrent_kernel", "W_h"), ("bias", "b_x")
_KERAS_TWO = (*_KERAS[:2], ("bias", "b_x b_h"))

# TensorFlow Lite: an array for each gate

_WORDS = {"i": "input", "f": "forget", "g": "cell", "o": "output"}


def _tflite(gates: str, peepholes: str = "") -> tuple[Stored, ...]:
    return (
        *(Stored(f"input_to_{_WORDS[gate]}_weights", "W_x", gate) for gate in gates),
        *(Stored(f"recurrent_to_{_WORDS[gate]}_weights", "W_h", gate) for gate in gates),
        *(Stored(f"cell_to_{_WORDS[gate]}_weights", "p", gate) for gate in peepholes),
        *(Stored(f"{_WORDS[gate]}_gate_bias", "b_x", gate) for gate in gates),
    )


# ONNX and PyTorch

_ONNX = ("W", "W_x"), ("R", "W_h"), ("B", "b_x b_h")
_TORCH = (
    ("weight_ih_l0", "W_x"),
    ("weight_hh_l0", "W_h"),
    ("bias_ih_l0", "b_x"),
    ("bias_hh_l0", "b_h"),
)

# Flax: an array for each gate in Linen, and in the LSTMCell of NNX


def _flax_lstm(forget: str = "f", input_gate: str = "i") -> tuple[Stored, ...]:
    gates = (("i", input_gate), (forget, "f"), ("g", "g"), ("o", "o"))
    return (
        *(Stored(f"i{letter}/kernel", "W_x", gate) for letter, gate in gates),
        *(Stored(f"h{letter[0]}/kernel", "W_h", gate) for letter, gate in gates),
        *(Stored(f"h{letter[0]}/bias", "b_x", gate) for letter, gate in gates),
    )


_NNX_LSTM = ("dense_i/kernel", "W_x"), ("dense_h/kernel", "W_h"), ("dense_h/bias", "b_x")
_NNX = ("dense_i/kernel", "W_x"), ("dense_i/bias", "b_x"), ("dense_h/kernel", "W_h")

# Haiku

_HAIKU_LSTM = ("linear/w", "W_x W_h"), ("linear/b", "b_x")
_HAIKU_GRU = ("w_i", "W_x"), ("w_h", "W_h"), ("b", "b_x")


LAYOUTS: dict[str, Layout] = {
    # tf.nn.rnn_cell and tf.contrib.rnn of TensorFlow 1.12; names below the cell's own scope.
    # LSTMBlockCell, LSTMBlockFusedCell and GRUBlockCellV2 have these names as well.
    "tf1": Layout(
        framework="TensorFlow 1 (tf.nn.rnn_cell, tf.contrib.rnn)",
        state="ch",
        adds_forget_bias=True,
        cells={
            "rnn": _rows(_TF1, "n"),
            "lstm": _rows(_TF1, "igfo"),
            "peephole": (
                *_rows(_TF1, "igfo"),
                Stored("w_f_diag", "p", "f"),
                Stored("w_i_diag", "p", "i"),
                Stored("w_o_diag", "p", "o"),
            ),
            "coupled": (Stored("W_0", "W_x W_h", "gfo"), Stored("B", "b_x", "gfo")),
            "coupled_peephole": (
                Stored("W_0", "W_x W_h", "gfo"),
                Stored("B", "b_x", "gfo"),
                Stored("W_F_diag", "p", "f"),
                Stored("W_O_diag", "p", "o"),
            ),
            "gru": (
                Stored("gates/kernel", "W_x W_h", "rz"),
                Stored("gates/bias", "b_x", "rz"),
                Stored("candidate/kernel", "W_x W_h", "n"),
                Stored("candidate/bias", "b_x", "n"),
            ),
        },
        cannot={"gru_reset_after": _RESET_BEFORE.format("TensorFlow 1's GRUCell")},
    ),
    # A coupled cell in the variables of an ordinary v1 LSTMCell, whose input gate is tied to -f.
    "tf1_tied": Layout(
        framework="TensorFlow 1, LSTMCell with its input gate tied to the forget gate",
        state="ch",
        adds_forget_bias=True,
        cells={
            "coupled": _rows(_TF1, "-fgfo"),
            "coupled_peephole": (
                *_rows(_TF1, "-fgfo"),
                Stored("w_f_diag", "p", "f"),
                Stored("w_i_diag", "p", "-f"),
                Stored("w_o_diag", "p", "o"),
            ),
        },
        cannot={
            name: "tf1_tied holds coupled cells only; this cell is in the layout tf1"
            for name in ("rnn", "lstm", "peephole", "gru")
        }
        | {"gru_reset_after": "no v1 cell of TensorFlow applies the reset gate after the product"},
    ),
    # The arguments of the operators LSTMBlockCell, BlockLSTM (forget_bias is an attribute, 1 if
    # not given) and GRUBlockCell. tf.contrib's GRUBlockCell has these names in its files.
    "tf1_block": Layout(
        framework="TensorFlow's operators LSTMBlockCell, BlockLSTM and GRUBlockCell",
        state="ch",
        adds_forget_bias=True,
        cells={
            "lstm": _rows(_BLOCK, "igfo"),
            "peephole": _block_peepholes("igfo"),
            "coupled": _rows(_BLOCK, "-fgfo"),
            "coupled_peephole": _block_peepholes("-fgfo", "-f"),
            "gru": (
                Stored("w_ru", "W_x W_h", "rz"),
                Stored("w_c", "W_x W_h", "n"),
                Stored("b_ru", "b_x", "rz"),
                Stored("b_c", "b_x", "n"),
            ),
        },
        cannot={
            "rnn": "TensorFlow has no such operator for the simple network",
            "gru_reset_after": _RESET_BEFORE.format("GRUBlockCell"),
        },
    ),
    # BlockLSTMV2 has another order, and no forget bias.
    "tf1_block_v2": Layout(
        framework="TensorFlow's operator BlockLSTMV2",
        state="ch",
        cells={
            "lstm": _rows(_BLOCK, "ifgo"),
            "peephole": _block_peepholes("ifgo"),
            "coupled": _rows(_BLOCK, "-ffgo"),
            "coupled_peephole": _block_peepholes("-ffgo", "-f"),
        },
        cannot=dict.fromkeys(("rnn", "gru", "gru_reset_after"), "BlockLSTMV2 is an LSTM"),
    ),
    # Keras 2 and 3: SimpleRNN, LSTM, GRU(reset_after=False) and GRU, which has two rows of bias.
    "keras": Layout(
        framework="Keras",
        state="hc",
        bias_optional=True,
        cells={
            "rnn": _rows(_KERAS, "n"),
            "lstm": _rows(_KERAS, "ifgo"),
            "coupled": _rows(_KERAS, "-ffgo"),
            "gru": _rows(_KERAS, "zrn"),
            "gru_reset_after": _rows(_KERAS_TWO, "zrn"),
        },
        cannot=_no_peepholes("Keras"),
    ),
    # What CuDNNLSTM and CuDNNGRU of Keras 2 stored: cuDNN's own numbers in the shapes of the
    # layers LSTM and GRU, which Keras 2 rearranged when it loaded them into these.
    "keras_cudnn": Layout(
        framework="Keras 2, CuDNNLSTM and CuDNNGRU",
        state="hc",
        blocks_transposed=True,
        flat_bias=True,
        cells={
            "lstm": _rows(_KERAS_TWO, "ifgo"),
            "coupled": _rows(_KERAS_TWO, "-ffgo"),
            "gru_reset_after": _rows(_KERAS_TWO, "zrn"),
        },
        cannot=_no_peepholes("cuDNN")
        | {
            "rnn": "Keras 2 had no CuDNN layer for the simple network",
            "gru": _RESET_AFTER.format("CuDNNGRU"),
        },
    ),
    # The tensors of TensorFlow Lite's UNIDIRECTIONAL_SEQUENCE_LSTM; absent ones make it coupled.
    "tflite": Layout(
        framework="TensorFlow Lite",
        state="hc",
        transposed=True,
        cells={
            "lstm": _tflite("ifgo"),
            "peephole": _tflite("ifgo", "ifo"),
            "coupled": _tflite("fgo"),
            "coupled_peephole": _tflite("fgo", "fo"),
        },
        cannot=dict.fromkeys(
            ("rnn", "gru", "gru_reset_after"),
            "TensorFlow Lite's recurrent kernel with states is an LSTM",
        ),
    ),
    # The inputs of the operators RNN, LSTM and GRU, one direction. The reset gate's place is the
    # attribute linear_before_reset. input_forget=1 keeps the input gate, f = 1 - i, and does not
    # read the forget gate's block, so a coupled cell has -f at i.
    "onnx": Layout(
        framework="ONNX",
        state="hc",
        transposed=True,
        flat_bias=True,
        directions=True,
        bias_optional=True,
        cells={
            "rnn": _rows(_ONNX, "n"),
            "lstm": _rows(_ONNX, "iofg"),
            "peephole": (*_rows(_ONNX, "iofg"), Stored("P", "p", "iof")),
            "coupled": _rows(_ONNX, "-fo.g"),
            "coupled_peephole": (*_rows(_ONNX, "-fo.g"), Stored("P", "p", "-fo.")),
            "gru": _rows(_ONNX, "zrn"),
            "gru_reset_after": _rows(_ONNX, "zrn"),
        },
        cannot={},
    ),
    # nn.RNN (tanh), nn.LSTM, nn.GRU; names without _l0 are those of nn.RNNCell and its sisters.
    "torch": Layout(
        framework="PyTorch",
        state="hc",
        transposed=True,
        layers=True,
        bias_optional=True,
        cells={
            "rnn": _rows(_TORCH, "n"),
            "lstm": _rows(_TORCH, "ifgo"),
            "coupled": _rows(_TORCH, "-ffgo"),
            "gru_reset_after": _rows(_TORCH, "rzn"),
        },
        cannot=_no_peepholes("PyTorch") | {"gru": _RESET_AFTER.format("PyTorch's GRU")},
    ),
    # Linen: SimpleCell, LSTMCell and OptimizedLSTMCell, which store alike, and GRUCell, whose one
    # second bias is that of n. The state of an LSTM is (c, h).
    "flax": Layout(
        framework="Flax Linen",
        state="ch",
        cells={
            "rnn": _rows((("i/kernel", "W_x"), ("i/bias", "b_x"), ("h/kernel", "W_h")), "n"),
            "lstm": _flax_lstm(),
            "coupled": _flax_lstm(input_gate="-f"),
            "gru_reset_after": (
                *(Stored(f"i{gate}/kernel", "W_x", gate) for gate in "rzn"),
                *(Stored(f"i{gate}/bias", "b_x", gate) for gate in "rzn"),
                *(Stored(f"h{gate}/kernel", "W_h", gate) for gate in "rzn"),
                Stored("hn/bias", "b_h", "n"),
            ),
        },
        cannot=_no_peepholes("Flax") | {"gru": _RESET_AFTER.format("Flax's GRUCell")},
    ),
    # NNX: SimpleCell, OptimizedLSTMCell and GRUCell. This GRUCell has no second bias.
    "flax_nnx": Layout(
        framework="Flax NNX",
        state="ch",
        cells={
            "rnn": _rows(_NNX, "n"),
            "lstm": _rows(_NNX_LSTM, "ifgo"),
            "coupled": _rows(_NNX_LSTM, "-ffgo"),
            "gru_reset_after": _rows(_NNX, "rzn"),
        },
        cannot=_no_peepholes("Flax") | {"gru": _RESET_AFTER.format("Flax's GRUCell")},
    ),
    "flax_nnx_lstm": Layout(
        framework="Flax NNX, LSTMCell",
        state="ch",
        cells={"lstm": _flax_lstm("f_"), "coupled": _flax_lstm("f_", "-f")},
        cannot=_no_peepholes("Flax")
        | dict.fromkeys(
            ("rnn", "gru", "gru_reset_after"),
            "flax_nnx_lstm holds what nnx.LSTMCell stores; the other cells are in flax_nnx",
        ),
    ),
    # Names below the module's own. The LSTM is TensorFlow 1's, with 1 added to f at run time. The
    # GRU's z is 1 - z of ours: h = (1 - z) * h + z * a.
    "haiku": Layout(
        framework="Haiku",
        state="hc",
        adds_forget_bias=True,
        cells={
            "lstm": _rows(_HAIKU_LSTM, "igfo"),
            "coupled": _rows(_HAIKU_LSTM, "-fgfo"),
            "gru": _rows(_HAIKU_GRU, "-zrn"),
        },
        cannot=_no_peepholes("Haiku")
        | {
            "rnn": "Haiku's VanillaRNN has relu where rnn has tanh, and no cell here has relu",
            "gru_reset_after": _RESET_BEFORE.format("Haiku's GRU"),
        },
    ),
}

# The operator of ONNX that computes a cell in the layout onnx, and the attributes that make it so.
ONNX_NODES: dict[str, tuple[str, dict[str, int]]] = {
    "rnn": ("RNN", {}),
    "lstm": ("LSTM", {}),
    "peephole": ("LSTM", {}),
    "coupled": ("LSTM", {"input_forget": 1}),
    "coupled_peephole": ("LSTM", {"input_forget": 1}),
    "gru": ("GRU", {"linear_before_reset": 0}),
    "gru_reset_after": ("GRU", {"linear_before_reset": 1}),
}
