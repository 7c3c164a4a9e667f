"""Every cell as a picture: one short plan per cell, one way to draw them all.

A plan lists nodes on a grid and the wires between them by name. An outlined box is a matrix
product, a coloured tile an activation, a circle an element-wise operator, a pill a value that
enters or leaves. The thick line is the state that is carried along, a dashed one a peephole; a
tile adds up what enters it.

A colour means a role, and a letter has one colour in the whole book: what is kept of the old
state (f, z), what is written (i), the candidate (g, n), what is shown of a state (o, r). These
four are Okabe and Ito's; h is grey and c periwinkle. All six have a contrast of 3:1 with white
and with #121212, and stay 0.06 apart in Oklab (0.02 is just visible) for the colour-blind.
"""

import re
from dataclasses import dataclass
from functools import partial
from html import escape
from itertools import pairwise
from typing import NamedTuple

from ..cells import Cell

__all__ = ["COLORS", "INK", "PLANS", "Drawing", "Node", "Plan", "Wire", "draw"]

_KEEP, _WRITE, _CANDIDATE, _SHOW = "#D55E00", "#0072B2", "#009E73", "#CC79A7"
COLORS: dict[str, str] = {
    "i": _WRITE, "f": _KEEP, "g": _CANDIDATE, "o": _SHOW, "r": _SHOW, "z": _KEEP,
    "n": _CANDIDATE, "h": "#666666", "c": "#7C8DE6",
}  # fmt: skip
INK = {k: "#fff" if k in "ih" else "#000" for k in COLORS}  # for text on a colour, 4.5:1

_WORDS = {
    "x": "the input x", "h0": "the old hidden state h", "c0": "the old cell state c",
    "h": "the new hidden state h", "c": "the new cell state c", "i": "the input gate i",
    "f": "the forget gate f", "g": "the candidate g", "o": "the output gate o",
    "r": "the reset gate r", "z": "the update gate z", "n": "the candidate n",
}  # fmt: skip

_SIZES = {
    "state": (48, 30), "weights": (112, 28), "gate": (48, 46), "map": (52, 28), "op": (26, 26),
}  # fmt: skip


class Node(NamedTuple):
    """Something drawn at a place of the grid, whose step is 16 units."""

    kind: str  # "state", "weights", "gate", "map" (a function without weights) or "op"
    text: str  # "a_b" puts b below the line; the text of a gate is its function
    col: float
    row: float
    wide: float = 0  # if not as wide as others of its kind

    @property
    def size(self) -> tuple[float, float]:
        """Width and height."""
        width, height = _SIZES[self.kind]
        return self.wide or width, height


class Wire(NamedTuple):
    """A value on its way from one node to another."""

    src: str
    dst: str
    kind: str = "wire"  # "rail" for the carried state, "peephole" for a dashed line
    at: tuple[float, float] | None = None  # where it leaves a line that carries the same value
    via: tuple[tuple[float, float], ...] = ()  # its corners


class Plan(NamedTuple):
    """All that the picture of a cell and its description in words are made from."""

    title: str
    nodes: dict[str, Node]
    wires: tuple[Wire, ...]


_state, _op = partial(Node, "state"), partial(Node, "op")
_gate, _weights = partial(Node, "gate"), partial(Node, "weights")

_LSTM = Plan(
    "LSTM cell",
    {
        "c0": _state("c_t−1", 0, 0), "c": _state("c_t", 24, 0), "x": _state("x_t", 10, 17),
        "h0": _state("h_t−1", 0, 14), "h": _state("h_t", 24, 14),
        "in": _weights("[x, h] W + b", 10, 14, wide=240), "f": _gate("σ", 4, 10),
        "i": _gate("σ", 8, 10), "g": _gate("tanh", 12, 10), "o": _gate("σ", 16, 10),
        "keep": _op("×", 4, 0), "new": _op("×", 10, 3), "add": _op("+", 10, 0),
        "tanh": Node("map", "tanh", 20, 4), "out": _op("×", 20, 10),
    },
    (
        Wire("x", "in"), Wire("h0", "in"),
        Wire("in", "i"), Wire("in", "f"), Wire("in", "g"), Wire("in", "o"),
        Wire("f", "keep"), Wire("c0", "keep", "rail"), Wire("keep", "add", "rail"),
        Wire("i", "new", via=((8, 3),)), Wire("g", "new", via=((12, 3),)), Wire("new", "add"),
        Wire("add", "c", "rail"), Wire("o", "out"), Wire("add", "tanh", at=(20, 0)),
        Wire("tanh", "out"), Wire("out", "h", via=((20, 14),)),
    ),
)  # fmt: skip

