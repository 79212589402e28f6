"""Training: what it leaves behind, and that stopping changes nothing."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from mlguard.errors import (
    DatasetError,
    Interrupted,
    MalformedRun,
    OutputError,
    OutputExists,
    RunError,
    TamperedRun,
    WrongKey,
)
from mlguard.protect import read_plain, read_run
from mlguard.protect.key_work import blank_model
from mlguard.protect.run_folder import kept, read_model, write_model
from mlguard.protect.training import Epoch, Step, loop
from mlguard.protect.training.checkpoint import Progress
from tests.runs import (
    HALF,
    KEY,
    OTHER_KEY,
    PowerCut,
    killed_run,
    small_baseline,
    small_job,
    small_recipe,
    small_run,
)

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was never interrupted."""
    return small_run(tmp_path_factory.mktemp("runs") / "run").path


@pytest.fixture
def every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the watcher hear of every step, not of two a second."""
    monkeypatch.setattr(loop, "WATCH_S", 0.0)


def weights(path: Path) -> bytes:
    return (path / "model.safetensors").read_bytes()


def numbers(path: Path) -> list[dict]:
    lines = (path / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(li).items() if k != "seconds"} for li in lines]


def test_run_folder_holds_what_a_reader_needs_and_no_checkpoint(finished: Path) -> None:
    assert sorted(path.name for path in finished.iterdir()) == [
        "curves.png",
        "metrics.jsonl",
        "model.safetensors",
        "proofs.json",
        "protection.json",
        "provenance.json",
        "recipe.toml",
    ]
    run = read_run(finished)
    assert run.recipe == small_recipe()
    assert run.provenance["data"]["train_images"] == 12
    assert [line["epoch"] for line in numbers(finished)] == [1, 2]


def test_same_seed_gives_the_same_bytes_and_another_seed_others(
    finished: Path, tmp_path: Path
) -> None:
    again = small_baseline(tmp_path / "again").path
    assert weights(again) == weights(small_baseline(tmp_path / "third").path)
    other = small_baseline(tmp_path / "other", "train.seed=1").path
    assert weights(again) != weights(other)


@pytest.fixture(scope="module")
def never_killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plain run that saved its state at every step."""
    path = tmp_path_factory.mktemp("never") / "run"
    return small_baseline(path, "train.checkpoint_s=1e-9").path


