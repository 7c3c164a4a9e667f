"""The drawings say what the cells compute, and can be read."""

import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from itertools import combinations, pairwise, product

import numpy as np
import pytest

import lstmbook
from lstmbook.cells import CELLS, peephole
from lstmbook.showing.draw import COLORS, INK, PLANS, draw

DARK, WHITE = "#121212", "#ffffff"
SVG = "{http://www.w3.org/2000/svg}"


def parse(name: str) -> ET.Element:
    return ET.fromstring(draw(name).svg)


# What is drawn


MAPS = {
    "×": np.multiply,
    "+": np.add,
    "1−": lambda v: 1 - v,
    "tanh": np.tanh,
    "σ": lambda z: 1 / (1 + np.exp(-z)),
    "h_t": np.positive,
    "c_t": np.positive,
}


def evaluate(name: str, params, x, state):
    """Run the plan itself: what its wires and nodes compute, with the weights of the cell."""
    plan, cell = PLANS[name], CELLS[name]
    given = {"x": x, "h0": state.h, "c0": getattr(state, "c", None)}

    def value(node: str, gate: str):
        kind, text, *_ = plan.nodes[node]
        wires = [w for w in plan.wires if w.dst == node]
        if not wires:
            return given[node]
        if kind == "weights":  # one matrix for all gates; what counts is the gate it goes to
            k = cell.GATES.index(gate)
            b = params.b_hn if node == "hW" else params.b[k]
            return b + sum(
                value(w.src, gate) @ (params.W_x if w.src == "x" else params.W_h)[k] for w in wires
            )
        if kind == "gate":
            z = sum(
                value(w.src, node)
                * (params.p[cell.PEEPHOLES.index(node)] if w.kind == "peephole" else 1)
                for w in wires
            )
            return MAPS[text](z)
        return MAPS[text](*(value(w.src, gate) for w in wires))

    return [value(field, "") for field in state._fields]


@pytest.mark.parametrize("name", CELLS)
def test_the_drawing_computes_what_the_cell_computes(name):
    rng, cell = np.random.default_rng(0), CELLS[name]
    params = cell.init(rng, 3, 4, np.float64)
    params = type(params)(*(rng.normal(size=a.shape) for a in params))
    state = cell.State(*(rng.normal(size=(2, 4)) for _ in cell.State._fields))
    x = rng.normal(size=(2, 3))
    for ours, theirs in zip(
        evaluate(name, params, x, state), cell.step(params, x, state)[1], strict=True
    ):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-12)


def test_every_cell_has_a_plan():
    assert set(PLANS) == set(CELLS)


@pytest.mark.parametrize("name", PLANS)
def test_gates_are_labelled_tiles_in_their_colour(name):
    plan, svg = PLANS[name], parse(name)
    tiles = {k for k, node in plan.nodes.items() if node.kind == "gate"}
    assert tiles == set(CELLS[name].GATES)
    texts = {(float(t.get("x")), "".join(t.itertext())) for t in svg.iter(f"{SVG}text")}
    for gate in tiles:
        (tile,) = (r for r in rects(svg, gate=True) if r[4] == COLORS[gate])
        middle = (tile[0] + tile[2]) / 2
        assert {(middle, gate), (middle, plan.nodes[gate].text)} <= texts


@pytest.mark.parametrize("name", PLANS)
def test_all_ends_meet_and_nothing_is_left_over(name):
    plan = PLANS[name]
    ends = set(CELLS[name].State._fields)
    assert {w.src for w in plan.wires} == set(plan.nodes) - ends
    assert {w.dst for w in plan.wires} == set(plan.nodes) - {"x", "h0", "c0"}


@pytest.mark.parametrize("name", ["peephole", "coupled_peephole"])
def test_the_line_to_o_leaves_the_rail_after_the_addition(name):
    plan = PLANS[name]
    peepholes = {w.dst: w for w in plan.wires if w.kind == "peephole"}
    add = plan.nodes["add"]
    assert peepholes["o"].at[0] > add.col
    assert peepholes["o"].at[1] == add.row
    assert peepholes["f"].at[0] < plan.nodes["keep"].col


# How it is drawn


def luminance(color: str) -> float:
    return float(np.dot(linear(color), [0.2126, 0.7152, 0.0722]))


def linear(color: str) -> np.ndarray:
    digits = color[1:] if len(color) == 7 else "".join(c * 2 for c in color[1:])
    v = np.array([int(digits[k : k + 2], 16) for k in (0, 2, 4)]) / 255
    return np.where(v <= 0.04045, v / 12.92, ((v + 0.055) / 1.055) ** 2.4)


