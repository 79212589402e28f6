"""The graph of a model as torch.fx sees it: which layer reads what of which layer.

Needed wherever a layer's parameters are rewritten, for that is right only if it is
known who else reads the layer. Knows no key.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from torch import fx, nn

from mlguard.errors import BindingError
from mlguard.models.pieces import ChannelScale, LiftedStem
from mlguard.models.sizes import WholePatches

LEAVES = (ChannelScale, LiftedStem, WholePatches)
SIZES = {"shape", "size", "dim", "ndim"}  # reads of a tensor's size, not of its values


@dataclass(frozen=True)
class Traced:
    """A model and its graph.

    Attributes:
        model: The model.
        graph: What it computes, in eval mode.
        outputs: For every module by name the nodes it gave, one for every time it ran.
    """

    model: nn.Module
    graph: fx.Graph
    outputs: dict[str, list[fx.Node]]

    def module(self, node: fx.Node) -> nn.Module | None:
        """The module that a node runs; None if it runs none."""
        if node.op != "call_module":
            return None
        return self.model.get_submodule(str(node.target))

    def runs_once(self, node: fx.Node) -> bool:
        """Whether the module that a node runs is run nowhere else."""
        return len(self.outputs[str(node.target)]) == 1

    def readers(self, node: fx.Node) -> list[fx.Node]:
        """The nodes that read a node's values, and not only its size."""
        return [user for user in node.users if not _reads_size(user)]

    def images(self) -> fx.Node:
        """The node of the images that the model is given."""
        return next(node for node in self.nodes() if node.op == "placeholder")

    def logits(self) -> set[fx.Node]:
        """The nodes that the logits depend on: an auxiliary head is none of them."""
        output = self.graph.output_node().args[0]
        logits = output["out"] if isinstance(output, dict) else output
        return ancestors(logits)

    def nodes(self) -> Iterator[fx.Node]:
        """All nodes, in the order they run."""
        return iter(self.graph.nodes)


def ancestors(node: object) -> set[fx.Node]:
    """A node and all that it depends on; nothing for what is no node."""
    found: set[fx.Node] = set()
    waiting = [node]
    while waiting:
        one = waiting.pop()
        if isinstance(one, fx.Node) and one not in found:
            found.add(one)
            waiting.extend(one.all_input_nodes)
    return found


def trace(model: nn.Module) -> Traced:
    """Trace a model, as it runs in eval mode. The model is not changed.

    Raises:
        BindingError: What the model does depends on the values it is given.
    """
    tracer, training = _Tracer(), model.training
    try:
        graph = tracer.trace(model.eval())
    except (fx.proxy.TraceError, TypeError, ValueError, RuntimeError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise BindingError(
            f"torch.fx cannot trace the model: {reason}",
            hint="the forward of the model must not branch on the values of tensors",
        ) from None
    finally:
        model.train(training)
    return Traced(model, graph, tracer.outputs)


class _Tracer(fx.Tracer):
    """A tracer that remembers what every module gave, containers too."""

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
