"""Files: what is read is what the framework computes, and what is written a framework loads.

Each reader is held to files of the framework's own making, each writer to the framework's loader.
"""

import importlib
import io
import json
import os
import pickle
import re
import shutil
import struct
import sys
import warnings
import zipfile
from pathlib import Path

import needs
import numpy as np
import pytest
from cases import LENGTHS, TIME, params_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lstmbook import CELLS, LayoutError, files, layouts, run
from lstmbook.files import FileError, Layer

FOLDER = Path(__file__).parent / "tf1"
INDEX = json.loads((FOLDER / "checkpoints" / "index.json").read_text())
RECORDED = {row["checkpoint"]: row for row in INDEX["cases"]}
MORE = FOLDER / "more"


def says(*parts):
    return "(?s)" + ".*".join(map(re.escape, parts))


@pytest.fixture(scope="module")
def safetensors():
    return importlib.import_module("safetensors.numpy")


def layer(name, cell, input_size=3, hidden=4, *, reverse=False, seed=0, dtype=np.float32):
    rng = np.random.default_rng([seed, *name.encode()])
    params = params_of(CELLS[cell], rng, input_size, hidden, dtype)
    return Layer(name, cell, params, "lstmbook", reverse)


def through(layer, xs, lengths=None):
    """The outputs of a layer, backward ones in the order of the inputs."""
    if not layer.reverse:
        return run(layer.cell, layer.params, xs, lengths=lengths)[0]
    hs, _ = run(layer.cell, layer.params, xs[:, ::-1])
    return hs[:, ::-1]


def same(one, two, atol=1e-6):
    assert (one.cell, one.reverse) == (two.cell, two.reverse)
    for a, b in zip(one.params, two.params, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=atol)


def words(found):
    return {item.name: item.why for item in found.aside}


# TensorFlow 1: what the real one wrote


def recorded_state(arrays, below):
    names = {"h": f"{below}/h", "c": f"{below}/c"}
    return {part: arrays[name] for part, name in names.items() if name in arrays}


@pytest.mark.parametrize("name", [name for name in RECORDED if name != "ambiguous"])
def test_a_checkpoint_computes_what_tensorflow_recorded(tf, name):
    told = RECORDED[name]["layers"]
    biases = {row["forget_bias"] for row in told} - {None}
    found = files.read(FOLDER / "checkpoints" / name, forget_bias=next(iter(biases), 1.0))
    assert [(x.name, x.cell, x.reverse, x.layout) for x in found] == [
        (row["scope"], row["cell"], row["reverse"], "tf1") for row in told
    ]
    with np.load(FOLDER / "checkpoints" / f"{name}.npz", allow_pickle=False) as file:
        arrays = dict(file)
    xs, lengths = arrays["xs"], arrays["lengths"]
    for one, row in zip(found, told, strict=True):
        inputs = xs
        if one.reverse:
            inputs = np.stack(
                [np.roll(x[::-1], k - len(x), 0) for x, k in zip(xs, lengths, strict=True)]
            )
        hs, final = run(one.cell, one.params, inputs, lengths=lengths)
        for part, expected in recorded_state(arrays, row["final"]).items():
            np.testing.assert_allclose(getattr(final, part), expected, rtol=0, atol=1e-6)
        if name == "stacked":
            xs = hs  # of the next layer
    if "hs" in arrays:
        np.testing.assert_allclose(hs, arrays["hs"], rtol=0, atol=1e-6)


def test_what_is_ambiguous_is_said_not_guessed(tf):
    path = FOLDER / "checkpoints" / "ambiguous"
    [one] = files.read(path)
    assert (one.name, one.cell, one.params) == ("encoder/memory", None, None)
    assert one.candidates == ("lstm", "rnn")
    assert re.search(
        says("lstm (input 12, hidden 2) or rnn (input 6, hidden 8) or no recurrent layer"), one.note
    )
    [one] = files.read(path, cells={"encoder/memory": "lstm"})
    with np.load(path.with_suffix(".npz"), allow_pickle=False) as file:
        hs, _ = run(one.cell, one.params, file["xs"], lengths=file["lengths"])
        np.testing.assert_allclose(hs, file["hs"], rtol=0, atol=1e-6)
    found = files.contents(path, cells={"encoder/memory": None})
    assert found.layers == []
    assert words(found) == {"encoder/memory": "left aside, as asked for"}
    [one] = files.read(path, cells={"encoder/memory": "gru"})
    assert one.cell is None
    assert "cannot be read as gru" in one.note
    with pytest.raises(FileError, match=says("cells names memory; the layers in the file: enco")):
        files.read(path, cells={"memory": "lstm"})


def test_a_dense_head_and_slots_are_no_layers(tf):
    found = files.contents(FOLDER / "checkpoints" / "adam")
    assert [one.name for one in found.layers] == ["rnn/basic_lstm_cell"]
    assert "a dense layer or the like" in words(found)["head"]
    assert any("what an optimizer keeps (11 arrays)" in why for why in words(found).values())


OLD = "RNN/MultiRNNCell/Cell0/BasicLSTMCell", "RNN/MultiRNNCell/Cell1/GRUCell"
NEW = "rnn/multi_rnn_cell/cell_0/basic_lstm_cell", "rnn/multi_rnn_cell/cell_1/gru_cell"
BOTH = "bidirectional_rnn/fw/basic_lstm_cell", "bidirectional_rnn/bw/gru_cell"
COUPLED = "rnn/coupled_input_forget_gate_lstm_cell"
WRITTEN = [
    *(("0.12.1", name, [scope], [cell]) for name, scope, cell in [
        ("lstm", "RNN/BasicLSTMCell", "lstm"),
        ("gru", "RNN/GRUCell", "gru"),
        ("peephole", "RNN/LSTMCell", "peephole"),
        ("coupled_peephole", "RNN/CoupledInputForgetGateLSTMCell", "coupled_peephole"),
        ("one_file", "RNN/BasicLSTMCell", "lstm"),
    ]),
    *((release, name, [scope], [cell]) for release in ("1.1.0", "1.12.3") for name, scope, cell in [
        ("lstm", "rnn/basic_lstm_cell", "lstm"),
        ("gru", "rnn/gru_cell", "gru"),
        ("peephole", "rnn/lstm_cell", "peephole"),
        ("coupled_peephole", COUPLED, "coupled_peephole"),
        ("one_file", "rnn/basic_lstm_cell", "lstm"),
    ]),
    ("0.12.1", "stacked", OLD, ["lstm", "gru"]),
    ("1.1.0", "stacked", NEW, ["lstm", "gru"]),
    ("0.12.1", "bidirectional", ["BiRNN/FW/BasicLSTMCell", "BiRNN/BW/GRUCell"], ["lstm", "gru"]),
    ("1.1.0", "bidirectional", BOTH, ["lstm", "gru"]),
    ("1.12.3", "block_gru", ["rnn/gru_cell"], ["gru"]),
    ("1.12.3", "cudnn_lstm", ["rnn/cudnn_compatible_lstm_cell"], ["lstm"]),
    ("1.12.3", "cudnn_gru", ["rnn/cudnn_compatible_gru_cell"], ["gru_reset_after"]),
    ("1.12.3", "keras_gru", ["gru"], ["gru"]),
    ("1.12.3", "heads", ["rnn/gru_cell"], ["gru"]),
    ("1.12.3", "averages", ["rnn/basic_lstm_cell"], ["lstm"]),
    ("1.12.3", "sharded", ["parts/rnn/basic_lstm_cell"], ["lstm"]),
    ("1.12.3", "slots", ["rnn/mylstm"], ["lstm"]),
    ("1.12.3", "graph_lstm", ["encoder/memory"], ["lstm"]),
    ("1.12.3", "graph_rnn", ["encoder/memory"], ["rnn"]),
]  # fmt: skip


@pytest.mark.parametrize(("release", "name", "scopes", "cells"), WRITTEN)
def test_checkpoints_of_other_releases_and_classes(tf, release, name, scopes, cells):
    given = {"gru": "gru"} if name == "keras_gru" else {}  # with sigmoid, not by default
    found = files.read(MORE / release / name, cells=given)
    assert [(one.name, one.cell) for one in found] == list(zip(scopes, cells, strict=True))
    with np.load(MORE / release / f"{name}.npz", allow_pickle=False) as file:
        xs, outputs = file["xs"], [file[key] for key in sorted(file) if key != "xs"]
    if name.startswith("graph_"):
        xs = np.tile(xs, [1, 1, 8])
    if name == "stacked":
        outputs = [through(found[0], xs), outputs[0]]
    for one, expected in zip(found, outputs, strict=True):
        np.testing.assert_allclose(through(one, xs), expected, rtol=0, atol=1e-6)
        xs = expected if name == "stacked" else xs


def test_the_graph_tells_what_the_arrays_do_not(tf, tmp_path):
    [one] = files.read(MORE / "1.12.3" / "graph_lstm")
    assert one.note == (
        "lstm by the graph in .meta; forget bias 0.4 added, as the graph in .meta says"
    )
    for path in (MORE / "1.12.3").glob("graph_lstm.*"):
        shutil.copy(path, tmp_path)
    (tmp_path / "graph_lstm.meta").write_bytes(b"no graph")  # as if there were none
    [one] = files.read(tmp_path / "graph_lstm")
    assert one.candidates == ("lstm", "rnn")


def saved(tf, path, build, *arguments):
    """A checkpoint of random weights with its graph; returns the value that was built."""
    rng = np.random.default_rng(0)
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        value = build(*arguments)
        variables = tf.compat.v1.global_variables()
        session.run(tf.compat.v1.global_variables_initializer())
        for variable in variables:
            array = rng.normal(size=variable.shape) * 0.6
            variable.load(array.astype(np.float32), session)
        tf.compat.v1.train.Saver(variables).save(session, str(path))
        return session.run(value)


def test_the_graph_tells_the_activations_of_a_keras_layer(tf, tmp_path):
    recurrent = importlib.import_module("tensorflow.python.keras.layers.recurrent")  # as in 1.15
    xs = np.random.default_rng(1).normal(size=(2, 5, 3)).astype(np.float32)
    hard = "with Maximum and Minimum and Tanh, by the graph in .meta; the cell here has sigmoid"

    def build(kind, options):
        kind = getattr(recurrent, kind)
        return kind(4, return_sequences=True, unroll=True, name="enc", **options)(xs)

    for k, (kind, options, cell, why) in enumerate([
        ("LSTM", {}, None, f"lstm {hard}"),
        ("LSTM", {"recurrent_activation": "sigmoid"}, "lstm", ""),
        ("LSTM", {"recurrent_activation": "tanh", "activation": "sigmoid"}, None, "lstm with"),
        ("GRU", {"recurrent_activation": "sigmoid"}, "gru", ""),
        ("GRU", {"reset_after": True}, None, f"gru_reset_after {hard}"),
        ("GRU", {"recurrent_activation": "sigmoid", "activation": "relu"}, None,
         "gru with Relu and Sigmoid"),
        ("SimpleRNN", {}, "rnn", ""),
        ("SimpleRNN", {"activation": "relu"}, None, "rnn with Relu"),
    ]):  # fmt: skip
        path = tmp_path / f"{k}"
        hs = saved(tf, path, build, kind, options)
        [one] = files.read(path)
        assert (one.cell, why in one.note) == (cell, True), (kind, options, one.note)
        if cell:
            np.testing.assert_allclose(through(one, xs), hs, rtol=0, atol=1e-6)
            direction = "no configuration in the file: the forward direction assumed"
            assert one.note == f"activations by the graph in .meta; {direction}"
            assert one.assumed == (direction,)
        path.with_suffix(".meta").unlink()
        [one] = files.read(path)
        gates = kind != "SimpleRNN"  # which has none
        assert (one.cell is None) == gates, (kind, options, one.note)
        assert ("until Keras 2.3 or TensorFlow 2.0, then sigmoid" in one.note) == gates


def test_the_graph_tells_activations_of_other_names(tf, tmp_path):
    """What is no operator of its own, or none of TensorFlow's activations, is no tanh."""
    rnn_cell = importlib.import_module("lstmbook.live.tf1").rnn_cell

    def build(kind, activation):
        inputs = [tf.ones((2, 3))] * 3
        cell = getattr(rnn_cell, kind)(4, activation=activation)
        return tf.compat.v1.nn.static_rnn(cell, inputs, dtype="float32")[1]

    def leaky(x):
        return tf.maximum(0.2 * x, x)

    for k, (kind, activation, cell, why) in enumerate([
        ("BasicLSTMCell", tf.tanh, "lstm", "forget bias 1 added, as the graph in .meta says"),
        ("BasicLSTMCell", tf.nn.leaky_relu, None, "lstm with activation LeakyRelu"),
        ("BasicLSTMCell", leaky, None, "lstm with activation M"),
        ("BasicLSTMCell", tf.identity, None, "lstm with activation Mul"),
        ("GRUCell", tf.nn.leaky_relu, None, "gru with activation LeakyRelu"),
        ("BasicRNNCell", leaky, None, "rnn with activation Maximum"),
        ("BasicRNNCell", tf.tanh, "rnn", ""),
    ]):  # fmt: skip
        saved(tf, tmp_path / f"{k}", build, kind, activation)
        [one] = files.read(tmp_path / f"{k}")
        assert (one.cell, why in one.note, one.assumed) == (cell, True, ()), one.note