_COUPLED = Plan(
    "LSTM cell with coupled input and forget gates",
    {k: v for k, v in _LSTM.nodes.items() if k != "i"} | {"rest": _op("1−", 7, 3)},
    (
        Wire("f", "rest", at=(4, 3)), Wire("rest", "new"),
        *(w for w in _LSTM.wires if "i" not in w[:2]),
    ),
)  # fmt: skip

_I_PEEPHOLE = Wire("c0", "i", "peephole", at=(3.25, 6), via=((7.25, 6),))
_F_PEEPHOLE = Wire("c0", "f", "peephole", at=(2, 0), via=((2, 6), (3.25, 6)))
_O_PEEPHOLE = Wire("add", "o", "peephole", at=(16, 0))

_GRU = Plan(
    "GRU cell, reset gate before the matrix product",
    {
        "h0": _state("h_t−1", 0, 0), "h": _state("h_t", 24, 0), "x": _state("x_t", 7, 19),
        "in": _weights("[x, h] W + b", 7, 14), "see": _weights("[x, r×h] W + b", 18, 14, wide=124),
        "r": _gate("σ", 5, 10), "z": _gate("σ", 9, 10), "n": _gate("tanh", 18, 10),
        "reset": _op("×", 5, 6), "keep": _op("×", 9, 0), "rest": _op("1−", 13, 3),
        "new": _op("×", 18, 3), "add": _op("+", 18, 0),
    },
    (
        Wire("x", "in"), Wire("h0", "in", at=(2, 0), via=((2, 14),)),
        Wire("in", "r"), Wire("in", "z"), Wire("r", "reset"), Wire("h0", "reset", at=(5, 0)),
        Wire("x", "see", at=(7, 16.75), via=((18, 16.75),)),
        Wire("reset", "see", via=((12, 6), (12, 14))), Wire("see", "n"),
        Wire("z", "keep"), Wire("h0", "keep", "rail"), Wire("keep", "add", "rail"),
        Wire("z", "rest", at=(9, 3)), Wire("rest", "new"), Wire("n", "new"), Wire("new", "add"),
        Wire("add", "h", "rail"),
    ),
)  # fmt: skip

PLANS: dict[str, Plan] = {
    "rnn": Plan(
        "Simple recurrent cell",
        {
            "h0": _state("h_t−1", 0, 0), "h": _state("h_t", 24, 0), "x": _state("x_t", 8, 3),
            "in": _weights("[x, h] W + b", 8, 0), "n": _gate("tanh", 17, 0),
        },
        (Wire("x", "in"), Wire("h0", "in"), Wire("in", "n"), Wire("n", "h")),
    ),
    "lstm": _LSTM,
    "peephole": Plan(
        "LSTM cell with peepholes", _LSTM.nodes,
        (*_LSTM.wires, _I_PEEPHOLE, _F_PEEPHOLE, _O_PEEPHOLE),
    ),
    "coupled": _COUPLED,
    "coupled_peephole": Plan(
        f"{_COUPLED.title}, and peepholes", _COUPLED.nodes,
        (*_COUPLED.wires, _F_PEEPHOLE, _O_PEEPHOLE),
    ),
    "gru": _GRU,
    "gru_reset_after": Plan(
        "GRU cell, reset gate after the matrix product",
        {k: v for k, v in _GRU.nodes.items() if k != "see"}
        | {
            "hW": _weights("h W + b", 5, 3, wide=76), "sum": _op("+", 18, 14),
            "xW": _weights("x W + b", 18, 16.75, wide=76),
        },
        (
            *(w for w in _GRU.wires if "see" not in w[:2] and w[:2] != ("h0", "reset")),
            Wire("h0", "hW", at=(5, 0)), Wire("hW", "reset"),
            Wire("reset", "sum", via=((12, 6), (12, 14))),
            Wire("x", "xW", at=(7, 16.75)), Wire("xW", "sum"), Wire("sum", "n"),
        ),
    ),
}  # fmt: skip


