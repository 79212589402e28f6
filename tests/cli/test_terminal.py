"""What all commands have in common on a terminal: docs/reference/terminal.md."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from mlguard.cli.app import run
from tests.house.test_docs import ROOT, options_by_command

PAGE = (ROOT / "docs" / "reference" / "terminal.md").read_text()
VARIABLES = (ROOT / "docs" / "reference" / "environment.md").read_text()
NAMED = re.compile(r"\bMLGUARD_[A-Z0-9_]+\b")


def test_the_page_names_the_commands_without_json() -> None:
    listed = PAGE.split("but these")[1].split("What a run says")[0]
    without = {
        path for path, opts in options_by_command().items() if "--json" not in opts
    }
    assert set(re.findall(r"`([a-z -]+)`", listed)) == without


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLGUARD_KEYSTORE", str(tmp_path / "keystore.mlgk"))
    monkeypatch.setenv("MLGUARD_IDENTITY_FILE", str(tmp_path / "owner.identity"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path


SMALL = ["--set", "data.shapes_images=[2,2,2]"]
ANSWERS = [
    ["keygen", "second"],
    ["exit-codes"],
    ["recipes", "list"],
    ["recipes", "check", "demo"],
    ["samples", "--recipe", "demo", "--out", "photos", "--count", "1", *SMALL],
    ["signer", "new"],
    ["signer", "show", "--out", "owner.pub"],
    ["signer", "list"],
    ["doctor"],
]


@pytest.mark.parametrize("words", ANSWERS, ids=" ".join)
def test_standard_output_is_one_json_value(
    words: list[str], home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["keygen", "first"]) == 0
    if words[:2] == ["signer", "show"]:
        assert run(["signer", "new"]) == 0
    capsys.readouterr()
    assert run([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) is not None


def mlguard(*words: str, home: Path, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "mlguard", *words],
        cwd=home,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_quiet_leaves_out_remarks_and_keeps_refusals(home: Path) -> None:
    loud = mlguard("keygen", "one", home=home)
    assert "mlguard: made" in loud.stderr
    quiet = mlguard("--quiet", "keygen", "two", home=home)
    assert (quiet.returncode, quiet.stderr) == (0, "")
    assert quiet.stdout.startswith("two  ")
    refused = mlguard("keygen", "two", home=home, MLGUARD_QUIET="1")
    assert refused.returncode == 15
    assert refused.stderr.startswith("mlguard: error: ")


def test_no_color_is_heeded(home: Path) -> None:
    coloured = mlguard("--help", home=home, FORCE_COLOR="1")
    assert "\x1b[1" in coloured.stdout
    plain = mlguard("--help", home=home, FORCE_COLOR="1", NO_COLOR="1")
    assert not re.search(r"\x1b\[[0-9;]*3[0-7]m", plain.stdout)


def test_the_shell_can_complete(home: Path) -> None:
    asked = {"_MLGUARD_COMPLETE": "complete_bash", "COMP_CWORD": "1"}
    done = mlguard(home=home, **asked, COMP_WORDS="mlguard rec")
    assert done.stdout.split() == ["recipes"]


def test_every_variable_of_the_code_is_on_its_page() -> None:
    code = [*ROOT.glob("mlguard/**/*.py"), *ROOT.glob("keystore/*.py")]
    code += [*ROOT.glob("docs/deploy/*"), *ROOT.glob("tests/**/*.py"), ROOT / ".ci/run"]
    used = {name for path in code for name in NAMED.findall(path.read_text())}
    used = {name for name in used if not name.endswith("_")}
    assert len(used) > 10
    assert used == set(NAMED.findall(VARIABLES))
