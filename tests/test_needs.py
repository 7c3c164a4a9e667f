"""A test that lacks what it needs is skipped before any line of it runs, and says what it needs."""

import os
import subprocess
import sys
from pathlib import Path

import needs
import pytest

pytestmark = pytest.mark.slow

TESTS = """
import needs
import pytest

def broken():
    raise RuntimeError("a line of the test ran")

@pytest.fixture
def early():
    broken()

@pytest.mark.torch
def test_by_mark(early):
    broken()

def test_by_fixture(torch, early):
    broken()

@pytest.mark.parametrize("value", [needs.param("torch", 1), 2])
def test_by_value(value):
    assert value == 2

@pytest.mark.h5py
def test_of_the_set_up():
    broken()
"""


@pytest.fixture
def outcome(tmp_path):
    """What pytest says of TESTS where neither PyTorch nor h5py is there."""
    (tmp_path / "test_some.py").write_text(TESTS)
    (tmp_path / "absent.py").write_text(
        "import needs\n"
        "for name in ('torch', 'h5py'):\n"
        "    needs.NEEDS[name] = needs.NEEDS[name]._replace(there=lambda: False)\n"
    )
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = --strict-markers -rsfE\n")

    def run(*options, **environment):
        paths = os.pathsep.join([str(tmp_path), str(Path(needs.__file__).parent)])
        kept = {k: v for k, v in os.environ.items() if k not in ("CI", "LSTMBOOK_REQUIRE_ALL")}
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-p", "needs", "-p", "absent",
             "-p", "no:cacheprovider", *options],
            cwd=tmp_path, env=kept | {"PYTHONPATH": paths} | environment,
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert "a line of the test ran" not in done.stdout + done.stderr, done.stdout
        return done.stdout

    return run


def test_what_is_missing_is_named(outcome):
    said = outcome()
    assert "[3] " in said
    assert "needs PyTorch (make oracles)" in said
    assert "needs h5py (make setup)" in said
    assert "1 passed, 4 skipped" in said


def test_the_marks_that_follow(outcome):
    assert "3 skipped, 2 deselected" in outcome("-m", "extra")
    assert "1 passed, 1 skipped, 3 deselected" in outcome("-m", "not slow")


def test_where_nothing_may_be_missing(outcome):
    said = outcome(LSTMBOOK_REQUIRE_ALL="1")
    assert "1 passed, 4 errors" in said
    assert "LSTMBOOK_REQUIRE_ALL is set, but skipped: Skipped: needs PyTorch" in said
    said = outcome(CI="true")
    assert "1 passed, 3 skipped, 1 error" in said
    assert "test_of_the_set_up - Failed: needs h5py (make setup)" in said


def test_there_is_no_other_way_to_skip():
    """One mechanism: no test asks on its own whether something is there."""
    for path in Path(__file__).parent.glob("*.py"):
        if path.name not in ("needs.py", Path(__file__).name):
            text = path.read_text(encoding="utf-8")
            for other in ("importor" + "skip", "pytest.skip(", "find_spec"):
                assert other not in text, path.name
