"""The cells of `cells` over whole sequences, for speed: what `sequence` calls for them.

The equations stand in `cells`, one page each. Here is how they are computed quickly:

* Features first. A state is ``(hidden, batch)``, the gates of a step ``(gates * hidden, batch)``:
  every gate is one piece of memory, and the product with the weights on the left is the faster.
* The input's share of the gates is one wide product for a block of steps, before the steps.
* ``sigmoid(z) = (1 + tanh(z / 2)) / 2``, with the half in the weights: one tanh for all gates.
* A step writes in place and allocates nothing that lasts.
* Backwards, the factors of every local derivative are made for a block of steps at once, from the
  states and gates that the run kept. Only what needs the next step is a loop.

Three kernels serve the seven cells: one for the RNN, one for the four LSTMs, one for both GRUs.
Where Numba is installed, `compiled` takes float32 and float64 instead; ``LSTMBOOK_NUMBA=0`` forbids
it, and ``NUMBA_NUM_THREADS`` says how many threads it takes. If it fails, at its import, in the
compiler or in a run, a warning says so once, and NumPy computes.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from functools import cache
from threading import Lock
from types import ModuleType
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np

from .activations import Array
from .cells import Cell, coupled, coupled_peephole, gru, gru_reset_after, lstm, peephole, rnn

__all__ = ["KERNELS", "knows", "run", "vjp"]

COLUMNS = 256  # steps times batch of a block: wide enough for BLAS, small enough for the cache

States = tuple[Array, ...]  # h, or h and c
# From d_hs, d_state and whether d_xs is wanted to d_params, d_xs and d_state
Back = Callable[[Array, Any, bool], tuple[Any, Array | None, Any]]


class Tape(NamedTuple):
    """What a run keeps for the way back."""

    states: States  # (time + 1, hidden, batch) each
    gates: list[Array]  # (rows, steps * batch) of each block: the `Kernel.kept` of its steps


class Kernel:
    """The weights of a cell, features first, its buffers, and what all cells share."""

    ROWS: ClassVar[str]  # the order of the gates here, the sigmoid gates first

    def __init__(self, cell: Cell, params: Any) -> None:
        self.cell, self.params = cell, params
        self.hidden, self.dtype = params.b.shape[-1], params.b.dtype
        self.order = [cell.GATES.index(gate) for gate in self.ROWS if gate in cell.GATES]
        sigmoids = len(set(cell.GATES) & set("ifozr"))
        self.squash = slice(0, sigmoids * self.hidden)  # the rows of the sigmoid gates
        self.half = np.ones((len(self.order), 1, 1), self.dtype)
        self.half[:sigmoids] = 0.5

    def rows(self, array: Array, scale: Any, order: Literal["C", "F"] = "C") -> Array:
        """``(gates, fan_in, hidden)`` as ``(gates * hidden, fan_in)``, each gate scaled."""
        rows = np.empty((len(self.order) * self.hidden, array.shape[1]), self.dtype, order)
        blocks = array[self.order].swapaxes(1, 2)
        np.multiply(blocks, scale, out=rows.reshape(blocks.shape))
        return rows

    def gates_first(self, rows: Array) -> Array:
        """``(gates * hidden, fan_in)`` as ``(gates, fan_in, hidden)``, in the cell's order."""
        return np.stack(self.split(rows)).swapaxes(1, 2)[np.argsort(self.order)]

    def split(self, z: Array) -> list[Array]:
        """A view for each gate."""
        return [z[k : k + self.hidden] for k in range(0, len(z), self.hidden)]

    # Forward

    def go_forward(self, batch: int) -> None:
        """Take the weights for the way forward, and make room for a step."""
        W_x, W_h, b = self.params.W_x, self.params.W_h, self.params.b[:, None]
        self.W_x, self.W_h, self.b = (self.rows(array, self.half) for array in (W_x, W_h, b))
        self.z = np.empty((len(self.b), batch), self.dtype)
        self.gates = self.split(self.z)
        self.spare = np.empty((self.hidden, batch), self.dtype)
        self.kept = self.z  # what `factors` will want to know of a step

    def activate(self, z: Array) -> None:
        """All gates at once: a tanh, then what makes it a sigmoid."""
        np.tanh(z, out=z)
        self.sigmoid(z[self.squash])

    @staticmethod
    def sigmoid(t: Array) -> None:
        """``(1 + t) / 2`` in place, ``t`` being the tanh of half the argument."""
        t *= 0.5
        t += 0.5

    def project(self, x: Array, out: Array) -> Array:
        """``(steps * batch, input)`` to the input's share of the gates, a column for each row."""
        zx = np.matmul(self.W_x, x.T, out=out[: len(self.W_x)])
        zx += self.b
        return zx

    def step(self, zx: Array, old: States, new: States) -> None:
        """One step; ``new`` may be ``old``. It leaves the gates in ``z``."""
        raise NotImplementedError

    # Backward

    def go_back(self, columns: int) -> None:
        """Take the weights for the way back, and make room for a block of so many columns."""
        # BLAS multiplies W_h.T by a few columns faster if W_h is in Fortran order.
        self.W_x, self.W_h = self.rows(self.params.W_x, 1), self.rows(self.params.W_h, 1, "F")
        self.d_W_x, self.d_W_h = (np.zeros(W.shape, self.dtype) for W in (self.W_x, self.W_h))
        self.d_b = np.zeros((len(self.W_h), 1), self.dtype)
        self.room = [
            np.empty((rows, columns), self.dtype) for rows in (len(self.W_h), *[self.hidden] * 2)
        ]

    def factors(self, gates: Array, old: States, new: States) -> None:
        """The local derivatives of a block of steps, in ``dz`` and others."""
        raise NotImplementedError

    def slopes(self, gates: Array) -> list[Array]:
        """``dz`` becomes ``s (1 - s)`` for the sigmoid gates and ``1 - n**2`` for the last."""
        self.dz = self.room[0][:, : gates.shape[1]]
        s, n = self.squash, slice(self.squash.stop, len(self.dz))
        np.subtract(1, gates[s], out=self.dz[s])
        self.dz[s] *= gates[s]
        self.one_minus_square(gates[n], self.dz[n])
        return self.split(self.dz)

    @staticmethod
    def one_minus_square(t: Array, out: Array) -> None:
        """The slope of tanh, where it is ``t``."""
        np.multiply(t, t, out=out)
        np.subtract(1, out, out=out)

    def step_back(self, t: slice, d: States) -> None:
        """From the gradient at the new state to that at the old one, in place, and ``dz``."""
        raise NotImplementedError

    def collect(self, x: Array, h: Array) -> None:
        """Add what a block gives to the gradients of the weights."""
        self.d_W_x += self.dz @ x
        self.d_W_h += self.dz @ h.T
        self.d_b += self.dz.sum(axis=1, keepdims=True)

    def d_x(self) -> Array:
        """The gradient at the inputs of a block, ``(steps * batch, input)``."""
        return self.dz.T @ self.W_x

    def d_params(self) -> dict[str, Array]:
        """The gradients, named and shaped as the Params."""
        named = {"W_x": self.d_W_x, "W_h": self.d_W_h, "b": self.d_b}
        grads = {name: self.gates_first(rows) for name, rows in named.items()}
        return grads | {"b": grads["b"][:, 0]}

    dz: Array  # (gates * hidden, steps * batch): the gradient at the pre-activations