def test_a_saved_model_has_its_graph(tf, tmp_path):
    """In saved_model.pb, above the folder of the variables."""
    for path in (MORE / "1.12.3").glob("graph_relu.*"):
        to = tmp_path / "variables" / path.name.replace("graph_relu", "variables")
        to.parent.mkdir(exist_ok=True)
        shutil.copy(path, to)
    from tensorflow.core.protobuf import saved_model_pb2

    model = saved_model_pb2.SavedModel()
    meta = tmp_path / "variables" / "variables.meta"
    model.meta_graphs.add().ParseFromString(meta.read_bytes())
    meta.unlink()
    [one] = files.read(tmp_path)
    assert (one.cell, one.assumed[0]) == ("gru", "tanh assumed: the file does not say")
    (tmp_path / "saved_model.pb").write_bytes(model.SerializeToString())
    [one] = files.read(tmp_path)
    assert "gru with activation Relu, by the graph in saved_model.pb" in one.note


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("projection", "an LSTM with projection (num_proj)"),
        ("coupled_norm", "layer normalisation"),
        ("ugrnn", "ugrnn_cell of tf.contrib.rnn, which no cell here computes"),
        ("phased", "phased_lstm_cell of tf.contrib.rnn"),
        ("graph_clip", "lstm with clip of the cell state"),
        ("graph_relu", "gru with activation Relu"),
    ],
)
def test_what_no_cell_computes_is_named(tf, name, why):
    [one] = files.read(MORE / "1.12.3" / name)
    assert (one.cell, one.params, one.candidates) == (None, None, ())
    assert why in one.note


def test_what_is_beside_a_gru(tf):
    told = words(files.contents(MORE / "1.12.3" / "heads"))
    assert {"dense", "scores", "conv1d", "batch_normalization", "embedding"} <= set(told)
    told = words(files.contents(MORE / "1.12.3" / "slots"))
    assert list(told.values()) == ["what an optimizer keeps (6 arrays)"]
    told = words(files.contents(MORE / "1.12.3" / "averages"))
    assert set(told.values()) == {"a moving average; the weights themselves are read"}


def test_averages_alone_are_the_weights(tf, tmp_path):
    reader = tf.train.load_checkpoint(str(MORE / "1.12.3" / "averages"))
    end = "/ExponentialMovingAverage"
    names = [name for name in reader.get_variable_to_shape_map() if name.endswith(end)]
    arrays = [reader.get_tensor(name) for name in names]
    tf.raw_ops.SaveV2(
        prefix=str(tmp_path / "x"), tensor_names=names, shape_and_slices=["", ""], tensors=arrays
    )
    [one] = files.read(tmp_path / "x")
    assert (one.name, one.cell) == ("rnn/basic_lstm_cell", "lstm")


def test_averages_are_read_where_they_are_asked_for(tf, tmp_path):
    from lstmbook.live.tf1 import rnn_cell

    def build():
        xs = tf.constant(XS)
        hs, _ = tf.compat.v1.nn.dynamic_rnn(rnn_cell.BasicLSTMCell(4, 0.3), xs, dtype=tf.float32)
        tf.compat.v1.train.ExponentialMovingAverage(0.9).apply(tf.compat.v1.global_variables())
        return hs

    saved(tf, tmp_path / "m", build)
    reader = tf.train.load_checkpoint(str(tmp_path / "m"))
    scope, end = "rnn/basic_lstm_cell", "/ExponentialMovingAverage"
    for average, last in ((False, ""), (True, end)):
        [one] = files.read(tmp_path / "m", average=average)
        arrays = {k: reader.get_tensor(f"{scope}/{k}{last}") for k in ("kernel", "bias")}
        for ours, theirs in zip(
            one.params, layouts.load("lstm", "tf1", arrays, forget_bias=0.3), strict=True
        ):
            np.testing.assert_array_equal(ours, theirs)
        assert (one.name, one.reads, one.assumed) == (scope, (), ())
    aside = words(files.contents(tmp_path / "m", average=True))
    assert aside[f"{scope}/kernel"] == "the weights of the last step; their averages are read"
    with pytest.raises(FileError, match="has no moving averages, which average=True asks for"):
        files.read(FOLDER / "checkpoints" / "custom_name", average=True)
    files.write(tmp_path / "m.npz", [layer("x", "lstm")], to="npz")
    with pytest.raises(FileError, match=r"of the kind NumPy .npz; average is for TensorFlow"):
        files.read(tmp_path / "m.npz", average=True)


@pytest.mark.parametrize("end", ["", ".index", ".data-00000-of-00001", ".meta"])
def test_any_file_of_a_checkpoint_names_it(tf, end):
    [one] = files.read(MORE / "1.12.3" / f"graph_lstm{end}")
    assert one.cell == "lstm"


def test_folders_of_checkpoints(tf, tmp_path):
    def copy(name, to=tmp_path):
        to.mkdir(exist_ok=True, parents=True)
        for path in (FOLDER / "checkpoints").glob(f"{name}.[id]*"):
            shutil.copy(path, to / path.name.replace(name, "variables") if to != tmp_path else to)

    with pytest.raises(FileError, match="is a folder without a checkpoint in it"):
        files.read(tmp_path)
    copy("gru")
    assert [one.cell for one in files.read(tmp_path)] == ["gru"]
    copy("rnn")
    with pytest.raises(FileError, match="has several checkpoints: gru, rnn; name one of them"):
        files.read(tmp_path)
    (tmp_path / "checkpoint").write_text('model_checkpoint_path: "/gone/for/ever/rnn"\n')
    assert [one.cell for one in files.read(tmp_path)] == ["rnn"]
    copy("lstm", tmp_path / "saved" / "variables")
    assert [one.cell for one in files.read(tmp_path / "saved")] == ["lstm"]
    shutil.copy(MORE / "1.1.0" / "one_file", tmp_path)
    (tmp_path / "checkpoint").write_text('model_checkpoint_path: "one_file"\n')
    assert [one.cell for one in files.read(tmp_path)] == ["lstm"]
    (tmp_path / "gru.data-00000-of-00001").unlink()
    with pytest.raises(FileError, match=says("the index is there, but no gru.data-00000-of-00001")):
        files.read(tmp_path / "gru")
    with pytest.raises(FileError, match=says("a checkpoint needs none.index")):
        files.read(tmp_path / "none.meta")


# Keras


def keras_model(keras):
    """Every kind of recurrent layer and wrapper, with random weights."""
    make = keras.layers
    xs = keras.Input((None, 3))
    hs = make.Bidirectional(make.LSTM(4, return_sequences=True), name="both")(xs)
    hs = make.Dense(5, name="head")(hs)
    inner = [make.GRU(6, return_sequences=True, name="inner")]
    inner.append(make.GRU(2, return_sequences=True, reset_after=False, use_bias=False))
    hs = keras.Sequential([keras.Input((None, 5)), *inner], name="nest")(hs)
    cells = [make.LSTMCell(3), make.LSTMCell(2), make.GRUCell(4)]
    hs = make.RNN(cells, return_sequences=True, name="stack")(hs)
    hs = make.SimpleRNN(3, return_sequences=True, go_backwards=True, name="back")(hs)
    hs = make.TimeDistributed(make.Dense(2))(hs)
    odd = make.LSTM(5, recurrent_activation="hard_sigmoid", return_sequences=True, name="odd")
    model = keras.Model(xs, odd(hs))
    rng = np.random.default_rng(0)
    model.set_weights([rng.normal(size=w.shape).astype(np.float32) for w in model.get_weights()])
    return model


KERAS = {  # name: cell, backward, and where Keras itself has the weights
    "both/forward_lstm": ("lstm", False, lambda m: m.get_layer("both").forward_layer),
    "both/backward_lstm": ("lstm", True, lambda m: m.get_layer("both").backward_layer),
    "nest/inner": ("gru_reset_after", False, lambda m: m.get_layer("nest").layers[0]),
    "nest/gru": ("gru", False, lambda m: m.get_layer("nest").layers[1]),
    "stack/lstm_cell": ("lstm", False, lambda m: m.get_layer("stack").cell.cells[0]),
    "stack/lstm_cell_1": ("lstm", False, lambda m: m.get_layer("stack").cell.cells[1]),
    "stack/gru_cell": ("gru_reset_after", False, lambda m: m.get_layer("stack").cell.cells[2]),
    "back": ("rnn", True, lambda m: m.get_layer("back")),
}


@pytest.fixture(scope="module")
def model(keras, tmp_path_factory):
    keras.utils.clear_session()  # names without numbers
    made = keras_model(keras)
    folder = tmp_path_factory.mktemp("keras")
    for name in ("m.keras", "m.h5"):
        made.save(folder / name)
    made.save_weights(folder / "m.weights.h5")
    return made, folder


@pytest.mark.parametrize("name", ["m.keras", "m.h5"])
def test_keras_layers_have_keras_own_weights(model, h5py, name):
    made, folder = model
    found = files.contents(folder / name)
    *readable, odd = found.layers
    assert [(x.name, x.cell, x.reverse) for x in readable] == [
        (key, cell, reverse) for key, (cell, reverse, _) in KERAS.items()
    ]
    keys = ("kernel", "recurrent_kernel", "bias")
    for one, (cell, reverse, where) in zip(readable, KERAS.values(), strict=True):
        own = dict(zip(keys, where(made).get_weights(), strict=False))
        same(one, Layer("", cell, layouts.load(cell, "keras", own), "keras", reverse), atol=0)
    assert (odd.name, odd.cell) == ("odd", None)
    assert "LSTM with recurrent_activation='hard_sigmoid'" in odd.note
    assert "last step first" in found.layers[-2].note
    assert {"head", "time_distributed/dense"} <= set(words(found))


def test_keras_weights_alone(model, h5py):
    """Without a configuration, shapes and names must do."""
    _, folder = model
    found = {one.name: one for one in files.read(folder / "m.weights.h5")}
    assert set(found) == {*KERAS, "odd"}
    for key, (cell, reverse, _) in KERAS.items():
        if key == "nest/gru":  # without a bias there is nothing to tell the two GRUs apart
            assert found[key].candidates == ("gru_reset_after", "gru")
        else:
            assert found[key].cell == cell
            assert found[key].reverse == (reverse and key != "back")
    assert found["odd"].assumed == (
        "no configuration in the file: tanh and sigmoid (the default of Keras since 2.12) and the "
        "forward direction assumed",
    )
    found = files.read(folder / "m.weights.h5", cells={"nest/gru": "gru"})
    assert "gru" in [one.cell for one in found]


def h5_of(h5py, path, groups, config=None, version="2.2.4"):
    """The older HDF5 form, as Keras 1 and 2 wrote it."""
    with h5py.File(path, "w") as file:
        root = file
        if config is not None:
            file.attrs["model_config"] = json.dumps(config)
            root = file.create_group("model_weights")
        root.attrs["layer_names"] = [name.encode() for name in groups]
        if version:
            root.attrs["keras_version"] = version.encode()
        for name, arrays in groups.items():
            group = root.create_group(name)
            group.attrs["weight_names"] = [key.encode() for key in arrays]
            for key, array in arrays.items():
                group[key] = array
    return path


def keras_arrays(cell, prefix="", layout="keras", **sizes):
    one = layer("x", cell, **sizes)
    arrays = layouts.export(cell, layout, one.params)
    return one, {f"{prefix}{key}:0": array for key, array in arrays.items()}


def test_keras_2_weights_alone(h5py, tmp_path):
    lstm, arrays = keras_arrays("lstm", "lstm_1/")
    cudnn, more = keras_arrays("gru_reset_after", "cu_dnngru_1/", "keras_cudnn")
    gru, less = keras_arrays("gru", "bidirectional_1/backward_gru_1/")
    path = h5_of(h5py, tmp_path / "w.h5", {
        "embedding_1": {"embedding_1/embeddings:0": np.zeros((9, 3), np.float32)},
        "lstm_1": arrays,
        "cu_dnngru_1": more,
        "bidirectional_1": less,
        "dense_1": {"dense_1/kernel:0": np.zeros((4, 1)), "dense_1/bias:0": np.zeros(1)},
    })  # fmt: skip
    given = {"lstm_1": "lstm", "bidirectional_1/backward_gru_1": "gru"}  # their gates had sigmoid
    found = files.read(path, cells=given)
    assert [one.name for one in found] == [
        "lstm_1", "cu_dnngru_1", "bidirectional_1/backward_gru_1"
    ]  # fmt: skip
    same(found[0], lstm, atol=0)
    same(found[1], cudnn, atol=0)
    same(found[2], gru._replace(reverse=True), atol=0)
    direction = "no configuration in the file: the forward direction assumed"
    assert [one.layout for one in found] == ["keras", "keras_cudnn", "keras"]
    assert [(one.note, one.assumed) for one in found] == [
        (f"lstm, as given; {direction}", (direction,)), (direction, (direction,)),
        ("gru, as given", ()),
    ]  # fmt: skip


