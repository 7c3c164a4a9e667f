"""The experiments: their cells, their bookkeeping, and that a stored run repeats."""

import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from cases import case

from lstmbook import CELLS, backprop, compare, lstm, run
from lstmbook.running.program import evaluate, program_of
from lstmbook.training import experiments
from lstmbook.training.experiments import (
    PART_TASKS,
    PARTS,
    SETTINGS,
    TASKS,
    VARIANTS,
    Result,
    best,
    build,
    hidden_size,
    plan,
    results,
    run_one,
    table,
    weights,
)
from lstmbook.training.train import fit, start

TINY = 1e-30
LINEAR = ["no input tanh", "no output tanh"]
OPEN = {"no input gate": "i", "no forget gate": "f", "no output gate": "o"}


def assert_close(ours, theirs, atol):
    result = compare(ours, theirs, atol=atol)
    assert result.ok, result


# The variants


def scalar_step(params, x, state, name):
    """One sequence, one unit at a time, with what ``name`` takes away."""
    h, c = np.zeros_like(state.h), np.zeros_like(state.c)
    for n, u in np.ndindex(h.shape):
        z = [
            sum(x[n, d] * params.W_x[k, d, u] for d in range(x.shape[1]))
            + sum(state.h[n, v] * params.W_h[k, v, u] for v in range(h.shape[1]))
            + params.b[k, u]
            for k in range(4)
        ]
        i, f, o = (1 / (1 + np.exp(-z[k])) for k in (0, 1, 3))
        if name in OPEN:
            i, f, o = (1 if OPEN[name] == gate else v for gate, v in zip("ifo", (i, f, o)))  # noqa: B905
        g = z[2] if name == "no input tanh" else np.tanh(z[2])
        c[n, u] = f * state.c[n, u] + i * g
        h[n, u] = o * (c[n, u] if name == "no output tanh" else np.tanh(c[n, u]))
    return h, lstm.State(h, c)


@pytest.mark.parametrize("name", VARIANTS)
def test_variants_are_what_they_say(name):
    _, params, xs, state = case("lstm")
    variant = build(name)
    prepared = variant.prepare(params) if variant.prepare else params
    ours = variant.cell.step(prepared, xs[:, 0], state)
    if name == "forget bias 0":
        expected = params._replace(b=params.b * [[1], [0], [1], [1]])
        assert_close(ours, scalar_step(expected, xs[:, 0], state, name), atol=1e-12)
        return
    assert_close(ours, scalar_step(params, xs[:, 0], state, name), atol=1e-12)
    whole = lstm.step(params, xs[:, 0], state)
    assert compare(ours, whole).max_abs > 0.05


@pytest.mark.parametrize("name", LINEAR)
def test_gradients_of_the_linear_ones_are_complex_steps(name):
    cell = build(name).cell
    _, params, xs, state = case("lstm")
    x, rng = xs[:, 0], np.random.default_rng(1)
    d_state = lstm.State(*(rng.normal(size=part.shape) for part in state))
    d_hs = np.zeros((len(x), 1, state.h.shape[1]))
    d_params, d_xs, d_old = backprop(cell, params, xs[:, :1], d_hs, d_state, state=state)
    d_x = d_xs[:, 0]
    given = [*(a.astype(complex) for a in (*params, x, *state))]

    def loss():
        _, new = cell.step(lstm.Params(*given[:3]), given[3], lstm.State(*given[4:]))
        return sum(np.sum(d * part) for d, part in zip(d_state, new, strict=True))

    for array, got in zip(given, [*d_params, d_x, *d_old], strict=True):
        for place in np.ndindex(array.shape):
            array[place] += TINY * 1j
            assert got[place] == pytest.approx(loss().imag / TINY, abs=1e-12)
            array[place] = array[place].real
    assert build(name).cell.__name__ == name.replace(" ", "_")


