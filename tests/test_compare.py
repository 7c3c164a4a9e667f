import re

import numpy as np
import pytest
from cases import case

from lstmbook import compare, lstm, run


def test_names_and_numbers():
    cell, params, xs, state = case("lstm")
    ours = run(cell, params, xs, state)
    theirs = (ours[0].copy(), lstm.State(ours[1].h, ours[1].c + 3e-7))
    result = compare(ours, theirs, atol=1e-6)
    assert [row.name for row in result] == ["hs", "h", "c"]
    assert [row.shape for row in result] == [ours[0].shape, ours[1].h.shape, ours[1].c.shape]
    assert result.ok
    assert result.max_abs == pytest.approx(3e-7)
    assert not compare(ours, theirs, atol=1e-7).ok
    assert [row.ok for row in compare(ours, theirs, atol=1e-7)] == [True, True, False]


def test_how_it_prints():
    result = compare(
        {"h": np.zeros((2, 3)), "c": np.ones(3)}, {"h": np.zeros((2, 3)), "c": np.zeros(3)}
    )
    assert str(result).split("\n") == [
        "array  shape   max |Δ|  < 1e-06",
        "h      (2, 3)  0.0e+00  True",
        "c      (3,)    1.0e+00  False",
    ]
    assert repr(result) == str(result)
    assert result.summary() == "h, c: max |Δ| < 1e-06: False"


def test_structures_by_name():
    value = {"a": [np.ones(2), (1.0, 2.0)], "s": lstm.State(np.zeros(1), np.zeros(1))}
    assert [row.name for row in compare(value, value)] == ["a.0", "a.1.0", "a.1.1", "s.h", "s.c"]
    assert [row.name for row in compare(1.0, 1.0)] == ["array"]


def test_every_array_is_compared_whatever_its_name():
    """Names that read alike; and results of run in a dict, each with its own outputs."""
    ours, theirs = {"a": [1.0], "a.0": 2.0}, {"a": [1.0], "a.0": 2.5}
    for left, right, ok in [
        (ours, theirs, [True, False]),
        ({"a": [1.5], "a.0": 2.0}, ours, [False, True]),
        (ours, dict(reversed(ours.items())), [True, True]),
    ]:
        assert [(row.name, row.ok) for row in compare(left, right)] == [
            *zip(["a.0", "'a.0'"], ok, strict=True)
        ]
    cell, params, xs, state = case("gru")
    hs, final = run(cell, params, xs, state)
    assert [row.name for row in compare([{"one": (hs, final)}], [{"one": (hs, final)}])] == [
        "0.one.hs",
        "0.one.h",
    ]
    results = {"one": (hs, final), "two": (hs, final)}
    moved = compare(results, results | {"one": (hs + 1, final)})
    assert [row.name for row in moved] == ["one.hs", "one.h", "two.hs", "two.h"]
    assert [row.ok for row in moved] == [False, True, True, True]
    assert compare({"w.x": 1.0}, {"w.x": 1.0}).summary().startswith("w.x: ")


def test_nan_and_inf():
    nan = np.array([np.nan, 1.0, np.inf])
    assert compare(nan, nan.copy()).ok
    assert not compare(nan, np.array([0.0, 1.0, np.inf])).ok
    assert not compare(nan, np.array([np.nan, 1.0, -np.inf])).ok
    assert compare(np.zeros((0, 3)), np.zeros((0, 3))).ok


def test_float32_is_subtracted_in_float64():
    ours, theirs = np.float32(1.0), 1.0 + 1e-9
    assert compare(ours, theirs, atol=1e-8).max_abs == pytest.approx(1e-9)


@pytest.mark.parametrize(
    ("ours", "theirs", "message"),
    [
        (np.zeros((2, 3)), np.zeros((3, 2)), "array has shape (2, 3) in ours and (3, 2) in theirs"),
        ({"h": 1.0}, {"c": 1.0}, "ours has h; theirs has c"),
        ([], [], "there is nothing to compare"),
        (
            {"a": [1.0], "a.0": 2.0},
            {"a": [1.0], "b": 2.0},
            "ours has a.0, 'a.0'; theirs has a.0, b",
        ),
        ({0: 1.0, "0": 2.0}, {0: 1.0, "0": 2.0}, "ours has two arrays of the name 0; as text"),
    ],
)
def test_what_cannot_be_compared(ours, theirs, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        compare(ours, theirs)


def test_what_is_no_number():
    for value in ("lstm", None, lstm):
        message = f"b.c in theirs is of type {type(value).__name__} and dtype .*; expected numbers"
        with pytest.raises(TypeError, match=message):
            compare({"a": 1.0, "b": {"c": 1.0}}, {"a": 1.0, "b": {"c": value}})
