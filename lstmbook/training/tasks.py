"""Tasks that need a memory, generated without end, with a known best answer each.

=============== ==========================================================================
`adding`        add the two numbers that were marked, long ago
`copying`       repeat a few symbols after a pause
`timing`        two pulses: give a third after the same interval
`counting`      a^n b^n: as many b as there were a
`parity`        is the number of ones so far odd?
`reber`         a small formal language: the end depends on the beginning
`characters`    the next character of a tale
=============== ==========================================================================

Each returns a `Task`. Its ``chance`` is what the best answer gets that never looks at the inputs,
its ``perfect`` what the best answer of all gets: both are computed, not measured.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..cells._activations import Array
from .losses import binary_cross_entropy, mean_squared_error, softmax_cross_entropy
from .model import Loss, Model, forward
from .runs import Score as Score
from .train import Batch

__all__ = [
    "TASKS",
    "Task",
    "adding",
    "alphabet",
    "characters",
    "copying",
    "counting",
    "evaluate",
    "parity",
    "reber",
    "tale",
    "text_pieces",
    "timing",
]


class Task(NamedTuple):
    """A source of batches, and how to judge the answers. Made by the functions of this module."""

    name: str
    input_size: int
    output_size: int
    loss: Loss
    draw: Callable[[np.random.Generator, int], Batch]
    right: Callable[[Array, Batch], Array]  # (outputs, batch) -> booleans, one per answer
    chance: Score
    perfect: Score

    def batch(self, rng: np.random.Generator, size: int) -> Batch:
        """``size`` fresh sequences; the same ones for an ``rng`` in the same state."""
        if size < 1:
            raise ValueError(f"size is {size}; expected at least one sequence")
        return self.draw(rng, size)

    def source(self, size: int) -> Callable[[np.random.Generator, int], Batch]:
        """What `lstmbook.training.train.fit` draws its batches of ``size`` sequences from."""
        return lambda rng, step: self.batch(rng, size)

    def score(self, outputs: Array, batch: Batch) -> Score:
        """How good these answers to a batch are."""
        loss, _ = self.loss(outputs, batch.targets, _counts(batch))
        return Score(loss, float(self.right(outputs, batch).mean()))


def evaluate(model: Model, task: Task, size: int = 500, seed: int = 0) -> Score:
    """The score of a model on ``size`` sequences that training does not use.

    They are drawn from ``numpy.random.default_rng([seed, 0, 1])``: the same in each call.
    """
    batch = task.batch(np.random.default_rng([seed, 0, 1]), size)
    outputs, _ = forward(model, batch.xs, lengths=batch.lengths)
    return task.score(outputs, batch)


def _counts(batch: Batch) -> Array:
    """What each step counts: its weight, and nothing past the end of a sequence."""
    size, steps = batch.xs.shape[:2]
    lengths = np.full(size, steps) if batch.lengths is None else batch.lengths
    weights = np.ones((size, steps)) if batch.weights is None else batch.weights
    return np.where(np.arange(steps) < lengths[:, None], weights, 0)


def _one_hot(symbols: Array, size: int) -> Array:
    return np.asarray(np.eye(size, dtype=np.float32)[symbols])


def _counted(outputs: Array, batch: Batch) -> Array:
    """Right where the greatest output is the target, at the steps that count."""
    return np.asarray((outputs.argmax(-1) == batch.targets)[_counts(batch) > 0])


def _binary_entropy(p: float) -> float:
    return float(-(p * np.log(p) + (1 - p) * np.log1p(-p)))


def adding(time: int = 50) -> Task:
    """Add two numbers out of many: only the two that are marked count.

    Each step shows a number, uniform from 0 to 1, and a mark: 1 at one step of the first half and
    at one of the second, else 0. After the last step the answer is the sum of the two marked
    numbers. Loss: squared error. Right: within 0.1.

    Chance: the best blind answer is the mean, 1; its squared error is the variance of a sum of
    two, ``2 / 12``, and it is within 0.1 with probability ``1 - 0.9**2``. Perfect: 0 and 1.

    Source: Hochreiter and Schmidhuber (1997), experiment 4; in this form Le, Jaitly and
    Hinton (2015).
    """
    _check_least("time", time, 2)

    def draw(rng: np.random.Generator, size: int) -> Batch:
        numbers, rows = rng.random((size, time), np.float32), np.arange(size)
        first, second = rng.integers(0, time // 2, size), rng.integers(time // 2, time, size)
        marks = np.zeros((size, time), np.float32)
        marks[rows, first] = marks[rows, second] = 1
        targets = np.zeros((size, time, 1), np.float32)
        targets[:, -1, 0] = numbers[rows, first] + numbers[rows, second]
        return Batch(np.stack([numbers, marks], axis=-1), targets, _last_step(size, time))

    def right(outputs: Array, batch: Batch) -> Array:
        return np.asarray(np.abs(outputs - batch.targets)[:, -1, 0] < 0.1)

    chance = Score(2 / 12, 1 - 0.9**2)
    return Task("adding", 2, 1, mean_squared_error, draw, right, chance, Score(0.0, 1.0))


def copying(delay: int = 20, symbols: int = 4, length: int = 3) -> Task:
    """Repeat ``length`` symbols in order, ``delay`` steps after the last of them.

    The inputs are one-hot symbols, then nothing for ``delay`` steps, then a signal that stays on
    while the answer is given, one symbol at each step. Loss: cross entropy at these steps.
    Right: a symbol.

    Chance: ``log(symbols)`` and ``1 / symbols``. Perfect: 0 and 1.

    Source: after Hochreiter and Schmidhuber (1997); Arjovsky, Shah and Bengio (2016).
    """
    _check_least("delay", delay, 0)
    _check_least("symbols", symbols, 2)
    _check_least("length", length, 1)
    time = delay + 2 * length

    def draw(rng: np.random.Generator, size: int) -> Batch:
        word = rng.integers(0, symbols, (size, length))
        xs = np.zeros((size, time, symbols + 1), np.float32)
        xs[:, :length, :symbols] = _one_hot(word, symbols)
        xs[:, -length:, symbols] = 1
        targets = np.zeros((size, time), np.int64)
        targets[:, -length:] = word
        weights = np.zeros((size, time), np.float32)
        weights[:, -length:] = 1
        return Batch(xs, targets, weights)

    chance = Score(float(np.log(symbols)), 1 / symbols)
    perfect = Score(0.0, 1.0)
    return Task(
        "copying", symbols + 1, symbols, softmax_cross_entropy, draw, _counted, chance, perfect
    )


def timing(shortest: int = 10, longest: int = 20) -> Task:
    """Two pulses, and a third to be given after the same interval.

    The first pulse comes at step 0, the second at step ``n``, uniform from ``shortest`` to
    ``longest``, and the answer is a pulse at step ``2 n``. Nothing else happens, so the interval
    must be measured and measured out again. Loss: binary cross entropy at the ``longest`` steps
    after the second pulse. Right: the greatest output of these steps is at the right one.

    Chance here sees the second pulse but not the first: any of the ``k`` intervals may be, so at
    ``k`` of the steps the pulse comes with probability ``1 / k``. Perfect: 0 and 1.

    Source: after Gers, Schraudolph and Schmidhuber (2002), measuring and generating spike delays.
    """
    _check_least("shortest", shortest, 1)
    _check_least("longest", longest, shortest + 1)
    time, intervals = 2 * longest + 1, longest - shortest + 1

    def draw(rng: np.random.Generator, size: int) -> Batch:
        n, rows = rng.integers(shortest, longest + 1, size), np.arange(size)
        xs, targets = np.zeros((2, size, time, 1), np.float32)
        xs[:, 0] = xs[rows, n] = targets[rows, 2 * n] = 1
        since = np.arange(time) - n[:, None]
        return Batch(xs, targets, ((since > 0) & (since <= longest)).astype(np.float32))

    def right(outputs: Array, batch: Batch) -> Array:
        heard = np.where(np.asarray(batch.weights) > 0, outputs[..., 0], -np.inf)
        return np.asarray(heard.argmax(-1) == batch.targets[..., 0].argmax(-1))

    chance = Score(intervals * _binary_entropy(1 / intervals) / longest, 1 / intervals)
    return Task("timing", 1, 1, binary_cross_entropy, draw, right, chance, Score(0.0, 1.0))


def counting(most: int = 12) -> Task:
    """The language a^n b^n: name the next symbol, and after the last b the end.

    ``n`` is uniform from 1 to ``most``. The inputs are a start sign, n times a, n times b; the
    targets the same one step earlier, with an end sign. Loss: cross entropy. Right: a word in
    which everything from the first b on was foreseen, the end included.

    Chance: the frequencies of a, b and end; no word is right. Perfect: when the first b will come
    cannot be known, which costs ``log(most)`` nats in a word of ``most + 2`` steps on average;
    everything after is certain.

    Source: Gers and Schmidhuber (2001).
    """
    _check_least("most", most, 1)
    time = 2 * most + 1

    def draw(rng: np.random.Generator, size: int) -> Batch:
        n = rng.integers(1, most + 1, size)[:, None]
        steps = np.arange(time)
        targets = np.where(steps < n, 0, np.where(steps < 2 * n, 1, 2))  # a, b, end
        before = np.concatenate([np.full((size, 1), 2), targets[:, :-1]], axis=1)
        lengths = 2 * n[:, 0] + 1
        xs = _one_hot(before, 3) * (steps < lengths[:, None])[..., None]
        return Batch(xs, targets, lengths=lengths)

    def right(outputs: Array, batch: Batch) -> Array:
        n = (np.asarray(batch.lengths)[:, None] - 1) // 2
        steps = np.arange(time)
        free = (steps <= n) | (steps > 2 * n)  # not known yet, or after the end
        return np.asarray(((outputs.argmax(-1) == batch.targets) | free).all(-1))

    mean = (1 + most) / 2
    share = np.array([mean, mean, 1]) / (2 * mean + 1)
    chance = Score(float(-(share * np.log(share)).sum()), 0.0)
    perfect = Score(float(np.log(most) / (most + 2)), 1.0)
    return Task("counting", 3, 3, softmax_cross_entropy, draw, right, chance, perfect)


def parity(time: int = 20) -> Task:
    """At every step: is the number of ones so far odd?

    The inputs are 0 or 1 with equal probability. One bit of memory is enough, but each input may
    flip it. Loss: binary cross entropy. Right: a step.

    Chance: ``log(2)`` and one half. Perfect: 0 and 1.
    """
    _check_least("time", time, 1)

    def draw(rng: np.random.Generator, size: int) -> Batch:
        bits = rng.integers(0, 2, (size, time, 1))
        return Batch(bits.astype(np.float32), (bits.cumsum(axis=1) % 2).astype(np.float32))

    def right(outputs: Array, batch: Batch) -> Array:
        return np.asarray((outputs > 0) == (batch.targets > 0.5))

    chance, perfect = Score(float(np.log(2)), 0.5), Score(0.0, 1.0)
    return Task("parity", 1, 1, binary_cross_entropy, draw, right, chance, perfect)


# What may follow in Reber's grammar: (symbol, next node); both are equally likely.
REBER_SYMBOLS = "BTPSXVE"
_INNER = {
    0: [("B", 1)],
    1: [("T", 2), ("P", 3)],
    2: [("S", 2), ("X", 4)],
    3: [("T", 3), ("V", 5)],
    4: [("X", 3), ("S", 6)],
    5: [("P", 4), ("V", 6)],
    6: [("E", 7)],
}
Node = tuple[str, int]  # the letter to remember, and the node of the inner grammar


def _follow(node: Node) -> list[tuple[str, Node]]:
    """The embedded grammar: ``B`` T (inner word) T ``E``, or with P for T."""
    letter, place = node
    if place == -2:
        return [("B", ("", -1))]
    if place == -1:
        return [("T", ("T", 0)), ("P", ("P", 0))]
    if place == 7:
        return [(letter, (letter, 8))]
    if place == 8:
        return [("E", (letter, 9))]
    return [(symbol, (letter, after)) for symbol, after in _INNER.get(place, [])]


@cache
def _finish(node: Node, steps: int) -> float:
    """The probability that the word ends within so many more symbols."""
    if node[1] == 9:
        return 1.0
    if steps == 0:
        return 0.0
    ways = _follow(node)
    return sum(_finish(after, steps - 1) for _, after in ways) / len(ways)


@cache
def _ways(node: Node, steps: int) -> list[tuple[float, str, Node]]:
    """What comes next, and how probably, in a word that ends within so many symbols."""
    ways = _follow(node)
    share = 1 / len(ways) / _finish(node, steps)
    weighed = [(share * _finish(after, steps - 1), symbol, after) for symbol, after in ways]
    return [way for way in weighed if way[0] > 0]


@cache
def _reber_scores(longest: int) -> tuple[Score, Score]:
    """Chance and perfect, summed over all that can happen at each place of a word."""
    # The first symbol, B, is an input only: it is given, not guessed.
    ends: dict[Node, float] = {("", -1): 1.0}
    surprise, counts = 0.0, dict.fromkeys(REBER_SYMBOLS, 0.0)
    for left in range(longest - 1, 0, -1):
        after: dict[Node, float] = {}
        for node, weight in ends.items():
            for p, symbol, then in _ways(node, left):
                surprise -= weight * p * np.log(p)
                counts[symbol] += weight * p
                after[then] = after.get(then, 0.0) + weight * p
        ends = {node: weight for node, weight in after.items() if node[1] != 9}
    length = sum(counts.values())
    share = np.array([count / length for count in counts.values() if count])
    blind = float(-(share * np.log(share)).sum())
    return Score(blind, 0.5), Score(float(surprise / length), 1.0)


def reber(longest: int = 24) -> Task:
    """Reber's grammar, embedded: the last letter but one is the second, T or P.

    A word is ``B T inner T E`` or ``B P inner P E`` with equal probability, where ``inner`` is a
    walk through Reber's small graph, which likes T and P too. Words are drawn among those of at
    most ``longest`` symbols, with their natural probabilities. Each symbol but the last is an
    input, and the next one is the target. Loss: cross entropy. Right: of T and P, the last letter
    but one has the greater output.

    Chance: the frequencies of the symbols; one half. Perfect: the entropy of the grammar per
    symbol, for one who knows ``longest``; 1. Both are summed over all words.

    Source: Reber (1967); Hochreiter and Schmidhuber (1997), experiment 1.
    """
    _check_least("longest", longest, 9)

    def word(rng: np.random.Generator) -> list[int]:
        node: Node = ("", -2)
        symbols: list[int] = []
        while node[1] != 9:
            ways = _ways(node, longest - len(symbols))  # one or two
            _, symbol, node = ways[0] if rng.random() < ways[0][0] else ways[-1]
            symbols.append(REBER_SYMBOLS.index(symbol))
        return symbols

    def draw(rng: np.random.Generator, size: int) -> Batch:
        words = [word(rng) for _ in range(size)]
        lengths = np.array([len(symbols) - 1 for symbols in words])
        padded = np.zeros((size, longest), np.int64)
        for row, symbols in zip(padded, words, strict=True):
            row[: len(symbols)] = symbols
        alive = np.arange(longest - 1) < lengths[:, None]
        xs = _one_hot(padded[:, :-1], len(REBER_SYMBOLS)) * alive[..., None]
        return Batch(xs, padded[:, 1:], lengths=lengths)

    def right(outputs: Array, batch: Batch) -> Array:
        rows, steps = np.arange(len(outputs)), np.asarray(batch.lengths) - 2
        t, p = (outputs[rows, steps, REBER_SYMBOLS.index(letter)] for letter in "TP")
        return np.asarray((t > p) == (batch.targets[rows, steps] == REBER_SYMBOLS.index("T")))

    size = len(REBER_SYMBOLS)
    return Task("reber", size, size, softmax_cross_entropy, draw, right, *_reber_scores(longest))


@cache
def tale() -> str:
    """The text of `characters`: a tale written for this book, under the book's own licence."""
    return (Path(__file__).parent.parent / "data" / "lamp.txt").read_text(encoding="utf-8")


