"""Find the layers whose channels can be permuted by changing other layers' parameters.

The convolutions that read a permuted feature map can undo it, and so can the linear
layers that read its mean over all places, if all layers between treat every channel
alike or have one number for each channel. Where channels of several layers meet
(residual joins, products, depthwise convolutions) nothing can.

Source: arXiv:2109.01332 and arXiv:2206.05422, for models trained under a permutation.
"""

import operator
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from mlguard.errors import BindingError
from mlguard.models.binding.forms import Form, averages, flattens, form_after
from mlguard.models.binding.pieces import ChannelScale, LiftedStem
from mlguard.models.binding.traced import Traced, ancestors, trace
from mlguard.models.detectors import network_of
from mlguard.transforms.blocks import CHANNELS

# Layers and functions that treat every channel alike, whatever its values are. Exactly
# these classes: a subclass may do more.
SAME = (
    nn.ReLU,
    nn.ReLU6,
    nn.LeakyReLU,
    nn.ELU,
    nn.GELU,
    nn.SiLU,
    nn.Hardswish,
    nn.Hardsigmoid,
    nn.Hardtanh,
    nn.Sigmoid,
    nn.Tanh,
    nn.MaxPool2d,
    nn.AdaptiveMaxPool2d,
    nn.Identity,
    nn.Dropout,
    nn.Dropout2d,
    nn.AvgPool2d,
    nn.AdaptiveAvgPool2d,
    nn.Upsample,
    nn.ZeroPad2d,
)
SAME_FUNCTIONS = {
    F.relu,
    F.relu6,
    F.leaky_relu,
    F.elu,
    F.gelu,
    F.silu,
    F.hardswish,
    F.hardsigmoid,
    F.max_pool2d,
    F.adaptive_max_pool2d,
    F.dropout,
    F.avg_pool2d,
    F.adaptive_avg_pool2d,
    F.interpolate,
    torch.relu,
    torch.sigmoid,
    torch.tanh,
}
SAME_METHODS = {"relu", "relu_", "sigmoid", "tanh", "contiguous", "clone", "detach"}
CONVOLUTIONS = (nn.Conv2d, LiftedStem)
MIXERS = (nn.Conv2d, nn.Linear)  # a path ends at them
MEETINGS = {
    operator.add: "is added to another feature map (a residual join)",
    operator.iadd: "is added to another feature map (a residual join)",
    torch.add: "is added to another feature map (a residual join)",
    operator.mul: "is multiplied by other values (as in squeeze-and-excitation)",
    torch.mul: "is multiplied by other values (as in squeeze-and-excitation)",
    torch.cat: "is joined with other channels",
}


@dataclass
class ChannelPath:
    """The path from a layer to the layers that mix its channels.

    Attributes:
        mixers: Names of those convolutions and linear layers.
        norms: Names of the layers between with one number for each channel.
        forms: Every node between, in the order they run, and the form of its output.
    """

    mixers: list[str] = field(default_factory=list)
    norms: list[str] = field(default_factory=list)
    forms: dict[fx.Node, Form] = field(default_factory=dict)


@dataclass(frozen=True)
class LayerFacts:
    """One layer of a model whose output is a feature map.

    Attributes:
        name: Its name in the model.
        channels: C.
        height: H in pixels, at the requested image size.
        width: W.
        refusal: Why its channels cannot be permuted; empty if they can.
    """

    name: str
    channels: int
    height: int
    width: int
    refusal: str


def path_from(traced: Traced, name: str) -> ChannelPath:
    """Follow a layer's output to the layers that mix its channels.

    Raises:
        BindingError: The model has no such layer, or its channels cannot be permuted.
    """
    if name not in traced.outputs:
        raise BindingError(
            f"the model has no layer {name!r} whose output is a feature map",
            hint="`mlguard layers RECIPE` lists the layers",
        )
    nodes = traced.outputs[name]
    if len(nodes) > 1:
        raise BindingError(_refusal(name, f"runs {len(nodes)} times in one prediction"))
    if nodes[0] not in traced.logits():
        raise BindingError(_refusal(name, "does not contribute to the logits"))
    if not any(isinstance(traced.module(n), CONVOLUTIONS) for n in ancestors(nodes[0])):
        raise BindingError(_refusal(name, "returns the image itself"))
    path, waiting = ChannelPath(forms={nodes[0]: "map"}), [nodes[0]]
    while waiting:
        node = waiting.pop(0)
        for reader in traced.readers(node):
            problem = _step(traced, path, node, reader)
            if problem:
                raise BindingError(_refusal(name, problem))
            if not isinstance(traced.module(reader), MIXERS):
                path.forms[reader] = form_after(traced, reader, path.forms[node])
                waiting.append(reader)
    if not path.mixers:
        raise BindingError(_refusal(name, "is not read by any convolution"))
    return path


