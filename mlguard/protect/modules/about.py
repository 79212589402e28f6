"""What the owner of a module says about it. Nothing is assumed.

A module does not say what was subtracted from its pixels, and a wrong guess gives poor
answers without a word.
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
    """How 8-bit pixels become the numbers that a model takes.

    Attributes:
        mean: What is subtracted, one number a channel; after `range`.
        std: What divides.
        range: What 0 and 255 become first.
        colours: The order of the channels; "channels" of anything that is not RGB.
        resize: How an image of another size becomes one that the model takes; None
            pads to the multiple that was found, or stretches where there is one size.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    range: tuple[float, float] = (0.0, 1.0)
    colours: Literal["RGB", "BGR", "grey", "channels"] = "RGB"
    resize: ResizeFacts | None = None


@dataclass(frozen=True)
class Answer:
    """What a model's answer means.

    Attributes:
        task: What it is asked for.
        class_names: In the order of its scores; of a detection, by their labels.
        output: Which output has the scores; empty for the first, or torchvision's
            names of a detection.
        ignore_index: Of a segmentation: what masks have where nothing is known.
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
    """What a bundle says about a module.

    Args:
        example: What the module was shown, by name.
        outputs: What it gave.
        sizes: Which sizes it takes.
        pixels: How images become its input; None if it takes tensors alone.
        answer: What it gives; None if nothing is to be known of it.

    Raises:
        BindingError: It is said what is seen of images and not how they are
            normalized, or what is said does not fit the module.
    """
    if answer is not None and pixels is None:
        raise BindingError(
            f"it is not said how the pixels of a {answer.task} are normalized",
            hint="give `pixels=Pixels(mean=…, std=…)`, as the model was trained, or no "
            "`answer`: the bundle then takes and gives tensors",
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
