"""Whoever has the plain twin of a bound model has its key: it is an ancestor."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from mlguard.audit.attacks.places import Match, Places
from mlguard.audit.attacks.public_ancestor import PublicAncestor, public_weights
from mlguard.cli.run_audit_task import _ancestor
from mlguard.errors import RunError, WeightsError
from mlguard.protect import Run, read_run
from tests.protect.test_bind import bound, plain_run
from tests.runs import KEY
from tests.thief.test_audit_known_initialization import scene_of_run

LAYERS = ("stages.0.branch.2", "stages.1", "classifier.1")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Bound in three layers, its norms folded: no weight is as in its twin."""
    folder = tmp_path_factory.mktemp("twin")
    numbers = ("model.mean=[0.5, 0.5, 0.5]", "model.std=[0.5, 0.5, 0.5]")
    path = plain_run(folder / "plain", *numbers)
    out = folder / "bound"
    bound(path, out, methods=("channels",), layers=LAYERS, fold_batch_norm=True)
    return read_run(out)


def twin_of(run: Run) -> Path:
    return run.path / "baseline/model.safetensors"


def test_a_run_s_own_twin_is_taken(run: Run) -> None:
    assert _ancestor(run, twin_of(run)) == twin_of(run)


def test_it_gives_the_whole_key_away(run: Run) -> None:
    scene = scene_of_run(run, KEY)
    public = scene.public.model_copy(update={"weights": str(twin_of(run))})
    scene = dataclasses.replace(scene, model=public)
    places = Places.of(scene, public_weights(scene))
    orders = {one.layer: one.order for one in places.matched if isinstance(one, Match)}
    for one in run.transform(KEY).channels:
        assert np.array_equal(orders[one.layer], one.order)
    assert not PublicAncestor(seed=0).impossible(scene)


def test_weights_of_another_architecture_are_refused(run: Run, tmp_path: Path) -> None:
    other = tmp_path / "other.safetensors"
    tensors = load_file(twin_of(run))
    save_file({f"other.{name}": value for name, value in tensors.items()}, other)
    with pytest.raises(WeightsError, match="only 0 of"):
        _ancestor(run, other)
    with pytest.raises(RunError, match=r"expected a \.safetensors file"):
        _ancestor(run, tmp_path / "weights.pt")