def layers_of(model: nn.Module, size: tuple[int, int]) -> list[LayerFacts]:
    """List the layers of a model whose outputs are feature maps, in their order.

    A layer and its container with the same output are listed once, by the container's
    name.

    Args:
        model: The model.
        size: Height and width of the images in pixels.

    Raises:
        BindingError: The model cannot be traced, or not run at this size.
    """
    traced, shapes = trace(model), _shapes(model, size)
    seen: set[fx.Node] = set()
    facts = []
    names = sorted(traced.outputs, key=lambda name: (name.count("."), name))
    for name in names:
        node = traced.outputs[name][0]
        if name in shapes and node not in seen:
            seen.add(node)
            facts.append((node, _facts(traced, name, shapes[name])))
    order = {node: place for place, node in enumerate(traced.nodes())}
    return [found for _, found in sorted(facts, key=lambda pair: order[pair[0]])]


def _facts(traced: Traced, name: str, shape: torch.Size) -> LayerFacts:
    _, channels, height, width = shape
    try:
        path_from(traced, name)
        refusal = ""
    except BindingError as refused:
        refusal = str(refused).removeprefix(_refusal(name, ""))
    return LayerFacts(name, channels, height, width, refusal)


def _refusal(name: str, problem: str) -> str:
    return f"layer {name} cannot be permuted: it {problem}"


def _step(traced: Traced, path: ChannelPath, node: fx.Node, reader: fx.Node) -> str:
    """Take one step along a path. Return the obstacle; empty if there is none."""
    if reader.op == "output":
        return "reaches the model's output"
    if reader.args[:1] != (node,) or node in reader.args[1:]:
        return _meeting(reader)
    form = path.forms[node]
    if flattens(traced, reader):
        return "" if form == "point" else "is flattened together with its places"
    if reader.op != "call_module":
        return _step_function(reader)
    layer, name = traced.module(reader), str(reader.target)
    if type(layer) is nn.Conv2d or (type(layer) is nn.Linear and form == "vector"):
        return _end(traced, path, reader, layer)
    if type(layer) in (nn.BatchNorm2d, ChannelScale):
        if not traced.runs_once(reader):
            return f"goes into {name}, which runs several times"
        path.norms.append(name)
        return ""
    if type(layer) in SAME:
        return ""
    kind = type(layer).__name__
    return f"goes into {name} ({kind}), which mixes channels or is unknown"


def _end(
    traced: Traced, path: ChannelPath, reader: fx.Node, layer: nn.Conv2d | nn.Linear
) -> str:
    name = str(reader.target)
    if isinstance(layer, nn.Conv2d) and layer.groups > 1:
        depthwise = layer.groups == layer.in_channels
        kind = "depthwise" if depthwise else "grouped"
        return f"goes into the {kind} convolution {name}"
    if not traced.runs_once(reader):
        return f"goes into {name}, which runs several times"
    path.mixers.append(name)
    return ""


def _step_function(reader: fx.Node) -> str:
    known = SAME_METHODS if reader.op == "call_method" else SAME_FUNCTIONS
    return "" if averages(reader) or reader.target in known else _meeting(reader)


def _meeting(reader: fx.Node) -> str:
    target = reader.target
    if isinstance(target, str):
        known, name = None, target
    else:
        known, name = MEETINGS.get(target), target.__name__
    return known or f"goes into {name}, which mixes channels or is unknown"


def _shapes(model: nn.Module, size: tuple[int, int]) -> dict[str, torch.Size]:
    """Return the shape of every module's output that is a feature map, by name."""
    shapes: dict[str, torch.Size] = {}

    def remember(name: str, output: object) -> None:
        if isinstance(output, Tensor) and output.dim() == 4:
            shapes.setdefault(name, output.shape)

    hooks = [
        module.register_forward_hook(lambda m, i, o, name=name: remember(name, o))
        for name, module in model.named_modules()
        if name
    ]
    training = model.training
    try:
        parameter = next(model.parameters())
        with torch.inference_mode():
            network_of(model.eval())(parameter.new_zeros(1, CHANNELS, *size))
    except RuntimeError as error:
        reason = str(error).strip().partition("\n")[0]
        raise BindingError(
            f"the model does not run on an image of {size[0]} x {size[1]} pixels: "
            f"{reason}"
        ) from None
    finally:
        model.train(training)
        for hook in hooks:
            hook.remove()
    return shapes
