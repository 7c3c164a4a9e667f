"""The cell explorer (book/assets/explorer.js) against the package, in a real browser."""

import contextlib
import importlib
import io
import json
import shutil
import subprocess

import numpy as np
import pytest
import test_browser
from cases import params_of

from lstmbook import CELLS, lstm, record, run
from lstmbook.showing.draw import COLORS

browser = test_browser.browser  # the fixture
ASSETS = test_browser.ROOT / "book" / "assets"
SETS = [
    "rnn",
    "lstm",
    "rnn lstm",
    "lstm peephole",
    "lstm coupled coupled_onnx",
    "coupled coupled_onnx",
    "coupled coupled_peephole",
    "gru",
    "gru gru_reset_after",
]
STEPS = 12
FALLBACK = "This is a picture that moves."
PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Explorer</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>:root {{ color-scheme: light dark }} body {{ max-width: 46rem; margin: 0 auto }}</style>
<link rel="stylesheet" href="explorer.css">
<script src="cells.js"></script><script src="explorer.js"></script>
</head><body><main><h1>Explorer</h1>{}</main></body></html>"""


def box_of(cells):
    return f'<div class="cell-explorer" data-cells="{cells}">{FALLBACK}</div>'


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Pages with the assets beside them."""
    folder = tmp_path_factory.mktemp("explorer")
    for name in ("cells.js", "explorer.js", "explorer.css"):
        shutil.copy(ASSETS / name, folder)
    pages = {cells.replace(" ", "-"): box_of(cells) for cells in SETS}
    pages |= {
        "all": "".join(map(box_of, SETS[2:5] + SETS[-1:])),
        "none": "",
        "wrong": box_of("lstm lsmt"),
    }
    for name, body in pages.items():
        (folder / f"{name}.html").write_text(PAGE.format(body), encoding="utf-8")
    (folder / "bare.html").write_text("<title>no script</title>", encoding="utf-8")
    return folder


@pytest.fixture
def page(browser):
    """A fresh page; what goes wrong on it gathers in `page.faults`."""
    page = browser.new_page()
    page.faults = []
    page.on("pageerror", lambda error: page.faults.append(f"script error: {error}"))
    page.on(
        "console",
        lambda message: (
            message.type == "error" and page.faults.append(f"console error: {message.text}")
        ),
    )
    page.on(
        "request",
        lambda request: (
            request.url.startswith("file:") or page.faults.append(f"asks for {request.url}")
        ),
    )
    yield page
    page.close()


@pytest.fixture
def opened(page, folder):
    """Opens the page of some cells."""

    def opened(cells):
        page.goto((folder / f"{cells.replace(' ', '-')}.html").as_uri())
        return page

    yield opened
    assert page.faults == []


def lists(params):
    """Params of one unit as the explorer has them: a list for each field."""
    return {name: array.ravel().tolist() for name, array in params._asdict().items()}


def arrays(cell, fields):
    """The opposite: Params for `run`."""
    fresh = cell.init(np.random.default_rng(0), 1, 1, np.float64)
    return cell.Params(
        *(np.reshape(np.array(fields[k], float), a.shape) for k, a in fresh._asdict().items())
    )


def package(name, fields, xs, start):
    """What the package computes: {letter: its value at every step}."""
    module = CELLS[name.removesuffix("_onnx")]
    params = arrays(module, fields)
    if name == "coupled_onnx":  # keeps i, and f = 1 - i: the gate's weights change their sign
        for array in params:
            array[0] *= -1
    xs = np.reshape(np.array(xs, float), (1, -1, 1))
    state = module.State(*(np.array([[float(start[k])]]) for k in module.State._fields))
    seen = {k: v.ravel() for k, v in record(module, params, xs, state).items()}
    hs, _ = run(module, params, xs, state)
    assert np.allclose(hs.ravel(), seen["h"], rtol=0, atol=1e-12)
    if name == "coupled_onnx":
        seen["i"] = 1 - seen.pop("f")
    return seen


# Everything that can be moved, read from the sliders themselves.
SETTINGS = """() => {
  const box = document.querySelector(".cell-explorer");
  const number = (label) => label.querySelector("input").valueAsNumber;
  const text = (label) => label.firstChild.textContent;
  const across = (place) => [...place.querySelectorAll(".across")].map((l) => [text(l), number(l)]);
  const groups = [...box.querySelectorAll(".weights fieldset")];
  return {
    xs: [...box.querySelectorAll(".upright")].map(number),
    start: Object.fromEntries(across(box.querySelector(".initial"))),
    weights: Object.fromEntries(
      groups.map((group) => [group.querySelector("b").textContent,
                             Object.fromEntries(across(group))])),
  };
}"""

