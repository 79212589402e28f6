"""The state of an unfinished training run, in one authenticated file.

No random state is kept: the data order, the augmentation and the dropout of a step
are functions of the training secret and the step's number.
"""

import json
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor, nn, optim

from mlguard import recipe
from mlguard.errors import MalformedRun
from mlguard.protect.run_folder import Keeper, size_of

MODEL = "model."
OPTIMIZER = "optimizer."
OPTIMIZER_STATES = 3  # at most, for each number of the model
NOTES_BYTES = 1 << 26  # names of tensors, and a line for every epoch


@dataclass
class Progress:
    """The progress of a training.

    Attributes:
        step: Steps done, over all epochs.
        loss_sum: Sum of the losses of the current epoch's steps.
        best: The best validation score so far; lower is better. None before the first.
        metrics: One line of numbers for each finished epoch.
        scaler: The loss scaler's state, for fp16.
    """

    step: int = 0
    loss_sum: float = 0.0
    best: float | None = None
    metrics: list[dict[str, Any]] = field(default_factory=list)
    scaler: dict[str, Any] = field(default_factory=dict)

    def improves(self, line: dict[str, Any], spec: recipe.Train) -> bool:
        """Whether an epoch's weights are the best so far, by the recipe's `keep`.

        If they are, later ones are compared with them. A score that is not a number is
        never the best, unless it is the first.
        """
        score = {
            "best_validation_loss": line["validation_loss"],
            "best_validation_miou": -line.get("validation_miou", math.nan),
            "best_validation_accuracy": -line.get("validation_accuracy", math.nan),
            "last": -line["epoch"],
        }[spec.keep]
        score = math.inf if math.isnan(score) else score
        if self.best is not None and score >= self.best:
            return False
        self.best = score
        return True


def write_checkpoint(
    path: Path,
    keeper: Keeper,
    progress: Progress,
    model: nn.Module,
    optimizer: optim.Optimizer,
) -> None:
    """Write the state of a training run, completely or not at all.

    Raises:
        OutputError: There is no space, or the folder is not writable.
    """
    tensors = {MODEL + name: value for name, value in model.state_dict().items()}
    for index, state in optimizer.state_dict()["state"].items():
        for name, value in state.items():
            if isinstance(value, Tensor):
                tensors[f"{OPTIMIZER}{index}.{name}"] = value
    keeper.write(path, tensors, json.dumps(asdict(progress)))


def read_checkpoint(
    path: Path, keeper: Keeper, model: nn.Module, optimizer: optim.Optimizer
) -> Progress:
    """Load the state of a training run into the model and the optimizer.

    Raises:
        TamperedRun: It was changed after this run wrote it.
        MalformedRun: It cannot be read, or was written for another model.
    """
    tensors, note = keeper.read(path, limit=checkpoint_limit(model))
    try:
        progress = Progress(**json.loads(note))
        model.load_state_dict(_under(MODEL, tensors))
        state: dict[int, dict[str, Tensor]] = {}
        for name, value in _under(OPTIMIZER, tensors).items():
            index, _, field_name = name.partition(".")
            state.setdefault(int(index), {})[field_name] = value
        groups = optimizer.state_dict()["param_groups"]
        optimizer.load_state_dict({"state": state, "param_groups": groups})
    except (KeyError, TypeError, ValueError, RuntimeError):
        raise MalformedRun(
            f"{path} belongs to another model",
            hint="the code of the model or the version of mlguard has changed since "
            "the run was begun; begin again in another folder",
        ) from None
    return progress


def checkpoint_limit(model: nn.Module) -> int:
    """Return the most bytes that a checkpoint may have: model, optimizer and notes."""
    return (1 + OPTIMIZER_STATES) * size_of(model) + NOTES_BYTES


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {
        name.removeprefix(prefix): value
        for name, value in tensors.items()
        if name.startswith(prefix)
    }
