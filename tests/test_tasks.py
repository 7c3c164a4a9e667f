"""The tasks: what they ask, and that chance and perfection are what they say."""

import itertools
import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lstmbook
from lstmbook.training import tasks
from lstmbook.training.losses import softmax_cross_entropy
from lstmbook.training.tasks import TASKS, Score, evaluate
from lstmbook.training.train import fit, init_model, start

each_task = pytest.mark.parametrize("name", TASKS)
MANY = 4000
SURE = 1e4  # a logit that leaves no doubt


def rng_of(*seed):
    return np.random.default_rng(seed)


def steps_that_count(batch):
    lengths = np.full(len(batch.xs), batch.xs.shape[1]) if batch.lengths is None else batch.lengths
    alive = np.arange(batch.xs.shape[1]) < np.asarray(lengths)[:, None]
    return alive if batch.weights is None else alive & (batch.weights > 0)


@each_task
def test_a_seed_is_a_batch(name):
    task = TASKS[name]()
    one, same, other = (task.batch(rng_of(seed), 5) for seed in (1, 1, 2))
    for a, b in zip(one, same, strict=True):
        np.testing.assert_array_equal(a, b)
    assert not np.array_equal(one.xs, other.xs)
    assert task.name == name
    assert task.source(5)(rng_of(1), 99).xs.tobytes() == one.xs.tobytes()
    with pytest.raises(ValueError, match="size is 0; expected at least one sequence"):
        task.batch(rng_of(1), 0)


@each_task
def test_a_model_can_be_trained_on_it(name):
    task = TASKS[name]()
    assert task.name == name
    model = init_model(rng_of(0), "lstm", task.input_size, 4, task.output_size)
    run = fit(start(model), task.source(3), task.loss, 2, progress=False)
    score = evaluate(run.model, task, 20)
    assert np.isfinite(score).all()
    assert evaluate(run.model, task, 20) == score
    assert evaluate(run.model, task, 20, seed=1) != score
    batch = task.batch(rng_of(0), 3)
    assert batch.xs.dtype == np.float32
    assert task.perfect.loss < task.chance.loss
    assert task.perfect.accuracy > task.chance.accuracy


@each_task
def test_evaluation_is_apart_from_training(name):
    task, drawn = TASKS[name](), []

    def draw(rng, size):
        drawn.append(task.draw(rng, size))
        return drawn[-1]

    watched = task._replace(draw=draw)
    model = init_model(rng_of(0), "rnn", task.input_size, 2, task.output_size)
    fit(start(model), watched.source(8), task.loss, 3, progress=False)
    evaluate(model, watched, 8)
    *trained, judged = drawn
    assert len(trained) == 3
    assert not any(np.array_equal(judged.xs, batch.xs) for batch in trained)


# The best blind answer, and the best answer of all, for each task.


def blind_mean(task, batch):
    return np.ones_like(batch.targets)


def blind_even(task, batch):
    return np.zeros((*batch.xs.shape[:2], task.output_size))


def blind_frequencies(task, batch):
    seen = np.bincount(batch.targets[steps_that_count(batch)], minlength=task.output_size)
    with np.errstate(divide="ignore"):
        return np.log(seen / seen.sum()) + blind_even(task, batch)


def blind_interval(task, batch):
    """The third pulse, for one who saw the second only."""
    since = np.cumsum(batch.xs[..., 0].cumsum(axis=1) == 2, axis=1) - 1
    may = (since >= 10) & (since <= 20)
    return np.where(may, math.log(1 / 10), -SURE)[..., None]


def read_adding(task, batch):
    numbers, marks = batch.xs[..., 0], batch.xs[..., 1]
    return (numbers * marks).sum(axis=1)[:, None, None] * np.ones(batch.targets.shape)


def read_copying(task, batch):
    first = batch.xs[:, :3, :4]
    outputs = blind_even(task, batch)
    outputs[:, -3:] = SURE * first
    return outputs


def read_timing(task, batch):
    outputs = np.full(batch.targets.shape, -SURE)
    for row, xs in zip(outputs, batch.xs, strict=True):
        first, second = np.flatnonzero(xs)
        row[second + (second - first)] = SURE
    return outputs


