"""The tests are tested: put in the place of a cell, every wrong cell of the catalogue fails."""

import json
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import oracle
import pytest
from cases import LENGTHS, case

from lstmbook import CELLS, layouts, run
from lstmbook.wrong_cells.slips import SLIPS

VECTORS = Path(__file__).parent / "tf1" / "vectors"
RECORDED = {}  # the float64 recordings of each cell
for entry in json.loads((VECTORS / "index.json").read_text())["cases"]:
    if entry["dtype"] == "float64" and not entry["zero_state"] and not entry["one_step"]:
        RECORDED.setdefault(entry["cell"], []).append(entry)


def with_step(name, step):
    """The cell with another step."""
    names = ("GATES", "Params", "State", "PEEPHOLES", "zero_state", "gates")
    cell = {key: getattr(CELLS[name], key) for key in names if hasattr(CELLS[name], key)}
    return SimpleNamespace(**cell, step=step)


def worst(ours, theirs):
    """The largest difference of two results, infinite for one that is not a number."""
    with np.errstate(invalid="ignore"):
        return max(
            np.nan_to_num(np.abs(a - b), nan=np.inf).max()
            for a, b in zip(ours, theirs, strict=True)
        )


@cache
def asked_of_the_oracle(name):
    """Arguments of `run` and what the scalar oracle answers, on the inputs of the cells' tests."""
    asked = []
    for scale in (0.7, 5.0):
        _, params, xs, state = case(name, scale=scale)
        right = oracle.run(name, params, xs, state.h, getattr(state, "c", None), LENGTHS)
        right = [part for part in right if part is not None]
        asked.append(((params, xs, state), {"lengths": LENGTHS}, right))
    return asked


@cache
def asked_of_tensorflow(name):
    """Arguments of `run` and what TensorFlow 1.12.3 answered, in float64."""
    asked = []
    for entry in RECORDED[name]:
        with np.load(VECTORS / entry["file"], allow_pickle=False) as file:
            arrays = dict(file)

        def below(scope, arrays=arrays):
            return {k[len(scope) :]: v for k, v in arrays.items() if k.startswith(scope)}

        bias = {"forget_bias": entry["forget_bias"]} if entry["forget_bias"] is not None else {}
        params = layouts.load(name, "tf1", below("weights/"), **bias)
        state, final = (CELLS[name].State(**below(scope)) for scope in ("state/", "final/"))
        options = {"lengths": arrays.get("lengths"), "time_major": entry["time_major"]}
        asked.append(((params, arrays["xs"], state), options, (arrays["hs"], *final)))
    return asked


def off(asked, name, step):
    """How far a step is off all answers."""
    found = []
    for arguments, options, right in asked(name):
        hs, final = run(with_step(name, step), *arguments, **options)
        found.append(worst((hs, *final), right))
    return max(found)


def rejected(asked, name, step):
    """Whether a check at 1e-12 fails, by a wide margin or since shapes do not fit."""
    try:
        with np.errstate(all="ignore"):  # a wrong cell may well overflow
            return off(asked, name, step) > 1e-6
    except ValueError:
        return True


@pytest.mark.parametrize("name", CELLS)
def test_the_right_cells_pass(name):
    assert off(asked_of_the_oracle, name, CELLS[name].step) < 1e-12
    if name in RECORDED:
        assert off(asked_of_tensorflow, name, CELLS[name].step) < 1e-12


@pytest.mark.parametrize("name", CELLS)
def test_the_oracle_rejects_every_wrong_cell(name):
    slips = [slip for slip in SLIPS if slip.cell == name]
    assert len(slips) >= 20
    missed = [s.name for s in slips if not rejected(asked_of_the_oracle, name, s.step)]
    assert missed == []


@pytest.mark.parametrize("name", RECORDED)
def test_the_recordings_reject_every_wrong_cell_but_one(name):
    """They do not reach a cell state of 3, where a clipped one differs; the oracle's inputs do."""
    slips = [slip for slip in SLIPS if slip.cell == name]
    missed = [s.name for s in slips if not rejected(asked_of_tensorflow, name, s.step)]
    assert set(missed) <= {"c_clipped"}
