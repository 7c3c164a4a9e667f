"""Losses, gradients of a whole model, clipping, Adam, and runs that stop and go on."""

import copy
import io
import itertools
import json
import math
import sys
import time
from contextlib import suppress
from types import SimpleNamespace

import numpy as np
import pytest
from cases import params_of
from hypothesis import given, settings
from hypothesis import strategies as st

from lstmbook import CELLS
from lstmbook.cells import lstm
from lstmbook.training import progress, train
from lstmbook.training.progress import Progress
from lstmbook.training.train import (
    Batch,
    Model,
    adam_step,
    binary_cross_entropy,
    clip_by_global_norm,
    fit,
    forward,
    gradients,
    init_adam,
    init_model,
    load,
    mean_squared_error,
    save,
    softmax_cross_entropy,
    start,
)

BATCH, TIME, INPUT, HIDDEN, OUTPUT = 4, 6, 3, 5, 2
LENGTHS = [TIME, 0, 2, 5]
TINY = 1e-30


def arrays_of(tree):
    """All arrays, in order."""
    if isinstance(tree, np.ndarray):
        return [tree]
    return [array for part in tree for array in arrays_of(part)]


def weights_of(model):
    return arrays_of([model.params, model.W, model.b])


def assert_same(left, right):
    """The same bits."""
    left, right = arrays_of(left), arrays_of(right)
    assert len(left) == len(right)
    for a, b in zip(left, right, strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


# Losses


def softmax_oracle(z, t):
    return math.log(sum(math.exp(v) for v in z)) - z[t]


def binary_oracle(z, t):
    p = [1 / (1 + math.exp(-v)) for v in z]
    return sum(-u * math.log(q) - (1 - u) * math.log(1 - q) for q, u in zip(p, t, strict=True))


def squared_oracle(z, t):
    return sum((v - u) ** 2 for v, u in zip(z, t, strict=True))


def loss_case(name, dtype=np.float64):
    """Outputs, targets, weights with a zero among them, and the loss by scalar loops."""
    rng = np.random.default_rng(3)
    outputs = rng.normal(size=(BATCH, TIME, 3), scale=2).astype(dtype)
    weights = rng.random((BATCH, TIME))
    weights[1, 2:4] = 0
    if name == "softmax":
        targets, oracle, each = rng.integers(0, 3, (BATCH, TIME)), softmax_oracle, 1
    elif name == "binary":
        targets, oracle, each = rng.random(outputs.shape), binary_oracle, 3
    else:
        targets, oracle, each = rng.normal(size=outputs.shape), squared_oracle, 3

    def expected(outputs):
        terms = sum(
            weights[place] * oracle(outputs[place], targets[place])
            for place in np.ndindex(BATCH, TIME)
        )
        return terms / weights.sum() / each

    return outputs, targets, weights, expected


LOSSES = {
    "softmax": softmax_cross_entropy,
    "binary": binary_cross_entropy,
    "squared": mean_squared_error,
}
each_loss = pytest.mark.parametrize("name", LOSSES)


@each_loss
def test_loss_is_the_scalar_one(name):
    outputs, targets, weights, expected = loss_case(name)
    value, _ = LOSSES[name](outputs, targets, weights)
    assert value == pytest.approx(expected(outputs), abs=1e-12)
    alike, _ = LOSSES[name](outputs, targets)
    assert alike == pytest.approx(LOSSES[name](outputs, targets, 7 * np.ones((BATCH, TIME)))[0])
    assert alike != pytest.approx(value, abs=1e-3)


@each_loss
def test_gradient_of_a_loss_is_its_slope(name):
    outputs, targets, weights, expected = loss_case(name)
    _, d_outputs = LOSSES[name](outputs, targets, weights)
    size = 1e-5
    for place in np.ndindex(outputs.shape):
        up, down = outputs.copy(), outputs.copy()
        up[place] += size
        down[place] -= size
        assert d_outputs[place] == pytest.approx(
            (expected(up) - expected(down)) / (2 * size), abs=1e-9
        )
    assert not d_outputs[1, 2:4].any()


@each_loss
def test_loss_keeps_the_dtype_and_changes_nothing(name):
    outputs, targets, weights, expected = loss_case(name, np.float32)
    given = copy.deepcopy((outputs, targets, weights))
    value, d_outputs = LOSSES[name](outputs, targets, weights)
    assert isinstance(value, float)
    assert value == pytest.approx(expected(outputs.astype(float)), rel=1e-5)
    assert d_outputs.dtype == np.float32
    assert d_outputs.shape == outputs.shape
    assert_same(list(given), [outputs, targets, weights])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_large_logits(dtype):
    logits = np.array([[1e4, -1e4], [-1e4, 1e4]], dtype)
    value, d_logits = softmax_cross_entropy(logits, [0, 0])
    assert value == 1e4
    np.testing.assert_array_equal(d_logits, [[0, 0], [-0.5, 0.5]])
    value, d_logits = binary_cross_entropy(logits, [[1, 1], [0, 1]])
    assert value == 1e4 / 4
    np.testing.assert_array_equal(d_logits, [[0, -0.25], [0, 0]])


@each_loss
def test_losses_are_tensorflows(tf, name):
    outputs, targets, _, _ = loss_case(name)
    with tf.GradientTape() as tape:
        z = tf.Variable(outputs)
        loss = {
            "softmax": tf.nn.sparse_softmax_cross_entropy_with_logits,
            "binary": tf.nn.sigmoid_cross_entropy_with_logits,
            "squared": tf.math.squared_difference,
        }[name]
        names = ("x", "y") if name == "squared" else ("logits", "labels")
        theirs = tf.reduce_mean(loss(**dict(zip(names, (z, targets), strict=True))))
    value, d_outputs = LOSSES[name](outputs, targets)
    assert value == pytest.approx(float(theirs), abs=1e-12)
    np.testing.assert_allclose(d_outputs, tape.gradient(theirs, z), rtol=0, atol=1e-12)


def test_losses_say_what_does_not_fit():
    logits = np.zeros((2, 3, 4))
    with pytest.raises(TypeError, match="targets has dtype float64; expected integers"):
        softmax_cross_entropy(logits, np.zeros((2, 3)))
    with pytest.raises(ValueError, match=r"call for \(2, 3\). One axis too many: targets\[..., 0"):
        softmax_cross_entropy(logits, np.zeros((2, 3, 1), int))
    with pytest.raises(ValueError, match="targets go from 0 to 4; expected 0 to 3, since there"):
        softmax_cross_entropy(logits, [[0, 1, 2], [3, 4, 0]])
    with pytest.raises(ValueError, match="targets go from -1 to 0"):
        softmax_cross_entropy(logits, [[0, -1, 0], [0, 0, 0]])
    with pytest.raises(
        ValueError, match=r"targets has shape \(2, 3\).*missing: targets\[..., None"
    ):
        mean_squared_error(logits[..., :1], np.zeros((2, 3)))
    with pytest.raises(ValueError, match=r"targets has shape \(3, 4\); the outputs call for"):
        binary_cross_entropy(logits, np.zeros((3, 4)))
    with pytest.raises(
        ValueError, match=r"weights has shape \(2,\); the outputs call for \(2, 3\)"
    ):
        mean_squared_error(logits, logits, np.ones(2))
    for wrong in (np.zeros((2, 3)), [[-1, 2, 2], [2, 2, 2]], [[np.nan] * 3] * 2):
        with pytest.raises(ValueError, match="expected a positive sum and none below 0"):
            mean_squared_error(logits, logits, wrong)


# The model


def model_of(cells, rng, dtype=np.float64):
    """Random weights everywhere, biases too; all sizes different."""
    sizes = [INPUT] + [HIDDEN] * (len(cells) - 1)
    params = tuple(
        params_of(CELLS[cell], rng, size, HIDDEN, dtype)
        for cell, size in zip(cells, sizes, strict=True)
    )
    W, b = rng.normal(size=(HIDDEN, OUTPUT)), rng.normal(size=OUTPUT)
    return Model(tuple(cells), params, W.astype(dtype), b.astype(dtype))


def model_case(cells, dtype=np.float64, seed=1):
    rng = np.random.default_rng(seed)
    model = model_of(cells, rng, dtype)
    xs = rng.normal(size=(BATCH, TIME, INPUT)).astype(dtype)
    state = tuple(
        CELLS[cell].State(
            *(rng.normal(size=(BATCH, HIDDEN)).astype(dtype) for _ in CELLS[cell].State._fields)
        )
        for cell in cells
    )
    targets = rng.normal(size=(BATCH, TIME, OUTPUT)).astype(dtype)
    return model, xs, state, targets, rng.random((BATCH, TIME))


STACKS = [("lstm",), ("rnn", "gru_reset_after"), ("peephole", "gru", "coupled")]


@pytest.mark.parametrize("cells", STACKS)
@pytest.mark.parametrize("lengths", [None, LENGTHS])
def test_gradients_are_the_complex_step(cells, lengths):
    model, xs, state, targets, weights = model_case(cells)
    value, grads, final = gradients(
        model, xs, targets, mean_squared_error, state, weights=weights, lengths=lengths
    )
    outputs, same = forward(model, xs, state, lengths=lengths)
    for a, b in zip(arrays_of(final), arrays_of(same), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-12)  # a compiled loop rounds otherwise
    valid = weights.copy()
    for row, length in enumerate(LENGTHS if lengths else [TIME] * BATCH):
        valid[row, length:] = 0
    expected, d_outputs = mean_squared_error(outputs, targets, valid)
    assert value == pytest.approx(expected, abs=1e-12)

    # To first order the loss is sum(d_outputs * outputs).
    for k in range(len(weights_of(model))):
        varied = copy.deepcopy(model)
        varied = varied._replace(
            params=tuple(type(p)(*(a.astype(complex) for a in p)) for p in varied.params),
            W=varied.W.astype(complex),
            b=varied.b.astype(complex),
        )
        array, got = weights_of(varied)[k], weights_of(grads)[k]
        for place in np.ndindex(array.shape):
            array[place] += TINY * 1j
            slope = np.sum(d_outputs * forward(varied, xs, state, lengths=lengths)[0]).imag / TINY
            array[place] = array[place].real
            assert got[place] == pytest.approx(slope, abs=1e-12)


def test_forward_is_the_layers_one_by_one():
    model, xs, state, _, _ = model_case(("lstm", "gru"))
    hs, (h, c) = lstm.step(model.params[0], xs[:, 0], state[0])
    deep, last = CELLS["gru"].step(model.params[1], hs, state[1])
    outputs, (first, second) = forward(model, xs[:, :1], state)
    np.testing.assert_allclose(outputs[:, 0], deep @ model.W + model.b, rtol=0, atol=1e-12)
    for ours, theirs in [(first.h, h), (first.c, c), (second.h, last.h)]:
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-12)


