"""Step 5: train a model on images that the key has transformed, in one plain loop.

The data's way through a step: augment, transform with the key (batched, on the
device), normalize, predict, learn. Everything random in a step follows from the
training secret and the step's number, so a run that was stopped anywhere and resumed
gives, on a CPU, bit for bit the weights of one that was not.

Accelerate places the model, shares the batches among the processes of `torchrun`,
and mixes precision; the loop itself is plain.
"""

from pathlib import Path

from accelerate import Accelerator
from torch import nn

from mlguard import recipe
from mlguard.data import LabelledSet, TrainingSet
from mlguard.errors import DatasetError, Interrupted, RunError
from mlguard.keys import TrainingSecret
from mlguard.models import Condition, Normalization
from mlguard.protect.device import enough_memory
from mlguard.protect.interrupt import stop_on_signal
from mlguard.protect.lock import Lock
from mlguard.protect.training import Training, Watcher


def train(
    path: Path,
    model: nn.Module,
    data: TrainingSet,
    validation: LabelledSet,
    *,
    spec: recipe.Train,
    condition: Condition,
    normalization: Normalization,
    accelerator: Accelerator,
    watch: Watcher,
    secret: TrainingSecret,
    workers: int = 0,
    lock: Lock | None = None,
) -> None:
    """Train a model and leave its weights and metrics in a run folder.

    If the folder holds a checkpoint, training goes on from it. The last checkpoint
    stays, as the sign of an unfinished run: `Job` takes it away.

    Args:
        path: The run folder, with its setup written.
        model: Takes normalized pixels (N, 3, H, W), gives logits (N, classes, H, W)
            or torchvision's {"out": …, "aux": …}.
        data: Augmented training images.
        validation: Images that choose which epoch's weights are kept.
        spec: The recipe's [train] section.
        condition: What the key does to images and feature maps, or NO_KEY.
        normalization: The mean and std of the model's starting weights.
        accelerator: From `new_accelerator`.
        watch: Told about steps and epochs, on the main process.
        secret: What order, crops and dropout are drawn from.
        workers: Processes that make batches, beside each training process.
        lock: Makes the model useless without the key, if the recipe asks for it.

    Raises:
        DatasetError: There are fewer images than one batch.
        RunError: The loss became infinite or not a number, or the device has too
            little memory, or the processes cannot share a batch evenly.
        Interrupted: Ctrl-C; the state is saved and `train` goes on from it.
        MalformedRun: The checkpoint is damaged.
        OutputError: There is no space, or the folder is not writable.
    """
    check_batch(spec.batch, images=len(data), processes=accelerator.num_processes)
    training = Training(
        path,
        model,
        data,
        spec,
        condition,
        normalization,
        accelerator,
        secret,
        workers,
        lock,
    )
    with stop_on_signal() as stop, enough_memory("--set train.batch=N"):
        for images, masks in training.loader:
            training.learn(images, masks)
            training.look(watch)
            if training.at_epoch_end:
                training.finish_epoch(validation, watch)
            stopping = training.save_if_due(stop.requested)
            if stopping and not training.finished:
                raise Interrupted(
                    f"stopped after epoch {training.epochs_done:.2f} of {spec.epochs}; "
                    f"everything so far is saved in {path}",
                    hint="go on with the same command and --resume",
                )
    training.close()


def check_batch(batch: int, *, images: int, processes: int) -> None:
    """Refuse a batch that there are too few images for, or that cannot be shared.

    Raises:
        DatasetError: There are fewer training images than one batch.
        RunError: The processes cannot share a batch evenly.
    """
    if images < batch:
        raise DatasetError(
            f"train.batch is {batch}, but there are {images} training images",
            hint="lower it with --set train.batch=N",
        )
    if batch % processes:
        raise RunError(
            f"train.batch is {batch}, which {processes} processes cannot share evenly",
            hint="change it with --set train.batch=N, or the number of processes",
        )
