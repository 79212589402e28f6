"""Draw the initial weights from a secret that nobody can guess.

torch's own generator on a CPU keeps 32 bits of any seed, so an adversary can try all of
its outputs, and a filter that training left unchanged would show its state. Here every
random tensor of a model being built comes from its own ChaCha20 keystream:
docs/spec/keys-v1.md, section 8.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from mlguard.keys import TrainingSecret
from mlguard.transforms.choice import keystream

Draw = Callable[..., NDArray[np.float64]]


class SecretWeights(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Within it, torch's random draws come from a training secret.

    Uniform and normal numbers, which initialize models, come from the keystream itself.
    Rarer draws (permutations, integers) seed torch's generator from it, and are no
    stronger than that generator. A generator passed explicitly is not replaced.
    """

    def __init__(self, secret: TrainingSecret) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._secret, self._drawn = secret, 0

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Draw random tensors from the secret; pass everything else on."""
        kwargs = dict(kwargs or {})
        if torch.Tag.nondeterministic_seeded not in func.tags or kwargs.get(
            "generator"
        ):
            return func(*args, **kwargs)
        subkey = self._secret.derive(f"weights/{self._drawn}")
        self._drawn += 1
        aten = torch.ops.aten
        if func in (aten.uniform_.default, aten.normal_.default):
            draw = uniform if func is aten.uniform_.default else normal
            return _fill(args[0], draw(subkey, args[0].numel(), *args[1:], **kwargs))
        if func in (aten.rand.default, aten.randn.default):
            draw = uniform if func is aten.rand.default else normal
            blank = torch.empty(*args, **kwargs)
            return _fill(blank, draw(subkey, blank.numel()))
        torch.manual_seed(int.from_bytes(subkey[:8], "little"))
        return func(*args, **kwargs)


def uniform(
    subkey: bytes, count: int, low: float = 0.0, high: float = 1.0
) -> NDArray[np.float64]:
    """Return numbers from `low` to `high`, 24 bits of a word each. Shape: (count,)."""
    shares = (keystream(subkey, count) >> 8).astype(np.float64) * 2.0**-24
    return low + (high - low) * shares


def normal(
    subkey: bytes, count: int, mean: float = 0.0, std: float = 1.0
) -> NDArray[np.float64]:
    """Return normal numbers, two from every two words. Shape: (count,).

    Source: Box and Muller 1958, doi:10.1214/aoms/1177706645.
    """
    pairs = keystream(subkey, count + count % 2).reshape(-1, 2)
    radius = np.sqrt(-2 * np.log((pairs[:, 0] + 1.0) * 2.0**-32))
    angle = 2 * math.pi * 2.0**-32 * pairs[:, 1]
    both = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    drawn: NDArray[np.float64] = mean + std * both.ravel()[:count]
    return drawn


def _fill(tensor: Tensor, values: NDArray[np.float64]) -> Tensor:
    return tensor.copy_(torch.from_numpy(values).reshape(tensor.shape))
