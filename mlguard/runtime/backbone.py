"""Run the public half of a split model, in this process or on a host.

Both return the same maps, in half precision. A host sees the images that are sent to
it, and nothing of the private half or of the answers; it is trusted only to compute
correctly. docs/spec/bundle-v2.md, section 2.3.
"""

import hashlib
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mlguard.bundle import BackboneFacts, Tensor2
from mlguard.bundle.backbone import FILE, IMAGES, misfit_of_probe, probe_image
from mlguard.bundle.graph_limits import check_graph
from mlguard.errors import (
    BundleError,
    MalformedBundle,
    RemoteError,
    ShapeError,
    WrongBackbone,
)
from mlguard.files import read_bounded
from mlguard.runtime.options import Compute
from mlguard.runtime.providers import Outside, load, run_feeds
from mlguard.runtime.remote import Endpoint, Remote

MAX_BYTES = 1 << 31  # of a backbone's file: what an ONNX file holds
BATCH = 16  # images in one request
MARK = "/v2/models/"  # in an address, before the model's name

Maps = dict[str, NDArray[np.float16]]


class Backbone(Protocol):
    """A backbone that returns the maps of images, by name."""

    def maps(self, images: NDArray[np.uint8]) -> Maps:
        """Compute the maps.

        Shape:
            images   (N, 3, H, W) uint8, RGB
            returns  (N, C, ceil(H / stride), ceil(W / stride)) float16, each finite
        """

    def close(self) -> None:
        """Release its resources."""


class LocalBackbone:
    """The public half in this process, from exactly the exported file.

    Args:
        content: The content of `backbone.onnx`, as `read_backbone` returns it.
        facts: The backbone that the private half was trained with.
        compute: How to compute.
        name: Its name in a refusal.

    Raises:
        WrongBackbone: It is not a graph that onnxruntime loads.
        ProviderError: The provider is not available.
    """

    def __init__(
        self, content: bytes, facts: BackboneFacts, compute: Compute, *, name: str
    ) -> None:
        try:
            check_graph(content, name=name, foreign=True)
            self._session = load(content, compute, Outside(), name=name)
        except MalformedBundle as refusal:
            raise WrongBackbone(str(refusal)) from None
        self._facts, self._name = facts, name

    @classmethod
    def open(
        cls, path: Path, facts: BackboneFacts, compute: Compute
    ) -> "LocalBackbone":
        """Read the file, and load its graph.

        Raises:
            BundleError: It cannot be read.
            WrongBackbone: It is another file.
        """
        return cls(read_backbone(path, facts), facts, compute, name=str(path))

    def maps(self, images: NDArray[np.uint8]) -> Maps:
        """Compute the maps."""
        names = [one.name for one in self._facts.maps]
        found = run_feeds(self._session, names, {IMAGES: images})
        maps = dict(zip(names, found, strict=True))
        check_maps(maps, self._facts, images, name=self._name)
        return maps

    def close(self) -> None:
        """Do nothing: its memory is freed with it."""


class RemoteBackbone:
    """The public half on a host, over the Open Inference Protocol.

    Before the first image, it is asked for its description and for the maps of a public
    test image.

    Args:
        endpoint: Where it is.
        facts: The backbone that the private half was trained with.
        batch: The number of images in one request.

    Raises:
        RemoteError: It does not answer, its inputs or outputs differ, or it is another
            backbone.
    """

    def __init__(
        self, endpoint: Endpoint, facts: BackboneFacts, *, batch: int = BATCH
    ) -> None:
        self._facts, self._batch, self._name = facts, batch, endpoint.shown
        self._remote = Remote(endpoint, [images_tensor()], maps_tensors(facts))
        try:
            self._check()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the connections to the host."""
        self._remote.close()

    def maps(self, images: NDArray[np.uint8]) -> Maps:
        """Ask for the maps, a batch at a time."""
        parts = [
            self._ask(images[at : at + self._batch]) for at in self._starts(images)
        ]
        return {
            one.name: np.concatenate([part[one.name] for part in parts])
            for one in self._facts.maps
        }

    def _check(self) -> None:
        self._remote.check()
        if problem := misfit_of_probe(self._facts, self.maps(probe_image())):
            raise RemoteError(
                f"{self._name} runs another backbone: {problem}",
                hint=f"the host must run the {FILE} that was exported with the bundle",
            )

    def _starts(self, images: NDArray[np.uint8]) -> range:
        return range(0, len(images), self._batch)

    def _ask(self, images: NDArray[np.uint8]) -> Maps:
        found = self._remote.infer({IMAGES: np.ascontiguousarray(images)})
        try:
            check_maps(found, self._facts, images, name=self._name)
        except ShapeError as problem:
            raise RemoteError(str(problem)) from None
        return found


def read_backbone(path: Path, facts: BackboneFacts) -> bytes:
    """Read exactly the file that was exported with a private half.

    Raises:
        BundleError: It cannot be read.
        WrongBackbone: It is another file.
    """
    try:
        content = read_bounded(path, MAX_BYTES)
    except OSError as error:
        raise BundleError(
            f"cannot read the backbone {path}: {error.strerror or error}",
            hint=f"give the {FILE} that was exported with the bundle, with --backbone",
        ) from None
    found = hashlib.sha256(content).hexdigest()
    if found != facts.sha256:
        raise WrongBackbone(
            f"{path} is not the backbone of this bundle: expected "
            f"{facts.architecture} with {facts.weights}, SHA-256 {facts.sha256}, got a "
            f"file with SHA-256 {found}",
            hint=f"take the {FILE} that was exported with the bundle",
        )
    return content


def images_tensor() -> Tensor2:
    """Return the backbone's input."""
    return Tensor2(name=IMAGES, datatype="UINT8", shape=(-1, 3, -1, -1))


