"""Run the chapters as Colab would: its versions, and for each chapter what its first cell installs.

``python tests/colab.py`` makes ``.venv-colab`` from ``colab.txt`` with Python 3.12 (PYTHON=...
names another), and ends with 1 if an output of a chapter differs from the stored one.
"""

import json
import os
import re
import shlex
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).parent.parent
REQUIREMENTS = ROOT / "tests" / "colab.txt"
VENV = ROOT / ".venv-colab"
PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
WORK = ROOT / "_build" / "colab"
PACKAGE = re.compile(r"lstmbook @ git\+\S+")


def run(*words, **options):
    return subprocess.run([str(word) for word in words], cwd=ROOT, check=True, **options)


def pip(*words):
    run(PYTHON, "-m", "pip", "install", "-q", *words)


def first_cell(path):
    """The arguments of every ``%pip install`` in the chapter's first cell for Colab."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    [source] = [text for cell in cells if "google.colab" in (text := "".join(cell["source"]))]
    return [shlex.split(line) for line in re.findall(r"%pip install (.*)", source)]


def set_up():
    """The environment of Colab, and a wheel of the package; returns the wheel."""
    stamp = VENV / "stamp"
    if not stamp.exists() or stamp.read_text() != REQUIREMENTS.read_text():
        run(os.environ.get("PYTHON", "python3.12"), "-m", "venv", "--clear", VENV)
        pip("-r", REQUIREMENTS)
        pip("nbval==0.11.*", "pytest")
        stamp.write_text(REQUIREMENTS.read_text())
    WORK.mkdir(parents=True, exist_ok=True)
    run(PYTHON, "-m", "pip", "wheel", "-q", "--no-deps", "-w", WORK, ROOT)
    return max(WORK.glob("lstmbook-*.whl"), key=lambda path: path.stat().st_mtime)


def check(path, wheel):
    """Whether a chapter gives its stored outputs, with what its own first cell installs alone."""
    added = WORK / path.stem
    for words in first_cell(path):
        words = [str(wheel) if PACKAGE.fullmatch(word) else word for word in words]
        pip("--upgrade", "--target", added, *[word for word in words if word != "-q"])
    done = subprocess.run(
        [PYTHON, "-m", "pytest", path, "--nbval", "--nbval-current-env", "-q", "-W", "default",
         "--nbval-cell-timeout", "300", "-p", "no:cacheprovider", "-c", os.devnull,
         "--rootdir", ROOT],
        cwd=WORK, env=os.environ | {"PYTHONPATH": str(added)}, capture_output=True, text=True,
    )  # fmt: skip
    lines = done.stdout.strip().splitlines() or [done.stderr]
    print(f"{path.stem}: {lines[-1]}", flush=True)
    if done.returncode:
        print(done.stdout + done.stderr, flush=True)
    return done.returncode == 0


def main():
    os.environ.pop("LSTMBOOK_NUMBA", None)  # Colab has Numba, and uses it
    os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "3", "TF_ENABLE_ONEDNN_OPTS": "0"}
    wheel = set_up()
    chapters = sorted((ROOT / "book").glob("*.ipynb"))
    with ThreadPoolExecutor(2) as pool:
        right = list(pool.map(lambda path: check(path, wheel), chapters))
    print(f"{sum(right)} passed, {len(right) - sum(right)} failed")
    sys.exit(not all(right))


if __name__ == "__main__":
    main()
