"""The command line: what it prints, writes and returns; and the certificate."""

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import needs
import numpy as np
import pytest
from cases import params_of

import lstmbook
from lstmbook import CELLS, files, layouts, run
from lstmbook.cli import main
from lstmbook.files import Layer, certificate

CHECKPOINTS = Path(__file__).parent / "tf1" / "checkpoints"


def says(*parts):
    return "(?s)" + ".*".join(map(re.escape, parts))


def layer(name, cell, input_size=3, hidden=4, *, reverse=False, layout="lstmbook"):
    params = params_of(CELLS[cell], np.random.default_rng(7), input_size, hidden, np.float32)
    return Layer(name, cell, params, layout, reverse)


@pytest.fixture
def npz(tmp_path):
    """A file that needs no framework: two layers of ours."""
    layers = [layer("enc/a", "lstm"), layer("dec", "gru", 4, 2, reverse=True)]
    files.write(tmp_path / "w.npz", layers, to="npz")
    return tmp_path / "w.npz"


@pytest.fixture
def cli(capsys):
    def call(*arguments):
        code = main([str(argument) for argument in arguments])
        return code, *capsys.readouterr()

    return call


# info


def test_info_is_a_table(cli, npz):
    code, out, err = cli("info", npz)
    assert (code, err) == (0, "")
    assert out.splitlines()[2:] == [
        "layer  cell  input  hidden  direction  layout    dtype",
        "enc/a  lstm  3      4       forward    lstmbook  float32",
        "dec    gru   4      2       backward   lstmbook  float32",
    ]


def test_info_as_json(cli, npz):
    code, out, _ = cli("info", npz, "--json")
    told = json.loads(out)
    assert (code, told["ok"], told["format"], told["aside"]) == (0, True, "NumPy .npz", [])
    assert told["layers"][1] == {
        "name": "dec", "cell": "gru", "input_size": 4, "hidden_size": 2, "direction": "backward",
        "layout": "lstmbook", "dtype": "float32", "note": "", "assumed": [], "candidates": [],
        "reads": None, "between": "",
    }  # fmt: skip


def test_info_says_what_is_ambiguous_and_what_was_left_aside(cli, tmp_path):
    arrays = {"encoder/memory/kernel": np.zeros((14, 8)), "encoder/memory/bias": np.zeros(8)}
    np.savez(tmp_path / "w.npz", embedding=np.zeros((9, 2)), **arrays)
    code, out, _ = cli("info", tmp_path / "w.npz")
    assert code == 0
    assert re.search(
        says("encoder/memory  ambiguous", "--cell encoder/memory=lstm (or =none)"), out
    )
    assert re.search(says("left aside:", "embedding: (9, 2)"), out)
    code, out, _ = cli("info", tmp_path / "w.npz", "--cell", "encoder/memory=rnn")
    assert re.search(r"encoder/memory  rnn +6 +8 ", out)
    code, out, _ = cli("info", tmp_path / "w.npz", "--cell", "encoder/memory=none")
    assert re.search(says("no recurrent layer in it", "left aside, as asked for"), out)


@pytest.mark.tensorflow
def test_info_on_what_tensorflow_wrote(cli):
    code, out, err = cli("info", CHECKPOINTS / "bidirectional.index", "--forget-bias", "0.5")
    assert (code, err) == (0, "")
    assert re.search(says("bidirectional_rnn/fw/basic_lstm_cell", "forward", "tf1"), out)
    assert re.search(says("bidirectional_rnn/bw/basic_lstm_cell", "backward", "tf1"), out)
    assert (
        out.count("forget bias 0.5 added, as given; tanh and no clipping assumed") == 1
    )  # for both


# convert


def test_convert_ends_with_a_certificate(cli, npz, tmp_path):
    out_file = tmp_path / "copy.npz"
    code, out, err = cli("convert", npz, out_file)
    assert (code, err) == (0, "")
    assert re.search(
        says("enc/a -> enc/a (lstm): equal", "lstmbook itself", "max |Δ|: hs 0.0e+00"), out
    )
    assert re.search(says("with Python", "NumPy", "written:", "copy.npz", "files.read("), out)
    assert [one.name for one in files.read(out_file)] == ["enc/a", "dec"]


