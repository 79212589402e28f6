"""Every case of docs/spec/weights-v1.md, by a generator that shares no code with us."""

import base64
import json
from pathlib import Path

import pytest

from mlguard.errors import MalformedWeights, MlguardError, TamperedTensors, WrongKey
from mlguard.keys import ModelKey
from mlguard.weights.bound import BoundFile
from mlguard.weights.file import WeightsFile

CASES = json.loads((Path(__file__).parents[1] / "vectors/weights.json").read_text())
REFUSALS: dict[str, type[MlguardError]] = {
    "malformed": MalformedWeights,
    "newer": MalformedWeights,
    "not bound": MalformedWeights,
    "tampered": TamperedTensors,
    "wrong key": WrongKey,
}


def those(*expected: str) -> pytest.MarkDecorator:
    cases = [case for case in CASES if case["expect"] in expected]
    assert cases, "the test would pass by testing nothing"
    return pytest.mark.parametrize("case", cases, ids=[one["comment"] for one in cases])


def opened(case: dict, folder: Path) -> tuple[dict[str, bytes], dict[str, str]]:
    path = folder / "some.safetensors"
    path.write_bytes(base64.b64decode(case["file"]))
    file = BoundFile(WeightsFile(path), ModelKey(bytes.fromhex(case["key"])))
    found = {}
    for name, entry in file.entries.items():
        into = bytearray(entry.size_bytes)
        file.read(name, into)
        found[name] = bytes(into)
    return found, file.metadata


@those("success")
def test_a_sound_file_opens(case: dict, tmp_path: Path) -> None:
    expected = {name: bytes.fromhex(data) for name, data in case["tensors"].items()}
    assert opened(case, tmp_path) == (expected, case["metadata"])


@those(*REFUSALS)
def test_a_file_with_one_fault_is_refused_for_it(case: dict, tmp_path: Path) -> None:
    with pytest.raises(MlguardError, match=r"some\.safetensors|the header") as caught:
        opened(case, tmp_path)
    assert type(caught.value) is REFUSALS[case["expect"]], caught.value


def test_there_are_cases_of_every_kind() -> None:
    assert {case["expect"] for case in CASES} == {"success", *REFUSALS}
    assert len(CASES) > 50
