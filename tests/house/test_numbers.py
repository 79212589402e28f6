"""Every number of the README and of docs/methods.md is one that was measured.

A number with a decimal point, or before a percent sign, has to stand in a JSON file
beside the pages of results. Files of code and versions are not measurements.
"""

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.house.programs import program

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "docs" / "results"
PAGES = ("README.md", "docs/methods.md")
FENCE = re.compile(r"^\s*```")
NOT_MEASURED = re.compile(
    r"`[^`]*`|\]\([^)]*\)|https?://\S+|arXiv:\S+|Apache-\S+"
    r"|[Vv]ersions? [\d. and]+|Python [\d.]+\+?"
)
CLAIMED = re.compile(r"(?<![\w.])\d+(?:\.\d+)? %|(?<![\w.])\d+\.\d+(?![\w.]*\d)")
SPELLED = re.compile(r"(?<![\w.])\d+(?:\.\d+)?(?: %)?")


class Claim(NamedTuple):
    """A number, and where it is claimed."""

    page: str
    line: int
    number: str


def claims(page: str, text: str) -> Iterator[Claim]:
    """The numbers of a page that somebody must have measured."""
    fenced = False
    for number, line in enumerate(text.splitlines(), start=1):
        if FENCE.match(line):
            fenced = not fenced
        if fenced or line.startswith("    "):
            continue
        for match in CLAIMED.finditer(NOT_MEASURED.sub(" ", line)):
            yield Claim(page, number, match[0])


def measured() -> tuple[set[str], list[float]]:
    """Numbers as the files of results spell them, and those that can be rounded."""
    spelled: set[str] = set()
    exact: list[float] = []

    def walk(value: Any) -> None:
        match value:
            case bool() | None:
                pass
            case int() | float():
                spelled.add(str(value))
                exact.append(float(value))
            case str():
                spelled.update(SPELLED.findall(value))
            case list():
                for one in value:
                    walk(one)
            case dict():
                for one in value.values():
                    walk(one)

    for path in sorted(RESULTS.glob("*.json")):
        walk(json.loads(path.read_text()))
    return spelled, exact


def is_measured(number: str, spelled: set[str], exact: list[float]) -> bool:
    """Whether a number is spelled in a file, or is one of its numbers rounded.

    Two digits are too few to say which number was rounded.
    """
    if number in spelled:
        return True
    bare = number.removesuffix(" %")
    digits, scale = len(bare.partition(".")[2]), 100 if bare != number else 1
    if len(bare.replace(".", "").lstrip("0")) < 3:
        return False
    return any(
        math.isclose(round(value * scale, digits), float(bare), abs_tol=1e-12)
        for value in exact
        if math.isfinite(value)
    )


@pytest.fixture(scope="module")
def found() -> tuple[set[str], list[float]]:
    return measured()


@pytest.mark.parametrize("page", PAGES)
def test_every_number_is_in_a_file_of_results(page, found) -> None:
    strays = [
        f"{one.page}, line {one.line}: {one.number} is in no docs/results/*.json"
        for one in claims(page, (ROOT / page).read_text())
        if not is_measured(one.number, *found)
    ]
    assert strays == [], "\n" + "\n".join(strays)


def test_an_invented_number_would_be_seen(found) -> None:
    text = "mIoU 0.9173 and 0.464 (91 %), of `0.1234`\n\n    0.777\n"
    assert [one.number for one in claims("x", text)] == ["0.9173", "0.464", "91 %"]
    assert not is_measured("0.9173", *found)
    assert is_measured("0.464", *found)


def test_every_page_of_results_has_its_file() -> None:
    pages = sorted(path for path in RESULTS.glob("*.md") if path.name != "README.md")
    assert len(pages) > 10
    assert [p.name for p in pages if not p.with_suffix(".json").exists()] == []


def test_files_read_from_pages_are_those_of_the_pages() -> None:
    reader = program("benchmarks/page_numbers.py")
    stale = []
    for path in RESULTS.glob("*.json"):
        content = json.loads(path.read_text())
        read = isinstance(content, dict) and content.get("note") == reader.NOTE
        if read and reader.of_page(path.with_suffix(".md")) != content:
            stale.append(f"docs/results/{path.stem}.md")
    assert stale == [], (
        f"these pages were changed: python benchmarks/page_numbers.py {' '.join(stale)}"
    )


DIGEST = re.compile(r"`([0-9a-f]{10,63})…`")


def test_digests_on_the_demos_page_are_those_of_its_file() -> None:
    """A page that is measured again names what was measured."""
    text = (RESULTS / "demo.md").read_text()
    found, raw = DIGEST.findall(text), (RESULTS / "demo.json").read_text()
    assert len(found) > 1
    assert [digest for digest in found if digest not in raw] == []
