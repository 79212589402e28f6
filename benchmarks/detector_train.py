"""Train a detector, plainly or under a key; a stopped training goes on."""

from pathlib import Path

import numpy as np
import torch
from detector_data import VIEWS
from detector_model import Target, Views, learning, losses_of
from torchvision.models.detection.ssd import SSD

from mlguard.protect import permuted
from mlguard.transforms import ChannelPermutation

BATCH, RATE, DECAY = 32, 1e-3, 1e-2
WARM = 0.1  # share of the steps in which the rate rises
LARGEST = 10.0  # norm of the gradients
Permutations = tuple[ChannelPermutation, ...]


def train(
    model: SSD,
    views: Views | None,
    permutations: Permutations,
    *,
    epochs: int,
    seed: int,
    kept: Path,
    most: int | None = None,
) -> None:
    """Train a detector, or go on with it, or take what was trained.

    Args:
        model: As it starts.
        views: Of every image, V rows in a row, V the same for all; None if finished.
        permutations: In force while it is trained.
        epochs: How often every image is shown, in a view drawn each time.
        seed: Of the draws.
        kept: The file of weights after the last epoch.
        most: The epoch to stop after, for now; None for all.
    """
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=DECAY)
    done = 0
    if kept.exists():
        state = torch.load(kept, weights_only=True)
        done = state["epochs"]
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
    if views is None:
        return
    model.to(memory_format=torch.channels_last)
    for epoch in range(done, most or epochs):
        loss = _epoch(model, optimizer, views, permutations, epoch, epochs, seed)
        state = {
            "epochs": epoch + 1,
            "model": model.state_dict(),
            "optimizer": optimizer.state_dict(),
        }
        torch.save(state, kept.with_suffix(".part"))
        kept.with_suffix(".part").replace(kept)
        print(f"{kept.stem}: epoch {epoch + 1}, loss {loss:.3f}", flush=True)


def _epoch(
    model: SSD,
    optimizer: torch.optim.Optimizer,
    views: Views,
    permutations: Permutations,
    epoch: int,
    epochs: int,
    seed: int,
) -> float:
    draws = torch.Generator().manual_seed(1000 * seed + epoch)
    images = len(views.targets) // VIEWS
    rows = torch.randperm(images, generator=draws) * VIEWS
    rows = rows + torch.randint(VIEWS, (images,), generator=draws)
    batches = [part for part in rows.split(BATCH) if len(part) > 1]  # batch norms
    losses = []
    learning(model)
    with permuted(model, permutations):
        for step, part in enumerate(batches):
            progress = (epoch + step / len(batches)) / epochs
            for group in optimizer.param_groups:
                group["lr"] = RATE * min(progress / WARM, (1 - progress) / (1 - WARM))
            features = views.features[part].float()
            features = features.contiguous(memory_format=torch.channels_last)
            targets: list[Target] = [views.targets[row] for row in part.tolist()]
            loss = losses_of(model, features, targets, views.side)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), LARGEST)
            optimizer.step()
            losses.append(float(loss.detach()))
    return float(np.mean(losses))


def finished(kept: Path, epochs: int) -> bool:
    """Whether a file holds the weights of the last epoch."""
    if not kept.exists():
        return False
    return bool(torch.load(kept, weights_only=True)["epochs"] >= epochs)
