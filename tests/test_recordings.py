"""The package against recordings of the real TensorFlow 1.12.3 (tests/tf1)."""

import json
from pathlib import Path

import numpy as np
from collected import each

from lstmbook import CELLS, layouts, run

FOLDER = Path(__file__).parent / "tf1" / "vectors"
INDEX = json.loads((FOLDER / "index.json").read_text())
CASES = {entry["file"].removesuffix(".npz"): entry for entry in INDEX["cases"]}
ATOL = {"float32": 1e-6, "float64": 1e-12}


def recorded(name):
    """What was recorded: weights, xs, lengths, initial state, hs, final state."""
    with np.load(FOLDER / CASES[name]["file"], allow_pickle=False) as file:
        arrays = dict(file)

    def below(scope):
        cut = len(scope)
        return {key[cut:]: value for key, value in arrays.items() if key.startswith(scope)}

    return arrays, below


def loaded(name):
    """Cell, Params and arguments of `run` for a recording, and what TensorFlow answered."""
    entry = CASES[name]
    arrays, below = recorded(name)
    cell, forget_bias = CELLS[entry["cell"]], entry["forget_bias"]
    bias = {} if forget_bias is None else {"forget_bias": forget_bias}
    params = layouts.load(cell, "tf1", below("weights/"), **bias)
    one_step = entry["one_step"]
    xs, hs = arrays["xs"], arrays["hs"]
    if one_step:
        xs, hs = xs[:, None], hs[:, None]
    state = cell.State(**below("state/")) if below("state/") else None
    options = {
        "lengths": arrays.get("lengths"),
        "time_major": bool(entry["time_major"]) and not one_step,
    }
    return cell, params, xs, state, options, hs, cell.State(**below("final/"))


def test_the_recordings_are_those_of_tensorflow_1_12_3():
    assert INDEX["tensorflow"] == "1.12.3"
    assert {entry["cell"] for entry in CASES.values()} == set(CELLS) - {"gru_reset_after"}
    assert {entry["dtype"] for entry in CASES.values()} == {"float32", "float64"}
    assert sorted(CASES) == sorted(path.stem for path in FOLDER.glob("*.npz"))


@each("name", CASES)
def test_run_is_what_tensorflow_recorded(name):
    cell, params, xs, state, options, hs, final = loaded(name)
    atol = ATOL[CASES[name]["dtype"]]
    ours, ours_final = run(cell, params, xs, state, **options)
    assert ours.dtype == hs.dtype
    np.testing.assert_allclose(ours, hs, rtol=0, atol=atol)
    for part, expected in zip(ours_final, final, strict=True):
        np.testing.assert_allclose(part, expected, rtol=0, atol=atol)


@each("name", CASES)
def test_export_gives_back_what_was_recorded(name):
    cell, params, *_ = loaded(name)
    _, below = recorded(name)
    bias = CASES[name]["forget_bias"]
    arrays = layouts.export(cell, "tf1", params, forget_bias=1.0 if bias is None else bias)
    assert arrays.keys() == below("weights/").keys()
    for key, array in below("weights/").items():
        np.testing.assert_allclose(arrays[key], array, rtol=0, atol=1e-6, err_msg=key)


@each("name", [n for n in CASES if CASES[n]["forget_bias"] is not None])
def test_a_forget_bias_off_by_a_tenth_is_seen(name):
    cell, params, xs, state, options, hs, _ = loaded(name)
    wrong = params.b.copy()
    wrong[cell.GATES.index("f")] += 0.1
    ours, _ = run(cell, params._replace(b=wrong), xs, state, **options)
    assert np.abs(ours - hs).max() > 1e-4
