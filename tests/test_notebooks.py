"""Every notebook of the book is in its one form, and every departure from the form is seen."""

import normalise
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

NOTEBOOKS = sorted(normalise.BOOK.glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_form(path):
    assert normalise.faults(path) == []


def good():
    """A notebook without fault."""
    return normalise.normalised(
        new_notebook(
            cells=[
                new_markdown_cell("# Title", id="title"),
                new_code_cell("print(1)", id="one", outputs=[stream("1\n")]),
                new_code_cell(
                    "1 / 0", id="error", metadata={"tags": ["raises-exception"]}, outputs=[error()]
                ),
                new_code_cell(
                    "print(2)", id="two", metadata={"tags": ["no-stored-output"]}, outputs=[]
                ),
            ]
        )
    )


def stream(text, name="stdout"):
    return new_output("stream", name=name, text=text)


def error(traceback=()):
    return new_output(
        "error", ename="ZeroDivisionError", evalue="division by zero", traceback=list(traceback)
    )


def stored(tmp_path, nb):
    path = tmp_path / "chapter.ipynb"
    normalise.write(nb, path)
    return path


def test_good(tmp_path):
    assert normalise.faults(stored(tmp_path, good())) == []


def random_id(nb):
    nb.cells[1].id = "0a1b2c3d"


def editor_id(nb):
    nb.cells[1].id = "aXk3_9Zq"


def no_id(nb):
    for cell in nb.cells:
        del cell["id"]
    nb.nbformat_minor = 4


def same_id(nb):
    nb.cells[1].id = "title"


def kernel(nb):
    nb.metadata.kernelspec.display_name = "my-env"


def version(nb):
    nb.metadata.language_info.version = "3.11.7"


def no_count(nb):
    nb.cells[1].execution_count = None


def wrong_count(nb):
    nb.cells[1].execution_count = 7


def timing(nb):
    nb.cells[1].metadata["execution"] = {"iopub.execute_input": "2026-01-01T00:00:00Z"}


def stderr(nb):
    nb.cells[1].outputs.append(stream("warning\n", "stderr"))


def split_stream(nb):
    nb.cells[1].outputs.append(stream("1\n"))


def traceback(nb):
    nb.cells[2].outputs = [error(["Traceback"])]


def unmeant_error(nb):
    nb.cells[1].outputs = [error()]


def framework_source(nb):
    nb.cells[3].outputs = [stream("def call(self, inputs, state):\n")]


def compared_without_output(nb):
    nb.cells[3].metadata["tags"] = ["no-stored-output"]


def long_cell(nb):
    nb.cells[1].source = "\n".join(f"x{i} = {i}" for i in range(15))


def skipped_cell(nb):
    nb.cells[1].metadata["tags"] = ["nbval-skip"]


def machine_path(nb):
    nb.cells[1].outputs = [stream("/" + "home/me/lstmbook/cells/lstm.py\n")]


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (random_id, "cell 2 (0a1b2c3d): needs a hand-written id"),
        (editor_id, "cell 2 (aXk3_9Zq): needs a hand-written id"),
        (no_id, "cell 1 (None): needs a hand-written id"),
        (same_id, "cell 2 (title): its id is there twice"),
        (kernel, "chapter.ipynb: metadata is not"),
        (version, "chapter.ipynb: metadata is not"),
        (no_count, "cell 2 (one): execution count is None, not 1"),
        (wrong_count, "cell 2 (one): execution count is 7, not 1"),
        (timing, "cell 2 (one): metadata is"),
        (stderr, "cell 2 (one): outputs hold"),
        (split_stream, "cell 2 (one): outputs hold"),
        (traceback, "cell 3 (error): outputs hold"),
        (unmeant_error, "cell 2 (one): stores an error"),
        (framework_source, "cell 4 (two): outputs hold"),
        (compared_without_output, "cell 4 (two): metadata is"),
        (long_cell, "cell 2 (one): has 15 lines of code"),
        (skipped_cell, "cell 2 (one): is tagged nbval-skip"),
        (machine_path, "cell 2 (one): output names a place on one machine"),
    ],
)
def test_fault_is_seen(tmp_path, spoil, said):
    nb = good()
    spoil(nb)
    found = normalise.faults(stored(tmp_path, nb))
    assert any(said in fault for fault in found), found


def test_written_form(tmp_path):
    path = stored(tmp_path, good())
    path.write_text(path.read_text(encoding="utf-8") + "\n", encoding="utf-8")
    assert "not in the written form" in normalise.faults(path)[0]


@pytest.mark.parametrize(
    "spoil", [kernel, version, no_count, wrong_count, timing, stderr, traceback, framework_source]
)
def test_normalised_mends(spoil):
    nb = good()
    spoil(nb)
    assert normalise.normalised(nb) == good()


@pytest.mark.ipykernel
def test_command_line(tmp_path, monkeypatch, capsys):
    nb = good()
    no_count(nb)
    path = stored(tmp_path, nb)
    monkeypatch.setattr("sys.argv", ["normalise.py", "--check", str(path)])
    with pytest.raises(SystemExit, match="make normalise"):
        normalise.main()
    assert "execution count is None" in capsys.readouterr().out
    monkeypatch.setattr("sys.argv", ["normalise.py", "--execute", str(path)])
    normalise.main()
    assert normalise.faults(path) == []
