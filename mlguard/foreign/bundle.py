"""From an ONNX file straight to a bundle of format 2, without torch.

No bundle is written without a comparison with its model: the model without its weights
runs beside the original (compare.py), and the written file is opened again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from mlguard.bundle import (
    Bundle2,
    Facts2,
    Model2,
    Origin,
    Tensor2,
    Uncovered,
    glimpse_bundle,
    write_bundle2,
)
from mlguard.bundle.graph_limits import check_graph
from mlguard.errors import MalformedBundle, ModelFileError, ParityError
from mlguard.files import refuse_existing
from mlguard.foreign.about import About
from mlguard.foreign.lift import Lifted, Signature, lift_file
from mlguard.installed import versions_of
from mlguard.keys import ModelKey, new_protection_id
from mlguard.runtime.one_graph import misfit_of
from mlguard.runtime.types import datatype_of
from mlguard.sealing import PlainTensor
from mlguard.validation import problems_of

PACKAGES = ("mlguard", "onnx", "onnxruntime", "onnxruntime-gpu")


@dataclass(frozen=True)
class Exported:
    """The result of an export.

    Attributes:
        protection_id: The public identifier of the protected model.
        size_bytes: The size of the bundle.
        lifted: The model in two parts: graph and weights.
    """

    protection_id: bytes
    size_bytes: int
    lifted: Lifted


def export_file(
    path: Path,
    key: ModelKey,
    out: Path,
    *,
    about: About | None = None,
    freeze_inputs: bool = False,
    example: Mapping[str, Any] | None = None,
) -> Exported:
    """Write an ONNX file as a bundle whose every weight is under a key.

    Args:
        path: The file; its data files lie in its folder.
        key: The model key.
        out: The bundle to write; it must not exist yet.
        about: The owner's information about the model.
        freeze_inputs: Whether to turn default values of inputs into constants.
        example: Inputs for the comparison, by name; None for random ones.

    Raises:
        OutputExists: Something is already at `out`.
        OutputError: There is no space, or the folder is not writable.
        ModelFileError: The file cannot be protected.
        ParityError: The protected model answers differently.
    """
    refuse_existing(out)
    lifted = lift_file(path, freeze_inputs=freeze_inputs, example=example)
    model = model_of(lifted, about or About(), name=str(path))
    _check_stride(lifted, model.facts, name=str(path))
    subkeys = key.for_model(new_protection_id())

    def check(written: Path) -> None:
        _check_written(written, key, lifted.tensors)

    write_bundle2(out, model, subkeys, check=check)
    return Exported(subkeys.protection_id, out.stat().st_size, lifted)


def model_of(lifted: Lifted, about: About, *, name: str) -> Model2:
    """Return the contents of a bundle, to be written.

    Args:
        lifted: The model in two parts: graph and weights.
        about: The owner's information about it.
        name: Its name in a refusal.

    Raises:
        ModelFileError: The graph exceeds a bundle's limits, or the owner's information
            does not match it.
    """
    try:
        opsets = check_graph(lifted.graph, name=name, foreign=True).opsets
        facts = Facts2(
            inputs=tuple(map(_tensor, lifted.inputs)),
            outputs=tuple(map(_tensor, lifted.outputs)),
            opsets=opsets,
            image=about.image,
            task=about.task,
            licence=about.licence,
        )
        _check_image(facts, name=name)
        _check_answer(facts, name=name)
    except MalformedBundle as refusal:
        raise ModelFileError(
            f"{refusal}, so a bundle cannot hold it",
            hint="docs/spec/bundle-v2.md, section 4, has the limits",
        ) from None
    except ValidationError as error:
        raise ModelFileError(
            f"{name}: {problems_of(error)[0]}",
            hint="docs/models/onnx.md explains the fields that describe a model",
        ) from None
    return Model2(
        facts=facts,
        graph=lifted.graph,
        tensors=lifted.tensors,
        left=_left(lifted),
        origin=Origin(versions=versions_of(PACKAGES)),
    )


def _check_image(facts: Facts2, *, name: str) -> None:
    """Refuse an image that is not what the model's input is.

    Raises:
        ModelFileError: Its axes, channels or sizes are others.
    """
    image = facts.image
    if image is None:
        return
    (given,) = (one for one in facts.inputs if one.name == image.input)
    if given.shape is None:
        return
    sides = image.size
    said = (-1, image.channels, *sides)
    if image.layout.endswith("C"):
        said = (-1, *sides, image.channels)
    if len(said) == len(given.shape) and all(
        asked in (-1, size) or size == -1
        for asked, size in zip(given.shape, said, strict=True)
    ):
        return
    raise ModelFileError(
        f"{name}: input {given.name!r} has the shape {list(given.shape)}, but [image] "
        f"says {image.layout} with {image.channels} channels and a size of "
        f"{' x '.join(map(str, sides))}",
        hint="layout, channels and size are those of the model's input; -1 is any size",
    )


def _check_answer(facts: Facts2, *, name: str) -> None:
    """Refuse a task that does not match the model's output.

    Raises:
        ModelFileError: Its axes, or the number of scores, do not match the task.
    """
    task, image = facts.task, facts.image
    if task is None or image is None or task.name == "detection":
        return
    (output,) = (one for one in facts.outputs if one.name == task.output)
    if output.shape is None:
        return
    if problem := misfit_of(output.shape, image, task):
        raise ModelFileError(
            f"{name}: output {problem}",
            hint="name another output or task, or as many class_names as it has scores",
        )


def _check_stride(lifted: Lifted, facts: Facts2, *, name: str) -> None:
    """Refuse a stride that is not that of the answer to the inputs of the comparison.

    Masks would be of the right size and in the wrong place.

    Raises:
        ModelFileError: It is another.
    """
    image, task, compared = facts.image, facts.task, lifted.comparison
    if image is None or task is None or compared is None or task.name != "segmentation":
        return
    shown, scores = compared.inputs.get(image.input), compared.outputs[task.output]
    if shown is None or len(shown) != len(scores):
        return
    last = slice(1, -1) if image.layout.endswith("C") else slice(2, None)
    sides, found = shown[last], scores[last]
    if all(
        b in (a // task.stride, -(-a // task.stride))
        for a, b in zip(sides, found, strict=True)
    ):
        return
    given, got = (" x ".join(map(str, one)) for one in (sides, found))
    raise ModelFileError(
        f"{name}: task.stride is {task.stride}, but an image of {given} pixels gets "
        f"scores at {got} places",
        hint="stride is how many pixels the scores stand apart; leave it out for 1",
    )


def _tensor(value: Signature) -> Tensor2:
    sizes = value.shape
    shape = (
        None
        if sizes is None
        else tuple(n if isinstance(n, int) and n >= 0 else -1 for n in sizes)
    )
    return Tensor2(name=value.name, datatype=datatype_of(value.kind), shape=shape)


def _left(lifted: Lifted) -> list[Uncovered]:
    """Return the tensors left in the graph, under neutral names."""
    left = [
        Uncovered(name=f"left/{number}", size=one.size_bytes, reason=one.reason[:200])
        for number, one in enumerate(lifted.uncovered)
    ]
    if lifted.small_bytes:
        reason = "shapes, axes and single numbers"
        left.append(Uncovered(name="small", size=lifted.small_bytes, reason=reason))
    return left


def _check_written(path: Path, key: ModelKey, tensors: Sequence[PlainTensor]) -> None:
    """Open the written file, and compare every byte of every weight.

    Raises:
        ParityError: The file differs from what was written.
    """
    bundle = glimpse_bundle(path)
    if not isinstance(bundle, Bundle2):
        raise AssertionError("a bundle of format 2 was read as another")
    unlocked = bundle.unlock(key)
    rows = unlocked.graph().rows
    for (_, opened), tensor in zip(unlocked.tensors(rows), tensors, strict=True):
        if not np.array_equal(opened, np.frombuffer(tensor.data, np.uint8)):
            raise ParityError(
                f"{path}: the file differs from what was written to it",
                hint="check the disk; nothing was kept",
            )
