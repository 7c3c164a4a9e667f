"""What the names of arrays tell: which of them are recurrent layers, and of which cell.

A TensorFlow checkpoint, a PyTorch state dict and an ``.npz`` are lists of names and arrays, with
no word on what made them. PyTorch's names and Keras' are unmistakable. TensorFlow 1 has the cell's
class at the end of its scope (``rnn/basic_lstm_cell/kernel``), unless its maker gave it another
name; what then fits more than one cell is reported as ambiguous.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from ..cells import CELLS, gru_reset_after
from ..cells._activations import Array
from ._base import (
    Aside,
    FileError,
    Layer,
    Request,
    ambiguous,
    as_given,
    assume,
    make,
    refuse,
    shapes_in_words,
)
from ._graph import Facts
from ._graph_reads import Reads
from ._keras_layer import CELL_NAME, Release, by_arrays, side_of
from ._torch_weights import worked_out

Shapes = Mapping[str, tuple[int, ...]]
Take = Callable[[str], Array]  # an array by its name in the file


def sort_out(
    request: Request, shapes: Shapes, take: Take, others: Mapping[str, str]
) -> tuple[list[Layer], list[Aside]]:
    """The recurrent layers among named arrays of floats, and what else is there.

    They come in the order of the names, but the backward half of a layer behind the forward one.
    ``others`` says of every array that is not of floats what it is.
    """
    layers, rest = torch_layers(request, shapes, take)
    kept, aside = _sift(request, rest, others)
    aside += [Aside(name, others[name]) for name in others if kept.pop(name, None)]
    scopes: dict[str, dict[str, str]] = {}  # of each scope: tail -> name in the file
    loose: dict[str, dict[str, str]] = {}
    for name, clean in kept.items():
        scope, tail = _cut(clean)
        group = scopes if tail else loose
        last = tail or clean[len(scope) :].lstrip("/")
        group.setdefault(name[: len(scope)], {})[last] = name
    for scope in list(scopes):
        if set(scopes[scope]) <= {"bias", "B"} and not FOREIGN.fullmatch(_last(scope)):
            loose.setdefault(scope, {}).update(scopes.pop(scope))
    normalised = {parent.rpartition("/")[0] for parent in loose if _NORM.search(parent)}
    for scope, names in _gather(scopes).items():
        tails = {tail: shapes[name] for tail, name in names.items()}
        if scope in normalised and scope not in request.cells:
            found: Layer | Aside = refuse(
                scope, "tf1", "has layer normalisation, which no cell here computes"
            )
        else:
            found = _settle(request, scope, names, tails, take)
        if isinstance(found, Aside):
            aside.append(found)
        else:
            layers.append(found)
    refused = tuple(layer.name + "/" for layer in layers if layer.cell is None)
    for parent, names in loose.items():
        by_tail = {last: shapes[name] for last, name in names.items()}
        if not parent:
            aside += [Aside(name, str(shape)) for name, shape in by_tail.items()]
        elif not f"{parent}/".startswith(refused):
            aside.append(Aside(parent, shapes_in_words(by_tail)))
    layers = list(_with_inputs(request, layers, scopes))
    places = {_forward(layer.name): k for k, layer in reversed(list(enumerate(layers)))}
    layers.sort(key=lambda layer: (places[_forward(layer.name)], layer.reverse))
    return layers, aside


_STACK = re.compile(
    r"(?P<stack>(?:.*/)?(?:multi_rnn_cell|stack_bidirectional_rnn)(?:_\d+)?/cell_)(?P<k>\d+)/.*"
)


def _with_inputs(
    request: Request, layers: list[Layer], scopes: Mapping[str, Mapping[str, str]]
) -> Iterator[Layer]:
    """The layers with what they read: by the graph, or else by the names of MultiRNNCell."""
    tails = ("kernel", "gates/kernel", "W_0", "w_ru")
    kernels = {}
    for scope, names in scopes.items():
        own = next((names[tail] for tail in tails if tail in names), None)
        if own:
            other = names.get("recurrent_kernel", own)
            kernels[scope] = (_variable(own), _variable(other))
    kernels = {layer.name: kernels[layer.name] for layer in layers if layer.name in kernels}
    reads = Reads(request.graph, kernels) if request.graph else None
    backward = {layer.name: layer.reverse for layer in layers}
    for layer in layers:
        found = reads and reads.of(layer.name, backward)
        if found:
            yield layer._replace(reads=found[0], between=found[1])
            continue
        match = _STACK.fullmatch(layer.name)
        below = f"{match['stack']}{int(match['k']) - 1}/" if match else "/"
        before = tuple(other.name for other in layers if other.name.startswith(below))
        if not before or len(before) != (2 if "stack_bidirectional_rnn" in below else 1):
            yield layer
        else:
            what = f"reads {' and '.join(before)} by its name: what may stand between is not seen"
            yield assume(layer._replace(reads=before), what)


def _forward(name: str) -> str:
    """What the names of the two halves of a layer have in common."""
    return re.sub(r"(?i)(^|/)([fb]w|(for|back)ward_layer)(/.*|$)|_reverse$", "", name)


# PyTorch

_TORCH = re.compile(
    r"(?P<prefix>(?:.*[./_])?)(?P<kind>weight|bias|w|b)_(?P<side>ih|hh|hr)"
    r"(?P<end>(?:_l(?P<number>\d+))?(?:_reverse)?)"
)


def torch_layers(
    request: Request, shapes: Shapes, take: Take
) -> tuple[list[Layer], dict[str, tuple[int, ...]]]:
    """Layers by PyTorch's names, such as ``encoder.weight_ih_l0``; and all other arrays.

    The layers of one module read one another; what the first reads, no name says.
    """
    shapes, take, found = worked_out(shapes, take)
    groups: dict[str, dict[str, str]] = {}
    levels: dict[tuple[str, int], list[str]] = {}  # a module and a number -> one layer or two
    rest = {}
    for name, shape in shapes.items():
        match = _TORCH.fullmatch(name)
        if not match:
            rest[name] = shape
            continue
        label = match["prefix"] + match["end"].lstrip("_") or "cell"
        if not match["end"]:
            label = match["prefix"].rstrip("./_") or label
        if match["number"]:
            labels = levels.setdefault((match["prefix"], int(match["number"])), [])
            labels += [label] * (label not in labels)
        kind = {"w": "weight", "b": "bias"}.get(match["kind"], match["kind"])
        groups.setdefault(label, {})[f"{kind}_{match['side']}"] = name
    layers = []
    for label, names in groups.items():
        if label in request.cells and request.cells[label] is None:
            rest |= {name: shapes[name] for name in names.values()}
        else:
            layer = _torch_layer(request, label, names, shapes, take)
            notes = [layer.note, *(found[name] for name in names.values() if name in found)]
            layers.append(layer._replace(note="; ".join(filter(None, notes))))
    below = {
        label: tuple(sorted(levels[prefix, number - 1], key=len))
        for (prefix, number), labels in levels.items()
        for label in labels
        if (prefix, number - 1) in levels
    }
    return [layer._replace(reads=below.get(layer.name)) for layer in layers], rest


def _torch_layer(
    request: Request, label: str, names: dict[str, str], shapes: Shapes, take: Take
) -> Layer:
    reverse = label.endswith("_reverse")
    tails = {tail: shapes[name] for tail, name in names.items()}
    recurrent = tails.get("weight_hh", ())
    what = shapes_in_words(tails)
    if "weight_hr" in tails:
        why = f"an LSTM with projection (proj_size): {what}. No cell here projects its output"
        return refuse(label, "torch", why, reverse=reverse)
    rows, hidden = recurrent if len(recurrent) == 2 else (0, 1)
    gates = rows // hidden if hidden and rows % hidden == 0 else 0
    cell = {1: "rnn", 3: "gru_reset_after", 4: "lstm"}.get(gates)
    if cell is None:
        why = f"named as PyTorch's, but not of its shapes (gates * hidden, hidden): {what}"
        return refuse(label, "torch", why, reverse=reverse)
    given, assumed = request.cells.get(label), []
    if not all(re.search("(weight|bias)_", name) for name in names.values()):
        assumed.append("names like PyTorch's: its order of gates assumed")
    if cell == "rnn" and not given:
        assumed.append("tanh assumed: nn.RNN with relu has the same names")
    arrays = {tail: take(name) for tail, name in names.items()}
    return make(
        label,
        given or cell,
        "torch",
        arrays,
        reverse=reverse,
        note=as_given(given),
        assumed=assumed,
    )


# Names without optimizers' slots and averages, in today's spelling

_SLOT = re.compile(
    r"(Adam|AdamW|AdaMax|Adagrad|Adadelta|Momentum|RMSProp|Ftrl|ProximalAdagrad)(_\d+)?|"
    r"exp_avg|exp_avg_sq|max_exp_avg_sq|momentum_buffer|square_avg|acc_delta"
)
_AVERAGE = "ExponentialMovingAverage"
_TRAINING = re.compile(r"(.*/)?(beta\d_power(_\d+)?|global_step|learning_rate|save_counter)")
_OBJECT = "/.ATTRIBUTES/VARIABLE_VALUE"  # in a checkpoint of objects (tf.train.Checkpoint)


def _sift(
    request: Request, names: Mapping[str, Any], others: Mapping[str, str]
) -> tuple[dict[str, str], list[Aside]]:
    """Of each name that counts, its spelling of today; and what was left out."""
    kept, slots, averages = {}, [], {}
    for name in (*names, *others):
        parent, _, last = name.removesuffix(_OBJECT).rpartition("." if "/" not in name else "/")
        if last == _AVERAGE:
            averages[name] = parent
        elif (
            parent in names
            or _SLOT.fullmatch(last)
            or _TRAINING.fullmatch(name.removesuffix(_OBJECT))
            or "/.OPTIMIZER_SLOT/" in name
            or (name.startswith("optimizer/") and name.endswith(_OBJECT))
        ):
            slots.append(name)
        else:
            kept[name] = _spell(name)
    aside = []
    if request.average and not averages:
        raise FileError(request.path, "has no moving averages, which average=True asks for")
    for name, parent in averages.items():
        if parent in kept and request.average:
            kept[name] = kept.pop(parent)
            aside.append(Aside(parent, "the weights of the last step; their averages are read"))
        elif parent in kept:
            aside.append(Aside(name, "a moving average; the weights themselves are read"))
        else:  # a file for use alone has the averages in the place of the weights
            kept[name] = _spell(parent)
    if slots:
        shown = ", ".join(sorted(slots)[:3]) + (" …" if len(slots) > 3 else "")
        aside.append(Aside(shown, f"what an optimizer keeps ({len(slots)} arrays)"))
    return kept, aside


def _spell(name: str) -> str:
    """Tails before TensorFlow 1.2 in today's spelling; ``/`` between parts."""
    name = name.removesuffix(_OBJECT).removesuffix(":0")
    if "/" not in name:
        name = name.replace(".", "/")
    name = name.replace("/Linear/Matrix", "/kernel").replace("/Linear/Bias", "/bias")
    name = re.sub(r"/(Gates|Candidate)/(kernel|bias)$", lambda match: match[0].lower(), name)
    return re.sub(r"/biases$", "/bias", re.sub(r"/weights$", "/kernel", name))


