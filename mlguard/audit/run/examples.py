"""Draw Fig. 5 of arXiv:2107.09362 for one model: the answers that each user gets."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mlguard.audit.findings import Measured
from mlguard.audit.report import Gallery, Picture, Row, demonstrate, percent
from mlguard.audit.run.plan import AuditPlan
from mlguard.audit.target import Subject
from mlguard.data import LabelledSet
from mlguard.models import NO_KEY, Condition, keyed, logits_of
from mlguard.pictures import answer_png, image_png, mask_png


def draw_gallery(
    protected: Subject, baseline: Subject | None, plan: AuditPlan, measured: Measured
) -> Gallery:
    """Draw the pictures of a report.

    Args:
        protected: The protected model.
        baseline: Its plain twin, if one was trained.
        plan: The plan, with images, keys and the number of pictures; only predictions
            made with the keys are drawn.
        measured: The counts, to choose the images and the best incorrect key.
    """
    dataset, transforms = plan.images, plan.target.transforms
    spec, class_names = plan.target.spec, plan.target.data.class_names
    task = measured.task
    chosen = example_images(task.shown(measured.correct), plan.examples)
    if not chosen:
        return Gallery()
    scores = [task.score_of(counts) for counts in measured.incorrect]
    users: list[tuple[str, Subject, Condition]] = [
        ("correct key", protected, keyed(transforms.correct, protected.device))
    ]
    if scores:
        best = keyed(transforms.incorrect[int(np.argmax(scores))], protected.device)
        users += [
            ("no key", protected, NO_KEY),
            (f"best of {len(scores)} incorrect keys", protected, best),
        ]
    if baseline is not None:
        users.insert(0, ("baseline", baseline, NO_KEY))
    first, _ = dataset[chosen[0]]
    return Gallery(
        transformed=demonstrate(first.numpy(), spec.image_methods, spec.block_size),
        predictions=tuple(
            _class_row(dataset, index, users, class_names)
            if task.name == "classification"
            else _row(dataset, index, users)
            for index in chosen
        ),
    )


def example_images(present: NDArray[np.bool_], number: int) -> list[int]:
    """Choose images that together show many classes, by a fixed rule.

    Each choice adds the most new classes; ties go to the image with the most classes,
    then to the first.

    Args:
        present: Which classes each image shows.
        number: The maximum number of images.

    Shape:
        present  (images, classes)
    """
    seen = np.zeros(present.shape[1], dtype=np.bool_)
    chosen: list[int] = []
    for _ in range(min(number, len(present))):
        new, shown = (present & ~seen).sum(1), present.sum(1)
        rest = (index for index in range(len(present)) if index not in chosen)
        chosen.append(max(rest, key=lambda index: (new[index], shown[index])))
        seen |= present[chosen[-1]]
    return chosen


def _row(
    dataset: LabelledSet, index: int, users: list[tuple[str, Subject, Condition]]
) -> Row:
    image, mask = dataset[index]
    pictures = [
        Picture(image_png(image.numpy()), "input", f"Test image {index + 1}"),
        Picture(
            mask_png(mask.numpy()),
            "ground truth",
            "Its classes, as labelled",
        ),
    ]
    for name, subject, condition in users:
        (logits,) = _logits(subject, image, condition)
        predicted = logits.argmax(0).to(torch.uint8)
        alt = f"Its classes, as predicted: {name}"
        pictures.append(Picture(mask_png(predicted.cpu().numpy()), name, alt))
    return Row(f"Image {index + 1}", tuple(pictures))


def _class_row(
    dataset: LabelledSet,
    index: int,
    users: list[tuple[str, Subject, Condition]],
    class_names: Sequence[str],
) -> Row:
    """Return an image with its class, and the most probable classes for each user."""
    image, truth = dataset[index]
    caption = f"input: {class_names[int(truth)]}"
    pictures = [Picture(image_png(image.numpy()), caption, f"Test image {index + 1}")]
    for name, subject, condition in users:
        (logits,) = _logits(subject, image, condition)
        shares = logits.double().softmax(0).cpu().numpy()
        best = int(shares.argmax())
        answer = f"{class_names[best]} {percent(float(shares[best]))}"
        alt = f"Its most probable classes, as predicted: {name}; first {answer}"
        pictures.append(Picture(answer_png(shares), f"{name}: {answer}", alt))
    return Row(f"Image {index + 1}", tuple(pictures))


@torch.inference_mode()
def _logits(subject: Subject, image: Tensor, condition: Condition) -> Tensor:
    """Shape: image (3, H, W) uint8 to (1, classes, H, W), or (1, classes)."""
    images = image[None].to(subject.device)
    return logits_of(subject.run(images, condition))