def test_lengths_are_weights_of_zero():
    model, xs, _, targets, _ = model_case(("lstm", "gru"))
    alive = np.arange(TIME) < np.array(LENGTHS)[:, None]
    by_lengths = gradients(model, xs, targets, mean_squared_error, lengths=LENGTHS)
    by_weights = gradients(model, xs, targets, mean_squared_error, weights=alive)
    assert by_lengths[0] == pytest.approx(by_weights[0], abs=1e-12)
    for a, b in zip(weights_of(by_lengths[1]), weights_of(by_weights[1]), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-12)


def test_pieces_with_a_carried_state_are_the_whole():
    """Truncated backpropagation: the outputs are those of the whole; the gradient is cut."""
    model, xs, state, targets, _ = model_case(("lstm", "gru"))
    whole, final = forward(model, xs, state)
    _, full, _ = gradients(model, xs, targets, mean_squared_error, state)
    _, first, middle = gradients(model, xs[:, :4], targets[:, :4], mean_squared_error, state)
    _, second, last = gradients(model, xs[:, 4:], targets[:, 4:], mean_squared_error, middle)
    outputs = forward(model, xs[:, 4:], middle)[0]
    np.testing.assert_allclose(outputs, whole[:, 4:], rtol=0, atol=1e-12)
    for ours, theirs in zip(arrays_of(last), arrays_of(final), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-12)
    cut = [4 / 6 * a + 2 / 6 * b for a, b in zip(first.params[0], second.params[0], strict=True)]
    assert np.abs(cut[0] - full.params[0].W_x).max() > 1e-3
    head = 4 / 6 * first.W + 2 / 6 * second.W  # no time in the head: nothing is cut there
    np.testing.assert_allclose(head, full.W, rtol=0, atol=1e-12)


