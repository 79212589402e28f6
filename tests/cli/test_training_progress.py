"""What a person is told while a model trains, on a terminal and off one."""

import sys
from pathlib import Path
from types import ModuleType

import pytest
from rich.console import Console

from mlguard.cli import checking_progress, training_progress
from mlguard.cli.checking_progress import count_on_terminal
from mlguard.cli.training_progress import show_training, tensorboard_sink
from mlguard.errors import MissingExtra
from mlguard.protect.training import Epoch, Step

STEP = Step(epoch=1, epochs=3, step=2, steps=9, loss=1.25, seconds_left=75)
LINE = {
    "epoch": 1,
    "train_loss": 0.5,
    "validation_loss": 0.25,
    "validation_miou": 0.125,
}
EPOCH = Epoch(epochs=3, metrics=LINE)


def test_off_a_terminal_every_epoch_is_a_plain_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with show_training("twin") as watch:
        watch(STEP)
        watch(EPOCH)
    told = capsys.readouterr()
    assert told.err.splitlines() == [
        "twin: epoch 1/3  loss 0.500  validation loss 0.250  mIoU 0.125"
    ]
    assert told.out == ""


def test_long_epoch_says_now_and_then_how_far_it_is(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training_progress, "PLAIN_LINE_S", -1.0)
    with show_training("twin") as watch:
        watch(STEP)
    told = capsys.readouterr().err
    assert "epoch 1/3  step 2/9  loss 1.250  1 min 15 s left" in told


def test_on_a_terminal_a_bar_shows_loss_miou_and_time_left(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    terminal = Console(force_terminal=True, width=120, stderr=True)
    monkeypatch.setattr(training_progress, "Console", lambda **_: terminal)
    with show_training("twin") as watch:
        watch(EPOCH)
        watch(STEP)
    told = capsys.readouterr().err
    for words in ("twin", "epoch 1/3", "loss 1.250", "mIoU 0.125", "1 min 15 s left"):
        assert words in told


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Console:
    console = Console(force_terminal=True, width=120, stderr=True)
    for module in (checking_progress, training_progress):
        monkeypatch.setattr(module, "Console", lambda **_: console)
    return console


def test_on_a_terminal_every_epoch_keeps_its_line_above_the_bar(
    terminal: Console, capsys: pytest.CaptureFixture[str]
) -> None:
    with show_training("twin") as watch:
        watch(STEP)
        watch(EPOCH)
    line = "twin: epoch 1/3  loss 0.500  validation loss 0.250  mIoU 0.125\n"
    assert line in capsys.readouterr().err


def test_the_bar_of_the_check_is_done_before_that_of_the_training_starts(
    terminal: Console, capsys: pytest.CaptureFixture[str]
) -> None:
    with show_training("twin") as watch, count_on_terminal("checking images") as check:
        check(1, 2)
        check(2, 2)
        told = capsys.readouterr().err
        assert "checking images" in told
        assert "twin" not in told
        watch(STEP)
        watch(EPOCH)
    told = capsys.readouterr().err
    assert "twin" in told
    assert "checking images" not in told


def test_off_a_terminal_the_check_says_nothing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with count_on_terminal("checking images") as check:
        check(2, 2)
    assert capsys.readouterr().err == ""


def test_tensorboard_that_is_not_installed_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(MissingExtra, match="tensorboard, which is not installed"):
        tensorboard_sink(tmp_path)


def test_tensorboard_hears_every_number_of_every_epoch(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    heard: list[tuple[str, float, int]] = []

    class SummaryWriter:
        def __init__(self, folder: str) -> None:
            assert folder == str(tmp_path / "tensorboard")
            Path(folder).mkdir()

        def add_scalar(self, name: str, value: float, epoch: int) -> None:
            heard.append((name, value, epoch))

        def flush(self) -> None:
            pass

    module = ModuleType("torch.utils.tensorboard")
    module.SummaryWriter = SummaryWriter  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    with show_training("twin", tensorboard_sink(tmp_path / "tensorboard")) as watch:
        assert not any(tmp_path.iterdir()), "a run folder must still be empty"
        watch(EPOCH)
    assert heard == [(name, value, 1) for name, value in LINE.items()]
