"""TensorFlow's `BlockLSTMV2`: its registered gradient is wrong, `BlockLSTMGradV2` is right.

The operation has its blocks in the order i, f, ci, o. What is registered as its gradient is
`BlockLSTMGrad`, which belongs to the older `BlockLSTM` and its order i, ci, f, o. Chapter 6 of the
book shows it. The day that a release mends it, `test_the_registered_gradient_is_wrong` fails and
says so.
"""

import needs
import numpy as np
import pytest
from cases import case

from lstmbook import backprop, compare, record

pytestmark = pytest.mark.tensorflow
tf = needs.Late("tensorflow")

STEPS = [1, 6]
NAMES = ["lstm", "peephole"]
INPUTS = ["x", "cs_prev", "h_prev", "w", "wci", "wcf", "wco", "b"]
FLOAT32 = 2e-6  # of the largest gradient; five times what was seen
each_case = pytest.mark.parametrize("steps", STEPS)
each_cell = pytest.mark.parametrize("name", NAMES)


@pytest.fixture(autouse=True)
def on_the_cpu():
    with tf.device("CPU"):
        yield


class Problem:
    """A cell, a loss ``sum(d_hs * hs) + sum(d_cs * cs)``, and the gradients that are right."""

    def __init__(self, name, steps):
        self.cell, self.params, xs, self.state = case(name, dtype=np.float32, time=steps)
        rng = np.random.default_rng([steps, *name.encode()])
        hidden = self.params.b.shape[1]
        self.peepholes = name == "peephole"
        self.d_hs, d_c = (
            rng.normal(size=(*shape, hidden)).astype(np.float32)
            for shape in ((steps, len(xs)), (len(xs),))
        )
        self.d_cs = np.zeros_like(self.d_hs)
        self.d_cs[-1] = d_c  # the final cell state
        self.xs = xs.swapaxes(0, 1)  # (time, batch, input)
        d_params, d_xs, d_state = backprop(
            self.cell,
            self.params,
            self.xs,
            self.d_hs,
            self.cell.State(np.zeros_like(d_c), d_c),
            state=self.state,
            time_major=True,
        )
        self.right = in_blocks(d_params, d_xs, d_state)
        self.inputs = {
            key: tf.constant(array)
            for key, array in in_blocks(self.params, self.xs, self.state).items()
        }

    def options(self):
        return {"seq_len_max": len(self.xs), "use_peephole": self.peepholes}

    def op(self, **inputs):
        """BlockLSTMV2 on the inputs of the problem, or on others."""
        return tf.raw_ops.BlockLSTMV2(cell_clip=0.0, **self.options(), **(self.inputs | inputs))

    def loss(self, out):
        return tf.reduce_sum(out.h * self.d_hs) + tf.reduce_sum(out.cs * self.d_cs)

    def taped(self):
        """What a GradientTape answers: the registered gradient."""
        with tf.GradientTape() as tape:
            tape.watch(self.inputs)
            loss = self.loss(self.op())
        return {key: d.numpy() for key, d in tape.gradient(loss, self.inputs).items()}

    def by_hand(self):
        """What BlockLSTMGradV2 answers."""
        out = self.op()
        kept = {key: getattr(out, key) for key in ("i", "cs", "f", "o", "ci", "co", "h")}
        grads = tf.raw_ops.BlockLSTMGradV2(
            **self.options(), **self.inputs, **kept, cs_grad=self.d_cs, h_grad=self.d_hs
        )
        return {key: getattr(grads, f"{key}_grad").numpy() for key in INPUTS}

    def off(self, gradients):
        """The inputs whose gradient is not the right one; without peepholes theirs are unused."""
        size = max(1, *(np.abs(d).max() for d in self.right.values()))
        used = [key for key in INPUTS if self.peepholes or key not in ("wci", "wcf", "wco")]
        rows = [compare(gradients[key], self.right[key], atol=FLOAT32 * size) for key in used]
        return [key for key, row in zip(used, rows, strict=True) if not row.ok]


def in_blocks(params, xs, state):
    """Params, inputs and state (or gradients at them) under the names of the operation."""
    no_peepholes = np.zeros((3, params.b.shape[1]), params.b.dtype)
    wci, wcf, wco = getattr(params, "p", no_peepholes)
    kernel = np.concatenate([np.hstack(params.W_x), np.hstack(params.W_h)])
    arrays = xs, state.c, state.h, kernel, wci, wcf, wco, params.b.ravel()
    return dict(zip(INPUTS, arrays, strict=True))


def swapped(blocks):
    """The four blocks of the last axis with the second and the third exchanged."""
    first, second, third, fourth = np.split(blocks, 4, axis=-1)
    return np.concatenate([first, third, second, fourth], axis=-1)


def assert_still_wrong(problem, gradients):
    off = problem.off(gradients)
    if not off:
        pytest.fail(
            f"TensorFlow {tf.__version__} mends the gradient of BlockLSTMV2: "
            "update chapter 6 (book/backprop.ipynb) and this test"
        )
    return off


