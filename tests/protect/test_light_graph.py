"""A graph whose weights lie beside it: the same bytes, and no copies."""

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from mlguard.protect.export import LightGraph, export_light
from mlguard.protect.export.light import serialized


class Plain(nn.Module):
    """One weight beside the graph, and a bias within."""

    def __init__(self) -> None:
        super().__init__()
        self.scores = nn.Conv2d(3, 64, 5, padding=2)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.scores(pixels)


@pytest.fixture(scope="module")
def model() -> Plain:
    return Plain().eval()


@pytest.fixture(scope="module")
def light(model: Plain) -> LightGraph:
    return export_light(model, 20)


def test_its_bytes_are_those_of_the_graph_with_its_weights(light: LightGraph) -> None:
    assert light.to_bytes() == serialized(light.to_proto())
    (weight,) = light.weights
    assert weight.tobytes() in light.to_bytes()


def test_the_weights_are_those_of_the_model(model: Plain, light: LightGraph) -> None:
    (weight,) = light.weights
    assert np.shares_memory(weight, model.scores.weight.detach().numpy())


def test_it_is_checked_without_its_weights(light: LightGraph) -> None:
    bare = onnx.load_model_from_string(light.without_data())
    onnx.checker.check_model(bare, full_check=True)
    assert len(serialized(bare)) < light.weights[0].nbytes
