"""What reads what: layers are joined in a file that is written where they are in its source."""

import importlib
import json

import numpy as np
import pytest
from cases import params_of

from lstmbook import CELLS, convert, files, run
from lstmbook.files import Layer
from lstmbook.files._keras_config import strange_class

XS = np.random.default_rng(8).normal(size=(4, 7, 3)).astype(np.float32)


def layer(name, input_size=3, hidden=4, cell="lstm", **options):
    rng = np.random.default_rng([*name.encode()])
    params = params_of(CELLS[cell], rng, input_size, hidden, np.float32)
    return Layer(name, cell, params, "lstmbook", options.pop("reverse", False), **options)


def reads(path, **options):
    """Of every layer of a file: what it reads, or in words what else."""
    return {one.name: one.reads or one.between for one in files.read(path, **options)}


@pytest.fixture(scope="module")
def safetensors():
    return importlib.import_module("safetensors.numpy")


def randomised(model):
    rng = np.random.default_rng(1)
    model.set_weights([rng.normal(size=w.shape) * 0.5 for w in model.get_weights()])
    return model


# Keras: the configuration says it


def sequence(layers, units, name, **options):
    return layers.LSTM(units, return_sequences=True, name=name, **options)


def two(keras, middle, *, units=4, **options):
    """A model of two layers, and what stands between them."""
    x = keras.Input((7, 3), name="in")
    y = sequence(keras.layers, 4, "a", **options)(x)
    y = sequence(keras.layers, units, "b")(middle(y, x))
    return keras.Model(x, y)


def residual(keras, y, x):
    return keras.layers.Add(name="sum")([y, keras.layers.Dense(4, name="d")(x)])


KERAS = {
    "nothing": (lambda k: two(k, lambda y, x: y), ("a",)),
    "dense": (
        lambda k: two(k, lambda y, x: k.layers.Dense(4, name="d")(y)),
        "Dense 'd' of LSTM 'a'",
    ),
    "dropout": (
        lambda k: two(k, lambda y, x: k.layers.Dropout(0.5, name="off")(y)),
        "Dropout 'off' of LSTM 'a'",
    ),
    "residual": (
        lambda k: two(k, lambda y, x: residual(k, y, x)),
        "Add 'sum' of LSTM 'a' and Dense 'd'",
    ),
    "backward": (
        lambda k: two(k, lambda y, x: y, go_backwards=True),
        "the outputs of LSTM 'a', last step first",
    ),
    "other input": (lambda k: two(k, lambda y, x: x), ""),
}


@pytest.mark.parametrize("kind", KERAS)
@pytest.mark.parametrize("end", [".keras", ".h5"])
def test_keras_says_what_stands_between_two_layers(keras, h5py, tmp_path, kind, end):
    build, expected = KERAS[kind]
    build(keras).save(tmp_path / f"m{end}")
    found = reads(tmp_path / f"m{end}")
    assert found["b"] == expected
    assert found.get("a", "") == ""  # Keras does not keep a layer that leads nowhere


def autoencoder(keras):
    layers = keras.layers
    x = keras.Input((7, 3))
    code = layers.LSTM(4, name="encoder")(x)
    return keras.Model(x, sequence(layers, 4, "decoder")(layers.RepeatVector(7, name="r")(code)))


def seq2seq(keras):
    layers = keras.layers
    x, y = keras.Input((7, 3)), keras.Input((5, 4))
    hs, h, c = layers.LSTM(4, return_sequences=True, return_state=True, name="encoder")(x)
    out = sequence(layers, 4, "decoder")(y, initial_state=[h, c])
    return keras.Model([x, y], [hs, out])


def bidirectional(keras, mode="concat"):
    layers = keras.layers
    inner = layers.GRU(4, return_sequences=True, name="g")
    both = layers.Bidirectional(inner, merge_mode=mode, name="both")
    return keras.Sequential([keras.Input((7, 3)), both, sequence(layers, 2, "top")])


def nested(keras):
    layers = keras.layers
    cells = [layers.LSTMCell(4, name="low"), layers.GRUCell(5, name="high")]
    inner = keras.Sequential(
        [keras.Input((7, 3)), layers.RNN(cells, return_sequences=True, name="rnn")], name="inner"
    )
    x = keras.Input((7, 3))
    return keras.Model(x, sequence(layers, 2, "top")(inner(x)))


def shared(keras):
    x, y = keras.Input((7, 3)), keras.Input((7, 4))
    one, top = sequence(keras.layers, 4, "one"), sequence(keras.layers, 2, "top")
    return keras.Model([x, y], [top(one(x)), top(y)])


def in_each_part(keras):
    layers = keras.layers
    x = keras.Input((5, 7, 3))
    rows = layers.TimeDistributed(layers.LSTM(4, name="row"), name="rows")(x)
    return keras.Model(x, sequence(layers, 2, "top")(rows))


def called_twice(keras):
    x, inner = keras.Input((7, 3)), sequence(keras.layers, 3, "inner")
    return keras.Model(x, sequence(keras.layers, 2, "top")(inner(inner(x))))


def with_states(keras):
    x, layers = keras.Input((7, 3)), keras.layers
    hs, h, c = layers.LSTM(4, return_sequences=True, return_state=True, name="a")(x)
    return keras.Model(x, sequence(layers, 4, "b")(hs, initial_state=[h, c]))


