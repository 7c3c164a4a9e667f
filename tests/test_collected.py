"""A test of many cases goes through all of them, and names those that failed."""

import pytest
from collected import CasesFailed, each


def test_every_failed_case_is_named():
    tried = []

    @each("cell", ["rnn", "lstm"])
    @each(("batch", "time"), [(1, 2), (2, 1), (3, 3)], ids=lambda case: f"batch {case[0]}")
    def whole(cell, batch, time, fixture):
        tried.append((cell, batch, time, fixture))
        if (cell, batch) == ("lstm", 2):
            raise pytest.skip.Exception("not counted as passed")
        if (cell, batch) == ("lstm", 1):
            with pytest.raises(ValueError, match="never"):
                pass

    with pytest.raises(CasesFailed) as caught:
        whole(fixture=7)
    assert len(tried) == 6
    assert str(caught.value).split("\n") == [
        "2 of 6 cases failed",
        "[lstm-batch 1] Failed: DID NOT RAISE ValueError",
        "[lstm-batch 2] Skipped: not counted as passed",
    ]


def test_what_is_asked_for_is_there():
    with pytest.raises(AssertionError, match="no cases"):
        each("cell", [])
    with pytest.raises(AssertionError, match="does not take"):
        each("sell", [1])(lambda cell: None)
