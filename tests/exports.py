"""torch's exporter, which takes seconds, is asked once for models of the same form.

Tests export the same small models again and again. The exporter never looks at a
weight, so its answer for one model is that for another one of the same classes,
settings and shapes, with the weights put into their places. Remembered is that answer
alone: torch's simplification, which computes with weights, and all that mlguard does
with a graph, parity among it, are done anew.

It reaches into torch where torch promises nothing, so with any other version of torch
than the one it was written for, every export is made in full; that takes longer.
"""

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import pytest
import torch
from torch import nn
from torch.fx import GraphModule
from torch.utils import _pytree

WRITTEN_FOR = "2.15."
KNOWN = torch.__version__.startswith(WRITTEN_FOR)
if KNOWN:
    from torch.onnx._internal.exporter import _core
    from torch.onnx._internal.exporter._registration import ONNXRegistry

    EXPORT = _core.export
SMALL = 4 << 20  # numbers of a model that is remembered
USUAL = frozenset(vars(nn.Module()))  # of every module: parameters, buffers, hooks
UNREAD = " at 0x", "tensor(", "array("  # texts that do not tell all

Tensors = dict[str, torch.Tensor]
Asked = tuple[Any, tuple[type, ...]]


def tensors_of(model: nn.Module) -> Tensors:
    """Parameters and buffers, by name."""
    parameters = model.named_parameters(remove_duplicate=False)
    return dict(parameters) | dict(model.named_buffers(remove_duplicate=False))


def _settings(module: nn.Module) -> tuple[object, ...]:
    hooks = len(module._forward_hooks) + len(module._forward_pre_hooks)
    if isinstance(module, GraphModule):  # each has a class of its own
        return module.code, module.training, hooks
    own = {name: value for name, value in vars(module).items() if name not in USUAL}
    return id(type(module)), module.training, hooks, own


def _shape(tensor: torch.Tensor) -> tuple[object, ...]:
    return str(tensor.dtype), tuple(tensor.shape)


def form_of(model: nn.Module, given: Any, options: dict[str, Any]) -> str | None:
    """Everything but weights that a graph depends on; None if it cannot be told."""
    settings = [(name, _settings(one)) for name, one in model.named_modules()]
    tensors = tensors_of(model)
    places: dict[int, str] = {}  # which of them are one
    alone = [places.setdefault(id(one), name) for name, one in tensors.items()]
    shapes = [(name, _shape(one)) for name, one in tensors.items()]
    shown = alone, _pytree.tree_map(_shape, given)
    text = repr((settings, shapes, shown, sorted(options.items())))
    return None if any(words in text for words in UNREAD) else text


def put_into(graph: Any, tensors: Tensors) -> None:
    """Give a graph of the exporter's kind the weights of another model."""
    for name, value in graph.graph.initializers.items():
        if name in tensors:
            value.const_value = _core.TorchTensor(tensors[name], name=name)


def asking_once(export: Callable[..., Any], made: dict[str, Asked]) -> Any:
    """The heart of torch's exporter, which works once for models of the same form."""

    def exported(model: Any, args: Any, kwargs: Any, **options: Any) -> Any:
        form = None
        if isinstance(model, nn.Module) and not kwargs:
            tensors = tensors_of(model)
            if sum(one.numel() for one in tensors.values()) <= SMALL:
                form = form_of(model, args, options | {"registry": None})
        if form is None:
            return export(model, args, kwargs, **options)
        if form not in made:
            first = export(model, args, kwargs, **(options | {"optimize": False}))
            # Classes are kept, so that their numbers are not given to others.
            kinds = tuple(type(module) for module in model.modules())
            put_into(first.model, dict.fromkeys(tensors, torch.empty(0)))
            made[form] = first.model, kinds
        graph = made[form][0].clone()
        put_into(graph, tensors)
        program = torch.onnx.ONNXProgram(graph, None)
        if options["optimize"]:
            program.optimize()
        return program

    return exported


MADE: dict[str, Asked] = {}


@pytest.fixture(scope="session", autouse=True)
def exporter_is_asked_once() -> Iterator[None]:
    """For the folders whose conftest imports this."""
    if not KNOWN:
        yield
        return
    kept = cache(ONNXRegistry.from_torchlib)  # nothing of ours is put into it
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_core, "export", asking_once(EXPORT, MADE))
        patch.setattr(ONNXRegistry, "from_torchlib", staticmethod(kept))
        yield