BOTH = ("both/forward_g", "both/backward_g")
MODELS = {
    autoencoder: {
        "encoder": "",
        "decoder": "RepeatVector 'r' of the last output of LSTM 'encoder'",
    },
    seq2seq: {"encoder": "", "decoder": ""},
    bidirectional: dict.fromkeys(BOTH, "") | {"top": BOTH},
    nested: {"inner/rnn/low": "", "inner/rnn/high": ("inner/rnn/low",), "top": ("inner/rnn/high",)},
    shared: {"one": "", "top": "another input in each of 2 calls"},
    called_twice: {
        "inner": "another input in each of 2 calls",
        "top": "LSTM 'inner', which is called more than once",
    },
    with_states: {
        "a": "",
        "b": "LSTM 'a', and has a final state of LSTM 'a' as initial state",
    },
    in_each_part: {"rows/row": "TimeDistributed 'rows'", "top": "TimeDistributed 'rows'"},
}


@pytest.mark.parametrize("build", MODELS)
@pytest.mark.parametrize("end", [".keras", ".h5"])
def test_keras_models(keras, h5py, tmp_path, build, end):
    build(keras).save(tmp_path / f"m{end}")
    assert reads(tmp_path / f"m{end}") == MODELS[build]


def test_keras_notes(keras, h5py, tmp_path):
    seq2seq(keras).save(tmp_path / "m.keras")
    notes = {one.name: one.note for one in files.read(tmp_path / "m.keras")}
    assert "its initial state is a final state of LSTM 'encoder'" in notes["decoder"]
    assert notes["encoder"] == ""
    bidirectional(keras, "sum").save(tmp_path / "n.keras")
    assert reads(tmp_path / "n.keras")["top"] == "Bidirectional 'both' with merge_mode='sum'"


def test_classes_of_ones_own_are_no_layers_of_keras(keras, h5py, tmp_path):
    """Whatever they are called: what they compute, only they know."""
    register = keras.saving.register_keras_serializable

    @register(package="Mine")
    class Bidirectional(keras.layers.Bidirectional):
        def call(self, sequences, initial_state=None, mask=None, training=None):
            return 2 * super().call(sequences, initial_state, mask, training)

    @register(package="Mine")
    class Residual(keras.Model):
        def call(self, inputs, **options):
            return 2 * super().call(inputs, **options)

    inner = keras.layers.GRU(4, return_sequences=True, name="g")
    both = [
        keras.Input((7, 3)),
        Bidirectional(inner, name="both"),
        sequence(keras.layers, 2, "top"),
    ]
    keras.Sequential(both).save(tmp_path / "m.keras")
    assert reads(tmp_path / "m.keras")["top"] == "Mine>Bidirectional 'both'"
    one = two(keras, lambda y, x: y)
    Residual(one.input, one.output).save(tmp_path / "n.keras")
    assert [x.reads for x in files.read(tmp_path / "n.keras")] == [None, None]


def test_states_that_stay_and_states_of_both_directions(keras, h5py, tmp_path):
    layers = keras.layers
    x = keras.Input(batch_shape=(2, 7, 3))
    hs = layers.LSTM(4, return_sequences=True, stateful=True, name="kept")(x)
    hs, *states = layers.Bidirectional(
        layers.GRU(4, return_sequences=True, return_state=True, name="low"), name="one"
    )(hs)
    two_ways = layers.Bidirectional(layers.GRU(4, return_sequences=True, name="top"), name="two")
    keras.Model(x, two_ways(hs, initial_state=states)).save(tmp_path / "m.keras")
    notes = {one.name: one.note for one in files.read(tmp_path / "m.keras")}
    assert "its initial state is that of the call before" in notes["kept"]
    for half in ("forward", "backward"):
        assert "its initial state is a final state of" in notes[f"two/{half}_top"]


def test_keras_2_configurations(keras, h5py, tmp_path):
    """Keras 2 lists calls as lists: its own spelling, with the weights of today's."""
    two(keras, lambda y, x: y).save_weights(tmp_path / "w.weights.h5")
    layers = [{"class_name": "InputLayer", "name": "in", "inbound_nodes": []}]
    for name, source in (("a", "in"), ("b", "a")):
        own = {"name": name, "units": 4, "return_sequences": True}
        own |= {"activation": "tanh", "recurrent_activation": "sigmoid"}
        call = [[[source, 0, 0, {}]]]
        layers.append({"class_name": "LSTM", "name": name, "config": own, "inbound_nodes": call})
    ends = {"input_layers": [["in", 0, 0]], "output_layers": [["b", 0, 0]]}
    config = {"class_name": "Functional", "config": {"layers": layers} | ends}
    (tmp_path / "w.json").write_text(json.dumps(config))
    assert list(reads(tmp_path / "w.weights.h5").values()) == ["", ("a",)]
    layers[2]["inbound_nodes"] = layers[1]["inbound_nodes"]
    (tmp_path / "w.json").write_text(json.dumps(config))
    assert list(reads(tmp_path / "w.weights.h5").values()) == ["", ""]


def test_weights_alone_join_nothing(keras, h5py, tmp_path):
    two(keras, lambda y, x: y).save_weights(tmp_path / "w.weights.h5")
    assert [one.reads for one in files.read(tmp_path / "w.weights.h5")] == [None, None]


def test_layers_of_weights_alone_come_in_the_order_of_the_model(keras, h5py, tmp_path):
    """HDF5 lists names by the alphabet; the order in which they were written is the model's."""
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((7, 3)),
            sequence(layers, 4, "z"),
            layers.Bidirectional(layers.SimpleRNN(2, return_sequences=True), name="y"),
            layers.GRU(5, return_sequences=True, name="x"),
            sequence(layers, 2, "w"),
        ]
    )
    model.save_weights(tmp_path / "w.weights.h5")
    found = files.read(tmp_path / "w.weights.h5")
    assert [one.name.split("/")[0] for one in found] == ["z", "y", "y", "x", "w"]
    assert [one.reverse for one in found] == [False, False, True, False, False]


