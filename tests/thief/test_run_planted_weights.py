"""A forger plants weights or a checkpoint in a run, and has its owner sign them."""

import shutil
from pathlib import Path

import pytest
import torch

from mlguard.errors import MalformedRun, TamperedRun
from mlguard.protect import Run, read_run
from mlguard.protect.run_folder import Keeper, write_model
from tests.runs import KEY, OTHER_KEY, killed_run, small_run

PROTECTION_ID = bytes(16)


def planted(run: Run, file: Path) -> bytes:
    """Weights of the forger's own, in a file."""
    model = run.load_model()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3)
    write_model(file, model)
    return file.read_bytes()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run, and two that were killed, of one key."""
    path = tmp_path_factory.mktemp("runs")
    small_run(path / "run")
    killed_run(path / "killed")
    killed_run(path / "other")
    return path


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Run:
    return read_run(shutil.copytree(made / "run", tmp_path / "run"))


@pytest.fixture
def killed(made: Path, tmp_path: Path) -> Path:
    return shutil.copytree(made / "killed", tmp_path / "killed")


@pytest.mark.parametrize("name", ["checkpoint.kept", "checkpoint.safetensors"])
def test_weights_and_a_checkpoint_in_a_finished_run_are_not_signed(
    run: Run, tmp_path: Path, name: str
) -> None:
    forged = planted(run, run.weights)
    shutil.copy(run.weights, run.path / name)
    proof = (run.path / "proofs.json").read_bytes()
    with pytest.raises(MalformedRun, match="but it holds a checkpoint") as refusal:
        read_run(run.path)
    assert "--resume" not in refusal.value.hint
    with pytest.raises(TamperedRun, match=r"model\.safetensors is not what the holder"):
        small_run(run.path, resume=True)
    assert run.weights.read_bytes() == forged
    assert (run.path / "proofs.json").read_bytes() == proof


@pytest.mark.parametrize("name", ["checkpoint.kept", "checkpoint.safetensors"])
def test_checkpoint_left_in_a_finished_run_is_cleared_and_nothing_is_signed(
    run: Run, name: str
) -> None:
    before = {file.name: file.read_bytes() for file in run.path.iterdir()}
    (run.path / name).write_bytes(b"anything")
    small_run(run.path, resume=True)
    after = {file.name: file.read_bytes() for file in run.path.iterdir()}
    assert after == before


def test_weights_planted_in_an_unfinished_run_are_not_used(
    run: Run, killed: Path
) -> None:
    forged = planted(run, killed / "model.safetensors")
    done = small_run(killed, resume=True)
    assert done.weights.read_bytes() != forged
    done.transform(KEY)


@pytest.mark.parametrize("name", ["checkpoint.kept", "best.kept"])
def test_state_that_a_forger_made_is_not_gone_on_from(
    made: Path, run: Run, killed: Path, tmp_path: Path, name: str
) -> None:
    """Of another key, of another run of the same key, or under another name."""
    model, other, path = run.load_model(), made / "other", killed
    forger = Keeper(OTHER_KEY.for_model(PROTECTION_ID))
    forger.write(tmp_path / name, model.state_dict())
    swapped = {"checkpoint.kept": "best.kept", "best.kept": "checkpoint.kept"}[name]
    for source in (tmp_path / name, other / name, path / swapped):
        forged = source.read_bytes()
        whole = (path / name).read_bytes()
        (path / name).write_bytes(forged)
        with pytest.raises(TamperedRun, match="was changed after this run wrote it"):
            small_run(path, resume=True)
        (path / name).write_bytes(whole)
    small_run(path, resume=True).transform(KEY)
