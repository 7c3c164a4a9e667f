"""The package against the frameworks that are installed here, run live."""

import os
import re
import subprocess
import sys

import numpy as np
import pytest
from cases import HIDDEN, LENGTHS, case
from collected import each

from lstmbook import CELLS, LayoutError, compare, layouts, live, run

pytestmark = [pytest.mark.tensorflow, pytest.mark.keras, pytest.mark.onnxruntime]

ATOL = {np.float32: 1e-6, np.float64: 1e-12}  # short sequences of small cells
TF1 = [name for name in CELLS if name != "gru_reset_after"]
KERAS = list(layouts.LAYOUTS["keras"].cells)
TFLITE = list(layouts.LAYOUTS["tflite"].cells)
WITNESSES = (
    [("tf1", name, dtype) for name in TF1 for dtype in ATOL]
    + [("keras", name, dtype) for name in KERAS for dtype in ATOL]
    + [("tflite", name, np.float32) for name in TFLITE]
    + [("onnx", name, np.float32) for name in CELLS]
)
witnesses = pytest.mark.parametrize(("framework", "name", "dtype"), WITNESSES)
each_v1_cell = pytest.mark.parametrize("name", TF1)
both_dtypes = pytest.mark.parametrize("dtype", list(ATOL))


@witnesses
@each("lengths", [None, LENGTHS])
@each("time_major", [False, True])
def test_run_is_the_framework(framework, name, dtype, lengths, time_major):
    cell, params, xs, state = case(name, dtype=dtype)
    xs = xs.swapaxes(0, 1) if time_major else xs
    options = {"lengths": lengths, "time_major": time_major}
    ours = run(cell, params, xs, state, **options)
    theirs = getattr(live, framework).run(cell, params, xs, state, **options)
    result = compare(ours, theirs, atol=ATOL[dtype])
    assert result.ok, result
    assert {a.dtype for a in (theirs[0], *theirs[1])} == {np.dtype(dtype)}
    assert type(theirs[1]) is cell.State


@witnesses
def test_run_is_the_framework_from_a_zero_state(framework, name, dtype):
    _, params, xs, _ = case(name, dtype=dtype, batch=2, time=3, input_size=6, hidden=4)
    theirs = getattr(live, framework).run(name, params, xs)
    result = compare(run(name, params, xs), theirs, atol=ATOL[dtype])
    assert result.ok, result


@each_v1_cell
@both_dtypes
@each("forget_bias", [1.0, 0.0, -0.5])
def test_step_is_one_call_of_the_v1_cell(name, dtype, forget_bias):
    cell, params, xs, state = case(name, dtype=dtype)
    theirs = live.tf1.step(cell, params, xs[:, 0], state, forget_bias=forget_bias)
    result = compare(cell.step(params, xs[:, 0], state), theirs, atol=ATOL[dtype])
    assert result.ok, result


@each_v1_cell
def test_the_forget_bias_is_added_once(name):
    """The cell's own forget bias moves nothing, since the stored bias makes up for it."""
    cell, params, xs, state = case(name)
    ours = run(cell, params, xs, state, lengths=LENGTHS)
    for forget_bias in (0.0, 2.0):
        theirs = live.tf1.run(cell, params, xs, state, lengths=LENGTHS, forget_bias=forget_bias)
        assert compare(ours, theirs, atol=1e-12).ok


@each_v1_cell
def test_long_and_wide(name):
    cell = CELLS[name]
    rng = np.random.default_rng(5)
    params = cell.init(rng, 24, 64)
    xs = rng.normal(size=(3, 80, 24)).astype(np.float32)
    exact = run(cell, cell.Params(*(a.astype(np.float64) for a in params)), xs.astype(np.float64))
    assert compare(run(cell, params, xs), exact, atol=1e-5).ok
    assert compare(live.tf1.run(cell, params, xs), exact, atol=1e-5).ok


@pytest.mark.parametrize("name", ["coupled", "coupled_peephole"])
def test_coupled_cells_have_two_witnesses(name, monkeypatch):
    cell, params, xs, state = case(name, dtype=np.float32)
    ours = run(cell, params, xs, state, lengths=LENGTHS)
    for tied in (False, True):
        theirs = live.tf1.run(cell, params, xs, state, lengths=LENGTHS, tied=tied)
        assert compare(ours, theirs, atol=1e-6).ok
    # Which of the two answers: the kernel for float32, unless tied is asked for.
    asked = []
    monkeypatch.setattr(live.tflite, "run", lambda *args, **kwargs: asked.append(1) or ours)
    live.tf1.run(cell, params, xs, state)
    live.tf1.run(cell, params, xs, state, tied=True)
    live.tf1.run(cell, params, xs.astype(np.float64), state)
    assert asked == [1]


