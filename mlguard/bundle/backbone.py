"""The public half of a split model, as described in the private half's bundle.

Everything here is public: a host that runs the backbone, and a reader of the bundle's
manifest, learn only which public weights these are. docs/spec/bundle-v2.md, 2.3.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from mlguard.bundle.manifest import Number, Part, Text
from mlguard.bundle.proofs import selftest_image
from mlguard.canonical import Hex64

MAX_MAPS = 8
MAX_CHANNELS = 1 << 16
MAX_STRIDE = 1024  # pixels
PROBE_BLOCK = 32  # the probe is the test image of this block size: 64 × 96 pixels
PROBED = 8  # numbers a map is compared by: means over so many groups of its channels
# Of a map's largest number. Half precision and other hardware give 1e-3, other weights
# give 1.
PROBE_TOLERANCE = 0.02
FILE = "backbone.onnx"  # its usual name, beside the bundle
IMAGES = "images"  # the input of the backbone's graph

Name = Annotated[Text, Field(min_length=1, max_length=1024)]


class BackboneMap(Part):
    """A feature map that the host sends: an input of the private half.

    Attributes:
        name: The name of the backbone's output and of the private half's input.
        stride: Pixels from one row or column to the next.
        probe: The backbone's answer to the probe.
    """

    name: Name
    channels: Annotated[int, Field(ge=1, le=MAX_CHANNELS)]
    stride: Annotated[int, Field(ge=1, le=MAX_STRIDE)]
    probe: Annotated[tuple[Number, ...], Field(min_length=PROBED, max_length=PROBED)]


class BackboneFacts(Part):
    """Which backbone the private half was trained beside.

    Attributes:
        architecture: Its name.
        weights: The name of its public weights.
        tensors: SHA-256 of these weights as the specification spells them.
        sha256: SHA-256 of the file `backbone.onnx` that was written with the bundle.
        maps: Its maps, from fine to coarse.
    """

    architecture: Name
    weights: Name
    tensors: Hex64
    sha256: Hex64
    maps: Annotated[tuple[BackboneMap, ...], Field(min_length=1, max_length=MAX_MAPS)]

    @model_validator(mode="after")
    def _named_once(self) -> Self:
        names = [one.name for one in self.maps]
        if len(set(names)) != len(names) or IMAGES in names:
            raise ValueError("a map is named twice")
        return self


def probe_image() -> NDArray[np.uint8]:
    """Return the image for comparing backbones. Shape: (1, 3, 64, 96) uint8."""
    return selftest_image(PROBE_BLOCK)


def probe_of(features: NDArray[Any]) -> tuple[float, ...]:
    """Return the numbers by which a map of the probe is compared.

    Shape:
        features  (1, C, h, w)
    """
    channels = features.astype(np.float64).mean(axis=(0, 2, 3))
    if len(channels) < PROBED:
        channels = np.resize(channels, PROBED)
    groups = np.array_split(channels, PROBED)
    return tuple(float(f"{group.mean():.5g}") for group in groups)


def misfit_of_probe(
    facts: BackboneFacts, found: Mapping[str, NDArray[Any]]
) -> str | None:
    """Return how a backbone's answer to the probe differs, if it does.

    Args:
        facts: The backbone that the private half was trained with.
        found: Maps of the probe, by name.
    """
    for one in facts.maps:
        expected = np.array(one.probe)
        apart = np.abs(np.array(probe_of(found[one.name])) - expected).max()
        largest = np.abs(expected).max()
        if not apart <= PROBE_TOLERANCE * largest:  # not `>`: NaN is a misfit
            return (
                f"its map {one.name!r} of the test image is {apart:.2g} away from that "
                f"of {facts.architecture} with {facts.weights}, where the largest is "
                f"{largest:.2g}"
            )
    return None