# What is written gives what the source's own model gives


@pytest.mark.parametrize("build", [bidirectional, nested, lambda k: two(k, lambda y, x: y)])
def test_the_model_that_is_written_computes_what_the_source_does(
    keras, h5py, onnx, onnxruntime, tmp_path, build
):
    model = randomised(build(keras))
    model.save(tmp_path / "m.keras")
    expected = model.predict(XS, verbose=0)
    done = convert(tmp_path / "m.keras", tmp_path / "m.onnx")
    assert done.certificate.verdict == "equal"
    session = onnxruntime.InferenceSession(str(tmp_path / "m.onnx"))
    feeds = {"X": XS.swapaxes(0, 1), "sequence_lens": np.full(4, 7, np.int32)}
    for value in session.get_inputs():
        if value.name.startswith("initial"):
            feeds[value.name] = np.zeros((value.shape[0], 4, value.shape[2]), np.float32)
    [hs] = session.run(["Y"], feeds)
    np.testing.assert_allclose(hs.swapaxes(0, 1), expected, rtol=0, atol=1e-6)
    convert(tmp_path / "m.onnx", tmp_path / "again.keras")
    again = keras.models.load_model(tmp_path / "again.keras")
    np.testing.assert_allclose(again.predict(XS, verbose=0), expected, rtol=0, atol=1e-6)


def test_what_stands_between_is_said_and_not_jumped_over(keras, h5py, onnx, onnxruntime, tmp_path):
    randomised(KERAS["dense"][0](keras)).save(tmp_path / "m.keras")
    done = convert(tmp_path / "m.keras", tmp_path / "m.onnx")
    text = "has an input of its own; in the source it reads Dense 'd' of LSTM 'a'"
    assert done.ok
    assert text in str(done.certificate)
    assert done.certificate.to_dict()["layers"][1]["between"] == "Dense 'd' of LSTM 'a'"
    session = onnxruntime.InferenceSession(str(tmp_path / "m.onnx"))
    assert [x.name for x in session.get_inputs() if x.name[0] == "X"] == ["X_0", "X_1"]


def test_a_target_that_joins_too_much_is_not_equal(keras, h5py, onnx, tmp_path, monkeypatch):
    from lstmbook.files import onnx_writer as writer

    randomised(KERAS["dense"][0](keras)).save(tmp_path / "m.keras")
    monkeypatch.setattr(writer, "chains", lambda levels: [levels])
    done = convert(tmp_path / "m.keras", tmp_path / "m.onnx")
    assert not done.ok
    assert "reads a in the target alone" in str(done.certificate)
    assert not (tmp_path / "m.onnx").exists()


def test_a_source_that_was_misread_is_not_equal(
    keras, h5py, onnx, onnxruntime, tmp_path, monkeypatch
):
    """The source's own model runs in one piece: what was overlooked between two layers shows."""
    from lstmbook.files import _keras_graph

    randomised(KERAS["dense"][0](keras)).save(tmp_path / "m.keras")
    monkeypatch.setattr(_keras_graph, "_something", lambda layer, inputs: inputs[0])
    done = convert(tmp_path / "m.keras", tmp_path / "m.onnx")
    assert (done.ok, done.certificate.verdict) == (False, "NOT EQUAL")
    source, target = done.certificate.wholes
    assert source.end == "source"
    assert source.max_abs > 1e-3
    assert not source.ok
    assert target.end == "target"
    assert target.max_abs < 1e-6
    assert not (tmp_path / "m.onnx").exists()


def test_a_graph_that_was_misread_is_not_equal(onnx, onnxruntime, tmp_path, monkeypatch):
    from lstmbook.files._onnx_graph import Inputs

    onnx_model(onnx, tmp_path / "m.onnx", BETWEEN["relu"][0])
    monkeypatch.setattr(Inputs, "_only_moves", lambda *_: True)
    done = convert(tmp_path / "m.onnx", tmp_path / "n.onnx")
    assert not done.ok
    assert [whole.ok for whole in done.certificate.wholes] == [False, True]


def test_a_model_that_gives_its_last_step_alone(keras, h5py, onnx, onnxruntime, tmp_path):
    layers = keras.layers
    both = layers.Bidirectional(layers.LSTM(2), name="both")
    model = keras.Sequential([keras.Input((7, 3)), sequence(layers, 4, "low"), both])
    randomised(model).save(tmp_path / "m.keras")
    done = convert(tmp_path / "m.keras", tmp_path / "m.onnx")
    assert [(x.end, x.ok, x.max_abs is None) for x in done.certificate.wholes] == [
        ("source", True, False), ("target", True, False)
    ]  # fmt: skip


def test_what_cannot_be_run_in_one_piece_says_why(tmp_path, safetensors):
    files.write(tmp_path / "m.npz", files.chained([layer("a"), layer("b", 4)]), to="npz")
    done = convert(tmp_path / "m.npz", tmp_path / "m.safetensors")
    text = "a -> b: the source was not run in one piece: no program in the file"
    assert text in str(done.certificate)
    rows = done.certificate.to_dict()["chains"]
    assert [(row["end"], row["max_abs"], row["ok"]) for row in rows] == [
        ("source", None, True), ("target", None, True)
    ]  # fmt: skip


