"""Permutations move into the weights that read them, and nothing else changes."""

from collections import Counter

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

from mlguard.bundle import FeatureMapFacts
from mlguard.engine import onnxruntime
from mlguard.keys import ModelKey
from mlguard.models.architectures.cnn_small import CNNSmall
from mlguard.models.architectures.fcn_small import FCNSmall
from mlguard.models.binding import fold_permutations
from mlguard.protect.export import export_graph
from mlguard.transforms import ChannelPermutation, derive_channels

OPSET = 20
SUBKEYS = ModelKey(bytes(range(32))).for_model(bytes(16))
PIXELS = np.random.default_rng(0).normal(size=(2, 3, 24, 40)).astype(np.float32)


class Pooled(nn.Module):
    """What reads the named layer is not a convolution, so nothing can be moved."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.pool = nn.MaxPool2d(3, stride=1, padding=1)
        self.head = nn.Conv2d(8, 2, 1)

    def forward(self, pixels: Tensor) -> Tensor:
        return self.head(self.pool(self.stem(pixels)))


def bound(
    model: nn.Module, layers: dict[str, int], *, signs: bool
) -> tuple[onnx.ModelProto, tuple[ChannelPermutation, ...]]:
    changes = derive_channels(SUBKEYS, layers, signs=signs)
    fold_permutations(model, changes)
    facts = [
        FeatureMapFacts(layer=layer, channels=channels, signs=signs)
        for layer, channels in layers.items()
    ]
    return export_graph(model.eval(), OPSET, facts), changes


def small() -> FCNSmall:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return FCNSmall(4).eval()


def run(graph: onnx.ModelProto, changes: tuple[ChannelPermutation, ...]) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    slots = {name: value for one in changes for name, value in one.slots().items()}
    values = [onnxruntime.OrtValue.ortvalue_from_numpy(v) for v in slots.values()]
    options.add_external_initializers(list(slots), values)
    session = onnxruntime.InferenceSession(
        graph.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return session.run(None, {"pixels": PIXELS})[0]


@pytest.mark.parametrize("signs", [False, True])
@pytest.mark.parametrize(
    "layers",
    [{"stages.1.branch.2": 64}, {"stages.0.branch.2": 32, "stages.2.branch.2": 96}],
    ids=["one layer", "two layers"],
)
def test_the_moved_permutation_still_gives_the_plain_logits(
    layers: dict[str, int], signs: bool
) -> None:
    with torch.inference_mode():
        expected = small()(torch.from_numpy(PIXELS)).numpy()
    graph, changes = bound(small(), layers, signs=signs)
    np.testing.assert_allclose(run(graph, changes), expected, rtol=0, atol=1e-5)
    other = derive_channels(
        ModelKey(bytes(32)).for_model(bytes(16)), layers, signs=signs
    )
    assert np.abs(run(graph, other) - expected).max() > 1e-3


def test_no_feature_map_is_permuted_where_a_convolution_reads_it() -> None:
    graph, _ = bound(small(), {"stages.1.branch.2": 64}, signs=True)
    weights = {tensor.name for tensor in graph.graph.initializer}
    kinds = Counter(node.op_type for node in graph.graph.node)
    assert kinds["TopK"] == 1
    moved = {
        name
        for node in graph.graph.node
        if node.op_type == "Mul"
        for name in node.input
    }
    assert "channels.signs/stages.1.branch.2" in moved
    for node in graph.graph.node:
        if node.op_type == "Mul" and "channels.signs/stages.1.branch.2" in node.input:
            assert node.input[0] in weights, "signs are flipped in the weights"


def test_a_layer_that_is_pooled_first_is_permuted_as_it_is() -> None:
    """The twin: what cannot be moved stays, and works."""
    torch.manual_seed(0)
    model = Pooled().eval()
    with torch.inference_mode():
        expected = model(torch.from_numpy(PIXELS)).numpy()
    graph, changes = bound(model, {"stem": 8}, signs=False)
    kinds = Counter(node.op_type for node in graph.graph.node)
    assert kinds["TopK"] == 0
    assert kinds["Gather"] >= 1
    np.testing.assert_allclose(run(graph, changes), expected, rtol=0, atol=1e-5)


def test_a_classifier_is_permuted_before_the_mean() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = CNNSmall(4).eval()
    with torch.inference_mode():
        expected = model(torch.from_numpy(PIXELS)).numpy()
    graph, changes = bound(model, {"stages": 128}, signs=True)
    np.testing.assert_allclose(run(graph, changes), expected, rtol=0, atol=1e-5)
    other = derive_channels(
        ModelKey(bytes(32)).for_model(bytes(16)), {"stages": 128}, signs=True
    )
    assert np.abs(run(graph, other) - expected).max() > 1e-3
