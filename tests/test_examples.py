"""What README and docstrings show is run."""

import doctest
import importlib
import re
from pathlib import Path

import numpy as np
import pytest

import lstmbook

PACKAGE = Path(lstmbook.__file__).parent
MODULES = [
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
    for path in PACKAGE.rglob("*.py")
    if ">>>" in path.read_text(encoding="utf-8") and "live" not in path.parts
]


@pytest.mark.parametrize("name", MODULES)
def test_docstrings(name):
    module = importlib.import_module(name)
    names = {"np": np, **vars(module)}
    result = doctest.testmod(module, extraglobs=names, optionflags=doctest.ELLIPSIS)
    assert result.attempted
    assert result.failed == 0


@pytest.mark.tensorflow
def test_readme(capsys):
    readme = Path(__file__).parent.parent / "README.md"
    blocks = re.findall(r"```python\n(.*?)```", readme.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 3
    exec("\n".join(blocks), {})
    told = capsys.readouterr().out
    assert "hs     (2, 5, 4)" in told
    assert "False" not in told
    assert "You leave out the tanh; it is h = o * tanh(c)" in told.replace("\n", " ")
