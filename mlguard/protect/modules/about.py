"""The owner's information about a module. Nothing is assumed.

A module does not say what was subtracted from its pixels, and a wrong guess silently
makes answers worse.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from pydantic import ValidationError
from torch import Tensor

from mlguard.bundle import ImageFacts, ResizeFacts, TaskFacts
from mlguard.errors import BindingError
from mlguard.foreign import About
from mlguard.protect.modules.sizes import Sizes, is_image
from mlguard.validation import problems_of

LAYOUTS = {4: "NCHW", 5: "NCDHW"}  # by the number of axes
DETECTION = ("boxes", "labels", "scores")  # torchvision's names


@dataclass(frozen=True)
class Pixels:
    """How 8-bit pixels become the values that a model takes.

    Attributes:
        mean: The mean to subtract after `range`, one number for each channel.
        std: The standard deviation to divide by, likewise.
        range: The values of 0 and 255 before that.
        colours: The order of the channels; "channels" for anything but RGB.
        resize: How to fit images of another size; None pads to the multiple that was
            found, or stretches if there is only one size.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    range: tuple[float, float] = (0.0, 1.0)
    colours: Literal["RGB", "BGR", "grey", "channels"] = "RGB"
    resize: ResizeFacts | None = None


@dataclass(frozen=True)
class Answer:
    """The meaning of a model's answer.

    Attributes:
        task: The task of the model.
        class_names: The names in the order of its scores; for a detection, by their
            labels.
        output: The output with the scores; empty for the first, or torchvision's names
            for a detection.
        ignore_index: For a segmentation: the value of pixels without a label in masks.
    """

    task: Literal["segmentation", "classification", "detection"]
    class_names: tuple[str, ...]
    output: str = ""
    ignore_index: int | None = None


def about_module(
    example: Mapping[str, Tensor],
    outputs: Mapping[str, Tensor],
    sizes: Sizes,
    *,
    pixels: Pixels | None,
    answer: Answer | None,
) -> About:
    """Return the facts of a module for its bundle.

    Args:
        example: The example inputs of the module, by name.
        outputs: Its outputs for them.
        sizes: The sizes that it takes.
        pixels: How images become its input; None if it takes only tensors.
        answer: The meaning of its output; None to leave it out.

    Raises:
        BindingError: The answer is described but not how pixels are normalized, or the
            information does not match the module.
    """
    if answer is not None and pixels is None:
        raise BindingError(
            f"the normalization of the pixels of a {answer.task} is not given",
            hint="give `pixels=Pixels(mean=…, std=…)`, as in training, or no "
            "`answer`: the bundle then takes and returns tensors",
        )
    try:
        image = None if pixels is None else _image(example, sizes, pixels)
        task = None if answer is None else _task(example, outputs, answer)
    except ValidationError as error:
        raise BindingError(problems_of(error, whole="pixels")[0]) from None
    return About(image=image, task=task)


def _image(example: Mapping[str, Tensor], sizes: Sizes, pixels: Pixels) -> ImageFacts:
    name, tensor = next(iter(example.items()))
    if not is_image(tensor):
        raise BindingError(
            f"the input {name} has shape {tuple(tensor.shape)}, expected images "
            "(N, C, H, W) or volumes (N, C, D, H, W)"
        )
    resize = pixels.resize or (
        ResizeFacts(rule="pad", multiple=sizes.multiple)
        if sizes.free
        else ResizeFacts(rule="stretch")
    )
    return ImageFacts(
        input=name,
        layout=LAYOUTS[tensor.dim()],  # type: ignore[arg-type]
        colours=pixels.colours,
        channels=tensor.shape[1],
        range=pixels.range,
        mean=pixels.mean,
        std=pixels.std,
        size=tuple(tensor.shape[2:]),
        resize=resize,
    )


def _task(
    example: Mapping[str, Tensor], outputs: Mapping[str, Tensor], answer: Answer
) -> TaskFacts:
    detects = answer.task == "detection"
    boxes, labels, scores = DETECTION if detects else ("", None, None)
    output = answer.output or boxes or next(iter(outputs))
    if output not in outputs:
        raise BindingError(
            f"the model has no output {output!r}; its outputs: {', '.join(outputs)}"
        )
    stride = 1
    if answer.task == "segmentation":
        given, found = next(iter(example.values())), outputs[output]
        if found.dim() != given.dim():
            raise BindingError(
                f"output {output} of shape {tuple(found.shape)} has no class for each "
                "pixel"
            )
        stride = max(1, round(given.shape[-1] / found.shape[-1]))
    return TaskFacts(
        name=answer.task,
        output=output,
        class_names=answer.class_names,
        ignore_index=answer.ignore_index,
        stride=stride,
        labels=labels,
        scores=scores,
    )