class Rnn(Kernel):
    """``h = tanh(z)``."""

    ROWS = "n"

    def go_forward(self, batch: int) -> None:
        super().go_forward(batch)
        self.kept = self.z[:0]  # the new state tells all

    def step(self, zx: Array, old: States, new: States) -> None:
        np.matmul(self.W_h, old[0], out=self.z)
        self.z += zx
        np.tanh(self.z, out=new[0])

    def factors(self, gates: Array, old: States, new: States) -> None:
        self.slopes(new[0])

    def step_back(self, t: slice, d: States) -> None:
        dz = self.dz[:, t]
        dz *= d[0]
        np.matmul(self.W_h.T, dz, out=d[0])


class Lstm(Kernel):
    """The four LSTMs: with and without peepholes, coupled or not."""

    ROWS = "oifg"  # o stands apart: its peephole sees the new cell state

    def __init__(self, cell: Cell, params: Any) -> None:
        super().__init__(cell, params)
        self.coupled = "i" not in cell.GATES
        self.ahead = slice(self.hidden, None)  # the rows of the gates that c needs
        self.early = slice(self.hidden, self.squash.stop)  # those of them that see c
        self.seen = getattr(cell, "PEEPHOLES", "")

    def take_peepholes(self, scale: float) -> None:
        """``p_o (hidden, 1)``, and ``p (gates, hidden, 1)`` of the other gates that have one."""
        p = {gate: self.params.p[self.seen.index(gate)][:, None] * scale for gate in self.seen}
        if p:
            self.p_o = p["o"]
            self.p = np.stack([p[gate] for gate in "if" if gate in p])

    def by_gate(self, z: Array) -> Array:
        """The rows of some gates with an axis for the gates."""
        return z.reshape(-1, self.hidden, z.shape[1])

    def go_forward(self, batch: int) -> None:
        super().go_forward(batch)
        self.take_peepholes(0.5)

    def step(self, zx: Array, old: States, new: States) -> None:
        z, (c_old, h, c) = self.z, (old[1], *new)
        np.matmul(self.W_h, old[0], out=z)
        z += zx
        o, *i, f, g = self.gates
        if self.seen:
            seen = self.by_gate(z[self.early])
            seen += self.p * c_old
            np.tanh(z[self.ahead], out=z[self.ahead])
            self.sigmoid(z[self.early])
        else:
            self.activate(z)
        if self.coupled:  # c = f * (c - g) + g
            np.subtract(c_old, g, out=c)
            c *= f
            c += g
        else:  # c = f * c + i * g
            np.multiply(i[0], g, out=self.spare)
            np.multiply(f, c_old, out=c)
            c += self.spare
        if self.seen:
            np.multiply(self.p_o, c, out=self.spare)
            o += self.spare
            np.tanh(o, out=o)
            self.sigmoid(o)
        np.tanh(c, out=h)
        h *= o

    def go_back(self, columns: int) -> None:
        super().go_back(columns)
        self.take_peepholes(1)
        if self.seen:
            self.d_p_o, self.d_p = np.zeros_like(self.p_o), np.zeros_like(self.p)

    def factors(self, gates: Array, old: States, new: States) -> None:
        (o, *i, self.f, g), (self.c_old, self.c) = self.split(gates), (old[1], new[1])
        d_o, *d_i, d_f, d_g = self.slopes(gates)
        tanh_c, self.dc = (room[:, : gates.shape[1]] for room in self.room[1:])
        np.tanh(self.c, out=tanh_c)
        d_o *= tanh_c
        self.one_minus_square(tanh_c, self.dc)
        self.dc *= o
        if self.coupled:
            d_f *= self.c_old - g
            d_g *= 1 - self.f
        else:
            d_i[0] *= g
            d_f *= self.c_old
            d_g *= i[0]

    def step_back(self, t: slice, d: States) -> None:
        dz, (dh, dc) = self.dz[:, t], d
        from_h, ahead = self.dc[:, t], self.by_gate(dz)[1:]
        o = dz[: self.hidden]
        o *= dh
        from_h *= dh
        dc += from_h
        if self.seen:
            dc += self.p_o * o
        ahead *= dc
        dc *= self.f[:, t]
        if self.seen:
            dc += (self.p * ahead[:-1]).sum(axis=0)
        np.matmul(self.W_h.T, dz, out=dh)

    def collect(self, x: Array, h: Array) -> None:
        if self.seen:
            o, *early, _ = self.split(self.dz)
            self.d_p_o += (o * self.c).sum(axis=1, keepdims=True)
            for d_p, gate in zip(self.d_p, early, strict=True):
                d_p += (gate * self.c_old).sum(axis=1, keepdims=True)
        super().collect(x, h)

    def d_params(self) -> dict[str, Array]:
        grads = super().d_params()
        if self.seen:
            rows = dict(
                zip("ifo" if not self.coupled else "fo", [*self.d_p, self.d_p_o], strict=True)
            )
            grads["p"] = np.stack([rows[gate][:, 0] for gate in self.seen])
        return grads


