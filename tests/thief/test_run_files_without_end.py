"""A stranger's run makes whoever opens it wait, or use up time and memory."""

import os
import shutil
from pathlib import Path

import pytest

from mlguard.errors import MalformedRun, MlguardError
from mlguard.protect import Run, read_plain, read_run
from tests.endless import ENDLESS, endless
from tests.runs import KEY, small_baseline, small_recipe, small_run

TEBIBYTE = 1 << 40


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("runs")
    small_run(path / "run")
    small_baseline(path / "plain")
    return path


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Run:
    return read_run(shutil.copytree(made / "run", tmp_path / "run"))


@pytest.fixture
def plain(made: Path, tmp_path: Path) -> Path:
    return shutil.copytree(made / "plain", tmp_path / "plain")


@pytest.mark.parametrize("kind", ENDLESS)
def test_weights_without_an_end_are_refused(run: Run, kind: str) -> None:
    run.weights.unlink()
    endless(run.weights, kind)
    again = read_run(run.path)
    with pytest.raises(MalformedRun, match="cannot read"):
        again.transform(KEY)
    with pytest.raises(MalformedRun, match="cannot read"):
        read_run(run.path).load_model()


def test_huge_file_with_nothing_in_it_is_refused_before_it_is_read(run: Run) -> None:
    os.truncate(run.weights, TEBIBYTE)
    with pytest.raises(MalformedRun, match=f"has {TEBIBYTE} bytes, but the weights"):
        read_run(run.path).transform(KEY)
    with pytest.raises(MalformedRun, match=f"has {TEBIBYTE} bytes, but the weights"):
        read_plain(
            run.weights.rename(run.path.parent / "w.safetensors"), small_recipe()
        )


@pytest.mark.parametrize("kind", ENDLESS)
def test_checkpoint_without_an_end_is_refused(plain: Path, kind: str) -> None:
    endless(plain / "checkpoint.kept", kind)
    with pytest.raises(MlguardError, match="cannot read"):
        small_baseline(plain, resume=True)


def test_huge_checkpoint_is_refused_before_it_is_read(plain: Path) -> None:
    (plain / "checkpoint.kept").touch()
    os.truncate(plain / "checkpoint.kept", TEBIBYTE)
    with pytest.raises(MalformedRun, match=f"has {TEBIBYTE} bytes"):
        small_baseline(plain, resume=True)


@pytest.mark.parametrize("kind", ENDLESS)
def test_proof_without_an_end_is_refused(run: Run, kind: str) -> None:
    (run.path / "proofs.json").unlink()
    endless(run.path / "proofs.json", kind)
    with pytest.raises(MlguardError, match="is not what the holder of the key left"):
        read_run(run.path).transform(KEY)
