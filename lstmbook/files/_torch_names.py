"""Recurrent layers by PyTorch's names of their arrays, such as ``encoder.weight_ih_l0``."""

from __future__ import annotations

import re

from ._base import Layer, Request, Shapes, Take, as_given, make, refuse, shapes_in_words
from ._torch_weights import worked_out

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
