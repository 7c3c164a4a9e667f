"""The layer of one scope of TensorFlow: by what stands below it, its name, and the graph."""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np

from ..cells import CELLS, gru_reset_after
from ..cells._activations import Array
from ._base import (
    Aside,
    Layer,
    Request,
    Shapes,
    Take,
    ambiguous,
    as_given,
    make,
    refuse,
    shapes_in_words,
)
from ._graph import Facts
from ._keras_layer import CELL_NAME, Release, by_arrays, side_of

OBJECT = "/.ATTRIBUTES/VARIABLE_VALUE"  # in a checkpoint of objects (tf.train.Checkpoint)
AVERAGE = "ExponentialMovingAverage"

_TAILS = (
    *(
        f"candidate/{side}_projection/{what}"
        for side in ("input", "hidden")
        for what in ("kernel", "bias")
    ),
    *(f"{part}/{what}" for part in ("gates", "candidate") for what in ("kernel", "bias")),
    "projection/kernel",
    *("recurrent_kernel", "kernel", "bias", "w_f_diag", "w_i_diag", "w_o_diag"),
    *("W_0", "B", "W_F_diag", "W_I_diag", "W_O_diag", "W_P_0"),
    *("w_ru", "b_ru", "w_c", "b_c"),
)
# The last part of a cell's scope, which is its class, and the cell. CudnnCompatibleLSTMCell is an
# LSTM that adds no forget bias; LSTMBlockCell and LSTMBlockFusedCell store what LSTMCell stores.
_CLASSES = {
    "basic_rnn_cell": "rnn",
    "basic_lstm_cell": "lstm",
    "lstm_cell": "lstm",
    "lstm_fused_cell": "lstm",
    "lstm_block_wrapper": "lstm",
    "cudnn_compatible_lstm_cell": "lstm",
    "gru_cell": "gru",
    "cudnn_compatible_gru_cell": "gru_reset_after",
    "coupled_input_forget_gate_lstm_cell": "coupled",
}
# Cells of tf.contrib.rnn that no cell here computes.
FOREIGN = re.compile(
    r"(layer_norm_basic_lstm|layer_norm_lstm|ugrnn|nas|sru|ind_rnn|indy_gru|indy_lstm|"
    r"intersection_rnn|phased_lstm|glstm|grid\d?_?lstm|time_freq_lstm|bidirectional_grid_lstm|"
    r"conv_?\dd_lstm|conv_lstm|weight_norm_lstm)_cell"
)
NORM = re.compile(r"/(input|transform|forget|output|state)$")
_RECURRENT = re.compile(r"(bi|bidirectional_|stack_bidirectional_)?rnn(_\d+)?|fw|bw|cell_?\d+")
_DENSE = re.compile(
    r"(.*_)?(dense|fully_connected|fc\d*|linear|logits?|softmax|outputs?|proj|projection|head|"
    r"scores?|classifier|class(es)?|embeddings?|attention|query|wrapper|conv\dd)(_.*)?"
)


def cut(name: str) -> tuple[str, str]:
    """Scope and tail; an empty tail if nothing of a cell stands there."""
    for tail in _TAILS:
        if name == tail or name.endswith("/" + tail):
            return name[: -len(tail)].rstrip("/"), tail
    return name.rpartition("/")[0], ""


def gather(scopes: dict[str, dict[str, str]]) -> dict[str, dict[str, str]]:
    """Parts of cells of tf.contrib.rnn that have scopes of their own, under the cell's scope."""
    gathered: dict[str, dict[str, str]] = {}
    for scope, names in scopes.items():
        parts = scope.split("/")
        depth = next((k for k, part in enumerate(parts) if FOREIGN.fullmatch(_snake(part))), None)
        owner = scope if depth is None else "/".join(parts[: depth + 1])
        below = scope[len(owner) :].lstrip("/")
        for tail, name in names.items():
            gathered.setdefault(owner, {})[f"{below}/{tail}" if below else tail] = name
    return gathered


def last_part(scope: str) -> str:
    return _snake(re.split("[/.]", scope)[-1])


def _snake(part: str) -> str:
    """``BasicLSTMCell`` as ``basic_lstm_cell``, without the number that makes a scope unique."""
    part = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", part).lower()
    return re.sub(r"_\d+$", "", part)


