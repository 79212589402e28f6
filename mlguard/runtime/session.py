"""Step 7: run a bundle with its key, on numpy and onnxruntime, without torch.

The key is handed in and never looked up: this module knows no keystore.
"""

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn, Self

import numpy as np
from numpy.typing import NDArray

from mlguard.bundle import (
    Bundle,
    Bundle2,
    FileSecrets,
    Glimpse,
    ImageFacts,
    TaskFacts,
    Tensor2,
    backbone_of,
    glimpse_bundle,
)
from mlguard.bundle.about import IMAGES_INPUT, shown_inputs
from mlguard.errors import BundleError, MalformedBundle, ProviderError, ShapeError
from mlguard.grants import Unwraps
from mlguard.issuing import Conditions, open_issued
from mlguard.keys import ModelKey
from mlguard.runtime.backbone import Backbone, backbone_at, no_backbone
from mlguard.runtime.fit import fit_images
from mlguard.runtime.one_graph import (
    IMAGES,
    VALUES,
    OneGraph,
    class_axis,
    join,
    misfit_of,
    smallest,
)
from mlguard.runtime.opened import Opened, open_model
from mlguard.runtime.options import Compute
from mlguard.runtime.providers import load, run_feeds, run_values
from mlguard.runtime.selftest import check_selftest
from mlguard.runtime.types import NUMPY_OF, datatype_of, fed, from_ort, is_odd, to_ort

GRAPHS = "model.onnx"  # the name of the joined graph


