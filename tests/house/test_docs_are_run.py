"""Pages whose code needs something first: each names the test that runs it."""

import re
import shlex
from itertools import pairwise
from pathlib import Path

import pytest

from mlguard.recipe import read_recipe
from tests.house.test_docs import PAGES, ROOT, commands_of

DOCS = ROOT / "docs"
FENCED = re.compile(r"^```(py|console|sh)$", re.M)
RUN_BY = {  # a page, or a folder of pages; and the test
    "customers": "cli/test_customer_pages.py",
    "keystore": "cli/test_keystore_pages.py",
    "data.md": "data/test_weights_of_the_page.py",
    "deploy/key-at-client.md": "serving/test_key_at_client.py",
    "split.md": "protect/test_split_export.py",
    "tutorial.md": "cli/test_tutorial.py",
    "own-module.md": "cli/test_tutorial.py",
    "onnx-file.md": "cli/test_tutorial.py",
    "deploy.md": "runtime/test_deploy_page.py",
    "models/onnx.md": "foreign/test_onnx_page.py",
    "models/safetensors.md": "weights",
    "models": "protect/test_model_pages.py",
}
# What was measured elsewhere, and is shown for comparison.
NOT_RUN = {"decisions/0009-cryptotensors-files-are-not-read.md"}


def named(page: Path) -> str | None:
    """The test that the table has for a page: its own row before its folder's."""
    place = page.relative_to(DOCS)
    return RUN_BY.get(str(place)) or RUN_BY.get(place.parts[0])


FENCED_PAGES = [
    page
    for page in PAGES
    if FENCED.search(page.read_text())
    and not (page.is_relative_to(DOCS) and str(page.relative_to(DOCS)) in NOT_RUN)
]


def test_there_are_pages_whose_code_needs_something_first() -> None:
    assert len(FENCED_PAGES) > 10


@pytest.mark.parametrize("page", FENCED_PAGES, ids=lambda page: page.name)
def test_code_that_is_not_run_here_is_run_by_a_test_that_names_the_page(
    page: Path,
) -> None:
    test = named(page)
    assert test, f"no test runs {page}"
    place = ROOT / "tests" / test
    files = sorted(place.glob("test_*.py")) if place.is_dir() else [place]
    text = "".join(file.read_text() for file in files)
    assert page.parent.name in text or page.name in text


WITH_SETTINGS = [page for page in PAGES if " --set " in page.read_text()]


@pytest.mark.parametrize("page", WITH_SETTINGS, ids=lambda page: page.name)
def test_settings_on_a_page_are_fields_of_the_recipe(page: Path) -> None:
    for line in commands_of(page):
        words = shlex.split(line)
        settings = [value for word, value in pairwise(words) if word == "--set"]
        after = dict(pairwise(words))
        name = after.get("--recipe", after.get("layers", "demo"))
        if settings and "/" not in name and not name.endswith(".toml"):
            read_recipe(name, overrides=[s for s in settings if "…" not in s])
