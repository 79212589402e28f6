"""The pages in a real browser: on a phone, in the dark, on paper."""

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest

from mlguard.audit.report.compare import Entry, compare
from mlguard.audit.report.compare_words import render_comparison
from mlguard.audit.report.gallery import Gallery, Picture, Row, demonstrate
from mlguard.audit.report.page import render_page
from mlguard.audit.report.words import percent
from mlguard.data.shapes import SHAPES_CLASS_NAMES
from mlguard.pictures import image_png, mask_png
from tests.audits import attacked_report, images, report
from tests.browser import A4, Browser, open_browser

WIDTHS = (360, 768, 1280)
USERS = ("baseline", "correct key", "no key", "best of 100 incorrect keys")

OVERFLOW = """
return document.documentElement.scrollWidth - document.documentElement.clientWidth;
"""
# Every text that is painted, with its contrast to what is behind it (WCAG 2).
CONTRASTS = """
const number = text => (text.match(/[\\d.]+/g) || []).map(Number);
const channel = value => {
  value /= 255;
  return value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
};
const luminance = ([red, green, blue]) =>
  0.2126 * channel(red) + 0.7152 * channel(green) + 0.0722 * channel(blue);
const behind = element => {
  for (; element; element = element.parentElement) {
    const colour = number(getComputedStyle(element).backgroundColor);
    if (colour.length === 3 || colour[3] === 1) return colour;
  }
  return [255, 255, 255];
};
const found = [];
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
  const element = walker.currentNode.parentElement;
  if (!walker.currentNode.data.trim() || !element.getClientRects().length) continue;
  if (element.closest('title, desc, .skip, style')) continue;
  const style = getComputedStyle(element);
  const colour = number(element.closest('svg') ? style.fill : style.color);
  const lights = [luminance(colour), luminance(behind(element))].sort((a, b) => b - a);
  found.push([walker.currentNode.data.trim(), (lights[0] + 0.05) / (lights[1] + 0.05)]);
}
return found;
"""


def image(seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).integers(0, 255, (3, 8, 8))
    return np.kron(noise, np.ones((1, 8, 8))).astype(np.uint8)


def gallery() -> Gallery:
    """A strip of as many pictures as an audit shows, and every transform."""
    mask = np.arange(64, dtype=np.uint8).reshape(8, 8) % 3
    pictures = [Picture(image_png(image(1)), "input", "Test image 1")]
    pictures += [Picture(mask_png(mask), user, f"Predicted: {user}") for user in USERS]
    rows = tuple(Row(f"Image {n + 1}", tuple(pictures)) for n in range(2))
    return Gallery(demonstrate(image(2), ("np", "ffx"), 4), rows)


def many_classes() -> str:
    """A report with the class names of the demo, the longest labels there are."""
    found = report(incorrect=[images(0.1 + 0.004 * n) for n in range(100)]).findings
    names = tuple(f"{name} and another name" for name in SHAPES_CLASS_NAMES[:3])
    changed = dataclasses.replace(found, class_names=names)
    return render_page(
        dataclasses.replace(attacked_report(), findings=changed), gallery(), proved=True
    )


def comparison() -> str:
    entries = [
        Entry(number + 1, f"runs/a-rather-long-name-{number}/report", one)
        for number, one in enumerate(
            [attacked_report(), report(), report(correct=images(0.7)), report()]
        )
    ]
    other = dataclasses.replace(report().material, fingerprint="aa" * 32)
    changed = dataclasses.replace(entries[3].report, material=other)
    return render_comparison(
        compare([*entries[:3], dataclasses.replace(entries[3], report=changed)])
    )


