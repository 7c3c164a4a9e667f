"""What imports what: NumPy alone for the package, arrows one way only."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest
from collected import each

import lstmbook

PACKAGE = Path(lstmbook.__file__).parent
MODULES = {
    path.relative_to(PACKAGE).with_suffix("").as_posix().removesuffix("/__init__"): path
    for path in PACKAGE.rglob("*.py")
}

# Each folder of the package, and those that it may import: arrows go up this list, never down.
ARROWS = {
    "data": set(),
    "cells": set(),
    "running": {"cells"},
    "layouts": {"cells"},
    "showing": {"cells"},
    "wrong_cells": {"cells", "running"},
    "live": {"cells", "running", "layouts"},
    "files": {"cells", "running", "layouts", "showing", "live"},
    "diagnose": {"cells", "running", "wrong_cells"},
    "convention": {"cells", "running", "layouts", "wrong_cells"},
    "golden": {"cells", "layouts", "wrong_cells", "diagnose"},
    "training": {"cells", "running", "files", "wrong_cells"},
    "cli": {"cells", "layouts", "files", "convention", "golden"},
    "__main__": {"cli"},
    "__init__": {"cells", "layouts", "running", "convention", "diagnose", "golden", "showing"},
}
FRAMEWORKS = {
    *("tensorflow", "tf_keras", "keras", "flatbuffers", "torch", "jax", "flax", "haiku"),
    *("onnx", "onnxruntime", "h5py", "safetensors"),
}


def part_of(module):
    return module.split("/")[0]


def imports_of(module):
    """Absolute names of everything that a module imports, whether at the top or inside."""
    package = ["lstmbook", *module.split("/")]
    if MODULES[module].name != "__init__.py":
        package = package[:-1]
    for node in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*base, *([node.module] if node.module else [])])
            yield from (f"{base}.{alias.name}" for alias in node.names)


def test_every_part_has_its_arrows():
    assert {part_of(module) for module in MODULES} - {"__init__"} == set(ARROWS) - {"__init__"}


@each("module", MODULES)
def test_arrows_go_one_way(module):
    own = {name.split(".")[1] for name in imports_of(module) if name.startswith("lstmbook.")}
    known = own & set(ARROWS) - {part_of(module), "__init__"}
    assert known <= ARROWS[part_of(module)], f"{module} imports {known}"


@each("module", MODULES)
def test_only_numpy_and_live_frameworks(module):
    roots = {name.split(".")[0] for name in imports_of(module)} - {"lstmbook"}
    roots -= set(sys.stdlib_module_names)
    extras = {"live": FRAMEWORKS, "running": {"numba", "llvmlite"}, "training": {"tqdm"}}
    allowed = {"numpy"} | extras.get(part_of(module), set())
    assert roots <= allowed


def test_all_that_is_compiled_is_in_two_files():
    """Numba's cache sees a change in the function's own file alone: the generated one has a mark of
    the other, which `test_program` holds.
    """
    compiling = [m for m in MODULES if "numba.njit" in imports_of(m)]
    assert compiling == ["running/loops"]
    users = [m for m in MODULES if "lstmbook.running.loops.compiled" in imports_of(m)]
    assert users == ["running/cells_compiled"]


def fresh(code):
    """Run code in a fresh interpreter; what it prints as JSON."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_importing_lstmbook_imports_numpy_alone():
    code = (
        "import sys, json, {}; "
        "print(json.dumps(sorted({{name.split('.')[0] for name in sys.modules}})))"
    )
    without, with_ = set(fresh(code.format("numpy"))), set(fresh(code.format("lstmbook")))
    new = with_ - without - set(sys.stdlib_module_names)
    assert new == {"lstmbook"}, "NumPy's own parts that it loads late count too"
    # The standard library's expensive parts stay out as well.
    assert not (with_ - without) & {"inspect", "html", "dataclasses", "unittest", "importlib.util"}


def test_what_the_package_offers():
    for name in lstmbook.__all__:
        assert hasattr(lstmbook, name), name
    assert {*lstmbook.CELLS, *lstmbook.__all__, "files", "live", "training"} < set(dir(lstmbook))
    for name in (
        "check",
        "compare",
        "convert",
        "detect",
        "draw",
        "run",
        "stream",
        "trace",
        "verify",
        "vjp",
    ):
        assert callable(getattr(lstmbook, name)), name
    with pytest.raises(AttributeError, match="module 'lstmbook' has no attribute 'lstms'"):
        lstmbook.lstms  # noqa: B018


def test_late_modules_come_when_asked_for():
    code = (
        "import sys, json, lstmbook; "
        "late = ['lstmbook.showing', 'lstmbook.files', 'lstmbook.live']; "
        "before = [m in sys.modules for m in late]; "
        "lstmbook.showing, lstmbook.files, lstmbook.live; "
        "print(json.dumps([before, [m in sys.modules for m in late]]))"
    )
    assert fresh(code) == [[False] * 3, [True] * 3]
    with pytest.raises(AttributeError, match=r"module 'lstmbook.live' has no attribute 'theano'"):
        lstmbook.live.theano  # noqa: B018