def _say(plan: Plan, name: str, whole: bool = False) -> str:
    """What a node computes, in words; `whole` says of what a new state is made."""
    node = plan.nodes[name]
    if node.kind in ("gate", "state"):
        return name if node.kind == "gate" else _WORDS[name]
    for wire in plan.wires:
        if not whole and wire.src == name and plan.nodes[wire.dst].kind == "state":
            return _WORDS[wire.dst]
    args = [_say(plan, w.src) for w in plan.wires if w.dst == name]
    if node.text in "×+":
        return {"×": " times ", "+": ", plus "}[node.text].join(args)
    if node.kind == "weights":
        return f"a weighted sum of {' and '.join(args)}"
    return {"1−": "(1 minus {})", "tanh": "tanh of {}"}[node.text].format(*args)


def _describe(plan: Plan) -> str:
    """The flow in a few sentences, for those who do not see the picture."""
    into: dict[str, list[str]] = {}
    states = []
    for src, dst, kind, *_ in plan.wires:
        node, value = plan.nodes[dst], _say(plan, src)
        if kind == "peephole":
            into.setdefault(f"also goes {value}, by a dashed peephole", []).append(_WORDS[dst])
        elif node.kind == "gate":
            function = node.text.replace("σ", "sigmoid")
            into.setdefault(f"goes {value}", []).append(f"{_WORDS[dst]} ({function})")
        elif node.kind == "state":
            states.append(f"{_WORDS[dst]} is {_say(plan, src, whole=True)}")
    words = [plan.title]
    for value, gates in into.items():
        rest, _, last = ", ".join(gates).rpartition(", ")
        words.append(f"Into {rest}{' and ' if rest else ''}{last} {value}")
    return ". ".join([*words, "; ".join(states).capitalize()]) + "."


def _news(plan: Plan, base: Plan) -> tuple[list[str], list[Wire]]:
    """The nodes and the wires that a plan has and the other one has not."""
    nodes = [k for k, v in plan.nodes.items() if k not in base.nodes or v[:2] != base.nodes[k][:2]]
    known = [w[:2] for w in base.wires]
    return nodes, [w for w in plan.wires if w[:2] not in known]


def _compare(plan: Plan, name: str) -> str:
    """What is new and what is gone, in words; nothing if nothing is."""
    out, base = "", PLANS[name]
    for word, a, b in ("New (thick lines)", plan, base), ("Gone", base, plan):
        nodes, wires = _news(a, b)
        what = [_WORDS.get(k) or _say(a, k) for k in nodes if a.nodes[k].text not in "×+"]
        what += [
            f"the {w.kind} from {_say(a, w.src)} to {_WORDS[w.dst]}"
            for w in wires
            if a.nodes[w.dst].kind == "gate" and not {w.src, w.dst} & set(nodes)
        ]
        out += f" {word}, compared with {name}: {'; '.join(what)}." if what else ""
    return out


_WIDTH = 440  # of one cell, in drawing units
_SIZE, _SMALL = 18, 15  # of text
_FONT = "Cambria, 'Times New Roman', 'Liberation Serif', Times, serif"
_STROKE = {"wire": 1.8, "peephole": 1.8, "rail": 3.2}
_NEW = 1.8  # what is new has a line thicker by this

# Points are complex numbers, x to the right and y down, so a direction is a number too.


def _at(col: float, row: float) -> complex:
    return complex(28 + 16 * col, 16 * row)


def _xy(p: complex) -> str:
    return f"{p.real:g},{p.imag:g}"


def _way(a: complex, b: complex) -> complex:
    return (b - a) / abs(b - a)