@pytest.mark.parametrize("end", [".keras", ".h5"])
def test_a_model_with_code_in_it_is_not_loaded(
    keras, h5py, onnx, onnxruntime, tmp_path, monkeypatch, end
):
    """A configuration can name a function to call: such a file is read, and never run."""
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((7, 3)),
            sequence(layers, 4, "a"),
            sequence(layers, 4, "b"),
            layers.Lambda(lambda x: 2 * x, name="code"),
        ]
    )
    randomised(model).save(tmp_path / f"m{end}")

    def load_model(*_, **__):
        raise AssertionError("loaded")

    monkeypatch.setattr(keras.models, "load_model", load_model)
    done = convert(tmp_path / f"m{end}", tmp_path / "m.onnx")
    source, target = done.certificate.wholes
    assert str(source) == "a -> b: the source was not run in one piece: it has Lambda in it"
    assert target.max_abs < 1e-6


@pytest.mark.parametrize(
    "config",
    [
        {"class_name": "Dense", "module": "os", "registered_name": "Dense"},
        {"class_name": "Dense", "module": "keras.layers", "registered_name": "Mine>Dense"},
        {"class_name": "function", "config": "system", "module": "builtins"},
        {"config": {"layers": [{"config": {"activation": {"class_name": "Lambda"}}}]}},
        [[{"class_name": "__lambda__"}]],
    ],
)
def test_what_is_more_than_a_layer_of_keras(config):
    assert strange_class({"class_name": "Sequential", "config": [config]}) != ""


def test_all_of_keras_own_is_plain(keras):
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((7, 3)),
            layers.Masking(),
            layers.Bidirectional(layers.LSTM(4, return_sequences=True, kernel_regularizer="l2")),
            layers.TimeDistributed(layers.Dense(4, kernel_initializer="he_normal")),
            layers.RNN([layers.GRUCell(4), layers.SimpleRNNCell(2)], return_sequences=True),
            layers.Dropout(0.5),
        ]
    )
    assert strange_class(json.loads(model.to_json())) == ""


# ONNX: the graph says it


def onnx_model(onnx, path, between, *, layout=0, directions=1, shape=(None, None, 3)):
    """Two nodes, and what stands between them: nodes from ``Y`` to ``x``."""
    make, rng = onnx.helper, np.random.default_rng(3)
    nodes, stored = [], []
    hidden, inputs = 4, [3, 4 * directions]
    for k, (x, y) in enumerate((("X", "Y"), ("x", "Z"))):
        sides = directions if k == 0 else 1
        shapes = {"W": (sides, 16, inputs[k]), "R": (sides, 16, hidden), "B": (sides, 32)}
        for name, size in shapes.items():
            array = rng.normal(size=size).astype(np.float32)
            stored.append(onnx.numpy_helper.from_array(array, f"{name}{k}"))
        options = {"direction": "bidirectional"} if sides == 2 else {}
        options |= {"layout": layout} if layout else {}
        weights = [f"{name}{k}" for name in shapes]
        nodes.append(
            make.make_node("LSTM", [x, *weights], [y], name="ab"[k], hidden_size=hidden, **options)
        )
    constants = {"axis": [1], "axis2": [2], "rows": [0, 0, -1], "turn": [-1, 0, 0]}
    constants |= {"ends": [-1], "start": [-1], "stop": [-(2**31)], "first": [0], "time": [0]}
    stored += [onnx.numpy_helper.from_array(np.array(v, np.int64), k) for k, v in constants.items()]
    stored.append(onnx.numpy_helper.from_array(np.eye(4, dtype=np.float32), "eye"))
    middle = [make.make_node(op, i, o, **options) for op, i, o, options in between]
    ends = [
        [make.make_tensor_value_info(name, 1, size)] for name, size in (("X", shape), ("Z", None))
    ]
    graph = make.make_graph([nodes[0], *middle, nodes[1]], "m", *ends, stored)
    opsets = [make.make_opsetid("", 14)]
    onnx.save(make.make_model(graph, opset_imports=opsets, ir_version=8), str(path))


SQUEEZE = ("Squeeze", ["Y", "axis"], ["x"], {})
BETWEEN = {
    "squeeze": ([SQUEEZE], {}, ("a",)),
    "squeeze, batch first": ([("Squeeze", ["Y", "axis2"], ["x"], {})], {"layout": 1}, None),
    "two directions": (
        [
            ("Transpose", ["Y"], ["t"], {"perm": [0, 2, 1, 3]}),
            ("Reshape", ["t", "rows"], ["x"], {}),
        ],
        {"directions": 2},
        ("a", "a/reverse"),
    ),
    "two directions mixed up": (
        [
            ("Transpose", ["Y"], ["t"], {"perm": [0, 2, 3, 1]}),
            ("Reshape", ["t", "rows"], ["x"], {}),
        ],
        {"directions": 2},
        "a rearrangement of a and a/reverse",
    ),
    "there and back": (
        [
            ("Squeeze", ["Y", "axis"], ["s"], {}),
            ("Transpose", ["s"], ["t"], {"perm": [1, 0, 2]}),
            ("Identity", ["t"], ["u"], {}),
            ("Transpose", ["u"], ["x"], {"perm": [1, 0, 2]}),
        ],
        {},
        ("a",),
    ),
    "time and batch changed": (
        [("Squeeze", ["Y", "axis"], ["s"], {}), ("Transpose", ["s"], ["x"], {"perm": [1, 0, 2]})],
        {},
        "a rearrangement of a",
    ),
    "last step first": (
        [
            ("Squeeze", ["Y", "axis"], ["s"], {}),
            ("Slice", ["s", "start", "stop", "time", "ends"], ["x"], {}),
        ],
        {},
        "a rearrangement of a",
    ),
    "dense": (
        [("Squeeze", ["Y", "axis"], ["s"], {}), ("MatMul", ["s", "eye"], ["x"], {})],
        {},
        "MatMul of a",
    ),
    "relu": ([("Squeeze", ["Y", "axis"], ["s"], {}), ("Relu", ["s"], ["x"], {})], {}, "Relu of a"),
}


