"""The golden vectors, `verify`, its command protocol and the readers in three languages."""

import doctest
import importlib.util
import io
import json
import os
import re
import runpy
import shutil
import subprocess
import sys
import time
import zipfile
from functools import cache, partial
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import needs
import numpy as np
import pytest
from collected import each
from hypothesis import given, settings
from hypothesis import strategies as st
from test_gradients import complex_step, loss_of

import lstmbook
from lstmbook import CELLS, backprop, layouts, run
from lstmbook.golden import Command, python_function, request, vectors, verify, verify_named
from lstmbook.golden.answers import SilentError
from lstmbook.golden.functions import answer
from lstmbook.wrong_cells import SLIPS, assemble
from lstmbook.wrong_cells.around import AROUND

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent
PAGE = HERE.parent / "book" / "vectors.md"
READERS = vectors.FOLDER.parent / "readers"
each_cell = pytest.mark.parametrize("cell", CELLS)


def load_maker():
    spec = importlib.util.spec_from_file_location("make_vectors", HERE / "vectors" / "make.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


maker = load_maker()


@cache
def made():
    return {cell: maker.make(cell) for cell in CELLS}


@cache
def wrong_cells():
    return list(maker.wrong_cells({cell: vectors.read(cell) for cell in CELLS}))


def named(cell, name):
    (vector,) = vectors.read(cell, [name])
    return vector


def run_of(cell):
    return lambda params, xs, state, lengths: run(cell, params, xs, state, lengths=lengths)


def back_of(cell):
    def function(params, xs, d_hs, d_state, state, lengths):
        return backprop(cell, params, xs, d_hs, d_state, state=state, lengths=lengths)

    return function


# The data


@each_cell
def test_the_files_are_what_the_maker_makes(cell):
    stored = vectors.read(cell)
    assert [v.name for v in stored] == [v.name for v in made()[cell]]
    for ours, theirs in zip(stored, made()[cell], strict=True):
        assert ours[:5] == theirs[:5]
        assert list(ours.given) == list(theirs.given)
        assert list(ours.expected) == list(theirs.expected)
        for name, array in theirs.given.items():
            np.testing.assert_array_equal(ours.given[name], array)
        for name, array in theirs.expected.items():  # the last digit is the machine's
            np.testing.assert_allclose(ours.expected[name], array, rtol=1e-14, atol=3e-14)


@each_cell
def test_npz_has_the_same_numbers(cell):
    with np.load(vectors.path(cell, "npz"), allow_pickle=False) as file:
        arrays = dict(file)
    stored = vectors.read(cell)
    wanted = {f"{v.name}/{k}": a for v in stored for k, a in (v.given | v.expected).items()}
    assert arrays.keys() == wanted.keys()
    for name, array in wanted.items():
        assert arrays[name].dtype == array.dtype == ("i8" if name.endswith("lengths") else "f8")
        np.testing.assert_array_equal(arrays[name], array)


@each_cell
def test_what_stands_in_the_json(cell):
    content = json.loads(vectors.path(cell).read_text(encoding="utf-8"))
    assert (content["format"], content["version"]) == (vectors.FORMAT, vectors.VERSION)
    assert content["cell"] == cell
    assert content["gates"] == CELLS[cell].GATES
    assert "sum(d_hs * hs)" in content["loss"]
    for vector in content["vectors"]:
        assert set(vector) == {"name", "purpose", "source", "tolerance", "given", "expected"}
        assert set(vector["given"]["params"]) == set(CELLS[cell].Params._fields)
        assert set(vector["expected"]["final"]) == set(CELLS[cell].State._fields)
        assert re.fullmatch(r"[A-Z0-9].{40,}\.", vector["purpose"])


def test_they_are_small():
    files = [vectors.path(cell, kind) for cell in CELLS for kind in ("json", "npz")]
    assert sum(file.stat().st_size for file in files) < 400_000
    assert {file.name for file in vectors.FOLDER.iterdir()} == {file.name for file in files}


@each_cell
def test_float32_holds_what_goes_in(cell):
    for vector in vectors.read(cell):
        for name, array in vector.given.items():
            np.testing.assert_array_equal(array, array.astype(np.float32), err_msg=name)


@each_cell
def test_they_can_see(cell):
    """Sizes differ, biases and states are not zero, lengths are unequal with a 0."""
    for name in ("one_step", "sequence"):
        vector = named(cell, name)
        batch, steps, inputs = vector.given["xs"].shape
        assert len({batch, steps, inputs, vector.state.h.shape[1]}) == 4
        assert (vector.params.b != 0).all()
        assert all(part.any(axis=1).all() for part in vector.state)
    assert sorted(named(cell, "sequence").given["lengths"]) == [0, 3, 5]
    assert {vector.source.split(":")[0] for vector in vectors.read(cell)} == {
        "scalar oracle, float64",
        *(["recorded"] if cell != "gru_reset_after" else []),
    }
    if "c" in CELLS[cell].State._fields:
        c = named(cell, "large_c").expected["final/c"]
        assert np.abs(c).max() > 30


@each_cell
def test_gates_make_the_step_of_the_oracle(cell):
    vector = named(cell, "one_step")
    at = {k: vector.expected[f"gates/{k}"] for k in CELLS[cell].GATES}
    hs = vector.expected["hs"][:, 0]
    if "o" in at:
        i = at.get("i", 1 - at["f"])
        c = at["f"] * vector.state.c + i * at["g"]
        np.testing.assert_allclose(c, vector.expected["final/c"], rtol=0, atol=1e-13)
        np.testing.assert_allclose(at["o"] * np.tanh(c), hs, rtol=0, atol=1e-13)
    elif "z" in at:
        h = at["z"] * vector.state.h + (1 - at["z"]) * at["n"]
        np.testing.assert_allclose(h, hs, rtol=0, atol=1e-13)
    else:
        np.testing.assert_allclose(at["n"], hs, rtol=0, atol=1e-13)


@each_cell
def test_gradients_are_complex_steps(cell):
    checked = 0
    for vector in vectors.read(cell):
        if not vector.has_gradients:
            continue
        d_final = vector.below("d_final", CELLS[cell].State)
        loss = loss_of(cell, vector.given["d_hs"], d_final, lengths=vector.given["lengths"])
        d_params, d_xs, d_state = complex_step(
            loss, vector.params, vector.given["xs"], vector.state
        )
        right = {f"d_params/{k}": a for k, a in d_params._asdict().items()} | {"d_xs": d_xs}
        right |= {f"d_state/{k}": a for k, a in d_state._asdict().items()}
        for name, array in right.items():
            np.testing.assert_allclose(vector.expected[name], array, rtol=0, atol=1e-12)
        checked += 1
    assert checked == 3 + (cell != "gru_reset_after")


def test_reading():
    assert vectors.read(lstmbook.gru) is vectors.read("gru")
    assert [v.name for v in vectors.read("gru", ["long", "square", "long"])] == ["long", "square"]
    assert vectors.read("gru", "long")[0].name == "long"
    with pytest.raises(ValueError, match="there is no vector 'short' of gru; the vectors are one"):
        vectors.read("gru", ["long", "short"])
    with pytest.raises(ValueError, match="no vector; the vectors are"):
        vectors.read("gru", [])
    with pytest.raises(ValueError, match="there is no kind 'csv' of vectors"):
        vectors.path("gru", "csv")
    with pytest.raises(ValueError, match="assignment destination is read-only"):
        vectors.read("gru")[0].given["xs"][:] = 0


# Right cells pass


@each_cell
def test_the_cells_pass(cell):
    for report in (
        verify(cell, CELLS[cell]),
        verify(CELLS[cell], CELLS[cell].step, gradients=CELLS[cell].step_vjp),
        verify(cell, run_of(cell), gradients=back_of(cell)),
        verify(cell, SimpleNamespace(run=run_of(cell), backprop=back_of(cell))),
    ):
        assert report, report
        assert report.dtype == "float64"
        assert set(name.split("/")[0] for name in report.missing) <= {"gates"}
        assert max(row.max_abs for v in report.vectors for row in v.arrays) < 2e-13
    assert verify(cell, CELLS[cell]).missing == ()


@each_cell
def test_float32_is_not_punished(cell):
    for report in (
        verify(cell, CELLS[cell], dtype=np.float32),
        verify(cell, run_of(cell), gradients=back_of(cell), dtype="float32"),
    ):
        assert report, report
        assert report.dtype == "float32"
        worst = max(row.max_abs for v in report.vectors for row in v.arrays)
        assert worst > 1e-9


@pytest.mark.parametrize(
    ("cell", "layout", "bias"),
    [("lstm", "tf1", 1.0), ("peephole", "tf1", 0.25), ("gru", "keras", 1.0), ("rnn", "onnx", 1.0)],
)
def test_weights_in_a_layout(cell, layout, bias):
    def ours(arrays):
        assert isinstance(arrays, dict)
        return layouts.load(cell, layout, arrays, forget_bias=bias)

    def theirs(params, xs, state, lengths):
        return run(cell, ours(params), xs, state, lengths=lengths)

    def back(params, xs, d_hs, d_state, state, lengths):
        d_params, *rest = back_of(cell)(ours(params), xs, d_hs, d_state, state, lengths)
        # what export writes is zero or a copy, so its gradients are those of our weights
        return layouts.export(cell, layout, d_params, forget_bias=0.0), *rest

    def step(params, x, state):
        return CELLS[cell].step(ours(params), x, state)

    report = verify(cell, theirs, gradients=back, layout=layout, forget_bias=bias)
    assert report, report
    assert set(report.missing) == {f"gates/{k}" for k in CELLS[cell].GATES}
    assert verify(cell, step, layout=layout, forget_bias=bias)
    assert not verify(cell, theirs, layout=layout, forget_bias=0.5) or "f" not in CELLS[cell].GATES


@pytest.mark.tensorflow
def test_the_real_cell_of_tensorflow_passes():
    tf1 = lstmbook.live.tf1

    def forward(params, xs, state, lengths):
        return tf1.run("peephole", params, xs, state, lengths=lengths)

    def back(params, xs, d_hs, d_state, state, lengths):
        return tf1.backprop("peephole", params, xs, d_hs, d_state, state=state, lengths=lengths)

    report = verify("peephole", forward, gradients=back, vectors=["sequence", "large_c"])
    assert report, report
    assert report.dtype == "float64"


class StateTuple(NamedTuple):
    """As TensorFlow 1's."""

    c: np.ndarray
    h: np.ndarray


def test_what_may_come_back():
    """A plain tuple, a named one, a dict, outputs alone: all are read."""

    def step(params, x, state):
        h, new = lstmbook.lstm.step(params, x, state)
        return h, (new.h, new.c)

    def tf_step(params, x, state):
        h, new = lstmbook.lstm.step(params, x, state)
        return h, {"c": new.c, "h": new.h}

    def mapping(params, xs, state, lengths):
        hs, final = run("lstm", params, xs, state, lengths=lengths)
        return {"hs": hs.tolist(), "final": final._asdict(), "d_xs": None}

    def outputs(params, xs, state, lengths):
        return run("lstm", params, xs, state, lengths=lengths)[0]

    def named_step(params, x, state):
        h, new = lstmbook.lstm.step(params, x, state)
        return h, StateTuple(new.c, new.h)

    for function in (step, tf_step, named_step, mapping, outputs):
        assert verify("lstm", function)
    gradients = {f"d_params/{k}" for k in ("W_x", "W_h", "b")}
    gradients |= {"d_xs", "d_state/h", "d_state/c", "gates/i", "gates/f", "gates/g", "gates/o"}
    assert set(verify("lstm", mapping).missing) == gradients
    assert set(verify("lstm", outputs).missing) == gradients | {"final/h", "final/c"}
    text = str(verify("lstm", outputs))
    assert "Not answered, so not verified: final, gates, d_params, d_xs, d_state" in text


def test_an_implementation_may_write_into_what_it_is_given():
    def step(params, x, state):
        x *= 1
        state.c[...] = lstmbook.lstm.step(params, x, state)[1].c
        for array in (*params, x, *state):
            array[...] = np.nan
        return state.h, state

    verify("lstm", step)
    assert verify("lstm", lstmbook.lstm)


# Wrong cells fail


def test_every_wrong_cell_fails_a_vector():
    rows = wrong_cells()
    assert [f"{row.cell} {row.name}" for row in rows if not any(row.failed.values())] == []
    assert len({(row.cell, row.name) for row in rows}) == len(rows)
    assert {(s.cell, s.name) for s in SLIPS} <= {(row.cell, row.name) for row in rows}
    for cell in CELLS:
        assert sum(row.cell == cell and row.name.startswith("d_") for row in rows) >= 12
    assert f"each of the {len(rows)} wrong cells" in PAGE.read_text(encoding="utf-8")


def test_the_table_on_the_page():
    rows = wrong_cells()
    page = PAGE.read_text(encoding="utf-8")
    assert maker.on_page(page, maker.as_markdown(rows)) == page, "run tests/vectors/make.py"
    assert maker.TABLE.read_text(encoding="utf-8") == maker.as_csv(rows), "run make.py"


@each_cell
def test_no_vector_fails_the_right_cell(cell):
    """The measure of the table, on the cell in pieces and on its gradients."""
    _, step = assemble(cell, {})
    for vector in vectors.read(cell):
        assert not maker.fails(vector, maker.answer(step, vector))
        if vector.has_gradients:
            assert not maker.fails(vector, maker.gradients_of(vector))


@each_cell
def test_each_vector_fails_many(cell):
    for vector in vectors.read(cell):
        failed = sum(row.failed.get(vector.name, False) for row in wrong_cells())
        assert failed > 400


@pytest.mark.parametrize("cell", [c for c in CELLS if "c" in CELLS[c].State._fields])
@pytest.mark.parametrize("clip", [3, 10, 50])
def test_a_clipped_c_is_seen(cell, clip):
    def step(params, x, state):
        h, new = CELLS[cell].step(params, x, state)
        return h, new._replace(c=np.clip(new.c, -clip, clip))

    report = verify(cell, step)
    assert [result.name for result in report.vectors if not result.ok] == ["large_c"]


def test_a_sigmoid_that_overflows_is_seen():
    def sigmoid(z):
        return np.exp(z) / (1 + np.exp(z))

    def step(params, x, state):
        i, f, g, o = x @ params.W_x + state.h @ params.W_h + params.b[:, None]
        c = sigmoid(f) * state.c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        return h, (h, c)

    report = verify("lstm", step)
    assert [result.name for result in report.vectors if not result.ok] == ["saturated"]
    assert "nan" in str(report)
    assert json.loads(json.dumps(report.to_dict(), allow_nan=False))["ok"] is False


@each("slip", SLIPS[::9], ids=lambda slip: f"{slip.cell}-{slip.name}")
def test_the_slip_is_named(slip):
    report = verify(slip.cell, slip.step)
    assert not report
    assert report.slip == slip.name
    assert slip.says in report.likely


def test_a_slip_is_named_in_spite_of_rounding():
    (slip,) = (s for s in SLIPS if (s.cell, s.name) == ("gru", "z_flipped"))

    results = {
        v.name: {k: a + 1e-12 for k, a in maker.answer(slip.step, v).items()}
        for v in vectors.read("gru")
    }
    assert verify("gru", results).slip == "z_flipped"


@pytest.mark.parametrize("name", AROUND)
def test_a_mistake_around_the_cell_is_named(name):
    def function(params, xs, state, lengths):
        (vector,) = (v for v in vectors.read("lstm") if np.array_equal(v.given["xs"], xs))
        return AROUND[name].answer(vector, answer)

    def results(vector):
        return {k: a.astype(np.float32) for k, a in AROUND[name].answer(vector, answer).items()}

    for implementation in (function, {v.name: results(v) for v in vectors.read("lstm")}):
        report = verify("lstm", implementation)
        assert not report
        assert report.slip == name
        assert AROUND[name].says in str(report)


def test_some_mistakes_around_a_cell_written_out():
    """Once more by hand, so that they are what their names say."""

    def last(hs, lengths):  # as a Keras mask does
        ends = np.maximum(np.minimum(np.arange(hs.shape[1])[None], lengths[:, None] - 1), 0)
        return np.where(lengths[:, None, None] > 0, np.take_along_axis(hs, ends[..., None], 1), 0)

    def repeated(params, xs, state, lengths):
        hs, final = run("gru", params, xs, state, lengths=lengths)
        return last(hs, lengths), final

    def ignored(params, xs, state, lengths):
        return run("gru", params, xs, state)

    def past_the_end(params, xs, state, lengths):
        return run("gru", params, xs, state)[0], run("gru", params, xs, state, lengths=lengths)[1]

    def final_past(params, xs, state, lengths):
        return run("gru", params, xs, state, lengths=lengths)[0], run("gru", params, xs, state)[1]

    def from_zeros(params, xs, state, lengths):
        return run("gru", params, xs, lengths=lengths)

    def backwards(params, xs, state, lengths):
        return run("gru", params, xs[:, ::-1], state, lengths=lengths)

    def swapped_in(params, xs, state, lengths):
        return run("lstm", params, xs, (state.c, state.h), lengths=lengths)

    def swapped_out(params, xs, state, lengths):
        hs, final = run("lstm", params, xs, state, lengths=lengths)
        return hs, (final.c, final.h)

    def forgotten(params, xs, state, lengths):
        _, final = run("gru", params, xs, state, lengths=lengths)
        steps = [
            run("gru", params, xs[:, t : t + 1], state, lengths=(lengths > t).astype(int))[0]
            for t in range(xs.shape[1])
        ]
        return np.concatenate(steps, axis=1), final

    names = {
        "outputs_repeated": repeated,
        "lengths_ignored": ignored,
        "outputs_past_the_end": past_the_end,
        "states_past_the_end": final_past,
        "state_ignored": from_zeros,
        "reversed": backwards,
        "state_swapped_in": swapped_in,
        "state_swapped_out": swapped_out,
        "state_not_carried": forgotten,
    }
    assert names.keys() == AROUND.keys()
    for name, function in names.items():
        assert verify("lstm" if "swapped" in name else "gru", function).slip == name


def test_what_is_no_known_slip_goes_to_check():
    def step(params, x, state):
        h, new = lstmbook.lstm.step(params, x, state)
        return 1.01 * h, new

    report = verify("lstm", step)
    assert not report
    assert "In the state, h is right." in report.likely
    assert report.slip is None
    unknown = verify(
        "lstm", lambda params, xs, state, lengths: 1.01 * xs[..., :1] * state.h[:, None]
    )
    assert not unknown
    assert unknown.likely is None


def test_wrong_gradients_are_told_apart():
    (wrong,) = (
        w for w in maker.wrong_gradients.WRONG if (w.cell, w.name) == ("peephole", "o_hole_old_c")
    )
    report = verify("peephole", CELLS["peephole"].step, gradients=wrong.step_vjp)
    assert not report
    assert report.likely.startswith(
        "Outputs and states are right; wrong gradients: d_params/p. Right gradients: d_params/W_h"
    )
    off = verify("lstm", SimpleNamespace(step=CELLS["lstm"].step, gates=lambda *_: [0, 0, 0, 0]))
    assert "gates/i has shape (); expected (3, 4)" in str(off)


@pytest.mark.parametrize("name", [f.__name__ for f in maker.wrong_gradients.AROUND])
def test_wrong_gradients_through_time(name):
    (function,) = (f for f in maker.wrong_gradients.AROUND if f.__name__ == name)
    report = verify("gru", run_of("gru"), gradients=partial(function, "gru"))
    assert not report


def test_dtype_is_seen_in_the_digits():
    def rounded(how):
        answers = {}
        for vector in vectors.read("lstm"):
            answers[vector.name] = {k: how(a) for k, a in vector.expected.items()}
        return verify("lstm", answers)

    def digits(a, n):
        return np.vectorize(lambda v: float(f"{v:.{n}g}"), otypes=[float])(a)

    assert rounded(lambda a: a).dtype == "float64"
    assert rounded(lambda a: a.astype(np.float32)).dtype == "float32"
    assert rounded(lambda a: a.astype(np.float32).tolist()).dtype == "float32"
    assert rounded(lambda a: digits(a, 9)).dtype == "float32"
    assert rounded(lambda a: digits(a, 9))
    assert rounded(lambda a: digits(a, 11)).dtype == "float64"
    assert not rounded(lambda a: digits(a, 11))
    assert not rounded(lambda a: digits(a, 4))
    assert rounded(np.zeros_like).dtype == "float64"  # says nothing
    said = {"one_step": {"hs": named("lstm", "one_step").expected["hs"], "dtype": "float32"}}
    assert verify("lstm", said, vectors=["one_step"]).dtype == "float32"


def test_tolerance():
    def step(params, x, state):
        h, new = lstmbook.lstm.step(params, x, state)
        return h + 1e-9, new

    assert not verify("lstm", step)
    assert verify("lstm", step, tolerance=1e-8)
    assert not verify("lstm", step, tolerance=1e-10)
    assert verify("lstm", step, tolerance=1e-8).vectors[0].arrays[0].tolerance == 1e-8

    def step_vjp(*arguments):
        d_params, d_x, d_state = lstmbook.lstm.step_vjp(*arguments)
        return d_params, d_x + 1e-10, d_state

    right = lstmbook.lstm.step
    assert not verify("lstm", right, gradients=step_vjp)
    assert verify("lstm", right, gradients=step_vjp, tolerance=1.1e-10)
    assert not verify("lstm", right, gradients=step_vjp, tolerance=0.9e-10)
    with pytest.raises(ValueError, match="tolerance is -1; expected a number that is not neg"):
        verify("lstm", step, tolerance=-1)
    with pytest.raises(ValueError, match="tolerance is nan"):
        verify("lstm", step, tolerance=float("nan"))


# Errors of the implementation


def test_an_error_is_the_message_of_one_vector():
    def step(params, x, state):
        if len(x) == 1:
            raise RuntimeError("one is too few")
        return lstmbook.lstm.step(params, x, state)

    report = verify("lstm", step)
    errors = {result.name: result.error for result in report.vectors if result.error}
    assert errors["one_unit"] == "your function raises an error. RuntimeError: one is too few"
    assert {"one_unit", "long", "saturated"} <= set(errors)
    assert named_result(report, "one_step").ok


def named_result(report, name):
    (result,) = (result for result in report.vectors if result.name == name)
    return result


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda hs, s: hs.swapaxes(0, 1), r"hs has shape \(5, 3, 4\); .*Is time the first axis"),
        (lambda hs, s: hs[:, -1], r"hs has shape \(3, 4\); .*Is it the last output alone"),
        (lambda hs, s: hs.reshape(15, 4), r"hs has shape \(15, 4\); .*dropped or flattened"),
        (lambda hs, s: hs[..., :1], r"hs has shape \(3, 5, 1\); expected \(batch, time, hidden\)"),
        (lambda hs, s: (hs, s, s), "returns 3 things; expected"),
        (lambda hs, s: (hs, s.h), "no State"),
        (lambda hs, s: {"hs": hs, "final": {"h": s.h.T}}, "final/h has shape .*transposed"),
        (lambda hs, s: {"outputs": hs}, "the answer has 'outputs', which is unknown; expected hs"),
        (lambda hs, s: {}, "the answer is empty; expected hs"),
        (lambda hs, s: {"hs": "abc"}, "hs is of dtype"),
        (lambda hs, s: {"hs": [[1.0], [1.0, 2.0]]}, "hs is no array of numbers"),
        (lambda hs, s: {"hs": [["a", None]]}, "hs is no array of numbers"),
        (lambda hs, s: {"hs": 1j * hs}, "hs is of dtype complex128; expected floats"),
        (lambda hs, s: {"hs": hs, "dtype": "int8"}, "says dtype 'int8'; expected float64 or"),
    ],
)
def test_answers_that_cannot_be_compared(answer, message):
    def function(params, xs, state, lengths):
        return answer(*run("lstm", params, xs, state, lengths=lengths))

    report = verify("lstm", function, vectors=["sequence"])
    assert not report
    assert re.search(message, report.vectors[0].error), report.vectors[0].error
    assert message.split(";")[0].replace("\\", "")[:8] in str(report) or "hs" in str(report)


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (lambda params, x, state: state.h, "your step returns no pair"),
        (lambda params, x, state: (state.h, state.h[:, :1]), "no State"),
        (lambda params, x, state: (state.h, (state.h,)), r"is no State\(h, c\)"),
        (lambda params, x: x, "your function raises an error. TypeError"),
    ],
)
def test_steps_that_cannot_be_run(step, message):
    report = verify("lstm", step, vectors=["sequence"])
    assert re.search(message, report.vectors[0].error), report.vectors[0].error