def _path(plan: Plan, wire: Wire) -> list[complex]:
    """The corners of a wire, from border to border."""
    a, b = plan.nodes[wire.src], plan.nodes[wire.dst]
    path = [_at(*p) for p in (wire.at or (a.col, a.row), *wire.via, (b.col, b.row))]
    for node, fixed in ((a, wire.at), (b, None)):
        if not fixed:
            center, half = path[0], (node.size[0] / 2, node.size[1] / 2)
            anywhere = node.kind == "weights" or wire.kind == "peephole"
            reach = half[0] - 8 if anywhere else 0  # how far from the middle of a side
            x = min(max(path[1].real, center.real - reach), center.real + reach)
            way = _way(complex(x, center.imag), path[1])
            x = center.real + way.real * half[0] if way.real else x
            path[0] = complex(x, center.imag + way.imag * half[1])
        path.reverse()
    return path


def _crossings(a: complex, b: complex, paths: list[list[complex]]) -> list[float]:
    """Where the level piece from a to b meets an upright piece of another wire."""
    return [
        p.real
        for path in paths
        for p, q in pairwise(path)
        if p.real == q.real
        and min(a.real, b.real) < p.real < max(a.real, b.real)
        and min(p.imag, q.imag) < a.imag < max(p.imag, q.imag)
    ]


def _line(path: list[complex], others: list[list[complex]], width: float, dash: str) -> str:
    """A wire with round corners, a small bridge over each wire that it crosses, and an arrow."""
    line = f"M{_xy(path[0])}"
    for k, (a, b) in enumerate(pairwise(path), 2):
        way = _way(a, b)
        for x in sorted(_crossings(a, b, others), key=lambda x: x * way.real) if way.real else ():
            line += f"H{x - 7 * way.real:g}a7 7 0 0 {int(way.real > 0)} {14 * way.real:g} 0"
        if k < len(path):
            line += f"L{_xy(b - 8 * way)}Q{_xy(b)} {_xy(b + 8 * _way(b, path[k]))}"
    head = (6 + 1.6 * width) * way
    return (
        f'<path d="{line}L{_xy(b - head / 2)}" stroke-width="{width:g}"{dash}/>'
        f'<path d="M{_xy(b)}L{_xy(b - head * (1 + 0.5j))} {_xy(b - head * (1 - 0.5j))}z"'
        ' fill="currentColor" stroke="none"/>'
    )


def _text(p: complex, text: str, ink: str, more: str = "") -> str:
    """Centred text: single letters slanted, what follows "_" smaller and lower."""
    slanted = r'<tspan font-style="italic">\g<0></tspan>'
    main, low = (re.sub(r"\b[a-zA-Z]\b", slanted, s) for s in escape(text + "_").split("_")[:2])
    if low:
        main += f'<tspan font-size="{_SMALL}" dy="4">{low}</tspan>'
    return f'<text x="{p.real:g}" y="{p.imag:g}" fill="{ink}" stroke="none"{more}>{main}</text>'


def _node(name: str, node: Node, new: bool) -> str:
    p, (width, height) = _at(node.col, node.row), node.size
    radius = 7 if node.kind in ("weights", "gate") else height / 2
    letter = name.rstrip("0")
    color, ink = COLORS.get(letter, "none"), INK.get(letter, "currentColor")
    shape = (
        f'<rect x="{p.real - width / 2:g}" y="{p.imag - height / 2:g}" rx="{radius:g}"'
        f' width="{width:g}" height="{height:g}" fill="{color}"'
        f' stroke-width="{_STROKE["wire"] + _NEW * new:g}"/>'
    )
    if node.kind == "gate":
        bold = ' font-weight="bold"'
        return shape + _text(p - 3j, name, ink, bold) + _text(p + 15j, node.text, ink)
    if node.text in "×+":  # drawn, since fonts disagree on where the middle of a sign is
        sign = "m-5-5 10 10m-10 0 10-10" if node.text == "×" else "m-6.5 0h13m-6.5-6.5v13"
        return f'{shape}<path d="M{_xy(p)}{sign}" stroke-width="2"/>'
    if node.kind == "op":
        return shape + _text(p + 4.5j, node.text, ink, f' font-size="{_SMALL}"')
    return shape + _text(p + (4j if node.kind == "state" else 5.5j), node.text, ink)


