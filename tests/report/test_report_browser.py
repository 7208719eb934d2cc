"""The report in a real browser: nothing overflows, everything can be read, and it asks for nothing."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lightning_goats.hive.plugins.module_utils import _report, _report_page
from report import samples
from report.browser import Browser, browser, program

Json = dict[str, Any]

# A phone, a tablet, a desktop.
WIDTHS = (360, 768, 1280)
PICTURED = (360, 1280)
SCHEMES = ("light", "dark")
# What WCAG 2.2 asks for at level AA: text, and text from 24 px or bold from 18.66 px.
CONTRAST, LARGE_CONTRAST = 4.5, 3.0

OVERFLOWING = """
(() => {
  const width = document.documentElement.clientWidth;
  const found = [...document.body.querySelectorAll('*')].filter(element => {
    const box = element.getBoundingClientRect();
    return box.width > 0 && (box.right > width + 1 || box.left < -1) && !element.closest('.wide > *, .hidden, svg *');
  });
  const wide = document.documentElement.scrollWidth > width ? ['the page'] : [];
  return wide.concat(found.map(element => element.outerHTML.slice(0, 120)));
})()
"""

PALE = """
(() => {
  const paint = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
  const over = colors => {
    paint.clearRect(0, 0, 1, 1);
    for (const color of colors) { paint.fillStyle = color; paint.fillRect(0, 0, 1, 1); }
    return [...paint.getImageData(0, 0, 1, 1).data].slice(0, 3);
  };
  const light = rgb => rgb.map(c => c / 255).map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, index) => sum + c * [0.2126, 0.7152, 0.0722][index], 0);
  const found = [];
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node; (node = walk.nextNode());) {
    const element = node.parentElement, style = getComputedStyle(element);
    if (!node.data.trim() || element.closest('.hidden, desc, title, svg title')) continue;
    const grounds = [];
    for (let at = element; at; at = at.parentElement) grounds.unshift(getComputedStyle(at).backgroundColor);
    const ground = over(['#fff', ...grounds]);
    const ink = over([`rgb(${ground})`, element.closest('svg') ? style.fill : style.color]);
    const [high, low] = [light(ink), light(ground)].sort((a, b) => b - a);
    const size = parseFloat(style.fontSize), large = size >= 24 || (size >= 18.66 && style.fontWeight >= 600);
    if ((high + 0.05) / (low + 0.05) < (large ? LARGE : NORMAL)) found.push(node.data.trim().slice(0, 60));
  }
  return found;
})()
""".replace("LARGE", str(LARGE_CONTRAST)).replace("NORMAL", str(CONTRAST))

UNREADABLE_BY_MACHINES = """
(() => {
  const all = selector => [...document.querySelectorAll(selector)];
  const found = [];
  const ids = all('[id]').map(element => element.id);
  if (new Set(ids).size !== ids.length) found.push('ids that are not unique');
  if (all('h1').length !== 1) found.push('not one h1');
  let level = 1;
  for (const heading of all('h1, h2, h3, h4')) {
    const now = Number(heading.tagName[1]);
    if (now > level + 1) found.push(`${heading.textContent} skips a level`);
    level = now;
  }
  found.push(...all('svg[role=img]').filter(s => !s.querySelector('title')?.textContent).map(() => 'untitled plot'));
  found.push(...all('th').filter(cell => !cell.scope).map(cell => `${cell.textContent} has no scope`));
  found.push(...all('nav a').filter(a => !document.querySelector(a.hash)).map(a => `${a.hash} leads nowhere`));
  found.push(...all('.wide').filter(box => box.tabIndex !== 0 || !box.ariaLabel).map(() => 'a box without a name'));
  found.push(...all('script, iframe, img, link, object, form').map(element => element.tagName));
  if (!document.documentElement.lang || !document.title) found.push('no language or title');
  return found;
})()
"""

# What a browser tells when a page asked for something, or when something went wrong in it.
COMPLAINTS = ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded", "Page.javascriptDialogOpening")


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    if not program():
        trouble = "there is no Chromium: run scripts/ci-machine as root on Debian, or install the package chromium"
        if os.environ.get("CI") == "true":
            pytest.fail(f"CI runs every test, and {trouble}", pytrace=False)
        pytest.skip(trouble)
    with browser(tmp_path_factory.mktemp("profile")) as made:
        yield made


@pytest.fixture(scope="module")
def shots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the pictures stay, for people to look at."""
    return tmp_path_factory.mktemp("screenshots")