class Gru(Kernel):
    """Both GRUs: the reset gate before the product or after it."""

    ROWS = "rzn"

    def __init__(self, cell: Cell, params: Any) -> None:
        super().__init__(cell, params)
        self.after = "b_hn" in params._fields
        if self.after:
            self.b_hn = params.b_hn[:, None]

    def go_forward(self, batch: int) -> None:
        super().go_forward(batch)
        self.W_hs, self.W_hn = self.W_h[self.squash], self.W_h[self.squash.stop :]
        if self.after:
            self.kept = np.empty((len(self.z) + self.hidden, batch), self.dtype)
            self.z, self.inner = self.kept[: len(self.z)], self.kept[len(self.z) :]
            self.gates = self.split(self.z)

    def step(self, zx: Array, old: States, new: States) -> None:
        (h,), (h_new,), s = old, new, self.squash
        r, z, n = self.gates
        np.matmul(self.W_h if self.after else self.W_hs, h, out=self.z if self.after else self.z[s])
        gates = self.z[s]
        gates += zx[s]
        np.tanh(gates, out=gates)
        self.sigmoid(gates)
        if self.after:
            np.add(n, self.b_hn, out=self.inner)
            np.multiply(self.inner, r, out=n)
        else:
            np.matmul(self.W_hn, np.multiply(r, h, out=self.spare), out=n)
        n += zx[s.stop :]
        np.tanh(n, out=n)
        np.subtract(h, n, out=self.spare)  # h = z * (h - n) + n
        self.spare *= z
        np.add(self.spare, n, out=h_new)

    def go_back(self, columns: int) -> None:
        super().go_back(columns)
        self.W_hs, self.W_hn = self.W_h[self.squash], self.W_h[self.squash.stop :]
        if self.after:
            self.d_b_hn = np.zeros_like(self.b_hn)

    def factors(self, gates: Array, old: States, new: States) -> None:
        (self.r, self.z, n, *inner), h = self.split(gates), old[0]
        d_r, d_z, d_n = self.slopes(gates)
        spare, self.d_inner = (room[:, : gates.shape[1]] for room in self.room[1:])
        d_r *= inner[0] if self.after else h
        d_z *= np.subtract(h, n, out=spare)
        d_n *= np.subtract(1, self.z, out=spare)
        if not self.after:
            self.reset = np.multiply(self.r, h, out=spare)

    def step_back(self, t: slice, d: States) -> None:
        (dh,), dz, r = d, self.dz[:, t], self.r[:, t]
        dr, dz_z, dn = self.split(dz)
        dz_z *= dh
        dn *= dh
        dh *= self.z[:, t]
        inner = self.d_inner[:, t]
        if self.after:  # n = tanh(… + r * (W_hn h + b_hn))
            np.multiply(dn, r, out=inner)
            dr *= dn
            dh += self.W_hn.T @ inner
        else:  # n = tanh(… + W_hn (r * h))
            np.matmul(self.W_hn.T, dn, out=inner)
            dr *= inner
            inner *= r
            dh += inner
        dh += self.W_hs.T @ dz[self.squash]

    def collect(self, x: Array, h: Array) -> None:
        s, dn = self.squash, self.dz[self.squash.stop :]
        self.d_W_x += self.dz @ x
        self.d_W_h[s] += self.dz[s] @ h.T
        self.d_b += self.dz.sum(axis=1, keepdims=True)
        if self.after:
            self.d_W_h[s.stop :] += self.d_inner @ h.T
            self.d_b_hn += self.d_inner.sum(axis=1, keepdims=True)
        else:
            self.d_W_h[s.stop :] += dn @ self.reset.T

    def d_params(self) -> dict[str, Array]:
        grads = super().d_params()
        return grads | ({"b_hn": self.d_b_hn[:, 0]} if self.after else {})