@settings(max_examples=25)
@given(
    cells=st.lists(st.sampled_from(list(CELLS)), min_size=1, max_size=3),
    sizes=st.tuples(*[st.integers(1, 5)] * 5),
    dtype=st.sampled_from([np.float32, np.float64]),
)
def test_shapes_and_dtype(cells, sizes, dtype):
    batch, time, inputs, hidden, outputs = sizes
    rng = np.random.default_rng(0)
    model = init_model(rng, cells, inputs, hidden, outputs, dtype)
    xs = rng.normal(size=(batch, time, inputs))  # float64: the model's dtype decides
    targets = rng.integers(0, outputs, (batch, time))
    _, grads, final = gradients(model, xs, targets, softmax_cross_entropy)
    assert grads.cells == model.cells == tuple(cells)
    pairs = list(zip(weights_of(grads), weights_of(model), strict=True))
    assert [d.shape for d, _ in pairs] == [w.shape for _, w in pairs]
    assert {a.dtype for pair in pairs for a in pair} == {np.dtype(dtype)}
    assert {part.shape for layer in final for part in layer} == {(batch, hidden)}
    assert {part.dtype for layer in final for part in layer} == {np.dtype(dtype)}
    moved, adam = adam_step(init_adam(model), model, grads)
    assert {a.dtype for a in arrays_of([moved.params, moved.W, adam.m.W])} == {np.dtype(dtype)}