def contrast(a: str, b: str) -> float:
    """The contrast ratio of WCAG 2."""
    low, high = sorted((luminance(a), luminance(b)))
    return (high + 0.05) / (low + 0.05)


def test_contrast_is_that_of_wcag():
    assert contrast("#000", WHITE) == pytest.approx(21)
    assert contrast("#777777", "#fff") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("letter", COLORS)
def test_colours_have_contrast(letter):
    assert contrast(COLORS[letter], INK[letter]) >= 4.5
    assert contrast(COLORS[letter], WHITE) >= 3
    assert contrast(COLORS[letter], DARK) >= 3


def test_a_colour_is_a_role():
    assert set(COLORS) == set(INK) == set("ifgorznhc")
    assert COLORS["f"] == COLORS["z"]
    assert COLORS["g"] == COLORS["n"]
    assert COLORS["o"] == COLORS["r"]
    for plan in PLANS.values():
        letters = sorted({k.rstrip("0") for k in plan.nodes} & set(COLORS))
        assert len({COLORS[k] for k in letters}) == len(letters)


OKLAB = (
    [[0.4122, 0.5363, 0.0514], [0.2119, 0.6807, 0.1074], [0.0883, 0.2817, 0.6300]],
    [[0.2105, 0.7936, -0.0041], [1.9780, -2.4286, 0.4506], [0.0259, 0.7828, -0.8087]],
)
SEEN = {  # Machado, Oliveira and Fernandes (2009), severity 1
    "normal": np.eye(3),
    "protan": [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]],
    "deutan": [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]],
    "tritan": [[1.256, -0.077, -0.179], [-0.078, 0.931, 0.148], [0.005, 0.691, 0.304]],
}


@pytest.mark.parametrize("eye", SEEN)
def test_colours_differ_for_every_eye(eye):
    def oklab(color: str) -> np.ndarray:
        seen = np.clip(np.dot(SEEN[eye], linear(color)), 0, 1)
        return np.dot(OKLAB[1], np.cbrt(np.dot(OKLAB[0], seen)))

    for a, b in combinations("ifgohc", 2):
        assert np.linalg.norm(oklab(COLORS[a]) - oklab(COLORS[b])) >= 0.06, (a, b)


def rects(svg: ET.Element, *, gate: bool = False, frame: bool = False):
    """The boxes: left, top, right, bottom, fill."""
    for r in svg.iter(f"{SVG}rect"):
        x, y, width, height = (float(r.get(k)) for k in ("x", "y", "width", "height"))
        if (frame or width < 300) and (not gate or height == 46):
            yield x, y, x + width, y + height, r.get("fill")


NARROW = dict.fromkeys(" ,[]()", 0.35) | {"W": 0.95, "m": 0.85}


def text_boxes(svg: ET.Element):
    """Where the texts are, generously: left, top, right, bottom, text."""
    for t in svg.iter(f"{SVG}text"):
        assert t.get("font-size") is None or float(t.get("font-size")) >= 15
        x, y = float(t.get("x")), float(t.get("y"))
        size = float(t.get("font-size") or svg.get("font-size"))
        width = sum(NARROW.get(c, 0.56) for c in "".join(t.itertext())) * size
        yield x - width / 2, y - 0.72 * size, x + width / 2, y + 0.25 * size, "".join(t.itertext())


@pytest.mark.parametrize("name", PLANS)
def test_texts_are_clear_of_each_other_and_of_every_edge(name):
    svg = parse(name)
    for a, b in combinations(text_boxes(svg), 2):
        assert a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1], (a, b)
    for text, box in product(text_boxes(svg), rects(svg)):
        inside = box[0] < text[0] and text[2] < box[2] and box[1] < text[1] and text[3] < box[3]
        apart = text[2] < box[0] or box[2] < text[0] or text[3] < box[1] or box[3] < text[1]
        assert inside or apart, (text, box)
    width, height = (float(v) for v in svg.get("viewBox").split()[2:])
    shift = float(re.findall(r"translate\(0 ([\d.-]+)\)", draw(name).svg)[-1])
    for left, top, right, bottom, _ in (*text_boxes(svg), *rects(svg, frame=True)):
        assert left >= 2
        assert right <= width - 2
        assert top + shift >= 2
        assert bottom + shift <= height - 2