# What the gates of LSTM and GRU have unless they are told otherwise, by what a file says. Measured
# with Keras 2.2.5 and TensorFlow 1.12 to 2.3; the others by the sources of the releases.
DEFAULTS = {
    "": "hard_sigmoid",  # Keras 1 wrote no version beside weights
    **dict.fromkeys(["2.0.6", "2.1.4", "2.2.0", "2.2.5", "2.1.6-tf"], "hard_sigmoid"),
    "2.2.4-tf": "either",  # TensorFlow 1.13 to 1.15, and 2.0
    **dict.fromkeys(["2.3.0", "2.3.1", "2.3.0-tf", "2.4.0", "2.10.0", "3.15.1"], "sigmoid"),
    "newest": "either",
}


def test_the_gates_of_weights_alone_are_those_of_their_keras(h5py, tmp_path):
    """hard_sigmoid by default is no cell of ours, and is not taken for one."""
    cells = ("rnn", "lstm", "gru", "gru_reset_after")
    made = {f"{cell}_1": keras_arrays(cell, f"{cell}_1/") for cell in cells}
    made["cudnn_1"] = keras_arrays("lstm", "cudnn_1/", "keras_cudnn")
    groups = {name: arrays for name, (_, arrays) in made.items()}
    for version, gates in DEFAULTS.items():
        path = h5_of(h5py, tmp_path / "w.h5", groups, version=version)
        for one in files.read(path):
            expected, what = made[one.name][0], (version, one.name, one.note)
            certain = one.name in ("rnn_1", "cudnn_1")  # tanh in every release; no choice
            if certain or gates == "sigmoid":
                same(one, expected, atol=0)
                assert one.assumed, what
                told = f"sigmoid (the default of Keras {version})"
                assert certain or told in one.note, what
            else:
                assert (one.cell, one.candidates) == (None, (expected.cell,)), what
                assert "hard_sigmoid" in one.note, what
                assert "model.to_json(), given as config" in one.note, what


def test_keras_before_1_is_named(h5py, tmp_path):
    with h5py.File(tmp_path / "w.h5", "w") as file:
        file.attrs["nb_layers"] = 1
        file["layer_0/param_0"] = np.zeros((3, 4))
    with pytest.raises(FileError, match=r"is of Keras before 1\.0"):
        files.read(tmp_path / "w.h5")


def json_of(path, layers, **more):
    """What model.to_json() gives, in a file."""
    layers = [{"class_name": kind, "config": config} for kind, config in layers]
    config = {"class_name": "Sequential", "config": {"name": "m", "layers": layers}}
    path.write_text(json.dumps(config | more))
    return path


def keras_config(name, **more):
    return {"name": name, "units": 4, "activation": "tanh", "go_backwards": False} | more


def test_a_configuration_beside_the_weights_tells_the_rest(h5py, tmp_path):
    """rnnmorph, for one, keeps eval_model.h5 and eval_model.json."""
    lstm, first = keras_arrays("lstm", "a/", hidden=4)
    _, second = keras_arrays("gru", "b/", input_size=4, hidden=4)
    path = h5_of(h5py, tmp_path / "w.h5", {"a": first, "b": second}, version="2.1.4")
    assert [one.cell for one in files.read(path)] == [None, None]
    a = ("LSTM", keras_config("a", recurrent_activation="sigmoid", go_backwards=True))
    b = ("GRU", keras_config("b", recurrent_activation="hard_sigmoid"))
    dropped = ("Dropout", {"name": "c", "rate": 0.5})
    for name in ("m.json", "w.json"):
        config = json_of(tmp_path / name, [a, dropped, b], keras_version="2.1.4")
        beside = name == "w.json"
        words = f"by the configuration in {name}" + " beside it" * beside
        one, two = files.read(path, config=None if beside else config)
        same(one, lstm._replace(reverse=True), atol=0)
        assert one.note.endswith(f"last step first; {words}")
        assert (one.assumed, two.cell) == ((), None)
        assert re.search(says("GRU with recurrent_activation='hard_sigmoid'", words), two.note)
    (tmp_path / "w.json").write_text('{"words": [1, 2]}')  # of that name, but something else
    assert files.read(path)[0].candidates == ("lstm",)


def test_forms_of_a_configuration(keras, h5py, tmp_path):
    """What to_json and get_config give; that of Keras 3 belongs to arrays that have numbers."""
    model = keras.Sequential([keras.Input((None, 3)), keras.layers.LSTM(4, activation="relu")])
    model.save_weights(tmp_path / "m.weights.h5")
    [one] = files.read(tmp_path / "m.weights.h5")
    assert one.assumed
    own = json.loads(model.to_json())
    forms = [own, model.to_json(), own["config"], own["config"]["layers"]]
    for k, form in enumerate(forms):
        (tmp_path / "m.json").write_text(json.dumps(form))
        [one] = files.read(tmp_path / "m.weights.h5")
        assert (one.cell, one.assumed) == (None, ()), k
        assert "LSTM with activation='relu'" in one.note, k


def test_a_configuration_with_other_names_goes_by_order(h5py, tmp_path):
    """As Keras' own load_weights does: a program run twice counts its layers on."""
    lstm, first = keras_arrays("lstm", "lstm_1/", hidden=4)
    gru, second = keras_arrays("gru", "gru_1/", input_size=4, hidden=4)
    path = h5_of(h5py, tmp_path / "w.h5", {"lstm_1": first, "gru_1": second}, version="2.2.0")
    a, b = ((kind, keras_config(name, recurrent_activation="sigmoid")) for kind, name in
            (("LSTM", "lstm_7"), ("GRU", "gru_8")))  # fmt: skip
    one, two = files.read(path, config=json_of(tmp_path / "m.json", [a, b]))
    same(one, lstm, atol=0)
    same(two, gru, atol=0)
    assert (one.name, two.name) == ("lstm_1", "gru_1")
    assert one.note.endswith("m.json, its layers in the order of the weights")
    with pytest.raises(FileError, match=says("m.json: does not fit w.h5", "it says GRU")):
        files.read(path, config=json_of(tmp_path / "m.json", [b, a]))


def test_a_configuration_that_does_not_fit_is_an_error(h5py, keras, tmp_path):
    _, arrays = keras_arrays("gru", "a/", hidden=4)
    path = h5_of(h5py, tmp_path / "w.h5", {"a": arrays}, version="2.1.4")
    right = keras_config("a", recurrent_activation="sigmoid")
    for kind, config, why in (
        ("GRU", right | {"units": 5}, "it says GRU with 5 units"),
        ("LSTM", right, "it says LSTM, which has 4 gates"),
        ("GRU", right | {"use_bias": False}, "it says GRU with use_bias=False"),
        ("GRU", right | {"reset_after": True}, "it says GRU with reset_after=True"),
        ("Dense", {"name": "b", "units": 4}, "of the weights: a; of it: none"),
    ):
        given = json_of(tmp_path / "m.json", [(kind, config)])
        with pytest.raises(FileError, match=says("m.json: does not fit w.h5", why)):
            files.read(path, config=given)
    given = json_of(tmp_path / "m.json", [("GRU", right), ("GRU", right | {"name": "b"})])
    with pytest.raises(FileError, match=says("of the weights: a; of it: a, b")):
        files.read(path, config=given)
    given.rename(tmp_path / "w.json")
    with pytest.raises(FileError, match=says("w.json: does not fit w.h5")):
        files.read(path)
    for text, why in (("---\na: 1", "is no JSON"), ('{"a": 1}', "is no configuration")):
        (tmp_path / "m.json").write_text(text)
        with pytest.raises(FileError, match=says("m.json", why, "model.to_json()")):
            files.read(path, config=tmp_path / "m.json")
    with pytest.raises(FileError, match="is no JSON"):
        files.read(path, config=tmp_path / "none.json")
    np.savez(tmp_path / "w.npz", **{"a/kernel": np.zeros((3, 4))})
    with pytest.raises(FileError, match=r"NumPy \.npz; config is for Keras files"):
        files.read(tmp_path / "w.npz", config=tmp_path / "m.json")
    keras.Sequential([keras.Input((None, 3)), keras.layers.GRU(4)]).save(tmp_path / "m.keras")
    with pytest.raises(FileError, match="has a configuration of its own"):
        files.read(tmp_path / "m.keras", config=json_of(tmp_path / "m.json", [("GRU", right)]))


def test_a_configuration_that_is_silent_tells_nothing(h5py, tmp_path):
    """An activation that it does not name is the default of its Keras."""
    one, arrays = keras_arrays("lstm", "a/")
    config = {"class_name": "Sequential", "config": [
        {"class_name": "LSTM", "config": {"name": "a", "activation": "tanh", "units": 4}},
    ]}  # fmt: skip
    [found] = files.read(h5_of(h5py, tmp_path / "m.h5", {"a": arrays}, config, "2.2.4"))
    assert found.candidates == ("lstm",)
    assert "its configuration does not say all, and Keras 2.2.4 took" in found.note
    [found] = files.read(h5_of(h5py, tmp_path / "m.h5", {"a": arrays}, config, "2.3.1"))
    same(found, one, atol=0)
    assert found.assumed == (
        "its configuration does not say all: tanh and sigmoid (the default of Keras 2.3.1) assumed",
    )


def test_keras_2_configuration_as_a_list_and_names_cut_in_pieces(h5py, tmp_path):
    one, arrays = keras_arrays("lstm", "first/")
    config = {"class_name": "Sequential", "config": [
        {"class_name": "LSTM", "config": {"name": "first", "activation": "tanh",
         "recurrent_activation": "sigmoid", "go_backwards": False, "units": 4}},
    ]}  # fmt: skip
    path = h5_of(h5py, tmp_path / "m.h5", {"first": arrays}, config)
    with h5py.File(path, "r+") as file:
        group = file["model_weights/first"]
        names = list(group.attrs["weight_names"])
        del group.attrs["weight_names"]
        group.attrs["weight_names0"], group.attrs["weight_names1"] = names[:2], names[2:]
    [found] = files.read(path)
    same(found, one, atol=0)
    assert (found.name, found.note) == ("first", "")


@pytest.mark.parametrize("turned", [False, True])
def test_keras_2_bidirectional_has_one_configuration(h5py, tmp_path, turned):
    """Keras 2 says what one half is; the other is the same, in the other direction."""
    ahead, arrays = keras_arrays("lstm", "both/forward_first_1/")
    back, more = keras_arrays("lstm", "both/backward_first_1/", hidden=4, input_size=3, seed=1)
    inner = {"name": "first_1", "activation": "tanh", "recurrent_activation": "sigmoid"}
    one = {"class_name": "LSTM", "config": inner | {"go_backwards": turned}}
    config = {"name": "both", "layer": one, "merge_mode": "concat"}
    config = {"class_name": "Model", "config": {"layers": [
        {"class_name": "Bidirectional", "config": config, "name": "both"}
    ]}}  # fmt: skip
    path = h5_of(h5py, tmp_path / "m.h5", {"both": arrays | more}, config)
    found = files.read(path)
    assert [x.name for x in found] == ["both/forward_first_1", "both/backward_first_1"]
    same(found[0], ahead._replace(reverse=turned), atol=0)
    same(found[1], back._replace(reverse=not turned), atol=0)


@pytest.mark.parametrize(("cell", "gates"), [("lstm", "ifco"), ("gru", "zrh"), ("rnn", "")])
def test_keras_1_had_an_array_for_every_gate(h5py, tmp_path, cell, gates):
    one, arrays = keras_arrays(cell)
    split = {}
    for letter, key in (("W", "kernel:0"), ("U", "recurrent_kernel:0"), ("b", "bias:0")):
        parts = np.split(arrays[key], len(gates) or 1, axis=-1)
        ends = [f"_{gate}" for gate in gates] or [""]
        split |= {f"layer_1_{letter}{end}": a for end, a in zip(ends, parts, strict=True)}
    kind = {"lstm": "LSTM", "gru": "GRU", "rnn": "SimpleRNN"}[cell]
    own = {"name": "layer_1", "activation": "tanh", "inner_activation": "sigmoid", "output_dim": 4}
    config = {"class_name": "Sequential", "config": [{"class_name": kind, "config": own}]}
    [found] = files.read(h5_of(h5py, tmp_path / "m.h5", {"layer_1": split}, config))
    same(found, one, atol=0)
    own["inner_activation"] = "hard_sigmoid"
    [found] = files.read(h5_of(h5py, tmp_path / "n.h5", {"layer_1": split}, config))
    assert found.cell == ("rnn" if cell == "rnn" else None)  # SimpleRNN has no inner activation
    assert cell == "rnn" or "inner_activation='hard_sigmoid'" in found.note


