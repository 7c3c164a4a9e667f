"""SavedModels and frozen graphs: weights that lie beside a graph, or in it."""

import json

import numpy as np
import pytest

from lstmbook import convert, files
from lstmbook.files import FileError
from lstmbook.live.tf1 import rnn_cell

XS = np.random.default_rng(8).normal(size=(4, 7, 3)).astype(np.float32)


# Keras 2: numbers for names, and the configuration beside the graph


def keras_2_model(tf, folder, layers, config):
    """A SavedModel as Keras 2 wrote it: variables by number, the configuration in a file."""
    rng = np.random.default_rng(2)
    module = tf.Module()
    module.variables_ = [
        tf.Variable((rng.normal(size=shape) * 0.5).astype(np.float32), name=f"{layer}/{name}")
        for layer, shapes in layers.items()
        for name, shape in shapes.items()
    ]
    # A list of variables is called "variables" there
    checkpointed = tf.train.Checkpoint(variables=module.variables_)
    checkpointed.write(str(folder / "variables" / "variables"))
    (folder / "saved_model.pb").write_bytes(b"")
    from tensorflow.python.keras.protobuf import saved_metadata_pb2

    metadata = saved_metadata_pb2.SavedMetadata()
    for path, own in config.items():
        node = metadata.nodes.add(node_id=len(metadata.nodes), node_path=path)
        node.metadata = json.dumps(own)
    (folder / "keras_metadata.pb").write_bytes(metadata.SerializeToString())
    return {v.name.removesuffix(":0"): v.numpy() for v in module.variables_}


def lstm(name, units, **options):
    own = {"name": name, "units": units, "return_sequences": True, "use_bias": True}
    own |= {"activation": "tanh", "recurrent_activation": "sigmoid"} | options
    return {"class_name": "LSTM", "config": own}


def arrays(inputs, units):
    sizes = {"kernel": (inputs, 4 * units), "recurrent_kernel": (units, 4 * units)}
    return sizes | {"bias": (4 * units,)}


TWO = {"low/lstm_cell": arrays(3, 4), "top/lstm_cell_1": arrays(4, 2), "head": {"kernel": (2, 1)}}


def sequential(*layers):
    return {"class_name": "Sequential", "config": {"name": "m", "layers": list(layers)}}


def test_keras_2(tf, tmp_path):
    model = sequential(lstm("low", 4), lstm("top", 2))
    kept = keras_2_model(tf, tmp_path, TWO, {"root": model, "root.layer-0": lstm("low", 4)})
    low, top = files.read(tmp_path)
    assert [(x.name, x.cell, x.reads, x.assumed) for x in (low, top)] == [
        ("low", "lstm", (), ()), ("top", "lstm", ("low",), ())
    ]  # fmt: skip
    np.testing.assert_array_equal(
        np.hstack(low.params.W_x[[0, 1]]), kept["low/lstm_cell/kernel"][:, :8]
    )
    assert [x.name for x in files.contents(tmp_path).aside] == ["head"]
    assert files.read(tmp_path / "saved_model.pb")[1].name == "top"


def test_keras_2_says_what_no_cell_has(tf, tmp_path):
    model = sequential(lstm("low", 4, activation="relu"), lstm("top", 2, go_backwards=True))
    keras_2_model(tf, tmp_path, TWO, {"root": model})
    low, top = files.read(tmp_path)
    assert low.cell is None
    assert "LSTM with activation='relu'" in low.note
    assert top.reverse


def test_a_model_of_a_class_of_ones_own_has_its_layers(tf, tmp_path):
    own = {"root": {"class_name": "Mine"}, "root.a": lstm("low", 4), "root.b": lstm("top", 2)}
    keras_2_model(tf, tmp_path, TWO, own)
    found = files.read(tmp_path)
    assert [(x.cell, x.assumed) for x in found] == [("lstm", ())] * 2
    assert [x.reads for x in found] == [None, None]  # only the class knows


def test_a_model_without_its_configuration(tf, tmp_path):
    keras_2_model(tf, tmp_path, TWO, {"root": sequential(lstm("low", 4))})
    (tmp_path / "keras_metadata.pb").unlink()
    found = files.read(tmp_path)
    assert [x.name for x in found] == ["low/lstm_cell", "top/lstm_cell_1"]
    assert all("(the default of TensorFlow since 2.2)" in x.assumed[0] for x in found)


def test_names_that_say_nothing_stay_numbers(tf, tmp_path):
    """Two layers whose variables have the same names cannot be told apart by them."""
    module = tf.train.Checkpoint(
        variables=[tf.Variable(np.zeros(s, np.float32), name=f"rnn/lstm_cell/{n}")
                   for _ in range(2) for n, s in arrays(3, 4).items()]
    )  # fmt: skip
    module.write(str(tmp_path / "variables" / "variables"))
    assert files.read(tmp_path) == []


# Frozen graphs


def frozen(tf, path, build):
    """A frozen graph as TensorFlow 1 wrote it, and what it computes."""
    from tensorflow.python.framework import convert_to_constants

    v1 = tf.compat.v1
    v1.disable_control_flow_v2()
    try:
        with tf.Graph().as_default() as graph, v1.Session() as session:
            value = tf.identity(build(), name="out")
            session.run(v1.global_variables_initializer())
            rng = np.random.default_rng(0)
            for variable in v1.global_variables():
                variable.load((rng.normal(size=variable.shape) * 0.6).astype(np.float32), session)
            definition = convert_to_constants.convert_variables_to_constants_from_session_graph(
                session, graph.as_graph_def(), ["out"]
            )
            path.write_bytes(definition.SerializeToString())
            return session.run(value)
    finally:
        v1.enable_control_flow_v2()


def stacked(tf):
    cells = [rnn_cell.BasicLSTMCell(4, forget_bias=0.3), rnn_cell.GRUCell(2)]
    return tf.compat.v1.nn.dynamic_rnn(
        rnn_cell.MultiRNNCell(cells), tf.constant(XS), dtype=tf.float32
    )[0]


def test_a_frozen_graph(tf, onnx, onnxruntime, tmp_path):
    hs = frozen(tf, tmp_path / "m.pb", lambda: stacked(tf))
    low, top = files.read(tmp_path / "m.pb")
    assert (low.cell, low.note) == ("lstm", "forget bias 0.3 added, as the graph in m.pb says")
    assert (top.cell, top.reads) == ("gru", (low.name,))
    assert convert(tmp_path / "m.pb", tmp_path / "m.onnx").certificate.verdict == "equal"
    session = onnxruntime.InferenceSession(str(tmp_path / "m.onnx"))
    feeds = {"X": XS.swapaxes(0, 1), "sequence_lens": np.full(4, 7, np.int32)}
    for value in session.get_inputs():
        if value.name.startswith("initial"):
            feeds[value.name] = np.zeros((1, 4, value.shape[2]), np.float32)
    [ours] = session.run(["Y"], feeds)
    np.testing.assert_allclose(ours.swapaxes(0, 1), hs, rtol=0, atol=1e-6)


def test_what_is_no_graph(tf, tmp_path):
    (tmp_path / "m.pb").write_bytes(b"not a graph at all")
    with pytest.raises(FileError, match="is no TensorFlow graph"):
        files.read(tmp_path / "m.pb")
    with pytest.raises(FileError, match="the graph, once it is parsed, takes"):
        files.read(tmp_path / "m.pb", max_bytes=4)