def pieces(svg: ET.Element):
    """The straight pieces of every wire, one list a wire."""
    for path in svg.iter(f"{SVG}path"):
        d = path.get("d")
        if path.get("fill") is None and "m" not in d:  # no arrow head, no sign
            d = re.sub(r"H[\d.-]+a[^LHQ]*", "", d)  # a bridge is on the line
            at = [tuple(map(float, p)) for p in re.findall(r"([\d.-]+),([\d.-]+)", d)]
            yield list(pairwise(at))


@pytest.mark.parametrize("name", PLANS)
def test_wires_end_at_nodes_and_run_through_none(name):
    svg = parse(name)
    wires = list(pieces(svg))
    assert len(wires) == len(PLANS[name].wires)
    boxes = list(rects(svg))
    for wire in wires:
        for (x, y), (u, v) in wire:
            assert x == u or y == v or max(abs(x - u), abs(y - v)) == 8  # or round a corner
            for left, top, right, bottom, _ in boxes:
                assert (
                    max(x, u) <= left
                    or min(x, u) >= right
                    or max(y, v) <= top
                    or min(y, v) >= bottom
                ), ((x, y), (u, v))
    heads = [p.get("d") for p in svg.iter(f"{SVG}path") if p.get("fill") == "currentColor"]
    for head in heads:
        x, y = map(float, re.match(r"M([\d.-]+),([\d.-]+)", head).groups())
        assert any(
            (x in (b[0], b[2]) and b[1] <= y <= b[3]) or (y in (b[1], b[3]) and b[0] <= x <= b[2])
            for b in boxes
        ), head


def on(x: float, y: float, piece) -> bool:
    (a, b), (c, d) = piece
    return min(a, c) <= x <= max(a, c) and min(b, d) <= y <= max(b, d)


@pytest.mark.parametrize("name", PLANS)
def test_a_branch_leaves_a_line_with_the_same_value(name):
    svg, plan = parse(name), PLANS[name]
    wires = list(zip(plan.wires, pieces(svg), strict=True))
    starts = {wire: line[0][0] for wire, line in wires if wire.at}
    for wire, start in starts.items():
        lines = [line for other, line in wires if other.src == wire.src and other is not wire]
        assert any(on(*start, piece) for line in lines for piece in line), wire
    dots = [(float(d.get("cx")), float(d.get("cy"))) for d in svg.iter(f"{SVG}circle")]
    assert sorted(dots) == sorted(starts.values())


@pytest.mark.parametrize("name", PLANS)
def test_different_values_share_no_line_and_cross_at_most_once_by_a_bridge(name):
    needed = {"peephole": 1, "gru": 1, "gru_reset_after": 1}
    wires, found = list(zip(PLANS[name].wires, pieces(parse(name)), strict=True)), 0
    for (a, a_line), (b, b_line) in combinations(wires, 2):
        for one, two in [*product(a_line, b_line), *product(b_line, a_line)]:
            ((x, y), (u, v)), ((p, q), (r, s)) = one, two
            found += y == v and p == r and min(x, u) < p < max(x, u) and min(q, s) < y < max(q, s)
            assert a.src == b.src or not any(on(*end, two) for end in one), (a, b)
    assert found == draw(name).svg.count("a7 7 0") == needed.get(name, 0)


# As an output


@pytest.mark.parametrize("names", [*((n,) for n in PLANS), ("lstm", "peephole"), ("gru", "rnn")])
def test_well_formed_described_and_without_names_that_could_clash(names):
    drawing = draw(*names)
    html = ET.fromstring(drawing._repr_html_())
    pictures = list(html.iter(f"{SVG}svg"))
    assert len(pictures) == len(names)
    assert " ".join(p.get("aria-label") for p in pictures) == str(drawing) == repr(drawing)
    assert ET.fromstring(drawing.svg).get("aria-label") == str(drawing)
    for element in html.iter():
        assert not {"id", "class", "aria-labelledby", "href"} & set(element.attrib) or (
            element is html
        )
    assert all(p.get("role") == "img" for p in pictures)
    assert "url(" not in drawing._repr_html_()
    captions = [c.text for c in html.iter("figcaption")]
    assert captions == (list(names) if len(names) > 1 else [])


def test_lines_and_words_take_the_colour_of_the_page():
    for name in PLANS:
        svg = parse(name)
        assert svg.get("stroke") == "currentColor"
        for element in svg.iter():
            assert element.get("stroke") in (None, "none", "currentColor")
            fill = element.get("fill")
            if element.tag == f"{SVG}text" and fill != "currentColor":
                assert fill in INK.values()
            elif element.tag != f"{SVG}text":
                assert fill in (None, "none", "currentColor", *COLORS.values())