def test_gradients_that_cannot_be_read():
    report = verify("lstm", run_of("lstm"), gradients=lambda *_: None, vectors=["sequence"])
    assert "your gradients are no triple" in report.vectors[0].error


def test_arguments():
    for wrong, message in (
        (3, "implementation is of type int; expected a function step"),
        (None, "of type NoneType"),
    ):
        with pytest.raises(TypeError, match=message):
            verify("lstm", wrong)
    with pytest.raises(TypeError, match="gradients is of type str; expected a function"):
        verify("lstm", lstmbook.lstm, gradients="d")
    with pytest.raises(TypeError, match="dtype is int64; expected a float dtype"):
        verify("lstm", lstmbook.lstm, dtype=int)
    with pytest.raises(ValueError, match="there is no cell 'ltsm'"):
        verify("ltsm", lstmbook.lstm)
    with pytest.raises(layouts.LayoutError, match="there is no layout 'theano'"):
        verify("lstm", lstmbook.lstm, layout="theano")
    with pytest.raises(layouts.LayoutError, match="cannot hold the cell 'gru_reset_after'"):
        verify("gru_reset_after", lstmbook.lstm, layout="tf1")


# Files of results


def results_of(cell, folder, kind="json", **more):
    answers = {v.name: dict(v.expected) for v in vectors.read(cell)}
    file = folder / f"answers.{kind}"
    if kind == "npz":
        np.savez(file, **{f"{n}/{k}": a for n, flat in answers.items() for k, a in flat.items()})
    else:
        nested = {n: lists(vectors.nest(flat)) for n, flat in answers.items()}
        file.write_text(json.dumps({"answers": nested, **more}), encoding="utf-8")
    return file