def maps_tensors(facts: BackboneFacts) -> tuple[Tensor2, ...]:
    """Return the backbone's outputs."""
    return tuple(
        Tensor2(name=one.name, datatype="FP16", shape=(-1, one.channels, -1, -1))
        for one in facts.maps
    )


def no_backbone(facts: BackboneFacts, *, name: str) -> BundleError:
    """Return the refusal of a private half without its backbone."""
    return BundleError(
        f"{name} is the private half of a model: it needs the public half, "
        f"{facts.architecture} with {facts.weights}, and none was given",
        hint=f"give its {FILE}, or the address of a host that runs it, with "
        "--backbone or `Session.open(…, backbone=…)`",
    )


def backbone_at(
    place: Path | str, facts: BackboneFacts, compute: Compute
) -> LocalBackbone | RemoteBackbone:
    """Return the backbone at a place: a file, or the address of a model on a host.

    Args:
        place: A path, or https://HOST:PORT/v2/models/NAME.
        facts: The backbone that the private half was trained with.
        compute: How to compute in this process.

    Raises:
        BundleError: The file cannot be read, or is another one.
        RemoteError: The host does not answer, or runs another backbone.
        OptionError: The address cannot be used.
    """
    if isinstance(place, str) and is_address(place):
        return RemoteBackbone(endpoint_of(place), facts)
    return LocalBackbone.open(Path(place), facts, compute)


def is_address(place: str) -> bool:
    """Whether a place is an address, and not a file."""
    return place.startswith(("http://", "https://"))


def endpoint_of(address: str, **options: Any) -> Endpoint:
    """An address as an endpoint.

    Raises:
        OptionError: It cannot be used; `Endpoint` says why.

    Example:
        >>> endpoint_of("https://host:8000/v2/models/backbone").model
        'backbone'
    """
    url, _, rest = address.partition(MARK)
    model, _, version = rest.partition("/versions/")
    return Endpoint(url, model, version, **options)


def check_maps(
    maps: Maps, facts: BackboneFacts, images: NDArray[np.uint8], *, name: str
) -> None:
    """Refuse maps that are not those of the images.

    Raises:
        ShapeError: One has another type or shape, or numbers that are not finite.
    """
    count, _, *sides = images.shape
    for one in facts.maps:
        found = maps[one.name]
        expected = (count, one.channels, *(-(-side // one.stride) for side in sides))
        if found.dtype != np.float16 or found.shape != expected:
            raise ShapeError(
                f"{name} gives {one.name!r} as {found.dtype} of {list(found.shape)}, "
                f"expected float16 of {list(expected)}"
            )
        if not np.isfinite(found).all():
            raise ShapeError(
                f"{name} gives {one.name!r} with numbers that are not finite"
            )


__all__ = [
    "BATCH",
    "Backbone",
    "LocalBackbone",
    "RemoteBackbone",
    "backbone_at",
    "check_maps",
    "endpoint_of",
    "images_tensor",
    "is_address",
    "maps_tensors",
    "no_backbone",
    "read_backbone",
]