def test_a_class_of_the_users_own_is_ambiguous(h5py, tmp_path):
    one, arrays = keras_arrays("lstm", "mine/")
    config = {"class_name": "Sequential", "config": {"layers": [
        {"class_name": "Custom>MyLSTM", "config": {"name": "mine"}},
    ]}}  # fmt: skip
    path = h5_of(h5py, tmp_path / "m.h5", {"mine": arrays}, config)
    [found] = files.read(path)
    assert (found.cell, found.candidates) == (None, ("lstm",))
    assert "MyLSTM is no class of Keras' own" in found.note
    [found] = files.read(path, cells={"mine": "lstm"})
    same(found, one, atol=0)


@pytest.mark.parametrize("end", [".keras", ".h5"])
def test_a_class_that_is_called_as_one_of_keras_is_not_it(keras, h5py, tmp_path, end):
    """Its configuration says what it was made with; what it does with that, its program says."""

    class LSTM(keras.layers.LSTM):
        def call(self, sequences, initial_state=None, **options):
            return super().call(2 * sequences, initial_state, **options)

    class Cell(keras.layers.GRUCell):
        pass

    registered = keras.saving.register_keras_serializable("mine")(LSTM)
    for k, layer_ in enumerate([
        LSTM(4, name="a"),
        registered(4, name="a"),
        registered(4, name="a", recurrent_activation="hard_sigmoid"),
        keras.layers.RNN(Cell(4), name="a"),
    ]):  # fmt: skip
        path = tmp_path / f"{k}{end}"
        keras.Sequential([keras.Input((None, 3)), layer_]).save(path)
        [found] = files.read(path)
        assert found.cell is None, k
        if k == 2:
            assert "mine>LSTM with recurrent_activation='hard_sigmoid'" in found.note
            assert files.read(path, cells={found.name: "lstm"})[0].cell is None
        else:
            assert "is no class of Keras' own" in found.note, k
            [cell] = found.candidates
            [one] = files.read(path, cells={found.name: cell})
            assert (one.cell, one.assumed) == (cell, ()), k


def test_keras_and_tensorflow_keep_objects(tf, keras, tmp_path):
    """What tf.train.Checkpoint writes of Keras layers: names of attributes."""
    recurrent, dense = keras.layers.LSTM(4), keras.layers.Dense(5)
    recurrent.build((None, None, 3))
    dense.build((None, 8))
    names = {"a/cell/kernel": recurrent.cell.kernel, "a/cell/bias": recurrent.cell.bias}
    names |= {"a/cell/recurrent_kernel": recurrent.cell.recurrent_kernel}
    names |= {"b/kernel": dense.kernel, "b/bias": dense.bias}
    end = "/.ATTRIBUTES/VARIABLE_VALUE"
    tf.raw_ops.SaveV2(
        prefix=str(tmp_path / "x"),
        tensor_names=[f"{name}{end}" for name in names],
        shape_and_slices=[""] * len(names),
        tensors=[np.asarray(value) for value in names.values()],
    )
    [one] = files.read(tmp_path / "x")
    assert (one.name, one.cell, one.layout) == ("a/cell", "lstm", "keras")


def test_objects_by_the_names_of_their_variables(tf, tmp_path):
    """Since TensorFlow 2.2 a layer's variables stand below its cell; before, gates may be hard."""
    from tensorflow.core.protobuf import trackable_object_graph_pb2

    one, arrays = keras_arrays("lstm")
    for scope, sure in (("lstm/lstm_cell", True), ("lstm", False)):
        graph = trackable_object_graph_pb2.TrackableObjectGraph()
        tensors = {}
        for key, array in arrays.items():
            name = f"a/cell/{key.removesuffix(':0')}/.ATTRIBUTES/VARIABLE_VALUE"
            full = f"{scope}/{key.removesuffix(':0')}"
            graph.nodes.add().attributes.add(checkpoint_key=name, full_name=full)
            tensors[name] = array
        tensors["_CHECKPOINTABLE_OBJECT_GRAPH"] = graph.SerializeToString()
        names = list(tensors)
        tf.raw_ops.SaveV2(
            prefix=str(tmp_path / "x"),
            tensor_names=names,
            shape_and_slices=[""] * len(names),
            tensors=[tf.constant(tensor) for tensor in tensors.values()],
        )
        [found] = files.read(tmp_path / "x")
        if sure:
            same(found, one, atol=0)
            assert "sigmoid (the default of TensorFlow since 2.2)" in found.assumed[0]
        else:
            assert found.candidates == ("lstm",)
            assert "took hard_sigmoid for the gates until Keras 2.3 or TensorFlow 2.0" in found.note


# ONNX


def onnx_model(onnx, nodes, stored=(), inputs=(), functions=()):
    make, kind = onnx.helper, onnx.TensorProto
    tensors = [onnx.numpy_helper.from_array(np.asarray(a), key) for key, a in dict(stored).items()]
    told = [make.make_tensor_value_info(name, kind.FLOAT, None) for name in ("X", *inputs)]
    out = [make.make_tensor_value_info("Y", kind.FLOAT, None)]
    graph = make.make_graph(nodes, "g", told, out, tensors)
    return make.make_model(graph, opset_imports=[make.make_opsetid("", 14)], functions=functions)


def onnx_node(onnx, operator="LSTM", inputs=("X", "W", "R", "B"), name="n", **attributes):
    return onnx.helper.make_node(operator, inputs, ["Y"], name=name, **attributes)


def save(onnx, model, path):
    onnx.save_model(model, str(path))
    return path


def onnx_arrays(cell, **sizes):
    one = layer("n", cell, **sizes)
    return one, layouts.export(cell, "onnx", one.params)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("where", ["top", "if", "loop in if"])
def test_onnx_nodes_anywhere(onnx, tmp_path, cell, where):
    """In subgraphs too, with weights from the graph around them."""
    make = onnx.helper
    one, arrays = onnx_arrays(cell)
    operator = {"r": "RNN", "g": "GRU"}.get(cell[0], "LSTM")
    attributes = {"linear_before_reset": 1} if cell == "gru_reset_after" else {}
    if cell.startswith("coupled"):
        attributes["input_forget"] = 1
    inputs = ["X", "W", "R", "B", *[""] * 3, "P"] if "P" in arrays else ["X", "W", "R", "B"]
    node = onnx_node(onnx, operator, inputs, hidden_size=4, **attributes)
    out = [make.make_tensor_value_info("Y", onnx.TensorProto.FLOAT, None)]
    path = "n"
    for around in ("Loop", "If") if where == "loop in if" else ("If",) * (where == "if"):
        body = make.make_graph([node], "body", [], out)
        names = {"If": ("then_branch", "else_branch"), "Loop": ("body",)}[around]
        graphs = {
            name: body if k == 0 else make.make_graph([], "empty", [], out)
            for k, name in enumerate(names)
        }
        node = make.make_node(around, ["yes"], ["Y"], name=around.lower(), **graphs)
        path = f"{around.lower()}/{names[0]}/{path}"
    model = onnx_model(onnx, [node], arrays, inputs=["yes"])
    [found] = files.read(save(onnx, model, tmp_path / "m.onnx"))
    assert (found.name, found.layout) == (path, "onnx")
    same(found, one, atol=0)


def test_onnx_two_directions_without_bias_and_functions(onnx, tmp_path):
    one, two = (layer(name, "gru", seed=k) for k, name in enumerate("ab"))
    both = [layouts.export("gru", "onnx", x.params) for x in (one, two)]
    arrays = {key: np.concatenate([a[key] for a in both]) for key in both[0]}
    node = onnx_node(onnx, "GRU", name="", direction="bidirectional", hidden_size=4)
    found = files.read(save(onnx, onnx_model(onnx, [node], arrays), tmp_path / "m.onnx"))
    assert [x.name for x in found] == ["GRU_0", "GRU_0/reverse"]
    same(found[0], one, atol=0)
    same(found[1], two._replace(reverse=True), atol=0)
    words = ["Sigmoid", "Tanh", "Sigmoid", "Relu"]  # of the two directions
    attributes = {"direction": "bidirectional", "hidden_size": 4, "activations": words}
    node = onnx_node(onnx, "GRU", **attributes)
    found = files.read(save(onnx, onnx_model(onnx, [node], arrays), tmp_path / "m.onnx"))
    assert [x.cell for x in found] == ["gru", None]
    node = onnx_node(onnx, "GRU", ["X", "W", "R"], direction="reverse", hidden_size=4)
    path = save(onnx, onnx_model(onnx, [node], both[0]), tmp_path / "m.onnx")
    [found] = files.read(path)
    assert found.reverse
    assert not found.params.b.any()
    np.testing.assert_array_equal(found.params.W_h, one.params.W_h)


def test_onnx_weights_that_nodes_move_about(onnx, tmp_path):
    """PyTorch's exporter stores its own order, and cuts and joins in the graph."""
    make = onnx.helper
    one, arrays = onnx_arrays("lstm")
    turned = arrays["W"][0].T.astype(np.float64)
    constant = onnx.numpy_helper.from_array
    half = arrays["B"][0][:16]
    nodes = [
        make.make_node("Constant", [], ["zero"], value=constant(np.array([0]))),
        make.make_node("Transpose", ["V"], ["V1"]),
        make.make_node("Cast", ["V1"], ["V2"], to=onnx.TensorProto.FLOAT),
        make.make_node("Unsqueeze", ["V2", "zero"], ["W"]),
        make.make_node("Concat", ["half", "rest"], ["B1"], axis=0),
        make.make_node("Reshape", ["B1", "shape"], ["B2"]),
        make.make_node("Identity", ["B2"], ["B"]),
        make.make_node("Slice", ["R1", "starts", "ends", "zero"], ["R"]),
        onnx_node(onnx, hidden_size=4),
    ]
    stored = {
        "V": turned, "half": half, "rest": arrays["B"][0][16:], "shape": np.array([1, 32]),
        "R1": np.concatenate([arrays["R"], arrays["R"] + 1]),
        "starts": np.array([0]), "ends": np.array([1]),
    }  # fmt: skip
    [found] = files.read(save(onnx, onnx_model(onnx, nodes, stored), tmp_path / "m.onnx"))
    same(found, one)
    nodes.insert(2, make.make_node("Relu", ["V1"], ["V3"]))
    nodes[3].input[0] = "V3"
    [found] = files.read(save(onnx, onnx_model(onnx, nodes, stored), tmp_path / "m.onnx"))
    assert "W is computed by the model itself (Relu), not stored" in found.note


@pytest.mark.parametrize(
    ("attributes", "why"),
    [
        ({"activations": ["Sigmoid", "Relu", "Tanh"]}, "activations ['sigmoid', 'relu', 'tanh']"),
        (
            {"activations": ["HardSigmoid", "Tanh", "Tanh"]},
            "the cells here have ['sigmoid', 'tanh'",
        ),
        ({"clip": 3.0}, "clip=3, which no cell here does"),
    ],
)
def test_onnx_attributes_that_no_cell_has(onnx, tmp_path, attributes, why):
    _, arrays = onnx_arrays("lstm")
    node = onnx_node(onnx, hidden_size=4, **attributes)
    [found] = files.read(save(onnx, onnx_model(onnx, [node], arrays), tmp_path / "m.onnx"))
    assert found.cell is None
    assert why in found.note
    node = onnx_node(onnx, hidden_size=4, activations=["sigmoid", "TANH", "Tanh"])
    [found] = files.read(save(onnx, onnx_model(onnx, [node], arrays), tmp_path / "m.onnx"))
    assert found.cell == "lstm"


def test_onnx_weights_that_the_file_does_not_hold(onnx, tmp_path):
    _, arrays = onnx_arrays("lstm")
    given = {key: a for key, a in arrays.items() if key != "R"}
    model = onnx_model(onnx, [onnx_node(onnx, hidden_size=4)], given, inputs=["R"])
    [found] = files.read(save(onnx, model, tmp_path / "m.onnx"))
    assert found.note == "LSTM: R is an input of the model, so the file does not hold it"


def test_onnx_weights_that_are_worked_out_of_stored_numbers(onnx, onnxruntime, tmp_path):
    rng = np.random.default_rng(4)
    _, arrays = onnx_arrays("lstm")
    q, scale, zero = rng.integers(-128, 128, (1, 16, 4), np.int8), np.float32(0.01), np.int8(3)
    del arrays["R"]
    stored = arrays | {"Q": q, "scale": scale, "zero": zero, "half": arrays.pop("W"), "two": 2.0}
    stored["two"] = np.float32(2)
    nodes = [
        onnx.helper.make_node("DequantizeLinear", ["Q", "scale", "zero"], ["R"]),
        onnx.helper.make_node("Mul", ["half", "two"], ["W"]),
        onnx_node(onnx, hidden_size=4),
    ]
    model = onnx_model(onnx, nodes, stored)
    model.ir_version = 8
    path = save(onnx, model, tmp_path / "m.onnx")
    [found] = files.read(path)
    assert found.note == "R from quantised numbers"
    arrays |= {"W": 2 * stored["half"], "R": (q.astype(np.float32) - 3) * scale}
    right = layouts.load("lstm", "onnx", arrays)
    for ours, theirs in zip(found.params, right, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-7)
    hs = onnxruntime.InferenceSession(str(path)).run(None, {"X": XS.swapaxes(0, 1)})[0]
    ours = run("lstm", found.params, XS)[0]
    np.testing.assert_allclose(ours, hs[:, 0].swapaxes(0, 1), rtol=0, atol=1e-6)