def lists(tree):
    return {k: lists(v) if isinstance(v, dict) else v.tolist() for k, v in tree.items()}


@each_cell
@pytest.mark.parametrize("kind", ["json", "npz"])
def test_files_of_results(tmp_path, cell, kind):
    file = results_of(cell, tmp_path, kind)
    report = verify(cell, file)
    assert report, report
    assert report.missing == ()
    assert verify_named(cell, results=str(file))


def test_files_that_cannot_be_read(tmp_path):
    def refused(content, message, name="answers.json"):
        file = tmp_path / name
        file.write_bytes(content)
        with pytest.raises(ValueError, match=message) as caught:
            verify("lstm", file)
        assert str(file) in str(caught.value)

    refused(b"\x89PNG\r\n\x1a\n" + bytes(range(256)), "cannot be read as JSON or NPZ")
    refused(b"", "cannot be read as JSON or NPZ")
    refused(b"[" * 100_000, "cannot be read as JSON or NPZ")
    refused(b"[1, 2]", r'expected \{"answers"')
    refused(b'{"one_step": 3}', r'expected \{"answers"')
    refused(b'{"cell": "gru", "answers": {}}', "these are results of gru, not of lstm")
    with pytest.raises(ValueError, match=r"none.json: cannot be read .* No such file"):
        verify("lstm", tmp_path / "none.json")
    with pytest.raises(ValueError, match="Is a directory"):
        verify("lstm", tmp_path)
    pickled = tmp_path / "answers.npz"
    np.savez(pickled, **{"one_step/hs": np.array([{}], dtype=object)})
    with pytest.raises(ValueError, match="allow_pickle=False"):
        verify("lstm", pickled)
    report = verify("lstm", {"one_step": {"hs": [[None]]}})
    assert "there is no answer to this vector" in named_result(report, "long").error


