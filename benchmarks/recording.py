"""Record the first five minutes: the commands of a page, typed on a terminal.

    python -m benchmarks.recording --out docs/results/first_five_minutes

writes OUT.cast, which `asciinema play` shows with its pauses, and OUT.txt, for anybody
to read. The keys are drawn for the recording, in a folder that is removed after it.
Unix only: it needs a pseudo-terminal.
"""

import argparse
import json
import os
import pty
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tests.typed_pages import FILE, commands_in

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "onnx-file.md"
COLUMNS, ROWS = 100, 40
HOME = "/home/you"  # for the folder of the recording
Piece = tuple[float, str]  # seconds since the beginning, what was printed


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--page", type=Path, default=PAGE)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder).resolve()
        pieces = [
            (at, text.replace(str(home), HOME))
            for at, text in recorded(options.page.read_text(), home)
        ]
    header = {"version": 2, "width": COLUMNS, "height": ROWS, "title": "mlguard"}
    lines = [header, *([round(at, 3), "o", text] for at, text in pieces)]
    cast = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    options.out.with_suffix(".cast").write_text(cast)
    text = "".join(text for _, text in pieces).replace("\r\n", "\n")
    options.out.with_suffix(".txt").write_text(text)
    print(f"{len(pieces)} pieces, {pieces[-1][0]:.0f} s: {options.out}.cast, .txt")


def recorded(page: str, home: Path) -> Iterator[Piece]:
    """Type the commands of a page, one after the other, in one shell.

    Args:
        page: Its Markdown; blocks that begin with a file's name are written first.
        home: An empty folder.

    Raises:
        SystemExit: A command failed.
    """
    for name, text in FILE.findall(page):
        (home / name).write_text(text)
    script = "\n".join(
        f"printf '$ %s\\n' {shlex.quote(command)}\n{command}"
        for command in commands_in(page)
    )
    ours, theirs = pty.openpty()
    begun = time.monotonic()
    shell = subprocess.Popen(
        ["sh", "-e"],
        stdin=subprocess.PIPE,
        stdout=theirs,
        stderr=theirs,
        cwd=home,
        env=environment(home),
    )
    os.close(theirs)
    assert shell.stdin is not None
    shell.stdin.write(script.encode())
    shell.stdin.close()
    for text in read(ours):
        yield time.monotonic() - begun, text
    if shell.wait():
        raise SystemExit(f"a command ended with {shell.returncode}: {text}")


def read(terminal: int) -> Iterator[str]:
    """Read until nobody writes to a terminal any more."""
    with open(terminal, encoding="utf-8", newline="") as stream:
        try:
            while line := stream.readline():
                yield line
        except OSError:  # so Linux says that the other side is closed
            return


def environment(home: Path) -> dict[str, str]:
    """What a newcomer's terminal has, without colours and moving bars."""
    found = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return {
        "PATH": found,
        "HOME": str(home),
        "TERM": "dumb",
        "COLUMNS": str(COLUMNS),
        "LINES": str(ROWS),
        "LC_ALL": "C.UTF-8",
    }


if __name__ == "__main__":
    main()
