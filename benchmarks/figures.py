"""Draw figures 4, 5 and 6 of arXiv:2107.09362 for the demo's model.

The key is a demonstration key that everybody knows, the images are generated, so that
the pictures give nothing away: an image beside its version under a real model's key
would be that key. Trains the demo's model first (a minute or two).

    python benchmarks/figures.py --out docs/results/pictures --run demo-figures
"""

import argparse
import io
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from mlguard.audit.findings import limits_of
from mlguard.audit.run import AuditPlan, audit
from mlguard.audit.target import target_of_run
from mlguard.data import open_split
from mlguard.keys import ModelKey
from mlguard.models import NO_KEY, Condition, keyed
from mlguard.protect import DataFolder, Job, predict_classes
from mlguard.recipe import read_recipe
from mlguard.rules import BLOCK_SIZES
from mlguard.transforms import derive_transform

KEY = ModelKey(bytes(range(32)))  # a demonstration key: it protects nothing
PUBLIC_ID = bytes(16)
METHODS = ("shf", "np", "ffx")
SIZES = tuple(size for size in BLOCK_SIZES if 2 <= size <= 64)
COLOURS = np.array(
    [(40, 40, 40), (120, 170, 230), (100, 170, 80), (240, 150, 40), (130, 70, 150),
     (220, 200, 90)], np.uint8,
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--run", type=Path, required=True, help="made if not there")
    parser.add_argument("--set", dest="changes", action="append", default=[])
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    recipe = read_recipe("demo", overrides=options.changes)
    job = Job(options.run, recipe, DataFolder(None), device="cpu", resume=True)
    run = job.protect(KEY, key_name="demonstration")
    test = open_split(recipe.data, None, "test", seed=recipe.train.seed)
    target = target_of_run(run, KEY, recipe.audit, torch.device("cpu"))

    image = test[0][0].numpy()
    save(transforms(image), options.out / "transforms.png")
    model, own = target.load(), target.transforms
    conditions = {
        "correct key": keyed(own.correct),
        "no key": NO_KEY,
        "incorrect key": keyed(own.incorrect[0]),
    }
    save(predictions(test, model, conditions), options.out / "predictions.png")
    plan = AuditPlan(
        target=target,
        images=test,
        split="test",
        settings=recipe.audit,
        limits=limits_of(recipe.audit),
        examples=0,
    )
    save(spread(audit(plan).report.findings), options.out / "incorrect_keys.png")


def transforms(image: NDArray[np.uint8]) -> plt.Figure:
    """Figure 4: one image under each method and block size."""
    figure, axes = plt.subplots(len(METHODS), len(SIZES) + 1, figsize=(9, 4.2))
    for row, method in zip(axes, METHODS, strict=True):
        show(row[0], image, "" if method != METHODS[0] else "plain")
        row[0].set_ylabel(method)
        for panel, size in zip(row[1:], SIZES, strict=True):
            transform = derive_transform([method], KEY.for_model(PUBLIC_ID), size)
            title = f"M={size}" if method == METHODS[0] else ""
            show(panel, transform.apply(image[None])[0], title)
    return figure


def predictions(test, model, conditions: dict[str, Condition]) -> plt.Figure:
    """Figure 5: what each user sees of three images."""
    figure, axes = plt.subplots(3, len(conditions) + 2, figsize=(9, 5.4))
    for row, index in zip(axes, (0, 1, 2), strict=True):
        image, mask = test[index]
        show(row[0], image.numpy(), "image" if index == 0 else "")
        show(row[1], coloured(mask.numpy()), "mask" if index == 0 else "")
        for panel, (name, condition) in zip(row[2:], conditions.items(), strict=True):
            classes = predict_classes(
                model.model, image[None], condition, model.normalization
            )
            shown = coloured(classes[0].numpy())
            show(panel, shown, name if index == 0 else "")
    return figure


def spread(findings) -> plt.Figure:
    """Figure 6: correct key, no key, and the spread over all incorrect keys."""
    figure, panel = plt.subplots(figsize=(9, 2.4))
    scores = np.array(findings.incorrect.scores)
    shift = np.random.default_rng(0).uniform(-0.3, 0.3, len(scores))
    panel.plot(scores, shift, ".", color="#c33", label=f"{len(scores)} incorrect keys")
    for score, colour, label in (
        (findings.correct.score, "#2a7", "correct key"),
        (findings.no_key.score, "#36c", "no key"),
        (findings.floor, "#888", "best constant answer"),
    ):
        panel.axvline(score, color=colour, label=f"{label}: {score:.3f}")
    panel.set(xlim=(0, 1), ylim=(-1, 1), yticks=[], xlabel="mIoU, 200 test images")
    panel.legend(fontsize=7, loc="upper center")
    return figure


def coloured(mask: NDArray[np.integer]) -> NDArray[np.uint8]:
    """A mask in colours. Shape: (H, W) to (3, H, W)."""
    return COLOURS[np.minimum(mask, len(COLOURS) - 1)].transpose(2, 0, 1)


def show(panel: plt.Axes, image: NDArray, title: str) -> None:
    panel.imshow(image.transpose(1, 2, 0), interpolation="nearest")
    panel.set_xticks([])
    panel.set_yticks([])
    if title:
        panel.set_title(title, fontsize=8)


def save(figure: plt.Figure, path: Path) -> None:
    figure.tight_layout(pad=0.4)
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=80, format="png")
    plt.close(figure)
    with Image.open(drawn) as picture:  # a third of the size, and no difference to see
        few = picture.convert("RGB").quantize(128, dither=Image.Dither.NONE)
    few.save(path, optimize=True)


if __name__ == "__main__":
    main()
