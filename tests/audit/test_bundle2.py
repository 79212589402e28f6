"""A bundle of format 2, audited under its key: everything in it is sealed."""

import pytest

from mlguard.audit.run import Adversary
from mlguard.audit.target import Target, data_of, target_of_bundle
from mlguard.bundle import Bundle2, SealFacts2
from mlguard.errors import DatasetError, WrongKey
from mlguard.keys import ModelKey
from mlguard.recipe import Audit as Settings
from mlguard.runtime import Session
from tests.audit.test_sealed import noise
from tests.audits import audit_target
from tests.bundles2 import KEY, image_facts, shuffled, small2, task_facts

OTHER_KEY = ModelKey(bytes(range(1, 33)))
OPEN = SealFacts2(graph=False, weights=False)


def target(bundle: Bundle2, key: ModelKey = KEY) -> Target:
    return target_of_bundle(
        bundle,
        key,
        data_of(bundle.manifest, name="x"),
        Settings(incorrect_keys=2),
        key_name="acme",
        device="cpu",
    )


def bundle(**changes: object) -> Bundle2:
    return small2(**({"image": image_facts(), "task": task_facts()} | changes))


def test_the_correct_key_is_scored_as_a_user_gets_it() -> None:
    made, images = bundle(), noise(3, seed=0)
    audited = audit_target(
        target(made),
        images,
        split="test",
        settings=Settings(budget="quick", batch=2),
        adversary=Adversary(noise(2, seed=1), "validation"),
        examples=0,
    )
    found, task = audited.report, images.task
    answers = Session(bundle(), KEY).predict(images.images.numpy())
    right = task.count(answers, images.masks.numpy())
    assert found.findings.correct.score == task.score_of(right)
    assert found.findings.no_key is None
    assert (found.subject.access, found.subject.sealed_files) == ("sealed", True)
    assert found.subject.recipe_sha256 is None
    reasons = {one.reason for one in found.attacks.not_run}
    assert reasons == {"not-asked", "sealed"}


def test_what_only_seals_has_the_key_space_of_its_seal() -> None:
    assert target(bundle()).key_space_bits == 256
    transformed = bundle(image=shuffled())
    assert target(transformed).key_space_bits == pytest.approx(202.9, abs=0.1)


def test_another_key_is_refused() -> None:
    with pytest.raises(WrongKey):
        target(bundle(), OTHER_KEY)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"image": None, "task": None}, "not take an RGB image"),
        ({"task": None}, "answers with no class of a pixel or an image"),
        ({"seal": OPEN}, "not sealed: there is nothing to find out"),
    ],
    ids=["tensors", "no task", "open"],
)
def test_what_cannot_be_scored_is_refused_with_the_reason(
    changes: dict, words: str
) -> None:
    with pytest.raises(DatasetError, match=words):
        data_of(bundle(**changes).manifest, name="x")