def settle(
    request: Request, scope: str, names: dict[str, str], shapes: Shapes, take: Take
) -> Layer | Aside:
    """The layer of one scope, or why it is none."""
    given = request.cells.get(scope)
    if scope in request.cells and given is None:
        return Aside(scope, "left aside, as asked for")
    parts, last = re.split("[/.]", scope), last_part(scope)
    reverse = any(part.lower() == "bw" or part.startswith("backward_") for part in parts)
    what = shapes_in_words(shapes)
    facts = _facts(request, names)
    graph = request.graph.words if request.graph else ""

    def arrays() -> dict[str, Array]:
        return {tail: take(name) for tail, name in names.items()}

    def built(cell: str, note: str = "", assumed: tuple[str, ...] = ()) -> Layer:
        if facts.activation not in (None, "Tanh") or facts.clip:
            why = f"activation {facts.activation}" if not facts.clip else "clip of the cell state"
            why = f"{cell} with {why}, by {graph}; no cell here has that"
            return refuse(scope, "tf1", why, reverse=reverse)
        renamed = {_RENAMED.get(cell, {}).get(key, key): a for key, a in arrays().items()}
        bias, notes, more = _run_time(request, cell, last, facts, given)
        return make(
            scope,
            cell,
            "tf1",
            renamed,
            reverse=reverse,
            note="; ".join(filter(None, [note, *notes])),
            assumed=(*assumed, *more),
            forget_bias=bias,
        )

    if FOREIGN.fullmatch(last):
        why = f"{last} of tf.contrib.rnn, which no cell here computes"
        return refuse(scope, "tf1", why, reverse=reverse)
    if "projection/kernel" in names or "W_P_0" in names:
        why = (
            f"an LSTM with projection (num_proj): {what}. No cell here projects its output; "
            "nearest is the same cell without it, a different function"
        )
        return refuse(scope, "tf1", why, reverse=reverse)
    if "recurrent_kernel" in names and "kernel" in names:
        return _keras(request, scope, names, arrays())
    if "w_ru" in names and "w_c" in names:
        return make(scope, "gru", "tf1_block", arrays(), reverse=reverse)
    if given:
        return built(given)
    if "candidate/input_projection/kernel" in names:
        return _cudnn_gru(scope, arrays(), reverse)
    if "gates/kernel" in names or "candidate/kernel" in names:
        return built("gru")
    if "W_0" in names:
        candidates = _candidates_of_w_0(last, shapes)
        if len(candidates) == 1:
            return built(next(iter(candidates)))
        choices = [f"{cell} (hidden {shapes['W_0'][1] // n})" for cell, n in candidates.items()]
        return ambiguous(
            scope, "tf1", candidates, f"{what} can be {' or '.join(choices)}", reverse=reverse
        )
    if "w_f_diag" in names or "w_i_diag" in names:
        return built("peephole")
    cell = _CLASSES.get(last)
    if cell:
        return built(cell)
    sizes = _candidates(shapes)
    if facts.kind in sizes:
        return built(facts.kind, f"{facts.kind} by {graph}")
    known = request.variables or ()
    objects = any(name.endswith(OBJECT) or name in known for name in names.values())  # of Keras
    if (
        objects
        or facts.kind == "dense"
        or not sizes
        or (_DENSE.fullmatch(last) and not re.search(r"(lstm|rnn|gru|cell)$", last))
    ):
        return Aside(scope, f"a dense layer or the like: {what}")
    if re.search("lstm(_cell)?$", last) and "lstm" in sizes:
        return built("lstm", assumed=("an LSTM by its name",))
    recurrent = any(_RECURRENT.fullmatch(part.lower()) for part in parts)
    if len(sizes) == 1 and recurrent:
        (cell,) = sizes
        return built(cell, assumed=(f"{cell}: no other cell of tf.nn.rnn_cell has such arrays",))
    choices = [f"{cell} ({size})" for cell, size in sizes.items()]
    if not recurrent:
        choices.append("no recurrent layer")
    return ambiguous(scope, "tf1", sizes, f"{what} can be {' or '.join(choices)}", reverse=reverse)


def _run_time(
    request: Request, cell: str, last: str, facts: Facts, given: str | None
) -> tuple[float, list[str], list[str]]:
    """What a TensorFlow 1 cell does that its arrays do not hold.

    The forget bias, notes on what is known, and what is assumed.
    """
    notes, assumed = [as_given(given)], []
    fixed = last.startswith("cudnn")  # CudnnCompatibleLSTMCell, which has no options
    bias = 1.0 if request.forget_bias is None else request.forget_bias
    if "f" in CELLS[cell].GATES:
        if fixed:
            bias = 0.0
            notes.append("CudnnCompatibleLSTMCell, which adds no forget bias")
        elif facts.forget_bias is not None:
            bias = facts.forget_bias
            other = (
                f", not {request.forget_bias:g}" if request.forget_bias not in (None, bias) else ""
            )
            notes.append(f"forget bias {bias:g} added, as {request.graph.words} says{other}")
        elif request.forget_bias is not None:
            notes.append(f"forget bias {bias:g} added, as given")
        else:
            assumed.append(f"forget bias {bias:g} added: the file does not hold it")
    if not (fixed or given or facts.activation):
        what = "tanh and no clipping" if "c" in CELLS[cell].State._fields else "tanh"
        assumed.append(f"{what} assumed: the file does not say")
    return bias, notes, assumed


