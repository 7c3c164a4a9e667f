"""Every layout against its framework: our weights in theirs, and weights that they made in ours.

The layouts tf1, tf1_tied, keras, tflite and onnx are held to theirs in ``test_live.py`` as well.
"""

import functools
import importlib
import inspect
import itertools
import re
import subprocess
import sys
from pathlib import Path

import needs
import numpy as np
import pytest
from cases import BATCH, HIDDEN, INPUT, LENGTHS, TIME, case

from lstmbook import CELLS, LayoutError, backprop, compare, layouts, live, run
from lstmbook.layouts.table import ONNX_NODES

ATOL = {np.float32: 1e-6, np.float64: 1e-12}  # short sequences of small cells
# The layout, its live module, options of the module's run, and the dtypes that it computes in.
FORGET_BIAS = {"tf1_block": {"forget_bias": 0.5}}
WITNESSES = [
    (layout, module, options | FORGET_BIAS.get(layout, {}), [np.float32] if engine.only else ATOL)
    for module, engine in live.ENGINES.items()
    for layout, options in engine.layouts.items()
    if module in ("torch", "flax", "haiku", "tf1_block") or layout == "keras_cudnn"
]
witnesses = pytest.mark.parametrize(
    ("layout", "module", "options", "name", "dtype"),
    [
        needs.param(
            live.ENGINES[module].package,
            layout,
            module,
            options,
            name,
            dtype,
            id=f"{layout}-{name}-{dtype.__name__}",
        )
        for layout, module, options, dtypes in WITNESSES
        for name in layouts.LAYOUTS[layout].cells
        for dtype in dtypes
    ],
)


def framework(module):
    """The live module."""
    return getattr(live, module)


def that_fit(layout, name, params):
    """Flax's NNX has no bias inside the reset gate."""
    if (layout, name) == ("flax_nnx", "gru_reset_after"):
        return params._replace(b_hn=np.zeros_like(params.b_hn))
    return params


def assert_same(ours, theirs, atol):
    result = compare(ours, theirs, atol=atol)
    assert result.ok, result


# Our weights in theirs


def test_every_layout_has_a_witness():
    assert {k for engine in live.ENGINES.values() for k in engine.layouts} == set(layouts.LAYOUTS)


@witnesses
def test_run_is_the_framework(layout, module, options, name, dtype):
    cell, params, xs, state = case(name, dtype=dtype)
    params = that_fit(layout, name, params)
    ours = run(cell, params, xs, state, lengths=LENGTHS)
    theirs = framework(module).run(cell, params, xs, state, lengths=LENGTHS, **options)
    assert_same(ours, theirs, ATOL[dtype])
    assert {a.dtype for a in (theirs[0], *theirs[1])} == {np.dtype(dtype)}
    assert type(theirs[1]) is cell.State


@witnesses
def test_time_major_from_a_zero_state(layout, module, options, name, dtype):
    _, params, xs, _ = case(name, dtype=dtype, batch=3, time=2, input_size=6, hidden=4)
    params = that_fit(layout, name, params)
    theirs = framework(module).run(name, params, xs, time_major=True, lengths=[3, 1], **options)
    ours = run(name, params, xs, time_major=True, lengths=[3, 1])
    assert_same(ours, theirs, ATOL[dtype])


@pytest.mark.parametrize(
    "module", [needs.param(e.package, name) for name, e in live.ENGINES.items()]
)
def test_without_a_step_or_a_sequence(module):
    """Outputs of zeros in their full shape, the state that was given; and so the way back."""
    theirs, cells = framework(module), []
    for name, time_major in itertools.product(CELLS, (False, True)):
        cell, params, xs, state = case(name, dtype=np.float32)
        rng = np.random.default_rng(3)
        d_final = cell.State(*(rng.normal(size=a.shape).astype(np.float32) for a in state))
        none, d_none = (cell.State(*(part[:0] for part in parts)) for parts in (state, d_final))
        for inputs, first, d_last, lengths in [
            (xs[:, :0], state, d_final, None),
            (xs[:, :0], state, d_final, [0] * BATCH),
            (xs[:0], none, d_none, None),
            (xs[:0], none, d_none, []),
            (xs, state, d_final, [0] * BATCH),
        ]:
            what = f"{name}, inputs {inputs.shape}, lengths {lengths}, time_major {time_major}"
            inputs = inputs.swapaxes(0, 1) if time_major else inputs
            zeros = np.zeros((*inputs.shape[:2], HIDDEN), np.float32)
            options = {"lengths": lengths, "time_major": time_major}
            try:
                hs, final = theirs.run(cell, params, inputs, first, **options)
            except LayoutError:  # a cell that this framework has not
                break
            cells.append(name)
            assert type(final) is cell.State, what
            pairs = [(hs, zeros), *zip(final, first, strict=True)]
            if hasattr(theirs, "backprop"):
                d_hs = rng.normal(size=zeros.shape).astype(np.float32)
                d_params, d_xs, d_first = theirs.backprop(
                    cell, params, inputs, d_hs, d_last, state=first, **options
                )
                pairs += [(d_xs, 0 * inputs), *zip(d_first, d_last, strict=True)]
                pairs += zip(d_params, (0 * array for array in params), strict=True)
            for got, expected in pairs:
                np.testing.assert_array_equal(got, expected, what, strict=True)
    assert len(set(cells)) > 1