@pytest.mark.parametrize(
    ("to", "name", "package", "words"),
    [
        needs.param("onnxruntime", "onnx", "m.onnx", "onnxruntime", "ONNX Runtime"),
        needs.param("torch", "torch", "m.safetensors", "torch", "PyTorch"),
        needs.param("keras", "keras", "m.keras", "keras", "Keras"),
        needs.param("tensorflow", "tf1", "m.ckpt", "tensorflow", "TensorFlow's v1 cell"),
    ],
)
def test_convert_runs_the_frameworks_own_cells(cli, npz, tmp_path, to, name, package, words):
    code, out, _ = cli("convert", npz, "--to", to, tmp_path / name, "--layer", "enc/*", "--json")
    told = json.loads(out)
    assert (code, told["ok"], told["certificate"]["ok"]) == (0, True, True)
    [one] = told["certificate"]["layers"]
    assert one["ran"]["target"].startswith(words)
    assert one["ran"]["source"] == "lstmbook itself"
    assert set(one["max_abs_difference"]) == {"hs", "h", "c"}
    assert 0 < max(one["max_abs_difference"].values()) < 1e-6
    took_part = {package, "tensorflow"} if package == "keras" else {package}
    expected = {"Python", "NumPy", "lstmbook"} | took_part
    assert set(told["certificate"]["versions"]) == expected
    assert all(Path(path).exists() for path in told["written"])
    [back] = files.read(tmp_path / name)
    np.testing.assert_allclose(back.params.W_x, layer("", "lstm").params.W_x, rtol=0, atol=1e-6)


@pytest.mark.tensorflow
def test_convert_a_checkpoint_with_another_forget_bias(cli, tmp_path):
    path = tmp_path / "m.ckpt"
    options = ("--forget-bias", -0.5, "--out-forget-bias", 0.25)
    code, out, _ = cli("convert", CHECKPOINTS / "coupled_peephole", path, "--to", "tf1", *options)
    assert (code, out.count("TensorFlow's v1 cell")) == (0, 2)
    [one] = files.read(CHECKPOINTS / "coupled_peephole", forget_bias=-0.5)
    [two] = files.read(path, forget_bias=0.25)
    np.testing.assert_allclose(one.params.b, two.params.b, rtol=0, atol=1e-6)


@pytest.mark.tensorflow
def test_convert_a_checkpoint_whose_scopes_do_not_tell_the_cell(cli, tmp_path):
    given = ("--cell", "encoder/memory=lstm", "--to", "tf1")
    code, out, _ = cli("convert", CHECKPOINTS / "ambiguous", tmp_path / "m", *given)
    assert (code, out.count("equal")) == (0, 1)
    assert "to read it here: --cell encoder/memory=lstm\n" in out
    [two] = files.read(tmp_path / "m", cells={"encoder/memory": "lstm"})
    [one] = files.read(CHECKPOINTS / "ambiguous", cells={"encoder/memory": "lstm"})
    np.testing.assert_allclose(one.params.b, two.params.b, rtol=0, atol=1e-6)
    code, out, _ = cli("convert", tmp_path / "m", tmp_path / "k", *given, "--json")
    assert (code, json.loads(out)["cells"]) == (0, {"encoder/memory": "lstm"})


@pytest.mark.tensorflow
def test_convert_in_the_place_of_a_checkpoint_with_a_graph(cli, tmp_path):
    """What is certified lies there in the end: the old graph, of another forget bias, is gone."""
    for end in ("index", "meta", "data-00000-of-00001"):
        shutil.copy(CHECKPOINTS.parent / "more" / "1.12.3" / f"graph_lstm.{end}", tmp_path)
    path = tmp_path / "graph_lstm"
    [one] = files.read(path)
    code, _, err = cli("convert", path, path, "--to", "tf1")
    assert (code, "it is there already: graph_lstm.index, graph_lstm.meta" in err) == (2, True)
    assert err.endswith("; --force replaces or removes it\n")
    assert cli("convert", path, path, "--to", "tf1", "--force")[0] == 0
    [two] = files.read(path, forget_bias=1.0, cells={one.name: "lstm"})
    np.testing.assert_allclose(one.params.b, two.params.b, rtol=0, atol=1e-6)