def alphabet() -> str:
    """The characters of the tale, each once, in order; a character's number is its place here."""
    return "".join(sorted(set(tale())))


def _numbers() -> Array:
    place = {character: k for k, character in enumerate(alphabet())}
    return np.array([place[character] for character in tale()])


def characters(time: int = 50) -> Task:
    """The next character of a tale, in pieces of ``time`` characters from anywhere in it.

    Loss: cross entropy. Right: a character.

    Chance: the frequencies of the characters. Perfect: for one who knows the tale by heart, each
    piece goes on in one way as soon as it has one place in the tale; before that, as often as each
    way occurs. A model is so measured by how much of this text it has learned, not by its English.
    """
    numbers, size = _numbers(), len(alphabet())
    _check_least("time", time, 1)
    places = len(numbers) - time
    _check_least("the number of pieces, the tale's length less time,", places, 1)

    def draw(rng: np.random.Generator, batch: int) -> Batch:
        pieces = numbers[rng.integers(0, places, batch)[:, None] + np.arange(time + 1)]
        return Batch(_one_hot(pieces[:, :-1], size), pieces[:, 1:])

    return Task(
        "characters", size, size, softmax_cross_entropy, draw, _counted, *_tale_scores(time)
    )


@cache
def _tale_scores(time: int) -> tuple[Score, Score]:
    """Chance and perfect over all pieces, each at each of its steps."""
    numbers, size = _numbers(), len(alphabet())
    places = len(numbers) - time
    total = places * time
    counts = sum(np.bincount(numbers[t + 1 : t + 1 + places], minlength=size) for t in range(time))
    share = np.asarray(counts)[np.asarray(counts) > 0] / total
    chance = Score(float(-(share * np.log(share)).sum()), float(share.max()))
    loss = hits = 0.0
    _, seen = np.unique(numbers[:places], return_inverse=True)  # alike so far: the same number
    for t in range(time):
        ways = seen * size + numbers[t + 1 : t + 1 + places]
        ways, longer, n = np.unique(ways, return_inverse=True, return_counts=True)
        _, first = np.unique(ways // size, return_index=True)
        loss -= float((n * np.log(n / np.bincount(seen)[ways // size])).sum())
        hits += float(np.maximum.reduceat(n, first).sum())
        seen = longer
    return chance, Score(loss / total, hits / total)


def text_pieces(size: int, time: int = 50) -> Callable[[np.random.Generator, int], Batch]:
    """The whole tale in order, for truncated backpropagation through time.

    The tale is read from ``size`` places at once, in pieces of ``time`` characters. Every batch
    goes on where the one before ended (``carry``), but for the first of each reading.
    A ``source`` for `lstmbook.training.train.fit`; the random generator is not used.
    """
    numbers, classes = _numbers(), len(alphabet())
    pieces = (len(numbers) - 1) // (size * time)
    _check_least("the number of pieces in a reading", pieces, 1)
    inputs = numbers[: size * pieces * time].reshape(size, pieces, time)
    targets = numbers[1 : size * pieces * time + 1].reshape(size, pieces, time)

    def source(rng: np.random.Generator, step: int) -> Batch:
        k = (step - 1) % pieces
        return Batch(_one_hot(inputs[:, k], classes), targets[:, k], carry=k > 0)

    return source


def _last_step(size: int, time: int) -> Array:
    weights = np.zeros((size, time), np.float32)
    weights[:, -1] = 1
    return weights


def _check_least(name: str, value: int, least: int) -> None:
    if value < least:
        raise ValueError(f"{name} is {value}; expected at least {least}")


TASKS: dict[str, Callable[..., Task]] = {
    "adding": adding,
    "copying": copying,
    "timing": timing,
    "counting": counting,
    "parity": parity,
    "reber": reber,
    "characters": characters,
}
