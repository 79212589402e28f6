"""One cell of table 1: a model trained under one transform, and scored without it.

The whole data set lies in the memory of the device, and images are cropped, flipped and
transformed there, a batch at a time, so that a small model keeps a GPU busy. What a
step draws follows from the seed and its number: a cell that was killed goes on from its
checkpoint to where it would have come.
"""

import hashlib
import math
import os
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mlguard import metrics
from mlguard.data import open_split
from mlguard.keys import ModelKey, ModelSubkeys
from mlguard.models import (
    NO_KEY,
    Condition,
    Normalization,
    build_model,
    keyed,
    logits_of,
    normalization_of,
    output_of,
)
from mlguard.protect.training import (
    cross_entropy_loss,
    learning_rate,
    new_optimizer,
)
from mlguard.recipe import Recipe
from mlguard.transforms import KeyedTransforms

CHECKPOINT_S = 30.0  # seconds between two checkpoints, at least
PROTECTION_ID = bytes(16)  # a measurement protects nothing


@dataclass(frozen=True)
class Pairs:
    """Images and masks of one split, on the device.

    Attributes:
        images: (N, 3, H, W) uint8.
        masks: (N, H, W) uint8.
    """

    images: Tensor
    masks: Tensor


@dataclass(frozen=True)
class Splits:
    """What all cells of a table share."""

    train: Pairs
    validation: Pairs
    test: Pairs


@dataclass(frozen=True)
class Cell:
    """One model of the table: no method is the baseline."""

    method: str | None
    block_size: int

    @property
    def name(self) -> str:
        """What its checkpoint is called, and its row."""
        return f"{self.method}-{self.block_size}" if self.method else "baseline"


def read_splits(recipe: Recipe, root: Path | None, device: torch.device) -> Splits:
    """Decode every image once, and put all of them on the device."""
    spec = recipe.data.model_copy(update={"cache": False})

    def pairs(split: str) -> Pairs:
        labelled = open_split(spec, root, split, seed=recipe.train.seed)
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            samples = list(pool.map(labelled.__getitem__, range(len(labelled))))
        images, masks = (torch.stack(part) for part in zip(*samples, strict=True))
        return Pairs(images.to(device), masks.to(device))

    return Splits(pairs("train"), pairs("validation"), pairs("test"))


def train_and_score(
    cell: Cell,
    recipe: Recipe,
    splits: Splits,
    *,
    checkpoint: Path,
    incorrect_keys: int,
    device: torch.device,
    every: int = 1,
) -> dict[str, Any]:
    """The numbers of one cell; goes on from its checkpoint where there is one.

    Args:
        cell: Which one.
        recipe: How it is trained; its [transform] does not count.
        splits: The images.
        checkpoint: Where to keep what is not finished.
        incorrect_keys: How many are tried.
        device: Where to compute.
        every: Score incorrect keys on every so-manieth test image.
    """
    torch.manual_seed(recipe.train.seed)
    model = build_model(recipe.model, recipe.data.classes).to(device)
    model = model.to(memory_format=torch.channels_last)
    correct = condition_of(cell, key_of(cell, recipe.train.seed), device)
    trainer = _Trainer(model, recipe, splits, correct, device)
    trainer.resume(checkpoint)
    begun = time.perf_counter()
    trainer.run(checkpoint)
    conditions = {"correct": correct}
    others: dict[str, Condition] = {}
    if cell.method:
        conditions["no_key"] = NO_KEY
        for index in range(incorrect_keys):
            others[str(index)] = incorrect(cell, recipe, index, device)
    trained = time.perf_counter()
    scores = trainer.scores(splits.test, conditions)
    fewer = Pairs(splits.test.images[::every], splits.test.masks[::every])
    tried = trainer.scores(fewer, others) if others else {}
    _synchronize(device)
    scored = time.perf_counter()
    steps = max(1, trainer.steps_here)
    return {
        "method": cell.method,
        "block_size": cell.block_size if cell.method else None,
        "correct": scores["correct"],
        "no_key": scores.get("no_key"),
        "incorrect": list(tried.values()),
        "incorrect_images": len(fewer.images) if tried else 0,
        "floor": trainer.floor(splits.test),
        "best_epoch": trainer.best_epoch,
        "images_per_second": steps * recipe.train.batch / (trained - begun),
        "train_s": trainer.seconds,
        "score_s": scored - trained,
    }