def test_convert_says_what_it_assumes(cli, tmp_path):
    """nn.RNN with relu has the same names as with tanh: equal is as far as the file tells."""
    own = layouts.export("rnn", "torch", layer("x", "rnn").params, layer=0)
    np.savez(tmp_path / "w.npz", **{f"net.{key}": array for key, array in own.items()})
    assumed = "tanh assumed: nn.RNN with relu has the same names"
    code, out, _ = cli("convert", tmp_path / "w.npz", tmp_path / "a.npz")
    assert code == 0
    assert "net.l0 -> net.l0 (rnn): equal, as far as the file tells\n" in out
    assert f"\n    {assumed}\n" in out
    code, out, _ = cli("convert", tmp_path / "w.npz", tmp_path / "b.npz", "--json")
    told = json.loads(out)["certificate"]
    assert (code, told["ok"]) == (0, True)
    [one] = told["layers"]
    assert (one["ok"], one["verdict"], told["verdict"]) == (
        True, "equal, as far as the file tells", "equal, as far as the file tells"
    )  # fmt: skip
    assert (one["note"], one["assumed"]) == (assumed, [assumed])
    [info] = json.loads(cli("info", tmp_path / "w.npz", "--json")[1])["layers"]
    assert (info["note"], info["assumed"]) == (assumed, [assumed])
    given = ("--cell", "net.l0=rnn")
    code, out, _ = cli("convert", tmp_path / "w.npz", tmp_path / "c.npz", *given)
    assert (code, "(rnn): equal\n" in out, "\n    rnn, as given\n" in out) == (0, True, True)
    code, out, _ = cli("convert", tmp_path / "w.npz", tmp_path / "d.npz", *given, "--json")
    told = json.loads(out)["certificate"]
    assert (told["verdict"], told["layers"][0]["assumed"]) == ("equal", [])


def test_convert_says_that_a_forget_bias_is_assumed_or_given(cli, tmp_path):
    own = layouts.export("lstm", "tf1", layer("x", "lstm").params)
    np.savez(tmp_path / "w.npz", **{f"rnn/lstm_cell/{key}": array for key, array in own.items()})
    bias, file = "forget bias 1 added", tmp_path / "w.npz"
    out = cli("convert", file, tmp_path / "a.npz")[1]
    assert re.search(says("equal, as far", f"{bias}: the file does not hold it; tanh and"), out)
    out = cli("convert", file, tmp_path / "b.npz", "--forget-bias", 1)[1]
    assert re.search(says("equal, as far", f"{bias}, as given; tanh and no clipping assumed"), out)
    given = ("--forget-bias", 1, "--cell", "rnn/lstm_cell=lstm")
    out = cli("convert", file, tmp_path / "c.npz", *given)[1]
    assert re.search(says("(lstm): equal\n", f"lstm, as given; {bias}, as given"), out)


def test_convert_refuses_weights_of_old_keras_until_it_is_told(cli, h5py, tmp_path):
    path = tmp_path / "w.h5"
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"], file.attrs["keras_version"] = [b"enc"], b"2.1.4"
        own = layouts.export("lstm", "keras", layer("x", "lstm").params)
        file.create_group("enc").attrs["weight_names"] = [f"enc/{key}:0" for key in own]
        for key, array in own.items():
            file[f"enc/enc/{key}:0"] = array
    code, out, err = cli("convert", path, tmp_path / "a.npz")
    assert (code, out) == (1, "")
    assert re.search(
        says(
            "refused: enc: ambiguous: no configuration in the file, and Keras 2.1.4 took "
            "hard_sigmoid for the gates unless told otherwise",
            "(the JSON of model.to_json(), given by --config). Say which: --cell enc=lstm",
        ),
        err,
    )
    code, out, _ = cli("convert", path, tmp_path / "b.npz", "--cell", "enc=lstm")
    direction = "no configuration in the file: the forward direction assumed"
    assert (code, "equal, as far as the file tells\n" in out) == (0, True)
    assert f"\n    lstm, as given; {direction}\n" in out
    config = {"name": "enc", "units": 4, "activation": "tanh", "recurrent_activation": "sigmoid"}
    layers = [{"class_name": "LSTM", "config": config}]
    text = json.dumps({"class_name": "Sequential", "config": {"layers": layers}})
    (tmp_path / "m.json").write_text(text)
    code, out, _ = cli("convert", path, tmp_path / "c.npz", "--config", tmp_path / "m.json")
    assert (code, "(lstm): equal\n" in out) == (0, True)
    assert "\n    by the configuration in m.json\n" in out
    (tmp_path / "m.json").write_text(text.replace("sigmoid", "hard_sigmoid"))
    code, _, err = cli("convert", path, tmp_path / "d.npz", "--config", tmp_path / "m.json")
    assert (code, "LSTM with recurrent_activation='hard_sigmoid'" in err) == (1, True)
    (tmp_path / "m.json").write_text(text.replace("4", "5"))
    code, _, err = cli("info", path, "--config", tmp_path / "m.json")
    assert (code, "m.json: does not fit w.h5" in err) == (2, True)