def test_archives_that_cannot_be_read(tmp_path):
    def refused(content):
        file = tmp_path / "answers.npz"
        file.write_bytes(content)
        with pytest.raises(ValueError, match=r"answers.npz: cannot be read as JSON or NPZ"):
            verify("rnn", file)

    def archive(member, method=zipfile.ZIP_DEFLATED):
        data = io.BytesIO()
        with zipfile.ZipFile(data, "w", method) as file:
            file.writestr("one_step/hs.npy", member)
        return data.getvalue()

    member = io.BytesIO()
    np.save(member, np.random.default_rng(0).normal(size=(3, 1, 4)))
    member = member.getvalue()
    whole = archive(member)
    start = 30 + len("one_step/hs.npy")
    refused(whole[:start] + b"\xff" * 20 + whole[start + 20 :])  # no deflate stream
    refused(whole.replace(b"\x14\0\0\0\x08\0", b"\x14\0\0\0\x63\0"))  # method 99
    huge = member.replace(b"(3, 1, 4), }" + b" " * 8, b"(10000000000000,), }", 1)
    assert len(huge) == len(member)
    refused(archive(huge))  # it claims 80 terabytes
    refused(archive(member[:-8]))
    refused(archive(member[:20]))


def test_a_file_that_is_too_large(tmp_path, monkeypatch):
    file, archive = results_of("rnn", tmp_path), results_of("rnn", tmp_path, "npz")
    monkeypatch.setattr("lstmbook.golden.answers.LIMIT", 1000)
    with pytest.raises(ValueError, match="at most 1000 are read"):
        verify("rnn", file)
    monkeypatch.setattr("lstmbook.golden.answers.LIMIT", archive.stat().st_size)
    np.savez_compressed(archive, **{"one_step/hs": np.zeros(100_000)})
    with pytest.raises(ValueError, match=r"unpacks to \d+ bytes; at most"):
        verify("rnn", archive)


