"""Every cell as a picture: one way to draw all the plans.

A colour means a role, and a letter has one colour in the whole book: what is kept of the old
state (f, z), what is written (i), the candidate (g, n), what is shown of a state (o, r). These
four are Okabe and Ito's; h is grey and c periwinkle. All six have a contrast of 3:1 with white
and with #121212, and stay 0.06 apart in Oklab (0.02 is just visible) for the colour-blind.
"""

import re
from dataclasses import dataclass
from html import escape
from itertools import pairwise

from ..cells import Cell
from .plans import PLANS, Node, Plan, Wire, news
from .words import compare_plans, describe

__all__ = ["COLORS", "INK", "PLANS", "Drawing", "Node", "Plan", "Wire", "draw"]

_KEEP, _WRITE, _CANDIDATE, _SHOW = "#D55E00", "#0072B2", "#009E73", "#CC79A7"
COLORS: dict[str, str] = {
    "i": _WRITE, "f": _KEEP, "g": _CANDIDATE, "o": _SHOW, "r": _SHOW, "z": _KEEP,
    "n": _CANDIDATE, "h": "#666666", "c": "#7C8DE6",
}  # fmt: skip
INK = {k: "#fff" if k in "ih" else "#000" for k in COLORS}  # for text on a colour, 4.5:1

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
    nodes, wires = news(plan, PLANS[base])
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
        return [describe(PLANS[k]) + compare_plans(PLANS[k], self.names[0]) for k in self.names]

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