def test_tied_concerns_coupled_cells():
    _, params, xs, _ = case("lstm", dtype=np.float32)
    with pytest.raises(ValueError, match="tied concerns coupled and coupled_peephole; the cell is"):
        live.tf1.run("lstm", params, xs, tied=True)


def test_make_gives_tensorflows_own_cell():
    params = case("peephole").params
    cell = live.tf1.make("peephole", params, forget_bias=0.5)
    assert type(cell) is live.tf1.rnn_cell.LSTMCell
    stored = layouts.export("peephole", "tf1", params, forget_bias=0.5)
    for variable in cell.variables:
        name = variable.name.split("/")[-1].removesuffix(":0")
        np.testing.assert_array_equal(variable.numpy(), stored[name])


def complex_step(cell, params, xs, d_hs, d_state, state, lengths):
    """The gradients of `run` by complex step, number by number: exact to rounding."""

    def loss(*arrays):
        cut = len(params)
        hs, final = run(
            cell, cell.Params(*arrays[:cut]), arrays[cut], cell.State(*arrays[cut + 1 :]),
            lengths=lengths,
        )  # fmt: skip
        return (hs * d_hs).sum() + sum((a * b).sum() for a, b in zip(final, d_state, strict=True))

    arrays = [a.astype(complex) for a in (*params, xs, *state)]
    gradients = []
    for array in arrays:
        gradient = np.zeros(array.shape)
        for index in np.ndindex(array.shape):
            array[index] += 1e-30j
            gradient[index] = loss(*arrays).imag / 1e-30
            array[index] -= 1e-30j
        gradients.append(gradient)
    cut = len(params)
    return cell.Params(*gradients[:cut]), gradients[cut], cell.State(*gradients[cut + 1 :])


@each_v1_cell
@pytest.mark.parametrize("lengths", [None, [3, 0]])
def test_backprop_of_tensorflow_is_the_complex_step_of_ours(name, lengths):
    cell, params, xs, state = case(name, batch=2, time=3, input_size=2, hidden=3)
    rng = np.random.default_rng(9)
    d_hs = rng.normal(size=(2, 3, 3))
    d_state = cell.State(*(rng.normal(size=part.shape) for part in state))
    expected = complex_step(cell, params, xs, d_hs, d_state, state, lengths)
    theirs = live.tf1.backprop(
        cell, params, xs, d_hs, d_state, state=state, lengths=lengths, forget_bias=0.5
    )
    result = compare(theirs, expected, atol=1e-12)
    assert result.ok, result


def test_backprop_time_major_without_a_final_gradient():
    cell, params, xs, state = case("lstm")
    d_hs = np.random.default_rng(9).normal(size=(*xs.shape[:2], HIDDEN))
    zero = cell.zero_state(params, len(xs))
    expected = live.tf1.backprop(cell, params, xs, d_hs, zero, state=state, lengths=LENGTHS)
    d_params, d_xs, d_state = live.tf1.backprop(
        cell,
        params,
        xs.swapaxes(0, 1),
        d_hs.swapaxes(0, 1),
        state=state,
        lengths=LENGTHS,
        time_major=True,
    )
    assert compare((d_params, d_xs.swapaxes(0, 1), d_state), expected, atol=1e-12).ok


@pytest.mark.parametrize(
    ("framework", "name"),
    [("tf1", "gru_reset_after"), ("keras", "peephole"), ("tflite", "gru"), ("tflite", "rnn")],
)
def test_a_cell_that_the_framework_has_not(framework, name):
    _, params, xs, _ = case(name, dtype=np.float32)
    with pytest.raises(LayoutError, match=f"cannot hold the cell '{name}'"):
        getattr(live, framework).run(name, params, xs)


def test_onnx_couples_the_other_way_round():
    """input_forget=1 keeps the input gate; read as ours, the same numbers are another cell."""
    cell, params, xs, state = case("coupled", dtype=np.float32)
    node = live.onnx.model(cell, params).graph.node[0]
    assert {a.name: a.i for a in node.attribute}["input_forget"] == 1
    stored = layouts.export(cell, "onnx", params)
    misread = params._replace(b=stored["B"][0, : 3 * HIDDEN].reshape(3, HIDDEN)[[0, 2, 1]])
    ours, theirs = (run(cell, p, xs, state) for p in (misread, params))
    assert compare(live.onnx.run(cell, params, xs, state), theirs, atol=1e-6).ok
    assert not compare(ours, theirs, atol=0.01).ok