# The table as [[name of the row, numbers...], ...] and the cells that are marked as different.
TABLE = """() => [...document.querySelectorAll("tbody tr")].map((row) => [
  row.querySelector("b").textContent + (/before/.test(row.textContent) ? " before" : ""),
  ...[...row.querySelectorAll("td")].map((td) => td.textContent.replace("−", "-")),
])"""

# No line leaves its row of the picture.
INSIDE = """() => [...document.querySelectorAll("svg")].every((picture) => {
  const rows = [...picture.querySelectorAll("g")].map((row) => row.getBBox());
  const tall = picture.viewBox.baseVal.height / rows.length;
  return rows.every(({ y, height }, k) => k * tall <= y && y + height <= (k + 1) * tall);
})"""


def computed(page, cells):
    """What the package computes from the settings on the page, cell by cell."""
    settings = page.evaluate(SETTINGS)
    start = {"c": 0.0} | {k[0]: v for k, v in settings["start"].items()}
    weights = settings["weights"]
    result = {}
    for name in cells.split():
        module = CELLS[name.removesuffix("_onnx")]
        fields = {f: [weights[k][f] for k in module.GATES] for f in ("W_x", "W_h", "b")}
        fields["p"] = [weights[k]["p"] for k in getattr(module, "PEEPHOLES", "")]
        fields["b_hn"] = weights.get("n", {}).get("b_hn")
        result[name] = package(name, fields, settings["xs"], start)
    return settings["xs"], start, result


def expected_rows(xs, start, result, step):
    """The table of a step, as text, from the package's numbers."""
    rows = {("x", name): xs[step] for name in result}
    for name, seen in result.items():
        for letter, values in seen.items():
            rows[letter, name] = values[step]
        for letter in set("hc") & set(seen):
            rows[f"{letter} before", name] = seen[letter][step - 1] if step else start[letter]
        if name.startswith("coupled"):
            of, other = "fi" if name == "coupled_onnx" else "if"
            rows[of, name] = 1 - seen[other][step]
    return rows


def check_table(page, cells, computed_now):
    """The table shows the package's numbers, all of them and nothing else."""
    step = int(slider(page, "Time step").input_value()) - 1
    expected = expected_rows(*computed_now, step)
    shown = {
        (row[0], name): text
        for row in page.evaluate(TABLE)
        for name, text in zip(cells.split(), row[1:], strict=True)
        if text
    }
    assert shown.keys() == expected.keys()
    for key, text in shown.items():
        assert len(text.removesuffix("≠").split(".")[1]) == 6
        assert abs(float(text.removesuffix("≠")) - expected[key]) <= 5.1e-7, key


def slider(page, name):
    return page.get_by_role("slider", name=name, exact=True)


def press(page, target, *keys):
    """Keys alone."""
    target.focus()
    for key in keys:
        page.keyboard.press(key)


def unfold(page):
    for summary in page.get_by_text("Weights, gate by gate").all():
        press(page, summary, "Enter")


@pytest.fixture
def explorer_cells(monkeypatch):
    """The module that writes cells.js."""
    monkeypatch.syspath_prepend(test_browser.ROOT / "book" / "_ext")
    return importlib.import_module("explorer_cells")


def test_the_cells_are_current(explorer_cells):
    message = "run `make generate` and look at what has changed"
    assert explorer_cells.SCRIPT.read_text(encoding="utf-8") == explorer_cells.written(), message


def other_gates(params, x, state):
    """The gates of lstm with operations that no page has, and both sides of - and /."""
    i, f, g, o = x @ params.W_x + state.h @ params.W_h + params.b[:, None]
    i = 1 / (1 + np.exp(-(i - (f - g))))
    return i, np.clip(f, -0.5, 0.5), np.sqrt(g * g + 2) / (3 / o), np.tanh(-o) * (x - (-2 * i))


