"""docs/data.md: the file of encoder weights that recipes and results name."""

import re
from pathlib import Path

import pytest
import torchvision.models

from mlguard.models import build_model
from mlguard.recipe import read_recipe

PAGE = Path(__file__).parents[2] / "docs" / "data.md"
(BLOCK,) = re.findall(r"^```py\n(.*?)^```", PAGE.read_text(), re.S | re.M)


def test_the_file_of_the_page_starts_a_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    made = torchvision.models.mobilenet_v2
    network = made(weights=None)  # nothing is fetched in a test
    monkeypatch.setattr(torchvision.models, "mobilenet_v2", lambda weights: network)
    exec(compile(BLOCK, PAGE.name, "exec"), {})
    settings = [
        "model.weights=mobilenet_v2.safetensors",
        "model.mean=[0.485,0.456,0.406]",
        "model.std=[0.229,0.224,0.225]",
    ]
    recipe = read_recipe("camvid", overrides=settings)
    model = build_model(recipe.model, recipe.data.classes)
    ours = dict(model.named_parameters())["features.0.0.weight"]
    assert (ours == network.features[0][0].weight).all()