@settings(max_examples=60)
@given(data=st.data(), kind=st.sampled_from(["json", "npz"]))
def test_a_damaged_file_is_refused_or_judged(tmp_path_factory, data, kind):
    folder = tmp_path_factory.mktemp("damaged")
    file = results_of("rnn", folder, kind)
    content = bytearray(file.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        content = content[:place]
    else:
        content[place] ^= data.draw(st.integers(1, 255))
    file.write_bytes(content)
    try:
        report = verify("rnn", file)
    except ValueError as error:
        assert str(file) in str(error)  # noqa: PT017
    else:
        assert isinstance(report.ok, bool)


# Commands


def python(code):
    return Command([sys.executable, "-c", code], timeout=20)


ANSWER = (
    "import sys, json, numpy as np, lstmbook; q = json.load(sys.stdin); g = q['given']; "
    "cell = lstmbook.CELLS[q['cell']]; a = lambda d: {k: np.array(v, float) for k, v in d.items()};"
    "hs, s = lstmbook.run(cell, cell.Params(**a(g['params'])), np.array(g['xs'], float), "
    "cell.State(**a(g['state'])), lengths=g['lengths']); "
    "print(json.dumps({'hs': hs.tolist(), 'final': {k: v.tolist() for k, v in s._asdict().items()}"
)


@pytest.mark.parametrize("cell", ["rnn", "coupled_peephole"])
def test_a_command_that_is_right(cell):
    report = verify(cell, python(ANSWER + "}))"), vectors=["one_step", "sequence"])
    assert report, report
    assert report.dtype == "float64"
    single = verify(cell, python(ANSWER + ", 'dtype': 'float32'}))"), vectors=["sequence"])
    assert single.dtype == "float32"


def test_what_a_command_is_asked():
    vector = named("lstm", "sequence")
    question = request(vector)
    assert set(question) == {"format", "version", "cell", "name", "given"}
    assert "expected" not in json.dumps(question)
    assert question["given"]["state"]["c"] == vector.state.c.tolist()
    framed = request(vector, "keras")
    assert framed["layout"] == "keras"
    assert set(framed["given"]["params"]) == {"kernel", "recurrent_kernel", "bias"}


def test_gradients_of_a_command_in_a_layout():
    def asked(question):
        arrays = {k: np.array(v, float) for k, v in question["given"]["params"].items()}
        params = layouts.load("lstm", "keras", arrays)
        vector = named("lstm", question["name"])
        state = lstmbook.lstm.State(*vector.state)
        d_final = lstmbook.lstm.State(vector.given["d_final/h"], vector.given["d_final/c"])
        given_arrays = vector.given
        d_params, d_xs, _ = backprop(
            "lstm",
            params,
            given_arrays["xs"],
            given_arrays["d_hs"],
            d_final,
            state=state,
            lengths=given_arrays["lengths"],
        )
        return {
            "d_params": lists(layouts.export("lstm", "keras", d_params)),
            "d_xs": d_xs.tolist(),
        }

    answers = {
        name: asked(request(named("lstm", name), "keras")) for name in ("one_step", "sequence")
    }
    report = verify("lstm", answers, layout="keras", vectors=["one_step", "sequence"])
    assert report, report
    answers["one_step"]["d_params"] = {"kernel": [[1.0]]}
    report = verify("lstm", answers, layout="keras", vectors=["one_step"])
    assert "keras lstm is stored as kernel, recurrent_kernel, bias" in report.vectors[0].error


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import sys; sys.exit('no such weight')", "ended with exit code 1\n  no such weight"),
        ("raise KeyError('W')", "exit code 1\n.*KeyError"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "by signal SIGSEGV"),
        ("pass", "wrote nothing to stdout"),
        ("print('hello')", "wrote no JSON: .* It begins with 'hello'. Only the answer may go to"),
        ("print('{} {}')", "wrote no JSON: Extra data"),
        ("print('[' * 100000)", "wrote no JSON"),
        ("print('[1, 2]')", "the answer is a list; expected an object"),
        ("print('{}')", "the answer is empty"),
        ("print('{\"hs\": NaN}')", r"hs has shape \(\)"),
        ("import sys; sys.stdout.buffer.write(b'\\xff\\xfe')", "wrote no JSON"),
        ("import sys; sys.stdin.close(); print('{\"hs\": 1}')", r"hs has shape \(\)"),
    ],
)
def test_a_command_that_goes_wrong(code, message):
    report = verify("lstm", python(code), vectors=["one_unit"])
    assert not report
    assert re.search(message, report.vectors[0].error, re.DOTALL), report.vectors[0].error