@pytest.mark.node
@pytest.mark.parametrize("patched", [False, True])
def test_the_cells_follow_from_their_pages(explorer_cells, monkeypatch, patched):
    """Every step in node is that of the page; when the page changes, so does what is written."""
    if patched:
        monkeypatch.setattr(lstm, "gates", other_gates)
        assert explorer_cells.written() != explorer_cells.SCRIPT.read_text(encoding="utf-8")
    asked, expected = [], []
    for name, cell in CELLS.items():
        rng = np.random.default_rng([7, *name.encode()])
        params = params_of(cell, rng, 1, 1)
        x, state = (
            rng.normal(size=(1, 1)),
            cell.State(*rng.normal(size=(len(cell.State._fields), 1, 1))),
        )
        start = {k: part.item() for k, part in state._asdict().items()}
        asked.append([name, lists(params), x.item(), start])
        gates = zip(cell.GATES, cell.gates(params, x, state), strict=True)
        seen = {**dict(gates), **cell.step(params, x, state)[1]._asdict()}
        expected.append({k: part.item() for k, part in seen.items()})
    code = f"""{explorer_cells.written()}
    const found = {json.dumps(asked)}.map(([k, ...rest]) => lstmbookCells[k].step(...rest));
    console.log(JSON.stringify(found))"""
    done = subprocess.run(["node", "-e", code], capture_output=True, text=True, check=True)
    for (name, *_), theirs, ours in zip(asked, json.loads(done.stdout), expected, strict=True):
        assert theirs == pytest.approx(ours, rel=0, abs=1e-12), name


@pytest.mark.parametrize("name", [*CELLS, "coupled_onnx"])
def test_run(opened, name):
    """`lstmbookExplorer.run` is `run` and `record`: every gate and state, at every step."""
    page = opened("none")
    for seed in range(5):
        rng = np.random.default_rng([seed, *name.encode()])
        fields = lists(params_of(CELLS[name.removesuffix("_onnx")], rng, 1, 1))
        xs, (h, c) = rng.normal(size=STEPS).tolist(), rng.normal(size=2).tolist()
        start = {"h": h, "c": c}
        theirs = page.evaluate(
            "([name, params, xs, state]) => lstmbookExplorer.run(name, params, xs, state)",
            [name, fields, xs, start],
        )
        ours = package(name, fields, xs, start)
        assert theirs.keys() == ours.keys()
        for letter, values in ours.items():
            assert np.allclose(theirs[letter], values, rtol=0, atol=1e-12), letter


@pytest.mark.parametrize("cells", SETS)
def test_keyboard(opened, cells):
    """Every kind of slider moves by keys, and the table keeps to the package."""
    page = opened(cells)
    check_table(page, cells, computed(page, cells))
    before = page.evaluate(TABLE)
    unfold(page)
    press(page, slider(page, "x at step 2"), "ArrowUp", "ArrowUp", "PageUp")
    press(page, slider(page, "h0"), "ArrowRight", "PageUp")
    if slider(page, "c0").count():
        press(page, slider(page, "c0"), "End", "ArrowLeft")
    for weight in page.locator(".weights input").all():
        press(page, weight, "ArrowRight", "PageDown")
    settings = page.evaluate(SETTINGS)
    assert settings["xs"][1] == pytest.approx(0.6)  # a page is a tenth of the range
    assert settings["start"]["h0"] == pytest.approx(0.3)
    check_table(page, cells, computed(page, cells))
    assert page.evaluate(TABLE) != before
    for keys in (["Home"], ["ArrowRight"], ["End"]):
        press(page, slider(page, "Time step"), *keys)
        check_table(page, cells, computed(page, cells))
        step = slider(page, "Time step").input_value()
        said = page.locator("[aria-live=polite] p").first.inner_text()
        assert said.startswith(f"Step {step} of {STEPS}: x is")


@pytest.mark.parametrize("cells", [cells for cells in SETS if " " in cells])
def test_first_difference(opened, cells):
    """Where two variants part is what the package says, in words, as a mark and in the table."""
    page = opened(cells)
    for button in ("Remember", "Forget", "Count", "Reset to defaults"):
        page.get_by_role("button", name=button).click()
        if button == "Forget":
            press(page, slider(page, "x at step 9"), "ArrowDown", "ArrowDown")
        check_difference(page, cells)