def test_onnx_products_that_would_swell_are_refused(onnx, tmp_path):
    """A row times a column is far larger than both."""
    _, arrays = onnx_arrays("lstm")
    stored = arrays | {"row": np.ones((1, 1, 3000), "f4"), "column": np.ones((1, 3000, 1), "f4")}
    del stored["W"]
    nodes = [onnx.helper.make_node("Mul", ["row", "column"], ["W"]), onnx_node(onnx, hidden_size=4)]
    path = save(onnx, onnx_model(onnx, nodes, stored), tmp_path / "m.onnx")
    with pytest.raises(FileError, match=r"W, with what was read before, takes 72,\d+,\d+ bytes"):
        files.read(path, max_bytes=1_000_000)


@pytest.mark.parametrize("place", ["beside", "above", "link", "short"])
def test_onnx_external_data_stay_in_the_folder(onnx, tmp_path, place):
    one, arrays = onnx_arrays("rnn")
    model = onnx_model(onnx, [onnx_node(onnx, "RNN", hidden_size=4)], arrays)
    folder = tmp_path / "model"
    folder.mkdir()
    [kernel] = [tensor for tensor in model.graph.initializer if tensor.name == "W"]
    data = folder / "w.bin" if place != "above" else tmp_path / "w.bin"
    data.write_bytes(b"1234" + kernel.raw_data[: 8 if place == "short" else None])
    if place == "link":
        data = data.rename(tmp_path / "w.bin")
        (folder / "w.bin").symlink_to(data)
    location = "../w.bin" if place == "above" else "w.bin"
    onnx.external_data_helper.set_external_data(kernel, location, 4, 48)
    kernel.ClearField("raw_data")
    path = folder / "m.onnx"
    path.write_bytes(model.SerializeToString())
    if place == "beside":
        same(files.read(path)[0], one, atol=0)
        return
    why = "is too short for W" if place == "short" else "no file in the model's own folder"
    with pytest.raises(FileError, match=why):
        files.read(path)


def test_onnx_without_recurrent_nodes_by_its_names(onnx, safetensors, tmp_path):
    one = layer("x", "lstm")
    own = layouts.export("lstm", "torch", one.params, layer=None)
    stored = {f"decoder.rnn.{key}": array for key, array in own.items()}
    steps = [onnx.helper.make_node(name, ["X"], [name]) for name in ("Sigmoid", "Tanh", "Relu")]
    [found] = files.read(save(onnx, onnx_model(onnx, steps, stored), tmp_path / "m.onnx"))
    same(found, one, atol=0)
    assert (found.name, found.layout) == ("decoder.rnn", "torch")
    assert "told by the names of its arrays" in found.note
    [found] = files.read(save(onnx, onnx_model(onnx, steps[::2], stored), tmp_path / "m.onnx"))
    assert found.cell is None
    assert "the names of its arrays are those of lstm, but it has no Tanh" in found.note


# PyTorch


@pytest.mark.parametrize("end", [".pt", ".safetensors"])
def test_state_dicts_compute_what_pytorch_computes(torch, safetensors, tmp_path, end):
    torch.manual_seed(0)
    nn = torch.nn
    lstm = nn.LSTM(3, 4, num_layers=2, bidirectional=True, batch_first=True)
    gru, cell = nn.GRU(3, 5, batch_first=True, bias=False), nn.LSTMCell(3, 2)
    simple, head = nn.RNN(3, 4, batch_first=True), nn.Linear(4, 4)
    weights = nn.ModuleDict(
        {"lstm": lstm, "gru": gru, "cell": cell, "simple": simple, "head": head}
    )
    state = {f"module.{key}": value for key, value in weights.state_dict().items()}
    path = tmp_path / f"w{end}"
    if end == ".pt":
        torch.save({"epoch": 3, "state_dict": state}, path)
    else:
        safetensors.save_file({key: value.numpy() for key, value in state.items()}, path)
    found = files.contents(path)
    front = "state_dict.module." if end == ".pt" else "module."
    by_name = {one.name.removeprefix(front): one for one in found.layers}
    assert {key: (one.cell, one.reverse) for key, one in by_name.items()} == {
        "lstm.l0": ("lstm", False),
        "lstm.l0_reverse": ("lstm", True),
        "lstm.l1": ("lstm", False),
        "lstm.l1_reverse": ("lstm", True),
        "gru.l0": ("gru_reset_after", False),
        "cell": ("lstm", False),
        "simple.l0": ("rnn", False),
    }
    xs = np.random.default_rng(0).normal(size=(2, 5, 3)).astype(np.float32)
    hs = xs
    for k in range(2):
        pair = by_name[f"lstm.l{k}"], by_name[f"lstm.l{k}_reverse"]
        hs = np.concatenate([through(one, hs) for one in pair], axis=-1)
    with torch.no_grad():
        given = torch.from_numpy(xs)
        np.testing.assert_allclose(hs, lstm(given)[0], rtol=0, atol=1e-6)
        np.testing.assert_allclose(through(by_name["gru.l0"], xs), gru(given)[0], rtol=0, atol=1e-6)
        np.testing.assert_allclose(
            through(by_name["simple.l0"], xs), simple(given)[0], rtol=0, atol=1e-6
        )
        np.testing.assert_allclose(
            through(by_name["cell"], xs[:, :1])[:, 0], cell(given[:, 0])[0], rtol=0, atol=1e-6
        )
    assert "nn.RNN with relu has the same names" in by_name["simple.l0"].note
    assert f"{front}head" in words(found)


def exported_program(torch, path):
    """A program of torch.export, its inputs and its outputs."""
    torch.manual_seed(0)
    rnn = torch.nn.LSTM(3, 4, num_layers=2, batch_first=True, bidirectional=True)
    top = torch.nn.GRU(8, 2, batch_first=True)

    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn, self.top = rnn, top

        def forward(self, x):
            return self.top(self.rnn(x)[0])[0]

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.save(torch.export.export(Model().eval(), (torch.zeros(2, 5, 3),)), str(path))
    return {f"rnn.{name}": value.detach().numpy() for name, value in rnn.named_parameters()}


def test_exported_programs_are_read_without_pytorch(torch, tmp_path, monkeypatch):
    kept = exported_program(torch, tmp_path / "m.pt2")
    monkeypatch.setitem(sys.modules, "torch", None)
    found = files.read(tmp_path / "m.pt2")
    assert [(one.name, one.cell, one.reads) for one in found] == [
        ("rnn.l0", "lstm", None), ("rnn.l0_reverse", "lstm", None),
        ("rnn.l1", "lstm", ("rnn.l0", "rnn.l0_reverse")),
        ("rnn.l1_reverse", "lstm", ("rnn.l0", "rnn.l0_reverse")),
        ("top.l0", "gru_reset_after", None),
    ]  # fmt: skip
    for one in found[:4]:
        end = one.name.removeprefix("rnn.")
        arrays = {f"{k}_l0": kept[f"rnn.{k}_{end}"] for k in
                  ("weight_ih", "weight_hh", "bias_ih", "bias_hh")}  # fmt: skip
        right = layouts.load("lstm", "torch", arrays)
        for ours, theirs in zip(one.params, right, strict=True):
            np.testing.assert_array_equal(ours, theirs)


def packed_program(path, meta, data=b"", name="rnn.weight_ih_l0"):
    """An archive as torch.export writes it, with one array."""
    entry = {"path_name": "weight_0", "is_param": True, "use_pickle": False, "tensor_meta": meta}
    with zipfile.ZipFile(path, "w") as archive:
        config = json.dumps({"config": {name: entry}})
        archive.writestr("m/data/weights/model_weights_config.json", config)
        archive.writestr("m/data/weights/weight_0", data)


def as_meta(shape, strides, start=0, dtype=7):
    numbers = lambda values: [{"as_int": value} for value in values]  # noqa: E731
    meta = {"dtype": dtype, "sizes": numbers(shape), "strides": numbers(strides)}
    return meta | {"storage_offset": {"as_int": start}}


def test_exported_programs_by_their_strides(tmp_path):
    from lstmbook.files import pt2

    data = np.arange(30, dtype="<f4")
    request = files.Request(tmp_path / "m.pt2", None, {}, 10**6)
    found = pt2._array(request, "x", as_meta((4, 3), (1, 4), start=2), data.tobytes())
    np.testing.assert_array_equal(found, data[2:14].reshape(3, 4).T)
    half = (data.view("<u4") >> 16).astype("<u2")
    found = pt2._array(request, "x", as_meta((30,), (1,), dtype=13), half.tobytes())
    np.testing.assert_array_equal(found, (half.astype("<u4") << 16).view("<f4"))
    for shape, strides, start in (((4, 8), (8, 1), 0), ((30,), (1,), 1), ((2,), (-1,), 3)):
        with pytest.raises(FileError, match="is damaged: x is larger than what is stored for it"):
            pt2._array(request, "x", as_meta(shape, strides, start), data.tobytes())
    packed_program(tmp_path / "m.pt2", as_meta((16, 3), (3, 1)) | {"dtype": 5})
    assert "of kind 5, not read" in words(files.contents(tmp_path / "m.pt2"))["rnn.weight_ih_l0"]


def normed_arrays(form):
    """The arrays of a layer whose recurrent weights have a norm of their own, and the layer."""
    one = layer("rnn.l0", "lstm")
    arrays = {f"rnn.{name}": a for name, a in layouts.export("lstm", "torch", one.params).items()}
    weight = arrays.pop("rnn.weight_hh_l0").astype(np.float64)
    rows = np.random.default_rng(2).uniform(0.5, 2, size=(len(weight), 1))
    g, v = np.sqrt((weight**2).sum(axis=1, keepdims=True)), weight * rows
    inner = "rnn.parametrizations.weight_hh_l0"
    names = {"old": ("rnn.weight_hh_l0_g", "rnn.weight_hh_l0_v")}
    names |= {"new": (f"{inner}.original0", f"{inner}.original1")}
    return arrays | dict(zip(names[form], (g.astype("f4"), v.astype("f4")), strict=True)), one


@pytest.mark.parametrize("form", ["old", "new"])
def test_weights_with_a_norm_of_their_own(safetensors, tmp_path, form):
    arrays, expected = normed_arrays(form)
    safetensors.save_file(arrays, tmp_path / "m.safetensors")
    [one] = files.read(tmp_path / "m.safetensors")
    same(one, expected)
    assert one.note == "weight_hh_l0 from its norm and direction"
    assert words(files.contents(tmp_path / "m.safetensors")) == {}


def test_two_parts_of_a_weight_that_are_no_norm_and_direction(safetensors, tmp_path):
    """Any parametrisation of two parts calls them original0 and original1."""
    arrays, _ = normed_arrays("new")
    name = "rnn.parametrizations.weight_hh_l0.original0"
    arrays[name] = np.ones((4, 4), np.float32)
    safetensors.save_file(arrays, tmp_path / "m.safetensors")
    [one] = files.read(tmp_path / "m.safetensors")
    assert one.cell is None
    assert "named as PyTorch's, but not of its shapes" in one.note
    [aside] = files.contents(tmp_path / "m.safetensors").aside
    assert aside.why == "original0 (4, 4), original1 (16, 4)"


@pytest.mark.parametrize("form", ["old", "new"])
def test_pytorch_loads_the_norms_of_the_test(torch, safetensors, tmp_path, form):
    arrays, expected = normed_arrays(form)
    module = torch.nn.ModuleDict({"rnn": torch.nn.LSTM(3, 4, batch_first=True)})
    new = torch.nn.utils.parametrizations.weight_norm
    (new if form == "new" else torch.nn.utils.weight_norm)(module["rnn"], "weight_hh_l0")
    module.load_state_dict({name: torch.from_numpy(a) for name, a in arrays.items()})
    with torch.no_grad():
        hs = module["rnn"](torch.from_numpy(XS))[0].numpy()
    np.testing.assert_allclose(hs, through(expected, XS), rtol=0, atol=1e-6)


def test_weights_that_are_dropped_in_training(safetensors, tmp_path):
    """AWD-LSTM keeps the weight as raw; what has its name is a leftover of the last step."""
    one = layer("rnns.0.l0", "lstm")
    arrays = layouts.export("lstm", "torch", one.params)
    kept = {f"rnns.0.module.{name}": a for name, a in arrays.items()}
    kept["rnns.0.weight_hh_l0_raw"] = kept["rnns.0.module.weight_hh_l0"]
    kept["rnns.0.module.weight_hh_l0"] = np.zeros_like(arrays["weight_hh_l0"])
    safetensors.save_file(kept, tmp_path / "m.safetensors")
    [found] = files.read(tmp_path / "m.safetensors")
    same(found, one)
    assert found.note == "weight_hh_l0 as it is before weights are dropped"
    del kept["rnns.0.module.weight_hh_l0"]
    safetensors.save_file(kept, tmp_path / "m.safetensors")
    same(files.read(tmp_path / "m.safetensors")[0], one)