def test_tflite_and_onnx_are_float32():
    _, params, xs, _ = case("coupled")
    with pytest.raises(
        TypeError, match="ONNX Runtime's recurrent kernels are float32, got float64"
    ):
        live.onnx.run("coupled", params, xs)
    with pytest.raises(
        TypeError, match=r"kernel is float32, got float64; .*live.tf1.run\('coupled'"
    ):
        live.tflite.run("coupled", params, xs)


def test_bad_input_is_told_as_by_run():
    _, params, xs, _ = case("lstm")
    for framework in (live.tf1, live.keras, live.tflite, live.onnx):
        with pytest.raises(ValueError, match=r"xs has shape \(4, 6, 2\); expected"):
            framework.run("lstm", params, xs[..., :2])


def test_keras_on_another_backend(monkeypatch):
    monkeypatch.setattr(live.keras.keras.backend, "backend", lambda: "jax")
    with pytest.raises(RuntimeError, match=r"backend 'jax'.*set KERAS_BACKEND=tensorflow"):
        live.keras.make("lstm", case("lstm").params)


# Wherever the v1 cells are


def test_the_v1_cells_are_looked_for_in_every_home(monkeypatch, tf):
    from lstmbook.live import _tensorflow

    monkeypatch.setattr(_tensorflow, "HOMES", ("no_such_module", "math", *_tensorflow.HOMES))
    assert hasattr(_tensorflow.find_rnn_cell(), "BasicLSTMCell")
    monkeypatch.setattr(_tensorflow, "HOMES", ("no_such_module", "math"))
    with pytest.raises(ImportError) as caught:
        _tensorflow.find_rnn_cell()
    message = str(caught.value)
    assert message.startswith(f"TensorFlow {tf.__version__} is installed, but its v1 cells were")
    assert "pip install 'tensorflow>=2.16,<2.22'" in message
    assert "no_such_module: No module named" in message
    assert "math: module 'math' has no attribute 'BasicLSTMCell'" in message


def python(code, **environment):
    """Run code in a fresh interpreter with the tests' cases at hand."""
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        cwd=os.path.dirname(__file__),
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", **environment},
    )


PROVE = """
from cases import case
from lstmbook import run
from lstmbook import compare
from lstmbook.live import tf1
cell, params, xs, state = case("peephole")
lengths = [6, 0, 2, 5]
ours = run(cell, params, xs, state, lengths=lengths)
print(compare(ours, tf1.run(cell, params, xs, state, lengths=lengths), atol=1e-12).ok)
# The loss is sum(hs * d_hs), linear in d_hs, so at d_hs = hs its derivative along b is known.
b = params.b.astype(complex)
b[1, 2] += 1e-30j
hs, _ = run(cell, params._replace(b=b), xs, state, lengths=lengths)
d_params, _, _ = tf1.backprop(cell, params, xs, ours[0], state=state, lengths=lengths)
print(abs((hs * ours[0]).sum().imag / 1e-30 - d_params.b[1, 2]) < 1e-12)
"""
BEFORE = {
    "after a failed touch": """
import tensorflow as tf
try:
    tf.compat.v1.nn.rnn_cell.BasicLSTMCell(4)
except Exception as error:
    print(type(error).__name__)
""",
    "without tf_keras": "import sys; sys.modules['tf_keras'] = None",
    "graph mode": "import tensorflow as tf; tf.compat.v1.disable_v2_behavior()",
}


@pytest.mark.parametrize("before", BEFORE)
def test_tf1_does_not_mind_what_came_before(before):
    done = python(BEFORE[before] + PROVE)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-2:] == ["True", "True"], done.stdout + done.stderr
    assert not re.search(r"(Cell|dynamic_rnn)\b.*deprecated", done.stderr)


@pytest.mark.parametrize(
    ("module", "missing", "extra"),
    [
        ("tf1", "tensorflow", "tf"),
        ("tflite", "tensorflow", "tf"),
        ("keras", "keras", "tf"),
        ("onnx", "onnxruntime", "onnx"),
    ],
)
def test_a_missing_framework_is_named(module, missing, extra):
    done = python(f"import sys; sys.modules['{missing}'] = None; import lstmbook.live.{module}")
    assert done.returncode == 1
    mend = rf"ImportError: .* needs? \w+.*pip install 'lstmbook\[{extra}\]'"
    assert re.search(mend, done.stderr)