def test_convert_refuses_and_writes_nothing(cli, npz, tmp_path):
    before = sorted(tmp_path.iterdir())
    code, out, err = cli("convert", npz, tmp_path / "m.safetensors")
    assert (code, out) == (1, "")
    assert re.search(says("refused: dec: layout 'torch' cannot hold", "nearest there is"), err)
    code, out, err = cli("convert", npz, tmp_path / "m.safetensors", "--json")
    assert json.loads(out)["ok"] is False
    assert sorted(tmp_path.iterdir()) == before


def test_convert_refuses_what_is_over_the_tolerance(cli, npz, tmp_path, monkeypatch):
    """As if the file did not hold what it should."""
    real = files.read
    wrong = lambda path, **_: [  # noqa: E731
        one._replace(params=one.params._replace(b=one.params.b + np.float32(1e-3)))
        for one in real(path)
    ]
    monkeypatch.setattr(sys.modules["lstmbook.files.convert"], "read", wrong)
    code, out, _ = cli("convert", npz, tmp_path / "copy.npz")
    assert code == 1
    assert re.search(says("(lstm): NOT EQUAL", "refused: over the tolerance of 1e-05"), out)
    code, out, _ = cli("convert", npz, tmp_path / "copy.npz", "--json")
    told = json.loads(out)
    assert (code, told["ok"], told["written"]) == (1, False, [])
    assert not (tmp_path / "copy.npz").exists()
    assert cli("convert", npz, tmp_path / "copy.npz", "--tolerance", "0.1")[0] == 0


def test_convert_misses_no_layer_in_silence(cli, tmp_path):
    own = layouts.export("gru", "tf1", layer("x", "gru").params)
    arrays = {f"rnn/gru_cell/{key}": array for key, array in own.items()}
    arrays |= {"memory/kernel": np.zeros((14, 8)), "memory/bias": np.zeros(8)}
    np.savez(tmp_path / "w.npz", **arrays)
    code, _, err = cli("convert", tmp_path / "w.npz", tmp_path / "out.npz")
    assert code == 1
    assert re.search(says("memory: ambiguous", "(--layer chooses the others)"), err)
    code, _, err = cli("convert", tmp_path / "w.npz", tmp_path / "out.npz", "--layer", "rnn/*")
    assert code == 0
    code, _, err = cli("convert", tmp_path / "w.npz", tmp_path / "o.npz", "--layer", "lstm")
    assert code == 2
    assert "--layer lstm: no such layer; in the file: rnn/gru_cell, memory" in err
    np.savez(tmp_path / "v.npz", a=np.zeros(3))
    assert "has no recurrent layer" in cli("convert", tmp_path / "v.npz", tmp_path / "o.npz")[2]


def test_convert_overwrites_only_when_forced(cli, npz, tmp_path):
    (tmp_path / "out.npz").write_text("mine")
    code, _, err = cli("convert", npz, tmp_path / "out.npz")
    assert code == 2
    assert "is there already; --force replaces it" in err
    assert (tmp_path / "out.npz").read_text() == "mine"
    assert cli("convert", npz, tmp_path / "out.npz", "--force")[0] == 0
    assert "its ending says no kind; --to keras|torch" in cli("convert", npz, tmp_path / "o")[2]


def test_messages_name_options_not_arguments(cli, npz, tmp_path):
    own = layouts.export("lstm", "tf1", layer("x", "lstm").params)
    path = tmp_path / "t.npz"
    np.savez(path, **{f"rnn/lstm_cell/{key}": array for key, array in own.items()})
    for arguments, words in [
        (("info", path, "--max-bytes", 500), "is to be trusted, --max-bytes 512 reads it"),
        (("info", path, "--cell", "x=gru"), f"{path}: --cell names x; the layers in the file"),
        (("info", path, "--config", npz), "; --config is for Keras files of weights alone"),
        (("convert", path, tmp_path / "a", "--to", "onnx"), "a: --to onnx writes files that end"),
        (("convert", path, npz), "is there already; --force replaces it"),
    ]:
        code, _, err = cli(*arguments)
        assert (code, words in err) == (2, True), err


# The certificate


@pytest.mark.parametrize("cell", CELLS)
def test_a_certificate_sees_a_small_change(cell):
    one = layer("a", cell)
    assert certificate.certify([one], [one]).ok
    for field, array in one.params._asdict().items():
        changed = array.copy()
        changed.flat[-1] += 1e-3
        other = one._replace(params=one.params._replace(**{field: changed}))
        assert not certificate.certify([one], [other]).ok, field


