"""Step 6, the proof: a bundle computes what its model computes.

The whole bundle runs as its user will run it: key slots, preprocess graph, padding,
model. Only onnxruntime's layouts for one kind of processor are left out, which would
have every weight twice.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from mlguard.bundle import Bundle, Bundle2, Glimpse, PrecisionFacts
from mlguard.engine import onnxruntime
from mlguard.errors import ParityError, RunError
from mlguard.keys import ModelKey
from mlguard.models import Normalization, keyed, logits_of, output_of
from mlguard.protect.export.graph import cause_of
from mlguard.runtime import Session
from mlguard.runtime.backbone import Backbone
from mlguard.runtime.fit import PER_PIXEL, crop
from mlguard.runtime.options import Compute
from mlguard.transforms import TransformSet, pad_to_blocks

SHAPES = ((1, 3, 64, 96), (2, 3, 128, 80), (1, 3, 65, 97))
# Errors of a model that does not take a size.
REFUSALS = (RuntimeError, ValueError, AssertionError, TypeError, IndexError)
MIN_AGREEMENT = 0.999  # share of pixels with the same class
# Share of the largest logit. Another summation order gives 1e-5, another weight 1e-1.
MAX_DIFFERENCE = 1e-3

# Logits of a model, with the shape of the images that they answer to.
Expected = Sequence[tuple[tuple[int, ...], NDArray[np.float32]]]


@dataclass(frozen=True, kw_only=True)
class ParityReport:
    """How closely the bundle computes what the model computes.

    Attributes:
        shapes: The images compared.
        unit: The unit that gets a class: pixels, or images.
        agreement: The smallest share of units with the same class, in [0, 1].
        difference: The largest difference of two logits.
        largest_logit: The largest logit, as the scale of `difference`.
        export_s: The time of the export in seconds, with the comparison.
        size_bytes: The size of the bundle.
        backbone: Where the public half of a split model was written.
        rounded: What fewer bits cost it after that; None if it has all.
    """

    shapes: tuple[tuple[int, ...], ...]
    unit: str
    agreement: float
    difference: float
    largest_logit: float
    export_s: float = 0.0
    size_bytes: int = 0
    backbone: Path | None = None
    rounded: PrecisionFacts | None = None


def check_parity(
    bundle: Bundle | Bundle2 | Glimpse,
    key: ModelKey,
    model: nn.Module,
    transforms: TransformSet,
    normalization: Normalization,
    *,
    shapes: Sequence[tuple[int, ...]] = SHAPES,
    backbone: Backbone | None = None,
) -> ParityReport:
    """Compare the whole bundle, run as its user will run it, with torch.

    Raises:
        ParityError: Too many pixels or images get another class, or logits differ
            too much.
    """
    expected = expected_logits(model, transforms, normalization, shapes=shapes)
    return compare_logits(bundle, key, expected, backbone=backbone)


def expected_logits(
    model: nn.Module,
    transforms: TransformSet,
    normalization: Normalization,
    *,
    shapes: Sequence[tuple[int, ...]] = SHAPES,
) -> Expected:
    """Return what a model answers to example images of these shapes, (N, C, H, W)."""
    return [
        (
            shape,
            _torch_logits(
                model, transforms, normalization, example_images(shape, seed)
            ),
        )
        for seed, shape in enumerate(shapes)
    ]


def compare_logits(
    bundle: Bundle | Bundle2 | Glimpse,
    key: ModelKey,
    answers: Expected,
    *,
    backbone: Backbone | None = None,
) -> ParityReport:
    """Compare the whole bundle with what its model answered.

    Raises:
        ParityError: As in `check_parity`.
    """
    levels = onnxruntime.GraphOptimizationLevel
    lean = {"graph_optimization_level": levels.ORT_ENABLE_EXTENDED}
    compute = Compute("cpu", options=lean)
    session = Session(bundle, key, compute=compute, backbone=backbone)
    agreements, differences, largest = [], [], []
    for seed, (shape, expected) in enumerate(answers):
        got = session.logits(example_images(shape, seed))
        if got.shape != expected.shape:
            raise ParityError(f"expected logits {expected.shape}, got {got.shape}")
        agreements.append(float((got.argmax(1) == expected.argmax(1)).mean()))
        differences.append(float(np.abs(got - expected).max()))
        largest.append(float(np.abs(expected).max()))
    report = ParityReport(
        shapes=tuple(shape for shape, _ in answers),
        unit="pixels" if expected.ndim == PER_PIXEL else "images",
        agreement=float(np.min(agreements)),
        difference=float(np.max(differences)),  # NaN if any is; max() may lose it
        largest_logit=float(np.max(largest)),
    )
    limit = MAX_DIFFERENCE * report.largest_logit
    # Not `difference > limit`: NaN must be refused too.
    if not (report.agreement >= MIN_AGREEMENT and report.difference <= limit):
        raise ParityError(
            f"the exported graph differs from the model: {report.agreement:.3%} of "
            f"{report.unit} have the same class, expected {MIN_AGREEMENT:.1%}; logits "
            f"differ by {report.difference:.1e}, limit is {limit:.1e}"
        )
    return report


def refuse_fixed_sizes(model: nn.Module, block_size: int) -> None:
    """Refuse a model that does not take images of any size, as a run's bundle must.

    Raises:
        RunError: It refuses a size; its own message is quoted.
    """
    for shape in SHAPES:
        images = pad_to_blocks(example_images(shape, 0), block_size)
        height, width = images.shape[2:]
        try:
            with torch.inference_mode():
                model(torch.from_numpy(images).float() / 255)
        except REFUSALS as refusal:
            raise RunError(
                f"the model does not take images of {height} x {width} pixels, but "
                f"the bundle of a run takes any size: {cause_of(refusal)}",
                hint="`mlguard.protect.bind` makes a bundle of the module itself, and "
                "determines which sizes it takes: docs/models/torch.md",
            ) from None


def _torch_logits(
    model: nn.Module,
    transforms: TransformSet,
    normalization: Normalization,
    images: NDArray[np.uint8],
) -> NDArray[np.float32]:
    height, width = images.shape[2:]
    padded = pad_to_blocks(images, transforms.block_size)
    given = torch.from_numpy(padded)
    with torch.inference_mode():
        logits = logits_of(output_of(model, given, keyed(transforms), normalization))
    return crop(logits.numpy(), height, width)


def example_images(shape: tuple[int, ...], seed: int) -> NDArray[np.uint8]:
    """Return colour gradients under noise; many models see one class in noise alone."""
    count, channels, height, width = shape
    noise = np.random.default_rng(seed).integers(0, 128, shape, dtype=np.uint8)
    rows, columns = np.mgrid[0:height, 0:width]
    slopes = np.arange(1, count * channels + 1).reshape(count, channels, 1, 1)
    gradients = (slopes * (rows + columns)) % 128
    images: NDArray[np.uint8] = noise + gradients.astype(np.uint8)
    return images