@pytest.mark.parametrize("kind", BETWEEN)
def test_onnx_graphs(onnx, tmp_path, kind):
    between, options, expected = BETWEEN[kind]
    onnx_model(onnx, tmp_path / "m.onnx", between, **options)
    found = reads(tmp_path / "m.onnx")
    # With layout 1 the outputs are (batch, time, directions, hidden)
    assert found["b"] == (expected or ("a",))
    assert found["a"] == ""


def test_onnx_shapes_that_stand_for_one_size(onnx, tmp_path):
    """A Reshape to numbers holds for the model's own times and batches alone."""
    size = np.array([7, 2, 4], np.int64)
    constant = ("Constant", [], ["size"], {"value": onnx.numpy_helper.from_array(size, "size")})
    between = [constant, ("Reshape", ["Y", "size"], ["x"], {})]
    onnx_model(onnx, tmp_path / "m.onnx", between, shape=(7, 2, 3))
    assert reads(tmp_path / "m.onnx")["b"] == ("a",)
    onnx_model(onnx, tmp_path / "m.onnx", between)  # nothing says which
    assert reads(tmp_path / "m.onnx")["b"] == "a rearrangement of a"


@pytest.mark.parametrize("shape", [(20, 1, 3), (1, 20, 3), (20, 4, 3), (1, 1, 3), (None, None, 3)])
@pytest.mark.parametrize("cut", [(-1, -(2**31), -1), (0, 5, 1), (19, 20, 1), (0, 20, 2)])
def test_onnx_cuts_in_time_are_seen_in_every_size(onnx, tmp_path, shape, cut):
    """In one step no order shows, and a cut after five steps shows only where there are more."""
    names = [f"cut{k}" for k in range(3)]
    constants = [
        ("Constant", [], [name], {"value": onnx.numpy_helper.from_array(np.array([n]), name)})
        for name, n in zip(names, cut, strict=True)
    ]
    between = [("Squeeze", ["Y", "axis"], ["s"], {})]
    between += [*constants, ("Slice", ["s", *names[:2], "time", names[2]], ["x"], {})]
    onnx_model(onnx, tmp_path / "m.onnx", between, shape=shape)
    assert reads(tmp_path / "m.onnx")["b"] == "a rearrangement of a"


def test_onnx_initial_states_of_the_model(onnx, onnxruntime, tmp_path):
    """A chain that is written begins with zeros: where the source does not, there is none."""
    onnx_model(onnx, tmp_path / "m.onnx", [SQUEEZE])
    model = onnx.load(tmp_path / "m.onnx")
    model.graph.node[0].output.extend(["Y_h"])
    model.graph.node[-1].input.extend(["", "Y_h"])
    onnx.save(model, tmp_path / "n.onnx")
    [a, b] = files.read(tmp_path / "n.onnx")
    assert (a.between, b.reads) == ("", ())
    assert b.between == "a, and has the final state of a as initial state"
    assert b.note == "its initial state is the final state of a, which is not converted"
    for number, between in ((0.5, "a, and has numbers of the file as initial state"), (0, "")):
        model = onnx.load(tmp_path / "m.onnx")
        start = np.full((1, 1, 4), number, np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(start, "start"))
        model.graph.node[-1].input.extend(["", "start"])
        onnx.save(model, tmp_path / "o.onnx")
        [_, b] = files.read(tmp_path / "o.onnx")
        assert (b.between, b.reads) == (between, () if between else ("a",))
        assert bool(b.assumed) == bool(between)


# TensorFlow 1: the graph beside a checkpoint says it, or names


def saved(tf, path, build, loops=False):
    """A checkpoint with its graph, and what the graph computes.

    With ``loops`` its loops are functions, as TensorFlow 2 has them even for v1 cells.
    """
    from lstmbook.live.tf1 import rnn_cell

    v1, rng = tf.compat.v1, np.random.default_rng(0)
    before = v1.control_flow_v2_enabled()
    try:
        (v1.enable_control_flow_v2 if loops else v1.disable_control_flow_v2)()
        return _saved(tf, v1, rnn_cell, rng, path, build)
    finally:
        (v1.enable_control_flow_v2 if before else v1.disable_control_flow_v2)()


def _saved(tf, v1, rnn_cell, rng, path, build):
    with tf.Graph().as_default(), v1.Session() as session:
        value = build(tf, v1.nn, rnn_cell, tf.constant(XS))
        session.run(v1.global_variables_initializer())
        for variable in v1.global_variables():
            variable.load((rng.normal(size=variable.shape) * 0.6).astype(np.float32), session)
        v1.train.Saver().save(session, str(path))
        return session.run(value)


def cells(c, units=(4, 4)):
    return [c.BasicLSTMCell(n) for n in units]


def dynamic(tf, nn, cell, xs, **options):
    return nn.dynamic_rnn(cell, xs, dtype=tf.float32, **options)[0]


