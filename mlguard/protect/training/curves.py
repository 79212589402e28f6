"""Draw the metrics of a run."""

import io
from pathlib import Path
from typing import Any

from mlguard.files import atomic_write
from mlguard.protect.run_folder import PRIVATE
from mlguard.protect.training.validate import validation_score_name
from mlguard.tasks import Task


def draw_curves(path: Path, lines: list[dict[str, Any]], task: Task) -> None:
    """Draw loss and score by epoch.

    Args:
        path: The PNG to write.
        lines: The lines of metrics.jsonl.
        task: The task, which names the score.

    Raises:
        OutputError: There is no space, or the folder is not writable.
    """
    from matplotlib.figure import Figure  # half a second saved for short runs

    epochs = [line["epoch"] for line in lines]
    figure = Figure(figsize=(9, 3.5), layout="constrained")
    loss, score = figure.subplots(1, 2)
    for name in ("train_loss", "validation_loss"):
        loss.plot(epochs, [line[name] for line in lines], label=name.replace("_", " "))
    loss.set(xlabel="epoch", ylabel="cross-entropy, nats")
    loss.legend(frameon=False)
    name = validation_score_name(task)
    score.plot(epochs, [line[name] for line in lines], color="tab:green")
    score.set(xlabel="epoch", ylabel=f"validation {task.score_name}", ylim=(0, 1))
    for axes in (loss, score):
        axes.spines[["top", "right"]].set_visible(False)
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=120)
    atomic_write(path, picture.getvalue(), mode=PRIVATE)
