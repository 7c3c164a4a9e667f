"""What the blocks of a reading can mean.

A `Family` is a cell with all that its users vary: the order of the gates, the activations, the
forget bias, where the reset gate acts, what the peepholes see. A table holds one hypothesis in
each row, as numbers in named columns; what they compute is in `predict`.
"""

from collections.abc import Callable, Iterator
from itertools import permutations
from typing import Any, NamedTuple

import numpy as np

from ..cells import CELLS
from ..cells._activations import Array, sigmoid, tanh
from .readings import Reading

__all__ = [
    "ACTIVATIONS",
    "GATES",
    "Family",
    "Table",
    "blocks_of",
    "families_of",
    "near",
    "params_of",
    "table_of",
    "usual",
]

Table = dict[str, Array]  # column name -> one number for each hypothesis

GATES: dict[str, Callable[[Array], Array]] = {
    "sigmoid": sigmoid,
    "hard sigmoid clip(0.2 z + 0.5)": lambda z: np.clip(0.2 * z + 0.5, 0.0, 1.0),
    "hard sigmoid clip(z / 6 + 0.5)": lambda z: np.clip(z / 6.0 + 0.5, 0.0, 1.0),
}
ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "tanh": tanh,
    "relu": lambda z: np.maximum(z, 0.0),
}


class Family(NamedTuple):
    """A cell, and the ways to store and to vary it; a dot is a block that is not used."""

    cell: str  # a name in `lstmbook.CELLS`
    orders: tuple[str, ...]  # the gates of the blocks: "ifgo", "figo", …
    holes: tuple[str, ...]  # the gates of the peepholes: "ifo", …; ("",) without
    kept: str = ""  # of a coupled cell: the gate that is computed, "f" or "i"

    def sizes(
        self, reading: Reading, forget_biases: int, *, plain: bool = False, aligned: bool = False
    ) -> dict[str, int]:
        """How many values each column of a table takes; the usual value is the first.

        ``plain`` leaves out unusual activations, ``aligned`` all but the first way to pair the
        blocks of different arrays.
        """
        lstm, gru = "g" in self.orders[0], "z" in self.orders[0]
        forgets = lstm and self.kept != "i"
        return {
            "squash": len(GATES) if (lstm or gru) and not plain else 1,
            "activation": 1 if plain else len(ACTIVATIONS),  # of the candidate
            "output": len(ACTIVATIONS) if lstm and not plain else 1,
            "forget": forget_biases if forgets else 1,
            "old": 2 if self.holes[0] else 1,  # whether o's peephole sees the old cell state
            "flipped": 2 if gru else 1,  # whether the blend is (1 - z) h + z n
            "holes": len(self.holes),
            "order": len(self.orders),
            "h": 1 if aligned else len(reading.h_aligned),
            "b": 1 if aligned else len(reading.b_aligned),
        }


def table_of(sizes: dict[str, int]) -> Table:
    """All hypotheses; the usual ones first."""
    grid = np.indices(tuple(sizes.values()), dtype=np.int16).reshape(len(sizes), -1)
    return dict(zip(sizes, grid, strict=True))


# What frameworks store.
_ORDERS = {*("n", "rzn", "zrn"), *("ifgo", "igfo", "iofg", "figo"), *("gfo", "fgo", "io.g")}
_HOLES = {"", "ifo", "iof", "fo", "io."}


def usual(family: Family) -> Family | None:
    """The family with the orders of frameworks alone; None if none of its orders is."""
    orders = tuple(order for order in family.orders if order in _ORDERS)
    holes = tuple(seen for seen in family.holes if seen in _HOLES)
    return family._replace(orders=orders, holes=holes) if orders and holes else None


def near(row: Table, sizes: dict[str, int]) -> Table:
    """Hypotheses beside one of them: other activations and such, or other pairs of blocks."""
    free = ("squash", "activation", "output", "forget", "old", "flipped")
    beside = np.indices([sizes[name] for name in free], np.int16).reshape(len(free), -1)
    pairs = np.indices((sizes["h"], sizes["b"]), np.int16).reshape(2, -1)
    result = {
        name: np.repeat(column, beside.shape[1] + pairs.shape[1]) for name, column in row.items()
    }
    for name, column in zip(free, beside, strict=True):
        result[name][: beside.shape[1]] = column
    for name, column in zip("hb", pairs, strict=True):
        result[name][beside.shape[1] :] = column
    return result


