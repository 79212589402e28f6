"""Weights are written in parts that a reader of the format takes, and loaded once."""

import hashlib
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from mlguard.errors import MalformedRun
from mlguard.models import ARCHITECTURES
from mlguard.protect.run_folder.tensor_files import hashed_file, tensors_of
from mlguard.protect.run_folder.weights import filled_model, write_tensors
from tests.runs import small_recipe

TENSORS = {
    "matrix": torch.arange(12.0).view(3, 4),
    "turned": torch.arange(6.0).view(2, 3).t().contiguous(),
    "half": torch.ones(7, dtype=torch.float16),
    "brain": torch.ones(3, dtype=torch.bfloat16),
    "number": torch.tensor(5),
    "flags": torch.tensor([True, False]),
    "nothing": torch.zeros(0, 3),
    "é": torch.ones(1, dtype=torch.uint8),
}


def test_the_library_reads_what_is_written_in_parts(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    digest = write_tensors(path, TENSORS)
    assert digest == hashlib.sha256(path.read_bytes()).hexdigest()
    found = load_file(path)
    assert set(found) == set(TENSORS)
    for name, value in TENSORS.items():
        assert found[name].dtype == value.dtype
        assert torch.equal(found[name], value)


def test_a_model_takes_the_tensors_themselves(tmp_path: Path) -> None:
    model = ARCHITECTURES["fcn_small"](6).eval()
    tensors = dict(model.state_dict())
    filled = filled_model(tensors, tmp_path, small_recipe())
    name, parameter = next(filled.named_parameters())
    assert parameter.data_ptr() == tensors[name].data_ptr()
    assert parameter.requires_grad
    pixels = torch.rand(1, 3, 16, 16)
    assert torch.equal(filled(pixels), model(pixels))


def test_numbers_of_another_width_become_the_models(tmp_path: Path) -> None:
    model = ARCHITECTURES["fcn_small"](6)
    halved = {
        name: value.half() if value.is_floating_point() else value
        for name, value in model.state_dict().items()
    }
    filled = filled_model(halved, tmp_path, small_recipe())
    assert {one.dtype for one in filled.parameters()} == {torch.float32}


def test_tensors_are_read_one_by_one_and_hashed(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    digest = write_tensors(path, TENSORS)
    with hashed_file(path, 1 << 20) as file:
        found = tensors_of(file)
        assert file.sha256() == digest
    assert set(found) == set(TENSORS)
    for name, value in TENSORS.items():
        assert found[name].dtype == value.dtype
        assert torch.equal(found[name], value)


def test_a_header_that_promises_more_than_the_file_gets_no_memory(
    tmp_path: Path,
) -> None:
    path = tmp_path / "weights.safetensors"
    entry = {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 1 << 42]}
    header = json.dumps({"weight": entry}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header)
    with (
        pytest.raises(MalformedRun, match="its header needs 4398046511"),
        hashed_file(path, 1 << 20) as file,
    ):
        tensors_of(file)


def test_a_file_above_its_limit_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    write_tensors(path, TENSORS)
    with pytest.raises(MalformedRun, match="at most 9"), hashed_file(path, 9):
        pass