@pytest.mark.parametrize("name", PLANS)
def test_the_ink_is_the_one_for_the_colour_below(name):
    svg = parse(name)
    colored = [r for r in rects(svg) if r[4] != "none"]
    inks = {v: INK[k] for k, v in COLORS.items()}
    for t in svg.iter(f"{SVG}text"):
        x, y = float(t.get("x")), float(t.get("y"))
        below = [inks[r[4]] for r in colored if r[0] < x < r[2] and r[1] < y < r[3]]
        assert [t.get("fill")] == (below or ["currentColor"])


def test_the_same_bytes_in_every_process():
    code = (
        "from lstmbook.showing.draw import *;"
        "print(draw(*PLANS)._repr_html_(), draw('peephole').svg, draw('gru', 'lstm'))"
    )
    out = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONIOENCODING": "utf-8"},
            capture_output=True,
            check=True,
        ).stdout
        for seed in "12"
    }
    assert len(out) == 1
    assert len(out.pop()) > 10_000


def test_the_description_reads_like_the_equations():
    assert str(draw("lstm")) == (
        "LSTM cell. Into the input gate i (sigmoid), the forget gate f (sigmoid), the candidate g "
        "(tanh) and the output gate o (sigmoid) goes a weighted sum of the input x and the old "
        "hidden state h. The new cell state c is f times the old cell state c, plus i times g; "
        "the new hidden state h is o times tanh of the new cell state c."
    )
    assert "(1 minus f) times g" in str(draw("coupled"))
    assert (
        "Into the input gate i and the forget gate f also goes the old cell state c, by a dashed "
        "peephole. Into the output gate o also goes the new cell state c, by a dashed peephole."
    ) in str(draw("peephole"))
    assert (
        "Into the candidate n (tanh) goes a weighted sum of the input x and r times the old hidden "
        "state h. The new hidden state h is z times the old hidden state h, plus (1 minus z) times "
        "n."
    ) in str(draw("gru"))
    assert (
        "Into the candidate n (tanh) goes r times a weighted sum of the old hidden state h, plus a "
        "weighted sum of the input x."
    ) in str(draw("gru_reset_after"))


def thick(svg: str) -> int:
    return sum(float(w) > 3.2 for w in re.findall(r'stroke-width="([\d.]+)"', svg))


def test_differences_from_the_first_cell_are_thick_and_told():
    figures = draw("lstm", "peephole")._repr_html_().split("<figure")[1:]
    assert [thick(f) for f in figures] == [0, 3]
    assert thick(draw("lstm", "coupled").svg) == 3  # 1−, the wire to it and the wire from it
    assert thick(draw("peephole").svg) == thick(draw("gru", "gru").svg) == 0
    assert str(draw("lstm", "peephole")).endswith(
        "New (thick lines), compared with lstm: the peephole from the old cell state c to the "
        "input gate i; the peephole from the old cell state c to the forget gate f; the peephole "
        "from the new cell state c to the output gate o."
    )
    assert str(draw("lstm", "coupled")).endswith(
        "New (thick lines), compared with lstm: (1 minus f). Gone, compared with lstm: the input "
        "gate i."
    )
    assert str(draw("gru", "gru_reset_after")).endswith(
        "New (thick lines), compared with gru: a weighted sum of the old hidden state h; a "
        "weighted sum of the input x. Gone, compared with gru: a weighted sum of the input x and "
        "r times the old hidden state h."
    )
    assert "ompared" not in str(draw("lstm", "lstm"))


def test_a_module_will_do():
    assert draw(peephole) == draw("peephole")
    assert draw(lstmbook.lstm, "gru") == draw("lstm", "gru")


@pytest.mark.parametrize(
    ("cells", "got"),
    [(["lstn"], "'lstn'"), (["lstm", "GRU"], "'GRU'"), ([lstmbook.running], "'running'"),
     ([3], "'3'"), ([], "''")],
)  # fmt: skip
def test_an_unknown_cell_is_told_which_ones_there_are(cells, got):
    known = "rnn, lstm, peephole, coupled, coupled_peephole, gru, gru_reset_after"
    with pytest.raises(ValueError, match=f"^there is no drawing of {got}; the cells are {known}$"):
        draw(*cells)
