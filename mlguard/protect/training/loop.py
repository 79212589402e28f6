"""Step 5: train a model on images transformed with the key, in one plain loop.

The data's way through a step: augment, transform with the key (batched, on the
device), normalize, predict, learn. Everything random in a step follows from the
training secret and the step's number, so a run that was stopped anywhere and resumed
gives, on a CPU, bit for bit the weights of one that was not.

Accelerate places the model, shares the batches among the processes of `torchrun`,
and mixes precision; the loop itself is plain. `train` comes first, then what it calls,
in the order in which it calls it.
"""

import math
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from mlguard import recipe
from mlguard.data import LabelledSet, TrainingSet
from mlguard.errors import DatasetError, Interrupted, RunError
from mlguard.keys import TrainingSecret
from mlguard.models import Condition, Normalization, logits_of, output_of
from mlguard.models.conditions import blended
from mlguard.protect import run_folder
from mlguard.protect.device import enough_memory
from mlguard.protect.run_folder import Keeper
from mlguard.protect.training.batches import training_loader
from mlguard.protect.training.checkpoint import (
    Progress,
    checkpoint_limit,
    read_checkpoint,
    write_checkpoint,
)
from mlguard.protect.training.curves import draw_curves
from mlguard.protect.training.events import Epoch, Step, Watcher
from mlguard.protect.training.interrupt import stop_on_signal
from mlguard.protect.training.lock_loss import LockLoss
from mlguard.protect.training.loss import cross_entropy_loss
from mlguard.protect.training.optimizer import learning_rate, new_optimizer
from mlguard.protect.training.validate import validate
from mlguard.protect.training.workers import living_workers
from mlguard.recipe import LEAST_BATCH

WATCH_S = 0.5  # seconds between readings of the loss; each waits for the device


@dataclass(frozen=True)
class Training:
    """Everything that one training needs. Only the model's weights change.

    Attributes:
        path: The run folder, with its setup written.
        model: A model that takes normalized pixels (N, 3, H, W) and returns logits (N,
            classes, H, W) or torchvision's {"out": …, "aux": …}.
        data: Augmented training images.
        validation: Images that decide which epoch's weights are kept.
        spec: The recipe's [train] section.
        condition: The key's transforms of images and feature maps, or NO_KEY.
        normalization: The mean and std of the model's initial weights.
        accelerator: From `new_accelerator`.
        secret: The secret that order, crops and dropout are drawn from.
        keeper: Writes and reads the state of an unfinished run.
        watch: Called with steps and epochs, on the main process.
        workers: How many processes make batches for each training process.
        lock: Makes the model useless without the key, if the recipe asks for it.
    """

    path: Path
    model: nn.Module
    data: TrainingSet
    validation: LabelledSet
    spec: recipe.Train
    condition: Condition
    normalization: Normalization
    accelerator: Accelerator
    secret: TrainingSecret
    keeper: Keeper
    watch: Watcher
    workers: int = 0
    lock: LockLoss | None = None

    @property
    def steps_per_epoch(self) -> int:
        """The number of steps in an epoch."""
        return len(self.data) // self.spec.batch


def train(training: Training) -> dict[str, Tensor]:
    """Train a model, write its metrics to a run folder, and return the best weights.

    Only the main process of `torchrun` returns them; the others return nothing.

    If the folder holds a checkpoint, training resumes from it. The last checkpoint
    stays, as the sign of an unfinished run, until `Job` removes it.

    Raises:
        DatasetError: There are fewer images than one batch.
        RunError: The loss became infinite or not a number, the device has too little
            memory, the processes cannot share a batch evenly, or one that makes batches
            died.
        Interrupted: Ctrl-C; the state is saved, and `train` can resume from it.
        TamperedRun: The checkpoint or the best weights were changed.
        OutputError: There is no space, or the folder is not writable.
    """
    spec, accelerator = training.spec, training.accelerator
    check_batch(
        spec.batch,
        images=len(training.data),
        processes=accelerator.num_processes,
    )
    course = Course(training)
    memory = enough_memory("--set train.batch=N")
    with stop_on_signal() as stop, memory, living_workers():
        for images, masks in course.batches:
            course.learn(images, masks)
            course.look()
            if course.at_epoch_end:
                course.finish_epoch()
            stopping = course.save_if_due(stop.requested)
            if stopping and not course.finished:
                raise Interrupted(
                    f"stopped after epoch {course.epochs_done:.2f} of {spec.epochs}; "
                    f"everything so far is saved in {training.path}",
                    hint="resume with the same command and --resume",
                )
    return course.close()