def check_difference(page, cells):
    _, _, result = computed(page, cells)
    first, *others = cells.split()
    sentences = page.locator("[aria-live=polite] p").all_inner_texts()[1:]
    marks = page.locator(".parting").all_inner_texts()[1:]
    for k, name in enumerate(others):
        shared = [letter for letter in result[name] if letter in result[first]]
        apart = {q: np.abs(result[name][q] - result[first][q]) > 1e-6 for q in shared}
        steps = np.flatnonzero(np.any(list(apart.values()), axis=0))
        if len(steps):
            found, rest = sentences[k].split(" at step ")
            step, letters = rest.rstrip(".").split(", in ")
            assert found == f"{name} first differs from {first}"
            assert int(step) == steps[0] + 1
            assert set(letters.split(", ")) == {q for q in shared if apart[q][steps[0]]}
            assert marks[k] == f"≠ from step {step}"
            press(page, slider(page, "Time step"), "Home", *["ArrowRight"] * steps[0])
            marked = {row[0] for row in page.evaluate(TABLE) if row[k + 2].endswith("≠")}
            assert marked == set(letters.split(", "))
        else:
            assert sentences[k] == f"{name} and {first} agree at all {STEPS} steps."
            assert marks[k] == ""


@pytest.mark.parametrize("cells", SETS)
def test_python(opened, cells):
    """The Python text, run, gives the numbers that are shown, at every step."""
    page = opened(cells)
    page.add_init_script("navigator.clipboard.writeText = async (text) => { window.kept = text; };")
    page.reload()
    press(page, slider(page, "x at step 4"), *["ArrowUp"] * 3)
    press(page, slider(page, "h0"), "ArrowLeft")
    page.get_by_role("button", name="Copy as Python").click()
    assert page.get_by_text("Copied.").is_visible()
    names, printed = {}, io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(page.evaluate("kept"), names)
    assert printed.getvalue().startswith(cells.split()[0])
    press(page, slider(page, "Time step"), "Home")
    for step in range(STEPS):
        for letter, *texts in page.evaluate(TABLE):
            for name, text in zip(cells.split(), texts, strict=True):
                seen = names["seen"][name]
                if letter in seen and not (name == "coupled_onnx" and letter in "if"):
                    assert abs(float(text.removesuffix("≠")) - seen[letter][0, step, 0]) < 5.1e-7
                if letter == "h":
                    h = names["hs"][name][0, step, 0]
                    assert h == pytest.approx(seen["h"][0, step, 0], rel=0, abs=1e-12)
        page.keyboard.press("ArrowRight")


def test_no_clipboard(opened):
    """Where a page may not copy, the text is there, selected."""
    page = opened("lstm")
    page.evaluate("() => { navigator.clipboard.writeText = () => Promise.reject(); }")
    page.get_by_role("button", name="Copy as Python").click()
    page.get_by_text("Selected").wait_for()
    assert page.get_by_label("Python", exact=True).is_visible()
    assert page.evaluate("getSelection().toString()").startswith("import numpy as np")


def test_presets(opened):
    """The sentences of the presets are true."""

    def state(cells, button):
        page = opened(cells)
        page.get_by_role("button", name=button).click()
        _, _, result = computed(page, cells)
        return result

    ones = np.isin(np.arange(1, STEPS + 1), [2, 4, 5, 8, 11])
    for cells in ("lstm", "lstm peephole", "coupled coupled_onnx", "lstm coupled coupled_onnx"):
        seen = state(cells, "Remember")[cells.split()[0]]
        assert seen["f"][1] < 0.3
        assert np.all(np.delete(seen["f"], 1) > 0.95)
        assert seen["c"][1] > 0.8
        assert np.all(seen["c"][1:] > 0.8)
        seen = state(cells, "Forget")[cells.split()[0]]
        assert np.all(seen["c"][:5] > 0.9)
        assert np.all(np.abs(seen["c"][5:]) < 0.2)
    added = np.diff(state("lstm", "Count")["lstm"]["c"], prepend=0)
    assert np.all(np.abs(added - ones) < 0.02)
    seen = state("lstm peephole", "Count")
    assert np.all(np.abs(seen["peephole"]["c"] - np.cumsum(ones)) < 0.1)
    assert np.all((seen["peephole"]["o"] > 0.5) == (np.cumsum(ones) >= 3))
    assert np.all(seen["lstm"]["o"] < 0.001)
    seen = state("lstm coupled coupled_onnx", "Count")
    assert seen["lstm"]["c"][-1] > 4.8
    assert max(np.abs(seen[k]["c"]).max() for k in ("coupled", "coupled_onnx")) < 1
    for name in ("gru", "gru_reset_after"):
        h = state("gru gru_reset_after", "Remember")[name]["h"]
        assert abs(h[0]) < 0.01
        assert np.all(h[1:] > 0.85)
        h = state("gru gru_reset_after", "Forget")[name]["h"]
        assert np.all(h[:5] > 0.95)
        assert np.all(np.abs(h[5:]) < 0.1)
        h = state("gru gru_reset_after", "Count")[name]["h"]
        lifts = np.diff(h, prepend=0)[ones]
        assert np.all(np.diff(lifts) < 0)
        assert np.all(lifts > 0.03)
        assert h.max() < 1
    h = state("rnn", "Remember")["rnn"]["h"]
    assert abs(h[-1] - h[-2]) < 1e-3 < 0.9 < h[-1]
    h = state("rnn", "Forget")["rnn"]["h"]
    assert np.all(np.abs(h[1:]) < np.abs(h[:-1]) / 2 + 1e-12)
    lifts = np.diff(state("rnn", "Count")["rnn"]["h"], prepend=0)[1:]
    assert np.all((lifts > 0) == ones[1:])


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 375])
def test_page(opened, page, scheme, width):
    """No accessibility violation, no error, no foreign request, nothing wider than the screen."""
    page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    page.set_viewport_size({"width": width, "height": 900})
    opened("all")
    unfold(page)
    for summary in page.get_by_text("The same in Python").all():
        press(page, summary, "Enter")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert test_browser.violations(page) == []
    small = page.evaluate(
        """() => [...document.querySelectorAll("input, button, summary")]
          .map((node) => node.getBoundingClientRect())
          .filter((box) => box.width < 24 || box.height < 24).length"""
    )
    assert small == 0