@pytest.mark.parametrize("name", LINEAR)
def test_a_linear_one_follows_the_page_and_is_recorded_once(name, monkeypatch):
    cell = build(name).cell
    _, params, xs, state = case("lstm")
    before, program = cell.step(params, xs[:, 0], state), program_of(cell, params)
    assert program is program_of(cell, params)
    assert_close(evaluate(program, params, xs[:, 0], state), before, atol=0)
    right, zero = (
        lstm.gates,
        lambda params, x, state: (0 * state.h, lstm.State(*([0 * state.h] * 2))),
    )
    with monkeypatch.context() as patch:
        patch.setattr(lstm, "gates", lambda p, x, s: right(p, 2 * x, s))
        assert_close(cell.step(params, xs[:, 0] / 2, state), before, atol=1e-12)
        assert_close(run(cell, params, xs[:, :1] / 2, state)[1], before[1], atol=1e-12)
    with monkeypatch.context() as patch:
        patch.setattr(lstm, "step", zero)
        if name == "no input tanh":
            assert not np.any(cell.step(params, xs[:, 0], state)[1])
            assert not run(cell, params, xs, state)[0].any()
    assert_close(run(cell, params, xs[:, :1], state)[1], before[1], atol=1e-12)


@pytest.mark.parametrize("name", OPEN)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_an_open_gate_is_one_and_stays_so(name, dtype):
    _, params, xs, state = case("lstm", dtype=dtype)
    kept = [array.copy() for array in params]
    prepared = build(name).prepare(params)
    for array, before in zip(params, kept, strict=True):
        np.testing.assert_array_equal(array, before)
    k = lstm.GATES.index(OPEN[name])
    assert (lstm.gates(prepared, xs[:, 0], state)[k] == 1).all()
    task = experiments.task_of("timing")
    trained = start(experiments.fresh_model(task, name, 0), learning_rate=0.02)
    fit(trained, task.source(4), task.loss, 5, progress=False)
    (after,) = trained.model.params
    assert not after.W_x[k].any()
    assert not after.W_h[k].any()
    assert (after.b[k] == 100).all()
    others = [j for j in range(4) if j != k]
    (before,) = experiments.fresh_model(task, name, 0).params
    assert (after.W_h[others] != before.W_h[others]).all()


def test_forget_bias_zero():
    params = lstm.init(np.random.default_rng(0), 2, 3)
    changed = build("forget bias 0").prepare(params)
    assert not changed.b.any()
    assert (params.b[1] == 1).all()
    assert changed.W_x is params.W_x


def test_all_have_nearly_the_same_number_of_weights():
    assert weights("lstm", 2, 24) == 4 * (2 * 24 + 24 * 24 + 24)
    assert weights("gru_reset_after", 2, 24) == 3 * (2 * 24 + 24 * 24 + 24) + 24
    assert weights("no input gate", 2, 24) == 3 * (2 * 24 + 24 * 24 + 24)
    for task in TASKS:
        inputs = experiments.task_of(task).input_size
        aim = weights("lstm", inputs, experiments.HIDDEN)
        for name in [*CELLS, *VARIANTS]:
            size = hidden_size(name, inputs)
            gaps = [abs(weights(name, inputs, size + more) - aim) for more in (-1, 0, 1)]
            assert min(gaps) == gaps[1] < 0.04 * aim
    assert hidden_size("lstm", 1) == experiments.HIDDEN


def test_unknown_names():
    with pytest.raises(ValueError, match="there is no cell 'lstms'; there are rnn, lstm"):
        build("lstms")
    with pytest.raises(ValueError, match="there is no task 'reber' here; there are adding, cop"):
        run_one("reber", "lstm", 0.01, 0)
    with pytest.raises(ValueError, match="steps is 1; expected at least"):
        run_one("copying", "rnn", 0.01, 0, steps=1)
    with pytest.raises(ValueError, match="there is no run of 'gru' on 'adding'"):
        best([], "adding", "gru")


# The file