class Session:
    """A bundle, unlocked with its key and ready to run.

    Attributes:
        manifest: The bundle's manifest, of either format.
        image: How images are fitted to the model; None if it takes none.
        task: What its answer means; None if nothing is known about it.

    Example:
        session = Session.open(Path("acme.mlgb"), key)
        masks = session.predict(images)
        tensors = session.run({"images": images})
    """

    def __init__(
        self,
        bundle: Bundle | Bundle2 | Glimpse,
        key: ModelKey | FileSecrets,
        *,
        provider: str = "cpu",
        compute: Compute | None = None,
        bare: bool = False,
        backbone: Path | str | Backbone | None = None,
    ) -> None:
        """Unlock a bundle that was already read, as `open` does."""
        how = compute or Compute(provider)
        how.check(sealed=bundle.sealed, name=bundle.name)
        opened = open_model(bundle, key)
        if bare:
            parts = replace(opened.parts, image=None, task=None, preprocess=None)
            opened = replace(opened, parts=parts)
        self.manifest = opened.manifest
        self.image: ImageFacts | None = opened.parts.image
        self.task: TaskFacts | None = opened.parts.task
        self._graph = _joined(opened)
        # The joined graph has the model in it: no second copy while it is loaded.
        opened = replace(opened, parts=replace(opened.parts, model=b""))
        self._load(opened, how)
        self._backbone = _beside(opened, backbone, how)

    @classmethod
    def open(
        cls,
        path: Path,
        key: ModelKey | FileSecrets | Unwraps,
        *,
        conditions: Conditions | None = None,
        provider: str = "cpu",
        threads: int = 0,
        inter_threads: int = 0,
        options: Mapping[str, Any] | None = None,
        provider_options: Mapping[str, str] | None = None,
        bare: bool = False,
        backbone: Path | str | Backbone | None = None,
    ) -> Self:
        """Read a bundle, check it against the key, and load its graph.

        A wrong key is refused by name before anything runs. This check does not protect
        the model: the encryption of its weights does. How much the methods that
        transform images or feature maps protect, `mlguard audit` measures.

        Args:
            path: The bundle.
            key: The key that it was made for; for an issued bundle, an identity.
            conditions: The conditions for an issued bundle: trusted signers, a newer
                grant, a revocation list.
            provider: "cpu", "cuda", "auto" (CUDA if it works, else the CPU), or the
                full name of an execution provider of onnxruntime.
            threads: How many threads compute one operator; 0 for what the machine, or
                the container's CPU quota, allows.
            inter_threads: How many operators run at a time; 0 for onnxruntime's choice.
            options: Attributes of onnxruntime's SessionOptions by name, and its
                configuration entries. Options that would write out a sealed bundle are
                refused.
            provider_options: Options of the execution provider, with the same
                exception.
            bare: Whether to load the graph alone, with its own inputs and outputs.
            backbone: Of a model in two halves, the public one: its file, or the
                address of a host that runs it, https://HOST:PORT/v2/models/NAME.

        Raises:
            WrongKey: The bundle was made for another key; both ids are named.
            MalformedBundle: The file does not follow the specification.
            TamperedBundle: The file was changed after the key's owner wrote it.
            BundleError: The file cannot be read, or an option would write its model
                to a disk in the clear.
            ProviderError: The provider is not available, or computes wrongly; or the
                installed onnxruntime is too old for the model.
            SignatureNotTrusted: An issued bundle is not signed by a trusted signer.
            OutsideValidity: Its grant is not valid today, or was revoked.
            WrongBackbone: The bundle is the private half beside another backbone.
            RemoteError: The host does not answer, or runs another backbone.
        """
        compute = Compute(
            provider, threads, inter_threads, options or {}, provider_options or {}
        )
        bundle = glimpse_bundle(path)
        return cls(
            bundle,
            secrets_of(bundle, key, conditions),
            compute=compute,
            bare=bare,
            backbone=backbone,
        )

    @property
    def compared(self) -> bool:
        """Whether the transform of images was compared with the owner's."""
        return self._compared

    @property
    def provider(self) -> str:
        """The execution provider in use, by onnxruntime's name."""
        best: str = self._session.get_providers()[0]
        return best

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, by their number; none if there are no classes."""
        return () if self.task is None else self.task.class_names

    @property
    def inputs(self) -> tuple[Tensor2, ...]:
        """The inputs of `run`. An image is given as 8-bit pixels, under "images"."""
        return shown_inputs(self._inputs, self.image)

    @property
    def outputs(self) -> tuple[Tensor2, ...]:
        """The outputs of `run`."""
        return self._outputs

    def run(self, tensors: Mapping[str, Any]) -> dict[str, Any]:
        """Run the model on tensors of its inputs, and return all its outputs.

        Types that numpy does not know are passed as unsigned integers with the same
        bits: uint16 for bfloat16, uint8 for floats of 8 bits and for packed integers.
        Sequences are lists.

        Args:
            tensors: The tensors by the names of `inputs`. An image is uint8 (N, C, …)
                under "images", of a size that the model takes: nothing is padded here.

        Raises:
            ShapeError: A tensor is missing, or one is not an input.
            ProviderError: onnxruntime failed, usually for lack of memory.
        """
        about = {one.name: one for one in self.inputs}
        expected = list(about)
        needed = set(expected) - self._optional
        if needed - set(tensors) or set(tensors) - set(expected):
            raise ShapeError(
                f"expected tensors {', '.join(expected)}, got "
                f"{', '.join(tensors) or 'none'}"
            )
        names = [one.name for one in self._outputs]
        feeds = {
            self._called(name): fed(value, about[name])
            for name, value in tensors.items()
        }
        return dict(zip(names, self._run(names, feeds), strict=True))

    def predict(self, images: NDArray[np.uint8]) -> NDArray[np.integer[Any]]:
        """Return a class for every pixel, or for every image if the model classifies.

        Shape:
            images   (N, 3, H, W) uint8, RGB, any H and W; (N, C, …) as the bundle says
            returns  (N, H, W) uint8, class ids in 0 … classes-1, or uint16 where there
                 are more than 256 classes; or (N,) int64

        Raises:
            ShapeError: The images are not uint8 (N, 3, H, W).
            BundleError: The model does not take images, or does not answer with
                classes.
            ProviderError: onnxruntime failed, usually for lack of memory.
        """
        image, task = self._for_classes()
        fitted, back = fit_images(images, image)
        if self._graph.classes is None:
            axis = class_axis(image, task)
            scores = self._scores(fitted, image, task)
            found = np.moveaxis(scores, axis, 1).argmax(axis=1)
        else:
            (found,) = run_feeds(
                self._here(), [self._graph.classes], self._feeds(fitted)
            )
        if task.name == "classification":
            return np.asarray(found)
        return np.asarray(back(found.astype(NUMPY_OF[smallest(task)], copy=False)))

    def logits(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return a score of every class for every pixel, or for every image.

        Shape:
            images   (N, 3, H, W) uint8, RGB, any H and W
            returns  (N, classes, H, W) float32, or (N, classes)

        Raises:
            ShapeError: The images are not uint8 (N, 3, H, W).
            BundleError: The model does not take images, or does not answer with
                classes.
            ProviderError: onnxruntime failed, usually for lack of memory.
        """
        image, task = self._for_classes()
        fitted, back = fit_images(images, image)
        scores = self._scores(fitted, image, task)
        if task.name == "classification":
            return scores
        first = np.moveaxis(scores, class_axis(image, task), 1)
        return np.asarray(back(first), dtype=np.float32)

    def _scores(
        self, images: NDArray[np.uint8], image: ImageFacts, task: TaskFacts
    ) -> NDArray[np.float32]:
        """Return the scores, at the size of the images."""
        name = self._graph.scores or task.output
        feeds = self._feeds(images)
        (scores,) = run_feeds(self._here(), [name], feeds, partly=True)
        check_scores(scores.shape, image, task, name=self._name)
        if task.stride > 1 and name == task.output:
            for axis in range(2, scores.ndim):
                scores = scores.repeat(task.stride, axis=axis)
        return np.asarray(scores, dtype=np.float32)

    def _feeds(self, images: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
        """Images, and what the backbone says of them where there is one."""
        maps = {} if self._backbone is None else self._backbone.maps(images)
        return {IMAGES: images, **maps}

    def _for_classes(self) -> tuple[ImageFacts, TaskFacts]:
        image, task = self.image, self.task
        if image is None or task is None or task.name == "detection":
            found = "no images" if image is None else "no class of each pixel or image"
            raise BundleError(
                f"{self._name} has {found}, so there is nothing to predict",
                hint="use `Session.run` with its tensors",
            )
        facts = backbone_of(self.manifest)
        if facts is not None and self._backbone is None:
            raise no_backbone(facts, name=self._name)
        if facts is None and len(self._inputs) > 1:
            raise BundleError(
                f"{self._name} has more inputs than an image, so `predict` cannot run "
                "it",
                hint="`Session.run` takes all its inputs",
            )
        return image, task

    def _load(self, opened: Opened, compute: Compute) -> None:
        """Load the joined graph, and refuse one that differs from the manifest."""
        name = self._name = opened.name
        outside = opened.outside
        called = self._graph.slots  # empty where the graph is bare
        outside.add_slots(
            {called[old]: value for old, value in opened.slots.items() if called}
        )
        # The graph is authenticated: onnxruntime's messages about it may be shown, and
        # none of them holds a tensor's values.
        self._process = os.getpid()
        self._session = load(
            self._graph.content, compute, outside, name=f"{name}: {GRAPHS}", told=True
        )
        self._graph = replace(self._graph, content=b"")  # the plain model is not kept
        self._compared = False
        if VALUES in {one.name for one in self._session.get_outputs()}:
            self._selftest(opened)
        self._inputs, self._outputs = opened.inputs, opened.outputs
        self._check(opened)

    def _check(self, opened: Opened) -> None:
        """Refuse a model whose inputs or outputs differ from the manifest."""
        image = self.image
        found_in = {one.name: one for one in self._session.get_inputs()}
        found_out = {one.name: one for one in self._session.get_outputs()}
        self._optional = {
            name for name, one in found_in.items() if one.type.startswith("optional(")
        }
        for kind, listed, found in (
            ("takes", opened.inputs, found_in),
            ("gives", opened.outputs, found_out),
        ):
            for one in listed:
                if image is not None and kind == "takes" and one.name == image.input:
                    continue
                _check_tensor(one, found.get(one.name), kind, name=self._name)
        extra = set(found_in) - {one.name for one in opened.inputs} - {IMAGES}
        if extra:
            raise MalformedBundle(
                f"{self._name}: model.onnx also takes {sorted(extra)[0]!r}, which "
                "manifest.json does not name"
            )
        self._words = {name: one.type for name, one in found_in.items()}
        given = [found_out[one.name].type for one in opened.outputs]
        self._odd = any(map(is_odd, [*self._words.values(), *given]))

    def _here(self) -> Any:
        """Return the graph, in the process that loaded it.

        Raises:
            ProviderError: The process was forked since: the threads stayed behind, and
                the graph would wait for them for ever.
        """
        if os.getpid() != self._process:
            raise ProviderError(
                f"{self._name} was opened before this process was forked",
                hint="open the bundle in each worker, after the fork",
            )
        return self._session

    def close(self) -> None:
        """Close the connections to the host of a split model, if there are any."""
        if self._backbone is not None:
            self._backbone.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a Session is never pickled: it holds an opened model; open the bundle in "
            "each process"
        )

    def _run(self, names: list[str], feeds: dict[str, Any]) -> list[Any]:
        """Run the graph, through OrtValues where numpy lacks a type."""
        if not self._odd:
            return run_feeds(self._here(), names, feeds)
        words = self._words
        values = {name: to_ort(value, words[name]) for name, value in feeds.items()}
        return [from_ort(one) for one in run_values(self._here(), names, values)]

    def _called(self, name: str) -> str:
        return IMAGES if self.image is not None and name == IMAGES_INPUT else name

    def _selftest(self, opened: Opened) -> None:
        """Refuse a provider that computes the key's transform wrongly."""
        image = self.image
        if image is None or opened.digest is None or opened.selftest is None:
            return
        check_selftest(
            self._session,
            VALUES,
            image,
            opened.digest,
            opened.selftest,
            name=self._name,
        )
        self._compared = True