KERNELS: dict[Any, type[Kernel]] = {
    rnn: Rnn,
    **dict.fromkeys((lstm, peephole, coupled, coupled_peephole), Lstm),
    **dict.fromkeys((gru, gru_reset_after), Gru),
}


def knows(cell: Any) -> bool:
    """Whether the cell is one of ours, and not something else with a ``step``."""
    return isinstance(cell, ModuleType) and cell in KERNELS


def run(cell: Cell, params: Any, xs: Array, state: Any, lengths: Array, hs: Array) -> Any:
    """Write the outputs into ``hs``, which is zero, and return the final state.

    All is time first, checked and of one dtype.
    """
    arguments = cell, params, xs, state, lengths, hs
    if compiled := _compiled_for(xs):
        try:
            return compiled.run(*arguments)
        except Exception as error:
            _give_up(error)
            hs[...] = 0
    return _run(*arguments)


def vjp(
    cell: Cell, params: Any, xs: Array, state: Any, lengths: Array, hs: Array
) -> tuple[Any, Back]:
    """`run`, and the way back from the gradients at what it gives to those at what it takes."""
    arguments = cell, params, xs, state, lengths, hs
    if compiled := _compiled_for(xs):
        try:
            final, compiled_back = compiled.vjp(*arguments)
        except Exception as error:
            _give_up(error)
            hs[...] = 0
        else:
            first, shape = type(state)(*map(np.copy, state)), hs.shape

            def numpy_back() -> Back:
                """Of another run, by NumPy."""
                return _vjp(cell, params, xs, first, lengths, np.zeros(shape, xs.dtype))[1]

            return final, _back_or(numpy_back, compiled_back)
    return _vjp(*arguments)