@each_cell
@each_case
def test_the_forward_pass_is_right(name, steps):
    problem = Problem(name, steps)
    out = problem.op()
    seen = record(problem.cell, problem.params, problem.xs, problem.state, time_major=True)
    names = {"i": "i", "f": "f", "ci": "g", "o": "o", "cs": "c", "h": "h"}
    result = compare(
        {key: seen[ours] for key, ours in names.items()},
        {key: getattr(out, key).numpy() for key in names},
        atol=1e-6,
    )
    assert result.ok, result


@each_cell
@each_case
def test_the_registered_gradient_is_wrong(name, steps):
    problem = Problem(name, steps)
    off = assert_still_wrong(problem, problem.taped())
    # In one step the gates' own gradients are right; they land in the wrong blocks. In more steps
    # the wrong gradient of h is carried back, and then nothing is right.
    used = [key for key in INPUTS if problem.peepholes or key not in ("wci", "wcf", "wco")]
    right = [] if steps > 1 else [key for key in used if key[:2] in ("cs", "wc")]
    assert off == [key for key in used if key not in right]


def test_a_mended_gradient_would_be_noticed():
    problem = Problem("lstm", 6)
    message = rf"TensorFlow {tf.__version__} mends the gradient of BlockLSTMV2: update chapter 6"
    with pytest.raises(pytest.fail.Exception, match=message):
        assert_still_wrong(problem, problem.by_hand())


@each_cell
def test_in_one_step_two_blocks_are_swapped(name):
    problem = Problem(name, 1)
    taped, right = problem.taped(), problem.right
    for key in ("w", "b"):
        np.testing.assert_allclose(swapped(taped[key]), right[key], rtol=0, atol=FLOAT32)
        assert np.abs(taped[key] - right[key]).max() > 0.1
    # The gradients of x and h are made from the swapped ones, and no exchange mends them.
    input_size = problem.xs.shape[-1]
    h_rows = problem.inputs["w"].numpy()[input_size:]
    d_blocks = step_blocks(problem)
    np.testing.assert_allclose(d_blocks @ h_rows.T, right["h_prev"], rtol=0, atol=FLOAT32)
    np.testing.assert_allclose(swapped(d_blocks) @ h_rows.T, taped["h_prev"], rtol=0, atol=FLOAT32)


def step_blocks(problem):
    """The gradients before the gates in one step, (batch, 4 * hidden): those of a bias of its own
    for every sequence."""
    blocks = []
    for row in range(len(problem.state.h)):
        state, d_state = (
            problem.cell.State(h[row : row + 1], c[row : row + 1])
            for h, c in (problem.state, (problem.d_hs[0], problem.d_cs[0]))
        )
        x = problem.xs[0, row : row + 1]
        d_params, _, _ = problem.cell.step_vjp(problem.params, x, state, d_state)
        blocks.append(d_params.b.ravel())
    return np.stack(blocks)


@each_cell
@each_case
def test_the_gradient_by_hand_is_right(name, steps):
    problem = Problem(name, steps)
    assert problem.off(problem.by_hand()) == []


@each_cell
@each_case
def test_the_gradient_by_hand_is_the_central_difference(name, steps):
    """Of the operation itself, which has float32 alone: five digits are what that can give."""
    problem = Problem(name, steps)
    rng = np.random.default_rng(steps)
    used = [key for key in INPUTS if problem.peepholes or key not in ("wci", "wcf", "wco")]
    v = {key: rng.normal(size=problem.inputs[key].shape).astype(np.float32) for key in used}
    size = 1e-2 / np.sqrt(sum((d**2).sum() for d in v.values()))

    def at(size):
        out = problem.op(**{key: problem.inputs[key] + size * v[key] for key in used})
        ends = zip((out.h, out.cs), (problem.d_hs, problem.d_cs), strict=True)
        return sum(np.vdot(part.numpy().astype(float), d) for part, d in ends)

    slope = (at(size) - at(-size)) / (2 * size)
    norm = np.sqrt(sum((problem.right[key] ** 2).sum() for key in used) * (1e-2 / size) ** 2)
    by_hand, taped = problem.by_hand(), problem.taped()
    assert abs(sum(np.vdot(by_hand[key], v[key]) for key in used) - slope) < 5e-5 * norm
    assert abs(sum(np.vdot(taped[key], v[key]) for key in used) - slope) > 1e-3 * norm


@each_case
def test_the_older_operation_has_a_right_gradient(steps):
    """BlockLSTM, blocks in the order i, ci, f, o: what to use where one of the two is needed."""
    problem = Problem("lstm", steps)
    old = problem.inputs | {
        key: tf.constant(swapped(problem.inputs[key].numpy())) for key in ("w", "b")
    }
    with tf.GradientTape() as tape:
        tape.watch(old)
        out = tf.raw_ops.BlockLSTM(forget_bias=0.0, cell_clip=-1.0, **problem.options(), **old)
        loss = problem.loss(out)
    taped = {key: d.numpy() for key, d in tape.gradient(loss, old).items()}
    assert problem.off(taped | {key: swapped(taped[key]) for key in ("w", "b")}) == []