# TensorFlow 1: what stands below a cell's scope, and what the scope says

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
_NORM = re.compile(r"/(input|transform|forget|output|state)$")
_RECURRENT = re.compile(r"(bi|bidirectional_|stack_bidirectional_)?rnn(_\d+)?|fw|bw|cell_?\d+")
_DENSE = re.compile(
    r"(.*_)?(dense|fully_connected|fc\d*|linear|logits?|softmax|outputs?|proj|projection|head|"
    r"scores?|classifier|class(es)?|embeddings?|attention|query|wrapper|conv\dd)(_.*)?"
)


def _cut(name: str) -> tuple[str, str]:
    """Scope and tail; an empty tail if nothing of a cell stands there."""
    for tail in _TAILS:
        if name == tail or name.endswith("/" + tail):
            return name[: -len(tail)].rstrip("/"), tail
    return name.rpartition("/")[0], ""


def _gather(scopes: dict[str, dict[str, str]]) -> dict[str, dict[str, str]]:
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


def _last(scope: str) -> str:
    return _snake(re.split("[/.]", scope)[-1])


def _snake(part: str) -> str:
    """``BasicLSTMCell`` as ``basic_lstm_cell``, without the number that makes a scope unique."""
    part = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", part).lower()
    return re.sub(r"_\d+$", "", part)


