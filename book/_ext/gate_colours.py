"""Gives every gate its colour in the equations and tables of the pages.

In an equation a gate is a letter with a time, ``i_t``, or a letter alone in
its own formula, ``$1 - z$``. In a table it is also a letter of an order
such as ``i, j, f, o``. A letter alone that could mean something else, ``z``
in a sigmoid or ``n`` for a number, is a gate only on a page whose equations
define it; braces, ``{g}_t``, say that a letter is none. The sources stay
plain; the colours are classes, which lstmbook.css fills from the colours of
`lstmbook.showing.draw`.
"""

import re

from docutils import nodes
from sphinx.transforms.post_transforms import SphinxPostTransform

ROLES = {"keep": "f z", "write": "i", "candidate": "g n", "show": "o r"}
LETTERS = {letter: role for role in ROLES for letter in ROLES[role].split()}
# What the frameworks call their blocks: in an order h is no state.
OTHER = {"j": "candidate", "c": "candidate", "ci": "candidate"}
OTHER |= {"h": "candidate", "u": "keep"}
STATES = ({"h", "c"}, {"h"}, {"c"})

TEXT = re.compile(r"\\(?:text|operatorname|begin|end|mathrm)\{[^}]*\}")
GATE = re.compile(
    r"(?<![\\A-Za-z_^|])(?<!(?<!\\){)([ifgorzn])(_t|_\{t[^}]*\})?(?![A-Za-z_(^'])"
)
BLOCK = r"(?:-?[a-z]{1,2}|\.)"  # -f is the negated block, a dot is not read
ORDER = re.compile(rf"{BLOCK}(?:(?:, ?| ){BLOCK})*")


def classes(role):
    """The classes of a tile."""
    return f"gate gate-{role}"


def timed(source):
    """The letters that stand with a time in a formula."""
    return {match[1] for match in GATE.finditer(source) if match[2]}


def colour_math(source, lone=""):
    """Wrap the gates of a formula: timed ones and those in `lone`."""

    def wrap(match):
        if not (match[2] or match[1] in lone):
            return match[0]
        return rf"\class{{{classes(LETTERS[match[1]])}}}{{{match[0]}}}"

    done, end = [], 0
    for words in TEXT.finditer(source):
        done += [GATE.sub(wrap, source[end : words.start()]), words[0]]
        end = words.end()
    return "".join([*done, GATE.sub(wrap, source[end:])])


def colour_order(text):
    """The pieces of an order as ``(text, role)``; None if it is not one."""
    pieces = re.split("(, ?| )", text)
    letters = {piece.strip("-") for piece in pieces[::2]} - {"."}
    known = LETTERS if len(pieces) == 1 else LETTERS | OTHER
    if (
        not ORDER.fullmatch(text)
        or letters - set(known)
        or letters in STATES
    ):
        return None
    return [(piece, known.get(piece.strip("-"))) for piece in pieces]


class GateColours(SphinxPostTransform):
    """Adds the classes, for HTML alone: paper has the plain formulas."""

    default_priority = 400
    formats = ("html",)

    def run(self, **kwargs):
        """Go through the formulas of a page, and the code in its tables."""
        defined = set("ifgo")
        for node in self.document.findall(nodes.math_block):
            defined |= timed(node.astext())
            self._replace(node, colour_math(node.astext()))
        for node in self.document.findall(nodes.math):
            self._replace(node, colour_math(node.astext(), defined))
        for entry in self.document.findall(nodes.entry):
            for code in entry.findall(nodes.literal):
                self._order(code)

    @staticmethod
    def _replace(node, source):
        node.children = []
        node += nodes.Text(source)

    @staticmethod
    def _order(code):
        pieces = colour_order(code.astext())
        if pieces is None:
            return
        code.children = []
        for text, role in pieces:
            part = nodes.Text(text)
            tile = ["gate", f"gate-{role}"]
            code += nodes.inline("", text, classes=tile) if role else part


def setup(app):
    """Connect the transform."""
    app.add_post_transform(GateColours)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
