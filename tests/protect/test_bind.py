"""Binding a trained model to a key: the same logits, an ordinary protected run."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from mlguard.bundle import read_bundle
from mlguard.data.cifar10 import CIFAR10_CLASS_NAMES
from mlguard.errors import (
    BindingError,
    MalformedRun,
    OutputError,
    OutputExists,
    ParityError,
    RecipeError,
    RunError,
    TamperedRun,
    WrongKey,
)
from mlguard.models import NO_KEY, Condition, keyed, logits_of, normalization_of
from mlguard.models.binding import fold_batch_norms, prepare_stem
from mlguard.models.conditions import output_of
from mlguard.protect import (
    Bound,
    Run,
    bind_model,
    bound_recipe,
    read_plain,
    read_run,
    rebind_run,
    run_folder,
)
from mlguard.protect.binding import bind as binding
from mlguard.protect.export import export_run
from mlguard.protect.key_work import blank_model, key_space_of
from mlguard.recipe import parse_recipe, read_recipe
from mlguard.runtime import Session
from mlguard.transforms import TransformSet
from tests.models.architectures import enlivened, patch_model
from tests.runs import KEY, OTHER_KEY, small_recipe

LAYERS = (
    "stages.0.branch.2",
    "stages.0",
    "stages.1.branch.2",
    "stages.1",
    "stages.2.branch.2",
    "stages.2",
    "classifier.1",
)
WAYS: dict[str, dict] = {
    "shf": {},
    "np, shf in larger blocks": {"methods": ("np", "shf"), "block_size": 8},
    "orthogonal": {"methods": ("orthogonal",)},
    "one layer": {"methods": ("channels",), "layers": ("stages.1.branch.2",)},
    "everything": {"layers": LAYERS, "fold_batch_norm": True},
}


def plain_run(path: Path, *overrides: str, build=None) -> Path:
    """A plain run folder as `mlguard train` leaves it, of a model with statistics."""
    path.mkdir()
    spec = small_recipe("data.size=[32, 32]", *overrides)
    torch.manual_seed(0)
    model = enlivened(blank_model(spec, build)).float()
    run_folder.write_setup(path, spec, None)
    run_folder.write_model(path / run_folder.MODEL, model)
    facts = {"data": {"train_fingerprint": "cd" * 32}, "resumed": []}
    run_folder.write_json(path / run_folder.PROVENANCE, facts)
    return path


def bound(
    path: Path, out: Path, *, build=None, keep_plain: bool = False, **options
) -> Bound:
    plain = read_plain(path, build=build)
    recipe = bound_recipe(plain, **options)
    return bind_model(plain, recipe, KEY, out, key_name="acme", keep_plain=keep_plain)


def images(*shape: int) -> np.ndarray:
    drawn = np.random.default_rng(3).integers(0, 256, (2, 3, *shape), np.uint8)
    return drawn


@torch.inference_mode()
def logits(run: Run, condition: Condition, pictures: np.ndarray) -> torch.Tensor:
    normalization = normalization_of(run.recipe.model)
    given = torch.from_numpy(pictures)
    return logits_of(output_of(run.load_model(), given, condition, normalization))


def apart(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).abs().max() / other.abs().max())


@pytest.mark.parametrize("way", WAYS)
def test_bound_run_gives_the_plain_logits(tmp_path: Path, way: str) -> None:
    done = bound(plain_run(tmp_path / "plain"), tmp_path / "bound", **WAYS[way])
    run, pictures = read_run(tmp_path / "bound"), images(32, 64)
    expected = logits(read_run(tmp_path / "plain"), NO_KEY, pictures)
    assert apart(logits(run, keyed(run.transform(KEY)), pictures), expected) < 1e-4
    assert apart(logits(run, NO_KEY, pictures), expected) > 1e-2
    wrong = run.derive(OTHER_KEY.for_model(bytes(16)))
    assert apart(logits(run, keyed(wrong), pictures), expected) > 1e-2
    assert done.difference <= 1e-4 * done.largest_logit


EXPORTED = ("np, shf in larger blocks", "everything")


@pytest.mark.parametrize(
    "way",
    [
        pytest.param(way, marks=[] if way in EXPORTED else pytest.mark.slow)
        for way in WAYS
    ],
)
def test_bundle_of_a_bound_run_gives_the_plain_logits(tmp_path: Path, way: str) -> None:
    bound(plain_run(tmp_path / "plain"), tmp_path / "bound", **WAYS[way])
    run, pictures = read_run(tmp_path / "bound"), images(32, 64)
    expected = logits(read_run(tmp_path / "plain"), NO_KEY, pictures)
    report = export_run(run, KEY, tmp_path / "acme.mlgb")
    assert report.agreement == 1
    session = Session(read_bundle(tmp_path / "acme.mlgb"), KEY, provider="cpu")
    assert apart(torch.from_numpy(session.logits(pictures)), expected) < 1e-4


def test_bound_run_says_what_was_done(tmp_path: Path) -> None:
    done = bound(
        plain_run(tmp_path / "plain"), tmp_path / "bound", **WAYS["everything"]
    )
    recipe, facts = done.run.recipe, done.run.provenance["bound"]
    assert (recipe.model.stem, recipe.model.batch_norm) == ("blocks", "folded")
    assert recipe.transform.methods == ("shf", "channels")
    assert len(recipe.transform.layers) == 7
    assert facts["stem"] == "lifted"
    assert facts["tied"]
    assert done.run.shown_by_weights
    assert len(facts["source_sha256"]) == 64
    names = done.run.load_model().state_dict()
    assert not [name for name in names if "running" in name]


def test_the_plain_model_is_the_baseline(tmp_path: Path) -> None:
    bound(plain_run(tmp_path / "plain"), tmp_path / "bound", **WAYS["everything"])
    twin = read_run(tmp_path / "bound").baseline()
    assert twin is not None
    assert twin.protection is None
    pictures = images(32, 32)
    plain = logits(read_run(tmp_path / "plain"), NO_KEY, pictures)
    assert torch.equal(logits(twin, NO_KEY, pictures), plain)


def test_the_baseline_is_a_copy_of_its_own(tmp_path: Path) -> None:
    path = plain_run(tmp_path / "plain")
    (path / run_folder.MODEL).rename(tmp_path / "blob")
    (path / run_folder.MODEL).symlink_to(
        Path("..") / "blob"
    )  # as a cache of weights does
    twin = bound(path, tmp_path / "bound").run.baseline()
    assert twin is not None
    copied, source = twin.path / run_folder.MODEL, tmp_path / "blob"
    assert not copied.is_symlink()
    assert copied.stat().st_ino != source.stat().st_ino
    assert copied.read_bytes() == source.read_bytes()


def test_curves_beside_a_lone_file_are_not_taken_for_its_own(tmp_path: Path) -> None:
    path = plain_run(tmp_path / "plain")
    recipe = read_run(path).recipe
    (tmp_path / "lone").mkdir()
    for name in (run_folder.METRICS, run_folder.MODEL):
        (tmp_path / "lone" / name).write_bytes((path / run_folder.MODEL).read_bytes())
    plain = read_plain(tmp_path / "lone" / run_folder.MODEL, recipe)
    bind_model(plain, bound_recipe(plain), KEY, tmp_path / "bound", key_name="acme")
    assert not (tmp_path / "bound" / run_folder.BASELINE / run_folder.METRICS).exists()


@pytest.mark.parametrize("fold_batch_norm", [False, True])
def test_a_plain_model_of_blocks_can_be_bound_and_loaded(
    tmp_path: Path, fold_batch_norm: bool
) -> None:
    path = plain_run(tmp_path / "plain", "model.stem=blocks")
    run = bound(path, tmp_path / "bound", fold_batch_norm=fold_batch_norm).run
    pictures = images(32, 32)
    expected = logits(read_run(path), NO_KEY, pictures)
    assert apart(logits(run, keyed(run.transform(KEY)), pictures), expected) < 1e-4


def test_a_stem_of_blocks_wants_a_method_on_images(tmp_path: Path) -> None:
    path = plain_run(tmp_path / "plain", "model.stem=blocks")
    with pytest.raises(BindingError, match="works on blocks") as refusal:
        bound_recipe(read_plain(path), methods=("channels",), layers=LAYERS)
    assert "orthogonal,channels" in refusal.value.hint


def test_a_model_that_its_recipe_does_not_build_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = plain_run(tmp_path / "plain")
    monkeypatch.setattr(binding, "rewrite", lambda model, *_: prepare_stem(model, 4))
    recipe = bound_recipe(read_plain(path), fold_batch_norm=True)
    with pytest.raises(
        BindingError, match="recipe does not build a model of this form"
    ):
        bind_model(read_plain(path), recipe, KEY, tmp_path / "bound", key_name="acme")
    assert [one.name for one in tmp_path.iterdir()] == ["plain"]


def test_images_that_are_no_whole_patches_want_blocks_of_patches(
    tmp_path: Path,
) -> None:
    small = ("model.name=fcn_patch_small", "transform.block_size=2")
    path = plain_run(tmp_path / "plain", *small, "data.size=[34, 32]")
    plain = read_plain(path)
    with pytest.raises(BindingError, match="34 x 32 pixels are not whole") as refusal:
        bind_model(plain, bound_recipe(plain), KEY, tmp_path / "b", key_name="acme")
    assert "--block-size 4" in refusal.value.hint


def test_weights_file_and_recipe_are_enough(tmp_path: Path) -> None:
    path = plain_run(tmp_path / "plain")
    recipe = read_run(path).recipe
    plain = read_plain(path / run_folder.MODEL, recipe)
    bind_model(plain, bound_recipe(plain), KEY, tmp_path / "bound", key_name="acme")
    run = read_run(tmp_path / "bound")
    assert run.baseline() is not None
    assert run.recipe.transform.methods == recipe.transform.methods


def test_a_file_of_cifar10_needs_no_class_names(tmp_path: Path) -> None:
    """The recipe names none: the data set has always the same ten."""
    recipe = read_recipe("cifar10", overrides=["model.name=cnn_small"])
    named = recipe.data.model_copy(update={"class_names": CIFAR10_CLASS_NAMES})
    model = blank_model(recipe.model_copy(update={"data": named}))
    run_folder.write_model(tmp_path / "model.safetensors", model)
    plain = read_plain(tmp_path / "model.safetensors", recipe)
    done = bind_model(plain, bound_recipe(plain), KEY, tmp_path / "b", key_name="acme")
    assert done.run.recipe.data.class_names == CIFAR10_CLASS_NAMES


@pytest.mark.parametrize("name", ["imagefolder", "imagenet"])
def test_a_file_of_unnamed_classes_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(RunError, match="does not name the classes") as refusal:
        read_plain(tmp_path / "model.safetensors", read_recipe(name))
    assert "--set 'data.class_names=[…]'" in refusal.value.hint
    (tmp_path / "model.safetensors").touch()
    words = "data.class_names=['cat', 'dog']"
    named = read_recipe(name, overrides=[words])
    plain = read_plain(tmp_path / "model.safetensors", named)
    assert plain.recipe.data.class_names == ("cat", "dog")


def test_patch_stem_is_bound_as_it_is_and_ties_nothing(tmp_path: Path) -> None:
    def build() -> nn.Module:
        return patch_model("no bias").float()

    path = plain_run(tmp_path / "plain", build=build)
    done = bound(path, tmp_path / "bound", build=build)
    assert done.run.provenance["bound"]["stem"] == "patch"
    assert not done.run.shown_by_weights
    for folder in (done.run.path, done.run.path / "baseline"):
        assert "# The model of this run was" in (folder / "recipe.toml").read_text()


def test_key_space_leaves_out_what_a_tied_stem_shows(tmp_path: Path) -> None:
    done = bound(plain_run(tmp_path / "p"), tmp_path / "b", **WAYS["everything"])
    derived = done.run.transform(KEY)
    assert done.run.shown_by_weights
    assert derived.image is not None
    assert derived.channel_bits == pytest.approx(
        derived.key_space_bits - derived.image.key_space_bits
    )
    assert key_space_of(done.run.recipe, shown=True) == derived.channel_bits
    assert key_space_of(done.run.recipe) == derived.key_space_bits
    for sealed, bits in ((True, derived.key_space_bits), (False, derived.channel_bits)):
        export_run(done.run, KEY, tmp_path / f"{sealed}.mlgb", sealed=sealed)
        manifest = read_bundle(tmp_path / f"{sealed}.mlgb").manifest
        assert manifest.key_space_bits == round(bits, 1)


def test_a_patch_stem_shows_nothing(tmp_path: Path) -> None:
    def build() -> nn.Module:
        return patch_model("no bias").float()

    done = bound(plain_run(tmp_path / "p", build=build), tmp_path / "b", build=build)
    assert not done.run.shown_by_weights
    assert not read_run(tmp_path / "p").shown_by_weights


def test_rebound_run_needs_the_new_key_and_gives_the_plain_logits(
    tmp_path: Path,
) -> None:
    path = plain_run(tmp_path / "plain")
    first = bound(path, tmp_path / "bound", **WAYS["everything"]).run
    done = rebind_run(first, KEY, OTHER_KEY, tmp_path / "again", key_name="other")
    run, pictures = done.run, images(32, 32)
    assert run.protection is not None
    assert run.protection.key_name == "other"
    assert run.protection.protection_id != first.protection.protection_id
    expected = logits(read_run(path), NO_KEY, pictures)
    keys = run.transform(OTHER_KEY)
    assert apart(logits(run, keyed(keys), pictures), expected) < 1e-4
    assert apart(logits(run, keyed(first.transform(KEY)), pictures), expected) > 1e-2
    assert run.baseline() is not None
    assert done.run.shown_by_weights
    assert first.provenance == read_run(first.path).provenance
    with pytest.raises(WrongKey):
        run.transform(KEY)
    export_run(run, OTHER_KEY, tmp_path / "again.mlgb")


def test_rebinding_with_another_old_key_is_refused(tmp_path: Path) -> None:
    run = bound(plain_run(tmp_path / "plain"), tmp_path / "bound").run
    with pytest.raises(WrongKey, match=KEY.key_id):
        rebind_run(run, OTHER_KEY, KEY, tmp_path / "again", key_name="acme")
    assert not (tmp_path / "again").exists()


def test_a_run_of_a_stranger_is_not_rebound(tmp_path: Path) -> None:
    run = bound(plain_run(tmp_path / "plain"), tmp_path / "bound").run
    run_folder.write_model(
        run.path / run_folder.MODEL, enlivened(run.load_model()).float()
    )
    with pytest.raises(TamperedRun):
        rebind_run(run, KEY, OTHER_KEY, tmp_path / "again", key_name="other")


def test_a_run_trained_under_its_key_is_not_rebound(tmp_path: Path) -> None:
    path = plain_run(tmp_path / "plain")
    protection = run_folder.Protection(bytes(16), KEY.key_id, "acme")
    run_folder.write_setup(path, read_run(path).recipe, protection)
    run_folder.write_proofs(path, protection, KEY)
    with pytest.raises(BindingError, match="was trained under its key") as refusal:
        rebind_run(read_run(path), KEY, OTHER_KEY, tmp_path / "again", key_name="b")
    assert "train it again" in refusal.value.hint
    with pytest.raises(RunError, match="holds a protected model") as refusal_to_bind:
        read_plain(path)
    assert "mlguard train" in refusal_to_bind.value.hint


@pytest.mark.parametrize(
    ("options", "refusal", "words"),
    [
        ({"methods": ("ffx",)}, BindingError, "ffx cannot be folded"),
        ({"methods": ("shf", "ffx")}, BindingError, "ffx cannot be folded"),
        ({"block_size": 1}, BindingError, "stride 2 does not divide 1"),
        ({"block_size": 3}, RecipeError, "expected one of 1, 2, 4"),
        ({"block_size": 64}, RecipeError, "does not divide data.size 32 x 32"),
        ({"methods": ("channels",)}, RecipeError, "channels permutes the layers named"),
        ({"layers": ("stem.1",)}, BindingError, "stem.1 cannot be permuted: it is add"),
        ({"layers": ("nope",)}, BindingError, "no layer 'nope'"),
    ],
)
def test_what_cannot_be_folded_is_refused_before_any_key(
    tmp_path: Path, options: dict, refusal: type[Exception], words: str
) -> None:
    plain = read_plain(plain_run(tmp_path / "plain"))
    with pytest.raises(refusal, match=words):
        bound_recipe(plain, **options)


def test_a_refused_layer_names_the_layers_that_can(tmp_path: Path) -> None:
    plain = read_plain(plain_run(tmp_path / "plain"))
    with pytest.raises(BindingError) as refusal:
        bound_recipe(plain, layers=("stem.1",))
    assert "stages.0.branch.2" in refusal.value.hint


def test_a_protected_run_is_not_bound_again(tmp_path: Path) -> None:
    bound(plain_run(tmp_path / "plain"), tmp_path / "bound")
    with pytest.raises(RunError, match="protected model, expected a plain") as refusal:
        read_plain(tmp_path / "bound")
    assert "mlguard rebind" in refusal.value.hint


def test_a_file_without_a_recipe_and_a_folder_with_one_are_refused(
    tmp_path: Path,
) -> None:
    path = plain_run(tmp_path / "plain")
    with pytest.raises(RunError, match="is not a run folder") as refusal:
        read_plain(path / run_folder.MODEL)
    assert "--recipe" in refusal.value.hint
    with pytest.raises(RunError, match="has its own recipe"):
        read_plain(path, read_run(path).recipe)


def test_weights_of_another_model_are_refused(tmp_path: Path) -> None:
    path = plain_run(tmp_path / "plain")
    other = parse_recipe(
        (path / run_folder.RECIPE).read_text(),
        name="other",
        overrides=["model.name=fcn_mobilenet_v2"],
    )
    plain = read_plain(path / run_folder.MODEL, other)
    with pytest.raises(MalformedRun, match="of another model"):
        bind_model(plain, bound_recipe(plain), KEY, tmp_path / "x", key_name="acme")


def test_a_folder_that_holds_something_is_left_alone(tmp_path: Path) -> None:
    path = plain_run(tmp_path / "plain")
    (tmp_path / "bound").mkdir()
    (tmp_path / "bound" / "thesis.txt").write_text("mine")
    with pytest.raises(OutputExists):
        bound(path, tmp_path / "bound")
    assert [p.name for p in (tmp_path / "bound").iterdir()] == ["thesis.txt"]


def test_of_two_that_bind_into_one_folder_one_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = plain_run(tmp_path / "plain")
    first = bound(path, tmp_path / "bound").run
    monkeypatch.setattr(
        binding, "refuse_filled_folder", lambda _: None
    )  # both have looked
    with pytest.raises(OutputExists):
        bound(path, tmp_path / "bound")
    assert read_run(tmp_path / "bound").protection == first.protection
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bound", "plain"]


def test_a_model_that_changed_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The twin of parity: it can fail, and then nothing is left."""

    def wrong_fold(model: nn.Module, transforms: TransformSet, _: object) -> None:
        fold_batch_norms(model)  # and no key at all

    monkeypatch.setattr(binding, "fold", wrong_fold)
    path = plain_run(tmp_path / "plain")
    with pytest.raises(ParityError, match="the bound model differs from the plain"):
        bound(path, tmp_path / "bound")
    assert not (tmp_path / "bound").exists()


def test_a_full_disk_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = plain_run(tmp_path / "plain")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match="No space left"):
        bound(path, tmp_path / "bound")
    assert not (tmp_path / "bound").exists()


def test_one_key_gives_every_model_its_own_transform(tmp_path: Path) -> None:
    path = plain_run(tmp_path / "plain")
    one = bound(path, tmp_path / "one").run.load_model().state_dict()
    other = bound(path, tmp_path / "other").run.load_model().state_dict()
    assert not torch.equal(one["stem.0.windows.weight"], other["stem.0.windows.weight"])


def test_a_recipe_of_version_0_1_with_signs_is_bound_without(tmp_path: Path) -> None:
    layers = ('transform.layers=["stages.1.branch.2"]', "transform.signs=true")
    path = plain_run(tmp_path / "plain", "transform.method=channels", *layers)
    assert read_run(path).recipe.transform.signs
    assert not bound_recipe(read_plain(path)).transform.signs