def asked_for(chromium: Browser, page: Path) -> list[str]:
    """What the page loaded beside itself, and what the browser complained of."""
    urls = [e["params"]["request"]["url"] for e in chromium.events if e["method"] == "Network.requestWillBeSent"]
    told = [event["method"] for event in chromium.events if event["method"] in COMPLAINTS]
    return [url for url in urls if url != page.as_uri()] + told


def written(name: str, directory: Path) -> Path:
    path = directory / f"{name}.html"
    path.write_text(_report_page.html(_report.build(samples.SAMPLES[name]())), encoding="utf-8")
    return path


@pytest.mark.parametrize("name", list(samples.SAMPLES))
def test_a_page_looks_right_everywhere(name: str, chromium: Browser, shots: Path) -> None:
    page = written(name, shots)
    for width in WIDTHS:
        for scheme in SCHEMES:
            where = (width, scheme)
            chromium.show(page, width, scheme)
            if width in PICTURED:
                picture = shots / f"{name}-{width}-{scheme}.png"
                chromium.screenshot(picture)
                assert struct.unpack(">I", picture.read_bytes()[16:20])[0] == width
            # What is folded away has to fit as well.
            chromium.ask("document.querySelectorAll('details').forEach(one => { one.open = true })")
            assert (where, chromium.ask(OVERFLOWING)) == (where, [])
            assert (where, chromium.ask(PALE)) == (where, [])
    assert chromium.ask(UNREADABLE_BY_MACHINES) == []
    assert asked_for(chromium, page) == []


def test_light_and_dark_differ(chromium: Browser, shots: Path) -> None:
    page, grounds = written("success", shots), []
    for scheme in SCHEMES:
        chromium.show(page, 768, scheme)
        grounds.append(chromium.ask("getComputedStyle(document.body).backgroundColor"))
    assert len(set(grounds)) == len(SCHEMES)


def test_on_paper_everything_is_unfolded(chromium: Browser, shots: Path) -> None:
    page = written("success", shots)
    cell = "document.querySelector('[data-history] td').checkVisibility({contentVisibilityAuto: true})"
    chromium.show(page, 768, "light")
    assert chromium.ask(cell) is False
    chromium.show(page, 768, "light", media="print")
    assert chromium.ask(cell) is True
    assert chromium.ask("getComputedStyle(document.querySelector('nav')).display") == "none"


def test_hostile_words_stay_words(chromium: Browser, shots: Path) -> None:
    chromium.show(written("hostile", shots), 1280, "light")
    assert chromium.ask("document.querySelector('#nodes + * tbody th .name').textContent") == samples.HOSTILE
    assert chromium.ask("document.scripts.length") == 0


def test_even_a_script_that_got_in_would_not_run(chromium: Browser, shots: Path) -> None:
    chromium.show(written("success", shots), 768, "light")
    chromium.ask("document.body.append(Object.assign(document.createElement('script'), {text: 'window.ran = 1'}))")
    assert chromium.ask("window.ran") is None


def test_a_bad_page_is_noticed(chromium: Browser, tmp_path: Path) -> None:
    page = tmp_path / "bad.html"
    page.write_text(
        "<meta name=viewport content='width=device-width'><h1>x</h1><h3>y</h3>"
        "<p style='width:900px;background:#fff;color:#aaa'>pale</p>"
        "<img src='http://example.org/x.png'><script>console.error('no')</script>",
        encoding="utf-8",
    )
    chromium.show(page, 360, "light")
    assert chromium.ask(OVERFLOWING)
    assert chromium.ask(PALE) == ["pale"]
    assert {"y skips a level", "IMG", "SCRIPT"} <= set(chromium.ask(UNREADABLE_BY_MACHINES))
    assert {"http://example.org/x.png", "Runtime.consoleAPICalled"} <= set(asked_for(chromium, page))
