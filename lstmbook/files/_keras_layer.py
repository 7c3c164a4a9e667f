"""One layer of Keras: by its arrays alone, or as a configuration says.

The arrays say the cell, not its activations. What a layer has unless it is told otherwise differs
from release to release: until Keras 2.3 and TensorFlow 2.0 the gates of LSTM and GRU had
hard_sigmoid, since then sigmoid. SimpleRNN had tanh in all of them (from Keras 1 on, the oldest
that is read), and the CuDNN layers have no choice.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..cells._activations import Array
from ._base import Layer, Request, ambiguous, as_given, make, refuse, shapes_in_words

CELL_NAME = re.compile(r"(lstm|gru|simple_rnn|peephole_lstm)_cell(_\d+)?")  # in names of arrays
# The layers that a cell here computes; an LSTMCell counts as the LSTM that runs it.
CLASSES = {"SimpleRNN": "rnn", "LSTM": "lstm", "GRU": "gru", "CuDNNLSTM": "lstm", "CuDNNGRU": "gru"}


class Release(NamedTuple):
    """The Keras that wrote a layer, by what its gates have unless they are told otherwise."""

    gates: str = "sigmoid"  # or "hard_sigmoid"; "" if it is one of them and nothing tells which
    words: str = ""  # which release that is; "" if nothing tells
    tells: str = "the model's configuration tells (the JSON of model.to_json(), given as config)"


NUMBERED = Release("sigmoid", "Keras since 2.12")  # that wrote arrays by number


def release_of(version: str | None) -> Release:
    """The release by ``keras_version``; Keras 1 wrote none beside weights."""
    if version is None:
        return Release("hard_sigmoid", "Keras 1")
    number = re.match(r"(\d+)\.(\d+)", version)
    if not number:
        return Release("", f"a Keras that calls itself {version!r}")
    if version == "2.2.4-tf":
        return Release("", "Keras 2.2.4-tf (TensorFlow 1.13 to 2.1)")
    old = (int(number[1]), int(number[2])) < (2, 3)
    return Release("hard_sigmoid" if old else "sigmoid", f"Keras {version}")


class Leaf(NamedTuple):
    """What a configuration says of one layer that has weights."""

    place: tuple[str, ...]  # where Keras 3 stores it
    names: tuple[str, ...]  # of the layers around it, and its own
    kind: str  # its class
    config: Mapping[str, Any]
    reverse: bool

    @property
    def activations(self) -> dict[str, str]:
        """The activations that its class has, as it calls them; "" where it does not say one."""
        if self.kind.startswith("CuDNN"):
            return {}
        gates = "inner_activation" if "inner_activation" in self.config else "recurrent_activation"
        keys = ["activation"] if self.kind == "SimpleRNN" else ["activation", gates]
        return {key: _word(self.config[key]) if key in self.config else "" for key in keys}


def _word(activation: Any) -> str:
    """An activation's name, however Keras wrote it down."""
    if isinstance(activation, dict):
        config = activation.get("config")
        activation = config if isinstance(config, str) else activation.get("class_name")
    return str(activation).lower()


def by_config(
    request: Request,
    name: str,
    leaf: Leaf,
    arrays: Mapping[str, Array],
    release: Release,
    source: str = "",
) -> Layer:
    """A layer as its configuration says; ``source`` says which one that is, if not the file's."""
    wrong = [
        f"{key}={word!r}"
        for key, word in leaf.activations.items()
        if word not in ("", "tanh" if key == "activation" else "sigmoid")
    ]
    note = ""
    if leaf.reverse and "backward_layer" not in leaf.place:
        note = "go_backwards: Keras gives the outputs of this layer last step first"
    if wrong:
        nearest = CLASSES.get(leaf.kind)
        why = f"{leaf.kind} with {', '.join(wrong)}: the cells here have tanh and sigmoid"
        why += f"; nearest is {nearest}, a different function" if nearest else ""
        layer = refuse(name, "keras", why, reverse=leaf.reverse)
    elif leaf.kind not in CLASSES:
        layer = _of_no_class(request, name, leaf, arrays)
    else:
        layer = by_arrays(
            request,
            name,
            arrays,
            reverse=leaf.reverse,
            release=release if "" in leaf.activations.values() else None,
            gru="gru_reset_after" if leaf.config.get("reset_after") else "gru",
            note=note,
            silent="its configuration does not say all",
        )
    return layer._replace(note="; ".join(filter(None, [layer.note, source])))


