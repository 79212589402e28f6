"""The pages' code for other libraries runs where these are installed."""

import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from mlguard.weights import bind_file
from tests.weights.files import KEY

PAGE = Path(__file__).parents[2] / "docs/models/safetensors.md"
BLOCKS = dict(re.findall(r"^```py\n# (\w+)\n(.*?)^```", PAGE.read_text(), re.S | re.M))


def run(library: str, weights: Path | dict[str, torch.Tensor]) -> object:
    """The page's block of one library, in the present folder; gives its model."""
    if isinstance(weights, dict):
        save_file(weights, "plain.safetensors", {"format": "pt"})
        weights = Path("plain.safetensors")
    bind_file(weights, Path("bound.safetensors"), KEY)
    names: dict[str, object] = {"key": KEY}
    exec(compile(BLOCKS[library], library, "exec"), names)
    return names["model"]


def check(found: torch.nn.Module, expected: torch.nn.Module) -> None:
    own, other = found.state_dict(), expected.state_dict()
    assert list(own) == list(other)
    assert all(one.equal(other[name]) for name, one in own.items())


def test_there_is_a_block_for_every_library() -> None:
    assert set(BLOCKS) == {"timm", "transformers", "diffusers"}


def test_timm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    timm = pytest.importorskip("timm")
    monkeypatch.chdir(tmp_path)
    plain = timm.create_model("resnet18", pretrained=False)
    check(run("timm", plain.state_dict()), plain)


def test_transformers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    transformers = pytest.importorskip("transformers")
    monkeypatch.chdir(tmp_path)
    config = transformers.BertConfig(
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        vocab_size=50,
    )
    plain = transformers.BertModel(config)
    plain.save_pretrained("bert")
    check(run("transformers", Path("bert/model.safetensors")), plain)


def test_diffusers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    diffusers = pytest.importorskip("diffusers")
    monkeypatch.chdir(tmp_path)
    plain = diffusers.UNet2DModel(
        sample_size=8,
        block_out_channels=(32, 32),
        down_block_types=("DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"),
        norm_num_groups=8,
    )
    plain.save_pretrained("unet")
    check(run("diffusers", Path("unet/diffusion_pytorch_model.safetensors")), plain)