def _picture(name: str, base: str) -> tuple[str, float]:
    """The inside of the SVG of a cell, and its height."""
    plan = PLANS[name]
    nodes, wires = _news(plan, PLANS[base])
    paths = [_path(plan, w) for w in plan.wires]
    top = min(16 * n.row - n.size[1] / 2 for n in plan.nodes.values()) - 12
    tall = 16 * plan.nodes["x"].row - 15 - top
    out = (
        f'<g transform="translate(0 {2 - top:g})"><rect x="52" y="{top:g}" width="336"'
        f' height="{tall:g}" rx="14" fill="currentColor" fill-opacity=".05" stroke="none"/>'
    )
    for wire, path in zip(plan.wires, paths, strict=True):
        width = _STROKE[wire.kind] + _NEW * (wire in wires)
        dash = ' stroke-dasharray="5 4"' if wire.kind == "peephole" else ""
        out += _line(path, [p for p in paths if p is not path], width, dash)
        if wire.at:
            x, y = path[0].real, path[0].imag
            out += f'<circle cx="{x:g}" cy="{y:g}" r="3.8" fill="currentColor" stroke="none"/>'
    return out + "".join(_node(k, v, k in nodes) for k, v in plan.nodes.items()) + "</g>", tall + 34


def _svg(width: float, height: float, alt: str, body: str, more: str = "") -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}"{more}'
        f' role="img" aria-label="{escape(alt)}" font-family="{_FONT}" font-size="{_SIZE}"'
        f' text-anchor="middle" fill="none" stroke="currentColor">{body}</svg>'
    )


@dataclass(frozen=True, repr=False)
class Drawing:
    """Drawn cells: a picture in a notebook, a description as text. Made by `draw`."""

    names: tuple[str, ...]

    def _alts(self) -> list[str]:
        return [_describe(PLANS[k]) + _compare(PLANS[k], self.names[0]) for k in self.names]

    def __str__(self) -> str:
        return " ".join(self._alts())

    __repr__ = __str__

    @property
    def svg(self) -> str:
        """The picture as one SVG file; its lines have the text colour of the place it is in."""
        bodies, heights = zip(*(_picture(k, self.names[0]) for k in self.names), strict=True)
        step = _WIDTH + 40
        moved = (f'<g transform="translate({step * k} 0)">{b}</g>' for k, b in enumerate(bodies))
        return _svg(step * len(bodies) - 40, max(heights), str(self), "".join(moved))

    def _repr_html_(self) -> str:
        out, box = "", "display:flex;flex-wrap:wrap;justify-content:center;gap:1rem"
        figure = "flex:1 1 300px;min-width:0;max-width:480px;margin:0;text-align:center"
        style = ' style="display:block;width:100%;height:auto"'
        for name, alt in zip(self.names, self._alts(), strict=True):
            body, height = _picture(name, self.names[0])
            out += f'<figure style="{figure}">{_svg(_WIDTH, height, alt, body, style)}'
            if len(self.names) > 1:
                out += f'<figcaption style="color:inherit">{name}</figcaption>'
            out += "</figure>"
        return f'<div class="lstmbook-draw" style="{box}">{out}</div>'


def draw(*cells: Cell | str) -> Drawing:
    """Draw a cell, or several side by side with what the first one has not in thick lines.

    Parameters
    ----------
    *cells
        Names in `PLANS`, or modules of `lstmbook.cells`.

    Returns
    -------
    Drawing
        Let it be the last line of a notebook cell; ``.svg`` is a file, ``str()`` a description.

    Raises
    ------
    ValueError
        If a cell has no plan, or if there is no cell at all.
    """
    names = tuple(
        c if isinstance(c, str) else getattr(c, "__name__", repr(c)).rpartition(".")[2]
        for c in cells
    )
    for name in names or ("",):
        if name not in PLANS:
            raise ValueError(f"there is no drawing of {name!r}; the cells are {', '.join(PLANS)}")
    return Drawing(names)
