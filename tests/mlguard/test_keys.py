"""Model keys: what they derive, for ever, and that they keep their bytes."""

import copy
import json
import pickle
from pathlib import Path

import pytest

from mlguard.keys import ModelKey, ModelSubkeys, TrainingSecret, new_protection_id

VECTORS = json.loads((Path(__file__).parents[1] / "vectors/keys.json").read_text())
SECRET = bytes(range(32))
MODEL = bytes(range(16))


def cases(section: str) -> pytest.MarkDecorator:
    assert VECTORS[section], "the test would pass by testing nothing"
    ids = [case["comment"] for case in VECTORS[section]]
    return pytest.mark.parametrize("vector", VECTORS[section], ids=ids)


@cases("key_ids")
def test_key_id_matches_the_specification(vector: dict) -> None:
    assert ModelKey(bytes.fromhex(vector["secret"])).key_id == vector["key_id"]


@cases("subkeys")
def test_subkey_matches_the_specification(vector: dict) -> None:
    key = ModelKey(bytes.fromhex(vector["secret"]))
    subkeys = key.for_model(bytes.fromhex(vector["protection_id"]))
    assert subkeys.derive(vector["use"]).hex() == vector["subkey"]


def test_two_generated_keys_differ() -> None:
    assert ModelKey.generate().key_id != ModelKey.generate().key_id


def test_two_protection_ids_differ() -> None:
    first, second = new_protection_id(), new_protection_id()
    assert first != second
    assert len(first) == 16


def test_subkeys_name_their_key_and_their_model() -> None:
    subkeys = ModelKey(SECRET).for_model(MODEL)
    assert subkeys.key_id == ModelKey(SECRET).key_id
    assert subkeys.protection_id == MODEL


def test_reveal_gives_the_secret_back() -> None:
    assert ModelKey(SECRET).reveal() == SECRET


@pytest.mark.parametrize("size", [0, 16, 31, 33, 64])
def test_a_secret_of_another_size_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match=f"a model key is 32 bytes, got {size}"):
        ModelKey(bytes(size))


def test_a_protection_id_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match="a protection id is 16 bytes, got 32"):
        ModelKey(SECRET).for_model(bytes(32))


@cases("trainings")
def test_training_secret_matches_the_specification(vector: dict) -> None:
    key = ModelKey(bytes.fromhex(vector["secret"]))
    secret = key.for_training(bytes.fromhex(vector["digest"]))
    assert secret.reveal().hex() == vector["training_secret"]
    assert secret.word("order") == vector["order"]


def test_a_training_secret_shows_nothing_and_is_never_pickled() -> None:
    secret = TrainingSecret(SECRET)
    assert repr(secret) == "TrainingSecret()"
    with pytest.raises(TypeError, match="never pickled"):
        pickle.dumps(secret)
    with pytest.raises(ValueError, match="a training secret is 32 bytes, got 16"):
        TrainingSecret(bytes(16))


@pytest.mark.parametrize("use", ["", "key-id", "training/" + "00" * 32])
def test_a_reserved_use_is_refused(use: str) -> None:
    with pytest.raises(ValueError, match="is not a valid use of a subkey"):
        ModelKey(SECRET).for_model(MODEL).derive(use)


@pytest.mark.parametrize(
    "secret", [ModelKey(SECRET), ModelKey(SECRET).for_model(MODEL)]
)
def test_printing_shows_the_key_id_and_not_the_secret(
    secret: ModelKey | ModelSubkeys,
) -> None:
    for printed in (repr(secret), str(secret), f"{secret}"):
        assert secret.key_id in printed
        assert SECRET.hex() not in printed
        assert repr(SECRET) not in printed


@pytest.mark.parametrize("copier", [pickle.dumps, copy.copy, copy.deepcopy])
def test_a_key_refuses_to_be_pickled_or_copied(copier) -> None:
    with pytest.raises(TypeError, match="a ModelKey is never pickled"):
        copier(ModelKey(SECRET))
    with pytest.raises(TypeError, match="ModelSubkeys are never pickled"):
        copier(ModelKey(SECRET).for_model(MODEL))


def test_a_key_has_no_attribute_dictionary_to_dump() -> None:
    assert not hasattr(ModelKey(SECRET), "__dict__")
