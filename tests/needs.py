"""What a test needs besides the package, NumPy and pytest: one table, one mechanism.

A test says ``@pytest.mark.torch``, or takes the fixture ``torch``; a file says
``pytestmark = pytest.mark.tensorflow``. What is not there is named, and the test is skipped before
any line of it or of its fixtures runs. Two marks follow from the table: ``extra`` for what
``make setup`` does not install, and ``slow`` for what loads a large framework or a browser, or
compiles.
With LSTMBOOK_REQUIRE_ALL=1 a skip is a failure; in CI it is one where ``make setup`` installs what
is missing.
"""

import functools
import importlib
import importlib.util
import os
import shutil
from pathlib import Path
from typing import NamedTuple

import pytest

REQUIRE_ALL = os.environ.get("LSTMBOOK_REQUIRE_ALL", "0") not in ("", "0")
SITE = Path(__file__).parent.parent / "_build" / "html"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def find_browser():
    """The path of Chromium or Chrome: what CHROMIUM names, or the first of the known names."""
    named = os.environ.get("CHROMIUM")
    return named or next(filter(None, map(shutil.which, BROWSERS)), None)


class Need(NamedTuple):
    """Something a test needs: what it is, how to get it, and whether it is there."""

    what: str
    mend: str
    there: object = None  # a function without arguments; None: the package of this name
    extra: bool = False  # `make setup` does not install it
    slow: bool = False


ORACLES = {"mend": "make oracles", "extra": True, "slow": True}
LOCKED = {"mend": "make setup"}
NEEDS = {
    "tensorflow": Need("TensorFlow", **LOCKED, slow=True),
    "keras": Need("Keras", **LOCKED, slow=True),
    "h5py": Need("h5py", **LOCKED),
    "onnx": Need("onnx", **LOCKED),
    "onnxruntime": Need("ONNX Runtime", **LOCKED),
    "safetensors": Need("safetensors", **LOCKED),
    "numba": Need("Numba", **LOCKED, slow=True),  # it compiles
    "ipykernel": Need("ipykernel", **LOCKED),
    "sphinx": Need("Sphinx", **LOCKED),
    "threadpoolctl": Need("threadpoolctl", **LOCKED),
    "tqdm": Need("tqdm", **LOCKED),
    "torch": Need("PyTorch", **ORACLES),
    "jax": Need("JAX", **ORACLES),
    "flax": Need("Flax", **ORACLES),
    "haiku": Need("Haiku", **ORACLES),
    "browser": Need("Chromium or Chrome", "install it, or name it in CHROMIUM", find_browser,
                    extra=True, slow=True),
    "site": Need("the built book", "make book", lambda: (SITE / "index.html").exists(),
                 extra=True, slow=True),
    "node": Need("Node.js", "install it", lambda: shutil.which("node"), extra=True),
    "make": Need("make", "install it", lambda: shutil.which("make"), extra=True),
    "cc": Need("a C compiler cc", "install it", lambda: shutil.which("cc"), extra=True),
}  # fmt: skip


@functools.cache
def is_there(name):
    need = NEEDS[name]
    return bool(need.there() if need.there else importlib.util.find_spec(name))


def needs_of(item):
    """The names of all that a test needs: its marks and its fixtures."""
    marks = {mark.name for mark in item.iter_markers()}
    return [name for name in NEEDS if name in marks or name in getattr(item, "fixturenames", ())]


def param(name, *values, **options):
    """`pytest.param` for values that need something."""
    return pytest.param(*values, marks=getattr(pytest.mark, name), **options)


class Late:
    """A package that is imported when an attribute of it is first asked for."""

    def __init__(self, name):
        self._name = name

    def __getattr__(self, attribute):
        return getattr(importlib.import_module(self._name), attribute)


def pytest_configure(config):
    for name, need in NEEDS.items():
        config.addinivalue_line("markers", f"{name}: needs {need.what} ({need.mend})")
    config.addinivalue_line("markers", "extra: needs what `make setup` does not install")
    config.addinivalue_line("markers", "slow: not in `make quick`")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    for item in items:
        for name in needs_of(item):
            for mark in ("extra", "slow"):
                if getattr(NEEDS[name], mark):
                    item.add_marker(mark)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    missing = [NEEDS[name] for name in needs_of(item) if not is_there(name)]
    if missing:
        words = "needs " + ", ".join(f"{need.what} ({need.mend})" for need in missing)
        if os.environ.get("CI") and not all(need.extra for need in missing):
            pytest.fail(words, pytrace=False)
        pytest.skip(words)


def _package(name):
    """A fixture: the package of this name."""

    @pytest.fixture(scope="session", name=name)
    def package():
        return importlib.import_module(name)

    return package


for _name, _need in NEEDS.items():
    if _need.there is None:
        globals()[f"_{_name}"] = _package(_name)


@pytest.fixture(scope="session")
def tf(tensorflow):
    return tensorflow


def _no_skip(report):
    if REQUIRE_ALL and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"LSTMBOOK_REQUIRE_ALL is set, but skipped: {report.longrepr[-1]}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport():
    return _no_skip((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report():
    return _no_skip((yield))
