"""What many files say, they say alike: addresses, versions, contents, pins."""

import json
import os
import re
import shutil
import subprocess
import tomllib
from contextlib import suppress
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from normalise import MACHINE_PATH
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "book").glob("*.ipynb"))


def text(name):
    return (ROOT / name).read_text(encoding="utf-8")


PROJECT = tomllib.loads(text("pyproject.toml"))["project"]
CONFIG = yaml.safe_load(text("_config.yml"))
CITATION = yaml.safe_load(text("CITATION.cff"))
REPOSITORY = PROJECT["urls"]["Repository"]
PAGES = PROJECT["urls"]["Homepage"]


def text_files():
    """Every text file of the project that we wrote, with its text."""
    for folder, folders, names in os.walk(ROOT):
        folders[:] = [
            name
            for name in folders
            if name in (".ci", ".github")
            or (name[0] != "." and name not in ("_build", "__pycache__", "dist", "mathjax"))
        ]
        for path in (Path(folder, name) for name in names if not name.startswith(".coverage")):
            with suppress(UnicodeDecodeError):  # not a text
                yield path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")


def test_addresses():
    """One address of the repository and one of the pages, wherever they are named."""
    owner, name = REPOSITORY.removeprefix("https://github.com/").split("/")
    assert f"https://{owner}.github.io/{name}" == PAGES
    assert CONFIG["repository"]["url"] == CITATION["repository-code"] == REPOSITORY
    assert CONFIG["html"]["baseurl"] == CITATION["url"] == PAGES
    assert REPOSITORY in text("README.md")
    assert PAGES in text("README.md")
    for path, content in text_files():
        assert set(re.findall(rf"github\.com/([\w.-]+)/{name}\b", content)) <= {owner}, path
        assert set(re.findall(rf"([\w-]+)\.github\.io/{name}\b", content)) <= {owner}, path


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_colab_cell(path):
    """A chapter installs the package in Colab, from the right address and unseen in the book."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    colab = [cell for cell in cells if "google.colab" in "".join(cell["source"])]
    assert len(colab) == 1
    assert f"git+{REPOSITORY}" in "".join(colab[0]["source"])
    assert "remove-cell" in colab[0]["metadata"]["tags"]


def test_versions():
    import lstmbook

    assert (
        PROJECT["version"]
        == CITATION["version"]
        == metadata.version("lstmbook")
        == lstmbook.__version__
    )


def test_contents():
    """The table of contents lists every page, and nothing else."""
    toc = yaml.safe_load(text("_toc.yml"))
    listed = [toc["root"]] + [entry["file"] for part in toc["parts"] for entry in part["chapters"]]
    pages = [path.stem for path in (ROOT / "book").iterdir() if path.suffix in (".ipynb", ".md")]
    assert sorted(listed) == sorted(pages)


def test_lock():
    """The lock names versions only, and one that fits for everything that pyproject.toml asks."""
    versions = {}
    for line in text("requirements.lock").splitlines():
        if not line.startswith("#"):
            assert re.fullmatch(r"[\w.-]+==[\w.!+]+( ; .+)?", line), line
            name, version = line.split(" ;")[0].split("==")
            versions.setdefault(name, []).append(Version(version))
    extras = PROJECT["optional-dependencies"]
    for wanted in PROJECT["dependencies"] + extras["tf"] + extras["book"] + extras["test"]:
        requirement = Requirement(wanted)
        assert requirement.name in versions, f"{wanted}: run `make lock`"
        for version in versions[requirement.name]:
            assert version in requirement.specifier, f"{wanted}: run `make lock`"


def test_workflow_pins():
    """An action is named by a commit, which nobody can move, and by its version in a comment."""
    workflows = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
    assert workflows
    for path in workflows:
        for line in path.read_text(encoding="utf-8").splitlines():
            if "uses:" in line:
                assert re.search(r"uses: [\w/-]+@[0-9a-f]{40} # v\d", line), f"{path.name}: {line}"


def parts_of_ci():
    """The parts that .ci/run runs, in order; a function of its own stands where it is called."""
    script = text(".ci/run")
    return re.findall(r"^(?:part \".*?\" (.+)|(other_pythons))$", script, re.MULTILINE)


def test_ci_runs_the_two_commands_first():
    """In the environment that they make themselves: nothing may be installed before them."""
    commands = [part or function for part, function in parts_of_ci()]
    assert commands == [
        *("make book", "make test", "other_pythons", "make oracles", "browser", "make extra")
    ]
    before = text(".ci/run").partition('part "make book"')[0]
    installs = [line for line in before.splitlines() if re.search(r"\b(pip|uv|apt-get)\b", line)]
    assert all("apt-get" in line for line in installs), "only `browser` may, which runs later"
    assert "LSTMBOOK_REQUIRE_ALL" not in text(".ci/run"), "what is missing is skipped, and then not"
    assert (
        "LSTMBOOK_REQUIRE_ALL=1" in text("Makefile").partition("\nextra:")[2].partition("\n\n")[0]
    )


def test_ci_tries_every_python_of_the_range():
    versions = re.search(r"for minor in (.*); do", text(".ci/run"))[1].split()
    lowest, above = re.fullmatch(r">=3\.(\d+),<3\.(\d+)", PROJECT["requires-python"]).groups()
    assert versions == [str(minor) for minor in range(int(lowest), int(above))]
    targets = re.search(r'CHAPTERS="book/.*" (.*)$', text(".ci/run"), re.MULTILINE)[1]
    assert targets == "lint quick live chapters"


@pytest.mark.make
def test_workflows_run_the_two_commands_first():
    jobs = yaml.safe_load(text(".github/workflows/tests.yml"))["jobs"]
    commands = {name: [s["run"] for s in job["steps"] if "run" in s] for name, job in jobs.items()}
    assert commands["all"] == [".ci/run"]
    python = " PYTHON=python${{ matrix.python }}"
    assert commands["macos"] == [f"make book{python}", f"make test{python}"]
    # Windows has no make: what make would run there, word for word. Where these tests are run by
    # make, its variables (CHAPTERS, VENV) must not reach this one.
    names = ("PATH", "HOME")
    done = subprocess.run(
        ["make", "-n", "-s", "test"], cwd=ROOT, env={name: os.environ[name] for name in names},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    lines = [" ".join(line.split()) for line in done.stdout.replace("\\\n", "").splitlines()]
    pytest_lines = [
        re.sub(r".*\bpython(?:\.exe)? -m pytest", "python -m pytest", line)
        for line in lines
        if " -m pytest" in line
    ]
    assert commands["windows"][2:] == pytest_lines
    assert all("requirements.lock" in c or "-e ." in c for c in commands["windows"][:2])


@pytest.fixture
def other_machine(tmp_path):
    """Runs a command of make where Python 3.14 is the only one, and perhaps uv."""
    tools = ["make", "sh", "paste", "sed", "head", "cat", "cmp", "mv", "rm", "find", "sort", "tr"]
    for tool in tools:
        (tmp_path / tool).symlink_to(shutil.which(tool))

    def program(name, script):
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)

    in_range = "*sys.exit*) exit 1"  # the question whether it is one of 3.11 to 3.13
    program("python3", f'case "$2" in {in_range};; *) echo "python3 is 3.14.2";; esac')

    def run(*words):
        environment = {"PATH": str(tmp_path), "HOME": str(tmp_path)}
        return subprocess.run(
            [str(tmp_path / "make"), "setup", f"VENV={tmp_path / 'venv'}", *words],
            cwd=ROOT, env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip

    run.program = program
    return run


@pytest.mark.make
def test_no_fitting_python_is_told_with_the_way_out(other_machine):
    for words, named in (((), ""), (("PYTHON=python3",), "; python3 is none")):
        done = other_machine(*words)
        assert done.returncode != 0
        assert done.stderr.splitlines()[:3] == [
            "error: lstmbook needs Python 3.11, 3.12 or 3.13 (TensorFlow has no later one)"
            f"{named}.",
            "Found on PATH: python3 is 3.14.2.",
            "The shortest way to one: install uv (pip install uv) and repeat this with PYTHON=uv;",
        ]


@pytest.mark.make
def test_uv_is_used_where_no_python_fits(other_machine):
    other_machine.program("uv", 'echo "uv $*"; exit 7')
    done = other_machine()
    said = done.stdout.splitlines()
    assert "by uv (Python 3.11 to 3.13 is needed; on PATH: python3 is 3.14.2)" in said[0]
    assert said[1].startswith("uv venv -q --seed --python >=3.11,<3.14 ")
    assert done.returncode != 0


def test_licences():
    assert "MIT License" in text("LICENSE")
    assert "https://creativecommons.org/licenses/by/4.0/" in text("book/LICENSE")
    assert "Apache License" in text("book/assets/mathjax/LICENSE")


def test_no_machine_path():
    """No file names a place that exists on one machine only."""
    found = [
        f"{path}: {content[place.start() :][:40]!r}"
        for path, content in text_files()
        for place in MACHINE_PATH.finditer(content)
    ]
    assert found == []


def test_checkpoints_of_the_package_are_those_of_the_tests():
    """The package ships copies, so that a chapter has them in Colab too."""
    shipped = ROOT / "lstmbook" / "data" / "checkpoints"
    kept = [ROOT / "tests" / "tf1" / folder for folder in ("checkpoints", "more/1.12.3")]
    for path in shipped.iterdir():
        if path.name != "README.md":
            known = {other.read_bytes() for k in kept if (other := k / path.name).exists()}
            assert path.read_bytes() in known, path.name


def test_only_sources_are_inputs_of_the_chapters(tmp_path):
    """Not what Python and Numba keep beside them, or every build would run all chapters again."""
    for name in ("lstmbook/a.py", "lstmbook/__pycache__/a.nbi", "book/b.yml", "book/c.ipynb"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    command = text("Makefile").partition("RUN_INPUTS = ")[2].partition("\n\n")[0]
    done = subprocess.run(
        ["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["book/b.yml", "lstmbook/a.py"]
