"""Passports: trained, audited, attacked, and refused where they do not go."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from mlguard.audit.attacks.retraining import NORMS, parts_of
from mlguard.audit.target import Subject, target_of_run
from mlguard.cli.exit_codes import exit_code_of
from mlguard.data import open_split
from mlguard.errors import BindingError, RecipeError, RunError
from mlguard.keys import ModelKey
from mlguard.models import NO_KEY, keyed, normalization_of
from mlguard.protect import Run, bound_recipe, rebind_run
from mlguard.protect.evaluate import evaluate
from mlguard.protect.export import export_run
from mlguard.recipe import parse_recipe, read_recipe
from tests.classification.conftest import KEY, RECIPE, small_job, small_recipe

METHOD = 'transform.method="passport"'
# Scale and bias are sums of many weights, so they move fast: the rate must be low.
SETTINGS = METHOD, "train.learning_rate=1e-3", "train.epochs=12", 'train.keep="last"'


@pytest.fixture(scope="module")
def stamped(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    path, recipe = tmp_path_factory.mktemp("passports") / "run", small_recipe(*SETTINGS)
    protected = small_job(path, pictures, recipe).protect(KEY, key_name="acme")
    small_job(path / "baseline", pictures, recipe).train_baseline(KEY)
    return protected


def scores(run: Run, pictures: Path) -> list[float]:
    """With the correct key, without one, and with another key."""
    test = open_split(run.recipe.data, pictures, "test", seed=0)
    other = run.derive(ModelKey(bytes(32)).for_model(run.protection.protection_id))
    conditions = {
        "correct": keyed(run.transform(KEY)), "none": NO_KEY, "other": keyed(other),
    }  # fmt: skip
    counts = evaluate(
        run.load_model(),
        test,
        conditions,
        normalization=normalization_of(run.recipe.model),
        device=torch.device("cpu"),
        batch=8,
    )
    return [test.task.score_of(counts[name]) for name in conditions]


def test_three_colours_are_learned_and_need_the_key(
    stamped: Run, pictures: Path
) -> None:
    correct, none, other = scores(stamped, pictures)
    assert correct == 1
    assert none < 0.7
    assert other < 0.7


def test_the_weights_lack_scale_and_bias_and_the_twin_has_them(stamped: Run) -> None:
    own, twin = stamped.load_model(), stamped.baseline(KEY).load_model()
    for one in stamped.transform(KEY).passports:
        norm = own.get_submodule(one.where.norm)
        assert set(norm.weight.tolist()) == {1}
        assert set(norm.bias.tolist()) == {0}
        assert len(set(twin.get_submodule(one.where.norm).weight.tolist())) > 1


def test_an_audit_tries_other_passports(stamped: Run) -> None:
    settings = stamped.recipe.audit
    target = target_of_run(stamped, KEY, settings, torch.device("cpu"))
    assert target.subject.methods == ("passport",)
    assert target.key_space_bits == 2 * 3195
    assert len(target.transforms.incorrect) == 3
    assert target.transforms.same_transform == 0


def test_re_training_includes_scale_and_bias_alone(stamped: Run) -> None:
    stolen = Subject.load(stamped, torch.device("cpu"))
    scene = SimpleNamespace(stolen=stolen, spec=stamped.recipe.transform)
    norms = {one.where.norm for one in stamped.transform(KEY).passports}
    assert set(parts_of(scene)[NORMS]) == norms


def test_it_is_not_exported(stamped: Run, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="under passports, which no bundle") as refused:
        export_run(stamped, KEY, tmp_path / "out.mlgb")
    assert "the method weights" in refused.value.hint
    assert exit_code_of(refused.value) == 40
    assert not list(tmp_path.iterdir())


def test_it_is_trained_and_not_bound(stamped: Run) -> None:
    with pytest.raises(BindingError, match="passport cannot be folded") as refused:
        bound_recipe(stamped.baseline(KEY))
    assert "`mlguard protect`" in refused.value.hint
    assert exit_code_of(refused.value) == 40


def test_another_key_takes_another_training(stamped: Run, tmp_path: Path) -> None:
    new = ModelKey(bytes(32))
    with pytest.raises(BindingError, match="was trained under its key") as refused:
        rebind_run(stamped, KEY, new, tmp_path / "out", key_name="new")
    assert "train it again" in refused.value.hint
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ('transform.method=["passport", "weights"]', "passport is a baseline to"),
        ('transform.method=["shf", "passport"]', "so it stands alone"),
        ('model.batch_norm="folded"', "folded leaves no batch norm"),
        ("lock.weight=1.0", "it does not go with the method passport"),
    ],
)
def test_settings_that_do_not_fit_are_refused(override: str, words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        parse_recipe(RECIPE, name="test", overrides=(METHOD, override))


def test_a_segmentation_is_refused() -> None:
    with pytest.raises(RecipeError, match="passport is for classification, and"):
        read_recipe("demo", overrides=[METHOD])