def _beside(
    opened: Opened, backbone: Path | str | Backbone | None, compute: Compute
) -> Backbone | None:
    """The public half of a model, if it has one and one was given."""
    facts = backbone_of(opened.manifest)
    if backbone is None:
        return None
    if facts is None:
        raise BundleError(
            f"{opened.name} is a whole model and needs no backbone",
            hint="leave --backbone out",
        )
    if isinstance(backbone, Path | str):
        return backbone_at(backbone, facts, compute)
    return backbone


def check_scores(
    shape: tuple[int, ...], image: ImageFacts, task: TaskFacts, *, name: str
) -> None:
    """Refuse scores that do not match the task: one for each class.

    Raises:
        BundleError: Their axes, or their number, do not match the task.
    """
    if problem := misfit_of(shape, image, task):
        raise BundleError(
            f"{name}: {problem}",
            hint="ask its owner to correct its task with --about",
        )


def secrets_of(
    bundle: Bundle2 | Glimpse,
    key: ModelKey | FileSecrets | Unwraps,
    conditions: Conditions | None,
) -> ModelKey | FileSecrets:
    """Return the secrets of a bundle: a key itself, or what an identity unwraps."""
    if not isinstance(key, Unwraps):
        return key
    if not isinstance(bundle, Bundle2):
        raise BundleError(
            f"{bundle.name} is of format 1, which cannot be issued to a customer",
            hint="open it with the model key",
        )
    return open_issued(bundle, key, conditions)


def _joined(opened: Opened) -> OneGraph:
    try:
        return join(opened.parts)
    except (ValueError, IndexError):
        raise MalformedBundle(f"{opened.name}: {GRAPHS} is not an ONNX file") from None


def _check_tensor(expected: Tensor2, found: Any, kind: str, *, name: str) -> None:
    """Refuse another type, number of axes, or fixed size."""
    if found is None:
        raise MalformedBundle(
            f"{name}: {GRAPHS} {kind} no {expected.name!r}, which manifest.json names"
        )
    shape = list(found.shape) if isinstance(found.shape, list | tuple) else None
    sizes = expected.shape
    same = datatype_of(found.type) == expected.datatype
    if same and sizes is not None and shape is not None:
        same = len(shape) == len(sizes) and all(
            asked == size
            for asked, size in zip(sizes, shape, strict=True)
            if asked >= 0 and isinstance(size, int)
        )
    if not same:
        wanted = "any" if sizes is None else list(sizes)
        raise MalformedBundle(
            f"{name}: {GRAPHS} {kind} {expected.name} of shape {shape} and type "
            f"{datatype_of(found.type)}, expected {wanted} {expected.datatype}"
        )