def test_a_command_that_is_not_there():
    report = verify("lstm", Command("./no-such-program --fast"))
    assert not report
    assert {r.error for r in report.vectors} == {
        "cannot start './no-such-program': No such file or directory"
    }
    assert str(report).count("cannot start") == 1
    with pytest.raises(ValueError, match="the command is empty"):
        verify_named("lstm", command="  ")


@pytest.mark.skipif(os.name == "nt", reason="process groups are of POSIX")
@pytest.mark.parametrize(
    "code",
    [
        "import time; print('here', file=__import__('sys').stderr, flush=True); time.sleep(600)",
        "import subprocess, sys; print('here', file=sys.stderr, flush=True); "
        "subprocess.run(['sleep', '600'])",
        "import subprocess, sys; print('here', file=sys.stderr, flush=True); "
        "subprocess.Popen(['sleep', '600'])",
    ],
)
def test_a_command_that_hangs(code):
    """It is stopped with its children, and not asked again."""
    start = time.monotonic()
    report = verify("lstm", Command([sys.executable, "-c", code], timeout=1.0))
    assert time.monotonic() - start < 20
    assert {r.error for r in report.vectors} == {"your program gave no answer within 1 s\n  here"}


def test_a_command_that_never_stops_writing(monkeypatch):
    monkeypatch.setattr("lstmbook.golden.answers.LIMIT", 100_000)
    report = verify("lstm", python("while True: print('1' * 10000)"), vectors=["one_unit"])
    assert "wrote more than 100000 bytes" in report.vectors[0].error
    noisy = "import sys; sys.stderr.write('noise\\n' * 1000000); sys.exit(3)"
    report = verify("lstm", python(noisy), vectors=["one_unit"])
    assert "exit code 3" in report.vectors[0].error