@pytest.mark.parametrize(
    "module",
    [needs.param(live.ENGINES[k].package, k) for k in ("torch", "flax", "haiku", "tf1_block")],
)
def test_bad_input_is_told_as_by_run(module):
    _, params, xs, _ = case("lstm", dtype=np.float32)
    theirs = framework(module)
    with pytest.raises(ValueError, match=r"xs has shape \(4, 6, 2\); expected"):
        theirs.run("lstm", params, xs[..., :2])
    without = "rnn" if module == "tf1_block" else "peephole"
    params = case(without, dtype=np.float32).params
    with pytest.raises(LayoutError, match=f"cannot hold the cell '{without}'"):
        theirs.run(without, params, xs)


@pytest.mark.tensorflow
def test_block_operators_are_float32():
    _, params, xs, _ = case("lstm")
    with pytest.raises(TypeError, match="block operators are float32, got float64"):
        framework("tf1_block").run("lstm", params, xs)


@pytest.mark.parametrize(
    ("module", "package", "extra"),
    [
        ("torch", "torch", "torch"),
        needs.param("jax", "flax", "flax", "jax"),
        needs.param("jax", "haiku", "haiku", "jax"),
        ("_jax", "jax", "jax"),
    ],
)
def test_a_missing_framework_is_named(module, package, extra):
    code = f"import sys; sys.modules['{package}'] = None; import lstmbook.live.{module}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    mend = rf"ImportError: .* needs? \w+.*pip install 'lstmbook\[{extra}\]'"
    assert re.search(mend, done.stderr)