def read_counting(task, batch):
    """After k times a, the next is b with probability 1 / (most - k + 1)."""
    outputs = np.full((*batch.xs.shape[:2], 3), -SURE)
    for row, xs, length in zip(outputs, batch.xs, batch.lengths, strict=True):
        a = b = 0
        for t in range(length):
            a, b = a + xs[t, 0], b + xs[t, 1]
            if a and b == a:
                row[t] = [-SURE, -SURE, SURE]
            elif b:
                row[t] = [-SURE, SURE, -SURE]
            elif a == 0:
                row[t] = [SURE, -SURE, -SURE]
            else:
                more = (12 - a) / (12 - a + 1)
                row[t] = [math.log(more) if more else -SURE, math.log(1 - more), -SURE]
    return outputs


def read_parity(task, batch):
    return SURE * (2 * (batch.xs.astype(int).cumsum(axis=1) % 2) - 1)


def read_reber(task, batch):
    """By counting, over all words of the language, what follows each beginning."""
    follows = beginnings(all_words(24))
    outputs = np.full((*batch.xs.shape[:2], 7), -SURE)
    for row, xs, length in zip(outputs, batch.xs, batch.lengths, strict=True):
        word = "".join(tasks.REBER_SYMBOLS[k] for k in xs[:length].argmax(-1))
        for t in range(length):
            for symbol, p in follows[word[: t + 1]].items():
                row[t, tasks.REBER_SYMBOLS.index(symbol)] = math.log(p)
    return outputs


def read_characters(task, batch):
    text, letters = tasks.tale(), tasks.alphabet()
    outputs = np.full((*batch.xs.shape[:2], len(letters)), -SURE)
    for row, xs in zip(outputs, batch.xs, strict=True):
        piece = "".join(letters[k] for k in xs.argmax(-1))
        places = [k for k in range(len(text) - 50) if text[k] == piece[0]]
        for t in range(len(piece)):
            places = [k for k in places if text[k + t] == piece[t]]
            for symbol, n in Counter(text[k + t + 1] for k in places).items():
                row[t, letters.index(symbol)] = math.log(n / len(places))
    return outputs


BLIND = {
    "adding": blind_mean,
    "copying": blind_even,
    "timing": blind_interval,
    "counting": blind_frequencies,
    "parity": blind_even,
    "reber": blind_frequencies,
    "characters": blind_frequencies,
}
READ = {
    "adding": read_adding,
    "copying": read_copying,
    "timing": read_timing,
    "counting": read_counting,
    "parity": read_parity,
    "reber": read_reber,
    "characters": read_characters,
}


@each_task
def test_chance(name):
    """The best blind answer gets what ``chance`` says, to what a sample of this size allows."""
    task = TASKS[name]()
    batch = task.batch(rng_of(5), 10 * MANY if name == "adding" else MANY)
    score = task.score(BLIND[name](task, batch), batch)
    assert score.loss == pytest.approx(task.chance.loss, rel=0.02)
    # Of equal outputs argmax names the first: as good as any other.
    assert score.accuracy == pytest.approx(task.chance.accuracy, abs=0.025)


@each_task
def test_perfection(name):
    """One who reads the inputs gets what ``perfect`` says; where it is 0 and 1, exactly."""
    task = TASKS[name]()
    batch = task.batch(rng_of(6), 300 if name == "characters" else MANY)
    score = task.score(READ[name](task, batch), batch)
    if task.perfect == Score(0.0, 1.0):
        assert score.loss == pytest.approx(0, abs=1e-12)
        assert score.accuracy == 1
    else:
        assert score.loss == pytest.approx(task.perfect.loss, rel=0.04)
        assert score.accuracy == pytest.approx(task.perfect.accuracy, abs=0.005)


@each_task
def test_one_wrong_step_is_seen(name):
    """What is judged right is so for a reason: the opposite answer is wrong."""
    task = TASKS[name]()
    batch = task.batch(rng_of(7), 40)
    outputs = READ[name](task, batch)
    worse = task.score(-outputs, batch)
    assert worse.accuracy < 0.3
    assert worse.loss > task.score(outputs, batch).loss