def test_half_precision_is_widened(torch, safetensors, tmp_path):
    state = torch.nn.LSTM(3, 4).to(torch.bfloat16).state_dict()
    torch.save(state, tmp_path / "w.pt")
    library = importlib.import_module("safetensors.torch")
    library.save_file(state, tmp_path / "w.safetensors")
    one, two = files.read(tmp_path / "w.pt") + files.read(tmp_path / "w.safetensors")
    same(one, two, atol=0)
    assert one.params.b.dtype == np.float32
    expected = state["weight_hh_l0"].float().numpy()
    np.testing.assert_array_equal(np.hstack(one.params.W_h).T, expected)


def test_a_projection_in_pytorch_is_named(torch, tmp_path):
    torch.save(torch.nn.LSTM(3, 4, proj_size=2).state_dict(), tmp_path / "w.pt")
    [one] = files.read(tmp_path / "w.pt")
    assert one.cell is None
    assert "proj_size" in one.note


class Bomb:
    def __reduce__(self):
        return os.mkdir, ("exploded",)


def test_nothing_is_unpickled(torch, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"weight_ih_l0": Bomb()}, "w.pt")
    with pytest.raises(FileError, match="holds more than tensors"):
        files.read("w.pt")
    torch.save({"w": Bomb()}, "old.pt", _use_new_zipfile_serialization=False)
    with pytest.raises(FileError, match="holds more than tensors"):
        files.read("old.pt")
    np.savez("w.npz", kernel=np.array([Bomb()], object))
    with pytest.raises(FileError, match=r"kernel.npy holds Python objects \(a pickle\)"):
        files.read("w.npz")
    Path("w.bin").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(FileError, match="nothing is unpickled here"):
        files.read("w.bin")
    assert not Path("exploded").exists()


def test_a_program_is_not_read(torch, tmp_path):
    with zipfile.ZipFile(tmp_path / "w.pt", "w") as archive:
        for name in ("m/data.pkl", "m/constants.pkl"):
            archive.writestr(name, b"")
    with pytest.raises(FileError, match="is a TorchScript archive"):
        files.read(tmp_path / "w.pt")


# .npz


def test_npz_of_frameworks_names(tmp_path):
    lstm, gru, keras = layer("a", "lstm"), layer("b", "gru_reset_after"), layer("c", "gru")
    arrays = layouts.export("lstm", "tf1", lstm.params)
    arrays = {f"rnn/basic_lstm_cell/{key}:0": a for key, a in arrays.items()}
    arrays["rnn/basic_lstm_cell/kernel/Adam:0"] = np.zeros(3)
    own = layouts.export("gru_reset_after", "torch", gru.params, layer=None)
    short = {"weight": "w", "bias": "b"}
    for key, array in own.items():
        kind, _, side = key.partition("_")
        arrays[f"enc_{short[kind]}_{side}"] = array
    own = layouts.export("gru", "keras", keras.params)
    arrays |= {f"gru.{key}": array for key, array in own.items()}
    np.savez(tmp_path / "w.npz", fc_w=np.zeros((3, 4)), steps=np.array(7), **arrays)
    found = files.contents(tmp_path / "w.npz")
    assert [one.name for one in found.layers] == ["enc", "rnn/basic_lstm_cell", "gru"]
    for one, expected in zip(found.layers, (gru, lstm, keras), strict=True):
        same(one, expected)
    assert "its order of gates assumed" in found.layers[0].note
    assert words(found)["fc_w"] == "(3, 4)"


@pytest.mark.parametrize(
    ("scope", "shape", "candidates"),
    [
        ("memory", (9, 5), ("rnn",)),  # 5 is no multiple of 4
        ("memory", (4, 12), ("lstm",)),
        ("memory", (3, 12), ()),
        ("memory", (9, 8, 1), ()),
        ("logits", (9, 8), ()),
        ("output_cell", (9, 8), ("lstm", "rnn")),
        ("rnn/memory", (9, 8), ("lstm", "rnn")),
    ],
)
def test_what_a_kernel_and_a_bias_can_be(tmp_path, scope, shape, candidates):
    arrays = {"kernel": np.zeros(shape), "bias": np.zeros(shape[1])}
    np.savez(tmp_path / "w.npz", **{f"{scope}/{key}": a for key, a in arrays.items()})
    found = files.contents(tmp_path / "w.npz")
    assert [one.candidates for one in found.layers] == [candidates] * bool(candidates)
    assert candidates or "a dense layer or the like" in words(found)[scope]
    for one in found.layers:
        assert ("no recurrent layer" in one.note) == ("rnn/" not in scope)


@pytest.mark.parametrize(
    ("scope", "shape", "cell"),
    [("rnn/memory", (7, 5), "rnn"), ("rnn/memory", (7, 16), "lstm"), ("my_lstm", (9, 8), "lstm")],
)
def test_what_a_scope_tells(tmp_path, scope, shape, cell):
    arrays = {"kernel": np.zeros(shape), "bias": np.zeros(shape[1])}
    np.savez(tmp_path / "w.npz", **{f"{scope}/{key}": a for key, a in arrays.items()})
    [one] = files.read(tmp_path / "w.npz")
    assert one.cell == cell


def test_torch_names_with_other_shapes_are_refused(tmp_path):
    own = layouts.export("lstm", "torch", layer("x", "lstm").params)
    np.savez(tmp_path / "w.npz", **{key: array.T for key, array in own.items()})
    [one] = files.read(tmp_path / "w.npz")
    assert one.cell is None
    assert "not of its shapes" in one.note


def test_numbers_that_are_none_are_told(tmp_path):
    own = layouts.export("gru", "tf1", layer("x", "gru").params)
    own["gates/bias"][1] = np.nan
    np.savez(tmp_path / "w.npz", **{f"rnn/gru_cell/{key}": a for key, a in own.items()})
    [one] = files.read(tmp_path / "w.npz")
    assert one.note == "cannot be used: gates/bias has numbers that are NaN or infinite"


# What is assumed


def test_what_each_form_leaves_open_is_assumed_until_it_is_said(onnx, tmp_path):
    """A layer that is assumed to be something says so, and what a caller gave is not assumed."""
    of = {cell: layer("x", cell).params for cell in CELLS}
    tf1 = {cell: layouts.export(cell, "tf1", of[cell]) for cell in ("rnn", "lstm", "gru")}
    bias, silent = "forget bias 1 added: the file does not hold it", "the file does not say"
    direction = "no configuration in the file: the forward direction assumed"
    both = "no configuration in the file: tanh and sigmoid and the forward direction assumed"
    block = layouts.export("gru", "tf1_block", of["gru"])
    torch = {cell: layouts.export(cell, "torch", of[cell], layer=0) for cell in ("rnn", "lstm")}
    keras = layouts.export("lstm", "keras", of["lstm"])
    cudnn = layouts.export("lstm", "keras_cudnn", of["lstm"])
    short = {key.replace("weight", "w").replace("bias", "b"): a for key, a in torch["lstm"].items()}
    relu = "tanh assumed: nn.RNN with relu has the same names"
    order = "names like PyTorch's: its order of gates assumed"
    rows = [  # of the file, arrays, what is assumed, the cell when it is given, what is then
        ("rnn/basic_rnn_cell/", tf1["rnn"], [f"tanh assumed: {silent}"], "rnn", []),
        ("rnn/gru_cell/", tf1["gru"], [f"tanh assumed: {silent}"], "gru", []),
        ("rnn/lstm_cell/", tf1["lstm"],
         [bias, f"tanh and no clipping assumed: {silent}"], "lstm", [bias]),
        ("my_lstm/", tf1["lstm"],
         ["an LSTM by its name", bias, f"tanh and no clipping assumed: {silent}"], "lstm", [bias]),
        ("rnn/memory/", layouts.export("rnn", "tf1", layer("x", "rnn", 3, 5).params),
         ["rnn: no other cell of tf.nn.rnn_cell has such arrays", f"tanh assumed: {silent}"],
         "rnn", []),
        ("rnn/gru_block_cell/", block, [], "gru", []),
        ("net.", torch["rnn"], [relu], "rnn", []),
        ("net.", torch["lstm"], [], "lstm", []),
        ("net.", short, [order], "lstm", [order]),
        ("lstm/", keras, [both], "lstm", [direction]),
        ("lstm/", cudnn, [direction], "lstm", [direction]),
    ]  # fmt: skip
    for scope, arrays, assumed, cell, then in rows:
        np.savez(tmp_path / "w.npz", **{f"{scope}{key}": a for key, a in arrays.items()})
        [one] = files.read(tmp_path / "w.npz")
        assert list(one.assumed) == assumed, (scope, one)
        assert one.note == "; ".join(assumed), scope
        [two] = files.read(tmp_path / "w.npz", cells={one.name: cell})
        assert list(two.assumed) == then, (scope, two)
        assert scope == "rnn/gru_block_cell/" or f"{cell}, as given" in two.note
        same(one, two, atol=0)
    np.savez(tmp_path / "w.npz", **{f"rnn/lstm_cell/{key}": a for key, a in tf1["lstm"].items()})
    cells = {"rnn/lstm_cell": "lstm"}
    [one] = files.read(tmp_path / "w.npz", forget_bias=1, cells=cells)
    assert (one.note, one.assumed) == ("lstm, as given; forget bias 1 added, as given", ())
    files.write(tmp_path / "own.npz", [one], to="npz")
    assert files.read(tmp_path / "own.npz")[0].assumed == ()
    stored = {f"net.{key}": array for key, array in torch["lstm"].items()}
    steps = [onnx.helper.make_node(name, ["X"], [name]) for name in ("Sigmoid", "Tanh")]
    [one] = files.read(save(onnx, onnx_model(onnx, steps, stored), tmp_path / "m.onnx"))
    assert one.assumed == ("the model has no recurrent node: told by the names of its arrays",)
    assert files.read(tmp_path / "m.onnx", cells={one.name: "lstm"})[0].assumed == ()


# Writing: what the framework itself makes of the file


def chain(kind):
    if kind == "apart":
        return [layer("a", "lstm", 3, 4), layer("b", "gru", 3, 5)]
    pair = [layer("e/fw/x", "lstm"), layer("e/bw/x", "lstm", reverse=True)]
    return files.chained(
        {
            "stack": [layer("a/x", "lstm", 3, 4), layer("b", "lstm", 4, 4)],
            "mixed": [layer("a", "rnn", 3, 4), layer("b", "gru_reset_after", 4, 5)],
            "bidirectional": [*pair, layer("top", "lstm", 8, 2)],
            "pair": pair,
        }[kind]
    )


def expected(layers, xs, lengths=None):
    k = 0
    while k < len(layers):
        if k + 1 < len(layers) and layers[k + 1].reverse:
            xs = np.concatenate([through(x, xs) for x in layers[k : k + 2]], axis=-1)
            k += 2
        else:
            xs, k = through(layers[k], xs, lengths), k + 1
    return xs


XS = np.random.default_rng(5).normal(size=(4, TIME, 3)).astype(np.float32)


@pytest.mark.parametrize("end", [".keras", ".h5", ".weights.h5"])
@pytest.mark.parametrize("kind", ["stack", "mixed", "bidirectional", "gru", "coupled"])
def test_keras_loads_what_is_written(keras, h5py, tmp_path, kind, end):
    layers = [layer("x", kind)] if kind in CELLS else chain(kind)
    path = tmp_path / f"m{end}"
    assert files.write(path, layers, to="keras") == [path]
    if end == ".weights.h5":
        assert len(files.read(path)) == len(layers)
        again = files.write(tmp_path / "again.keras", layers, to="keras")
        model = keras.models.load_model(*again)
        model.set_weights([0 * w for w in model.get_weights()])
        model.load_weights(path)
    else:
        model = keras.models.load_model(path)
    hs = model.predict(XS, verbose=0)
    np.testing.assert_allclose(hs, expected(layers, XS), rtol=0, atol=1e-6)


@pytest.mark.parametrize("end", [".pt", ".safetensors"])
@pytest.mark.parametrize("kind", ["stack", "pair"])
def test_pytorch_loads_what_is_written(torch, safetensors, tmp_path, kind, end):
    layers = chain(kind)
    files.write(tmp_path / f"w{end}", layers, to="torch")
    if end == ".pt":
        state = torch.load(tmp_path / "w.pt", weights_only=True)
    else:
        library = importlib.import_module("safetensors.torch")
        state = library.load_file(tmp_path / "w.safetensors")
    two = {"bidirectional": True} if kind == "pair" else {"num_layers": 2}
    module = torch.nn.LSTM(3, 4, batch_first=True, **two)
    module.load_state_dict(state)
    with torch.no_grad():
        hs = module(torch.from_numpy(XS))[0].numpy()
    np.testing.assert_allclose(hs, expected(layers, XS), rtol=0, atol=1e-6)


