"""Turn any inputs and outputs of a module into the named tensors of a graph.

Libraries return dicts, tuples, dataclasses and lists of them. Each tensor in there gets
the name of its place, by which it is found in a bundle's outputs.
"""

import dataclasses
import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from mlguard.errors import BindingError

OUTPUT = "output"  # the name of a single tensor
IMAGE_LISTS = "torchvision.models.detection"  # they take a list of images


def flatten(output: object, name: str = "") -> dict[str, Tensor]:
    """Name every tensor of an output by its place.

    A field of a dict or dataclass has its key, item i of a list or tuple the number i,
    joined by points.

    Raises:
        BindingError: It holds something other than tensors.

    Example:
        >>> import torch
        >>> list(flatten({"out": torch.ones(1), "aux": [torch.ones(1), None]}))
        ['out', 'aux.0']
    """
    if output is None:
        return {}
    if isinstance(output, Tensor):
        return {name or OUTPUT: output}
    found: dict[str, Tensor] = {}
    for key, value in _parts(output, name):
        found |= flatten(value, f"{name}.{key}" if name else str(key))
    return found


def _parts(output: object, name: str) -> list[tuple[object, object]]:
    if isinstance(output, Mapping):  # transformers' dataclasses are such as well
        return list(output.items())
    if dataclasses.is_dataclass(output) and not isinstance(output, type):
        fields = dataclasses.fields(output)
        return [(field.name, getattr(output, field.name)) for field in fields]
    if isinstance(output, tuple) and hasattr(output, "_fields"):
        return list(zip(output._fields, output, strict=True))
    if isinstance(output, list | tuple):
        return list(enumerate(output))
    raise BindingError(
        f"{name or 'the output'} is a {type(output).__name__}, but a graph returns "
        "only "
        "tensors",
        hint="wrap the model in a module that returns only the tensors you need",
    )


class Flat(nn.Module):
    """A module with positional inputs whose outputs are a tuple of tensors.

    Args:
        module: Any module.
        names: The names of its inputs, parameters of its `forward`, in the order given.
    """

    def __init__(self, module: nn.Module, names: Sequence[str]) -> None:
        super().__init__()
        self.module = module
        self._names = tuple(names)
        self.as_list = type(module).__module__.startswith(IMAGE_LISTS)

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Run the module."""
        return tuple(flatten(self.run(*tensors)).values())

    def run(self, *tensors: Tensor) -> Any:
        """Return the module's own output; for a list of images, that of the first."""
        if self.as_list:
            return self.module([tensors[0][0]])[0]
        return self.module(**dict(zip(self._names, tensors, strict=True)))


def named_inputs(module: nn.Module, example: object) -> dict[str, Tensor]:
    """Return an example's tensors by the names of the parameters that take them.

    Args:
        module: The module.
        example: A tensor, a tuple of them in the order of `forward`, or a dict.

    Raises:
        BindingError: It is of another type, or `forward` takes fewer.
    """
    if isinstance(example, Mapping):
        tensors = dict(example)
    else:
        given = example if isinstance(example, list | tuple) else (example,)
        names = list(inspect.signature(module.forward).parameters)
        if len(names) < len(given):
            raise BindingError(
                f"the model takes {len(names)} tensors by name, got {len(given)}",
                hint="give the example as a dict of tensors by their names",
            )
        tensors = dict(zip(names, given, strict=False))
    if not tensors or not all(isinstance(one, Tensor) for one in tensors.values()):
        raise BindingError(
            "expected an example of the model's input: a tensor, a tuple of tensors "
            "or a dict of tensors"
        )
    return tensors