def test_the_file_is_that_of_this_code():
    stored = json.loads(experiments.FILE.read_text(encoding="utf-8"))
    assert stored["settings"] == SETTINGS
    assert stored["columns"] == list(Result._fields)
    assert set(stored["made by"]) == {"lstmbook", "numpy", "python", "machine", "code"}
    assert len(stored["made by"]["code"]) == len(experiments.code_hash()) == 64
    assert experiments.FILE.stat().st_size < 60_000
    found = results()
    assert [r[:4] for r in found] == plan()
    assert {len(r.curve) for r in found} == {SETTINGS["steps"] // SETTINGS["every"]}
    assert all(0 <= a <= 1 for r in found for a in r.curve)


def test_the_plan():
    keys = plan()
    assert len(set(keys)) == len(keys)
    for task in TASKS:
        cells = {cell for name, cell, _, _ in keys if name == task}
        assert cells == (set(CELLS) | set(PARTS) if task in PART_TASKS else set(CELLS))
    per = len(SETTINGS["rates"]) * len(SETTINGS["seeds"])
    assert len(keys) == per * (len(TASKS) * len(CELLS) + len(PART_TASKS) * len(VARIANTS))
    seeds = [seed for *_, seed in keys]
    assert seeds == sorted(seeds)  # whole tables, one seed after the other


@pytest.mark.parametrize(("cell", "rate"), [("gru", 0.015), ("no output tanh", 0.005)])
def test_a_stored_run_repeats(cell, rate):
    """Its beginning, to what rounding on another machine may change in two short stretches."""
    task = "copying" if cell in CELLS else "timing"
    (stored,) = [r for r in results() if r[:4] == (task, cell, rate, 0)]
    again = run_one(task, cell, rate, 0, steps=2 * SETTINGS["every"])
    np.testing.assert_allclose(again.curve, stored.curve[:2], rtol=0, atol=0.02)
    assert again == run_one(task, cell, rate, 0, steps=2 * SETTINGS["every"])


# The bookkeeping


def made_up():
    """Two cells: one solves at the second rate only, one never."""
    curves = {
        ("lstm", 0.005): [(0.2, 0.3), (0.2, 0.9)],
        ("lstm", 0.015): [(0.2, 1.0), (0.95, 0.96)],
        ("rnn", 0.005): [(0.3, 0.2), (0.3, 0.2)],
        ("rnn", 0.015): [(0.3, 0.2), (0.97, 0.2)],
    }
    return [
        Result("adding", cell, rate, seed, 1.0 - rate, curve)
        for (cell, rate), runs in curves.items()
        for seed, curve in enumerate(runs)
    ]


def test_reading_results():
    found, every = made_up(), SETTINGS["every"]
    assert [r.solved for r in found] == [None, None, 2 * every, every, None, None, None, every]
    assert [r.accuracy for r in found[:3]] == [0.3, 0.9, 1.0]
    assert {r.rate for r in best(found, "adding", "lstm")} == {0.015}
    assert {r.rate for r in best(found, "adding", "rnn")} == {0.015}  # equal: the lower loss
    assert len(best(found, "adding", "rnn")) == 2
    assert table(found, ["lstm", "rnn"], ["adding"]).splitlines() == [
        "      adding",
        f"lstm  2/2 {1.5 * every:g}",
        "rnn   1/2 -",
    ]


@pytest.fixture
def small(monkeypatch):
    """Four short runs, in threads, which see the change."""
    monkeypatch.setattr(experiments, "TASKS", {"copying": TASKS["copying"]})
    monkeypatch.setattr(experiments, "CELLS", {name: CELLS[name] for name in ("rnn", "gru")})
    changed = {"seeds": [0], "steps": 4, "every": 2, "judged on": 20}
    for name, value in changed.items():
        monkeypatch.setitem(SETTINGS, name, value)
    monkeypatch.setattr(
        experiments, "ProcessPoolExecutor", lambda workers, context: ThreadPoolExecutor(workers)
    )
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "1")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr(experiments, "PART_TASKS", ())


def test_stopped_and_started_again(small, tmp_path, monkeypatch, capsys):
    out, calls = tmp_path / "out.json", []
    arguments = ["--out", str(out), "--workers", "1"]

    def counted(*key, stop=0):
        calls.append(key)
        if len(calls) == stop:
            raise KeyboardInterrupt
        return run_one(*key)

    monkeypatch.setattr(experiments, "run_one", lambda *key: counted(*key, stop=3))
    assert experiments.main(arguments) == 130
    assert "the same command goes on from" in capsys.readouterr().err
    assert not out.exists()
    kept = results(f"{out}.part")
    assert [r[:4] for r in kept] == plan()[:2]

    calls.clear()
    monkeypatch.setattr(experiments, "run_one", counted)
    assert experiments.main(arguments) == 0
    assert sorted(calls) == sorted(plan()[2:])
    assert results(out) == [run_one(*key) for key in plan()]
    assert results(out)[:2] == kept
    assert [path.name for path in tmp_path.iterdir()] == ["out.json"]
    assert "copying\nrnn  " in capsys.readouterr().out

    (tmp_path / "out.json.part").write_bytes(out.read_bytes())
    monkeypatch.setitem(SETTINGS, "batch", 8)
    calls.clear()
    assert experiments.main(arguments) == 0
    assert len(calls) == 4
    assert "was made by other code or settings: beginning again" in capsys.readouterr().err