PAGES = {
    "report": many_classes,
    "report made again": lambda: render_page(attacked_report(), None, proved=True),
    "unproved report": lambda: render_page(report(), None, proved=False),
    "comparison": comparison,
}


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory):
    with open_browser(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    made = {}
    for number, (name, render) in enumerate(PAGES.items()):
        made[name] = folder / f"{number}.html"
        made[name].write_text(render())
    return made


@pytest.mark.parametrize("name", PAGES)
def test_the_console_is_silent_and_nothing_is_loaded(
    browser: Browser, pages: dict[str, Path], name: str
) -> None:
    browser.open(pages[name])
    said, asked = browser.logs()
    assert said == []
    other = [url for url in asked if not url.startswith("data:image/png;base64,")]
    assert other == [pages[name].resolve().as_uri()]


def test_a_page_that_loads_something_would_be_noticed(
    browser: Browser, tmp_path: Path
) -> None:
    page = tmp_path / "page.html"
    page.write_text('<img src="http://example.com/a.png"><script>throw 1</script>')
    browser.open(page)
    said, asked = browser.logs()
    assert "http://example.com/a.png" in asked
    assert any("Uncaught" in line for line in said)


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", PAGES)
def test_the_page_fits_the_screen(
    browser: Browser, pages: dict[str, Path], name: str, width: int, dark: bool
) -> None:
    browser.open(pages[name], width=width, dark=dark)
    assert browser.ask("return innerWidth") == width
    assert browser.ask(OVERFLOW) <= 0


def test_a_page_that_does_not_fit_would_be_noticed(
    browser: Browser, tmp_path: Path
) -> None:
    page = tmp_path / "page.html"
    meta = '<meta name="viewport" content="width=device-width">'
    page.write_text(f'{meta}<div style="width: 500px">wide</div>')
    browser.open(page, width=360)
    assert browser.ask(OVERFLOW) > 0


@pytest.mark.parametrize("width", WIDTHS)
def test_the_headline_is_read_first_and_large(
    browser: Browser, pages: dict[str, Path], width: int
) -> None:
    browser.open(pages["report"], width=width)
    found = browser.ask(
        "const one = document.querySelector('.headline strong');"
        "const box = one.getBoundingClientRect();"
        "return [one.innerText, parseFloat(getComputedStyle(one).fontSize),"
        "        box.bottom, box.left, box.right];"
    )
    words, size, bottom, left, right = found
    assert re.fullmatch(r"[\d.]+.%", words)
    assert words != percent(None)
    assert size > 32
    assert bottom < 800, "it is on the first screen"
    assert 0 <= left < right <= width


@pytest.mark.parametrize("name", PAGES)
def test_every_image_is_there_and_has_an_alternative(
    browser: Browser, pages: dict[str, Path], name: str
) -> None:
    browser.open(pages[name])
    found = browser.ask(
        "return [...document.images].map(one => [one.alt, one.naturalWidth])"
    )
    assert bool(found) == (name == "report")
    assert all(alt and width > 0 for alt, width in found)
    charts = browser.ask(
        "return [...document.querySelectorAll('svg')].map(one => ["
        "  one.getAttribute('aria-labelledby').split(' ')"
        "    .map(id => document.getElementById(id).textContent).join(' '),"
        "  one.getBoundingClientRect().height])"
    )
    assert len(charts) >= 2
    assert all(len(words) > 20 and height > 100 for words, height in charts)


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("name", PAGES)
def test_every_word_stands_out(
    browser: Browser, pages: dict[str, Path], name: str, dark: bool
) -> None:
    browser.open(pages[name], dark=dark)
    found = browser.ask(CONTRASTS)
    assert len(found) > 50
    assert [(words, ratio) for words, ratio in found if ratio < 4.5] == []


def test_dark_is_dark(browser: Browser, pages: dict[str, Path]) -> None:
    ground = "return getComputedStyle(document.body).backgroundColor"
    browser.open(pages["report"], dark=False)
    light = browser.ask(ground)
    browser.open(pages["report"], dark=True)
    assert browser.ask(ground) != light


@pytest.mark.parametrize("name", PAGES)
def test_the_page_can_be_printed(
    browser: Browser, pages: dict[str, Path], name: str
) -> None:
    browser.open(pages[name], width=A4, dark=True, media="print")
    assert browser.ask(OVERFLOW) <= 0
    assert (
        browser.ask("return getComputedStyle(document.body).backgroundColor")
        == "rgb(255, 255, 255)"
    )
    cut = browser.ask(
        "return [...document.querySelectorAll('table')]"
        ".filter(one => one.getBoundingClientRect().right > innerWidth).length"
    )
    assert cut == 0
    pdf = browser.pdf()
    assert pdf.startswith(b"%PDF-")
    assert 1 <= len(re.findall(rb"/Type\s*/Page\b", pdf)) <= 12


@pytest.mark.parametrize("name", PAGES)
def test_the_keyboard_reaches_what_scrolls(
    browser: Browser, pages: dict[str, Path], name: str
) -> None:
    browser.open(pages[name], width=360)
    left_out = browser.ask(
        "return [...document.querySelectorAll('*')].filter(one =>"
        "  /auto|scroll/.test(getComputedStyle(one).overflowX)"
        "  && one.scrollWidth > one.clientWidth && one.tabIndex < 0).length"
    )
    assert left_out == 0
    names = browser.ask(
        "return [...document.querySelectorAll('[role=region]')].map(one =>"
        "  document.getElementById(one.getAttribute('aria-labelledby'))?.innerText)"
    )
    assert names
    assert all(names)
