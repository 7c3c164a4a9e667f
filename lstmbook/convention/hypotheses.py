"""What the blocks of a reading can mean, and what each meaning computes: many at once.

A `Family` is a cell with all that its users vary: the order of the gates, the activations, the
forget bias, where the reset gate acts, what the peepholes see. A table holds one hypothesis in
each row, as numbers in named columns; `predict` runs all rows of a table side by side. A grid
holds all hypotheses of a family with one axis for each column; `first_step` runs one step of it,
in which what several hypotheses share is computed once.
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
    "families_of",
    "first_step",
    "near",
    "params_of",
    "predict",
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
_GATES, _ACTIVATIONS = tuple(GATES.values()), tuple(ACTIVATIONS.values())


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


def predict(
    family: Family,
    reading: Reading,
    table: Table,
    forget_biases: Array,
    xs: Array,
    state: tuple[Array, Array],
    *,
    alive: Array | None = None,
    forced: Array | None = None,
    units: Any = slice(None),
) -> Iterator[tuple[Array, Array]]:
    """``h`` and ``c`` after every step, for all hypotheses of a table.

    Parameters
    ----------
    xs : (time, batch, input) array
    state : h and c, (batch, hidden) each
    alive : (time, batch) booleans, optional
        Where not, the state is kept.
    forced : (time, batch, hidden) array, optional
        The true outputs. Each step then starts from the true old ``h``, so that an error of one
        step is not carried on, and units do not need each other.
    units : index
        The units to compute; all of them unless ``forced``.

    Yields
    ------
    h, c : (hypotheses, batch, units) arrays
    """
    step = _Step(family, reading, table, forget_biases, units)
    x_parts = _times(xs, reading.W_x[..., step.seen])  # (time, blocks, batch, units)
    h, c = state[0][None], state[1][None][..., units]
    olds = None if forced is None else np.concatenate([state[0][None], forced[:-1]])
    h_parts = None if olds is None else _times(olds, reading.W_h[..., step.seen])
    for t, x_part in enumerate(x_parts):
        if olds is None or h_parts is None:
            old, h_part = h, _times(h, reading.W_h)
        else:
            old, h_part = olds[t : t + 1], h_parts[t : t + 1]
        new_h, new_c = step(x_part, h_part, old, c)
        if alive is not None:
            on = alive[t][:, None]
            new_h, new_c = np.where(on, new_h, old[..., units]), np.where(on, new_c, c)
        h, c = new_h, new_c
        yield h, c


def first_step(
    family: Family,
    reading: Reading,
    sizes: dict[str, int],
    forget_biases: Array,
    x: Array,
    state: tuple[Array, Array],
    units: Any,
) -> Array:
    """``h`` after one step for all hypotheses of ``sizes``, an axis for each, and then the units.

    ``x`` is ``(1, input)`` and the state ``(1, hidden)``. An axis on which nothing depends is 1.
    """
    grid = dict(zip(sizes, np.indices(tuple(sizes.values()), np.int16, sparse=True), strict=True))
    step = _Step(family, reading, grid, forget_biases, units)
    h_part = _times(state[0][None], reading.W_h[..., step.seen])
    x_part = _times(x[None], reading.W_x[..., step.seen])[0]
    h, _ = step(x_part, h_part, state[0][None], state[1][None][..., units])
    return h[..., 0, :]


def _times(rows: Array, W: Array) -> Array:
    """``(n, batch, size) @ (blocks, size, hidden)`` as ``(n, blocks, batch, hidden)``."""
    n, batch, size = rows.shape
    products = rows.reshape(n * batch, size) @ W
    return products.reshape(len(W), n, batch, -1).swapaxes(0, 1)


class _Step:
    """One time step of every hypothesis of a table or a grid."""

    def __init__(
        self, family: Family, reading: Reading, table: Table, forget_biases: Array, units: Any
    ) -> None:
        self.family, self.reading, self.table, self.units = family, reading, table, units
        # A reset gate in front of the matrix product is needed whole.
        self.seen = slice(None) if family.cell == "gru" else units
        self.grid = table["order"].ndim > 1
        self.rows = np.arange(table["order"].size)
        self.x_at, self.h_at, self.b_at = blocks_of(family, reading, table)
        self.b = reading.b_x[:, None, units], reading.b_h[:, None, units]
        self.b_seen = reading.b_x[:, None, self.seen], reading.b_h[:, None, self.seen]
        self.b_hn = reading.b_hn[units]
        self.p = {
            gate: reading.p[np.array([seen.index(gate) for seen in family.holes])[table["holes"]]][
                ..., None, units
            ]
            for gate in set(family.holes[0]) - {"."}
        }
        self.forget = forget_biases.astype(reading.b_x.dtype)[table["forget"]][..., None, None]
        self.flipped = table["flipped"][..., None, None] == 1
        self.old = table["old"][..., None, None] == 1

    def __call__(self, x: Array, h: Array, old: Array, c: Array) -> tuple[Array, Array]:
        if self.family.cell == "rnn":
            return self._candidate(self._sum("n", x, h)), c
        if "z" in self.family.orders[0]:
            return self._gru(x, h, old), c
        return self._lstm(x, h, c)

    def _lstm(self, x: Array, h: Array, c: Array) -> tuple[Array, Array]:
        sees, kept = self.p, self.family.kept
        gate: dict[str, Array] = {}
        for k in kept or "if":
            z = self._sum(k, x, h)
            if k == "f":
                z = z + self.forget
            gate[k] = self._squash(z + sees[k] * c if sees else z)
        i = gate["i"] if "i" in gate else 1.0 - gate["f"]
        f = gate["f"] if "f" in gate else 1.0 - gate["i"]
        new = f * c + i * self._candidate(self._sum("g", x, h))
        z = self._sum("o", x, h)
        if sees:
            z = z + sees["o"] * np.where(self.old, c, new)
        return self._squash(z) * self._by("output", _ACTIVATIONS, new), new

    def _gru(self, x: Array, h: Array, old: Array) -> Array:
        after = self.family.cell == "gru_reset_after"
        r = self._squash(self._sum("r", x, h, self.b_seen))
        x, h = (x, h) if after else (x[..., self.units], h[..., self.units])
        z = self._squash(self._sum("z", x, h))
        x_at, h_at, b_at = self.x_at["n"], self.h_at["n"], self.b_at["n"]
        n, b_h = x[x_at] + self.b[0][b_at], self.b[1][b_at]
        if after:
            n = n + r * (self._h(h, h_at) + b_h + self.b_hn)
        else:
            n = n + b_h + self._recurrent(r * old, h_at)
        n = self._candidate(n)
        z = np.where(self.flipped, 1.0 - z, z)
        new: Array = z * old[..., self.units] + (1.0 - z) * n
        return new

    def _sum(self, gate: str, x: Array, h: Array, b: tuple[Array, Array] | None = None) -> Array:
        """A gate's pre-activation without its peephole."""
        at, (b_x, b_h) = self.b_at[gate], b or self.b
        z: Array = x[self.x_at[gate]] + self._h(h, self.h_at[gate]) + (b_x[at] + b_h[at])
        return z

    def _h(self, h: Array, at: Array) -> Array:
        """Block ``at`` of ``h W_h``, which is one for all hypotheses or one for each."""
        return h[0, at] if len(h) == 1 else h[self.rows, at]

    def _recurrent(self, values: Array, at: Array) -> Array:
        """``values @ W_h`` with block ``at`` for each hypothesis."""
        W_h = self.reading.W_h[..., self.units]
        result = np.zeros(())
        if self.grid:
            for k in np.unique(at):
                result = np.where((at == k)[..., None, None], values @ W_h[k], result)
            return result
        result = np.empty((*values.shape[:-1], W_h.shape[-1]), values.dtype)
        for k in np.unique(at):
            chosen = at == k
            part = values[chosen]
            flat = part.reshape(-1, part.shape[-1]) @ W_h[k]
            result[chosen] = flat.reshape(*part.shape[:-1], -1)
        return result

    def _squash(self, z: Array) -> Array:
        return self._by("squash", _GATES, z)

    def _candidate(self, z: Array) -> Array:
        return self._by("activation", _ACTIVATIONS, z)

    def _by(self, column: str, functions: Any, z: Array) -> Array:
        """``z`` under each hypothesis' own function; rows of a table stand sorted by it or not."""
        kinds = self.table[column]
        first = int(kinds.flat[0])
        if (kinds == first).all():
            result: Array = functions[first](z)
            return result
        if self.grid:
            axis = list(self.table).index(column)
            parts = np.split(z, kinds.size, axis) if z.shape[axis] > 1 else [z] * kinds.size
            return np.concatenate([functions[k](part) for k, part in enumerate(parts)], axis)
        result = np.empty_like(z)
        for kind in np.unique(kinds):
            chosen = kinds == kind
            result[chosen] = functions[kind](z[chosen])
        return result


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
