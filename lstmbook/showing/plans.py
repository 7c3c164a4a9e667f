"""The plan of every cell's picture: nodes on a grid, and the wires between them by name.

An outlined box is a matrix product, a coloured tile an activation, a circle an element-wise
operator, a pill a value that enters or leaves. The thick line is the state that is carried along,
a dashed one a peephole; a tile adds up what enters it.
"""

from functools import partial
from typing import NamedTuple

__all__ = ["PLANS", "Node", "Plan", "Wire", "news"]

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


def news(plan: Plan, base: Plan) -> tuple[list[str], list[Wire]]:
    """The nodes and the wires that a plan has and the other one has not."""
    nodes = [k for k, v in plan.nodes.items() if k not in base.nodes or v[:2] != base.nodes[k][:2]]
    known = [w[:2] for w in base.wires]
    return nodes, [w for w in plan.wires if w[:2] not in known]
