"""A graph whose weights lie beside it: the same bytes, and no copies."""

import gc

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


def joined() -> nn.Module:
    """A convolution that the exporter joins with the batch norm behind it."""
    layers = nn.Conv2d(3, 61, 5), nn.BatchNorm2d(61)
    return nn.Sequential(*layers).eval()


def held() -> int:
    """How many tensors with the shape of its weight are in memory."""
    gc.collect()
    kinds = (torch.Tensor, nn.Parameter)
    found = (one for one in gc.get_objects() if type(one) in kinds)
    return sum(one.shape == (61, 3, 5, 5) for one in found)


def test_nothing_holds_the_weights_of_a_model_that_is_gone() -> None:
    model = joined()
    assert held()
    light = export_light(model, 20)
    del model
    assert light.weights
    assert not held()
