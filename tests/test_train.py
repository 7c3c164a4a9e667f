"""Losses, gradients of a whole model, clipping, Adam, and runs that stop and go on."""

import copy
import io
import json
import math
import pickle
import re
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import NamedTuple

import numpy as np
import pytest
from cases import params_of
from hypothesis import given, settings
from hypothesis import strategies as st

from lstmbook import CELLS
from lstmbook.cells import lstm
from lstmbook.training import train
from lstmbook.training.progress import Progress
from lstmbook.training.train import (
    Batch,
    Model,
    Run,
    Score,
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
    if isinstance(tree, np.ndarray | np.floating):
        return [tree]
    if isinstance(tree, str | ModuleType):
        return []
    if isinstance(tree, dict):
        tree = [tree[key] for key in sorted(tree)]
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


def tensorflow_loss(tf, name, outputs, targets):
    loss = {
        "softmax": tf.nn.sparse_softmax_cross_entropy_with_logits,
        "binary": tf.nn.sigmoid_cross_entropy_with_logits,
        "squared": tf.math.squared_difference,
    }[name]
    names = ("x", "y") if name == "squared" else ("logits", "labels")
    return tf.reduce_mean(loss(**dict(zip(names, (outputs, targets), strict=True))))


@each_loss
def test_losses_are_tensorflows(tf, name):
    outputs, targets, _, _ = loss_case(name)
    with tf.GradientTape() as tape:
        z = tf.Variable(outputs)
        theirs = tensorflow_loss(tf, name, z, targets)
    value, d_outputs = LOSSES[name](outputs, targets)
    assert value == pytest.approx(float(theirs), abs=1e-12)
    np.testing.assert_allclose(d_outputs, tape.gradient(theirs, z), rtol=0, atol=1e-12)


@each_loss
def test_losses_take_lists_of_floats_and_no_integers(name):
    outputs, targets, weights, _ = loss_case(name)
    loss = LOSSES[name]
    expected, d_outputs = loss(outputs, targets, weights)
    value, d_same = loss(outputs.tolist(), targets.tolist(), weights.tolist())
    assert value == expected
    assert_same([d_same], [d_outputs])
    what = "outputs" if name == "squared" else "logits"
    for wrong in (outputs.astype(int), outputs.astype(int).tolist(), outputs > 0, outputs + 0j):
        dtype = np.asarray(wrong).dtype
        with pytest.raises(TypeError, match=f"{what} has dtype {dtype}; expected floats, for exa"):
            loss(wrong, targets)
    with pytest.raises(TypeError, match=f"{what} has dtype object; expected floats"):
        loss(outputs.astype(object), targets)
    for kind in ("uint8", "uint64", "int8"):  # targets may be of any size
        small = (targets if name == "softmax" else 3 * np.abs(targets)).astype(kind)
        assert loss(outputs, small)[0] == loss(outputs, small.astype(int))[0]


def spoiled(name, outputs, targets, weights):
    """The same but for what stands where nothing is counted: NaN, and padding of -1."""
    empty = weights == 0
    outputs, targets = outputs.copy(), targets.copy()
    outputs[empty] = np.nan
    targets[empty] = -1 if name == "softmax" else np.nan
    return outputs, targets, weights


@each_loss
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_a_step_of_weight_zero_counts_nothing(name, dtype):
    outputs, targets, weights, _ = loss_case(name, dtype)
    assert (weights == 0).any()
    expected, d_expected = LOSSES[name](outputs, targets, weights)
    value, d_outputs = LOSSES[name](*spoiled(name, outputs, targets, weights))
    assert value == expected
    assert_same([d_outputs], [d_expected])
    assert not d_outputs[weights == 0].any()
    with pytest.raises(ValueError, match="targets go from -1 to 2"):
        softmax_cross_entropy(
            outputs, spoiled("softmax", outputs, loss_case("softmax")[1], weights)[1]
        )
    nan = np.where(weights == 0, np.nan, 1)[..., None] * outputs
    assert math.isnan(LOSSES[name](nan, targets)[0])


@each_loss
@pytest.mark.parametrize("many", [100_000, 100_000_000])
def test_float16_counts_many_steps(name, many):
    """As in float64 from the same outputs; no more is lost than by the last rounding."""
    loss, wide = LOSSES[name], np.float64
    outputs = np.array([[6e4, -6e4], [0.5, 3.25], [-2, 1.5]], np.float16)
    targets = np.array([1, 1, 0]) if name == "softmax" else np.array([[0, 1], [1, 0], [0.5, 0.25]])
    if many == 100_000:
        outputs, targets = (np.tile(a.T, many // 3 + 1).T[:many] for a in (outputs, targets))
        weights = None
    else:
        weights = np.array([1, many, 3.0])
    value, d_outputs = loss(outputs, targets, weights)
    expected, d_expected = loss(outputs.astype(wide), targets, weights)
    assert value == pytest.approx(expected, rel=1e-6)
    assert d_outputs.dtype == np.float16
    np.testing.assert_allclose(d_outputs, d_expected.astype(np.float16), rtol=2e-3, atol=6e-8)


def test_the_mean_of_many_steps_in_float16():
    """0.25 everywhere: the mean is 0.25, whatever their number."""
    outputs, targets = np.full((100_000, 1), 0.5, np.float16), np.zeros((100_000, 1))
    assert mean_squared_error(outputs, targets)[0] == pytest.approx(0.25, abs=1e-12)
    logits = np.zeros((100_000, 2), np.float16)
    for value, _ in [
        softmax_cross_entropy(logits, np.zeros(100_000, int)),
        binary_cross_entropy(logits, np.ones((100_000, 2))),
    ]:
        assert value == pytest.approx(math.log(2), abs=1e-7)


HUGE = 1e300  # so near to infinity that it makes no difference
INFINITE = {
    "softmax": [
        ([np.inf, 0, 1], (0, 1)),
        ([-np.inf, 0, 1], (0, 2)),
        ([-np.inf, -np.inf, 1], (1, 2)),
        ([np.inf, -np.inf, 1], (0, 1)),
    ],
    "binary": [([z], ([0.0], [0.25], [1.0])) for z in (np.inf, -np.inf)],
    "squared": [([z, 0.5], ([0.0, 3.0],)) for z in (np.inf, -np.inf)],
}


@each_loss
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_infinite_outputs_give_tensorflows_limit(tf, name, dtype):
    for outputs, all_targets in INFINITE[name]:
        for targets in all_targets:
            z = tf.Variable(np.clip(outputs, -HUGE, HUGE))
            with tf.GradientTape() as tape:
                theirs = tensorflow_loss(tf, name, z[None], np.array([targets]))
            slope = tape.gradient(theirs, z).numpy()
            value, d_outputs = LOSSES[name](np.array([outputs], dtype), [targets])
            limit = math.inf if theirs > HUGE / 10 else float(theirs)
            atol = 16 * float(np.finfo(dtype).eps)
            assert value == pytest.approx(limit, abs=atol), (outputs, targets)
            slope[np.abs(slope) > HUGE / 10] *= math.inf
            np.testing.assert_allclose(d_outputs[0], slope, rtol=0, atol=atol)


def test_no_limit_is_nan():
    for logits in ([np.inf, np.inf, 0], [-np.inf] * 3, [np.nan, 0, 1]):
        value, d_logits = softmax_cross_entropy([logits], [0])
        assert math.isnan(value)
        assert np.isnan(d_logits).all()
    assert softmax_cross_entropy([[-np.inf], [np.inf]], [0, 0])[0] == 0  # one class is sure
    assert math.isnan(mean_squared_error([[np.inf]], [[np.inf]])[0])
    assert math.isnan(binary_cross_entropy([[np.nan]], [[1]])[0])


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
    for wrong in (
        np.zeros((2, 3)),
        [[-1, 2, 2], [2, 2, 2]],
        [[np.nan] * 3] * 2,
        [[np.inf] * 3] * 2,
    ):
        with pytest.raises(ValueError, match="expected a positive sum and none below 0"):
            mean_squared_error(logits, logits, wrong)
    for name, loss in LOSSES.items():
        targets = np.zeros((2, 3), int) if name == "softmax" else logits
        with pytest.raises(TypeError, match="weights has dtype complex128; expected real numbers"):
            loss(logits, targets, np.ones((2, 3)) + 0j)
        with pytest.raises(TypeError, match=r"targets has dtype <U\d+; expected (real|integers)"):
            loss(logits, targets.astype(str))
        for shape in [(), (0,), (0, 4), (2, 0)]:
            with pytest.raises(ValueError, match=r"has shape \(.*\); expected at least one step"):
                loss(np.zeros(shape), np.zeros(shape[:-1], int))


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


@each_loss
@pytest.mark.parametrize("weighted", [False, True])
def test_targets_past_a_length_count_nothing(name, weighted):
    """Neither NaN nor -1, which are common there, nor a class that is none."""
    model, xs, state, _, weights = model_case(("lstm", "gru"))
    past = np.arange(TIME) >= np.array(LENGTHS)[:, None]
    rng, pads = np.random.default_rng(2), [np.nan, -1.0]
    targets = rng.random((BATCH, TIME, OUTPUT))
    if name == "softmax":
        targets, pads = rng.integers(0, OUTPUT, (BATCH, TIME)), [-1, OUTPUT]
    options = {"lengths": LENGTHS, "weights": np.where(past, np.nan, weights) if weighted else None}
    value, grads, _ = gradients(model, xs, targets, LOSSES[name], state, **options)
    for pad in pads:
        targets[past] = pad
        padded, d_padded, _ = gradients(model, xs, targets, LOSSES[name], state, **options)
        assert padded == value
        assert_same(weights_of(d_padded), weights_of(grads))
    with pytest.raises(ValueError, match=r"weights has shape \(4,\); expected \(batch, time\) = "):
        gradients(model, xs, targets, LOSSES[name], weights=np.ones(BATCH), lengths=LENGTHS)


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
    assert stack.cells == ("lstm", "rnn")  # ours by their names, given as modules too
    with pytest.raises(ValueError, match="there is no cell 'lstms'; the cells are rnn, lstm"):
        init_model(np.random.default_rng(0), "lstms", 3, 5, 2)
    with pytest.raises(TypeError, match=r"model\.W has dtype int64; expected floats"):
        forward(model._replace(W=np.ones((5, 2), int)), np.zeros((1, 1, 3)))
    with pytest.raises(ValueError, match="cells is empty; expected at least one layer"):
        init_model(np.random.default_rng(0), [], 3, 5, 2)
    with pytest.raises(ValueError, match="state has 1 parts; expected one State per layer, 2"):
        forward(stack, np.zeros((1, 1, 3)), [None])


def a_module(name):
    """The LSTM as a module of the reader's own."""
    module = ModuleType(name)
    vars(module).update({k: v for k, v in vars(lstm).items() if not k.startswith("__")})
    return module


def test_models_are_copied_and_pickled(monkeypatch):
    """All weights are copied; a cell of the reader's own stays itself, be it a module or not."""
    importable, nameless = a_module("written_by_me"), a_module("never_imported")
    monkeypatch.setitem(sys.modules, "written_by_me", importable)
    rng = np.random.default_rng(0)
    for cell in (lstm, "gru", importable, nameless):
        model = init_model(rng, [cell, "rnn"], INPUT, HIDDEN, OUTPUT)
        run, whole = go(start(model, seed=3), 2), go(start(model, seed=3), 4)
        copies = [copy.deepcopy(run)]
        if cell is not nameless:
            copies.append(pickle.loads(pickle.dumps(run)))
        for again in copies:
            assert type(again.model) is type(again.optimizer.m) is Model
            assert again.model.cells == run.model.cells
            assert_same(everything(again), everything(run))
            for a, b in zip(weights_of(again.model), weights_of(run.model), strict=True):
                assert not np.shares_memory(a, b)
            assert_same(everything(go(again, 4)), everything(whole))
        assert copy.copy(run.model).cells == run.model.cells
    with pytest.raises(TypeError, match="cannot pickle 'module' object"):
        pickle.dumps(run.model)
    by_hand = copy.deepcopy(Model((lstm,), *init_model(rng, "lstm", INPUT, HIDDEN, OUTPUT)[1:]))
    assert by_hand.cells == (lstm,)


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


def trees_of(arrays):
    """The same arrays in containers of all kinds, one of no axes among them."""
    a, b, c = arrays
    return {
        "dict": {"b": a, "a": [b, {1: c}]},
        "other order": {"a": [b, {1: c}], "b": a},
        "NamedTuple": lstm.Params(a, b, c),
        "Model": Model(("lstm", lstm), (lstm.Params(a, b, c),), a, b),
        "one": a,
        "scalar": [c.sum()],
    }


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_all_that_holds_weights_is_learned(dtype):
    """Arrays without an axis too, in dicts too: all as in a list, for two steps."""
    rng = np.random.default_rng(8)
    shapes = [(2, 3), (), (4,)]
    first, *grads = ([np.array(rng.normal(size=s), dtype) for s in shapes] for _ in range(3))
    for name in trees_of(first):
        tree, flat = trees_of(first)[name], arrays_of(trees_of(first)[name])
        adam, of_list = init_adam(tree, learning_rate=0.1), init_adam(flat, learning_rate=0.1)
        for g in grads:
            g, flat_g = trees_of(g)[name], arrays_of(trees_of(g)[name])
            g, norm = clip_by_global_norm(g, 0.5)
            flat_g, flat_norm = clip_by_global_norm(flat_g, 0.5)
            assert norm == pytest.approx(flat_norm, rel=1e-12)
            assert norm > 0.5, name
            before = tree
            tree, adam = adam_step(adam, tree, g)
            flat, of_list = adam_step(of_list, flat, flat_g)
            assert type(tree) is type(before)
            assert {a.shape for a in arrays_of(tree)} == {a.shape for a in arrays_of(before)}
            for a, b in zip(arrays_of(tree), flat, strict=True):
                assert a.dtype == dtype
                np.testing.assert_allclose(a, b, rtol=0, atol=16 * np.finfo(dtype).eps)
            for a, b in zip(arrays_of(tree), arrays_of(before), strict=True):
                assert (a != b).all(), name
    assert list(clip_by_global_norm(trees_of(first)["dict"], 1)[0]) == ["b", "a"]
    left, right = (clip_by_global_norm(trees_of(first)[k], 1)[1] for k in ("dict", "other order"))
    assert left == right


def test_a_number_without_an_axis_moves_as_keras_moves_it(keras):
    weights = {"w": np.array(1.0), "b": np.array([2.0, -1.0])}
    theirs = {name: keras.Variable(a, dtype="float64") for name, a in weights.items()}
    optimizer, adam = keras.optimizers.Adam(**EXACT), init_adam(weights, **EXACT)
    for step in range(5):
        grads = {name: np.cos(step + a) for name, a in weights.items()}
        optimizer.apply([grads[name] for name in theirs], list(theirs.values()))
        weights, adam = adam_step(adam, weights, grads)
        for name, array in weights.items():
            np.testing.assert_allclose(array, np.asarray(theirs[name]), rtol=0, atol=1e-12)


def test_what_is_no_weight_is_refused():
    a, b = np.ones((2, 3)), np.ones(4)
    adam = init_adam([a, {"w": b}])
    for wrong, message in [
        ([a, 1.0], "grads[1] is of type float; expected arrays of floats, in tuples"),
        ([a, b.astype(int)], "grads[1] has dtype int64; expected floats"),
        ([a, {"w": 1j * b}], "grads[1]['w'] has dtype complex128; expected floats"),
        ({"x": None}, "grads['x'] is of type NoneType; expected arrays of floats"),
        (["lstm"], "grads[0] is of type str; expected arrays of floats"),
        ((a for _ in [1]), "grads is of type generator; expected arrays of floats"),
        (lstm.Params(a, {1}, b), "grads.W_h is of type set; expected arrays of floats"),
    ]:
        with pytest.raises(TypeError, match=re.escape(message)):
            clip_by_global_norm(wrong, 1)
    with pytest.raises(TypeError, match=r"weights\[0\] has dtype int64; expected floats"):
        init_adam([np.arange(3)])
    for grads, message in [
        ([a], "grads is a list of 1; expected a list of 2, as weights has"),
        ([a, {"w": a}], "grads[1]['w'] has shape (2, 3); expected that of the weights, (4,)"),
        ([a, {"v": b}], "grads[1] is a dict of 'v'; expected a dict of 'w', as weights has"),
        ([a, [b]], "grads[1] is a list of 1; expected a dict of 'w', as weights has"),
        ([a, b], "grads[1] is of type ndarray; expected a dict of 'w', as weights has"),
    ]:
        with pytest.raises(ValueError, match=re.escape(message)):
            adam_step(adam, [a, {"w": b}], grads)
    params, same_shapes = lstm.Params(b, b, b), CELLS["gru_reset_after"].Params(b, b, b, b)
    with pytest.raises(ValueError, match="a Params of W_x, W_h, b, b_hn; expected a Params of W_x"):
        adam_step(init_adam(params), params, same_shapes)
    moved, _ = adam_step(init_adam(params), params, [b, b, b])  # in order, as a tape gives them
    assert type(moved) is lstm.Params


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
    assert {type(x) for x in init_adam(weights, learning_rate=np.float32(0.1))[2:]} == {int, float}


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
            patch.setattr(train, at, stop(getattr(train, at), 3 if at == "save" else 8))
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
    message = (
        r"run.npz has a cell of your own: cells has no cell 'own'; load\(path, cells=\{'own': "
    )
    with pytest.raises(ValueError, match=message):
        load(path)
    run = load(path, cells={"own": own})
    assert run.model.cells == (own, "gru")
    assert_same(everything(go(run, 5)), everything(go(fresh_run((own, "gru")), 5)))
    go(fresh_run((lstm, "gru")), 3, path=path)  # ours are known, given as modules too
    assert load(path).model.cells == ("lstm", "gru")


def test_a_cell_of_your_own_under_a_name_of_ours(tmp_path):
    """It never becomes ours, nor ours yours: not even beside one another."""
    path, yours = tmp_path / "run.npz", a_module("my.cells.lstm")
    yours.step = lambda params, x, state: lstm.step(params, 2 * x, state)
    xs = np.random.default_rng(0).normal(size=(BATCH, TIME, INPUT))
    run = start(init_model(np.random.default_rng(0), [yours, "lstm"], INPUT, HIDDEN, OUTPUT))
    outputs, _ = forward(run.model, xs)
    save(path, run)
    for cells in (None, {}, {"gru": yours}):
        with pytest.raises(
            ValueError, match=r"cells has no cell 'lstm'; load\(path, cells=\{'lstm"
        ):
            load(path, cells)
    again = load(path, cells={"lstm": yours}).model
    assert again.cells == (yours, "lstm")
    np.testing.assert_array_equal(forward(again, xs)[0], outputs)
    save(path, go(fresh_run(), 1))
    assert load(path, cells={"lstm": yours}).model.cells == ("lstm", "gru")


def test_a_run_that_cannot_be_saved_is_not_begun(tmp_path):
    nameless = SimpleNamespace(**{k: v for k, v in vars(lstm).items() if not k.startswith("_")})
    twins = [a_module("mine.cell"), a_module("yours.cell")]
    judged = fresh_run()
    judged.evaluations.append((0, lstm))
    message = "the evaluation at step 0 is of type module, which cannot be saved; expected numbers"
    for run, error, match in [
        (fresh_run([nameless]), TypeError, "has no __name__; a run is saved with the names of its"),
        (fresh_run(twins), ValueError, "two cells are called 'cell'; load"),
        (judged, TypeError, message),
    ]:
        with pytest.raises(error, match=match):
            go(run, 3, path=tmp_path / "run.npz")
        assert run.step == 0
        assert list(tmp_path.iterdir()) == []
    run = fresh_run()
    with pytest.raises(FileNotFoundError):
        go(run, 3, path=tmp_path / "missing" / "run.npz")
    assert run.step == 0
    assert go(fresh_run(twins), 3).step == 3  # without a path it can be trained


def test_numpys_numbers_can_be_saved(tmp_path):
    """And the run goes on as one that never was in a file."""
    path = tmp_path / "run.npz"
    settings = {
        "learning_rate": np.float32(0.01),
        "beta_1": np.float64(0.8),
        "epsilon": np.array(1),
    }

    def fresh():
        model = init_model(np.random.default_rng(0), "gru", INPUT, HIDDEN, OUTPUT)
        return start(model, seed=np.int64(3), **settings)

    options = {"every": np.int64(2), "evaluate": lambda model: model.W.mean()}
    run = go(fresh(), 4, path=path, **options)
    assert_same(everything(go(load(path), 6, **options)), everything(go(fresh(), 6, **options)))
    assert {type(value) for _, value in run.evaluations} == {float}
    by_hand = Run(
        run.model, run.optimizer._replace(beta_1=np.float32(0.5)), np.int8(1), np.int32(0)
    )
    by_hand.seconds = np.float64(2)
    save(path, by_hand)
    assert (load(path).seed, load(path).seconds, load(path).optimizer.beta_1) == (1, 2.0, 0.5)


def exactly(value):
    """A value with all its types."""
    if isinstance(value, dict):
        return dict, {key: exactly(part) for key, part in value.items()}
    if isinstance(value, tuple | list):
        return type(value), [exactly(part) for part in value]
    return type(value), repr(value)


def test_evaluations_are_the_same_after_a_file(tmp_path):
    path, score = tmp_path / "run.npz", Score(np.float32(0.25), np.float64(0.5))
    values = [
        *(1, 2.5, True, None, "a text", math.nan, -math.inf, 10**20),
        *(np.float32(0.1), np.float16(2), np.int8(3), np.bool_(True), np.array(1.5)),
        *(score, {"train": score, "test": [score, (1, 2)], "Score": [0, 1]}, (), [1, [2, {}]]),
    ]
    run = fresh_run()
    go(run, len(values), every=1, path=path, evaluate=lambda m: values[len(run.evaluations)])
    assert [exactly(e) for e in load(path).evaluations] == [exactly(e) for e in run.evaluations]
    seen = dict(run.evaluations)
    assert exactly(seen[14]) == (Score, [(float, "0.25"), (float, "0.5")])
    assert seen[15]["train"].accuracy == 0.5
    assert seen[15]["test"] == [score, [1, 2]]
    assert [type(seen[k]) for k in (9, 10, 11, 12, 13)] == [float, float, int, bool, float]


def test_an_evaluation_that_cannot_be_saved_costs_no_training(tmp_path):
    class Pair(NamedTuple):
        a: float
        b: float

    path = tmp_path / "run.npz"
    for value, message in [
        (np.ones(2), " is of type ndarray, which cannot be saved; .* array.tolist"),
        (Pair(1, 2), " is of type Pair, .*Pair._asdict makes a dict"),
        ({1: 2}, " is of type dict, .*lists and dicts of these with strings as keys"),
        ({"lstmbook.Score": [1, 2]}, " is of type dict, "),
        (1j, " is of type complex, "),
        ({"a": [1, {2}]}, r"\['a'\]\[1\] is of type set, .*; expected numbers, strings, None, a S"),
    ]:
        run = fresh_run()
        with pytest.raises(TypeError, match=f"what evaluate returned at step 4{message}"):
            go(run, 8, path=path, evaluate=lambda model, value=value: value)
        for half in (run, load(path)):
            assert half.step == 3
            assert_same(everything(go(half, 8)), everything(go(fresh_run(), 8)))


def rewritten(path, change):
    with np.load(path) as file:
        arrays = dict(file)
    header = json.loads(str(arrays["header"]))
    change(arrays, header)
    np.savez(path, **(arrays | {"header": np.array(json.dumps(header))}))


CHANGES = {
    "its format is 'other'; expected 'lstmbook.train 1'": lambda a, h: h.update(format="other"),
    "model/0/W_x": lambda a, h: a.pop("model/0/W_x"),
    "there is no cell 'lstms'": lambda a, h: h.update(cells=["lstms", "gru"]),
    "unexpected keyword argument 'speed'": lambda a, h: h["adam"].update(speed=1),
    "allow_pickle=False": lambda a, h: a.update(losses=np.array([{}], object)),
}


def test_a_run_of_an_earlier_release_goes_on():
    """training_run.npz: two layers, three steps, saved when the module was ``lstmbook.train``."""
    run = load(Path(__file__).with_name("training_run.npz"))
    assert (run.model.cells, run.step, run.evaluations) == (("lstm", "gru"), 3, [(2, 0.5)])

    def source(rng, step):
        xs = rng.normal(size=(2, 4, 2))
        return Batch(xs, xs[..., :1], carry=True)

    again = start(init_model(np.random.default_rng(3), ["lstm", "gru"], 2, 3, 1, float), seed=5,
                  learning_rate=0.01)  # fmt: skip
    fit(again, source, mean_squared_error, 4, progress=False)
    fit(run, source, mean_squared_error, 4, progress=False)
    np.testing.assert_allclose(run.losses, again.losses, rtol=1e-12)
    np.testing.assert_allclose(run.model.W, again.model.W, rtol=0, atol=1e-12)


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


def check_silence(monkeypatch):
    assert shown(monkeypatch, True, show=False) == ""
    assert shown(monkeypatch, False) == ""
    assert shown(monkeypatch, True, steps=0) == ""
    monkeypatch.setattr(Stream, "__module__", "ipykernel.iostream")
    assert "3/3" in shown(monkeypatch, False)


def test_progress_is_a_bar_of_tqdm(monkeypatch, tqdm):
    drawn = shown(monkeypatch, True).split("\r")
    assert re.search(r" 0/3 \[", drawn[1])
    assert re.search(r"100%\|.+\| 3/3 \[.*, loss [\d.]+\]\s*\n$", drawn[-1])
    check_silence(monkeypatch)


def test_progress_is_plain_lines_without_tqdm(monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm", None)
    lines = shown(monkeypatch, True).splitlines()
    assert [line.split("  loss ")[0] for line in lines] == ["1/3", "2/3", "3/3"]
    check_silence(monkeypatch)
    monkeypatch.setattr(sys, "stderr", stream := Stream(True))
    with Progress(480) as bar:
        for done in range(1, 481):
            bar.update(done, "a note")
    assert stream.getvalue() == "".join(f"{k}/480  a note\n" for k in range(48, 481, 48))