def _back_or(numpy_back: Callable[[], Back], compiled_back: Back) -> Back:
    """The compiled way back, or, once it has failed, that of NumPy."""
    way_back = compiled_back

    def back(d_hs: Array, d_state: Any, inputs: bool) -> tuple[Any, Array | None, Any]:
        nonlocal way_back
        if way_back is compiled_back:
            try:
                return compiled_back(d_hs, d_state, inputs)
            except Exception as error:
                _give_up(error)
            way_back = numpy_back()
        return way_back(d_hs, d_state, inputs)

    return back


# The compiled loops, and what happens where they fail


@cache
def _compiled() -> ModuleType | None:
    """The compiled loops, unless Numba is forbidden, missing, or fails: NumPy needs none of it."""
    if os.environ.get("LSTMBOOK_NUMBA") == "0":
        return None
    try:
        from . import compiled
    except Exception as error:
        if not (isinstance(error, ModuleNotFoundError) and error.name == "numba"):
            _give_up(error)  # such as a Numba that refuses this NumPy
        return None
    return compiled


def _compiled_for(xs: Array) -> ModuleType | None:
    """The compiled loops, if they take these inputs and have not failed yet."""
    if _failures or xs.dtype not in (np.float32, np.float64) or not xs.shape[1]:
        return None
    return _compiled()


_failures: list[str] = []  # of the compiled loops in this process; after the first, NumPy computes
_failures_lock = Lock()


def _give_up(error: Exception) -> None:
    """No compiled loops from now on, which a warning says once.

    What is the caller's is raised again: no memory, an ``np.errstate``, a signal's time-out.
    """
    if isinstance(error, MemoryError | FloatingPointError | TimeoutError):
        raise error
    message = ": ".join([type(error).__name__, *str(error).splitlines()[:1]])
    with _failures_lock:
        _failures.append(message)
        first = len(_failures) == 1
    if first:
        warnings.warn(
            f"the compiled loops of lstmbook failed in Numba ({message}). NumPy computes the same "
            "for the rest of this process. LSTMBOOK_NUMBA=0 in the environment switches the "
            "compiled loops off from the start",
            RuntimeWarning,
            stacklevel=2,
        )


# NumPy


def _vjp(
    cell: Cell, params: Any, xs: Array, state: Any, lengths: Array, hs: Array
) -> tuple[Any, Back]:
    """`vjp`, with NumPy."""
    (steps, batch, _), hidden = xs.shape, params.b.shape[-1]
    tape = Tape(tuple(np.empty((steps + 1, hidden, batch), xs.dtype) for _ in state), [])
    final = _run(cell, params, xs, state, lengths, hs, tape)

    def back(d_hs: Array, d_state: Any, inputs: bool) -> tuple[Any, Array | None, Any]:
        d_xs = np.zeros_like(xs) if inputs else None
        return _back(cell, params, xs, lengths, tape, d_hs, d_state, d_xs)

    return final, back


def _run(
    cell: Cell,
    params: Any,
    xs: Array,
    state: Any,
    lengths: Array,
    hs: Array,
    tape: Tape | None = None,
) -> Any:
    """`run`, with NumPy; ``tape`` gets what `_back` needs."""
    steps, batch = xs.shape[:2]
    kernel = KERNELS[cell](cell, params)
    kernel.go_forward(batch)
    old = tuple(np.array(part.T, order="C") for part in state)  # to write into
    if tape:
        for states, part in zip(tape.states, old, strict=True):
            states[0] = part
    shortest, blocks = lengths.min(initial=steps), list(_blocks(lengths.max(initial=0), batch))
    room = np.empty((len(kernel.z), _columns_of(blocks, batch)), xs.dtype)
    for start, stop in blocks:
        x = _inputs(xs, lengths, start, stop)
        gates = room[:, : len(x)]
        if tape:
            kept = np.empty((len(kernel.kept), len(x)), xs.dtype)
            tape.gates.append(kept)
            gates = kept if kept.size else gates
        zx = kernel.project(x, gates)
        for t in range(start, stop):
            new = tuple(states[t + 1] for states in tape.states) if tape else old
            columns = slice((t - start) * batch, (t - start + 1) * batch)
            over = lengths <= t if t >= shortest else None
            past = None if over is None else [part[:, over] for part in old]
            kernel.step(zx[:, columns], old, new)
            hs[t] = new[0].T if over is None else np.where(over, 0, new[0]).T
            if past is not None:
                for part, before in zip(new, past, strict=True):
                    part[:, over] = before
            if tape:  # in the place of zx, which is used up
                kept[:, columns] = kernel.kept
            old = new
    return type(state)(*(np.array(part.T, order="C") for part in old))  # the tape keeps `old`


