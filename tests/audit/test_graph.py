"""A run folder's model scored by onnxruntime: the same scores as by torch."""

import dataclasses
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mlguard.audit.attacks.base import SplitReferee
from mlguard.audit.attacks.training.adapters import FeatureAdapter
from mlguard.audit.measure.counting import Tried
from mlguard.audit.run import auditing
from mlguard.audit.target.graph import _traced
from mlguard.audit.target.subject import Subject
from mlguard.data import open_split
from mlguard.errors import ParityError, ReportError
from mlguard.models import NO_KEY, Condition, keyed, logits_of
from mlguard.protect.evaluate import evaluate
from mlguard.protect.run_folder import Run
from mlguard.recipe import Transform
from mlguard.transforms import TransformSet
from tests.audits import KEY, audit_run, make_run
from tests.planted import (
    SIZE,
    channel_permutation,
    plain_features,
    planted_features,
    planted_images,
    scene_of_features,
    shf_transform,
)

KEYED = channel_permutation(signs=True)
SPEC = Transform(method="channels", layers=(KEYED.layer,), signs=True)


@pytest.fixture(scope="module")
def subject() -> Subject:
    """A model whose key permutes a feature map, in a graph."""
    scene = scene_of_features(planted_features(KEYED), KEYED)
    found = scene.stolen.in_graph(SPEC, (SIZE, SIZE))
    assert found.engine == "onnxruntime"
    return found


def counts_of(subject: Subject, condition: Condition) -> np.ndarray:
    referee = SplitReferee(subject, planted_images(20, seed=9), batch=8)
    return referee(subject.model, condition)


@pytest.mark.parametrize(
    "transforms",
    [
        TransformSet(),
        TransformSet(None, (KEYED,)),
        TransformSet(None, (channel_permutation(signs=True),)),
        TransformSet(shf_transform(), (KEYED,)),
    ],
    ids=["no key", "correct key", "another key", "images too"],
)
def test_scores_are_those_of_torch(subject: Subject, transforms: TransformSet) -> None:
    torch_only = dataclasses.replace(subject, graph=None)
    condition = keyed(transforms)
    assert subject.graph.takes(condition)
    images = planted_images(8, seed=3).images
    with torch.inference_mode():
        found, expected = (
            logits_of(one.run(images, condition)) for one in (subject, torch_only)
        )
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert np.array_equal(
        counts_of(subject, condition), counts_of(torch_only, condition)
    )


def test_the_keys_are_told_apart(subject: Subject) -> None:
    """The twin of the test above: it would see a key that changes nothing."""
    correct = counts_of(subject, keyed(TransformSet(None, (KEYED,))))
    assert not np.array_equal(correct, counts_of(subject, NO_KEY))


def test_what_a_graph_cannot_do_is_done_by_torch(subject: Subject) -> None:
    learned = Condition(features={KEYED.layer: FeatureAdapter(len(KEYED.order))})
    assert not subject.graph.takes(learned)
    torch_only = dataclasses.replace(subject, graph=None)
    assert np.array_equal(counts_of(subject, learned), counts_of(torch_only, learned))


def test_threads_that_run_it_together_count_what_one_does(subject: Subject) -> None:
    """Some conditions in the graph, and some by torch, with hooks on the model."""

    permuted = keyed(TransformSet(None, (KEYED,))).features[KEYED.layer]

    def slowly(maps: Tensor, places: int) -> Tensor:
        time.sleep(0.01)  # another thread's turn
        return permuted(maps).roll(places, dims=1)

    conditions = {"correct": keyed(TransformSet(None, (KEYED,))), "none": NO_KEY}
    for number in range(6):
        change = partial(slowly, places=number % 2)
        conditions[f"by torch, {number}"] = Condition(features={KEYED.layer: change})
    one_by_one, together = (
        evaluate(
            subject.model,
            planted_images(20, seed=9),
            conditions,
            normalization=subject.normalization,
            device=subject.device,
            batch=8,
            run=subject.run,
            at_once=threads,
        )
        for threads in (1, 4)
    )
    assert list(together) == list(conditions)
    assert np.array_equal(together["by torch, 0"], together["correct"])
    assert not np.array_equal(together["by torch, 1"], together["correct"])
    for name in conditions:
        assert np.array_equal(one_by_one[name], together[name]), name


def test_a_copy_that_is_trained_is_run_by_torch(subject: Subject) -> None:
    assert subject.copy(learns=True).engine == "torch"


class Sorting(nn.Module):
    """Nothing that torch can export."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, pixels: Tensor) -> Tensor:
        order = np.argsort(pixels.detach().numpy(), axis=1)
        return self.scale * torch.from_numpy(order[:, :2].copy()).float()


class Deciding(nn.Module):
    """Does one thing or another, as the values of its images are."""

    def forward(self, pixels: Tensor) -> Tensor:
        return pixels[:, :2] if pixels.mean() > 0 else -pixels[:, 1:]


def test_a_model_that_decides_by_its_images_is_not_traced() -> None:
    assert _traced(Deciding().eval(), (), (SIZE, SIZE)) is None
    assert _traced(plain_features().eval(), (), (SIZE, SIZE)) is not None


def test_a_model_that_cannot_be_exported_is_run_by_torch(subject: Subject) -> None:
    strange = dataclasses.replace(subject, model=Sorting().eval(), graph=None)
    found = strange.in_graph(Transform(method="shf", block_size=2), (SIZE, SIZE))
    assert found is strange


def test_a_graph_with_other_logits_is_not_used(
    subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = plain_features().eval()
    with torch.no_grad():
        expected.head.bias += 1
    graph = subject.graph
    with pytest.raises(ParityError, match="gives other logits than the model"):
        graph._compare(expected, (SIZE, SIZE))
    graph._compare(subject.model, (SIZE, SIZE))


def test_a_gpu_is_left_to_torch(subject: Subject) -> None:
    there = dataclasses.replace(subject, device=torch.device("cuda"), graph=None)
    assert there.in_graph(SPEC, (SIZE, SIZE)) is there


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return make_run(tmp_path_factory.mktemp("audit") / "run")


def audited(run: Run, **more: object):  # type: ignore[no-untyped-def]
    images = open_split(run.recipe.data, None, "test", seed=0)
    settings = run.recipe.audit
    return audit_run(run, KEY, images, split="test", settings=settings, **more)


def test_the_report_says_which_engine_scored(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "audit.jsonl"
    small = audited(run, log=log)
    assert small.report.machine.engine == "torch"
    monkeypatch.setattr(auditing, "MANY_PIXELS", 1)
    large = audited(run)
    assert large.report.machine.engine == "onnxruntime"
    assert large.report.findings.incorrect.scores == pytest.approx(
        small.report.findings.incorrect.scores, abs=1e-3
    )
    with pytest.raises(ReportError, match="machine"):
        audited(run, log=log, resume=True)


def test_conditions_are_made_when_they_are_asked_for() -> None:
    transforms = TransformSet(shf_transform())
    tried = Tried([None, transforms], torch.device("cpu"))
    assert list(tried) == ["0", "1"]
    assert tried["0"] is NO_KEY
    assert tried["1"].transforms is transforms
    assert tried["1"] is not tried["1"], "its table is not kept"
