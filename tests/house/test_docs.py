"""Documentation that runs: every Python block of every page, and every link."""

import re
from pathlib import Path

import pytest
import typer

from mlguard.cli.app import app

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md"))]
BLOCK = re.compile(r"^```python\n(.*?)^```", re.S | re.M)
LINK = re.compile(r"\]\((?!https?:|#|mailto:)([^)#\s]+)")
COMMAND = re.compile(r"^(?:    |\$ )?mlguard ([a-z].*)$", re.M)
OPTION = re.compile(r" (--[a-z-]+)")
SPECS = ROOT / "docs" / "spec"  # a spec's "mlguard …" is a label, not a command
FIVE = {"keygen", "protect", "export", "predict", "audit"}


def test_there_is_an_example_and_a_link_to_check() -> None:
    text = "".join(page.read_text() for page in PAGES)
    assert BLOCK.search(text)
    assert LINK.search(text)
    assert COMMAND.search(text)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_examples_run(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for block in BLOCK.findall(page.read_text()):
        exec(compile(block, page.name, "exec"), names)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    links = LINK.findall(page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []


ANCHOR = re.compile(r"\]\((?!https?:)([^)#\s]*)#([^)\s]+)\)")


def headings_of(page: Path) -> set[str]:
    """The names by which links lead to a page's headings."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.S | re.M)
    headings = re.findall(r"^#+ (.*)$", text, re.M)
    plain = [re.sub(r"\[([^]]*)\]\([^)]*\)|`", r"\1", each) for each in headings]
    return {re.sub(r"[^\w\s-]", "", h).strip().lower().replace(" ", "-") for h in plain}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_anchors_lead_to_headings(page: Path) -> None:
    anchors = ANCHOR.findall(page.read_text())
    assert [
        (link, anchor)
        for link, anchor in anchors
        if (target := page.parent / link if link else page).suffix == ".md"
        and anchor not in headings_of(target)
    ] == []


def commands_of(page: Path) -> list[str]:
    """Every command line on a page, in a block or indented, without `mlguard`."""
    text = page.read_text().replace("\\\n", " ")
    return [line.partition("#")[0] for line in COMMAND.findall(text)]


def options_by_command() -> dict[str, set[str]]:
    """Every command of mlguard, "keys list" among them, with its options."""
    tree = typer.main.get_command(app)
    found: dict[str, set[str]] = {}
    for name, command in tree.commands.items():
        for path, leaf in _leaves(name, command):
            found[path] = {o for p in leaf.params for o in (*p.opts, *p.secondary_opts)}
    return found


def _leaves(path: str, command) -> list[tuple[str, object]]:
    children = getattr(command, "commands", None)
    if not children:
        return [(path, command)]
    return [
        leaf
        for name, child in children.items()
        for leaf in _leaves(f"{path} {name}", child)
    ]


@pytest.mark.parametrize(
    "page", [p for p in PAGES if SPECS not in p.parents], ids=lambda page: page.name
)
def test_commands_and_their_options_exist(page: Path) -> None:
    known = options_by_command()
    for line in commands_of(page):
        named = [path for path in known if f"{line} ".startswith(f"{path} ")]
        assert named, line
        unknown = set(OPTION.findall(line)) - known[max(named, key=len)]
        assert unknown - {"--help"} == set(), line


def test_readme_names_the_five_commands() -> None:
    assert {line.split()[0] for line in commands_of(PAGES[0])} >= FIVE


# Pages for somebody who wants to do something; others explain, or list.
DOING = (
    "README.md",
    "docs/tutorial.md",
    "docs/onnx-file.md",
    "docs/audit.md",
    "docs/bind.md",
    "docs/challenge.md",
    "docs/data.md",
    "docs/deploy.md",
    "docs/reproduce.md",
    "docs/split.md",
    "docs/customers",
    "docs/deploy",
    "docs/keystore",
    "docs/models",
)
PROSE_FIRST = 110  # words before the first thing to type; less than half a screen
TYPED = re.compile(r"^(?:```|    \S)", re.M)


def words_first(text: str) -> int:
    """How many words stand before the first block of commands or code."""
    block = TYPED.search(text)
    return len(text[: block.start() if block else None].split())


def doing() -> list[Path]:
    return [page for page in PAGES if str(page.relative_to(ROOT)).startswith(DOING)]


def test_a_page_for_doing_begins_with_what_to_type() -> None:
    assert len(doing()) > 25
    long = {page.name: words_first(page.read_text()) for page in doing()}
    assert {name: n for name, n in long.items() if n > PROSE_FIRST} == {}


def test_a_screen_of_prose_would_be_seen() -> None:
    assert words_first("word " * 200 + "\n\n    mlguard keygen acme\n") == 200
    assert words_first("# A page\n\n```sh\nmlguard doctor\n```\n") == 3