def test_scale(opened):
    """The picture has room for the largest c, the initial one too."""
    page = opened("lstm")
    page.get_by_role("button", name="Forget").click()
    press(page, slider(page, "c0"), "End")
    press(page, slider(page, "x at step 1"), "End")  # shuts f: c is gone at once
    assert page.evaluate(INSIDE)
    page.get_by_role("button", name="Count").click()
    assert page.evaluate(INSIDE)


def test_pointer(opened):
    """A touch on a picture selects the step there."""
    page = opened("lstm peephole")
    for k in range(2):
        picture = page.get_by_role("img").nth(k)
        box = picture.bounding_box()
        picture.click(position={"x": box["width"] * (8.5 + k) / STEPS, "y": 100})
        assert slider(page, "Time step").input_value() == str(9 + k)
        assert page.locator("caption").inner_text() == f"Step {9 + k} of {STEPS}"


def test_colors(opened):
    """A letter has the colour that it has in the drawings."""
    for cells in ("lstm", "gru"):
        page = opened(cells)
        found = page.evaluate(
            """() => Object.fromEntries([...document.querySelectorAll(".chip:not(.role-x)")]
              .map((chip) => [chip.textContent,
                              getComputedStyle(chip).getPropertyValue("--tone")]))"""
        )
        for letter, color in found.items():
            hexed = "#" + "".join(2 * d for d in color[1:]) if len(color) == 4 else color
            assert hexed.upper() == COLORS[letter].upper(), letter
        assert len(found) >= 4


def test_one_global_name(opened):
    """The script adds one name to the page, and that cannot be changed from outside."""
    names = "() => Object.keys(window)"
    bare = set(opened("bare").evaluate(names))
    page = opened("lstm peephole")
    assert set(page.evaluate(names)) - bare == {"lstmbookExplorer"}
    assert page.evaluate("Object.isFrozen(lstmbookExplorer)")


def test_print(opened, page):
    """On paper there is nothing to move, and the chosen state is there."""
    opened("lstm peephole")
    page.emulate_media(media="print")
    assert page.locator("input:visible, button:visible, summary:visible").count() == 0
    assert not page.get_by_text("Time step").is_visible()
    assert page.get_by_role("img").count() == 2
    assert page.get_by_role("table").is_visible()


def test_fallback(browser, folder):
    """Without a script the reader has the sentence that stands in the page."""
    page = browser.new_page(java_script_enabled=False)
    page.goto((folder / "lstm.html").as_uri())
    assert page.get_by_text(FALLBACK).is_visible()
    page.close()


def test_replaced(opened):
    """With the script the sentence is gone."""
    assert opened("lstm").get_by_text(FALLBACK).count() == 0


def test_unknown_cell(page, folder):
    """A name that is no cell is an error, and the fallback stays."""
    page.goto((folder / "wrong.html").as_uri())
    assert page.get_by_text(FALLBACK).is_visible()
    assert page.faults == ['script error: cell explorer: there is no cell "lsmt"']
