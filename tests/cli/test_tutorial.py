"""The tutorials: every command is typed, and prints what the page says it prints."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.typed_pages import BLOCK, FILE

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "docs" / name for name in ("tutorial.md", "own-module.md", "onnx-file.md")
]
FEWER = " --set train.epochs=1 --set data.shapes_images=[64,8,8]"
ANYTHING = "…"
CHANGES = re.compile(
    r"\S*/\S+|recipient-1-\S+|[0-9a-f]{16,}|\d+(\.\d+)?(e-?\d+)?"
)  # places, keys, ids and numbers differ from run to run


def steps(page: Path) -> list[tuple[str, list[str]]]:
    """Every command of the page with the lines that it is said to print."""
    found: list[tuple[str, list[str]]] = []
    for line in "\n".join(BLOCK.findall(page.read_text())).splitlines():
        if line.startswith("$ "):
            found.append((line.removeprefix("$ "), []))
        elif line:
            found[-1][1].append(line)
    return found


def same(said: str, printed: str) -> bool:
    return CHANGES.sub("#", said) == CHANGES.sub("#", printed)


def differing(said: list[str], printed: list[str]) -> str:
    """The first line of the page that was not printed in its place; empty if none."""
    left = iter(printed)
    jump = False
    for line in said:
        if line == ANYTHING:
            jump = True
        elif jump:
            if not any(same(line, other) for other in left):
                return line
            jump = False
        elif not same(line, next(left, "")):
            return line
    rest = list(left)
    return "" if jump or not rest else f"printed, but not on the page: {rest[0]}"


def test_a_difference_would_be_seen() -> None:
    assert differing(["2 of 2"], ["3 of 4"]) == ""
    assert differing(["masks"], ["mask"]) == "masks"
    assert differing(["a"], ["a", "b"])
    assert differing(["a", ANYTHING, "d"], ["a", "b", "d"]) == ""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_step_prints_what_the_page_says(
    page: Path, tmp_path: Path, loaded_program: Path
) -> None:
    path = f"{loaded_program}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    home = tmp_path / "home"
    home.mkdir()
    for name, text in FILE.findall(page.read_text()):
        (home / name).write_text(text)
    script = ["set -e"]
    for number, (command, _) in enumerate(steps(page)):
        fewer = FEWER if command.startswith("mlguard train") else ""
        script.append(f"echo '@@{number}'; echo '@@{number}' >&2; {command}{fewer}")
    done = subprocess.run(
        ["sh", "-c", "\n".join(script)],
        cwd=home,
        env=os.environ
        | {
            "PATH": path,
            "PYTHONPATH": str(ROOT),
            "XDG_CONFIG_HOME": str(tmp_path / "config"),
            "XDG_STATE_HOME": str(tmp_path / "state"),
            "COLUMNS": "400",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    printed = [_by_step(stream) for stream in (done.stderr, done.stdout)]
    for number, (command, said) in enumerate(steps(page)):
        lines = [line for stream in printed for line in stream[number]]
        assert not differing(said, lines), (command, lines)


def _by_step(stream: str) -> list[list[str]]:
    parts = re.split(r"^@@\d+$", stream, flags=re.M)[1:]
    return [[line for line in part.splitlines() if line] for part in parts]