def test_what_a_certificate_runs_on():
    xs, state, lengths = certificate._inputs(layer("a", "lstm"), 0, np.float32)
    assert sorted(lengths) == [0, 3, 6, 7]
    assert xs.shape == (4, 7, 3)
    assert all(np.abs(part).min() > 0 for part in state)


def test_a_certificate_pairs_by_what_layers_compute():
    layers = [layer(name, "lstm") for name in "abc"]
    for k, one in enumerate(layers):
        one.params.b[:] += k
    found = certificate.certify(layers, layers[::-1])
    assert found.ok
    assert [(row.source, row.target) for row in found] == [("a", "a"), ("b", "b"), ("c", "c")]
    assert (found.verdict, found.to_dict()["verdict"]) == ("equal", "equal")
    found = certificate.certify([layers[0], layers[1]._replace(assumed=("tanh",))], layers[:2])
    assert [row.verdict for row in found] == ["equal", "equal, as far as the file tells"]
    assert (found.ok, found.verdict) == (True, "equal, as far as the file tells")
    turned = layers[0]._replace(reverse=True)
    found = certificate.certify(layers[:1], [turned])
    assert (found.ok, found.verdict) == (False, "NOT EQUAL")
    assert "one end runs backward, the other forward" in str(found)
    assert found.to_dict()["layers"][0]["direction_kept"] is False
    with pytest.raises(ValueError, match="the source has 3 layers and the target 1"):
        certificate.certify(layers, layers[:1])
    with pytest.raises(ValueError, match="no layer of the target has the sizes of a"):
        certificate.certify(layers[:1], [layer("a", "lstm", 5, 4)])


@pytest.mark.tensorflow
def test_a_certificate_says_what_ran(monkeypatch):
    one = layer("a", "gru_reset_after", layout="tf1")
    [row] = certificate.certify([one], [one])
    assert row.engines[0] == (
        "lstmbook itself (TensorFlow's v1 cell does not compute gru_reset_after here)"
    )
    real = certificate.importlib.import_module

    def without(name, package=None):
        if "live" in name:
            raise ImportError(name)
        return real(name, package)

    monkeypatch.setattr(certificate.importlib, "import_module", without)
    [row] = certificate.certify([one._replace(layout="onnx")], [one])
    assert row.engines[0] == "lstmbook itself (onnxruntime is not installed)"


# detect and verify


def test_detect(cli, tmp_path):
    one = layer("x", "lstm")
    xs = np.random.default_rng(0).normal(size=(2, 5, 3)).astype(np.float32)
    stored = layouts.export("lstm", "tf1", one.params)
    pair = {"x": xs, "y": run("lstm", one.params, xs)[0]}
    np.savez(tmp_path / "w.npz", k=stored["kernel"], b=stored["bias"], **pair)
    code, out, err = cli("detect", tmp_path / "w.npz")
    assert (code, err) == (0, "")
    assert "tf1" in out
    code, out, _ = cli("detect", tmp_path / "w.npz", "--json", "--forget-bias", 1, "--cell", "lstm")
    assert (code, json.loads(out)["ok"]) == (0, True)
    code, out, _ = cli("detect", tmp_path / "w.npz", "--cell", "rnn")
    assert code == 1
    np.savez(tmp_path / "v.npz", k=stored["kernel"])
    code, _, err = cli("detect", tmp_path / "v.npz")
    assert code == 2
    assert "has no array 'x'" in err