def test_init_model():
    model = init_model(np.random.default_rng(0), "lstm", 3, 5, 2)
    assert model.cells == ("lstm",)
    same = lstm.init(np.random.default_rng(0), 3, 5)
    assert_same(model.params[0], same)
    assert model.W.shape == (5, 2)
    assert 0 < np.abs(model.W).max() <= math.sqrt(6 / 7)
    assert not model.b.any()
    stack = init_model(np.random.default_rng(0), [lstm, "rnn"], 3, 5, 2)
    assert [p.W_x.shape for p in stack.params] == [(4, 3, 5), (1, 5, 5)]
    with pytest.raises(ValueError, match="cells is empty; expected at least one layer"):
        init_model(np.random.default_rng(0), [], 3, 5, 2)
    with pytest.raises(ValueError, match="state has 1 parts; expected one State per layer, 2"):
        forward(stack, np.zeros((1, 1, 3)), [None])


# One step of learning


def grads_case(dtype=np.float64, scale=1.0):
    rng = np.random.default_rng(5)
    return [(scale * rng.normal(size=shape)).astype(dtype) for shape in [(2, 3), (4,), (1, 2, 2)]]


@pytest.mark.parametrize(("dtype", "atol"), [(np.float32, 1e-6), (np.float64, 1e-12)])
@pytest.mark.parametrize("scale", [0.01, 1, 100])
def test_clipping_is_tensorflows(tf, dtype, atol, scale):
    grads = grads_case(dtype, scale)
    ours, norm = clip_by_global_norm(grads, 2.5)
    theirs, their_norm = tf.clip_by_global_norm(grads, 2.5)
    assert norm == pytest.approx(float(their_norm), rel=1e-6 if dtype == np.float32 else 1e-12)
    for a, b in zip(ours, theirs, strict=True):
        assert a.dtype == dtype
        np.testing.assert_allclose(a, b, rtol=0, atol=atol)