def test_steps_that_do_not_count_do_not_matter():
    for name in TASKS:
        task = TASKS[name]()
        batch = task.batch(rng_of(8), 40)
        outputs = READ[name](task, batch)
        score = task.score(outputs, batch)
        spoiled = np.where(steps_that_count(batch)[..., None], outputs, 77.0)
        assert task.score(spoiled, batch) == score


# What is in the batches.


def test_adding():
    batch = tasks.adding(9).batch(rng_of(0), 500)
    numbers, marks = np.moveaxis(batch.xs, -1, 0)
    assert set(np.unique(marks)) == {0, 1}
    assert (marks[:, :4].sum(axis=1) == 1).all()
    assert (marks[:, 4:].sum(axis=1) == 1).all()
    assert (marks.sum(axis=0) > 0).all()  # every step is marked now and then
    assert 0 <= numbers.min() < 0.01
    assert 0.99 < numbers.max() < 1
    assert (np.flatnonzero(batch.weights.sum(axis=0)) == 8).all()


def test_adding_counts_within_a_tenth():
    task = tasks.adding()
    batch = task.batch(rng_of(0), 100)
    for off, right in [(0.099, 1), (-0.099, 1), (0.101, 0), (-0.101, 0)]:
        assert task.score(batch.targets + off, batch).accuracy == right


def test_copying():
    batch = tasks.copying(delay=4, symbols=3, length=2).batch(rng_of(0), 200)
    assert batch.xs.shape == (200, 8, 4)
    np.testing.assert_array_equal(batch.xs.sum(axis=-1), [[1, 1, 0, 0, 0, 0, 1, 1]] * 200)
    assert (batch.xs[:, 6:, 3] == 1).all()
    np.testing.assert_array_equal(batch.xs[:, :2].argmax(-1), batch.targets[:, 6:])
    assert len({tuple(word) for word in batch.targets[:, 6:]}) == 9
    np.testing.assert_array_equal(batch.weights, [[0] * 6 + [1, 1]] * 200)


def test_timing():
    batch = tasks.timing(2, 4).batch(rng_of(0), 100)
    seen = set()
    for xs, targets, weights in zip(*batch[:3], strict=True):
        first, second = np.flatnonzero(xs)
        (third,) = np.flatnonzero(targets)
        assert first == 0
        assert third - second == second
        np.testing.assert_array_equal(np.flatnonzero(weights), second + 1 + np.arange(4))
        seen.add(int(second))
    assert seen == {2, 3, 4}


def test_counting():
    batch = tasks.counting(3).batch(rng_of(0), 100)
    words = set()
    for xs, targets, length in zip(batch.xs, batch.targets, batch.lengths, strict=True):
        word = "".join("ab."[k] for k in targets[:length])
        assert "".join("ab."[k] for k in xs[:length].argmax(-1)) == "." + word[:-1]
        assert not xs[length:].any()
        words.add(word)
    assert words == {"ab.", "aabb.", "aaabbb."}


def test_counting_asks_for_the_whole_word():
    task = tasks.counting()
    batch = task.batch(rng_of(0), 50)
    outputs = read_counting(task, batch)
    for place in (0, 1):  # the end, and the b before it, or for n = 1 the first b
        spoiled = outputs.copy()
        for row, length in zip(spoiled, batch.lengths, strict=True):
            row[length - 1 - place] = [SURE, 0, 0]
        n = (batch.lengths - 1) // 2
        expected = 0 if place == 0 else (n == 1).mean()
        assert task.score(spoiled, batch).accuracy == pytest.approx(expected)


def test_parity():
    batch = tasks.parity(4).batch(rng_of(0), 200)
    assert len({row.tobytes() for row in batch.xs}) == 16
    for xs, targets in zip(batch.xs[..., 0], batch.targets[..., 0], strict=True):
        assert list(targets) == [sum(xs[: t + 1]) % 2 for t in range(4)]


# The grammar once more, as words of letters: Reber's graph by its published picture.
GRAPH = {
    "B": {"T": "1", "P": "2"},
    "1": {"S": "1", "X": "3"},
    "2": {"T": "2", "V": "4"},
    "3": {"X": "2", "S": "5"},
    "4": {"P": "3", "V": "5"},
}