@pytest.mark.parametrize(
    ("module", "package", "name", "old"),
    [
        needs.param("jax", "flax", "flax", "Flax", "0.9.12"),
        needs.param("jax", "haiku", "dm-haiku", "Haiku", "0.0.9rc1"),
        needs.param("jax", "flax", "jax", "JAX", "0.4.38"),
        needs.param("jax", "haiku", "jax", "JAX", "0.5.2"),
        needs.param("tensorflow", "keras", "keras", "Keras", "2.15.0"),
    ],
)
@pytest.mark.slow
def test_a_framework_that_is_too_old_is_named(module, package, name, old):
    """With its version, and the one that pyproject.toml asks for; Keras 3 comes with TensorFlow."""
    framework(module)
    pyproject = Path(__file__).parent.parent.joinpath("pyproject.toml").read_text(encoding="utf-8")
    oldest = "3" if package == "keras" else re.search(rf'"{package}>=([\d.]+)"', pyproject)[1]
    code = (
        "from importlib import metadata; real = metadata.version; "
        f"metadata.version = lambda name: {old!r} if name == {package!r} else real(name); "
        f"import lstmbook.live.{module}"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    mend = rf"ImportError: .* needs? {name} >= {oldest}; found {old}\. pip install --upgrade '"
    assert re.search(mend, done.stderr), done.stderr


def test_the_loop_calls_their_step():
    from lstmbook.live._engine import adapter

    cell, params, xs, state = case("lstm")

    def step(x, old):
        return np.full_like(old.h, 7), cell.State(h=old.h + 1, c=x[:, :1] + 0 * old.c)

    @adapter("torch", time_first=True)
    def run(call):
        return call.by_steps(step)

    hs, final = run(cell, params, xs, state, lengths=LENGTHS)
    lengths = np.array(LENGTHS)
    assert (hs == 7 * (np.arange(TIME) < lengths[:, None])[..., None]).all()
    np.testing.assert_allclose(final.h, state.h + lengths[:, None])


@pytest.mark.parametrize("module", [needs.param(e.package, k) for k, e in live.ENGINES.items()])
def test_a_framework_takes_what_ours_takes(module):
    """The arguments of ours with their defaults, in their order; then its own, by name alone."""
    theirs = framework(module)
    for ours in (run, backprop):
        function = getattr(theirs, ours.__name__, None)
        if function:
            expected = list(inspect.signature(ours).parameters.values())
            found = list(inspect.signature(function).parameters.values())
            assert found[: len(expected)] == expected, ours.__name__
            assert {k.kind for k in found[len(expected) :]} <= {inspect.Parameter.KEYWORD_ONLY}
            assert (function.__module__, function.__name__) == (theirs.__name__, ours.__name__)
            assert "`lstmbook." in function.__doc__ or "as in `run`" in function.__doc__
    with pytest.raises(TypeError, match="unexpected keyword argument 'forget_bais'"):
        theirs.run("lstm", None, None, forget_bais=1)


# Weights that they made in ours. Theirs have what ours have not: two biases of random numbers.


def torch_layer(kind, **options):
    import torch

    layer = getattr(torch.nn, kind)(INPUT, HIDDEN, dtype=torch.float64, **options)
    rng = np.random.default_rng(4)
    with torch.no_grad():
        for weight in layer.parameters():
            weight.copy_(torch.tensor(rng.normal(size=weight.shape) * 0.6))
    return layer, {key: value.numpy() for key, value in layer.state_dict().items()}


TORCH = [("RNN", "rnn"), ("LSTM", "lstm"), ("GRU", "gru_reset_after")]


@pytest.mark.torch
@pytest.mark.parametrize(("kind", "name"), TORCH)
@pytest.mark.parametrize("bias", [True, False])
def test_a_torch_layer_of_two_layers_and_both_directions(kind, name, bias):
    import torch

    layer, arrays = torch_layer(kind, num_layers=2, bidirectional=True, batch_first=True, bias=bias)
    cell, rng = CELLS[name], np.random.default_rng(5)
    xs = rng.normal(size=(BATCH, TIME, INPUT))
    parts = [rng.normal(size=(4, BATCH, HIDDEN)) for _ in cell.State._fields]
    first = tuple(map(torch.tensor, parts))
    with torch.no_grad():
        theirs, last = layer(torch.tensor(xs), first if len(first) > 1 else first[0])
    last = last if len(first) > 1 else [last]

    hs = xs
    for k in range(2):
        both = []
        for reverse in (False, True):
            params = layouts.load(name, "torch", arrays, layer=k, reverse=reverse)
            state = cell.State(*(part[2 * k + reverse] for part in parts))
            inputs = hs[:, ::-1] if reverse else hs
            out, final = run(cell, params, inputs, state)
            both.append(out[:, ::-1] if reverse else out)
            for ours, their in zip(final, last, strict=True):
                np.testing.assert_allclose(ours, their[2 * k + reverse], rtol=0, atol=1e-12)
        hs = np.concatenate(both, axis=-1)
    np.testing.assert_allclose(hs, theirs, rtol=0, atol=1e-12)


@pytest.mark.torch
@pytest.mark.parametrize(("kind", "name"), TORCH)
@pytest.mark.parametrize("bias", [True, False])
def test_a_torch_cell(kind, name, bias):
    import torch

    theirs, arrays = torch_layer(f"{kind}Cell", bias=bias)
    assert "weight_ih" in arrays
    cell, _, xs, state = case(name)
    first = tuple(map(torch.tensor, state))
    with torch.no_grad():
        new = theirs(torch.tensor(xs[:, 0]), first if len(first) > 1 else first[0])
    ours = cell.step(layouts.load(name, "torch", arrays), xs[:, 0], state)[1]
    new = cell.State(*(new if len(first) > 1 else [new]))
    assert_same(ours, cell.State(*(part.numpy() for part in new)), 1e-12)


@pytest.mark.onnxruntime
@pytest.mark.parametrize("name", ["rnn", "lstm", "peephole", "gru", "gru_reset_after"])
@pytest.mark.parametrize("bias", [True, False])
def test_an_onnx_node_of_both_directions(name, bias):
    import onnx
    import onnxruntime

    operator, attributes = ONNX_NODES[name]
    cell, rng = CELLS[name], np.random.default_rng(6)
    one = layouts.export(name, "onnx", case(name, dtype=np.float32).params)
    arrays = {
        key: (0.4 * rng.normal(size=(2, *array.shape[1:]))).astype(np.float32)
        for key, array in one.items()
        if bias or key != "B"
    }
    parts = cell.State._fields
    outputs = ["Y", *(f"Y_{part}" for part in parts)]
    inputs = ["X", "W", "R", "B" if bias else "", "", *(f"initial_{part}" for part in parts)]
    node = onnx.helper.make_node(
        operator,
        inputs + ["P"] * ("P" in arrays),
        outputs,
        hidden_size=HIDDEN,
        direction="bidirectional",
        **attributes,
    )
    tensor = functools.partial(onnx.helper.make_tensor_value_info, elem_type=1)
    graph = onnx.helper.make_graph(
        [node],
        "both",
        [
            tensor("X", shape=[TIME, BATCH, INPUT]),
            *(tensor(f"initial_{part}", shape=[2, BATCH, HIDDEN]) for part in parts),
        ],
        [tensor(key, shape=None) for key in outputs],
        [onnx.numpy_helper.from_array(array, key) for key, array in arrays.items()],
    )
    opset = onnx.helper.make_opsetid("", 14)
    model = onnx.helper.make_model(graph, opset_imports=[opset], ir_version=8)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    xs = rng.normal(size=(TIME, BATCH, INPUT)).astype(np.float32)
    first = [(0.5 * rng.normal(size=(2, BATCH, HIDDEN))).astype(np.float32) for _ in parts]
    feeds = {f"initial_{part}": array for part, array in zip(parts, first, strict=True)}
    hs, *last = session.run(None, {"X": xs, **feeds})
    for k, reverse in enumerate((False, True)):
        params = layouts.load(name, "onnx", arrays, reverse=reverse)
        inputs = xs[::-1] if reverse else xs
        state = cell.State(*(part[k] for part in first))
        out, final = run(cell, params, inputs, state, time_major=True)
        expected = hs[::-1, k] if reverse else hs[:, k]
        their_final = cell.State(*(part[k] for part in last))
        assert_same((out, final), (expected, their_final), 1e-6)


@pytest.mark.keras
@pytest.mark.parametrize(
    ("kind", "name", "options"),
    [
        ("SimpleRNN", "rnn", {}),
        ("LSTM", "lstm", {}),
        ("GRU", "gru", {"reset_after": False}),
        ("GRU", "gru_reset_after", {}),
    ],
)
def test_a_keras_layer_without_biases(kind, name, options):
    theirs = framework("keras")
    _, _, xs, _ = case(name, dtype=np.float32)
    layer = getattr(theirs.keras.layers, kind)(
        HIDDEN, use_bias=False, return_sequences=True, **options
    )
    hs = np.asarray(layer(xs))
    arrays = {weight.name: np.asarray(weight) for weight in layer.weights}
    assert set(arrays) == {"kernel", "recurrent_kernel"}
    ours, _ = run(name, layouts.load(name, "keras", arrays), xs)
    np.testing.assert_allclose(ours, hs, rtol=0, atol=1e-6)


@pytest.mark.keras
@pytest.mark.parametrize(("kind", "name"), [("LSTM", "lstm"), ("GRU", "gru_reset_after")])
def test_cudnn_weights_as_keras_2_loads_them(kind, name):
    theirs = framework("keras")
    loader = importlib.import_module("tensorflow.python.keras.saving.hdf5_format")
    rng, gates = np.random.default_rng(7), len(CELLS[name].GATES)
    shapes = {
        "kernel": (INPUT, gates * HIDDEN),
        "recurrent_kernel": (HIDDEN, gates * HIDDEN),
        "bias": (2 * gates * HIDDEN,),
    }
    arrays = {key: 0.6 * rng.normal(size=shape) for key, shape in shapes.items()}
    layer = getattr(theirs.keras.layers, kind)(HIDDEN, return_sequences=True, dtype="float64")
    layer.build((None, None, INPUT))
    layer.set_weights(loader.preprocess_weights_for_loading(layer, list(arrays.values()), "2"))
    xs = rng.normal(size=(BATCH, TIME, INPUT))
    ours, _ = run(name, layouts.load(name, "keras_cudnn", arrays), xs)
    np.testing.assert_allclose(ours, np.asarray(layer(xs)), rtol=0, atol=1e-12)


@pytest.mark.keras
def test_a_wrong_cudnn_layout_would_be_seen(monkeypatch):
    """The layer has its weights from that layout alone."""
    _, params, xs, state = case("lstm", dtype=np.float32)
    theirs, row = framework("keras"), layouts.LAYOUTS["keras_cudnn"]
    wrong = tuple(stored._replace(gates="figo") for stored in row.cells["lstm"])
    monkeypatch.setitem(row.cells, "lstm", wrong)
    ours = run("lstm", params, xs, state)
    assert not compare(ours, theirs.run("lstm", params, xs, state, cudnn=True), atol=0.01).ok


@pytest.mark.flax
@pytest.mark.parametrize(
    ("kind", "layout", "name"),
    [
        ("SimpleCell", "flax", "rnn"),
        ("LSTMCell", "flax", "lstm"),
        ("OptimizedLSTMCell", "flax", "lstm"),
        ("GRUCell", "flax", "gru_reset_after"),
        ("SimpleCell", "flax_nnx", "rnn"),
        ("OptimizedLSTMCell", "flax_nnx", "lstm"),
        ("LSTMCell", "flax_nnx_lstm", "lstm"),
        ("GRUCell", "flax_nnx", "gru_reset_after"),
    ],
)
def test_a_flax_cell_of_their_making(kind, layout, name):
    theirs = framework("flax")
    import jax

    _, _, xs, state = case(name, dtype=np.float32)
    carry = (state.c, state.h) if len(state) == 2 else state.h
    rng = np.random.default_rng(8)

    def filled(tree):
        return jax.tree.map(lambda a: (0.6 * rng.normal(size=a.shape)).astype(np.float32), tree)

    if layout == "flax":
        module = getattr(theirs.linen, kind)(HIDDEN)
        made = jax.eval_shape(module.init, jax.random.key(0), carry, xs[:, 0])
        tree = filled(made["params"])
        _, h = module.apply({"params": tree}, carry, xs[:, 0])
    else:
        make = getattr(theirs.nnx, kind)
        module = theirs.nnx.eval_shape(lambda: make(INPUT, HIDDEN, rngs=theirs.nnx.Rngs(0)))
        own = theirs.nnx.to_pure_dict(theirs.nnx.state(module, theirs.nnx.Param))
        tree = filled(own)
        theirs.nnx.update(module, tree)
        _, h = module(carry, xs[:, 0])
    arrays = {f"{key}/{leaf}": a for key, part in tree.items() for leaf, a in part.items()}
    params = layouts.load(name, layout, arrays)
    ours, _ = CELLS[name].step(params, xs[:, 0], state)
    np.testing.assert_allclose(ours, h, rtol=0, atol=1e-6)


@pytest.mark.haiku
@pytest.mark.parametrize(("kind", "name"), [("LSTM", "lstm"), ("GRU", "gru")])
def test_a_haiku_core_of_their_making(kind, name):
    import haiku
    import jax

    cell, _, xs, state = case(name, dtype=np.float32)
    old = haiku.LSTMState(state.h, state.c) if name == "lstm" else state.h
    pure = haiku.without_apply_rng(
        haiku.transform(lambda x: getattr(haiku, kind)(HIDDEN, name="core")(x, old))
    )
    rng = np.random.default_rng(9)
    tree = jax.tree.map(
        lambda a: (0.6 * rng.normal(size=a.shape)).astype(np.float32),
        jax.eval_shape(pure.init, jax.random.key(0), xs[:, 0]),
    )
    h, _ = pure.apply(tree, xs[:, 0])
    arrays = {
        f"{module}/{leaf}".removeprefix("core/"): a
        for module, part in tree.items()
        for leaf, a in part.items()
    }
    ours, _ = cell.step(layouts.load(name, "haiku", arrays), xs[:, 0], state)
    np.testing.assert_allclose(ours, h, rtol=0, atol=1e-6)


@pytest.mark.tensorflow
@pytest.mark.parametrize("layout", ["tf1_block", "tf1_block_v2"])
@pytest.mark.parametrize("name", ["lstm", "peephole"])
def test_a_block_operator_over_a_whole_sequence(layout, name):
    import tensorflow as tf

    cell, _, xs, state = case(name, dtype=np.float32)
    rng = np.random.default_rng(10)
    sizes = {"w": (INPUT + HIDDEN, 4 * HIDDEN), "b": (4 * HIDDEN,)}
    sizes |= dict.fromkeys(("wci", "wcf", "wco"), (HIDDEN,))
    arrays = {k: (0.6 * rng.normal(size=size)).astype(np.float32) for k, size in sizes.items()}
    options = {"forget_bias": 0.25} if layout == "tf1_block" else {}
    operator = tf.raw_ops.BlockLSTM if layout == "tf1_block" else tf.raw_ops.BlockLSTMV2
    told = operator(
        seq_len_max=TIME,
        x=xs.swapaxes(0, 1),
        cs_prev=state.c,
        h_prev=state.h,
        use_peephole=name == "peephole",
        cell_clip=-1.0,
        **arrays,
        **options,
    )
    held = arrays if name == "peephole" else {key: arrays[key] for key in "wb"}
    params = layouts.load(name, layout, held, **options)
    hs, final = run(cell, params, xs.swapaxes(0, 1), state, time_major=True)
    theirs = told.h.numpy(), cell.State(h=told.h.numpy()[-1], c=told.cs.numpy()[-1])
    assert_same((hs, final), theirs, 1e-6)