def _back(
    cell: Cell,
    params: Any,
    xs: Array,
    lengths: Array,
    tape: Tape,
    d_hs: Array,
    d_state: Any,
    d_xs: Array | None,
) -> tuple[Any, Array | None, Any]:
    """The gradients at params, xs (written into ``d_xs``, if there is one) and the first state."""
    steps, batch = xs.shape[:2]
    blocks = list(_blocks(lengths.max(initial=0), batch))
    kernel = KERNELS[cell](cell, params)
    kernel.go_back(_columns_of(blocks, batch))
    d = tuple(np.array(part.T, order="C") for part in d_state)
    shortest = lengths.min(initial=steps)
    for (start, stop), gates in zip(reversed(blocks), reversed(tape.gates), strict=True):
        over = _over(lengths, start, stop).ravel()
        old = tuple(_columns(states[start:stop], over) for states in tape.states)
        new = tuple(_columns(states[start + 1 : stop + 1], over) for states in tape.states)
        kernel.factors(
            np.where(over, gates.dtype.type(0), gates) if over.any() else gates, old, new
        )
        for t in reversed(range(start, stop)):
            columns = slice((t - start) * batch, (t - start + 1) * batch)
            d_h = d_hs[t].T
            if t < shortest:
                np.add(d[0], d_h, out=d[0])
                kernel.step_back(columns, d)
            else:  # past its length a sequence keeps its gradient and adds nothing
                ended = lengths <= t
                past = [part[:, ended] for part in d]
                np.add(d[0], np.where(ended, 0, d_h), out=d[0])
                for part in d:
                    part[:, ended] = 0
                kernel.step_back(columns, d)
                for part, before in zip(d, past, strict=True):
                    part[:, ended] = before
        kernel.collect(_inputs(xs, lengths, start, stop), old[0])
        if d_xs is not None:  # zero past a length, even where a weight is NaN
            d_x = kernel.d_x()
            d_x = np.where(over[:, None], d_x.dtype.type(0), d_x) if over.any() else d_x
            d_xs[start:stop] = d_x.reshape(stop - start, batch, -1)
    d_params = type(params)(**kernel.d_params())
    return d_params, d_xs, type(d_state)(*(np.ascontiguousarray(part.T) for part in d))


def _blocks(steps: int, batch: int) -> Iterator[tuple[int, int]]:
    size = max(1, COLUMNS // max(1, batch))
    for start in range(0, steps, size):
        yield start, min(start + size, steps)


def _columns_of(blocks: list[tuple[int, int]], batch: int) -> int:
    """Of the widest block, which is the first."""
    return blocks[0][1] * batch if blocks else 0


def _inputs(xs: Array, lengths: Array, start: int, stop: int) -> Array:
    """A block of inputs as ``(steps * batch, input)``, zeros past the lengths."""
    x = xs[start:stop].reshape(-1, xs.shape[2])
    over = _over(lengths, start, stop)
    return np.where(over.reshape(-1, 1), x.dtype.type(0), x) if over.any() else x


def _columns(states: Array, over: Array) -> Array:
    """``(steps, hidden, batch)`` as ``(hidden, steps * batch)``, zeros past the lengths."""
    columns = states.swapaxes(0, 1).reshape(states.shape[1], -1)
    return np.where(over, columns.dtype.type(0), columns) if over.any() else columns


def _over(lengths: Array, start: int, stop: int) -> Array:
    """``(steps, batch)``: which sequences have ended."""
    return np.arange(start, stop)[:, None] >= lengths