def static(tf, nn, cell, xs):
    steps, _ = nn.static_rnn(cell, tf.unstack(xs, axis=1), dtype=tf.float32)
    return tf.stack(steps, axis=1)


def one_after_the_other(tf, nn, c, xs):
    with tf.compat.v1.variable_scope("a"):
        xs = dynamic(tf, nn, c.GRUCell(4), xs, sequence_length=[7, 5, 0, 3])
    with tf.compat.v1.variable_scope("b"):
        return dynamic(tf, nn, c.BasicLSTMCell(4), xs, sequence_length=[7, 5, 0, 3])


def encoder_decoder(tf, nn, c, xs):
    with tf.compat.v1.variable_scope("encoder"):
        _, state = nn.dynamic_rnn(c.BasicLSTMCell(3), xs, dtype=tf.float32)
    with tf.compat.v1.variable_scope("decoder"):
        return nn.dynamic_rnn(c.BasicLSTMCell(4), xs + state.h[:, None], dtype=tf.float32)[0]


def both_ways(tf, nn, c, xs):
    with tf.compat.v1.variable_scope("low"):
        hs, _ = nn.bidirectional_dynamic_rnn(
            *cells(c), xs, dtype=tf.float32, sequence_length=[7, 5, 1, 3]
        )
    with tf.compat.v1.variable_scope("high"):
        hs, _ = nn.bidirectional_dynamic_rnn(*cells(c), tf.concat(hs, 2), dtype=tf.float32)
    return tf.concat(hs, 2)


def two_unrolled(change):
    """Two unrolled layers, and what is made of the first one's outputs between them."""

    def build(tf, nn, c, xs):
        low, top = cells(c)
        steps, _ = nn.static_rnn(low, tf.unstack(xs, axis=1), dtype=tf.float32, scope="a")
        steps, _ = nn.static_rnn(top, change(steps), dtype=tf.float32, scope="b")
        return tf.stack(steps, axis=1)

    return build


def in_two_loops(tf, nn, c, xs):
    low, top = cells(c)
    hs = dynamic(tf, nn, low, xs, scope="a")
    return dynamic(tf, nn, top, hs, scope="b"), dynamic(tf, nn, top, tf.tanh(hs), scope="b")


def chosen(tf, nn, c, xs):
    low, top = cells(c, (3, 4))
    hs = dynamic(tf, nn, low, xs, scope="a")
    return dynamic(tf, nn, top, tf.where(xs > 0, tf.zeros_like(hs), hs), scope="b")


def turned(tf, nn, c, xs):
    low, top = cells(c)
    return dynamic(tf, nn, top, tf.reverse(dynamic(tf, nn, low, xs, scope="a"), [1]), scope="b")


SOMETHING_ELSE = {
    "turned in time": turned,
    "in another order": two_unrolled(lambda steps: steps[::-1]),
    "one step twice": two_unrolled(lambda steps: [*steps[:-1], steps[0]]),
    "one step doubled": two_unrolled(lambda steps: [*steps[:2], steps[2] * 2, *steps[3:]]),
    "the last step doubled": two_unrolled(lambda steps: [*steps[:-1], steps[-1] * 2]),
    "fewer steps": two_unrolled(lambda steps: steps[::2]),
    "two loops": in_two_loops,
    "a choice": chosen,
}


@pytest.mark.parametrize("kind", SOMETHING_ELSE)
@pytest.mark.parametrize("loops", [False, True], ids=["v1 loops", "v2 loops"])
def test_tensorflow_graphs_where_a_layer_reads_something_else(tf, tmp_path, kind, loops):
    saved(tf, tmp_path / "m", SOMETHING_ELSE[kind], loops)
    found = {one.name: one for one in files.read(tmp_path / "m")}
    assert found["b/basic_lstm_cell"].reads == ()
    saved(tf, tmp_path / "n", two_unrolled(lambda steps: steps), loops)
    found = {one.name: one for one in files.read(tmp_path / "n")}
    assert found["b/basic_lstm_cell"].reads == ("a/basic_lstm_cell",)