def inner_words(longest):
    """Words ``B … E`` and their probabilities."""
    open_, words = [("B", "B", 1.0)], {}
    while open_:
        word, place, p = open_.pop()
        if place == "5":
            words[word + "E"] = p
        elif len(word) < longest - 1:
            open_ += [(word + symbol, then, p / 2) for symbol, then in GRAPH[place].items()]
    return words


def all_words(longest):
    words = {
        f"B{letter}{word}{letter}E": p / 2
        for word, p in inner_words(longest - 4).items()
        for letter in "TP"
    }
    total = sum(words.values())
    return {word: p / total for word, p in words.items()}


def beginnings(words):
    """What follows each beginning of a word, and how probably."""
    follows = {}
    for word, p in words.items():
        for t in range(1, len(word)):
            ways = follows.setdefault(word[:t], {})
            ways[word[t]] = ways.get(word[t], 0) + p
    return {
        begin: {symbol: p / sum(ways.values()) for symbol, p in ways.items()}
        for begin, ways in follows.items()
    }


@pytest.mark.parametrize("longest", [9, 12, 17])
def test_reber_scores_are_sums_over_all_words(longest):
    words, task = all_words(longest), tasks.reber(longest)
    assert max(map(len, words)) == longest
    steps = sum(p * (len(word) - 1) for word, p in words.items())
    entropy = -sum(p * math.log(p) for p in words.values())
    assert task.perfect.loss == pytest.approx(entropy / steps, abs=1e-12)
    counts = Counter()
    for word, p in words.items():
        for symbol in word[1:]:
            counts[symbol] += p / steps
    blind = -sum(share * math.log(share) for share in counts.values())
    assert task.chance.loss == pytest.approx(blind, abs=1e-12)


def test_reber_draws_each_word_as_often_as_it_should():
    words = all_words(10)
    batch = tasks.reber(10).batch(rng_of(0), MANY)
    seen = Counter()
    for xs, targets, length in zip(batch.xs, batch.targets, batch.lengths, strict=True):
        symbols = [*xs[:1].argmax(-1), *targets[:length]]
        np.testing.assert_array_equal(xs[:length].argmax(-1), symbols[:-1])
        assert not xs[length:].any()
        seen["".join(tasks.REBER_SYMBOLS[k] for k in symbols)] += 1
    assert seen.keys() == words.keys()
    for word, p in words.items():
        assert seen[word] / MANY == pytest.approx(p, abs=4 * math.sqrt(p / MANY))


def test_the_tale():
    text, letters = tasks.tale(), tasks.alphabet()
    assert 9_000 < len(text) < 30_000
    assert text.isascii()
    assert text.startswith("The Keeper of the Lamp\n")
    assert sorted(letters) == list(letters)
    assert set(letters) == set(text)
    shipped = Path(lstmbook.__file__).parent / "data" / "lamp.txt"
    assert shipped.read_bytes().decode() == text  # line ends too
    batch = tasks.characters(20).batch(rng_of(0), 50)
    for xs, targets in zip(batch.xs.argmax(-1), batch.targets, strict=True):
        piece = "".join(letters[k] for k in [*xs, targets[-1]])
        assert len(piece) == 21
        assert piece in text
        np.testing.assert_array_equal(xs[1:], targets[:-1])


def test_pieces_come_from_anywhere_in_the_tale(monkeypatch):
    monkeypatch.setattr(tasks, "tale", lambda: "abcdefgh")
    batch = tasks.characters(6).batch(rng_of(0), 20)
    tasks._tale_scores.cache_clear()
    assert {tuple(row) for row in batch.targets} == {(1, 2, 3, 4, 5, 6), (2, 3, 4, 5, 6, 7)}