def test_clipping():
    grads = grads_case()
    norm = math.sqrt(sum((a**2).sum() for a in grads))
    small, got = clip_by_global_norm(grads, 2 * norm)
    assert got == pytest.approx(norm, abs=1e-12)
    assert_same(small, grads)
    assert_same(clip_by_global_norm(grads, math.inf)[0], grads)
    _, clipped = clip_by_global_norm(clip_by_global_norm(grads, 0.1)[0], 1)
    assert clipped == pytest.approx(0.1, abs=1e-12)
    zeros, got = clip_by_global_norm([np.zeros(3)], 1)
    assert got == 0
    assert not zeros[0].any()
    for bad in (np.inf, np.nan):
        spoiled, got = clip_by_global_norm([np.array([1.0, bad]), np.ones(2)], 1)
        assert not math.isfinite(got)
        assert np.isnan(spoiled).all()
    for wrong in (0, -1, math.nan):
        with pytest.raises(ValueError, match=f"max_norm is {wrong}; expected a number above 0"):
            clip_by_global_norm(grads, wrong)


def test_clipping_keeps_the_structure():
    model, *_ = model_case(("lstm", "rnn"))
    clipped, norm = clip_by_global_norm(model, 0.5)
    assert type(clipped) is Model
    assert type(clipped.params[0]) is lstm.Params
    for a, b in zip(weights_of(clipped), weights_of(model), strict=True):
        np.testing.assert_allclose(a, b * 0.5 / norm, rtol=0, atol=1e-12)


# Keras rounds its settings to float32, the moments' powers too: these are exact there.
EXACT = {"learning_rate": 2**-9, "beta_1": 0.875, "beta_2": 1 - 2**-10}
OTHERS = {"learning_rate": 2**-4, "beta_1": 0.625, "beta_2": 1 - 2**-5, "epsilon": 2**-6}


@pytest.mark.parametrize(
    ("dtype", "settings", "atol"),
    [
        (np.float64, EXACT, 1e-12),
        (np.float64, OTHERS, 1e-12),
        (np.float64, {}, 1e-7),
        (np.float32, {}, 1e-6),
        (np.float32, OTHERS, 1e-6),
    ],
)
def test_adam_is_keras_step_for_step(keras, dtype, settings, atol):
    rng = np.random.default_rng(6)
    weights = grads_case(dtype)
    theirs = [keras.Variable(a, dtype=np.dtype(dtype).name) for a in weights]
    optimizer = keras.optimizers.Adam(**settings)
    adam = init_adam(weights, **settings)
    for step in range(12):
        grads = [(rng.normal(size=a.shape) * 10.0 ** (step % 3 - 2)).astype(dtype) for a in weights]
        optimizer.apply(grads, theirs)
        weights, adam = adam_step(adam, weights, grads)
        for a, b in zip(weights, theirs, strict=True):
            assert a.dtype == dtype
            np.testing.assert_allclose(a, np.asarray(b), rtol=0, atol=atol)


def test_adam_defaults_are_keras(keras):
    config = keras.optimizers.Adam().get_config()
    for name in ("learning_rate", "beta_1", "beta_2", "epsilon"):
        assert train.Adam._field_defaults[name] == pytest.approx(config[name], rel=1e-6)


def test_adam_by_hand():
    """The paper's algorithm on one number; its epsilon is 'hat': outside the correction."""
    w, m, v, weights = 0.5, 0.0, 0.0, [np.array([0.5])]
    adam = init_adam(weights, epsilon=1e-3)
    before = copy.deepcopy((weights, adam.m))
    for step, g in enumerate([0.3, -2.0, 0.01], start=1):
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        rate = 1e-3 * math.sqrt(1 - 0.999**step) / (1 - 0.9**step)
        w -= rate * m / (math.sqrt(v) + 1e-3)
        new, after = adam_step(adam, weights, [np.array([g])])
        if step == 1:
            assert_same(list(before), [weights, adam.m])  # nothing is changed in place
        weights, adam = new, after
        assert weights[0][0] == pytest.approx(w, abs=1e-12)
    assert adam.step == 3
    with pytest.raises(TypeError, match="rate"):
        init_adam(weights, rate=1)


