"""`mlguard bind model.safetensors --out bound.safetensors` as a user types it."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from keystore import Identity, Keystore
from mlguard.cli.app import run
from mlguard.keys import ModelKey
from mlguard.weights import load_file

PLAIN = {"w": np.arange(12, dtype="f4").reshape(3, 4)}


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLGUARD_KEYSTORE", "keystore.mlgk")
    monkeypatch.setenv("MLGUARD_IDENTITY_FILE", "owner.identity")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    save_file(PLAIN, "model.safetensors")
    assert run(["keygen", "acme"]) == 0


def bind(*more: str, out: str = "bound.safetensors") -> int:
    return run(["bind", "model.safetensors", "--key", "acme", "--out", out, *more])


def test_a_bound_file_opens_with_the_key_and_the_keystore_knows_of_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert bind("--method", "weights") == 0
    assert "bound file: bound.safetensors" in capsys.readouterr().out
    with Keystore.open(
        Path("keystore.mlgk"), Identity.read(Path("owner.identity"))
    ) as s:
        key, uses = ModelKey(s.get("acme")), s.info("acme").uses
    assert (load_file("bound.safetensors", key)["w"] == PLAIN["w"]).all()
    assert [use.kind for use in uses] == ["weights"]
    assert uses[0].reference.encode() in Path("bound.safetensors").read_bytes()


def test_inspect_shows_what_a_bound_file_says_to_everybody(capsys) -> None:
    assert bind() == 0
    shown = capsys.readouterr().out
    assert run(["inspect", "bound.safetensors", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["tensors"], facts["size"], facts["metadata"]) == (1, 48, {})
    assert len(facts["key_id"]) == 16
    assert "bound.safetensors" in shown
    assert run(["inspect", "bound.safetensors"]) == 0
    assert "1 tensors, 48 bytes" in capsys.readouterr().out
    assert run(["inspect", "model.safetensors"]) == 20
    assert "is a plain .safetensors file" in capsys.readouterr().err


def words(refusal: str) -> str:
    """A refusal without the frame and the line breaks of a terminal."""
    return " ".join(refusal.replace("│", " ").split())


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--layers", "one"], "--layers applies to a run folder"),
        (["--recipe", "demo"], "--recipe applies to a run folder"),
        (["--method", "shf"], "--method applies to a run folder"),
        (["--fold-batch-norm"], "--fold-batch-norm applies to a run folder"),
    ],
)
def test_options_of_run_folders_are_refused(more, said: str, capsys) -> None:
    assert bind(*more) == 2
    assert said in words(capsys.readouterr().err)
    assert not Path("bound.safetensors").exists()


def test_what_is_no_safetensors_file_is_refused(capsys) -> None:
    Path("model.safetensors").write_bytes(b"PK\3\4 a zip and no such file")
    assert bind() == 20
    assert (
        "model.safetensors is not a readable .safetensors file"
        in capsys.readouterr().err
    )
    assert not Path("bound.safetensors").exists()


def test_a_run_folder_does_not_become_a_file_of_weights(capsys) -> None:
    Path("folder").mkdir()
    command = ["bind", "folder", "--key", "acme", "--out", "bound.safetensors"]
    assert run(command) == 2
    said = words(capsys.readouterr().err)
    assert "bound.safetensors can only be made from a .safetensors file" in said


def test_a_missing_file_is_a_sentence(capsys) -> None:
    Path("model.safetensors").unlink()
    assert bind() == 40
    assert "model.safetensors: no such file or folder" in capsys.readouterr().err


def test_what_is_there_is_not_written_over(capsys) -> None:
    Path("bound.safetensors").write_text("mine")
    assert bind() == 41
    assert Path("bound.safetensors").read_text() == "mine"