def _of_no_class(request: Request, name: str, leaf: Leaf, arrays: Mapping[str, Array]) -> Layer:
    """A layer of a class that is not Keras' own."""
    layer = by_arrays(request, name, arrays, reverse=leaf.reverse)
    if name in request.cells:
        return layer
    candidates = (layer.cell,) if layer.cell else layer.candidates
    if not candidates:
        return layer._replace(note=f"{leaf.kind}, which no cell here computes")
    what = f"{leaf.kind} is no class of Keras' own; its arrays are those of"
    return ambiguous(
        name, "keras", candidates, f"{what} {' or '.join(candidates)}", reverse=leaf.reverse
    )


def by_arrays(
    request: Request,
    name: str,
    arrays: Mapping[str, Array],
    *,
    reverse: bool,
    release: Release | None = None,
    gru: str | None = None,
    note: str = "",
    side: str = "",
    silent: str = "no configuration in the file",
) -> Layer:
    """A layer from ``kernel``, ``recurrent_kernel`` and ``bias``, told by shapes alone.

    The recurrent kernel is ``(hidden, gates * hidden)``, and the numbers of gates differ: 1, 4, 3.
    Which of the two GRUs it is, the bias tells; ``gru`` says it where there is none. With a
    ``release`` nothing tells the activations, and they are its defaults; without, they are known to
    be tanh and sigmoid. ``side`` is what is assumed of the direction, and ``silent`` says why.
    """
    shapes = {key: np.shape(array) for key, array in arrays.items()}
    what = shapes_in_words(shapes)
    recurrent, bias = shapes.get("recurrent_kernel", ()), shapes.get("bias")
    hidden, columns = recurrent if len(recurrent) == 2 else (0, 0)
    gates = columns // hidden if hidden and columns % hidden == 0 else 0
    cell = {1: "rnn", 3: "gru", 4: "lstm"}.get(gates)
    if cell is None or set(arrays) - {"kernel", "recurrent_kernel", "bias"}:
        why = f"{what}: not the arrays of SimpleRNN, LSTM or GRU"
        return refuse(name, "keras", why, reverse=reverse)
    cudnn = gates > 1 and bias == (2 * columns,)
    given = request.cells.get(name)
    candidates: tuple[str, ...] = (cell,)
    if cell == "gru" and bias != (columns,):
        candidates = ("gru_reset_after",) if bias else (gru,) if gru else ("gru_reset_after", "gru")
    undecided, assumed = [], []
    if len(candidates) > 1:
        why = "is a GRU without bias, and only the bias tells where its reset gate is"
        undecided.append(f"{what} {why}")
    if release and not cudnn:
        if gates > 1 and release.gates != "sigmoid":
            undecided.append(f"{silent}, and {_old(release)}")
        by_default = f" (the default of {release.words})" if release.words and gates > 1 else ""
        assumed.append("tanh" if gates == 1 else f"tanh and sigmoid{by_default}")
    if undecided and not given:
        return ambiguous(name, "keras", candidates, "; ".join(undecided), reverse=reverse)
    assumed = [] if given else assumed
    assumed += [side] * bool(side)
    return make(
        name,
        given or candidates[0],
        "keras_cudnn" if cudnn else "keras",
        arrays,
        reverse=reverse,
        note="; ".join(filter(None, [as_given(given), note])),
        assumed=[f"{silent}: {' and '.join(assumed)} assumed"] if assumed else [],
    )


def side_of(names: Sequence[str], place: Sequence[str] = ()) -> tuple[bool, str]:
    """Whether a layer runs backward, by the names around it, and what of it is assumed.

    The halves of a bidirectional layer are called so; go_backwards is in no name.
    """
    for half in ("forward_layer", "backward_layer"):
        if half in place:
            return half == "backward_layer", ""
    for k, part in enumerate(names):
        found = re.fullmatch(r"(?i)(?:(forward|backward)_.*|(fw|bw))", part)
        if found:
            way = "backward" if part.lower().startswith("b") else "forward"
            # Within another layer, or by TensorFlow's bidirectional_rnn
            certain = k > 0 or found[2]
            return way == "backward", "" if certain else f"the {way} direction, by its name,"
    return False, "the forward direction"


def _old(release: Release) -> str:
    """Why the gates of a layer can have hard_sigmoid, and what would tell."""
    default = "took hard_sigmoid for the gates unless told otherwise"
    if not release.gates:
        default = "took hard_sigmoid for the gates until Keras 2.3 or TensorFlow 2.0, then sigmoid"
    return (
        f"{release.words} {default}; no cell here has hard_sigmoid, so name one only if the gates "
        f"had sigmoid; {release.tells}"
    )