def test_verify(cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(
        "from lstmbook import lstm\n"
        "def right(params, x, state):\n    return lstm.step(params, x, state)\n"
        "def wrong(params, x, state):\n    h, s = lstm.step(params, x, state)\n    return s.c, s\n"
    )
    code, out, _ = cli("verify", "lstm", "--python", "mine:right")
    assert code == 0
    code, out, _ = cli("verify", "lstm", "--python", "mine:wrong", "--json")
    assert (code, json.loads(out)["ok"]) == (1, False)
    code, _, err = cli("verify", "lstm", "--results", "none.json")
    assert code == 2
    assert "none.json" in err


def test_convert_in_python(npz, tmp_path):
    """The command line is words around it."""
    done = lstmbook.convert(npz, tmp_path / "copy.npz", layers=["enc/*"])
    assert (done.ok, done.to, done.written) == (True, "npz", (tmp_path / "copy.npz",))
    assert "enc/a -> enc/a (lstm): equal" in str(done.certificate)
    assert [one.name for one in files.read(tmp_path / "copy.npz")] == ["enc/a"]
    with pytest.raises(ValueError, match="its ending says no kind; to=keras"):
        lstmbook.convert(npz, tmp_path / "copy")
    with pytest.raises(ValueError, match="layers='none': no such layer; in the file: enc/a, dec"):
        lstmbook.convert(npz, tmp_path / "two.npz", layers=["none"])
    with pytest.raises(files.FileError, match="overwrite=True"):
        lstmbook.convert(npz, tmp_path / "copy.npz")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy.npz", npz.name]


# What README shows


def test_readme(cli, tmp_path, monkeypatch, keras, h5py, onnxruntime):
    text = (CHECKPOINTS.parents[2] / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```console\n(.*?)```", text, re.DOTALL)
    assert len(blocks) == 2
    monkeypatch.chdir(tmp_path)
    for end in ("index", "data-00000-of-00001"):
        shutil.copy(CHECKPOINTS / f"bidirectional.{end}", f"model.ckpt.{end}")
    for command, shown in re.findall(r"\$ lstmbook (.*)\n((?:(?!\$).*\n)*)", "".join(blocks)):
        code, out, err = cli(*shlex.split(command))
        assert (code, err) == (0, "")
        assert not shown or out == shown
    model = keras.models.load_model("encoder.keras")
    assert [type(layer).__name__ for layer in model.layers[1:]] == ["Bidirectional"]
    assert Path("backward.onnx").exists()


# Being a good program


def test_help_has_examples_and_exit_codes(capsys):
    for command in ((), ("info",), ("convert",), ("detect",), ("verify",)):
        with pytest.raises(SystemExit) as done:
            main([*command, "--help"])
        assert done.value.code == 0
        told = capsys.readouterr().out
        assert "examples:" in told
        assert re.search(says("exit codes:", "0  all is well", "1  refused", "2  wrong"), told)


@pytest.mark.parametrize(
    "arguments",
    [[], ["melt"], ["info"], ["convert", "a"], ["info", "f", "--forget-bias", "nan"],
     ["info", "f", "--cell", "lstm"], ["verify", "lstm"], ["convert", "a", "b", "--to", "jax"]],
)  # fmt: skip
def test_wrong_usage(arguments, capsys):
    with pytest.raises(SystemExit) as done:
        main(arguments)
    assert done.value.code == 2
    assert capsys.readouterr().err.startswith("usage: lstmbook")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("none.npz", None),
        ("w.h5", b"\x89PNG\r\n\x1a\n123"),
        ("w.npz", b""),
        needs.param("onnx", "w.onnx", b"\0\1\2"),
    ],
)
def test_bad_files(cli, tmp_path, name, content):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    code, out, err = cli("info", tmp_path / name)
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert err.startswith(f"lstmbook info: error: {tmp_path / name}: ")
    code, out, _ = cli("info", tmp_path / name, "--json")
    assert json.loads(out)["ok"] is False


def program(*arguments, **options):
    command = [sys.executable, "-m", "lstmbook", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)


def test_as_a_module_and_quiet(npz):
    done = program("info", npz)
    assert (done.returncode, done.stderr) == (0, "")
    assert "enc/a  lstm" in done.stdout
    done = program("--version")
    assert done.stdout == f"lstmbook {lstmbook.__version__}\n"


def test_a_reader_that_goes_away_is_no_trouble(npz):
    command = f"{sys.executable} -m lstmbook info {npz} | true"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_being_stopped_is_no_trouble(cli, npz, monkeypatch):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(files, "contents", stop)
    assert cli("info", npz) == (130, "", "")


def test_the_module_imports_no_framework():
    code = (
        "import sys, lstmbook.cli; "
        "print(sorted({m.split('.')[0] for m in sys.modules} & {'tensorflow', 'keras', 'torch', "
        "'onnx', 'onnxruntime', 'h5py', 'safetensors', 'jax'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.tensorflow
def test_tensorflow_says_nothing_on_the_way(tmp_path):
    shutil.copy(CHECKPOINTS / "gru.index", tmp_path)
    shutil.copy(CHECKPOINTS / "gru.data-00000-of-00001", tmp_path)
    done = program("info", tmp_path / "gru")
    assert (done.returncode, done.stderr) == (0, "")
    assert "rnn/gru_cell  gru" in done.stdout
