"""The method `split` in a run: what is trained, kept, and gone on with after a kill."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from mlguard.errors import RecipeError, RunError, WrongKey
from mlguard.models.split import Memory
from mlguard.protect import DataFolder, Job, Run, read_run
from mlguard.protect.training import Epoch, Step
from mlguard.recipe import read_recipe
from tests.runs import KEY, OTHER_KEY, PowerCut, small_recipe
from tests.splits import public_weights, split_recipe


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return public_weights(tmp_path_factory.mktemp("public"))


def job(path: Path, weights: Path, *overrides: str, **options) -> Job:
    recipe = split_recipe(weights, *overrides)
    return Job(path, recipe, DataFolder(None), device="cpu", **options)


def trained(path: Path, weights: Path, *overrides: str, **options) -> Run:
    return job(path, weights, *overrides, **options).protect(KEY, key_name="acme")


def tensors(run: Run) -> dict[str, torch.Tensor]:
    return dict(run.unlocked(KEY).load_model().state_dict())


@pytest.fixture(scope="module")
def run(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return trained(tmp_path_factory.mktemp("split") / "run", weights)


def test_only_the_slices_are_trained(run: Run, weights: Path) -> None:
    found, public = tensors(run), load_file(weights)
    backbone = {
        name.removeprefix("backbone.encoder."): value
        for name, value in found.items()
        if name.startswith("backbone.")
    }
    assert all(torch.equal(backbone[name], public[name]) for name in public)
    assert any(name.startswith("private.") for name in found)


def test_nothing_of_the_private_half_lies_in_the_folder(run: Run) -> None:
    private = [
        value.numpy().tobytes()
        for name, value in tensors(run).items()
        if name.startswith("private.") and value.numel() > 8
    ]
    for path in run.path.rglob("*"):
        content = path.read_bytes() if path.is_file() else b""
        assert not [one for one in private if one in content], path.name
    with pytest.raises(WrongKey):
        run.unlocked(OTHER_KEY)


def test_a_run_that_was_killed_goes_on_to_the_same_weights(
    run: Run, weights: Path, tmp_path: Path
) -> None:
    def cut(event: Step | Epoch) -> None:
        if isinstance(event, Epoch) and event.metrics["epoch"] == 1:
            raise PowerCut

    with pytest.raises(PowerCut):
        trained(tmp_path / "killed", weights, watch=cut)
    resumed = trained(tmp_path / "killed", weights, resume=True)
    expected, found = tensors(run), tensors(resumed)
    assert all(torch.equal(expected[name], found[name]) for name in expected)


def test_memory_changes_nothing_but_the_time(
    run: Run, weights: Path, tmp_path: Path
) -> None:
    found = tensors(trained(tmp_path / "run", weights, "train.cache_gb=0"))
    assert all(torch.equal(value, found[name]) for name, value in tensors(run).items())


def test_every_view_is_computed_once(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memories = []
    written = Memory.__init__

    def watched(memory: Memory, *arguments: object) -> None:
        memories.append(memory)
        written(memory, *arguments)

    monkeypatch.setattr(Memory, "__init__", watched)
    trained(tmp_path / "run", weights, "train.epochs=4", "train.views=2")
    # 12 training images in two views, 4 validation images in one
    assert [one.computed for one in memories] == [2 * 12 + 4]
    assert [one.read for one in memories] == [2 * 12 + 3 * 4]


def test_where_no_crop_comes_again_nothing_is_remembered(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(memory: Memory, *arguments: object) -> None:
        raise AssertionError("a memory was made")

    monkeypatch.setattr(Memory, "__init__", refuse)
    trained(tmp_path / "run", weights, "train.views=0", "train.epochs=1")
    with pytest.raises(AssertionError, match="a memory was made"):
        trained(tmp_path / "other", weights, "train.epochs=1")


def test_the_plain_twin_learns_as_a_whole_and_sees_new_crops(
    run: Run, weights: Path
) -> None:
    twin = job(run.path / "baseline", weights).train_baseline(KEY)
    found = read_run(run.path).baseline(KEY)
    assert found is not None
    assert found.weights_sha256 == twin.weights_sha256
    public = tensors(run)
    learned = found.load_model().state_dict()
    changed = [name for name in public if not torch.equal(public[name], learned[name])]
    assert any(name.startswith("backbone.") for name in changed)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ('transform.method=["split", "weights"]', "split leaves nothing of the owner"),
        ('transform.method=["shf", "split"]', "it stands alone"),
        ("transform.method=weights", "sliced_segmenter does not go with"),
        ("model.name=fcn_small", "backbone, maps, widths and side go with"),
        ("model.weights=none", "split needs the public weights"),
        ("model.widths=[8]", "expected one for each of 2 maps, got 1"),
        ("model.maps=[]", "needs a backbone, and maps"),
        ('model.maps=["features.3", "features.3"]', "named twice"),
        (
            "model.backbone=vgg16",
            "model.backbone: expected FILE.onnx, timm/NAME, or one of",
        ),
        (
            "model.backbone=timm/hf_hub:a/b",
            "model.backbone: expected FILE.onnx, timm/NAME",
        ),
        ("model.batch_norm=folded", "what bind does"),
        ("lock.weight=1.0", "nothing that could answer"),
        ("model.name=sliced_classifier", "needs a segmentation"),
    ],
)
def test_what_does_not_go_together_is_refused(
    weights: Path, override: str, words: str
) -> None:
    with pytest.raises(RecipeError, match=words):
        split_recipe(weights, override)


def test_views_are_of_split_alone() -> None:
    with pytest.raises(RecipeError, match="only split looks at the same crops"):
        small_recipe("train.views=3")


def test_a_map_that_is_not_there_is_refused_before_anything_is_written(
    weights: Path, tmp_path: Path
) -> None:
    with pytest.raises(RecipeError, match=r"no layer 'features\.99'"):
        trained(tmp_path / "run", weights, 'model.maps=["features.3", "features.99"]')
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["camvid_split", "voc_split", "cifar10_split"])
def test_shipped_recipes_split(name: str) -> None:
    recipe = read_recipe(name)
    assert recipe.transform.splits
    assert recipe.transform.seals


def test_a_function_that_makes_a_whole_model_is_refused(
    weights: Path, tmp_path: Path
) -> None:
    with pytest.raises(RunError, match=r"needs a model in two halves, and .* a Conv2d"):
        trained(tmp_path / "run", weights, build=lambda: nn.Conv2d(3, 6, 1))
    assert not (tmp_path / "run").exists()
