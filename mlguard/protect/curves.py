"""The metrics of a run as a picture."""

import io
from pathlib import Path
from typing import Any

from mlguard.files import atomic_write


def draw_curves(path: Path, lines: list[dict[str, Any]]) -> None:
    """Draw loss and mIoU by epoch.

    Args:
        path: The PNG to write.
        lines: The lines of metrics.jsonl.

    Raises:
        OutputError: There is no space, or the folder is not writable.
    """
    from matplotlib.figure import Figure  # half a second that a short run can spare

    epochs = [line["epoch"] for line in lines]
    figure = Figure(figsize=(9, 3.5), layout="constrained")
    loss, miou = figure.subplots(1, 2)
    for name in ("train_loss", "validation_loss"):
        loss.plot(epochs, [line[name] for line in lines], label=name.replace("_", " "))
    loss.set(xlabel="epoch", ylabel="cross-entropy, nats")
    loss.legend(frameon=False)
    miou.plot(epochs, [line["validation_miou"] for line in lines], color="tab:green")
    miou.set(xlabel="epoch", ylabel="validation mIoU", ylim=(0, 1))
    for axes in (loss, miou):
        axes.spines[["top", "right"]].set_visible(False)
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=120)
    atomic_write(path, picture.getvalue())
