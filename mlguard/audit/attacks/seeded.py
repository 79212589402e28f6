"""Give an attack its own random numbers, in code that draws from torch's generator.

Layers are initialized, and dropout is drawn, from the one generator of the process. An
attack that seeded it would change the draws of other threads, and they its results.
"""

from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode


class Seeded(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Draw from separate generators, in this thread only: `with Seeded(seed): …`.

    On a CPU, the numbers are those after `torch.manual_seed`.
    """

    def __init__(self, seed: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._seed = seed
        self._generators: dict[torch.device, torch.Generator] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        given = dict(kwargs or {})
        if func is torch.ops.aten.native_dropout.default:  # does not take a generator
            return self._dropout(*args)
        drawing = _with_generator(func)
        if drawing is None:
            return func(*args, **given)
        given["generator"] = self._generator(args, given)
        return drawing(*args, **given)

    def _generator(self, args: Any, given: dict[str, Any]) -> torch.Generator:
        tensor = next((one for one in args if isinstance(one, Tensor)), None)
        device = tensor.device if tensor is not None else given.get("device")
        return self._of(torch.device(device or "cpu"))

    def _of(self, device: torch.device) -> torch.Generator:
        if device not in self._generators:
            made = torch.Generator(device).manual_seed(self._seed)
            self._generators[device] = made
        return self._generators[device]

    def _dropout(
        self, values: Tensor, share: float, training: bool | None
    ) -> tuple[Tensor, Tensor]:
        if training is False or share == 0:
            return values.clone(), torch.ones_like(values, dtype=torch.bool)
        kept = torch.empty_like(values)
        kept.bernoulli_(1 - share, generator=self._of(values.device))
        scale = 0.0 if share == 1 else 1 / (1 - share)
        return values * kept * scale, kept.bool()


@cache
def _with_generator(func: Any) -> Any:
    """Return the form of an operation that takes a generator, if it draws."""
    if any(one.name == "generator" for one in func._schema.arguments):
        return func
    name = func._overloadname
    name = "generator" if name == "default" else f"{name}_generator"
    return getattr(func.overloadpacket, name, None)
