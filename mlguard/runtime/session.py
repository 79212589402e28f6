"""Step 7: run a bundle with its key. numpy and onnxruntime, never torch.

The key is handed in and never looked up: this module knows no keystore.
"""

import hmac
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from mlguard.bundle import (
    Bundle,
    Manifest,
    check_key,
    read_bundle,
    selftest_digest,
    selftest_image,
)
from mlguard.errors import MalformedBundle, ProviderError, ShapeError
from mlguard.keys import ModelKey, ModelSubkeys
from mlguard.runtime.providers import (
    CPU,
    LOGITS,
    PIXELS,
    VALUES,
    load_graph,
    run_graph,
)
from mlguard.transforms import pad_to_blocks

PER_PIXEL = 4  # axes of logits that are scores of pixels


def crop(logits: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    """Take away the scores of what was padded; those of whole images stay.

    Shape:
        logits  (N, classes, H, W) or (N, classes)
    """
    return logits[:, :, :height, :width] if logits.ndim == PER_PIXEL else logits


class Session:
    """A bundle, unlocked by its key and ready to predict.

    Example:
        session = Session.open(Path("acme.mlgb"), key)
        masks = session.predict(images)
    """

    def __init__(self, bundle: Bundle, key: ModelKey, *, provider: str = "cpu") -> None:
        """Unlock a bundle that was read before; as `open`."""
        name, manifest = bundle.name, bundle.manifest
        subkeys = check_key(manifest, key, name=name)
        self._block_size = manifest.transform.block_size
        transforms = manifest.keyed.derive(subkeys)
        slots = {} if transforms.image is None else transforms.image.slots()
        if set(slots) != bundle.slots:
            raise MalformedBundle(
                f"{name}: expected key slots {sorted(slots)}, "
                f"got {sorted(bundle.slots)}"
            )
        self.manifest: Manifest = manifest
        self._preprocess = load_graph(
            bundle.preprocess,
            provider=provider,
            name=f"{name}: preprocess.onnx",
            slots=slots,
        )
        self._selftest(subkeys, name=name)
        self._model = load_graph(
            bundle.open_model(subkeys),  # in memory only, and not kept
            provider=provider,
            name=f"{name}: model.onnx",
            slots=transforms.channel_slots(),
        )
        self._check_output(name)

    @classmethod
    def open(cls, path: Path, key: ModelKey, *, provider: str = "cpu") -> Self:
        """Read a bundle, check it against the key, and load its graphs.

        The check names a wrong key before anything runs. It is not what protects the
        model: without the key's transform the model itself gives poor answers, and
        `mlguard audit` measures how poor.

        Args:
            path: The bundle.
            key: The key it was made for.
            provider: "cpu", "cuda", "auto" (CUDA if it works, else the CPU), or the
                full name of an execution provider of onnxruntime.

        Raises:
            WrongKey: The bundle was made for another key; both ids are named.
            MalformedBundle: The file does not follow the specification.
            TamperedBundle: The file is not what the key's owner wrote.
            BundleError: The file cannot be read.
            ProviderError: The provider is not available, or computes wrongly.
        """
        return cls(read_bundle(path), key, provider=provider)

    @property
    def provider(self) -> str:
        """The execution provider in use, by onnxruntime's name."""
        best: str = self._model.get_providers()[0]
        return best

    def predict(self, images: NDArray[np.uint8]) -> NDArray[np.integer[Any]]:
        """Give every pixel a class, or every image if the model classifies.

        Shape:
            images   (N, 3, H, W) uint8, RGB, any H and W
            returns  (N, H, W) uint8, class ids in 0 … classes-1; or (N,) int64

        Raises:
            ShapeError: The images are not uint8 (N, 3, H, W).
            ProviderError: onnxruntime gave up, for want of memory as a rule.
        """
        classes: NDArray[np.int64] = self.logits(images).argmax(axis=1)
        return classes.astype(np.uint8) if classes.ndim > 1 else classes

    def logits(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Give every pixel, or every image, a score for every class.

        Shape:
            images   (N, 3, H, W) uint8, RGB, any H and W
            returns  (N, classes, H, W) float32, or (N, classes)

        Raises:
            ShapeError: The images are not uint8 (N, 3, H, W).
            ProviderError: onnxruntime gave up, for want of memory as a rule.
        """
        wrong_shape = images.ndim != 4 or images.shape[1] != 3 or 0 in images.shape
        if wrong_shape or images.dtype != np.uint8:
            raise ShapeError(
                f"expected images (N, 3, H, W) uint8, got {images.shape} {images.dtype}"
            )
        height, width = images.shape[2:]
        padded = pad_to_blocks(images, self._block_size)
        logits = run_graph(self._model, LOGITS, self._pixels(padded))
        return crop(logits, height, width)

    def _check_output(self, name: str) -> None:
        """Refuse a model that answers something else than the manifest says."""
        (expected,) = self.manifest.outputs
        (found,) = (out.shape for out in self._model.get_outputs())
        if len(found) != len(expected.shape) or found[1] != expected.shape[1]:
            raise MalformedBundle(
                f"{name}: model.onnx gives logits of shape {found}, "
                f"expected {list(expected.shape)}"
            )

    def _pixels(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        return run_graph(self._preprocess, PIXELS, images)

    def _selftest(self, subkeys: ModelSubkeys, *, name: str) -> None:
        """Refuse a provider that computes another transform than the key's."""
        image = selftest_image(self._block_size)
        values = run_graph(self._preprocess, VALUES, image).astype(np.int32)
        digest = selftest_digest(subkeys, values)
        if hmac.compare_digest(digest, self.manifest.selftest):
            return
        provider = self._preprocess.get_providers()[0]
        message = f"{name}: the self-test of preprocess.onnx failed on {provider}"
        if provider == CPU:
            raise MalformedBundle(message)
        raise ProviderError(message, hint="try `--provider cpu`")