def key_of(cell: Cell, seed: int) -> ModelKey:
    """The key of a cell. From the seed, so that everybody gets the same table."""
    return ModelKey(hashlib.sha256(f"table 1/{seed}/{cell.name}".encode()).digest())


def incorrect(cell: Cell, recipe: Recipe, index: int, device: torch.device) -> Any:
    """What one incorrect key does: a whole model key of its own."""
    digest = hashlib.sha256(
        f"incorrect/{index}/{cell.name}/{recipe.train.seed}".encode()
    )
    return condition_of(cell, ModelKey(digest.digest()), device)


def condition_of(cell: Cell, key: ModelKey, device: torch.device) -> Condition:
    """What a key does to the images of a cell's model."""
    if cell.method is None:
        return NO_KEY
    transforms = KeyedTransforms((cell.method,), cell.block_size)
    return keyed(transforms.derive(ModelSubkeys(key, PROTECTION_ID)), device)


class _Trainer:
    """The model of one cell on its way."""

    def __init__(
        self,
        model: nn.Module,
        recipe: Recipe,
        splits: Splits,
        condition: Condition,
        device: torch.device,
    ) -> None:
        self.model, self.recipe, self.splits = model, recipe, splits
        self.condition, self.device = condition, device
        self.normalization: Normalization = normalization_of(recipe.model)
        self.optimizer = new_optimizer(model, recipe.train)
        self.per_epoch = max(1, len(splits.train.images) // recipe.train.batch)
        self.step = self.steps_here = self.best_epoch = 0
        self.seconds = 0.0
        self.best_score = -math.inf
        self.best = self._weights()

    def resume(self, path: Path) -> None:
        """Go on from a checkpoint, where there is one."""
        if not path.exists():
            return
        state = torch.load(path, map_location=self.device, weights_only=True)
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.best = state["best"]
        for name in ("step", "best_epoch", "seconds", "best_score"):
            setattr(self, name, state[name])

    def _save(self, path: Path) -> None:
        state = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "best": self.best,
            "step": self.step,
            "best_epoch": self.best_epoch,
            "seconds": self.seconds,
            "best_score": self.best_score,
        }
        unfinished = path.with_suffix(".part")
        torch.save(state, unfinished)
        unfinished.replace(path)

    def run(self, checkpoint: Path) -> None:
        """Train to the last epoch, and take the epoch that validation chose."""
        begun = saved = time.perf_counter()
        before = self.seconds
        while self.step < self.recipe.train.epochs * self.per_epoch:
            epoch, within = divmod(self.step, self.per_epoch)
            self._learn(epoch, within)
            self.step += 1
            self.steps_here += 1
            if self.step % self.per_epoch == 0:
                self._validate(epoch)
            if time.perf_counter() - saved > CHECKPOINT_S:
                self.seconds = before + time.perf_counter() - begun
                self._save(checkpoint)
                saved = time.perf_counter()
        _synchronize(self.device)
        self.seconds = before + time.perf_counter() - begun
        self._save(checkpoint)
        self.model.load_state_dict(self.best)

    def _learn(self, epoch: int, within: int) -> None:
        spec = self.recipe.train
        order = _generator(spec.seed, epoch, 0)
        length = len(self.splits.train.images)
        chosen = torch.randperm(length, generator=order)[
            within * spec.batch : (within + 1) * spec.batch
        ].to(self.device)
        images, masks = augmented(
            self.splits.train.images[chosen],
            self.splits.train.masks[chosen],
            self.recipe,
            _generator(spec.seed, self.step, 1),
        )
        rate = learning_rate(spec, self.step, steps_per_epoch=self.per_epoch)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["rate_factor"]
        torch.manual_seed(spec.seed * 1_000_003 + self.step)  # dropout
        self.model.train()
        with self._precision():
            output = output_of(self.model, images, self.condition, self.normalization)
        loss = cross_entropy_loss(
            output,
            masks,
            ignore_index=self.recipe.data.ignore_index,
            aux=spec.aux_loss,
        )
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()

    def _validate(self, epoch: int) -> None:
        """Keep the weights of the epoch that the recipe asks for."""
        if self.recipe.train.keep == "best_validation_loss":
            score = -self._loss(self.splits.validation)
        elif self.recipe.train.keep == "last":
            score = float(epoch)
        else:
            found = self.scores(self.splits.validation, {"correct": self.condition})
            score = found["correct"]
        if score > self.best_score:
            self.best_score, self.best_epoch = score, epoch + 1
            self.best = self._weights()

    def _weights(self) -> dict[str, Tensor]:
        return {name: t.clone() for name, t in self.model.state_dict().items()}

    def _precision(self) -> torch.autocast:
        mixed = self.recipe.train.precision == "bf16"
        return torch.autocast(self.device.type, torch.bfloat16, enabled=mixed)

    @torch.inference_mode()
    def _answers(self, images: Tensor, condition: Condition) -> Tensor:
        with self._precision():
            output = output_of(self.model, images, condition, self.normalization)
        return logits_of(output)

    def _loss(self, pairs: Pairs) -> float:
        self.model.eval()
        total = 0.0
        ignored = self.recipe.data.ignore_index
        for images, masks in self._batches(pairs):
            logits = self._answers(images, self.condition).float()
            total += float(F.cross_entropy(logits, masks.long(), ignore_index=ignored))
        return total

    def scores(
        self, pairs: Pairs, conditions: Mapping[str, Condition]
    ) -> dict[str, float]:
        """The mIoU under every condition, over one pool of pixels."""
        self.model.eval()
        count = self._counter()
        totals = {name: count(None, None) for name in conditions}
        for images, masks in self._batches(pairs):
            for name, condition in conditions.items():
                answers = self._answers(images, condition).argmax(1)
                totals[name] += count(answers, masks)
        return {
            name: float(metrics.mean_iou(metrics.counts(total.cpu().numpy())))
            for name, total in totals.items()
        }

    def floor(self, pairs: Pairs) -> float:
        """The mIoU of the best constant answer."""
        total = self._counter()(pairs.masks.clamp(max=0).long(), pairs.masks)
        return metrics.floor_miou(metrics.counts(total.cpu().numpy()))

    def _counter(self) -> Callable[[Tensor | None, Tensor | None], Tensor]:
        classes, ignored = self.recipe.data.classes, self.recipe.data.ignore_index

        def count(answers: Tensor | None, masks: Tensor | None) -> Tensor:
            if answers is None or masks is None:
                return torch.zeros(
                    classes, classes, dtype=torch.int64, device=self.device
                )
            cells = (masks.long() * classes + answers)[masks != ignored]
            counted = torch.bincount(cells, minlength=classes**2)
            return counted.reshape(classes, classes)

        return count

    def _batches(self, pairs: Pairs) -> Any:
        size = self.recipe.audit.batch
        return zip(pairs.images.split(size), pairs.masks.split(size), strict=True)