# The loop


def noisy(rng, step):
    """A batch with everything in it: weights, lengths and a state that is carried now and then."""
    xs = rng.normal(size=(BATCH, TIME, INPUT))
    lengths = np.append(TIME, rng.integers(0, TIME + 1, BATCH - 1))
    targets = np.cumsum(xs[..., :OUTPUT], axis=1)
    return Batch(xs, targets, rng.random((BATCH, TIME)), lengths, carry=step % 3 != 1)


def fresh_run(cells=("lstm", "gru"), seed=7, dtype=np.float32, **settings):
    model = init_model(np.random.default_rng(seed), cells, INPUT, HIDDEN, OUTPUT, dtype)
    return start(model, seed, learning_rate=0.01, **settings)


def go(run, steps, **options):
    options = {"progress": False, "every": 4, "evaluate": lambda m: float(m.W.sum())} | options
    return fit(run, noisy, mean_squared_error, steps, **options)


def everything(run):
    """All of a run but the seconds."""
    return [
        [run.model.params, run.model.W, run.model.b, *run.optimizer.m[1:]],
        [*run.optimizer.v[1:], np.array(run.losses), np.array(run.norms), run.state],
        [np.array(run.evaluations), np.array([run.step, run.seed, *run.optimizer[2:]])],
    ]


def test_a_seed_is_a_run():
    one, same, other = go(fresh_run(), 9), go(fresh_run(), 9), go(fresh_run(seed=8), 9)
    assert_same(everything(one), everything(same))
    assert one.losses[0] != other.losses[0]
    assert len(one.losses) == len(one.norms) == one.step == one.optimizer.step == 9
    assert [step for step, _ in one.evaluations] == [4, 8]
    assert one.seconds > 0