@pytest.fixture(scope="module")
def killed_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A protected run that was killed; nobody changes this one."""
    return killed_run(tmp_path_factory.mktemp("killed") / "run")


@pytest.mark.usefixtures("every_step")
@pytest.mark.parametrize("step", [1, 2, 3, 4, 5, 6])
def test_resuming_after_a_kill_at_any_step_gives_the_same_weights(
    never_killed: Path, tmp_path: Path, step: int
) -> None:
    path = tmp_path / "killed"
    heard = 0

    def cut(event: Step | Epoch) -> None:
        nonlocal heard
        heard += isinstance(event, Step)
        if heard == step:
            raise PowerCut

    with pytest.raises(PowerCut):
        small_baseline(path, "train.checkpoint_s=1e-9", watch=cut)
    small_baseline(path, "train.checkpoint_s=1e-9", resume=True)
    assert weights(path) == weights(never_killed)
    assert numbers(path) == numbers(never_killed)


@pytest.mark.usefixtures("every_step")
def test_ctrl_c_saves_says_how_to_go_on_and_loses_nothing(
    finished: Path, tmp_path: Path
) -> None:
    path = tmp_path / "run"

    def press_ctrl_c(event: Step | Epoch) -> None:
        if isinstance(event, Step) and event.step == 2:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Interrupted, match=r"stopped after epoch 0\.67 of 2") as stop:
        small_run(path, watch=press_ctrl_c)
    assert "--resume" in stop.value.hint
    with pytest.raises(MalformedRun, match="is not finished"):
        read_run(path)
    small_run(path, resume=True)
    assert len(numbers(path)) == 2


def test_run_killed_from_outside_is_resumed_to_the_same_weights(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from tests.runs import small_baseline;"
        "path, *options = sys.argv[1:]; small_baseline(Path(path), *options)"
    )
    options = ("train.checkpoint_s=1e-9", "train.epochs=20")
    path = tmp_path / "killed"
    command = [sys.executable, "-c", script, str(path), *options]
    child = subprocess.Popen(command, cwd=ROOT)
    while not (path / "metrics.jsonl").exists():
        assert child.poll() is None, "the run ended before it could be killed"
        time.sleep(0.01)
    child.send_signal(signal.SIGKILL)
    child.wait()
    resumed = small_baseline(path, *options, resume=True).path
    never_killed = small_baseline(tmp_path / "never", *options).path
    assert weights(resumed) == weights(never_killed)


def test_kill_after_the_last_step_is_resumed_without_training_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "run"

    def cut(*_: object) -> None:
        raise PowerCut

    monkeypatch.setattr(loop, "draw_curves", cut)
    with pytest.raises(PowerCut):
        small_run(path)
    monkeypatch.undo()
    with pytest.raises(MalformedRun, match="is not finished"):
        read_run(path)
    heard: list[object] = []
    small_run(path, resume=True, watch=heard.append)
    assert heard == []
    assert len(numbers(path)) == 2


def test_finished_run_is_left_as_it_is_by_resume(finished: Path) -> None:
    before = weights(finished)
    heard: list[object] = []
    small_run(finished, resume=True, watch=heard.append)
    assert (weights(finished), heard) == (before, [])


def test_output_that_holds_something_is_never_overwritten(finished: Path) -> None:
    with pytest.raises(OutputExists, match="is not empty") as refusal:
        small_run(finished)
    assert "--resume" in refusal.value.hint


def test_resuming_with_another_recipe_is_refused(finished: Path) -> None:
    with pytest.raises(MalformedRun, match="begun with another recipe"):
        small_run(finished, "train.epochs=3", resume=True)


def test_resuming_with_another_key_names_both(finished: Path) -> None:
    with pytest.raises(WrongKey, match=f"got key {OTHER_KEY.key_id}"):
        small_run(finished, resume=True, key=OTHER_KEY)


def test_fewer_images_than_a_batch_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"batch is 13, but there are only 12"):
        small_run(tmp_path / "run", "train.batch=13")
    assert not (tmp_path / "run").exists()


def test_diverging_training_is_stopped_with_advice(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="not a finite number") as refusal:
        small_run(tmp_path / "run", "train.optimizer=sgd", "train.learning_rate=1e30")
    assert "learning_rate" in refusal.value.hint


def test_full_disk_while_saving_keeps_the_last_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "run"
    real, written = kept.atomic_write, 0

    def fills_up(target: Path, data: bytes, *, mode: int) -> None:
        nonlocal written
        written += 1
        if written == 3:
            raise OutputError(f"cannot write {target}: No space left on device")
        real(target, data, mode=mode)

    monkeypatch.setattr(kept, "atomic_write", fills_up)
    with pytest.raises(OutputError, match="No space left"):
        small_run(path, "train.checkpoint_s=1e-9")
    small_run(path, "train.checkpoint_s=1e-9", resume=True)
    assert len(numbers(path)) == 2


def test_resuming_with_other_images_is_refused_and_changes_nothing(
    tmp_path: Path,
) -> None:
    path = small_job(tmp_path / "run").train_baseline().path
    (path / "checkpoint.kept").touch()
    file = path / "provenance.json"
    facts = json.loads(file.read_text())
    facts["data"]["train_fingerprint"] = "another"
    file.write_text(json.dumps(facts))
    with pytest.raises(DatasetError, match=r"was begun with other images"):
        small_job(path, resume=True).train_baseline()
    assert json.loads(file.read_text()) == facts


@pytest.mark.usefixtures("every_step")
def test_provenance_tells_when_a_run_was_resumed(tmp_path: Path) -> None:
    path = tmp_path / "run"

    def cut(_: Step | Epoch) -> None:
        raise PowerCut

    with pytest.raises(PowerCut):
        small_run(path, watch=cut)
    provenance = small_run(path, resume=True).provenance
    (resumed,) = provenance["resumed"]
    assert set(resumed) == {"versions", "machine", "started"}


def test_validation_score_that_is_no_number_is_never_the_best(tmp_path: Path) -> None:
    job = small_job(tmp_path / "run", "train.keep=best_validation_loss")
    progress = Progress()
    losses = [1.0, float("nan"), 5.0, 0.5]
    lines = [{"validation_loss": x, "validation_miou": 0, "epoch": 1} for x in losses]
    better = [progress.improves(line, job.recipe.train) for line in lines]
    assert better == [True, False, False, True]


def test_baseline_trained_on_other_terms_is_refused(tmp_path: Path) -> None:
    run = small_run(tmp_path / "run")
    small_baseline(tmp_path / "run" / "baseline", "train.seed=1")
    with pytest.raises(MalformedRun, match="by another recipe"):
        run.baseline()


def test_any_module_can_be_protected_and_loaded_again(tmp_path: Path) -> None:
    def build() -> torch.nn.Module:
        return torch.nn.Conv2d(3, 6, 3, padding=1)

    run = small_run(tmp_path / "run", *HALF, build=build)
    assert isinstance(run.load_model(), torch.nn.Conv2d)
    assert isinstance(read_run(run.path, build=build).load_model(), torch.nn.Conv2d)
    said = (run.path / "recipe.toml").read_text()
    assert said.startswith("# The model of this run was made by 'tests.protect.")
    assert "model.name, which a recipe must have, names another" in said
    with pytest.raises(RunError, match=r"was made by .*build") as refusal:
        read_run(run.path)
    assert "--build MODULE:FUNCTION" in refusal.value.hint


def test_a_run_of_the_recipe_s_architecture_has_no_such_remark(tmp_path: Path) -> None:
    run = small_run(tmp_path / "run")
    assert (run.path / "recipe.toml").read_text().startswith("recipe = 1")


def test_training_from_python_prints_nothing(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    small_run(tmp_path / "run")
    assert capfd.readouterr() == ("", "")


def test_how_pixels_of_one_s_own_model_are_normalized_is_asked_for(
    tmp_path: Path,
) -> None:
    def build() -> torch.nn.Module:
        return torch.nn.Conv2d(3, 6, 3, padding=1)

    with pytest.raises(RunError, match="normalization of this model's pixels"):
        small_run(tmp_path / "run", build=build)
    assert not (tmp_path / "run").exists()
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(RunError, match="normalization of this model's pixels"):
        read_plain(tmp_path / "model.safetensors", small_recipe(), build=build)


def test_precision_that_the_device_lacks_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="fp16, in which a CPU cannot train"):
        small_run(tmp_path / "run", "train.precision=fp16")


@pytest.mark.parametrize("name", ["checkpoint.kept", "best.kept"])
@pytest.mark.parametrize(
    "damage", [b"", b"\x00" * 100, None], ids=["empty", "0", "bit"]
)
def test_damaged_checkpoint_is_refused(
    killed_once: Path, tmp_path: Path, name: str, damage: bytes | None
) -> None:
    path = shutil.copytree(killed_once, tmp_path / "run")
    whole = (path / name).read_bytes()
    flipped = whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:]
    (path / name).write_bytes(flipped if damage is None else damage)
    with pytest.raises(
        TamperedRun, match=r"\.kept was changed after this run wrote it"
    ):
        small_run(path, resume=True)
    (path / name).write_bytes(whole)
    assert small_run(path, resume=True).load_model()


def test_all_that_a_run_leaves_is_for_its_owner_alone(finished: Path) -> None:
    path = killed_run(finished.parent / "private")
    assert {file.name for file in path.iterdir()} >= {"checkpoint.kept", "best.kept"}
    for folder in (path, finished):
        assert folder.stat().st_mode & 0o077 == 0
        assert all(file.stat().st_mode & 0o077 == 0 for file in folder.iterdir())


def test_protected_model_needs_its_key(tmp_path: Path) -> None:
    run = small_run(tmp_path / "run")
    with pytest.raises(WrongKey, match="was protected with key"):
        run.transform(OTHER_KEY)
    baseline = small_baseline(tmp_path / "baseline")
    assert baseline.protection is None
    with pytest.raises(MalformedRun, match="needs no key"):
        baseline.transform(OTHER_KEY)


@pytest.mark.parametrize("file", ["recipe.toml", "model.safetensors", "proofs.json"])
def test_key_is_not_applied_to_a_run_that_its_holder_did_not_make(
    tmp_path: Path, file: str
) -> None:
    """Else a stranger's weights could make the owner's report spell out the key."""
    ours, other = small_run(tmp_path / "ours"), small_run(tmp_path / "other")
    ours.transform(KEY)
    content = (other.path / file).read_bytes()
    if file == "recipe.toml":
        content += b"\n"
    (ours.path / file).write_bytes(content)
    with pytest.raises(TamperedRun, match="is not what the holder of the key left"):
        read_run(ours.path).transform(KEY)


def test_run_that_a_stranger_began_is_not_resumed(tmp_path: Path) -> None:
    run = small_run(tmp_path / "run")
    (run.path / "checkpoint.kept").touch()
    (run.path / "proofs.json").unlink()
    with pytest.raises(TamperedRun, match=r"recipe\.toml is not what the holder"):
        small_run(run.path, resume=True)


def test_weights_that_are_damaged_are_refused(tmp_path: Path) -> None:
    run = small_run(tmp_path / "run")
    (run.path / "model.safetensors").write_bytes(weights(run.path)[:-4])
    with pytest.raises(MalformedRun, match=r"model\.safetensors is damaged, or no"):
        run.load_model()


def test_weights_that_are_not_there_are_refused(tmp_path: Path) -> None:
    with pytest.raises(MalformedRun, match=r"gone\.safetensors: no such file"):
        read_model(tmp_path / "gone.safetensors", small_recipe())
    with pytest.raises(MalformedRun, match="cannot read"):
        read_model(tmp_path, small_recipe())


def test_weights_of_another_model_are_refused_by_their_first_tensor(
    tmp_path: Path,
) -> None:
    path, recipe = tmp_path / "model.safetensors", small_recipe()
    three = small_recipe("transform.block_size=4", "data.class_names=['a', 'b', 'c']")
    write_model(path, blank_model(three))
    with pytest.raises(MalformedRun, match=r"tensor classifier\S* has shape \(3, .* e"):
        read_model(path, recipe)
    model = blank_model(recipe)
    model.other = torch.nn.Linear(1, 1)
    write_model(path, model)
    with pytest.raises(MalformedRun, match=r"an unexpected tensor 'other\.bias'"):
        read_model(path, recipe)
    write_model(path, model.classifier)
    with pytest.raises(MalformedRun, match=r"tensor stem\.0\.weight is missing"):
        read_model(path, recipe)


def test_loaded_model_gives_logits_for_every_pixel(finished: Path) -> None:
    run = read_run(finished)
    logits = run.load_model()(torch.zeros(1, 3, 20, 24))
    assert logits.shape == (1, run.recipe.data.classes, 20, 24)


def test_two_processes_of_torchrun_train_one_model(tmp_path: Path) -> None:
    script = tmp_path / "job.py"
    script.write_text(
        "import sys; from pathlib import Path; from tests.runs import small_run;"
        "small_run(Path(sys.argv[1]))"
    )
    # A port of its own: another test may run at the same time.
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    words = [*command, str(script), str(tmp_path / "run")]
    subprocess.run([sys.executable, *words], env=environment, check=True)
    assert len(numbers(tmp_path / "run")) == 2
