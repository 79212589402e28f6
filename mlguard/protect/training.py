"""The state of one training run, and what a step, an epoch and a save do to it.

`loop.py` puts these in order; here is how each is done. Knows no recipe but [train].
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from mlguard import recipe
from mlguard.data import LabelledSet, TrainingSet
from mlguard.errors import RunError
from mlguard.keys import TrainingSecret
from mlguard.models import Condition, Normalization, logits_of, output_of
from mlguard.models.conditions import blended
from mlguard.protect import run as folder
from mlguard.protect.batches import training_loader
from mlguard.protect.checkpoint import Progress, read_checkpoint, write_checkpoint
from mlguard.protect.curves import draw_curves
from mlguard.protect.learn import cross_entropy_loss, new_optimizer, step_seed
from mlguard.protect.lock import Lock
from mlguard.protect.schedule import learning_rate
from mlguard.protect.validate import validate

WATCH_S = 0.5  # seconds between two looks at the loss; each look waits for the device


@dataclass(frozen=True)
class Step:
    """What a watcher is told now and then within an epoch."""

    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float
    seconds_left: float


@dataclass(frozen=True)
class Epoch:
    """What a watcher is told after every epoch: the line of metrics.jsonl."""

    epochs: int
    metrics: dict[str, Any]


Watcher = Callable[[Step | Epoch], None]


class Training:
    """The state of one training run and what can be done to it, in the loop's order."""

    def __init__(
        self,
        path: Path,
        model: nn.Module,
        data: TrainingSet,
        spec: recipe.Train,
        condition: Condition,
        normalization: Normalization,
        accelerator: Accelerator,
        secret: TrainingSecret,
        workers: int,
        lock: Lock | None,
    ) -> None:
        self.secret = secret
        self.lock = lock
        self.path, self.spec, self.accelerator = path, spec, accelerator
        self.condition, self.normalization = condition, normalization
        self.task = data.base.task
        self.steps_per_epoch = len(data) // spec.batch
        self.checkpoint = path / folder.CHECKPOINT
        model = model.to(accelerator.device).to(memory_format=torch.channels_last)
        optimizer = new_optimizer(model, spec)
        resumed = self.checkpoint.exists()
        self.progress = (
            read_checkpoint(self.checkpoint, model, optimizer)
            if resumed
            else Progress()
        )
        if accelerator.num_processes > 1 and accelerator.device.type == "cuda":
            model = nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
        accelerator.wait_for_everyone()  # all have looked for a checkpoint
        self.model, self.optimizer = accelerator.prepare(model, optimizer)
        if accelerator.scaler is not None and self.progress.scaler:
            accelerator.scaler.load_state_dict(self.progress.scaler)
        self.loader = accelerator.prepare(
            training_loader(
                data,
                spec,
                seed=secret.word("order"),
                first_step=self.progress.step,
                workers=workers,
            )
        )
        self.loss_sum = torch.tensor(
            self.progress.loss_sum, dtype=torch.float64, device=accelerator.device
        )
        self.started = self.looked = self.saved = time.monotonic()
        self.first_step = self.progress.step
        self.model.train()
        if not resumed:
            self._save()  # from here on the folder says that it is unfinished

    @property
    def finished(self) -> bool:
        """Whether every step of every epoch is done."""
        return self.progress.step == self.spec.epochs * self.steps_per_epoch

    @property
    def at_epoch_end(self) -> bool:
        """Whether the last step ended an epoch."""
        return self.progress.step % self.steps_per_epoch == 0

    @property
    def epochs_done(self) -> float:
        """Epochs done, as a fraction."""
        return self.progress.step / self.steps_per_epoch

    def learn(self, images: Tensor, masks: Tensor) -> None:
        """One step: transform, normalize, predict, learn."""
        step = self.progress.step
        rate = learning_rate(self.spec, step, steps_per_epoch=self.steps_per_epoch)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["rate_factor"]
        torch.manual_seed(step_seed(self.secret, step, self.accelerator.process_index))
        share = self._ramped(self.spec.ramp_epochs)
        condition = blended(self.condition, share)
        output = output_of(self.model, images, condition, self.normalization)
        loss = cross_entropy_loss(
            output, masks, ignore_index=self.task.ignore_index, aux=self.spec.aux_loss
        )
        if self.lock is not None:
            share = self._ramped(self.lock.spec.ramp_epochs)
            logits = logits_of(output)
            loss = loss + share * self.lock.loss(self.model, images, logits, step)
        self.optimizer.zero_grad()
        self.accelerator.backward(loss)
        self.optimizer.step()
        self.loss_sum += loss.detach()
        self.progress.step += 1

    def _ramped(self, epochs: float) -> float:
        """How far a ramp of so many epochs has come, in [0, 1]."""
        steps = epochs * self.steps_per_epoch
        return min(1.0, self.progress.step / steps) if steps else 1.0

    def look(self, watch: Watcher) -> None:
        """Tell the watcher how the epoch goes, if it has not heard for a while."""
        now = time.monotonic()
        if now - self.looked < WATCH_S or not self.accelerator.is_main_process:
            return
        self.looked = now
        done = self.progress.step - self.first_step
        left = self.spec.epochs * self.steps_per_epoch - self.progress.step
        step = (self.progress.step - 1) % self.steps_per_epoch + 1
        watch(
            Step(
                epoch=(self.progress.step - 1) // self.steps_per_epoch + 1,
                epochs=self.spec.epochs,
                step=step,
                steps=self.steps_per_epoch,
                loss=float(self.loss_sum) / step,
                seconds_left=(now - self.started) / done * left,
            )
        )

    def finish_epoch(self, validation: LabelledSet, watch: Watcher) -> None:
        """Validate, keep the weights if they are the best so far, say so."""
        mean = self.accelerator.reduce(self.loss_sum, reduction="mean")
        train_loss = float(mean) / self.steps_per_epoch
        self.loss_sum.zero_()
        epoch = self.progress.step // self.steps_per_epoch
        if not math.isfinite(train_loss):
            raise RunError(
                f"the loss is not a finite number in epoch {epoch}",
                hint="lower it with --set train.learning_rate=…",
            )
        line = {
            "epoch": epoch,
            "learning_rate": self.optimizer.param_groups[-1]["lr"],
            "train_loss": train_loss,
            **validate(
                self.model,
                validation,
                condition=self.condition,
                normalization=self.normalization,
                accelerator=self.accelerator,
                batch=self.spec.batch,
            ),
            "seconds": round(time.monotonic() - self.started, 1),
        }
        self.progress.metrics.append(line)
        better = self._is_better(line)
        if self.accelerator.is_main_process:
            if better:
                plain = self.accelerator.unwrap_model(self.model)
                folder.write_model(self.path / folder.MODEL, plain)
            folder.write_metrics(self.path / folder.METRICS, self.progress.metrics)
            watch(Epoch(epochs=self.spec.epochs, metrics=line))

    def save_if_due(self, stop_requested: bool) -> bool:
        """Write a checkpoint when it is time. Whether any process wants to stop."""
        late = time.monotonic() - self.saved > self.spec.checkpoint_s
        stopping, late = self._any_process(stop_requested, late)
        if stopping or late or self.at_epoch_end:
            self._save()
        return stopping

    def close(self) -> None:
        """Draw the curves. The checkpoint stays; whoever asked for training ends it."""
        self.accelerator.wait_for_everyone()
        if self.accelerator.is_main_process:
            draw_curves(self.path / folder.CURVES, self.progress.metrics, self.task)
        self.accelerator.wait_for_everyone()

    def _save(self) -> None:
        self.progress.loss_sum = float(self.loss_sum)
        if self.accelerator.scaler is not None:
            self.progress.scaler = self.accelerator.scaler.state_dict()
        if self.accelerator.is_main_process:
            model = self.accelerator.unwrap_model(self.model)
            write_checkpoint(
                self.checkpoint, self.progress, model, self.optimizer.optimizer
            )
        self.accelerator.wait_for_everyone()
        self.saved = time.monotonic()

    def _is_better(self, line: dict[str, Any]) -> bool:
        score = {
            "best_validation_loss": line["validation_loss"],
            "best_validation_miou": -line.get("validation_miou", math.nan),
            "best_validation_accuracy": -line.get("validation_accuracy", math.nan),
            "last": -line["epoch"],
        }[self.spec.keep]
        score = math.inf if math.isnan(score) else score
        if self.progress.best is not None and score >= self.progress.best:
            return False
        self.progress.best = score
        return True

    def _any_process(self, *flags: bool) -> list[bool]:
        """Each flag, true if it is true in any process, so that all do the same."""
        if self.accelerator.num_processes == 1:
            return list(flags)
        own = torch.tensor(flags, dtype=torch.int32, device=self.accelerator.device)
        return [bool(flag) for flag in self.accelerator.reduce(own, reduction="sum")]