def test_who_is_silent_is_not_asked_again(monkeypatch):
    asked = []

    def talk(words, text, timeout):
        asked.append(json.loads(text)["name"])
        return 0, b"", b"", True

    monkeypatch.setattr("lstmbook.golden.command._talk", talk)
    report = verify("lstm", Command("anything", timeout=5))
    assert asked == ["one_step"]
    assert {r.error for r in report.vectors} == {"your program gave no answer within 5 s"}


def test_silence_is_an_error_of_its_own():
    with pytest.raises(SilentError):
        Command(["./no-such-program"])({})


# Python by name


def test_python_by_name(tmp_path, monkeypatch):
    (tmp_path / "mycell.py").write_text(
        "from lstmbook import lstm\n\nclass Cells:\n    step = lstm.step\n\nstep = lstm.step\n"
    )
    (tmp_path / "broken.py").write_text("1 / 0\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p])
    assert verify_named("lstm", python="mycell:step", vectors=["one_step"], dtype="float32")
    assert python_function("mycell:Cells.step") is lstmbook.lstm.step
    assert verify_named("lstm", python="lstmbook:lstm", vectors=["one_step"]).missing == ()
    for place, message in (
        ("mycell", "'mycell' names no function; expected module:function"),
        ("mycell:", "names no function"),
        ("mycell:stop", "module 'mycell' has no 'stop'"),
        ("nowhere:step", "module 'nowhere' cannot be imported: ModuleNotFoundError"),
        ("broken:step", "cannot be imported: ZeroDivisionError"),
    ):
        with pytest.raises(ValueError, match=message):
            verify_named("lstm", python=place)


@pytest.mark.parametrize("given_values", [{}, {"command": "a", "python": "b:c"}])
def test_exactly_one_is_verified(given_values):
    with pytest.raises(ValueError, match="Give one of command, python and results"):
        verify_named("lstm", **given_values)


# The report


def test_how_it_prints():
    report = verify("gru", lstmbook.gru, vectors=["one_step", "square"])
    lines = str(report).split("\n")
    assert lines[0] == "gru: 2 of 2 vectors pass, as float64"
    assert re.fullmatch(r"vector +hs +final/h +gates +gradients", lines[2])
    assert re.fullmatch(r"one_step( +\d\.\de-\d\d){4} +pass", lines[3])
    assert re.fullmatch(r"square( +\d\.\de-\d\d){2}( +-){2} +pass", lines[4])
    assert len(lines) == 5
    content = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert (content["ok"], content["passed"], content["total"]) == (True, 2, 2)
    assert [v["name"] for v in content["vectors"]] == ["one_step", "square"]
    assert content["vectors"][1]["arrays"][0].keys() == {"name", "max_abs", "tolerance", "ok"}
    assert repr(report) == str(report)


def test_a_failure_says_what_the_vector_shows():
    def step(params, x, state):
        h, new = lstmbook.lstm.step(params, x, state)
        return h, new._replace(c=np.clip(new.c, -3, 3))

    text = str(verify("lstm", step))
    assert "8 of 9 vectors pass" in text
    assert re.search(r"large_c .*FAIL", text)
    assert "large_c: hs by" in text
    assert "It shows: A cell state beyond 3, 10 and 50" in text


# The readers


def told(words, **more):
    return subprocess.run(words, capture_output=True, text=True, check=False, timeout=60, **more)


@pytest.fixture(scope="module")
def readers(tmp_path_factory):
    """The command of each reader, or why it cannot be run."""
    words = {"py": [sys.executable, str(READERS / "reader.py")], "js": None, "c": None}
    if shutil.which("node"):
        words["js"] = ["node", str(READERS / "reader.js")]
    if shutil.which("cc"):
        program = tmp_path_factory.mktemp("reader") / "reader"
        strict = ["-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Werror"]
        done = told(["cc", *strict, str(READERS / "reader.c"), "-lm", "-o", str(program)])
        assert done.returncode == 0, done.stderr
        words["c"] = [str(program)]
    return words


each_reader = pytest.mark.parametrize(
    ("language", "cell"),
    [("py", "lstm"), needs.param("node", "js", "gru"), needs.param("cc", "c", "lstm")],
)


@each_reader
def test_a_reader_prints_its_differences(readers, language, cell):
    done = told([*readers[language], str(vectors.path(cell))], encoding="utf-8")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines] == [v.name for v in vectors.read(cell)]
    assert all(0 <= float(line.split("=")[1]) < 1e-13 for line in lines)


