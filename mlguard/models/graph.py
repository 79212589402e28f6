"""The graph of a model as torch.fx sees it: who reads the output of a layer.

Knows no key.
"""

from collections.abc import Sequence

from torch import fx, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mlguard.models.pieces import LiftedStem

# Functions that make one feature map of several.
_PAIRS = {"add", "iadd", "mul", "cat", "sub"}


def traced(model: nn.Module, layers: Sequence[str]) -> fx.Graph | None:
    """The graph of a model in eval mode, with layers as single nodes; None if none."""
    training = model.training
    try:
        return _Tracer(layers).trace(model.eval())
    except (fx.proxy.TraceError, TypeError, ValueError, RuntimeError):
        return None  # what it does depends on the values it is given
    finally:
        model.train(training)


def readers(model: nn.Module, layer: str) -> tuple[str, ...]:
    """The layers that mix the channels of a layer's output.

    Layers between that treat every channel alike, or by itself, are seen through.
    Readers behind a sum with another feature map are not listed.

    Returns:
        Names of convolutions and linear layers, in their order; empty if there are
        none, or torch.fx cannot see through the model.
    """
    graph = traced(model, [layer] if layer else [])
    if graph is None:
        return ()
    start = next(
        node
        for node in graph.nodes
        if (node.op == "placeholder" if not layer else node.target == layer)
    )
    modules = dict(model.named_modules())
    found: dict[str, None] = {}
    waiting = [start]
    for node in waiting:
        for user in node.users:
            module = modules.get(str(user.target)) if user.op == "call_module" else None
            if mixes(module):
                found[str(user.target)] = None
            elif _goes_on(user, node) and user not in waiting:
                waiting.append(user)
    return tuple(found)


def last_layers(model: nn.Module) -> tuple[str, ...]:
    """The layers after which channels are not mixed again: the classifier.

    Returns:
        Their names; empty if torch.fx cannot see through the model.
    """
    graph = traced(model, [])
    if graph is None:
        return ()
    modules = dict(model.named_modules())
    found: dict[str, None] = {}
    waiting = [graph.output_node()]
    for node in waiting:
        for before in node.all_input_nodes:
            run = before.op == "call_module"
            if run and mixes(modules.get(str(before.target))):
                found[str(before.target)] = None
            elif before not in waiting:
                waiting.append(before)
    return tuple(found)


def norms_after(model: nn.Module, layer: str) -> tuple[str, ...]:
    """The layers right after a layer that normalize what it gives."""
    graph = traced(model, [layer])
    modules = dict(model.named_modules())
    return tuple(
        str(user.target)
        for node in (graph.nodes if graph is not None else ())
        if node.op == "call_module" and node.target == layer
        for user in node.users
        if user.op == "call_module"
        and isinstance(modules[str(user.target)], _BatchNorm | nn.GroupNorm)
    )


def mixes(module: nn.Module | None) -> bool:
    """Whether a layer makes new channels out of several of its input."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        return module.groups == 1
    return isinstance(module, nn.Linear | LiftedStem)


def _goes_on(user: fx.Node, node: fx.Node) -> bool:
    """Whether a node's output has the channels of one of its inputs."""
    if user.op == "call_function":
        name = getattr(user.target, "__name__", "")
        return user.args[:1] == (node,) and name not in _PAIRS | {"getattr", "getitem"}
    if user.op == "call_method":
        return user.args[:1] == (node,) and user.target not in {"size", "dim", "view"}
    return user.op == "call_module"


class _Tracer(fx.Tracer):
    """A tracer that stops at some layers, whatever is inside them."""

    def __init__(self, layers: Sequence[str]) -> None:
        super().__init__()
        self._stops = set(layers)

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Whether a module is one node."""
        stops = isinstance(m, LiftedStem) or module_qualified_name in self._stops
        return stops or super().is_leaf_module(m, module_qualified_name)
