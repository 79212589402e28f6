"""The code of a grant is that of docs/spec/marks-v1.md, section 2."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from mlguard.keys import ModelKey
from mlguard.marks import code

VECTORS = json.loads((Path(__file__).parents[1] / "vectors/marks.json").read_text())
SUBKEYS = ModelKey(bytes(range(32))).for_model(bytes(range(16)))


def cases(section: str) -> pytest.MarkDecorator:
    assert VECTORS[section], "the test would pass by testing nothing"
    ids = [case["comment"] for case in VECTORS[section]]
    return pytest.mark.parametrize("vector", VECTORS[section], ids=ids)


def drawn(name: str, grant: bytes, size: int) -> np.ndarray:
    parts = code.words(SUBKEYS, grant, name, size)
    return code.table()[np.concatenate([words for _, words in parts])]


def test_the_table_is_the_one_of_the_specification() -> None:
    packed = code.table().astype("<i2").tobytes()
    assert hashlib.sha256(packed).hexdigest() == VECTORS["table"]["sha256"]
    for word, entry in VECTORS["table"]["entries"].items():
        assert code.table()[int(word)] == entry


@cases("codes")
def test_the_code_of_a_tensor_matches_the_specification(vector: dict) -> None:
    stop = vector["start"] + len(vector["code"])
    found = drawn(vector["name"], bytes.fromhex(vector["grant_id"]), stop)
    assert found[vector["start"] :].tolist() == vector["code"]


def test_a_code_does_not_depend_on_how_much_is_drawn_at_a_time(monkeypatch) -> None:
    expected = drawn("one", bytes(16), 1000)
    monkeypatch.setattr(code, "WORDS_PER_DRAW", 7)
    assert (drawn("one", bytes(16), 1000) == expected).all()


def test_codes_of_grants_tensors_and_keys_have_nothing_in_common() -> None:
    one, size = drawn("one", bytes(16), 20_000) / code.UNIT, 20_000
    others = [drawn("one", bytes([1] * 16), size), drawn("two", bytes(16), size)]
    others = [other / code.UNIT for other in others]
    assert [abs(one @ other) / size < 0.03 for other in others] == [True, True]
    assert one @ one / size == pytest.approx(code.variance(), abs=0.03)  # the twin


def test_a_grant_id_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="a grant id is 16 bytes, got 15"):
        code.checked(bytes(15))