def test_a_run_is_its_steps():
    """The loop by hand, with the state carried where the batch says so."""
    run, model, state = go(fresh_run(), 8, max_norm=0.1), fresh_run().model, None
    adam = init_adam(model, learning_rate=0.01)
    for step in range(1, 9):
        xs, targets, weights, lengths, carry = noisy(np.random.default_rng([7, step]), step)
        value, grads, state = gradients(
            model,
            xs,
            targets,
            mean_squared_error,
            state if carry else None,
            weights=weights,
            lengths=lengths,
        )
        grads, norm = clip_by_global_norm(grads, 0.1)
        model, adam = adam_step(adam, model, grads)
        assert (value, norm) == (run.losses[step - 1], run.norms[step - 1])
        if step % 4 == 0:
            assert run.evaluations[step // 4 - 1] == (step, float(model.W.sum()))
    assert_same(weights_of(model), weights_of(run.model))
    assert_same(state, run.state)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_stopped_and_resumed_is_unstopped(tmp_path, dtype):
    whole = go(fresh_run(dtype=dtype), 12)
    path = tmp_path / "run.npz"
    go(fresh_run(dtype=dtype), 5, path=path)
    resumed = load(path)
    assert resumed.step == 5
    assert_same(everything(go(resumed, 12)), everything(whole))
    assert_same(everything(go(go(fresh_run(dtype=dtype), 6), 12)), everything(whole))
    assert_same(everything(go(whole, 3)), everything(whole))  # it is there already


@pytest.mark.parametrize(
    "at", ["source", "gradients", "adam_step", "evaluate", "clock", "save", "update"]
)
def test_interrupted_anywhere_is_resumed(tmp_path, monkeypatch, at):
    """Ctrl-C at any place leaves whole steps, in memory and in the file."""
    whole, path = go(fresh_run(), 12), tmp_path / "run.npz"
    run, calls = fresh_run(), []

    def stop(function, when):
        def interrupted(*args, **kwargs):
            calls.append(at)
            if len(calls) == when:
                function(*args, **kwargs)
                raise KeyboardInterrupt
            return function(*args, **kwargs)

        return interrupted

    with monkeypatch.context() as patch:
        options = {"progress": False, "every": 4, "evaluate": lambda m: float(m.W.sum())}
        source = noisy
        if at == "evaluate":
            options["evaluate"] = stop(options["evaluate"], 2)
        elif at == "source":
            source = stop(noisy, 8)
        elif at == "clock":  # read once at the start, then when a step is all but done
            fake = SimpleNamespace(perf_counter=stop(time.perf_counter, 9))
            patch.setattr(train, "time", fake)
        elif at == "update":
            patch.setattr(Progress, "update", stop(Progress.update, 8))
        else:
            patch.setattr(train, at, stop(getattr(train, at), 2 if at == "save" else 8))
        with pytest.raises(KeyboardInterrupt):
            fit(run, source, mean_squared_error, 12, path=path, **options)
    assert run.step == (8 if at in ("save", "update") else 7)
    stored = load(path)
    assert stored.step == run.step
    assert len(stored.losses) == stored.step
    assert all(step <= stored.step for step, _ in stored.evaluations)
    for half in (run, stored):
        assert_same(everything(go(half, 12)), everything(whole))


def test_it_learns():
    run = go(fresh_run(), 150)
    assert np.mean(run.losses[-10:]) < 0.6 * np.mean(run.losses[:10])
    assert go(fresh_run(), 3, max_norm=math.inf).norms[0] == run.norms[0]
    assert go(fresh_run(), 3, max_norm=0.01).losses[1:] != run.losses[1:3]


@pytest.mark.parametrize("bad", ["loss", "gradient"])
def test_what_is_not_finite_stops(tmp_path, bad):
    def spoiled(outputs, targets, weights):
        value, d_outputs = mean_squared_error(outputs, targets, weights)
        if run.step == 2:
            return (math.nan, d_outputs) if bad == "loss" else (value, d_outputs * np.inf)
        return value, d_outputs

    run, path = fresh_run(), tmp_path / "run.npz"
    message = {"loss": "the loss is nan at step 3", "gradient": "norm of the gradient is nan at s"}
    with (
        pytest.raises(FloatingPointError, match=message[bad]),
        np.errstate(invalid="ignore"),
    ):
        fit(run, noisy, spoiled, 5, path=path, progress=False)
    assert_same(everything(run), everything(go(fresh_run(), 2)))
    assert load(path).step == 2


# Files


def test_saved_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "run.npz"
    run = go(fresh_run(), 2)
    save(path, run)
    before = path.read_bytes()

    def half(file, **arrays):
        file.write(b"half")
        raise OSError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(np, "savez", half)
        with pytest.raises(OSError, match="no space"):
            save(path, go(run, 3))
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["run.npz"]
    with pytest.raises(FileNotFoundError):
        save(tmp_path / "missing" / "run.npz", run)
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "missing.npz")


def test_before_the_first_step(tmp_path):
    save(tmp_path / "run.npz", fresh_run())
    again = load(tmp_path / "run.npz")
    assert again.state is None
    assert_same(everything(go(again, 4)), everything(go(fresh_run(), 4)))


def test_a_cell_of_your_own(tmp_path):
    names = [name for name in dir(lstm) if not name.startswith("_")]
    own = SimpleNamespace(**{name: getattr(lstm, name) for name in names}, __name__="own")
    path = tmp_path / "run.npz"
    go(fresh_run((own, "gru")), 3, path=path)
    with pytest.raises(
        ValueError, match=r"no cell 'own'; load\(path, cells=\{'own': ...\}\) gives"
    ):
        load(path)
    run = load(path, cells={"own": own})
    assert run.model.cells == (own, "gru")
    assert_same(everything(go(run, 5)), everything(go(fresh_run((own, "gru")), 5)))
    go(fresh_run((lstm, "gru")), 3, path=path)  # ours are known, given as modules too
    assert load(path).model.cells == ("lstm", "gru")