def _keras(request: Request, scope: str, names: dict[str, str], arrays: dict[str, Array]) -> Layer:
    """A layer of Keras, of which the graph beside a checkpoint may tell the activations."""
    kernel, graph = variable_of(names["recurrent_kernel"]), request.graph
    bends = graph.bends(kernel, scope) if graph else {}
    reverse, side = side_of(re.split("[/.]", scope))
    layer = by_arrays(
        request,
        scope,
        arrays,
        reverse=reverse,
        release=None if bends else _release(request, kernel),
        note=f"activations by {graph.words}" if bends else "",
        side=side,
    )
    known = {"Tanh"} if layer.cell == "rnn" else {"Tanh", "Sigmoid"}
    right = set(bends) == known and bends["Tanh"] == min(bends.values())  # there are more gates
    if right or not bends or layer.cell is None:
        return layer
    needs = "tanh" if layer.cell == "rnn" else "sigmoid in its gates, and tanh"
    has = f"{layer.cell} with {' and '.join(sorted(bends))}, by {graph.words}"
    return refuse(scope, "keras", f"{has}; the cell here has {needs}", reverse=reverse)


def _release(request: Request, kernel: str) -> Release:
    """The TensorFlow that wrote a kernel of Keras, which named its variable by layer and cell."""
    if request.variables is None:  # no checkpoint
        return Release()
    variable = request.variables.get(kernel, "" if kernel.endswith(OBJECT) else kernel)
    if not variable:
        return Release()
    if CELL_NAME.fullmatch(variable.split("/")[-2:][0]) and kernel in request.variables:
        return Release("sigmoid", "TensorFlow since 2.2")
    return Release("", "TensorFlow's Keras", "the program that wrote it tells")


def _facts(request: Request, names: Mapping[str, str]) -> Facts:
    """What the graph says of the cell: by its one bias, the candidate's for a GRU."""
    tails = [tail for tail in ("bias", "B", "candidate/bias") if tail in names]
    return request.graph.of(variable_of(names[tails[0]])) if request.graph and tails else Facts()


def variable_of(name: str) -> str:
    """The variable that an array is of, which a graph uses: not its average."""
    return name.removesuffix(f"/{AVERAGE}")


# Other names that TensorFlow gave the arrays of the layout ``tf1``: LSTMCell before 1.0.
_RENAMED = dict.fromkeys(
    ("lstm", "peephole"),
    {"W_0": "kernel", "B": "bias"} | {f"W_{gate}_diag": f"w_{gate.lower()}_diag" for gate in "FIO"},
)


def _candidates_of_w_0(last: str, shapes: Shapes) -> dict[str, int]:
    """Cells and their numbers of gates for W_0 and B: coupled, or LSTMCell before TensorFlow 1.0.

    Peepholes tell: an LSTM has W_I_diag as well.
    """
    if "W_F_diag" in shapes:
        return {"peephole": 4} if "W_I_diag" in shapes else {"coupled_peephole": 3}
    if last in _CLASSES:
        return {"coupled": 3} if _CLASSES[last] == "coupled" else {"lstm": 4}
    columns = shapes["W_0"][-1] if shapes["W_0"] else 0
    fits = {cell: n for cell, n in (("coupled", 3), ("lstm", 4)) if columns % n == 0}
    return fits or {"coupled": 3}


def _candidates(shapes: Shapes) -> dict[str, str]:
    """The cells that a kernel and a bias can be by their shapes, and what sizes they then have."""
    kernel, bias = shapes.get("kernel", ()), shapes.get("bias", ())
    if len(kernel) != 2 or len(shapes) != 2 or tuple(bias) != (kernel[1],) or 0 in kernel:
        return {}
    rows, columns = kernel
    hidden = {"lstm": columns // 4 if columns % 4 == 0 else rows, "rnn": columns}
    return {cell: f"input {rows - h}, hidden {h}" for cell, h in hidden.items() if rows > h}


def _cudnn_gru(scope: str, arrays: dict[str, Array], reverse: bool) -> Layer:
    """CudnnCompatibleGRUCell: GRUCell's arrays, the candidate's in two, and one bias more."""
    b_hn = arrays.pop("candidate/hidden_projection/bias")
    halves = [arrays.pop(f"candidate/{side}_projection/kernel") for side in ("input", "hidden")]
    arrays["candidate/kernel"] = np.vstack(halves)
    arrays["candidate/bias"] = arrays.pop("candidate/input_projection/bias")
    layer = make(scope, "gru", "tf1", arrays, reverse=reverse)
    if layer.cell is None:
        return layer
    params = gru_reset_after.Params(**layer.params._asdict(), b_hn=b_hn)
    return layer._replace(cell="gru_reset_after", params=params, note="CudnnCompatibleGRUCell")
