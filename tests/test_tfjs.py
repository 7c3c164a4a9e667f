"""Layers models of TensorFlow.js, as it wrote them, and what it computed."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from lstmbook import convert, files, run
from lstmbook.files import FileError

FOLDER = Path(__file__).parent / "tfjs"


@pytest.fixture
def model(tmp_path):
    for path in FOLDER.glob("*.*"):
        shutil.copy(path, tmp_path)
    return tmp_path / "sigmoid.json"


def outputs(layer, xs):
    turn = slice(None, None, -1 if layer.reverse else 1)
    return run(layer.cell, layer.params, xs[:, turn])[0][:, turn]


def test_a_model(h5py, model):
    low, forward, backward, top = files.read(model)
    assert [(x.name, x.cell, x.reads, x.between, x.assumed) for x in (low, forward, top)] == [
        ("low", "gru", (), "", ()),
        ("both/forward_lstm_LSTM1", "lstm", ("low",), "", ()),
        ("top", "rnn", (), "Dense 'head' of Bidirectional 'both'", ()),
    ]
    recorded = json.loads(model.with_suffix(".expected.json").read_text())
    xs, hs = (np.array(recorded[key], np.float32) for key in "xy")
    xs = outputs(low, xs)
    xs = np.concatenate([outputs(half, xs) for half in (forward, backward)], axis=-1)
    entries = json.loads(model.read_text())["weightsManifest"][0]["weights"]
    numbers, at = np.fromfile(model.with_suffix(".bin"), "<f4"), 0
    head = {}
    for entry in entries:
        size = int(np.prod(entry["shape"]))
        head[entry["name"]] = numbers[at : at + size].reshape(entry["shape"])
        at += size
    xs = xs @ head["head/kernel"] + head["head/bias"]
    np.testing.assert_allclose(outputs(top, xs), hs, rtol=0, atol=1e-6)
    assert [x.name for x in files.contents(model).aside] == ["head"]


def test_its_default_gates_are_hard(h5py, model):
    [one] = files.read(model.with_name("default.json"))
    assert one.cell is None
    assert "LSTM with recurrent_activation='hard_sigmoid'" in one.note


def test_it_converts(keras, h5py, onnx, onnxruntime, model, tmp_path):
    done = convert(model, tmp_path / "m.onnx")
    assert done.certificate.verdict == "equal"
    assert [row.reads[1] for row in done.certificate] == [(), ("low",), ("low",), ()]


def test_quantised_weights(h5py, model):
    found = json.loads(model.read_text())
    [group] = found["weightsManifest"]
    numbers = np.fromfile(model.with_suffix(".bin"), "<f4")
    low, scale = numbers.min(), (numbers.max() - numbers.min()) / 65535
    packed = np.rint((numbers - low) / scale).astype("<u2")
    packed.tofile(model.with_suffix(".bin"))
    for entry in group["weights"]:
        entry["quantization"] = {"dtype": "uint16", "scale": float(scale), "min": float(low)}
    right = files.read(FOLDER / "sigmoid.json")
    model.write_text(json.dumps(found))
    for one, other in zip(files.read(model), right, strict=True):
        for ours, theirs in zip(one.params, other.params, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=scale)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda m: m.pop("weightsManifest"), "is no model of TensorFlow.js: it has no weights"),
        (lambda m: m.update(modelTopology={"node": []}), "is a graph model of TensorFlow.js"),
        (lambda m: m["weightsManifest"][0].update(paths=["../x.bin"]), "is no file beside it"),
        (lambda m: m["weightsManifest"][0].update(paths=["no.bin"]), "is no file beside it"),
        (lambda m: m["weightsManifest"][0].update(paths=["default.bin"]), "too short for low/r"),
        (lambda m: m["weightsManifest"][0]["weights"][0].update(dtype="string"), "type string"),
    ],
)
def test_what_is_no_model(h5py, model, change, why):
    (model.parent.parent / "x.bin").write_bytes(b"")
    found = json.loads(model.read_text())
    change(found)
    model.write_text(json.dumps(found))
    with pytest.raises(FileError, match=why):
        files.read(model)