def rewritten(path, change):
    with np.load(path) as file:
        arrays = dict(file)
    header = json.loads(str(arrays["header"]))
    change(arrays, header)
    np.savez(path, **(arrays | {"header": np.array(json.dumps(header))}))


CHANGES = {
    "its format is 'other'; expected 'lstmbook.training.train 1'": lambda a, h: h.update(
        format="other"
    ),
    "model/0/W_x": lambda a, h: a.pop("model/0/W_x"),
    "there is no cell 'lstms'": lambda a, h: h.update(cells=["lstms", "gru"]),
    "unexpected keyword argument 'speed'": lambda a, h: h["adam"].update(speed=1),
    "allow_pickle=False": lambda a, h: a.update(losses=np.array([{}], object)),
}


@pytest.mark.parametrize("message", CHANGES)
def test_load_says_what_is_wrong(tmp_path, message):
    path = tmp_path / "run.npz"
    save(path, go(fresh_run(), 2))
    rewritten(path, CHANGES[message])
    with pytest.raises(
        ValueError, match=r"run.npz is no run that lstmbook.training.train saved: "
    ) as error:
        load(path)
    assert message in str(error.value)


@settings(max_examples=60)
@given(cut=st.floats(0, 1), flip=st.booleans(), data=st.data())
def test_damaged_files(tmp_path_factory, cut, flip, data):
    path = tmp_path_factory.mktemp("damaged") / "run.npz"
    save(path, go(fresh_run(), 1))
    content = bytearray(path.read_bytes())
    place = min(int(cut * len(content)), len(content) - 1)
    if flip:
        content[place] ^= data.draw(st.integers(1, 255))
    else:
        del content[place:]
    path.write_bytes(content)
    if flip:  # a byte of the zip's own that nobody reads may pass
        with suppress(ValueError):
            load(path)
    else:
        with pytest.raises(ValueError, match="is no run that"):
            load(path)


# The progress bar


class Stream(io.StringIO):
    def __init__(self, watched):
        super().__init__()
        self.watched = watched

    def isatty(self):
        return self.watched


def shown(monkeypatch, watched, show=True, steps=3):
    stream = Stream(watched)
    monkeypatch.setattr(sys, "stderr", stream)
    go(fresh_run(), steps, progress=show)
    return stream.getvalue()


@pytest.fixture
def clock(monkeypatch):
    """A clock on which a look takes 30 ms, for the progress bar."""
    ticks = itertools.count(0, 0.03)
    fake = SimpleNamespace(perf_counter=lambda: next(ticks))
    monkeypatch.setattr(progress, "time", fake)


def test_progress(monkeypatch, clock):
    lines = shown(monkeypatch, True).split("\r")
    assert lines[0] == ""
    assert lines[1].startswith("[########----------------] 1/3  0 s  loss ")
    assert lines[2].startswith("[########################] 3/3  0 s  loss ")
    assert lines[2].endswith("\n")
    assert len(lines) == 3  # the second step came too soon after the first
    assert shown(monkeypatch, True, show=False) == ""
    assert shown(monkeypatch, False) == ""
    assert shown(monkeypatch, True, steps=0) == ""
    monkeypatch.setattr(Stream, "__module__", "ipykernel.iostream")
    assert "3/3" in shown(monkeypatch, False)


def test_progress_draws_over_what_stood_there(monkeypatch, clock):
    stream = Stream(True)
    monkeypatch.setattr(sys, "stderr", stream)
    with Progress(100) as bar:
        for done in range(1, 101):
            bar.update(done, "a note" if done < 100 else "")
    drawn = stream.getvalue().split("\r")
    assert len(drawn) == 1 + 25 + 1
    assert "  1 s  a note" in drawn[10]
    assert len(drawn[-1].rstrip("\n")) == len(drawn[-2])