def test_pytorch_names_of_layers_that_are_no_one_module(torch, safetensors, tmp_path):
    layers = [layer("my/enc", "lstm", 3, 4), layer("dec", "gru_reset_after", 7, 2)]
    files.write(tmp_path / "w.pt", layers, to="torch")
    modules = torch.nn.ModuleDict({"my_enc": torch.nn.LSTM(3, 4), "dec": torch.nn.GRU(7, 2)})
    modules.load_state_dict(torch.load(tmp_path / "w.pt", weights_only=True))
    alone = [layer("back", "rnn", reverse=True)]
    with pytest.raises(FileError, match="no module for a backward layer alone"):
        files.write(tmp_path / "v.pt", alone, to="torch")
    with pytest.raises(FileError, match="has no place for go_backwards"):
        files.write(tmp_path / "v.weights.h5", alone, to="keras")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["w.pt"]


@pytest.mark.parametrize(
    "kind", ["stack", "mixed", "bidirectional", "peephole", "coupled_peephole", "gru", "apart"]
)
def test_onnx_runtime_runs_what_is_written(onnx, onnxruntime, tmp_path, kind):
    layers = [layer("x", kind)] if kind in CELLS else chain(kind)
    files.write(tmp_path / "m.onnx", layers, to="onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "m.onnx"))
    two = any(one.reverse for one in layers)
    lengths = np.full(4, TIME) if two else np.maximum(LENGTHS, 1)
    feeds = {"sequence_lens": lengths.astype(np.int32)}
    for told in session.get_inputs():
        if told.name.startswith("X"):
            feeds[told.name] = XS.swapaxes(0, 1)
        elif told.name != "sequence_lens":
            feeds[told.name] = np.zeros([told.shape[0], 4, told.shape[2]], np.float32)
    names = [told.name for told in session.get_outputs()]
    outputs = dict(zip(names, session.run(None, feeds), strict=True))
    groups = [[one] for one in layers] if kind == "apart" else [layers]
    for k, group in enumerate(groups):
        hs = outputs["Y" if kind != "apart" else f"Y_{k}"].swapaxes(0, 1)
        right = expected(group, XS, None if two else lengths)
        np.testing.assert_allclose(hs, right, rtol=0, atol=1e-6)


@pytest.mark.parametrize("forget_bias", [1.0, 0.25])
def test_tensorflow_restores_what_is_written(tf, tmp_path, forget_bias):
    """Saver brings the file into a graph of v1 cells, by the names that these have."""
    from lstmbook.live.tf1 import rnn_cell

    v1 = tf.compat.v1
    layers = [layer("a", "lstm", 3, 4), layer("b", "peephole", 4, 2), layer("c", "gru", 2, 5)]
    path = tmp_path / "model"
    written = files.write(path, files.chained(layers), to="tf1", forget_bias=forget_bias)
    assert [file.name for file in written] == ["model.data-00000-of-00001", "model.index"]
    with tf.Graph().as_default(), v1.Session() as session:
        cells = [
            rnn_cell.BasicLSTMCell(4, forget_bias),
            rnn_cell.LSTMCell(2, use_peepholes=True, forget_bias=forget_bias),
            rnn_cell.GRUCell(5),
        ]
        hs, _ = v1.nn.dynamic_rnn(rnn_cell.MultiRNNCell(cells), tf.constant(XS), dtype=tf.float32)
        v1.train.Saver().restore(session, str(path))
        np.testing.assert_allclose(session.run(hs), expected(layers, XS), rtol=0, atol=1e-6)
    back = files.read(path, forget_bias=forget_bias)
    for one, two in zip(back, layers, strict=True):
        same(one, two)


def test_tensorflow_names_for_what_came_from_elsewhere(tf, tmp_path):
    files.write(tmp_path / "a", chain("pair"), to="tf1")
    assert [one.name for one in files.read(tmp_path / "a")] == [
        "bidirectional_rnn/fw/basic_lstm_cell", "bidirectional_rnn/bw/basic_lstm_cell"
    ]  # fmt: skip
    files.write(
        tmp_path / "b", [layer("x/y", "coupled"), layer("z", "rnn", reverse=True)], to="tf1"
    )
    found = files.read(tmp_path / "b")
    assert [(one.name, one.cell, one.reverse) for one in found] == [
        ("x_y/coupled_input_forget_gate_lstm_cell", "coupled", False),
        ("z/bw/basic_rnn_cell", "rnn", True),
    ]
    files.write(tmp_path / "d", [layer("x", "lstm"), layer("y", "lstm", reverse=True)], to="tf1")
    scopes = ["x/basic_lstm_cell", "y/bw/basic_lstm_cell"]  # two names are no two halves
    assert [one.name for one in files.read(tmp_path / "d")] == scopes
    original = files.read(FOLDER / "checkpoints" / "custom_name")
    files.write(tmp_path / "c", original, to="tf1")
    assert files.read(tmp_path / "c")[0].name == "encoder/memory"


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_our_own_form_keeps_everything(tmp_path, dtype):
    layers = [
        layer(f"a/{cell}", cell, dtype=dtype, reverse=k % 2 > 0) for k, cell in enumerate(CELLS)
    ]
    paths = [tmp_path / name for name in ("a.npz", "b.npz")]
    for path in paths:
        files.write(path, layers, to="npz")
    assert paths[0].read_bytes() == paths[1].read_bytes()
    for one, two in zip(files.read(paths[0]), layers, strict=True):
        assert (one.name, one.layout, one.params.b.dtype) == (two.name, "lstmbook", dtype)
        same(one, two, atol=0)


def test_writing_is_all_or_nothing(tmp_path):
    layers, path = [layer("a", "lstm")], tmp_path / "w.npz"

    def check(made):
        assert (made, files.read(made)[0].name) == (path, "a")
        raise RuntimeError("not good enough")

    with pytest.raises(RuntimeError, match="not good enough"):
        files.write(path, layers, to="npz", check=check)
    assert list(tmp_path.iterdir()) == []
    path.write_text("mine")
    with pytest.raises(FileError, match="is there already; overwrite=True replaces it"):
        files.write(path, layers, to="npz")
    assert path.read_text() == "mine"
    with pytest.raises(RuntimeError, match="not good enough"):
        files.write(path, layers, to="npz", check=check, overwrite=True)
    assert path.read_text() == "mine"
    files.write(path, layers, to="npz", overwrite=True)
    assert files.read(path)[0].cell == "lstm"
    assert [item.name for item in tmp_path.iterdir()] == ["w.npz"]


def in_folder(folder):
    return {item.name: item.read_bytes() for item in folder.iterdir()}


def test_a_checkpoint_that_is_replaced_leaves_nothing_that_would_be_read(tf, tmp_path, monkeypatch):
    """The old graph tells another forget bias, and would be believed."""
    path, name = tmp_path / "m", "encoder/memory"
    for end in ("index", "meta", "data-00000-of-00001"):
        shutil.copy(MORE / "1.12.3" / f"graph_lstm.{end}", f"{path}.{end}")
    (tmp_path / "m.data-00001-of-00002").write_bytes(b"a shard of an older one")
    path.write_bytes(b"an older one in a file of its own")
    (tmp_path / "m2.meta").write_bytes(b"of another")
    before = in_folder(tmp_path)
    one = layer(name, "lstm")._replace(layout="tf1")
    with pytest.raises(FileError, match=r"is there already: m\.index, m\.meta, m\.data"):
        files.write(path, [one], to="tf1")

    def fail(made):
        assert made == path
        same(files.read(path, forget_bias=0.5, cells={name: "lstm"})[0], one)
        raise RuntimeError("not good enough")

    def no_links(*_, **__):
        raise OSError("a file system without hard links")

    for link in (os.link, no_links):
        monkeypatch.setattr(os, "link", link)
        with pytest.raises(RuntimeError, match="not good enough"):
            files.write(path, [one], to="tf1", overwrite=True, forget_bias=0.5, check=fail)
        assert in_folder(tmp_path) == before
    files.write(path, [one], to="tf1", overwrite=True, forget_bias=0.5)
    left = ["m.data-00000-of-00001", "m.index", "m2.meta"]
    assert sorted(item.name for item in tmp_path.iterdir()) == left
    same(files.read(path, forget_bias=0.5, cells={name: "lstm"})[0], one)


def test_what_would_be_read_with_a_new_file_is_refused(tf, keras, h5py, tmp_path):
    one = layer("enc", "lstm")
    (tmp_path / "m.meta").write_bytes(b"")  # alone, without a checkpoint
    with pytest.raises(FileError, match=r"read with it is there already: m\.meta; over"):
        files.write(tmp_path / "m", [one], to="tf1")
    (tmp_path / "variables").mkdir()
    (tmp_path / "saved_model.pb").write_bytes(b"")
    for name, why in [
        ("variables/m", "by the graph of another model, "),
        ("variables", "is a folder; the prefix"),
        ("v.index", "is the name of one of a checkpoint's files; its prefix is v"),
    ]:
        with pytest.raises(FileError, match=says(name, why)):
            files.write(tmp_path / name, [one], to="tf1", overwrite=True)
    path, config = tmp_path / "w.weights.h5", tmp_path / "w.json"
    relu = keras_config("enc", units=4, activation="relu", recurrent_activation="sigmoid")
    json_of(config, [("LSTM", relu)])
    with pytest.raises(FileError, match=r"read with it is there already: w\.json; over"):
        files.write(path, [one], to="keras")
    (tmp_path / "w.h5").write_bytes(b"")
    with pytest.raises(
        FileError, match=r"by w\.json beside it, the configuration of w\.h5; choose"
    ):
        files.write(path, [one], to="keras", overwrite=True)
    (tmp_path / "w.h5").unlink()
    before = in_folder(tmp_path / "variables"), config.read_bytes()
    files.write(path, [one], to="keras", overwrite=True)
    same(files.read(path)[0], one)
    assert not config.exists()
    config.write_text('{"batch": 32}')  # no configuration of a model: it is not read
    files.write(path, [one], to="keras", overwrite=True)
    assert config.exists()
    assert before[0] == in_folder(tmp_path / "variables")


# Names that forms of files give to something else, or that become the same when they are cleaned.
NAMES = ["a b", "a_b", "a_b_1", "a/b", "inputs", "inputs_inputs", "bw", "backward_x", "Bw",
         "forward_x", "x_reverse", "rnn", "sru_cell", "sru_cell_1", "top_level_model_weights",
         "optimizer", "sequence_lens", "X", "lstmbook", "x/fw", "layer_bw", "l0"]  # fmt: skip


@pytest.mark.parametrize("shape", ["chain", "apart"])
@pytest.mark.parametrize(
    ("to", "name"),
    [
        ("npz", "w.npz"),
        needs.param("keras", "keras", "w.keras"),
        needs.param("keras", "keras", "w.h5"),
        needs.param("keras", "keras", "w.weights.h5"),
        needs.param("torch", "torch", "w.pt"),
        needs.param("safetensors", "torch", "w.safetensors"),
        needs.param("onnx", "onnx", "w.onnx"),
        needs.param("tensorflow", "tf1", "w"),
    ],
)
def test_every_layer_is_written_whatever_its_name(tmp_path, to, name, shape):
    sizes = [4] * (len(NAMES) + 1) if shape == "chain" else range(2, len(NAMES) + 3)
    layers = [
        layer(words, "lstm", sizes[k], sizes[k + 1] if shape == "chain" else 3, seed=k)
        for k, words in enumerate(NAMES)
    ]
    layers = files.chained(layers) if shape == "chain" else layers
    files.write(tmp_path / name, iter(layers), to=to)
    found = files.read(tmp_path / name, forget_bias=1.0)
    assert len({one.name for one in found}) == len(found) == len(layers)
    for one in layers:
        near = [x for x in found if x.params.W_x.shape == one.params.W_x.shape]
        same(min(near, key=lambda x: np.abs(x.params.W_x - one.params.W_x).max()), one)
    alone = [layer(words, "lstm") for words in ("inputs", "top_level_model_weights", "bw")]
    for one in alone:
        path = files.write(tmp_path / name, [one], to=to, overwrite=True)[-1]
        [back] = files.read(path, forget_bias=1.0)
        same(back, one)


def test_names_that_a_checkpoint_cannot_keep_apart(tf, tmp_path):
    layers = [layer("x", "gru")._replace(layout="tf1")]
    layers += [layer("x/gates", "lstm")._replace(layout="tf1")]
    with pytest.raises(FileError, match=r"/m: two layers would both have x/gates/bias, x/gates/k"):
        files.write(tmp_path / "m", layers, to="tf1")
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_written(tmp_path):
    one, path = layer("enc", "peephole"), tmp_path / "w"
    with pytest.raises(LayoutError, match=says("enc: layout 'keras' cannot hold", "nearest there")):
        files.write(path.with_suffix(".keras"), [one], to="keras")
    with pytest.raises(LayoutError, match=says("enc: layout 'torch' cannot hold the cell 'gru'")):
        files.write(path.with_suffix(".pt"), [layer("enc", "gru")], to="torch")
    with pytest.raises(ValueError, match="to='jax'; expected one of npz, keras, torch, onnx, tf1"):
        files.write(path, [one], to="jax")
    with pytest.raises(FileError, match=says("to='onnx' writes files that end in .onnx")):
        files.write(path, [one], to="onnx")
    with pytest.raises(ValueError, match="there is no layer to write"):
        files.write(path.with_suffix(".npz"), [], to="npz")
    with pytest.raises(ValueError, match="two layers are called 'enc'"):
        files.write(path.with_suffix(".npz"), [one, one], to="npz")
    with pytest.raises(ValueError, match="enc has no cell: because"):
        files.write(path.with_suffix(".npz"), [one._replace(cell=None, note="because")], to="npz")
    with pytest.raises(FileError, match="cannot be written: No such file or directory"):
        files.write(tmp_path / "none" / "w.npz", [one], to="npz")
    assert list(tmp_path.iterdir()) == []


# Wrong, hostile and damaged files


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("w.h5", b"\x89PNG\r\n\x1a\n" + bytes(99), "its name says Keras, but it begins with"),
        ("w.onnx", b"not a model at all", "is no ONNX model, or a damaged one"),
        ("w.npz", b"", "is empty"),
        ("w.npz", b"PK\x03\x04" + bytes(99), "is a damaged or truncated archive"),
        ("w.npy", b"\x93NUMPY" + bytes(99), "one array without a name"),
        ("w.tflite", bytes(4) + b"TFL3" + bytes(9), "is a TensorFlow Lite model"),
        ("w.safetensors", b"\xff" * 7 + b"\x7f{" + bytes(9), "is said to have 9,223,372,036,854"),
        ("w.safetensors", struct.pack("<Q", 2) + b"{}", None),
        ("notes.txt", b"Dear diary", "which is none of: TensorFlow checkpoint, frozen graph"),
    ],
)
def test_wrong_files(onnx, safetensors, tmp_path, name, content, why):
    (tmp_path / name).write_bytes(content)
    if why is None:
        assert files.read(tmp_path / name) == []
        return
    with pytest.raises(FileError, match=says(str(tmp_path / name), why)):
        files.read(tmp_path / name)


