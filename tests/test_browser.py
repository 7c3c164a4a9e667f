"""The built book in a real browser: every page, light and dark, on a desk and on a phone."""

import http.server
import re
import threading
import tomllib
from functools import partial
from pathlib import Path

import needs
import pytest

from lstmbook.showing.draw import COLORS

ROOT = Path(__file__).parent.parent
SITE = needs.SITE
PAGES = sorted(
    path.relative_to(SITE).as_posix()
    for path in SITE.rglob("*.html")
    if "_static" not in path.parts
)
CHAPTERS = {path.stem + ".html" for path in (ROOT / "book").glob("*.ipynb")}
FLAGS = [
    "--no-sandbox",
    "--headless",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",  # no other host can be reached
]

# Text that MathJax should have turned into formulas.
RAW_TEX = r"""() => {
  const walker = document.createTreeWalker(document.querySelector("main") || document.body, 4);
  const found = [];
  while (walker.nextNode()) {
    const node = walker.currentNode;
    const inside = node.parentElement.closest("pre, code, script, style, mjx-container");
    if (!inside && /\\[([]|\\begin\{|\$\$/.test(node.data)) found.push(node.data.trim());
  }
  for (const box of document.querySelectorAll(".math")) {
    if (!box.querySelector("mjx-container")) found.push(box.textContent);
  }
  for (const error of document.querySelectorAll("mjx-merror")) found.push(error.textContent);
  return found;
}"""


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves files without a line for each, to be kept: all pages have the same scripts."""

    def log_message(self, *args):
        pass

    def end_headers(self):
        self.send_header("Cache-Control", "max-age=3600")
        super().end_headers()


@pytest.fixture(scope="module")
def site():
    """The address of the built book, served on this machine."""
    handler = partial(Quiet, directory=SITE)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.fixture(scope="module")
def browser():
    """Chromium, driven by Playwright."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=needs.find_browser(), args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def window(browser):
    """Its pages keep the files that they share."""
    with browser.new_context() as window:
        yield window


@pytest.fixture
def page(window, site):
    """A fresh page; what goes wrong on it gathers in `page.faults`."""
    page = window.new_page()
    page.faults = []

    def asked(request):
        if not request.url.startswith((site, "data:", "blob:")):
            page.faults.append(f"asks another host: {request.url}")

    def said(message):
        if message.type == "error":
            page.faults.append(f"console error: {message.text}")

    page.on("request", asked)
    page.on("console", said)
    page.on("pageerror", lambda error: page.faults.append(f"script error: {error}"))
    yield page
    page.close()


def violations(page, rules=None):
    """What axe finds, a line for each place; its time grows with all that is on the page."""
    from axe_playwright_python.sync_playwright import Axe

    # The theme fades colours in when a page is opened: half the way is no colour of the page.
    page.evaluate(
        "document.getAnimations().forEach(fade => fade.transitionProperty && fade.finish())"
    )
    axe = Axe()
    options = {"resultTypes": ["violations"], "preload": False}  # its preload asks for wrong files
    if rules:
        options["runOnly"] = {"type": "rule", "values": rules}
    result = axe.run(page, None, options)
    return [
        f"{rule['id']} ({rule['impact']}): {node['html'][:200]}"
        for rule in result.response["violations"]
        for node in rule["nodes"]
    ]


# Colours do not depend on the width, nor the arrangement on the colours: two looks show all.
LOOKS = [("light", 1280), ("dark", 375)]  # on a desk, on a phone
OF_LOOKS = ["color-contrast", "link-in-text-block", "scrollable-region-focusable", "target-size"]
WHOLE = {"basic_lstm_cell.html", "_modules/lstmbook/cells/lstm.html"}  # with the code
# Long and all alike: axe need not see them on every page, nor in every look.
LISTINGS, ENTRIES = ".highlight", "dl.py ~ dl.py"  # code; the API's functions after the first


def look_at(page, look):
    """In these colours, on a screen so wide: what is wider than it is a fault."""
    scheme, width = look
    if page.viewport_size["width"] != width:
        page.set_viewport_size({"width": width, "height": 900})
        page.emulate_media(color_scheme=scheme)
        page.wait_for_timeout(450)  # the theme asks what scrolls 300 ms after a change
    assert page.evaluate("document.documentElement.dataset.theme") == scheme
    wide = page.evaluate("document.documentElement.scrollWidth")
    if wide > width:
        page.faults.append(f"{wide} pixels wide on a screen of {width}")


def remove(page, selector):
    """Make the page shorter."""
    page.evaluate("all => document.querySelectorAll(all).forEach(e => e.remove())", selector)


def launch_links(name):
    """Where the Colab and Binder buttons of a chapter lead: to its own notebook."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    slug = project["urls"]["Repository"].removeprefix("https://github.com/")
    path = Path("book", name).with_suffix(".ipynb").as_posix()
    return (
        f"https://colab.research.google.com/github/{slug}/blob/main/{path}",
        f"https://mybinder.org/v2/gh/{slug}/main?urlpath=lab/tree/{path}",
    )


@pytest.mark.parametrize("name", PAGES or ["index.html"])
def test_page(page, site, name):
    """No foreign request, no script error, no raw TeX, no overflow, no accessibility violation.

    And the launch buttons of a chapter. Pages are opened in turns in the one look or the other;
    those of source are made by one template, and seen in one look alone.
    """
    first, second = LOOKS if PAGES.index(name) % 2 else LOOKS[::-1]
    page.emulate_media(color_scheme=first[0])
    page.set_viewport_size({"width": first[1], "height": 900})
    page.goto(site + name, wait_until="load")
    page.evaluate("async () => { await window.MathJax?.startup?.promise; }")
    page.faults += [f"raw TeX: {text}" for text in page.evaluate(RAW_TEX)]
    if name in CHAPTERS:
        hrefs = page.evaluate("[...document.querySelectorAll('a')].map(link => link.href)")
        page.faults += [f"no link to {link}" for link in launch_links(name) if link not in hrefs]
    look_at(page, first)
    one_look = name.startswith("_modules/")
    if not one_look:
        look_at(page, second)
    if name not in WHOLE:
        remove(page, LISTINGS)
    page.faults += violations(page)
    if not one_look:
        if name not in WHOLE:
            remove(page, ENTRIES)
        look_at(page, first)
        page.faults += violations(page, OF_LOOKS)
    assert page.faults == []


def test_gates_have_their_colours(page, site):
    """In equations (MathJax) and in tables, a gate is a tile in the colour of the drawings."""
    page.goto(site + "gru.html", wait_until="load")
    page.evaluate("async () => { await window.MathJax?.startup?.promise; }")
    roles = {"gate-keep": "z", "gate-show": "r", "gate-candidate": "n"}
    for place in ("mjx-container", "td code"):
        for role, letter in roles.items():
            tiles = page.locator(f"{place} .{role}")
            assert tiles.count(), (place, role)
            colour = tiles.first.evaluate("tile => getComputedStyle(tile).backgroundColor")
            rgb = bytes(map(int, re.findall(r"\d+", colour)))
            assert rgb.hex() == COLORS[letter][1:].lower(), (place, role)