@pytest.mark.parametrize("time", [1, 3, 50])
def test_scores_of_characters(time):
    """By the chain rule: what a whole piece surprises more than its first character does."""
    text, task = tasks.tale(), tasks.characters(time)
    places = len(text) - time

    def entropy(words):
        return -sum(n / places * math.log(n / places) for n in Counter(words).values())

    whole = entropy(text[k : k + time + 1] for k in range(places))
    first = entropy(text[k] for k in range(places))
    assert task.perfect.loss == pytest.approx((whole - first) / time, abs=1e-12)
    if time == 1:
        assert task.chance.loss == pytest.approx(entropy(text[1:]), abs=1e-12)


def test_text_pieces_read_the_tale_in_order():
    source, letters = tasks.text_pieces(3, 40), tasks.alphabet()
    pieces = (len(tasks.tale()) - 1) // 120
    batches = [source(None, step) for step in range(1, 2 * pieces + 1)]
    assert [batch.carry for batch in batches] == 2 * ([False] + [True] * (pieces - 1))
    read = np.concatenate([batch.xs.argmax(-1) for batch in batches[:pieces]], axis=1)
    text = "".join(letters[k] for k in read.ravel())
    assert text == tasks.tale()[: len(text)]
    assert len(tasks.tale()) - len(text) <= 120
    following = np.concatenate([batch.targets for batch in batches[:pieces]], axis=1)
    np.testing.assert_array_equal(following.ravel()[:-1], read.ravel()[1:])
    np.testing.assert_array_equal(batches[0].xs, batches[pieces].xs)


def test_text_pieces_train_through_their_state():
    task = tasks.characters()
    model = init_model(rng_of(0), "gru", task.input_size, 8, task.output_size)
    run = fit(start(model), tasks.text_pieces(4, 10), softmax_cross_entropy, 3, progress=False)
    assert run.state[0].h.any()


@settings(max_examples=40)
@given(name=st.sampled_from(list(TASKS)), size=st.integers(1, 6), data=st.data())
def test_any_size_of_task(name, size, data):
    least = {"adding": 2, "reber": 9}.get(name, 1)
    if name == "timing":
        shortest = data.draw(st.integers(1, 6))
        task = tasks.timing(shortest, shortest + data.draw(st.integers(1, 6)))
    elif name == "copying":
        parts = [data.draw(st.integers(low, 6)) for low in (0, 2, 1)]
        task = tasks.copying(*parts)
    else:
        task = TASKS[name](data.draw(st.integers(least, 30)))
    batch = task.batch(rng_of(0), size)
    assert batch.xs.shape[0] == size
    assert batch.xs.shape[2] == task.input_size
    assert steps_that_count(batch).any(axis=1).all()
    outputs = np.zeros((*batch.xs.shape[:2], task.output_size))
    assert np.isfinite(task.score(outputs, batch)).all()
    assert np.isfinite([*task.chance, *task.perfect]).all()
    assert task.perfect.loss <= task.chance.loss + 1e-12


def test_sizes_that_cannot_be():
    wrong = [
        (lambda: tasks.adding(1), "time is 1; expected at least 2"),
        (lambda: tasks.copying(delay=-1), "delay is -1; expected at least 0"),
        (lambda: tasks.copying(symbols=1), "symbols is 1; expected at least 2"),
        (lambda: tasks.copying(length=0), "length is 0; expected at least 1"),
        (lambda: tasks.timing(0), "shortest is 0; expected at least 1"),
        (lambda: tasks.timing(5, 5), "longest is 5; expected at least 6"),
        (lambda: tasks.counting(0), "most is 0; expected at least 1"),
        (lambda: tasks.parity(0), "time is 0; expected at least 1"),
        (lambda: tasks.reber(8), "longest is 8; expected at least 9"),
        (lambda: tasks.characters(0), "time is 0; expected at least 1"),
        (lambda: tasks.characters(10**6), "pieces, the tale's length less time, is -"),
        (lambda: tasks.text_pieces(10**6), "pieces in a reading is 0; expected at least 1"),
    ]
    for make, message in wrong:
        with pytest.raises(ValueError, match=message):
            make()


def test_every_task_is_in_the_table():
    assert list(TASKS) == [
        name for name in TASKS if tasks.__doc__.count(f"`{name}`") == 1 and name in tasks.__all__
    ]
    pairs = itertools.combinations([make().name for make in TASKS.values()], 2)
    assert all(a != b for a, b in pairs)
