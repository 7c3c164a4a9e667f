"""What the names of arrays tell: which of them are recurrent layers, and of which cell.

A TensorFlow checkpoint, a PyTorch state dict and an ``.npz`` are lists of names and arrays, with
no word on what made them. PyTorch's names and Keras' are unmistakable. TensorFlow 1 has the cell's
class at the end of its scope (``rnn/basic_lstm_cell/kernel``), unless its maker gave it another
name; what then fits more than one cell is reported as ambiguous.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from ._base import Aside, FileError, Layer, Request, Shapes, Take, assume, refuse, shapes_in_words
from ._graph_reads import Reads
from ._tf1_names import AVERAGE, FOREIGN, NORM, OBJECT, cut, gather, last_part, settle, variable_of
from ._torch_names import torch_layers


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
        scope, tail = cut(clean)
        group = scopes if tail else loose
        last = tail or clean[len(scope) :].lstrip("/")
        group.setdefault(name[: len(scope)], {})[last] = name
    for scope in list(scopes):
        if set(scopes[scope]) <= {"bias", "B"} and not FOREIGN.fullmatch(last_part(scope)):
            loose.setdefault(scope, {}).update(scopes.pop(scope))
    normalised = {parent.rpartition("/")[0] for parent in loose if NORM.search(parent)}
    for scope, names in gather(scopes).items():
        tails = {tail: shapes[name] for tail, name in names.items()}
        if scope in normalised and scope not in request.cells:
            found: Layer | Aside = refuse(
                scope, "tf1", "has layer normalisation, which no cell here computes"
            )
        else:
            found = settle(request, scope, names, tails, take)
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
            kernels[scope] = (variable_of(own), variable_of(other))
    kernels = {layer.name: kernels[layer.name] for layer in layers if layer.name in kernels}
    reads = Reads(request.graph, kernels) if request.graph else None
    if reads:  # a name can be wrong, and the graph is not
        layers = [x._replace(reverse=x.reverse and not reads.never_turned(x.name)) for x in layers]
    backward = {layer.name: layer.reverse for layer in layers}
    for layer in layers:
        found = reads and reads.of(layer.name, backward)
        if found:
            yield layer._replace(reads=found[0], between=found[1])
            continue
        match = _STACK.fullmatch(layer.name)
        below = f"{match['stack']}{int(match['k']) - 1}/" if match else None
        before = tuple(other.name for other in layers if below and other.name.startswith(below))
        if len(before) == (2 if below and "stack_bidirectional_rnn" in below else 1):
            what = f"reads {' and '.join(before)} by its name: what may stand between is not seen"
            yield assume(layer._replace(reads=before), what)
        else:
            yield layer


def _forward(name: str) -> str:
    """What the names of the two halves of a layer have in common."""
    return re.sub(r"(?i)(^|/)([fb]w|(for|back)ward_layer)(/.*|$)|_reverse$", "", name)


# Names without optimizers' slots and averages, in today's spelling

_SLOT = re.compile(
    r"(Adam|AdamW|AdaMax|Adagrad|Adadelta|Momentum|RMSProp|Ftrl|ProximalAdagrad)(_\d+)?|"
    r"exp_avg|exp_avg_sq|max_exp_avg_sq|momentum_buffer|square_avg|acc_delta"
)
_TRAINING = re.compile(r"(.*/)?(beta\d_power(_\d+)?|global_step|learning_rate|save_counter)")


def _sift(
    request: Request, names: Shapes, others: Mapping[str, str]
) -> tuple[dict[str, str], list[Aside]]:
    """Of each name that counts, its spelling of today; and what was left out."""
    kept, slots, averages = {}, [], {}
    for name in (*names, *others):
        parent, _, last = name.removesuffix(OBJECT).rpartition("." if "/" not in name else "/")
        if last == AVERAGE:
            averages[name] = parent
        elif (
            parent in names
            or _SLOT.fullmatch(last)
            or _TRAINING.fullmatch(name.removesuffix(OBJECT))
            or "/.OPTIMIZER_SLOT/" in name
            or (name.startswith("optimizer/") and name.endswith(OBJECT))
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
    name = name.removesuffix(OBJECT).removesuffix(":0")
    if "/" not in name:
        name = name.replace(".", "/")
    name = name.replace("/Linear/Matrix", "/kernel").replace("/Linear/Bias", "/bias")
    name = re.sub(r"/(Gates|Candidate)/(kernel|bias)$", lambda match: match[0].lower(), name)
    return re.sub(r"/biases$", "/bias", re.sub(r"/weights$", "/kernel", name))