CELL = "rnn/multi_rnn_cell/cell_"
TF1 = {
    "stack": (
        lambda tf, nn, c, xs: dynamic(tf, nn, c.MultiRNNCell(cells(c)), xs),
        {f"{CELL}0/basic_lstm_cell": "", f"{CELL}1/basic_lstm_cell": (f"{CELL}0/basic_lstm_cell",)},
    ),
    "stack with lengths": (
        lambda tf, nn, c, xs: dynamic(
            tf, nn, c.MultiRNNCell([c.GRUCell(4), c.LSTMCell(2)]), xs, sequence_length=[7, 0, 3, 2]
        ),
        {f"{CELL}0/gru_cell": "", f"{CELL}1/lstm_cell": (f"{CELL}0/gru_cell",)},
    ),
    "unrolled": (
        lambda tf, nn, c, xs: static(tf, nn, c.MultiRNNCell(cells(c)), xs),
        {f"{CELL}0/basic_lstm_cell": "", f"{CELL}1/basic_lstm_cell": (f"{CELL}0/basic_lstm_cell",)},
    ),
    "residual": (
        lambda tf, nn, c, xs: dynamic(
            tf, nn, c.MultiRNNCell([c.ResidualWrapper(c.BasicLSTMCell(3)), c.BasicLSTMCell(4)]), xs
        ),
        {f"{CELL}0/basic_lstm_cell": "", f"{CELL}1/basic_lstm_cell": "AddV2 of rnn/multi"},
    ),
    "residual above": (
        lambda tf, nn, c, xs: dynamic(
            tf, nn, c.MultiRNNCell([c.BasicLSTMCell(4), c.ResidualWrapper(c.BasicLSTMCell(4)),
                                    c.BasicLSTMCell(4)]), xs
        ),
        {f"{CELL}0/basic_lstm_cell": "", f"{CELL}1/basic_lstm_cell": (f"{CELL}0/basic_lstm_cell",),
         f"{CELL}2/basic_lstm_cell": "Add"},
    ),
    "dropout": (
        lambda tf, nn, c, xs: dynamic(
            tf, nn,
            c.MultiRNNCell([c.DropoutWrapper(c.BasicLSTMCell(4), output_keep_prob=0.5),
                            c.BasicLSTMCell(4)]), xs
        ),
        {f"{CELL}0/basic_lstm_cell": "", f"{CELL}1/basic_lstm_cell": "RandomUniform"},
    ),
    "one after the other": (
        one_after_the_other,
        {"a/rnn/gru_cell": "", "b/rnn/basic_lstm_cell": ("a/rnn/gru_cell",)},
    ),
    "encoder and decoder": (
        encoder_decoder,
        {"encoder/rnn/basic_lstm_cell": "", "decoder/rnn/basic_lstm_cell": "Add"},
    ),
    "both ways": (
        both_ways,
        {f"low/bidirectional_rnn/{side}/basic_lstm_cell": "" for side in ("fw", "bw")}
        | {
            f"high/bidirectional_rnn/{side}/basic_lstm_cell": (
                "low/bidirectional_rnn/fw/basic_lstm_cell",
                "low/bidirectional_rnn/bw/basic_lstm_cell",
            )
            for side in ("fw", "bw")
        },
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", TF1)
@pytest.mark.parametrize("loops", [False, True], ids=["v1 loops", "v2 loops"])
def test_tensorflow_graphs(tf, tmp_path, kind, loops):
    build, expected = TF1[kind]
    saved(tf, tmp_path / "m", build, loops)
    found = reads(tmp_path / "m")
    assert not any(one.assumed for one in files.read(tmp_path / "m"))
    for name, what in expected.items():
        assert found[name] == what or (isinstance(what, str) and what and what in found[name])
    (tmp_path / "m.meta").unlink()
    for one in files.read(tmp_path / "m"):
        stacked = "multi_rnn_cell/cell_" in one.name and "cell_0" not in one.name
        assert bool(one.reads) == stacked
        assert any("by its name: what may stand between" in x for x in one.assumed) == stacked


def called_backward(tf, nn, c, xs):
    with tf.compat.v1.variable_scope("bw"):
        return dynamic(tf, nn, c.BasicLSTMCell(4), xs)


def static_both_ways(tf, nn, c, xs):
    steps = tf.unstack(xs, axis=1)
    return tf.stack(nn.static_bidirectional_rnn(*cells(c), steps, dtype=tf.float32)[0], axis=1)


@pytest.mark.parametrize("loops", [False, True], ids=["v1 loops", "v2 loops"])
def test_the_graph_knows_the_direction_better_than_a_name(tf, keras, h5py, tmp_path, loops):
    hs = saved(tf, tmp_path / "m", called_backward, loops)
    [one] = files.read(tmp_path / "m")
    assert (one.name, one.reverse) == ("bw/rnn/basic_lstm_cell", False)
    np.testing.assert_allclose(run(one.cell, one.params, XS)[0], hs, rtol=0, atol=1e-6)
    for build in (both_ways, static_both_ways):
        saved(tf, tmp_path / "n", build, loops)
        found = files.read(tmp_path / "n")
        assert [x.reverse for x in found] == ["/bw/" in x.name for x in found]
        assert any(x.reverse for x in found)
    (tmp_path / "m.meta").unlink()
    assert files.read(tmp_path / "m")[0].reverse


@pytest.mark.parametrize("kind", ["stack", "unrolled", "one after the other", "both ways"])
def test_a_graph_and_the_model_that_is_written(tf, keras, h5py, tmp_path, kind):
    build = TF1[kind][0]
    if kind == "one after the other":  # without lengths: Keras has masks for them
        build = lambda tf, nn, c, xs: dynamic(  # noqa: E731
            tf, nn, c.BasicLSTMCell(2), dynamic(tf, nn, c.GRUCell(4), xs, scope="a"), scope="b"
        )
    hs = saved(tf, tmp_path / "m", build)
    assert convert(tmp_path / "m", tmp_path / "m.keras").certificate.verdict == "equal"
    model = keras.models.load_model(tmp_path / "m.keras")
    rows = slice(None) if kind != "both ways" else slice(0, 1)  # the others are shorter
    np.testing.assert_allclose(model.predict(XS, verbose=0)[rows], hs[rows], rtol=0, atol=1e-6)


# PyTorch, .npz and layers from elsewhere


def test_modules_of_pytorch_are_apart_and_their_layers_are_not(safetensors, tmp_path):
    layers = files.chained([layer("x", 3, 4), layer("y", 4, 4)])
    files.write(tmp_path / "m.safetensors", layers, to="torch")
    arrays = safetensors.load_file(tmp_path / "m.safetensors")
    both = {f"{part}.{name}": a for part in ("encoder", "decoder") for name, a in arrays.items()}
    both |= {f"l1.{name.removesuffix('_l0')}": arrays[name] for name in arrays if name[-1] == "0"}
    safetensors.save_file(both, tmp_path / "two.safetensors")
    assert [(one.name, one.reads) for one in files.read(tmp_path / "two.safetensors")] == [
        ("decoder.l0", None), ("decoder.l1", ("decoder.l0",)),
        ("encoder.l0", None), ("encoder.l1", ("encoder.l0",)),
        ("l1", None),  # an nn.LSTMCell of that name
    ]  # fmt: skip


def test_our_own_form_keeps_what_reads_what(tmp_path):
    layers = [
        *files.chained([layer("a"), layer("b", 4)]),
        layer("c", between="Dense of a", reads=()),
    ]
    layers.append(layer("d"))
    files.write(tmp_path / "m.npz", layers, to="npz")
    assert [(one.reads, one.between) for one in files.read(tmp_path / "m.npz")] == [
        ((), ""), (("a",), ""), ((), "Dense of a"), (None, "")
    ]  # fmt: skip


def test_names_of_no_stack_say_nothing(tmp_path):
    names = ["/a/lstm_cell", "rnn/cell_0/lstm_cell", "rnn/cell_1/lstm_cell"]
    arrays = {f"{name}/kernel": np.zeros((8, 16), np.float32) for name in names}
    arrays |= {f"{name}/bias": np.zeros(16, np.float32) for name in names}
    np.savez(tmp_path / "w.npz", **arrays)
    assert [one.reads for one in files.read(tmp_path / "w.npz")] == [None] * 3


def test_a_graph_that_goes_in_a_circle_ends():
    from lstmbook.files._graph import Graph
    from lstmbook.files._graph_loops import Node
    from lstmbook.files._graph_reads import Reads

    nodes = [
        Node("kernel", "VariableV2", []),
        Node("a", "Identity", ["b"]),
        Node("b", "Identity", ["a"]),
        Node("choice", "Select", ["a", "a", "a"]),
        Node("both", "ConcatV2", ["choice", "a"]),
        Node("step", "MatMul", ["both", "kernel"]),
    ]
    reads = Reads(Graph(nodes, "a graph"), {"x": ("kernel", "kernel")})
    assert reads.of("x", {"x": False}) == ((), "")


def test_layers_without_a_word_stay_apart(onnx, onnxruntime, tmp_path):
    files.write(tmp_path / "m.onnx", [layer("a", 4), layer("b", 4)], to="onnx")
    assert reads(tmp_path / "m.onnx") == {"a": "", "b": ""}


def test_a_layer_that_two_read_is_joined_to_neither(onnx, tmp_path):
    layers = [layer("a"), layer("b", 4, reads=("a",)), layer("c", 4, reads=("a",))]
    files.write(tmp_path / "m.onnx", layers, to="onnx")
    assert reads(tmp_path / "m.onnx") == {"a": "", "b": "", "c": ""}


def test_a_circle_loses_nothing(onnx, tmp_path):
    layers = [layer("a", 4, reads=("b",)), layer("b", 4, reads=("a",))]
    files.write(tmp_path / "m.onnx", layers, to="onnx")
    assert len(files.read(tmp_path / "m.onnx")) == 2


def test_half_of_a_bidirectional_layer_is_read_alone(onnx, tmp_path):
    """Two stacks, one in each direction, are not a stack of bidirectional layers."""
    low = [layer("e/fw/0"), layer("e/bw/0", reverse=True)]
    high = [
        layer("e/fw/1", 4, reads=("e/fw/0",)),
        layer("e/bw/1", 4, reverse=True, reads=("e/bw/0",)),
    ]
    files.write(tmp_path / "m.onnx", low + high, to="onnx")
    found = reads(tmp_path / "m.onnx")
    assert list(found.values()) == ["", ("e_fw_0",), "", ("e_bw_0",)]


def test_what_is_asked_to_be_a_chain(onnx, onnxruntime, tmp_path):
    files.write(
        tmp_path / "m.npz", [layer("top", 4, 2), layer("low", 3, 4), layer("x", 5)], to="npz"
    )
    done = convert(tmp_path / "m.npz", tmp_path / "m.onnx", chain=["low", "top"])
    assert reads(tmp_path / "m.onnx") == {"low": "", "top": ("low",), "x": ""}
    assert "reads low, as asked for" in str(done.certificate)
    assert "that they are joined was asked for, and is no part of the proof" in str(
        done.certificate
    )
    assert done.certificate.to_dict()["asked"]
    session = onnxruntime.InferenceSession(str(tmp_path / "m.onnx"))
    feeds = {"sequence_lens": np.full(4, 7, np.int32)}
    for value in session.get_inputs():
        if value.name != "sequence_lens":
            shape = [{"time": 7, "batch": 4}.get(n, n) for n in value.shape]
            feeds[value.name] = np.zeros(shape, np.float32)
    feeds["X_0"] = XS.swapaxes(0, 1)
    [hs] = session.run(["Y_0"], feeds)
    expected = run("lstm", layer("top", 4, 2).params, run("lstm", layer("low").params, XS)[0])[0]
    np.testing.assert_allclose(hs.swapaxes(0, 1), expected, rtol=0, atol=1e-6)
    with pytest.raises(ValueError, match=r"x has inputs of 5 numbers, and low before it gives 4"):
        convert(tmp_path / "m.npz", tmp_path / "n.onnx", chain=["low", "x"])
    with pytest.raises(ValueError, match=r"chain='lo': no such layer; among those chosen: top"):
        convert(tmp_path / "m.npz", tmp_path / "n.onnx", chain=["lo"])
    assert not (tmp_path / "n.onnx").exists()
