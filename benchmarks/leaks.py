"""What is done to weights before they turn up somewhere; for `tracing.py`.

Each takes and gives weights by name, as numpy arrays.
"""

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mlguard.marks import markable

Weights = dict[str, NDArray[np.float32]]
# One inverted residual of MobileNetV2, and one bottleneck of ResNet: what is permuted
# together, rows of the first and columns of the last.
HIDDEN = (
    (r"features\.\d+\.conv", ("0.0", "0.1", "1.0", "1.1"), "2"),
    (r"backbone\.layer\d\.\d+", ("conv1", "bn1"), "conv2"),
    (r"backbone\.layer\d\.\d+", ("conv2", "bn2"), "conv3"),
)


def half(weights: Weights) -> Weights:
    """In 16 bits and back."""
    return {
        n: w.astype(np.float16).astype(np.float32) if w.dtype == np.float32 else w
        for n, w in weights.items()
    }


def rounded(weights: Weights, bits: int) -> Weights:
    """Symmetric integers with a scale for each output channel, and back."""
    return {n: _rounded(w, bits) if markable(w) else w for n, w in weights.items()}


def pruned(weights: Weights, share: float) -> Weights:
    """The smallest weights of each tensor set to zero."""
    return {
        n: w * (np.abs(w) > np.quantile(np.abs(w), share)) if markable(w) else w
        for n, w in weights.items()
    }


def noisy(weights: Weights, share: float, seed: int) -> Weights:
    """Gaussian noise added, in standard deviations of each tensor."""
    draw = np.random.default_rng(seed).standard_normal
    return {
        n: w + np.float32(share * w.std()) * draw(w.shape, dtype=np.float32)
        if markable(w)
        else w
        for n, w in weights.items()
    }


def mean(copies: Sequence[Weights]) -> Weights:
    """What several customers make of their copies: the mean."""
    return {n: np.mean([one[n] for one in copies], axis=0) for n in copies[0]}


def middle(copies: Sequence[Weights]) -> Weights:
    """The middle between the smallest and the largest, as colluders like it."""
    found = {}
    for name in copies[0]:
        stack = np.stack([one[name] for one in copies])
        found[name] = (stack.min(0) + stack.max(0)) / 2
    return found


def reordered(weights: Weights, seed: int) -> Weights:
    """Hidden channels permuted and every convolution before a norm rescaled.

    The model does what it did: a permutation goes through the whole block, and a norm
    with running statistics divides a scale out again.
    """
    draw, found = np.random.default_rng(seed), dict(weights)
    for block, first, last in HIDDEN:
        for name in sorted({m for n in found for m in re.findall(f"^{block}", n)}):
            reader = f"{name}.{last}.weight"
            if f"{name}.{first[-2]}.weight" not in found or reader not in found:
                continue
            order = draw.permutation(found[reader].shape[1])
            for key in [
                n for n in found for f in first if n.startswith(f"{name}.{f}.")
            ]:
                if found[key].ndim:
                    found[key] = found[key][order]
            found[reader] = found[reader][:, order]
    return _rescaled(found, draw)


def _rescaled(weights: Weights, draw: np.random.Generator) -> Weights:
    found = dict(weights)
    for mean_name in [n for n in weights if n.endswith(".running_mean")]:
        norm = mean_name.removesuffix(".running_mean")
        conv = _before(norm)
        if f"{conv}.weight" not in weights:
            continue
        scale = draw.uniform(0.5, 2, len(weights[mean_name])).astype(np.float32)
        found[f"{conv}.weight"] = weights[f"{conv}.weight"] * scale[:, None, None, None]
        found[mean_name] = weights[mean_name] * scale
        # The norm adds 1e-5 to the variance before it divides.
        variance = weights[f"{norm}.running_var"] + np.float32(1e-5)
        found[f"{norm}.running_var"] = variance * scale**2 - np.float32(1e-5)
    return found


def _before(norm: str) -> str:
    """The convolution that a norm follows, by how torchvision names the two."""
    stem, _, last = norm.rpartition(".")
    if last.startswith("bn"):
        return f"{stem}.conv{last[2:]}".lstrip(".")
    return f"{stem}.{int(last) - 1}"


def _rounded(values: NDArray[np.float32], bits: int) -> NDArray[np.float32]:
    most = np.abs(values).reshape(len(values), -1).max(1)
    scale = np.maximum(most, 1e-12).reshape(-1, *[1] * (values.ndim - 1))
    levels = np.float32(2 ** (bits - 1) - 1)
    whole = np.rint(values / scale * levels)
    return np.asarray(whole * scale / levels, dtype=np.float32)