def augmented(
    images: Tensor, masks: Tensor, recipe: Recipe, draws: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Random resized crops and flips of a batch, on its device.

    Shape:
        images   (N, 3, H, W) uint8
        masks    (N, H, W) uint8
        returns  the same
    """
    spec, count = recipe.data, len(images)

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(count, generator=draws)

    area = uniform(*spec.crop_scale)
    ratio = uniform(math.log(spec.crop_ratio[0]), math.log(spec.crop_ratio[1])).exp()
    width, height = ((area * r).sqrt().clamp(max=1) for r in (ratio, 1 / ratio))
    left, top = (1 - width) * uniform(-1, 1), (1 - height) * uniform(-1, 1)
    flip = torch.where(uniform(0, 1) < spec.flip, -1.0, 1.0)
    zero = torch.zeros(count)
    rows = [width * flip, zero, left, zero, height, top]
    theta = torch.stack(rows, 1).view(count, 2, 3).to(images.device)
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    cropped = F.grid_sample(
        images.float(), grid, padding_mode="border", align_corners=False
    )
    labels = F.grid_sample(
        masks[:, None].float(), grid, "nearest", "border", align_corners=False
    )
    return cropped.round().to(torch.uint8), labels[:, 0].to(torch.uint8)


def _generator(seed: int, number: int, use: int) -> torch.Generator:
    digest = hashlib.sha256(f"{seed}/{number}/{use}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
