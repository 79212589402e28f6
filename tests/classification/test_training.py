"""A classifier is trained under the key like any other model."""

import json
from pathlib import Path

import pytest
from safetensors.torch import load_file

from mlguard.data import cifar10
from mlguard.errors import DatasetError, MalformedRun, RecipeError
from mlguard.protect import Run
from mlguard.protect.training.checkpoint import Progress
from mlguard.recipe import read_recipe
from tests.classification.conftest import KEY, small_job, small_recipe
from tests.images import CLASSES, write_cifar10


def lines(run: Run) -> list[dict]:
    text = (run.path / "metrics.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


def test_the_run_names_the_classes_that_it_found(run: Run) -> None:
    assert run.recipe.data.class_names == CLASSES
    assert 'class_names = [\n    "blue"' in (run.path / "recipe.toml").read_text()


def test_metrics_are_named_accuracy_and_no_other(run: Run) -> None:
    for line in lines(run):
        assert 0 <= line["validation_accuracy"] <= 1
        assert "validation_miou" not in line
    assert (run.path / "curves.png").stat().st_size > 1000


def test_three_colours_are_learned_under_the_key(run: Run) -> None:
    assert max(line["validation_accuracy"] for line in lines(run)) == 1.0


def test_the_best_accuracy_is_what_is_kept(tmp_path: Path) -> None:
    progress, spec = Progress(), small_recipe().train
    scores = [0.2, 0.5, 0.5, float("nan"), 0.4, 0.9]
    lines = [
        {"validation_loss": 1, "validation_accuracy": x, "epoch": 1} for x in scores
    ]
    kept = [progress.improves(line, spec) for line in lines]
    assert kept == [True, True, False, False, False, True]


def test_a_run_stopped_anywhere_goes_on_exactly(
    run: Run, pictures: Path, tmp_path: Path
) -> None:
    class PowerCut(Exception):
        pass

    def cut(event: object) -> None:
        raise PowerCut

    path = tmp_path / "run"
    plain = run.path / "baseline"
    with pytest.raises(PowerCut):
        small_job(path, pictures, watch=cut).train_baseline(KEY)
    small_job(path, pictures, resume=True).train_baseline(KEY)
    first, again = (load_file(one / "model.safetensors") for one in (plain, path))
    assert all((first[name] == again[name]).all() for name in first)


def test_a_run_goes_on_only_with_the_classes_it_was_begun_with(
    pictures: Path, run: Run
) -> None:
    other = small_recipe('data.class_names=["red", "green", "blue"]')
    job = small_job(run.path, pictures, other, resume=True)
    with pytest.raises(MalformedRun, match="was begun with another recipe"):
        job.protect(KEY, key_name="acme")


def test_no_data_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="needs a folder, but none was given"):
        small_job(tmp_path / "run", None).protect(KEY, key_name="acme")
    assert not (tmp_path / "run").exists()


def test_cifar10_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cifar10, "RECORDS", 32)
    monkeypatch.setattr("tests.images.RECORDS", 32)
    settings = ("kind=cifar10", "size=[32, 32]", "validation=144", "pad=4")
    recipe = small_recipe("train.epochs=1", *(f"data.{one}" for one in settings))
    root = write_cifar10(tmp_path / "data")
    run = small_job(tmp_path / "run", root, recipe).train_baseline()
    assert run.recipe.data.class_names == cifar10.CIFAR10_CLASS_NAMES
    assert run.provenance["data"]["train_images"] == 16


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("model.name=fcn_small", "fcn_small does not fit data.kind imagefolder"),
        ("train.keep=best_validation_miou", "is not a score of a classification"),
        ("data.ignore_index=254", "every image of imagefolder has a class"),
        ('data.class_names=["one"]', "two or more different names"),
        ('data.class_names=["a", "a"]', "two or more different names"),
    ],
)
def test_what_does_not_fit_a_classification_is_refused(
    override: str, words: str
) -> None:
    with pytest.raises(RecipeError, match=words):
        small_recipe(override)


def test_pad_and_another_crop_do_not_go_together() -> None:
    with pytest.raises(RecipeError, match="pad: cannot be combined with crop_scale"):
        small_recipe("data.pad=2", "data.crop_scale=[0.2, 1.0]")
    assert small_recipe("data.pad=2").data.pad == 2


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("model.name=resnet18", "resnet18 does not fit data.kind shapes"),
        ("train.keep=best_validation_accuracy", "is not a score of a segmentation"),
        ("data.class_names=[]", "masks have 2 to 255 classes, got 0"),
        ("data.pad=4", "pad: masks are cropped with crop_scale"),
    ],
)
def test_what_does_not_fit_a_segmentation_is_refused(override: str, words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        read_recipe("demo", overrides=[override])


def test_the_recipes_of_the_papers_are_their_settings() -> None:
    recipe = read_recipe("cifar10")
    assert (recipe.model.name, recipe.data.pad) == ("resnet18_cifar", 4)
    train = recipe.train
    assert (train.epochs, train.batch, train.learning_rate) == (200, 128, 0.2)
    assert (train.momentum, train.weight_decay) == (0.9, 5e-4)
    assert read_recipe("imagenet").model.name == "resnet50"


def test_more_than_255_classes_can_be_named() -> None:
    names = ", ".join(f'"c{number}"' for number in range(1000))
    assert small_recipe(f"data.class_names=[{names}]").data.classes == 1000