def check_batch(batch: int, *, images: int, processes: int) -> None:
    """Refuse a batch larger than the data set, or one that cannot be shared evenly.

    Raises:
        DatasetError: There are fewer training images than one batch.
        RunError: The processes cannot share a batch evenly.
    """
    if images < batch:
        raise DatasetError(
            f"train.batch is {batch}, but there are only {images} training images",
            hint="lower it with --set train.batch=N"
            if images >= LEAST_BATCH
            else f"training needs at least {LEAST_BATCH} images, the smallest batch",
        )
    if batch % processes:
        raise RunError(
            f"train.batch is {batch}, which {processes} processes cannot share evenly",
            hint="change it with --set train.batch=N, or the number of processes",
        )


class Course:
    """The course of a training: its steps, epochs and saves."""

    def __init__(self, training: Training) -> None:
        self._training, self._spec = training, training.spec
        self._accelerator = accelerator = training.accelerator
        self._task = training.data.base.task
        self._checkpoint = training.path / run_folder.CHECKPOINT
        self._limit = checkpoint_limit(training.model)
        model = training.model.to(accelerator.device)
        model = model.to(memory_format=torch.channels_last)
        optimizer = new_optimizer(model, self._spec)
        resumed = self._checkpoint.exists()
        self._progress = Progress()
        if resumed:
            keeper = training.keeper
            self._progress = read_checkpoint(self._checkpoint, keeper, model, optimizer)
            if self._progress.best is not None:
                self._read_best()
        if accelerator.num_processes > 1 and accelerator.device.type == "cuda":
            model = nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
        accelerator.wait_for_everyone()  # all processes have looked for a checkpoint
        self._model, self._optimizer = accelerator.prepare(model, optimizer)
        if accelerator.scaler is not None and self._progress.scaler:
            accelerator.scaler.load_state_dict(self._progress.scaler)
        self.batches = accelerator.prepare(
            training_loader(
                training.data,
                self._spec,
                seed=training.secret.word("order"),
                first_step=self._progress.step,
                workers=training.workers,
            )
        )
        self._loss_sum = torch.tensor(
            self._progress.loss_sum, dtype=torch.float64, device=accelerator.device
        )
        self._started = self._looked = self._saved = time.monotonic()
        self._first_step = self._progress.step
        self._model.train()
        if not resumed:
            self._save()  # from here on, the folder is marked as unfinished

    @property
    def finished(self) -> bool:
        """Whether every step of every epoch is done."""
        return self._progress.step == self._spec.epochs * self._training.steps_per_epoch

    @property
    def at_epoch_end(self) -> bool:
        """Whether the last step ended an epoch."""
        return self._progress.step % self._training.steps_per_epoch == 0

    @property
    def epochs_done(self) -> float:
        """The number of epochs done, with a fraction."""
        return self._progress.step / self._training.steps_per_epoch

    def learn(self, images: Tensor, masks: Tensor) -> None:
        """Do one step: transform, normalize, predict, learn."""
        training, spec, step = self._training, self._spec, self._progress.step
        rate = learning_rate(spec, step, steps_per_epoch=training.steps_per_epoch)
        for group in self._optimizer.param_groups:
            group["lr"] = rate * group["rate_factor"]
        torch.manual_seed(
            step_seed(training.secret, step, self._accelerator.process_index)
        )
        condition = blended(training.condition, self._ramped(spec.ramp_epochs))
        output = output_of(self._model, images, condition, training.normalization)
        loss = cross_entropy_loss(
            output, masks, ignore_index=self._task.ignore_index, aux=spec.aux_loss
        )
        if training.lock is not None:
            share = self._ramped(training.lock.spec.ramp_epochs)
            useless = training.lock.loss(self._model, images, logits_of(output), step)
            loss = loss + share * useless
        self._optimizer.zero_grad()
        self._accelerator.backward(loss)
        self._optimizer.step()
        self._loss_sum += loss.detach()
        self._progress.step += 1

    def _ramped(self, epochs: float) -> float:
        """Return how far a ramp of so many epochs has come, in [0, 1]."""
        steps = epochs * self._training.steps_per_epoch
        return min(1.0, self._progress.step / steps) if steps else 1.0

    def look(self) -> None:
        """Report the epoch's progress to the watcher, if the last report is old."""
        now = time.monotonic()
        if now - self._looked < WATCH_S or not self._accelerator.is_main_process:
            return
        self._looked = now
        steps, epochs = self._training.steps_per_epoch, self._spec.epochs
        done = self._progress.step - self._first_step
        left = epochs * steps - self._progress.step
        epoch, step = divmod(self._progress.step - 1, steps)
        self._training.watch(
            Step(
                epoch=epoch + 1,
                epochs=epochs,
                step=step + 1,
                steps=steps,
                loss=float(self._loss_sum) / (step + 1),
                seconds_left=(now - self._started) / done * left,
            )
        )

    def finish_epoch(self) -> None:
        """Validate, keep the weights if they are the best so far, and report it."""
        training = self._training
        mean = self._accelerator.reduce(self._loss_sum, reduction="mean")
        train_loss = float(mean) / training.steps_per_epoch
        self._loss_sum.zero_()
        epoch = self._progress.step // training.steps_per_epoch
        if not math.isfinite(train_loss):
            raise RunError(
                f"the loss is not a finite number in epoch {epoch}",
                hint="lower it with --set train.learning_rate=…",
            )
        line = {
            "epoch": epoch,
            "learning_rate": self._optimizer.param_groups[-1]["lr"],
            "train_loss": train_loss,
            **validate(
                self._model,
                training.validation,
                condition=training.condition,
                normalization=training.normalization,
                accelerator=self._accelerator,
                batch=self._spec.batch,
            ),
            "seconds": round(time.monotonic() - self._started, 1),
        }
        self._progress.metrics.append(line)
        better = self._progress.improves(line, self._spec)
        if self._accelerator.is_main_process:
            if better:
                kept = self._accelerator.unwrap_model(self._model)
                best = training.path / run_folder.BEST
                training.keeper.write(best, kept.state_dict())
            metrics = training.path / run_folder.METRICS
            run_folder.write_metrics(metrics, self._progress.metrics)
            training.watch(Epoch(epochs=self._spec.epochs, metrics=line))

    def save_if_due(self, stop_requested: bool) -> bool:
        """Write a checkpoint if it is due; return whether any process wants to stop."""
        late = time.monotonic() - self._saved > self._spec.checkpoint_s
        stopping, late = self._any_process(stop_requested, late)
        if stopping or late or self.at_epoch_end:
            self._save()
        return stopping

    def _any_process(self, *flags: bool) -> list[bool]:
        """Return each flag, true if it is true in any process."""
        if self._accelerator.num_processes == 1:
            return list(flags)
        own = torch.tensor(flags, dtype=torch.int32, device=self._accelerator.device)
        return [bool(flag) for flag in self._accelerator.reduce(own, reduction="sum")]

    def _save(self) -> None:
        # Of all processes: each goes on from the sum that one of them wrote.
        mean = self._accelerator.reduce(self._loss_sum, reduction="mean")
        self._loss_sum = mean.clone()
        self._progress.loss_sum = float(mean)
        if self._accelerator.scaler is not None:
            self._progress.scaler = self._accelerator.scaler.state_dict()
        if self._accelerator.is_main_process:
            model = self._accelerator.unwrap_model(self._model)
            write_checkpoint(
                self._checkpoint,
                self._training.keeper,
                self._progress,
                model,
                self._optimizer.optimizer,
            )
        self._accelerator.wait_for_everyone()
        self._saved = time.monotonic()

    def close(self) -> dict[str, Tensor]:
        """Draw the curves, and return the best weights, on the main process.

        The checkpoint stays; the caller removes it.
        """
        best: dict[str, Tensor] = {}
        self._accelerator.wait_for_everyone()
        if self._accelerator.is_main_process:
            curves = self._training.path / run_folder.CURVES
            draw_curves(curves, self._progress.metrics, self._task)
            best = self._read_best()
        self._accelerator.wait_for_everyone()
        return best

    def _read_best(self) -> dict[str, Tensor]:
        """Return the best weights so far, if this run wrote them."""
        file = self._training.path / run_folder.BEST
        return self._training.keeper.read(file, limit=self._limit)[0]


def step_seed(secret: TrainingSecret, step: int, process: int) -> int:
    """Return the seed of everything random in one step of one process."""
    return secret.word(f"step/{step}/{process}")
