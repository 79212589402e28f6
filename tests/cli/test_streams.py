"""Where output goes changes no exit code and loses no work."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mlguard.cli.printable import say_json, say_text
from mlguard.cli.streams import written_out

ROOT = Path(__file__).parents[2]
CLI = sorted((ROOT / "mlguard" / "cli").glob("*.py"))
SPEAKERS = {"printable.py", "streams.py"}
# A question on the terminal, of words that are ours alone.
QUESTIONS = {"key_lifecycle.py": 1, "keys.py": 1}
ESCAPE = "\x1b[2J\x9b"
FULL = pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")


def mlguard(*words: str, stdout=subprocess.PIPE, **environment: str):
    return subprocess.run(
        [sys.executable, "-m", "mlguard", *words],
        cwd=ROOT,
        env={**os.environ, **environment},
        stdout=stdout,
        stderr=subprocess.PIPE,
        check=False,
    )


@pytest.mark.parametrize("code", ["latin-1", "ascii", "cp1252", "ascii:strict"])
@pytest.mark.parametrize(
    "words", [("recipes", "show", "fcn_voc"), ("--help",), ("keys", "list")]
)
def test_no_encoding_of_the_terminal_changes_an_exit_code(
    code: str, words: tuple[str, ...]
) -> None:
    place = {"MLGUARD_KEYSTORE": "/nowhere/né…"}
    done = mlguard(*words, PYTHONIOENCODING=code, **place)
    assert done.returncode == (10 if words == ("keys", "list") else 0)
    assert b"internal error" not in done.stderr
    assert words[0] != "recipes" or b"No secret is ever written" in done.stdout


def test_what_a_code_lacks_is_written_as_json_reads_it() -> None:
    for text in ("né…", "\udce9", "🗝"):
        error = UnicodeEncodeError("ascii", text, 0, len(text), "no")
        shown, _ = written_out(error)
        assert json.loads(f'"{shown}"') == text


@FULL
@pytest.mark.parametrize("words", [("recipes", "list"), ("exit-codes",), ("--help",)])
def test_a_full_disk_behind_standard_output_is_said(words: tuple[str, ...]) -> None:
    with open("/dev/full", "w") as full:
        done = mlguard(*words, stdout=full)
    assert done.returncode == 41
    assert b"standard output: No space left on device" in done.stderr
    assert b"bug" not in done.stderr
    assert b"Exception ignored" not in done.stderr


@FULL
def test_a_full_disk_hides_no_refusal() -> None:
    with open("/dev/full", "w") as full:
        done = mlguard("keys", "list", "--keystore", "none", stdout=full)
    assert done.returncode == 10


@FULL
def test_a_full_disk_behind_standard_output_loses_no_work(tmp_path: Path) -> None:
    words = ("recipes", "copy", "demo", str(tmp_path / "own.toml"))
    with open("/dev/full", "w") as full:
        assert mlguard(*words, stdout=full).returncode == 0
    assert (tmp_path / "own.toml").read_text().startswith("#")


def test_a_reader_that_has_left_is_no_failure() -> None:
    read, write = os.pipe()
    os.close(read)
    try:
        done = mlguard("recipes", "show", "fcn_voc", stdout=write)
    finally:
        os.close(write)
    assert (done.returncode, done.stderr) == (0, b"")


def test_closed_standard_streams_are_no_failure() -> None:
    program = f"{sys.executable} -m mlguard exit-codes >&- 2>&-"
    assert subprocess.run(["sh", "-c", program], cwd=ROOT).returncode == 0


# Words of strangers


def test_a_text_keeps_its_lines_and_nothing_that_commands_a_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    say_text(f"a\tb\r\nc{ESCAPE}d\u2028e\n")
    assert capsys.readouterr().out == "a\tb\nc\\x1b[2J\\x9bd\\u2028e\n"


def test_json_stays_json(capsys: pytest.CaptureFixture[str]) -> None:
    value = {"name": f"é{ESCAPE}\U000e0001"}
    say_json(json.dumps(value, ensure_ascii=False, indent=2))
    told = capsys.readouterr().out
    assert json.loads(told) == value
    assert "\x9b" not in told


def printed(source: str) -> int:
    """How many calls print past the module that escapes."""
    names = [n.func for n in ast.walk(ast.parse(source)) if isinstance(n, ast.Call)]
    return sum(ast.unparse(name) in {"print", "typer.echo"} for name in names)


@pytest.mark.parametrize("path", CLI, ids=lambda path: path.name)
def test_every_command_speaks_through_the_module_that_escapes(path: Path) -> None:
    if path.name not in SPEAKERS:
        assert printed(path.read_text()) == QUESTIONS.get(path.name, 0)


def test_a_bare_print_would_be_seen() -> None:
    assert printed("print(x)\ntyper.echo(x)\nsay(x)") == 2