def test_files_that_are_not_there(tmp_path, monkeypatch):
    with pytest.raises(FileError, match="there is no such file"):
        files.read(tmp_path / "none.npz")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(FileError, match="is no file"):
        files.read(tmp_path / "pipe")
    (tmp_path / "w.npz").write_bytes(b"x")

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(FileError, match="cannot be opened: Permission denied"):
        files.read(tmp_path / "w.npz")


def test_an_archive_of_another_kind(h5py, tmp_path):
    with zipfile.ZipFile(tmp_path / "w.npz", "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(FileError, match="is an archive, but not of Keras"):
        files.read(tmp_path / "w.npz")
    with zipfile.ZipFile(tmp_path / "w.keras", "w") as archive:
        archive.writestr("config.json", "{}")
    with pytest.raises(FileError, match=r"it has no model\.weights\.h5 in it"):
        files.read(tmp_path / "w.keras")


def npy(shape, dtype="<f4", data=b""):
    out = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        out, {"descr": dtype, "fortran_order": False, "shape": shape}
    )
    return out.getvalue() + data


def test_hdf5_behind_a_block_of_the_users_own(h5py, keras, tmp_path):
    one = layer("enc", "lstm")
    files.write(tmp_path / "w.h5", [one], to="keras")
    for size in (512, 2048):
        with (
            h5py.File(tmp_path / "block.h5", "w", userblock_size=size) as file,
            h5py.File(tmp_path / "w.h5") as other,
        ):
            for name in other:
                other.copy(name, file)
            for name, value in other.attrs.items():
                file.attrs[name] = value
        with (tmp_path / "block.h5").open("r+b") as raw:
            raw.write(b"written by hand")
        same(files.read(tmp_path / "block.h5")[0], one)


def test_safetensors_of_any_length_are_known(safetensors, tmp_path):
    """The file begins with the length of its header: here like a pickle's, or an archive's."""
    one, found = layer("enc", "lstm"), set()
    files.write(tmp_path / "w.safetensors", [one], to="torch")
    arrays = safetensors.load_file(tmp_path / "w.safetensors")
    for size in (*range(0, 256, 8), *range(18_500, 19_300, 8)):
        safetensors.save_file(arrays, tmp_path / "v.safetensors", {"note": "x" * size})
        first = (tmp_path / "v.safetensors").read_bytes()[:2]
        if first[:1] == b"\x80" or first == b"PK":
            found.add(first[:1])
            same(files.read(tmp_path / "v.safetensors")[0], one)
    assert found == {b"\x80", b"P"}


def test_arrays_of_integers_are_left_aside_by_name(torch, safetensors, h5py, tf, tmp_path):
    def words(path):
        return {item.name: item.why for item in files.contents(path).aside}

    numbers, expected = np.arange(3), {"words": "int64 (3,): no floats"}
    own = layouts.export("lstm", "tf1", layer("x", "lstm").params)
    arrays = {f"words/lstm_cell/{key}": array for key, array in own.items()}
    np.savez(tmp_path / "w.npz", words=numbers, **arrays, **{"words/lstm_cell": numbers})
    assert [one.name for one in files.read(tmp_path / "w.npz")] == ["words/lstm_cell"]
    np.savez(tmp_path / "w.npz", words=numbers)
    with zipfile.ZipFile(tmp_path / "w.npz", "a") as archive:
        archive.mkdir("folder")
    assert words(tmp_path / "w.npz") == expected
    torch.save({"words": torch.arange(3)}, tmp_path / "w.pt")
    assert words(tmp_path / "w.pt") == expected
    safetensors.save_file({"words": numbers}, tmp_path / "w.safetensors")
    assert words(tmp_path / "w.safetensors") == {"words": "i64 (3,): no floats"}
    tf.raw_ops.SaveV2(
        prefix=str(tmp_path / "w"),
        tensor_names=["words", "global_step"],
        shape_and_slices=["", ""],
        tensors=[tf.constant(numbers), tf.constant(np.int64(7))],
    )
    assert words(tmp_path / "w.index") == expected | {
        "global_step": "what an optimizer keeps (1 arrays)"
    }
    path = h5_of(h5py, tmp_path / "w.h5", {"a": {"a/words:0": numbers}})
    assert words(path) == {"a/a/words:0": "int64 (3,): no floats"}
    with h5py.File(tmp_path / "w.weights.h5", "w") as file:
        file["layers/a/vars/0"] = numbers
    assert words(tmp_path / "w.weights.h5") == {"layers/a/vars/0": "int64 (3,): no floats"}


def test_files_that_claim_too_much(h5py, onnx, tmp_path):
    with zipfile.ZipFile(tmp_path / "w.npz", "w") as archive:
        archive.writestr("rnn/gru_cell/gates/kernel.npy", npy((10**6, 10**6)))
    with pytest.raises(FileError, match=says("is damaged: rnn/gru_cell/gates/kernel.npy is said")):
        files.read(tmp_path / "w.npz")
    with h5py.File(tmp_path / "w.h5", "w") as file:  # no byte of it is stored
        file.attrs["layer_names"] = [b"lstm"]
        group = file.create_group("lstm")
        group.attrs["weight_names"] = [b"lstm/kernel:0", b"lstm/recurrent_kernel:0"]
        group.create_dataset("lstm/kernel:0", (10, 4 * 10**6), "f4", chunks=(1, 1000))
        group.create_dataset("lstm/recurrent_kernel:0", (10**6, 4 * 10**6), "f4", chunks=(1, 1000))
    with pytest.raises(
        FileError, match=says("lstm", "takes 16,000,160,000,000 bytes; the limit is")
    ):
        files.read(tmp_path / "w.h5")
    model = onnx_model(onnx, [onnx_node(onnx, hidden_size=4)], onnx_arrays("lstm")[1])
    model.graph.initializer[0].dims[:] = [1, 4 * 10**6, 10**6]
    with pytest.raises(FileError, match="the limit is 2,147,483,648"):
        files.read(save(onnx, model, tmp_path / "m.onnx"))


def test_the_limit_can_be_moved(tmp_path):
    own = layouts.export("lstm", "tf1", layer("x", "lstm").params)
    np.savez(tmp_path / "w.npz", **{f"rnn/lstm_cell/{key}": a for key, a in own.items()})
    with pytest.raises(FileError, match=says("takes 512 bytes; the limit is 500", "max_bytes=512")):
        files.read(tmp_path / "w.npz", max_bytes=500)
    assert len(files.read(tmp_path / "w.npz", max_bytes=512)) == 1


def test_an_archive_that_swells_is_not_unpacked(tmp_path):
    size = 40 * 2**20
    data = npy((size // 4,), data=bytes(size))
    with zipfile.ZipFile(tmp_path / "w.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("rnn/gru_cell/candidate/kernel.npy", data)
    assert (tmp_path / "w.npz").stat().st_size < 10**5
    with pytest.raises(FileError, match="the limit is 1,000,000"):
        files.read(tmp_path / "w.npz", max_bytes=10**6)


@pytest.mark.parametrize("kind", ["external link", "soft link", "external", "virtual"])
def test_hdf5_that_leads_elsewhere(h5py, tmp_path, kind):
    secret = tmp_path / "secret.h5"
    with h5py.File(secret, "w") as file:
        file["kernel"] = np.zeros((3, 16), np.float32)
    with h5py.File(tmp_path / "w.h5", "w") as file:
        file.attrs["layer_names"] = [b"lstm"]
        group = file.create_group("lstm")
        names = ["kernel", "recurrent_kernel"]
        group.attrs["weight_names"] = [name.encode() for name in names]
        group["recurrent_kernel"] = np.zeros((4, 16), np.float32)
        if kind == "external link":
            group["kernel"] = h5py.ExternalLink(str(secret), "/kernel")
        elif kind == "soft link":
            group["kernel"] = h5py.SoftLink("/lstm/recurrent_kernel")
        elif kind == "external":
            group.create_dataset("kernel", (3, 16), "f4", external=[(str(secret), 0, 192)])
        else:
            layout = h5py.VirtualLayout((3, 16), "f4")
            layout[:] = h5py.VirtualSource(secret, "kernel", (3, 16))
            group.create_virtual_dataset("kernel", layout)
    with pytest.raises(FileError, match=r"not followed|keeps its numbers in another file"):
        files.read(tmp_path / "w.h5")


@pytest.fixture(scope="module")
def whole(tf, keras, h5py, onnx, torch, safetensors, tmp_path_factory):
    """A whole file of each kind, and what is in it."""
    folder = tmp_path_factory.mktemp("whole")
    layers = [layer("a/fw/x", "lstm"), layer("a/bw/x", "lstm", reverse=True)]
    for to, name in [("npz", "w.npz"), ("keras", "w.keras"), ("keras", "w.h5"), ("tf1", "w"),
                     ("keras", "w.weights.h5"), ("torch", "w.pt"), ("torch", "w.safetensors"),
                     ("onnx", "w.onnx")]:  # fmt: skip
        files.write(folder / name, layers, to=to)
    return folder


DAMAGED = ["w.npz", "w.keras", "w.h5", "w.weights.h5", "w.pt", "w.safetensors", "w.onnx",
           "w.index", "w.data-00000-of-00001"]  # fmt: skip


@pytest.mark.parametrize("name", DAMAGED)
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_files_are_read_or_refused(whole, tmp_path, name, data):
    """Truncated or with other bytes: layers, or a FileError, and never anything else."""
    content = bytearray((whole / name).read_bytes())
    if data.draw(st.booleans(), "truncate"):
        del content[data.draw(st.integers(0, len(content) - 1), "at") :]
    else:
        places = st.lists(
            st.tuples(st.integers(0, len(content) - 1), st.integers(0, 255)), min_size=1, max_size=6
        )
        for place, value in data.draw(places, "bytes"):
            content[place] = value
    for other in whole.glob("w.[id]*"):
        shutil.copy(other, tmp_path)
    (tmp_path / name).write_bytes(content)
    try:
        found = files.read(tmp_path / name)
    except FileError as error:
        told = str(error)
        found = []
    else:
        told = str(tmp_path)
    assert str(tmp_path) in told
    assert "\n" not in told
    assert all(isinstance(one, Layer) for one in found)


def test_a_missing_library_is_named(tmp_path, monkeypatch):
    import importlib

    real = importlib.import_module

    def without(name, package=None):
        if name.split(".")[0] in ("h5py", "tensorflow", "onnx", "torch", "safetensors", "keras"):
            raise ImportError(name)
        return real(name, package)

    monkeypatch.setattr(importlib, "import_module", without)
    (tmp_path / "w.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(99))
    (tmp_path / "w.onnx").write_bytes(b"x")
    (tmp_path / "w.safetensors").write_bytes(struct.pack("<Q", 2) + b"{}")
    (tmp_path / "w.pt").write_bytes(b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19" + bytes(99))
    for path, module, extra in [
        ("w.h5", "h5py", "files"),
        ("w.onnx", "onnx", "files"),
        ("w.safetensors", "safetensors", "files"),
        ("w.pt", "PyTorch", "torch"),
    ]:
        with pytest.raises(ImportError, match=says(f"needs {module}", f"lstmbook[{extra}]")):
            files.read(tmp_path / path)
    with pytest.raises(ImportError, match=says("needs TensorFlow", "lstmbook[tf]")):
        files.read(FOLDER / "checkpoints" / "gru")