def _words(letters: str) -> tuple[str, ...]:
    return tuple(map("".join, permutations(letters)))


def families_of(reading: Reading) -> Iterator[Family]:
    """The families whose gates and peepholes are as many as the reading has."""
    gates, holes = len(reading.W_x), len(reading.p)
    plain = not reading.sided
    if gates == 1 and plain:
        yield Family("rnn", ("n",), ("",))
    if gates == 4 and plain and holes in (0, 3):
        kind = "peephole" if holes else "lstm"
        yield Family(kind, _words("ifgo"), _words("ifo") if holes else ("",))
    if gates == 3 and not holes:
        if plain:
            yield Family("gru", _words("rzn"), ("",))
        yield Family("gru_reset_after", _words("rzn"), ("",))
    if gates in (3, 4) and plain:
        for kept in "fi":
            dots = "." * (gates - 3)
            seen = {0: ("",), 2: _words(f"{kept}o"), 3: _words(f"{kept}o.")}[holes]
            cell = "coupled_peephole" if holes else "coupled"
            yield Family(cell, _words(f"{kept}go{dots}"), seen, kept)


def blocks_of(
    family: Family, reading: Reading, table: Table
) -> tuple[dict[str, Array], dict[str, Array], dict[str, Array]]:
    """For each gate, the blocks of ``W_x``, ``W_h`` and ``b`` that each hypothesis gives it."""
    x_at, h_at, b_at = {}, {}, {}
    h_aligned, b_aligned = np.array(reading.h_aligned), np.array(reading.b_aligned)
    for gate in set(family.orders[0]) - {"."}:
        at = np.array([order.index(gate) for order in family.orders])[table["order"]]
        x_at[gate] = at
        h_at[gate] = h_aligned[table["h"], at]
        b_at[gate] = b_aligned[table["b"], at]
    return x_at, h_at, b_at


def params_of(
    family: Family, reading: Reading, table: Table, forget_bias: float
) -> tuple[Any, str]:
    """Params of ``family.cell`` for a table of one row, or None and why there are none."""
    only = {name: int(column[0]) for name, column in table.items()}
    if only["squash"]:
        return None, "its gates are hard sigmoids"
    if only["activation"] or only["output"]:
        return None, "its activation is relu"
    if only["old"]:
        return None, "the peephole of its output gate sees the old cell state"
    cell = CELLS[family.cell]
    x_at, h_at, b_at = (
        {g: int(a[0]) for g, a in at.items()} for at in blocks_of(family, reading, table)
    )
    # 1 - sigmoid(a) = sigmoid(-a): a gate for its complement has the opposite weights.
    negated = "z" if only["flipped"] else "f" if family.kept == "i" else ""
    after = family.cell == "gru_reset_after"

    def block(part: Array, at: dict[str, int], gate: str) -> Array:
        taken: Array = part[at["i" if family.kept == "i" and gate == "f" else gate]]
        return -taken if gate in negated else taken

    b = []
    for gate in cell.GATES:
        row = block(reading.b_x, b_at, gate)
        if not (after and gate == "n"):
            row = row + block(reading.b_h, b_at, gate)
        b.append(row + forget_bias if gate == "f" else row)
    fields = {
        "W_x": np.stack([block(reading.W_x, x_at, gate) for gate in cell.GATES]),
        "W_h": np.stack([block(reading.W_h, h_at, gate) for gate in cell.GATES]),
        "b": np.stack(b),
    }
    if after:
        fields["b_hn"] = reading.b_h[b_at["n"]] + reading.b_hn
    if len(reading.p):
        seen = family.holes[only["holes"]]
        at = {gate: seen.index(gate) for gate in seen if gate != "."}
        fields["p"] = np.stack(
            [block(reading.p, at, gate) for gate in getattr(cell, "PEEPHOLES", "")]
        )
    return cell.Params(**fields), ""
