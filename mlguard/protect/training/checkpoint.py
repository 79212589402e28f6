"""The state of an unfinished training run, in one safetensors file without pickle.

No random state is kept: the data order, the augmentation and the dropout of a step
are functions of the training secret and the step's number.
"""

import json
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn, optim

from mlguard import recipe
from mlguard.errors import MalformedRun
from mlguard.files import atomic_write
from mlguard.protect.run_folder import contiguous

MODEL = "model."
OPTIMIZER = "optimizer."


@dataclass
class Progress:
    """Where training stands.

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
        """Whether an epoch's weights are the best so far, by what the recipe keeps.

        If they are, the next ones are compared with them. A score that is no number
        is never the best, unless it is the first.
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
    path: Path, progress: Progress, model: nn.Module, optimizer: optim.Optimizer
) -> None:
    """Write the state of a training run, whole or not at all.

    Raises:
        OutputError: There is no space, or the folder is not writable.
    """
    tensors = {MODEL + name: value for name, value in model.state_dict().items()}
    for index, state in optimizer.state_dict()["state"].items():
        for name, value in state.items():
            if isinstance(value, Tensor):
                tensors[f"{OPTIMIZER}{index}.{name}"] = value
    metadata = {"progress": json.dumps(asdict(progress))}
    atomic_write(path, save(contiguous(tensors), metadata))


def read_checkpoint(
    path: Path, model: nn.Module, optimizer: optim.Optimizer
) -> Progress:
    """Load the state of a training run into the model and the optimizer.

    Raises:
        MalformedRun: The file is damaged, or was written for another model.
    """
    try:
        with safe_open(path, framework="pt") as file:
            names = file.keys()  # safe_open is no mapping, though it has keys
            progress = Progress(**json.loads(file.metadata()["progress"]))
            tensors = {name: file.get_tensor(name) for name in names}
        model.load_state_dict(_under(MODEL, tensors))
        state: dict[int, dict[str, Tensor]] = {}
        for name, value in _under(OPTIMIZER, tensors).items():
            index, _, field_name = name.partition(".")
            state.setdefault(int(index), {})[field_name] = value
        groups = optimizer.state_dict()["param_groups"]
        optimizer.load_state_dict({"state": state, "param_groups": groups})
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, RuntimeError):
        raise MalformedRun(
            f"{path} is damaged or belongs to another model",
            hint="delete the run folder and start again",
        ) from None
    return progress


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {
        name.removeprefix(prefix): value
        for name, value in tensors.items()
        if name.startswith(prefix)
    }