@each_reader
def test_a_reader_sees_a_wrong_number(readers, language, cell, tmp_path):
    content = json.loads(vectors.path(cell).read_text(encoding="utf-8"))
    content["vectors"][1]["expected"]["hs"][2][4][3] += 1e-3
    file = tmp_path / "wrong.json"
    file.write_text(json.dumps(content))
    done = told([*readers[language], str(file)], encoding="utf-8")
    assert done.returncode == 1
    assert "sequence     max |Δ| = 1.0e-" in done.stdout


@each_reader
def test_a_reader_answers_as_a_command(readers, language, cell):
    report = verify(cell, Command(readers[language]))
    assert report, report
    assert report.dtype == "float64"
    assert not verify(
        "coupled" if cell == "lstm" else "gru_reset_after", Command(readers[language])
    )


@pytest.mark.node
def test_the_reader_of_a_browser(readers):
    """There is no require and no process there, only a script and what it defines."""
    code = (
        "const fs = require('fs'), page = { Math, JSON, Object };"
        "require('vm').runInNewContext(fs.readFileSync(process.argv[1], 'utf8') + "
        "';this.told = check(' + fs.readFileSync(process.argv[2], 'utf8') + ')', page);"
        "console.log(JSON.stringify(page.told))"
    )
    done = told(["node", "-e", code, str(READERS / "reader.js"), str(vectors.path("gru"))])
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)
    assert [row["name"] for row in rows] == [v.name for v in vectors.read("gru")]
    assert all(row["ok"] and 0 <= row["off"] < 1e-13 for row in rows)


def test_the_reader_in_python(monkeypatch, capsys):
    """In this process, so that it counts as run."""
    monkeypatch.setattr(sys, "argv", ["reader.py", str(vectors.path("lstm"))])
    runpy.run_path(str(READERS / "reader.py"), run_name="__main__")
    assert len(capsys.readouterr().out.splitlines()) == len(vectors.read("lstm"))
    with open(os.devnull) as nothing:
        monkeypatch.setattr(sys, "stdin", nothing)
        monkeypatch.setattr(sys, "argv", ["reader.py"])
        with pytest.raises(json.JSONDecodeError):
            runpy.run_path(str(READERS / "reader.py"), run_name="__main__")


# The page


def test_the_page():
    page = PAGE.read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| (\d+), (\d+), (\d+), (\d+) \|", page, re.MULTILINE)
    sizes = {name: tuple(map(int, numbers)) for name, *numbers in rows}
    for vector in vectors.read("lstm"):
        assert sizes[vector.name] == (*vector.given["xs"].shape, vector.state.h.shape[1])
    assert set(sizes) == {vector.name for vector in vectors.read("lstm")}
    for cell in CELLS:
        for vector in vectors.read(cell):
            assert vector.given["xs"].shape == sizes[vector.name][:3]
    test = doctest.DocTestParser().get_doctest(
        page.split("```python\n>>> ")[1].join([">>> ", ""]).split("```")[0],
        {"lstm": lstmbook.lstm, "verify": verify},
        "vectors.md",
        None,
        0,
    )
    assert test.examples
    assert doctest.DocTestRunner().run(test).failed == 0