def _settle(
    request: Request, scope: str, names: dict[str, str], shapes: Shapes, take: Take
) -> Layer | Aside:
    """The layer of one scope, or why it is none."""
    given = request.cells.get(scope)
    if scope in request.cells and given is None:
        return Aside(scope, "left aside, as asked for")
    parts, last = re.split("[/.]", scope), _last(scope)
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
    objects = any(name.endswith(_OBJECT) or name in known for name in names.values())  # of Keras
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
    kernel, graph = _variable(names["recurrent_kernel"]), request.graph
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
    variable = request.variables.get(kernel, "" if kernel.endswith(_OBJECT) else kernel)
    if not variable:
        return Release()
    if CELL_NAME.fullmatch(variable.split("/")[-2:][0]) and kernel in request.variables:
        return Release("sigmoid", "TensorFlow since 2.2")
    return Release("", "TensorFlow's Keras", "the program that wrote it tells")


def _facts(request: Request, names: Mapping[str, str]) -> Facts:
    """What the graph says of the cell: by its one bias, the candidate's for a GRU."""
    tails = [tail for tail in ("bias", "B", "candidate/bias") if tail in names]
    return request.graph.of(_variable(names[tails[0]])) if request.graph and tails else Facts()


def _variable(name: str) -> str:
    """The variable that an array is of, which a graph uses: not its average."""
    return name.removesuffix(f"/{_AVERAGE}")


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
