"""Bad input on the command line: one line, a hint, an exit code, nothing lost."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mlguard.cli import app as cli
from mlguard.cli.app import run
from mlguard.cli.printable import warn
from tests.runs import SMALL

ROOT = Path(__file__).parents[2]
PROTECT = ["protect", "--recipe", "demo", "--key", "acme", "--out", "run"]
SMALL_SETS = [word for setting in SMALL for word in ("--set", setting)]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, and a keystore holding `acme`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLGUARD_KEYSTORE", str(tmp_path / "keystore.mlgk"))
    monkeypatch.setenv("MLGUARD_IDENTITY_FILE", str(tmp_path / "owner.identity"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    assert run(["keygen", "acme"]) == 0
    return tmp_path


def folder_data(root: Path) -> Path:
    """One image and one mask in the `folder` layout."""
    from PIL import Image

    for name in ("images", "masks"):
        (root / name).mkdir(parents=True)
    Image.new("RGB", (32, 32)).save(root / "images" / "a.png")
    Image.new("L", (32, 32)).save(root / "masks" / "a.png")
    for split in ("train", "val", "test"):
        (root / f"{split}.txt").write_text("a\n" if split == "train" else "b\n")
    return root


@pytest.mark.parametrize(
    ("command", "status", "words"),
    [
        (["keygen", "acme"], 15, "acme"),
        (["keygen", "../x"], 2, "../x"),
        ([*PROTECT[:4], "nobody", *PROTECT[5:]], 15, "nobody"),
        (["protect", "--recipe", "nope", *PROTECT[3:]], 40, "no such file or recipe"),
        ([*PROTECT, "--set", "transform.block_size=0"], 40, "expected one of 1, 2"),
        ([*PROTECT, "--set", "data.size=[30, 30]"], 40, "4 does not divide"),
        ([*PROTECT, "--set", "train.sede=3"], 40, "train.sede: unknown field"),
        ([*PROTECT, "--set", "data.kind=folder"], 40, "--data"),
        ([*PROTECT, "--set", "data.kind=voc", "--data", "no"], 40, "no"),
        ([*PROTECT, "--device", "tpu"], 40, "expected auto, cpu, cuda"),
        (
            [*PROTECT, "--set", "model.weights=no.such"],
            40,
            "not have weights of that name",
        ),
        (["export", "run", "--out", "a.mlgb"], 40, "no such file or folder"),
        (["predict", "no.mlgb", ".", "--key", "acme", "--out", "m"], 40, "no image"),
        (["audit", "run", "--out", "report"], 40, "no such file or folder"),
        (["recipes", "check", "nope"], 40, "no such file or recipe"),
        (["protect"], 2, ""),
        (["no-such-command"], 2, ""),
    ],
)
def test_refusal_is_one_line_a_hint_and_its_exit_code(
    home: Path,
    capsys: pytest.CaptureFixture[str],
    command: list[str],
    status: int,
    words: str,
) -> None:
    before = {path for path in home.rglob("*") if path.is_file()}
    capsys.readouterr()
    assert run(command) == status
    told = capsys.readouterr().err
    assert words in told
    assert "Traceback" not in told
    if status != 2:
        lines = [line for line in told.splitlines() if line.startswith("mlguard: e")]
        assert len(lines) == 1
        assert "mlguard: hint: " in told
    left = {path for path in home.rglob("*") if path.is_file()} - before
    assert {path.suffix for path in left} <= {".lock"}


def test_data_folder_that_does_not_fit_is_refused_before_training(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = folder_data(home / "data")
    command = [*PROTECT, *SMALL_SETS, "--set", "data.kind=folder", "--data", str(data)]
    assert run(command) == 40
    assert "b" in capsys.readouterr().err
    assert not (home / "run").exists()


def test_output_folder_that_holds_something_is_not_touched(home: Path) -> None:
    (home / "run").mkdir()
    (home / "run" / "precious").write_text("x")
    assert run([*PROTECT, *SMALL_SETS]) == 41
    assert [path.name for path in (home / "run").iterdir()] == ["precious"]


def test_no_keystore_says_how_to_make_one(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLGUARD_KEYSTORE", str(home / "none.mlgk"))
    assert run(PROTECT) == 10
    assert "mlguard keygen" in capsys.readouterr().err


def test_wrong_passphrase_is_refused(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("MLGUARD_IDENTITY_FILE")
    (home / "passphrase").write_text("not this one\n")
    (home / "passphrase").chmod(0o600)
    assert run([*PROTECT, "--passphrase-file", "passphrase"]) == 11
    assert "not this one" not in capsys.readouterr().err


def test_bug_is_reported_by_its_place_and_nothing_it_held(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ValueError("secret-looking text")

    monkeypatch.setattr(cli, "app", broken)
    assert run([]) == 1
    told = capsys.readouterr().err
    assert "internal error: ValueError at" in told
    assert "secret-looking" not in told


def test_ctrl_c_exits_with_3(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise SystemExit(cli.TYPER_INTERRUPTED)

    monkeypatch.setattr(cli, "app", interrupted)
    assert run([]) == 3


@pytest.mark.parametrize("arguments", [["exit-codes"], []])
def test_ctrl_c_while_loading_exits_with_3_and_no_traceback(
    tmp_path: Path, arguments: list[str]
) -> None:
    (tmp_path / "typer.py").write_text("raise KeyboardInterrupt")
    done = subprocess.run(
        [sys.executable, "-m", "mlguard", *arguments],
        env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (3, "mlguard: error: interrupted\n")


def test_installed_command_starts_where_ctrl_c_is_met() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["scripts"] == {"mlguard": "mlguard.__main__:main"}


def test_what_could_command_a_terminal_is_written_out(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hostile = "a\x1b[2J\nmlguard: hint: \u202eok\udc80"
    (home / "bad.toml").write_text('"x\\u001b" = 1')
    assert run(["recipes", "check", hostile]) == 40
    assert run(["recipes", "check", "bad.toml"]) == 40
    told = capsys.readouterr().err
    assert "a\\x1b[2J\\nmlguard: hint: \\u202eok\\udc80" in told
    assert "x\\x1b: unknown field" in told
    assert all(line.isprintable() for line in told.split("\n"))


def test_warnings_of_predict_are_written_out_too(
    capsys: pytest.CaptureFixture[str],
) -> None:
    warn("a\x1b[2J")
    assert capsys.readouterr().err == "mlguard: warning: a\\x1b[2J\n"


@pytest.mark.parametrize("number", ["-1", str(1 << 40)])
def test_descriptor_that_cannot_be_is_a_usage_error(number: str) -> None:
    assert run([*PROTECT, *SMALL_SETS, "--passphrase-fd", number]) == 2


def test_command_that_needs_an_extra_names_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [name for name in sys.modules if name.startswith("mlguard.protect")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "accelerate", None)
    assert run([*PROTECT, *SMALL_SETS]) == 2
    assert "pip install '.[train]'" in capsys.readouterr().err


def test_version_and_help_need_nothing() -> None:
    for option in ("--version", "--help"):
        command = [sys.executable, "-m", "mlguard", option]
        done = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, check=True
        )
        assert "mlguard" in done.stdout
        assert done.stderr == ""


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_folder_that_is_not_writable_is_refused(home: Path) -> None:
    (home / "closed").mkdir(mode=0o500)
    assert run([*PROTECT[:-1], "closed/run", *SMALL_SETS]) == 41


@pytest.fixture
def binary(home: Path) -> list[str]:
    """Masks of 0 and 255, the commonest there are, and the words that name them."""
    for kind in ("images", "masks"):
        (home / "bin" / kind).mkdir(parents=True)
    pixels = np.zeros((64, 64), np.uint8)
    pixels[:, :32] = 255
    for split in ("train", "val", "test"):
        Image.fromarray(pixels).save(home / "bin" / "images" / f"{split}.jpg")
        Image.fromarray(pixels).save(home / "bin" / "masks" / f"{split}.png")
        (home / "bin" / f"{split}.txt").write_text(split)
    names = 'data.class_names=["background", "thing"]'
    return ["--set", "data.kind=folder", "--set", names, "--data", "bin"]


@pytest.mark.parametrize(
    "command", [["recipes", "check", "demo"], ["train", "--recipe", "demo"], PROTECT]
)
def test_masks_of_0_and_255_are_refused_before_training(
    binary: list[str], command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    more = ["--out", "plain"] if command[0] == "train" else []
    assert run([*command, *more, *binary]) == 40
    told = capsys.readouterr().err
    assert "only the class background has training pixels" in told
    assert "write its number 1 into the masks instead of 255" in told


def test_a_check_of_data_says_what_is_odd(
    home: Path, binary: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    for path in (home / "bin" / "masks").iterdir():
        pixels = np.zeros((64, 64), np.uint8)
        pixels[:, :32] = 1
        Image.fromarray(pixels).save(path)
    more = ["--set", 'data.class_names=["background", "thing", "other"]']
    assert run(["recipes", "check", "demo", *binary, *more]) == 0
    told = capsys.readouterr()
    assert "no training pixel has the class other" in told.err
    assert told.out.splitlines() == [
        "train: 1 images", "validation: 1 images", "test: 1 images", "demo: ok"
    ]  # fmt: skip
