"""The graph of a model as torch.fx sees it: which layers read which outputs.

To rewrite a layer, its other readers must be known; to attack a model, the layers that
mix the permuted channels. The module knows no key.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from torch import fx, nn
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase

from mlguard.errors import BindingError
from mlguard.models.architectures import WholePatches
from mlguard.models.binding.pieces import ChannelScale, LiftedStem
from mlguard.models.detectors import network_of

# One node each, subclasses too: their insides are known or do not matter.
LEAVES = (ChannelScale, LiftedStem, WholePatches, _NormBase, nn.Conv2d, nn.Linear)
SIZES = {"shape", "size", "dim", "ndim"}  # reads of a tensor's size, not of its values
NORMS = (_BatchNorm, nn.GroupNorm, ChannelScale)
# Functions that join several feature maps, and reads of a part of one.
_OTHER_CHANNELS = {"add", "iadd", "mul", "cat", "sub", "getattr", "getitem"}


@dataclass(frozen=True)
class Traced:
    """A model and its graph.

    Attributes:
        model: The model.
        graph: Its computation in eval mode.
        outputs: For every module, by name, its output nodes, one for every run.
    """

    model: nn.Module
    graph: fx.Graph
    outputs: dict[str, list[fx.Node]]

    def module(self, node: fx.Node) -> nn.Module | None:
        """Return the module that a node runs; None if it runs none."""
        if node.op != "call_module":
            return None
        return self.model.get_submodule(str(node.target))

    def runs_once(self, node: fx.Node) -> bool:
        """Whether the module that a node runs is run nowhere else."""
        return len(self.outputs[str(node.target)]) == 1

    def readers(self, node: fx.Node) -> list[fx.Node]:
        """Return the nodes that read a node's values, and not only its size."""
        return [user for user in node.users if not _reads_size(user)]

    def mixers_of(self, node: fx.Node) -> list[str]:
        """Return the names of the layers that mix the channels of a node's output.

        The search passes through layers that treat every channel alike, or by itself,
        but not through a sum with another feature map.
        """
        found: dict[str, None] = {}
        waiting = [node]
        for one in waiting:
            for user in one.users:
                if mixes(self.module(user)):
                    found[str(user.target)] = None
                elif _keeps_channels(user, one) and user not in waiting:
                    waiting.append(user)
        return list(found)

    def images(self) -> fx.Node:
        """Return the node of the images, the model's input."""
        return next(node for node in self.nodes() if node.op == "placeholder")

    def logits(self) -> set[fx.Node]:
        """Return the nodes that the logits depend on, without an auxiliary head."""
        output = self.graph.output_node().args[0]
        logits = output["out"] if isinstance(output, dict) else output
        return ancestors(logits)

    def nodes(self) -> Iterator[fx.Node]:
        """Return all nodes, in the order they run."""
        return iter(self.graph.nodes)


def readers(model: nn.Module, layer: str) -> tuple[str, ...]:
    """Return the names of the layers that mix the channels of a layer's output.

    Args:
        model: Any model; it is not changed.
        layer: A name in the model; empty for the images.

    Returns:
        Convolutions and linear layers, as `Traced.mixers_of` finds them; empty if there
        are none, or torch.fx cannot see through the model.
    """
    traced = _traced(model)
    if traced is None:
        return ()
    starts = traced.outputs.get(layer, []) if layer else [traced.images()]
    found = (name for start in starts for name in traced.mixers_of(start))
    return tuple(dict.fromkeys(found))


def last_layers(model: nn.Module) -> tuple[str, ...]:
    """Return the names of the layers after which channels are not mixed again.

    Returns:
        Their names; empty if torch.fx cannot see through the model.
    """
    traced = _traced(model)
    if traced is None:
        return ()
    found: dict[str, None] = {}
    waiting = [traced.graph.output_node()]
    for node in waiting:
        for before in node.all_input_nodes:
            if mixes(traced.module(before)):
                found[str(before.target)] = None
            elif before not in waiting:
                waiting.append(before)
    return tuple(found)


def norms_after(model: nn.Module, layer: str) -> tuple[str, ...]:
    """Return the names of the layers that normalize or scale a layer's output."""
    traced = _traced(model)
    return tuple(
        str(user.target)
        for node in (traced.outputs.get(layer, []) if traced is not None else ())
        for user in node.users
        if isinstance(traced and traced.module(user), NORMS)
    )


def mixes(module: nn.Module | None) -> bool:
    """Whether a layer mixes several channels of its input."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        return module.groups == 1
    return isinstance(module, nn.Linear | LiftedStem)


def ancestors(node: object) -> set[fx.Node]:
    """Return a node and all that it depends on; empty for anything but a node."""
    found: set[fx.Node] = set()
    waiting = [node]
    while waiting:
        one = waiting.pop()
        if isinstance(one, fx.Node) and one not in found:
            found.add(one)
            waiting.extend(one.all_input_nodes)
    return found


def trace(model: nn.Module) -> Traced:
    """Trace a model as it runs in eval mode, without changing it.

    Of one of torchvision's detectors, its backbone and head are traced.

    Raises:
        BindingError: The model branches on the values of tensors.
    """
    tracer, training = _Tracer(), model.training
    try:
        graph = tracer.trace(network_of(model.eval()))
    except (fx.proxy.TraceError, TypeError, ValueError, RuntimeError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise BindingError(
            f"torch.fx cannot trace the model: {reason}",
            hint="the forward of the model must not branch on the values of tensors",
        ) from None
    finally:
        model.train(training)
    return Traced(model, graph, tracer.outputs)


def _traced(model: nn.Module) -> Traced | None:
    try:
        return trace(model)
    except BindingError:
        return None


def _keeps_channels(user: fx.Node, node: fx.Node) -> bool:
    """Whether a node's output has the channels of the first of its inputs."""
    if user.op == "call_function":
        name = getattr(user.target, "__name__", "")
        return user.args[:1] == (node,) and name not in _OTHER_CHANNELS
    if user.op == "call_method":
        return user.args[:1] == (node,) and user.target not in SIZES | {"view"}
    return user.op == "call_module"


class _Tracer(fx.Tracer):
    """A tracer that remembers the output of every module, containers included."""

    def __init__(self) -> None:
        super().__init__()
        self.outputs: dict[str, list[fx.Node]] = {}

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, LEAVES) or super().is_leaf_module(m, module_qualified_name)

    def call_module(
        self,
        m: nn.Module,
        forward: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        name = self.path_of_module(m)
        result = super().call_module(m, forward, args, kwargs)
        if isinstance(result, fx.Proxy):
            self.outputs.setdefault(name, []).append(result.node)
        return result


def _reads_size(node: fx.Node) -> bool:
    if node.op == "call_method":
        return node.target in SIZES
    return (
        node.op == "call_function"
        and node.target is getattr
        and (node.args[1] in SIZES)
    )
