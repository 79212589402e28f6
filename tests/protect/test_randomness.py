"""What training draws by chance: from whom it can be drawn again, and what it is."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from mlguard.errors import MalformedRun
from mlguard.keys import ModelKey, TrainingSecret
from mlguard.protect.key_work import new_model
from mlguard.protect.run_folder.secret import decisive, training_digest
from mlguard.protect.training import job
from mlguard.protect.training.randomness import SecretWeights, normal, uniform
from tests.runs import KEY, OTHER_KEY, small_job, small_recipe, small_run

VECTORS = json.loads((Path(__file__).parents[1] / "vectors/keys.json").read_text())
SECRET = TrainingSecret(bytes(range(32)))


def drawn(key: ModelKey, *overrides: str) -> dict[str, torch.Tensor]:
    """The initial weights of the small model under a key."""
    recipe = small_recipe(*overrides)
    with SecretWeights(key.for_training(training_digest(recipe))):
        return new_model(recipe).state_dict()


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize(
    "vector", VECTORS["training_draws"], ids=lambda case: case["comment"]
)
def test_initial_weights_match_the_specification(vector: dict) -> None:
    secret = TrainingSecret(bytes.fromhex(vector["training_secret"]))
    subkey = secret.derive(f"weights/{vector['tensor']}")
    count = len(vector["uniform"])
    assert uniform(subkey, count).tolist() == vector["uniform"]
    np.testing.assert_allclose(normal(subkey, count), vector["normal"], rtol=1e-12)
    with SecretWeights(secret):
        for number in range(vector["tensor"] + 1):
            got = torch.empty(count, dtype=torch.float64)
            nn.init.uniform_(got) if number % 2 else nn.init.normal_(got)
    expected = vector["uniform" if vector["tensor"] % 2 else "normal"]
    np.testing.assert_allclose(got.numpy(), expected, rtol=1e-12)


def test_same_key_recipe_and_seed_draw_the_same_weights_and_others_do_not() -> None:
    ours = drawn(KEY)
    assert same(ours, drawn(KEY))
    assert not same(ours, drawn(OTHER_KEY))
    assert not same(ours, drawn(KEY, "train.seed=1"))
    assert not same(ours, drawn(KEY, "transform.method=np"))


def test_same_key_recipe_and_seed_give_the_same_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But for the protection id, which is new for every run."""
    monkeypatch.setattr(job, "new_protection_id", lambda: bytes(16))

    def weights(name: str, *overrides: str, key: ModelKey = KEY) -> bytes:
        run = small_run(tmp_path / name, *overrides, key=key)
        return run.weights.read_bytes()

    ours = weights("ours")
    assert weights("again") == ours
    assert weights("seed", "train.seed=1") != ours
    assert weights("key", key=OTHER_KEY) != ours


def test_what_decides_nothing_changes_no_weight() -> None:
    options = ("data.workers=2", "data.cache=false", "train.checkpoint_s=1.0")
    assert training_digest(small_recipe(*options)) == training_digest(small_recipe())
    assert decisive(small_recipe(*options)) == decisive(small_recipe())
    assert decisive(small_recipe("train.epochs=3")) != decisive(small_recipe())


def test_torch_s_own_seed_has_no_say() -> None:
    torch.manual_seed(1)
    first = drawn(KEY)
    torch.manual_seed(2)
    assert same(first, drawn(KEY))


@pytest.mark.parametrize(
    "draw", [nn.init.uniform_, nn.init.normal_, nn.init.trunc_normal_]
)
def test_drawn_values_are_spread_as_torch_spreads_them(draw) -> None:
    with SecretWeights(SECRET):
        ours = draw(torch.empty(20_000))
    theirs = draw(torch.empty(20_000))
    shares = torch.linspace(0.01, 0.99, 50)
    apart = ours.quantile(shares) - theirs.quantile(shares)
    assert apart.abs().max() < 0.1 * theirs.std() + 0.02


def test_no_two_tensors_are_alike_and_a_generator_by_hand_is_left_alone() -> None:
    with SecretWeights(SECRET):
        one, two = torch.rand(100), torch.rand(100)
        seeded = torch.rand(100, generator=torch.Generator().manual_seed(3))
    assert not torch.equal(one, two)
    by_hand = torch.rand(100, generator=torch.Generator().manual_seed(3))
    assert torch.equal(seeded, by_hand)


@pytest.mark.parametrize("draw", [torch.randperm, torch.rand, torch.randn])
def test_every_way_to_draw_follows_from_the_secret(draw) -> None:
    def once(secret: TrainingSecret) -> torch.Tensor:
        with SecretWeights(secret):
            return draw(50)

    assert torch.equal(once(SECRET), once(SECRET))
    assert not torch.equal(once(SECRET), once(TrainingSecret(bytes(32))))


def test_plain_run_without_a_key_draws_from_a_private_file(tmp_path: Path) -> None:
    one = small_job(tmp_path / "one").train_baseline()
    two = small_job(tmp_path / "two").train_baseline()
    first, second = (run.path / "training.secret" for run in (one, two))
    assert first.read_text() != second.read_text()
    assert not same(one.load_model().state_dict(), two.load_model().state_dict())
    assert os.stat(first).st_mode & 0o777 == 0o600


def test_twin_under_a_key_keeps_no_secret_and_needs_the_key_to_go_on(
    tmp_path: Path,
) -> None:
    path = small_job(tmp_path / "twin").train_baseline(KEY).path
    assert not (path / "training.secret").exists()
    (path / "checkpoint.safetensors").touch()
    with pytest.raises(MalformedRun, match="was begun under a key"):
        small_job(path, resume=True).train_baseline()


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plain run without a key, its training not quite ended."""
    path = tmp_path_factory.mktemp("runs") / "plain"
    small_job(path).train_baseline()
    (path / "checkpoint.kept").touch()
    return path


@pytest.mark.parametrize("content", ["", "00" * 31 + "\n", "zz" * 32, "00" * 5000])
def test_damaged_secret_is_refused(plain: Path, tmp_path: Path, content: str) -> None:
    path = shutil.copytree(plain, tmp_path / "run")
    (path / "training.secret").write_text(content)
    with pytest.raises(MalformedRun, match=r"training\.secret is damaged"):
        small_job(path, resume=True).train_baseline()


def test_run_whose_secret_is_gone_is_not_gone_on_with(
    plain: Path, tmp_path: Path
) -> None:
    path = shutil.copytree(plain, tmp_path / "run")
    (path / "training.secret").unlink()
    with pytest.raises(MalformedRun, match=r"training\.secret is missing") as refusal:
        small_job(path, resume=True).train_baseline()
    assert "0.1" in refusal.value.hint
