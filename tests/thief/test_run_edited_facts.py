"""A forger edits what an audit or an export relies on beside the weights."""

import json
import shutil
from pathlib import Path

import pytest

from mlguard.errors import TamperedRun
from mlguard.protect import Run, read_run
from mlguard.protect.run_folder import write_model
from tests.runs import KEY, small_baseline, small_run


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("runs") / "run"
    small_run(path)
    small_baseline(path / "baseline")
    return path


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Run:
    shutil.copytree(made, tmp_path / "run")
    return read_run(tmp_path / "run")


def edit(file: Path, **changes: object) -> None:
    fields = json.loads(file.read_text())
    file.write_text(json.dumps(fields | changes))


def test_untouched_run_and_twin_are_proved(run: Run) -> None:
    """Shows that the tests below can fail."""
    run.transform(KEY)
    twin = run.baseline(KEY)
    assert twin is not None
    assert twin.load_model()


def test_provenance_that_was_edited_is_refused(run: Run) -> None:
    edit(run.path / "provenance.json", bound={"tied": False})
    with pytest.raises(TamperedRun, match=r"provenance\.json is not what the holder"):
        read_run(run.path).transform(KEY)


def test_key_name_that_was_edited_is_refused(run: Run) -> None:
    edit(run.path / "protection.json", key_name="other")
    with pytest.raises(TamperedRun, match=r"protection\.json is not what the holder"):
        read_run(run.path).transform(KEY)


def test_twin_that_was_worsened_is_refused(run: Run) -> None:
    twin = run.baseline()
    assert twin is not None
    model = twin.load_model()
    model.classifier[-1].weight.data.zero_()
    write_model(twin.weights, model)
    with pytest.raises(TamperedRun, match=r"model\.safetensors is not what the holder"):
        read_run(run.path).baseline(KEY)


def test_twin_of_another_run_of_the_same_key_is_refused(
    run: Run, tmp_path: Path
) -> None:
    other = small_run(tmp_path / "other")
    small_baseline(other.path / "baseline")
    shutil.rmtree(run.path / "baseline")
    shutil.copytree(other.path / "baseline", run.path / "baseline")
    with pytest.raises(TamperedRun, match=r"proofs\.json is not what the holder"):
        read_run(run.path).baseline(KEY)


def test_twin_without_a_proof_is_refused(run: Run) -> None:
    (run.path / "baseline" / "proofs.json").unlink()
    with pytest.raises(TamperedRun, match="is not what the holder of the key left"):
        read_run(run.path).baseline(KEY)


@pytest.mark.parametrize(
    "changes",
    [
        {"format": 1},
        {"role": "twin"},
        {"files": {}},
        {"files": None},
        {"proof": "\ud800"},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_proof_that_was_edited_is_refused(run: Run, changes: dict) -> None:
    edit(run.path / "proofs.json", **changes)
    with pytest.raises(TamperedRun, match="is not what the holder of the key left"):
        read_run(run.path).transform(KEY)


def test_proof_of_format_1_is_not_made_of_one_of_format_2(run: Run) -> None:
    fields = json.loads((run.path / "proofs.json").read_text())
    old = {"run/setup": fields["proof"], "run/model": fields["proof"]}
    (run.path / "proofs.json").write_text(json.dumps(old))
    with pytest.raises(TamperedRun, match="is not what the holder of the key left"):
        read_run(run.path).transform(KEY)
