"""What was bound comes back bit for bit, with the calls of the safetensors library."""

from pathlib import Path

import numpy as np
import pytest
import safetensors
import torch
from safetensors.torch import save as save_torch

from mlguard.errors import (
    MalformedWeights,
    OutputExists,
    TamperedTensors,
    WeightsError,
    WrongKey,
)
from mlguard.weights import bind_file, load_file, raw_tensors, safe_open, save_file
from tests.weights.files import KEY, OTHER, bound, plain, small_floats, tensors


def same(found, expected) -> bool:
    return (
        found.dtype == expected.dtype
        and found.shape == expected.shape
        and found.tobytes() == expected.tobytes()
    )


def test_every_tensor_comes_back_bit_for_bit(tmp_path: Path) -> None:
    found = load_file(bound(tmp_path), KEY)
    assert set(found) == set(tensors())
    assert all(same(found[name], one) for name, one in tensors().items())


def test_types_that_numpy_does_not_know_come_back_too(tmp_path: Path) -> None:
    path = tmp_path / "small.safetensors"
    save_file(small_floats(), path, KEY)
    found = load_file(path, KEY)
    assert all(same(found[name], one) for name, one in small_floats().items())


def test_without_ml_dtypes_their_refusal_says_what_to_do(tmp_path, monkeypatch) -> None:
    path = tmp_path / "small.safetensors"
    save_file(small_floats(), path, KEY)
    monkeypatch.setattr("mlguard.weights.frameworks._own_types", dict)
    with (
        safe_open(path, KEY) as file,
        pytest.raises(WeightsError, match="numpy lacks the type BF16") as caught,
    ):
        file.get_tensor("bfloat16")
    assert "ml_dtypes" in caught.value.hint


def test_torch_tensors_of_every_type_come_back(tmp_path: Path) -> None:
    kinds = (torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2, torch.float16)
    given = {str(kind): torch.linspace(-2, 2, 6).to(kind) for kind in kinds}
    given |= {"scalar": torch.tensor(3), "nothing": torch.empty(0, 2)}
    given["pairs"] = torch.arange(8, dtype=torch.uint8).view(torch.float4_e2m1fn_x2)
    (tmp_path / "plain.safetensors").write_bytes(save_torch(given))
    path = tmp_path / "bound.safetensors"
    bind_file(tmp_path / "plain.safetensors", path, KEY)
    save_file(given, tmp_path / "saved.safetensors", KEY)
    for one in (path, tmp_path / "saved.safetensors"):
        found = load_file(one, KEY, framework="pt")
        for name, tensor in given.items():
            assert (found[name].dtype, found[name].shape) == (
                tensor.dtype,
                tensor.shape,
            )
            raw = [t.reshape(-1).view(torch.uint8) for t in (found[name], tensor)]
            assert raw[0].equal(raw[1]), name


def test_a_bound_file_is_an_ordinary_one_of_the_same_names_types_and_sizes(
    tmp_path: Path,
) -> None:
    ours, theirs = bound(tmp_path), plain(tmp_path)
    with (
        safetensors.safe_open(ours, "np") as one,
        safetensors.safe_open(theirs, "np") as other,
    ):
        assert one.offset_keys() == other.offset_keys()
        assert one.metadata()["format"] == "pt"
        for name in one.keys():  # noqa: SIM118  # it is no dictionary
            found, expected = one.get_tensor(name), other.get_tensor(name)
            assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
            assert found.nbytes < 4 or found.tobytes() != expected.tobytes()


def test_no_plain_byte_of_a_tensor_is_in_the_file(tmp_path: Path) -> None:
    weight = tensors()["block.weight"].tobytes()
    assert weight in plain(tmp_path).read_bytes()  # the twin
    content = bound(tmp_path).read_bytes()
    assert not any(weight[i : i + 8] in content for i in range(0, len(weight), 8))


def test_two_files_of_one_model_have_nothing_in_common(tmp_path: Path) -> None:
    one, two = tmp_path / "one.safetensors", tmp_path / "two.safetensors"
    for path in (one, two):
        bind_file(plain(tmp_path), path, KEY)
    parts = [path.read_bytes()[-64:] for path in (one, two)]
    assert parts[0] != parts[1]


def test_a_file_is_opened_lazily_and_a_tensor_is_read_when_asked_for(
    tmp_path: Path,
) -> None:
    path = bound(tmp_path)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with safe_open(path, KEY) as file:
        names = file.offset_keys()
        assert same(file.get_tensor(names[0]), tensors()[names[0]])
        with pytest.raises(TamperedTensors, match="was changed after it was sealed"):
            file.get_tensor(names[-1])


def test_the_calls_are_those_of_the_library(tmp_path: Path) -> None:
    path = bound(tmp_path)
    with (
        safetensors.safe_open(plain(tmp_path), "np") as other,
        safe_open(path, KEY, framework="numpy") as file,
    ):
        assert sorted(file.keys()) == sorted(other.keys())
        assert file.offset_keys() == other.offset_keys()
        assert file.metadata() == other.metadata()
        mine, theirs = (one.get_slice("block.weight") for one in (file, other))
        assert mine.get_shape() == theirs.get_shape()
        assert mine.get_dtype() == theirs.get_dtype()
        assert same(mine[1:3, :2], theirs[1:3, :2])
        assert set(file.get_tensors()) == set(tensors())


