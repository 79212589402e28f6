"""Apply a key's transform of images apart from the model, for a host without the key.

The client transforms and normalizes here, and sends the result; the host runs the
model; the client chooses the classes. docs/deploy/key-at-client.md says what the host
learns.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self, cast

import numpy as np
from numpy.typing import NDArray

from mlguard.bundle import (
    Bundle2,
    FileSecrets,
    Glimpse,
    Tensor2,
    glimpse_bundle,
    image_of,
    selftest_digest,
    task_of,
)
from mlguard.bundle.about import key_in_model, predicts, prepared_input
from mlguard.bundle.bundle2 import selftest2
from mlguard.bundle.graph_limits import check_graph
from mlguard.errors import BundleError, RemoteError
from mlguard.grants import Unwraps
from mlguard.issuing import Conditions
from mlguard.keys import ModelKey, ModelSubkeys
from mlguard.runtime.fit import Back, fit_images
from mlguard.runtime.one_graph import misfit_of, smallest
from mlguard.runtime.opened import image_slots
from mlguard.runtime.providers import PIXELS, VALUES, load_graph, run_graph
from mlguard.runtime.remote import Endpoint, Remote
from mlguard.runtime.selftest import Digest, check_selftest
from mlguard.runtime.session import secrets_of
from mlguard.runtime.types import NUMPY_OF
from mlguard.transforms import TransformSet

Infer = Callable[[Mapping[str, NDArray[Any]]], Mapping[str, NDArray[Any]]]


class Preprocess:
    """The preprocessing of a bundle under its key, without its model.

    The bundle may be sealed: its model is not read.

    Attributes:
        image: How images are fitted to the model.
        task: What its answer means.
        inputs: The inputs of the host's model: normalized pixels.
        outputs: The outputs to ask for: scores.

    Example:
        client = Preprocess.open(Path("acme.mlgb"), key)
        with client.at(Endpoint("https://models.example", "acme")) as host:
            masks = client.predict(images, host.infer)
    """

    def __init__(
        self,
        bundle: Bundle2 | Glimpse,
        key: ModelKey | FileSecrets,
        *,
        provider: str = "cpu",
        threads: int = 0,
    ) -> None:
        """Check a bundle against its key, as `open` does."""
        manifest, name = bundle.manifest, bundle.name
        image, task = image_of(manifest), task_of(manifest)
        if reason := key_in_model(manifest):
            raise BundleError(
                f"{name}: {reason}",
                hint="`Session.open` runs it where the key is",
            )
        simple = predicts(manifest.inputs, image, task)
        if image is None or task is None or not simple or task.stride > 1:
            raise BundleError(
                f"{name} gives no class of each pixel or image, so there is nothing "
                "that a client could make of its answer"
            )
        self._name, self.image, self.task = name, image, task
        self.inputs = (prepared_input(image),)
        self.outputs = tuple(
            Tensor2(name=one.name, datatype=one.datatype, shape=one.shape)
            for one in manifest.outputs
            if one.name == task.output
        )
        graph, transforms, digest, expected = _opened(bundle, key)
        declared = check_graph(graph, name=name).slots
        slots = image_slots(transforms, declared, name=name)
        self._graph = load_graph(
            graph, provider=provider, name=name, slots=slots, threads=threads
        )
        check_selftest(self._graph, VALUES, image, digest, expected, name=name)

    @classmethod
    def open(
        cls,
        path: Path,
        key: ModelKey | FileSecrets | Unwraps,
        *,
        conditions: Conditions | None = None,
        provider: str = "cpu",
        threads: int = 0,
    ) -> Self:
        """Read a bundle's preprocessing, check it against the key, and load it.

        Args:
            path: The bundle.
            key: The key that it was made for; for an issued bundle, an identity.
            conditions: As in `Session.open`.
            provider: As in `Session.open`.
            threads: As in `Session.open`.

        Raises:
            WrongKey: The bundle was made for another key; both ids are named.
            MalformedBundle: The file does not follow the specification.
            TamperedBundle: The file was changed after the key's owner wrote it.
            BundleError: The key acts inside the model too, or not on images.
            ProviderError: The provider is not available, or computes wrongly.
        """
        bundle = glimpse_bundle(path)
        secrets = secrets_of(bundle, key, conditions)
        return cls(bundle, secrets, provider=provider, threads=threads)

    def at(self, endpoint: Endpoint) -> Remote:
        """Return the model on a host, to run on these pixels."""
        return Remote(endpoint, self.inputs, self.outputs)

    def pixels(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return images as the host's model takes them. Keep them as secret as the key.

        Shape:
            images   (N, 3, H, W) uint8, RGB, any H and W
            returns  (N, 3, H', W') float32, padded to whole blocks

        Raises:
            ShapeError: The images are not uint8 (N, 3, H, W).
            ProviderError: onnxruntime failed, usually for lack of memory.
        """
        return self._pixels(images)[0]

    def predict(
        self, images: NDArray[np.uint8], infer: Infer
    ) -> NDArray[np.integer[Any]]:
        """Return a class for every pixel, or for every image if the model classifies.

        Args:
            images: 8-bit.
            infer: A function that runs the model: `Remote.infer`, or any from tensors
                by name to tensors by name.

        Shape:
            images   (N, 3, H, W) uint8, RGB, any H and W
            returns  as `Session.predict`

        Raises:
            ShapeError: The images are not uint8 (N, 3, H, W).
            RemoteError: The host's scores do not match the classes and pixels.
            ProviderError: onnxruntime failed, usually for lack of memory.
        """
        pixels, back = self._pixels(images)
        scores = np.asarray(infer({self.image.input: pixels})[self.task.output])
        problem = misfit_of(scores.shape, self.image, self.task)
        sides = pixels.shape[2:] if self.task.name == "segmentation" else ()
        if problem or (len(scores), *scores.shape[2:]) != (len(pixels), *sides):
            raise RemoteError(
                f"{self._name}: the host gives scores of {list(scores.shape)} for "
                f"pixels of {list(pixels.shape)}",
                hint="is it the model that belongs to this file?",
            )
        found = scores.argmax(axis=1).astype(NUMPY_OF[smallest(self.task)], copy=False)
        return found if self.task.name == "classification" else np.asarray(back(found))

    def _pixels(self, images: NDArray[np.uint8]) -> tuple[NDArray[np.float32], Back]:
        fitted, back = fit_images(images, self.image)
        return run_graph(self._graph, PIXELS, fitted), back


def _opened(
    bundle: Bundle2 | Glimpse, key: ModelKey | FileSecrets
) -> tuple[bytes, TransformSet, Digest, str]:
    """Return the keyed transform, the tensors of its key slots, and its self-test.

    Raises:
        WrongKey: The bundle was made for another key; both ids are named.
        TamperedBundle: The file was changed after the key's owner wrote it.
        MalformedBundle: The file does not follow the specification.
    """
    if isinstance(bundle, Glimpse):
        whole, subkeys = bundle.unlock(cast(ModelKey, key))
        return (
            whole.preprocess,
            whole.manifest.keyed.derive(subkeys),
            lambda values: selftest_digest(subkeys, values),
            whole.manifest.selftest,
        )
    unlocked = bundle.unlock(key)
    about, file_key = bundle.manifest, unlocked.file_key
    return (
        unlocked.preprocess(),
        about.keyed.derive(cast(ModelSubkeys, unlocked.subkeys)),
        lambda values: selftest2(file_key, values),
        about.selftest or "",
    )
