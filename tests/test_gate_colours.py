"""A gate has one colour in drawings, equations and tables."""

import re
import sys
from pathlib import Path

import pytest

from lstmbook.showing.draw import COLORS, INK

BOOK = Path(__file__).parent.parent / "book"


@pytest.fixture(scope="module")
def ext(sphinx):
    sys.path.insert(0, str(BOOK / "_ext"))
    try:
        import gate_colours
    finally:
        sys.path.pop(0)
    return gate_colours


def test_the_style_sheet_has_the_colours_of_the_drawings(ext):
    css = (BOOK / "assets" / "lstmbook.css").read_text(encoding="utf-8")
    assert set(ext.LETTERS) == set(COLORS) - set("hc")
    for letter, role in ext.LETTERS.items():
        (rule,) = re.findall(rf"\.gate-{role} {{(.*?)}}", css, re.DOTALL)
        assert f"background: {COLORS[letter].lower()};" in rule
        assert f"color: {INK[letter]};" in rule.replace("background-color", "")


def tiles(source):
    """What is wrapped, as (role, letters)."""
    return re.findall(r"\\class\{gate gate-(\w+)\}\{((?:[^{}]|\{[^{}]*\})*)\}", source)


@pytest.mark.parametrize(
    ("source", "lone", "expected"),
    [
        (
            r"c_t = f_t \odot c_{t-1} + i_t \odot g_t",
            "",
            ["keep f_t", "write i_t", "candidate g_t"],
        ),
        (r"h_t &= o_t \odot \tanh(c_t)", "", ["show o_t"]),
        (r"z_{t-1} + (1 - z_t)", "", ["keep z_{t-1}", "keep z_t"]),
        (r"f_t &= \sigma(x_t W_{xf} + b_f) && \text{forget gate f_t}", "", ["keep f_t"]),
        (r"\begin{aligned} i_t \end{aligned}", "", ["write i_t"]),
        ("i = 1 - f", "ifgo", ["write i", "keep f"]),
        (r"\sigma(-z)", "ifgo", []),
        ("1 - z", "ifgorz", ["keep z"]),
        ("a^n b^n", "ifgon", []),
        ("i = 1 - f", "", []),
        (r"k \in \{i, f\}", "ifgo", ["write i", "keep f"]),
        (r"{g}, {z}_t", "ifgoz", []),  # braces say: not a gate
        (r"\operatorname{diag}(1 - h_t^2)", "ifgo", []),
        ("f(x), g'", "ifgo", []),
        (r"(r_k - r_j)", "ifgorzn", []),
    ],
)
def test_gates_in_equations(ext, source, lone, expected):
    coloured = ext.colour_math(source, lone)
    assert [" ".join(tile) for tile in tiles(coloured)] == expected
    assert re.sub(r"\\class\{gate gate-\w+\}\{((?:[^{}]|\{[^{}]*\})*)\}", r"\1", coloured) == source


@pytest.mark.parametrize(
    ("text", "roles"),
    [
        ("i, j, f, o", ["write", "candidate", "keep", "show"]),
        ("z r n", ["keep", "show", "candidate"]),
        ("z, r, h", ["keep", "show", "candidate"]),
        ("i,ci,f,o", ["write", "candidate", "keep", "show"]),
        ("-f f g o", ["keep", "keep", "candidate", "show"]),
        ("-f o . g", ["keep", "show", "candidate"]),
        ("f", ["keep"]),
        ("c, h", None),
        ("h", None),
        ("x, h", None),
        ("bias", None),
        ("(3,)", None),
        ("W_0", None),
    ],
)
def test_orders_in_tables(ext, text, roles):
    pieces = ext.colour_order(text)
    if roles is None:
        assert pieces is None
    else:
        assert "".join(piece for piece, _ in pieces) == text
        assert [role for _, role in pieces if role] == roles