def test_a_file_without_texts_has_no_metadata(tmp_path: Path) -> None:
    path = tmp_path / "any.safetensors"
    save_file({"one": np.zeros(3)}, path, KEY)
    with safe_open(path, KEY) as file:
        assert file.metadata() is None


def test_another_key_is_refused_and_both_are_named(tmp_path: Path) -> None:
    with pytest.raises(WrongKey, match=f"{KEY.key_id}.*{OTHER.key_id}"):
        load_file(bound(tmp_path), OTHER)


def test_a_plain_file_is_refused_and_the_way_out_is_named(tmp_path: Path) -> None:
    with pytest.raises(MalformedWeights, match="not bound to a key") as caught:
        load_file(plain(tmp_path), KEY)
    assert "mlguard bind" in caught.value.hint


def test_a_tensor_from_another_file_of_the_same_key_is_refused(tmp_path: Path) -> None:
    one, two = tmp_path / "one.safetensors", tmp_path / "two.safetensors"
    for path in (one, two):
        save_file({"w": np.arange(64.0)}, path, KEY)
    two.write_bytes(two.read_bytes()[:-512] + one.read_bytes()[-512:])
    with pytest.raises(TamperedTensors, match="'w' was changed after it was sealed"):
        load_file(two, KEY)
    assert load_file(one, KEY)["w"][5] == 5  # the twin


def test_one_flipped_bit_anywhere_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "any.safetensors"
    save_file({"w": np.arange(4.0), "b": np.ones(2, "f2")}, path, KEY, {"note": "x"})
    content = path.read_bytes()
    refused = 0
    for place in range(8 * len(content)):
        changed = bytearray(content)
        changed[place // 8] ^= 1 << place % 8
        path.write_bytes(changed)
        with pytest.raises((MalformedWeights, TamperedTensors, WrongKey)):
            load_file(path, KEY)
        refused += 1
    assert refused == 8 * len(content) > 5000


def test_a_file_cut_short_anywhere_is_refused(tmp_path: Path) -> None:
    path = bound(tmp_path)
    content = path.read_bytes()
    for size in range(0, len(content), 37):
        path.write_bytes(content[:size])
        with pytest.raises(MalformedWeights):
            load_file(path, KEY)


def test_nothing_is_written_over_and_nothing_half_written_stays(
    tmp_path: Path,
) -> None:
    path = bound(tmp_path)
    before = path.read_bytes()
    with pytest.raises(OutputExists, match=r"bound\.safetensors already exists"):
        save_file(tensors(), path, KEY)
    with pytest.raises(WeightsError, match="of type object"):
        save_file({"w": np.array([None])}, tmp_path / "new.safetensors", KEY)
    assert path.read_bytes() == before
    assert {one.name for one in tmp_path.iterdir()} == {path.name, "plain.safetensors"}


def test_a_killed_bind_leaves_no_plain_weight(tmp_path: Path, monkeypatch) -> None:
    """What would be left is looked at when all of it is written."""
    source, left = plain(tmp_path), []

    def die(_: int) -> None:
        found = (one for one in tmp_path.iterdir() if one != source)
        left.extend(one.read_bytes() for one in found)
        raise KeyboardInterrupt

    monkeypatch.setattr("mlguard.weights.write.os.fsync", die)
    with pytest.raises(KeyboardInterrupt):
        bind_file(source, tmp_path / "bound.safetensors", KEY)
    weight = tensors()["block.weight"].tobytes()
    assert [weight[:16] in content for content in left] == [False]
    assert [one.name for one in tmp_path.iterdir()] == [source.name]


@pytest.mark.parametrize("name", ["", "a\nb", "x" * 1025])
def test_names_that_no_reader_takes_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="a tensor is named"):
        save_file({name: np.zeros(2)}, tmp_path / "any.safetensors", KEY)


def test_the_name_of_the_metadata_is_no_name_of_a_tensor(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="the format keeps the name"):
        save_file({"__metadata__": np.zeros(2)}, tmp_path / "any.safetensors", KEY)
    assert list(tmp_path.iterdir()) == []


def test_metadata_that_would_look_like_ours_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="metadata may not be called"):
        save_file({}, tmp_path / "any.safetensors", KEY, {"mlguard.salt": ""})


def test_a_bound_file_is_not_bound_again(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="already bound to a key"):
        bind_file(bound(tmp_path), tmp_path / "again.safetensors", KEY)


def test_a_missing_file_and_a_missing_tensor_are_sentences(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"none\.safetensors: No such file"):
        load_file(tmp_path / "none.safetensors", KEY)
    with (
        safe_open(bound(tmp_path), KEY) as file,
        pytest.raises(WeightsError, match="has no tensor 'none'"),
    ):
        file.get_tensor("none")


def test_an_unknown_framework_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected framework 'np' or 'pt'"):
        load_file(bound(tmp_path), KEY, framework="flax")


def test_raw_bytes_are_given_of_plain_and_of_bound_files(tmp_path: Path) -> None:
    expected = {name: one.tobytes() for name, one in tensors().items()}
    for path, key in ((bound(tmp_path), KEY), (plain(tmp_path), OTHER)):
        found = {head.name: data.tobytes() for head, data in raw_tensors(path, key)}
        assert found == expected
    with pytest.raises(WrongKey, match="was bound to key"):
        list(raw_tensors(tmp_path / "bound.safetensors", OTHER))
