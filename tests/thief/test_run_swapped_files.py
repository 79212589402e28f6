"""A forger swaps files between the moment they are checked and that they are used."""

from pathlib import Path

import pytest

from mlguard.errors import TamperedRun
from mlguard.protect import bind_model, bound_recipe, read_plain, read_run
from mlguard.protect.export import export_run
from tests.runs import KEY, small_baseline, small_run


def test_recipe_swapped_while_a_passphrase_is_typed_is_not_signed(
    tmp_path: Path,
) -> None:
    """The forger's recipe is read; the owner's lies there when the proof is checked."""
    run = small_run(tmp_path / "run")
    file = run.path / "recipe.toml"
    owners = file.read_text()
    file.write_text(owners.replace("seal = true", "seal = false"))
    assert file.read_text() != owners
    read = read_run(run.path)
    file.write_text(owners)
    with pytest.raises(TamperedRun, match=r"recipe\.toml is not what the holder"):
        export_run(read, KEY, tmp_path / "acme.mlgb")
    assert not (tmp_path / "acme.mlgb").exists()


def test_weights_swapped_after_their_proof_are_not_used(tmp_path: Path) -> None:
    run, other = small_run(tmp_path / "run"), small_run(tmp_path / "other")
    run.transform(KEY)
    run.weights.write_bytes(other.weights.read_bytes())
    with pytest.raises(TamperedRun, match="was changed while it was in use"):
        run.load_model()


def test_weights_that_are_not_swapped_are_used(tmp_path: Path) -> None:
    """Shows that the test above can fail."""
    run = small_run(tmp_path / "run")
    run.transform(KEY)
    assert run.load_model()


def test_plain_weights_swapped_while_a_passphrase_is_typed_are_not_bound(
    tmp_path: Path,
) -> None:
    plain = read_plain(small_baseline(tmp_path / "plain").path)
    other = small_baseline(tmp_path / "other", "train.seed=1")
    recipe = bound_recipe(plain, methods=["shf"])
    plain.weights.write_bytes(other.weights.read_bytes())
    with pytest.raises(TamperedRun, match="was changed while it was in use"):
        bind_model(plain, recipe, KEY, tmp_path / "bound", key_name="acme")
    assert not (tmp_path / "bound").exists()


def test_twin_swapped_after_its_proof_is_not_used(tmp_path: Path) -> None:
    run = small_run(tmp_path / "run")
    small_baseline(run.path / "baseline")
    twin = run.baseline(KEY)
    assert twin is not None
    twin.weights.write_bytes(run.weights.read_bytes())
    with pytest.raises(TamperedRun, match="was changed while it was in use"):
        twin.load_model()
