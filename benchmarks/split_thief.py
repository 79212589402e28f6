"""The thief of a split model's host, and whoever has the same labels and no host.

He has the public weights, the host's memory and traffic, some labelled images, and
others of his own without labels. The host's memory is a download, so all but the
traffic is open to everybody, and is the control:

slices      trains slices of his own beside the public backbone
whole       trains everything from the public weights
unlabelled  as slices, and then on his other images too, where he is sure
traffic     as slices, and then on all images that the host has seen, where he is sure

The last two take as many steps as the first.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mlguard.data import LabelledSet, open_split
from mlguard.models import build_model, normalization_of
from mlguard.models.split import GIGABYTE, Sliced
from mlguard.recipe import Recipe

STEPS = {"slices": 400, "whole": 200, "unlabelled": 200, "traffic": 200}
RATES = {way: (1e-3, 3e-3) for way in STEPS} | {"whole": (3e-4, 1e-3)}
CONTROLS = ("slices", "whole", "unlabelled")
MORE = {"unlabelled": "validation", "traffic": "train"}  # where images are from
BATCH = 16
# Images (N, 3, H, W) uint8, and masks (N, H, W) or of a classification classes (N,).
Pool = tuple[Tensor, Tensor]
SURE = 0.9  # probability above which the thief believes himself


@dataclass(frozen=True)
class Thief:
    """Trains without the private half.

    Attributes:
        recipe: Of the split model; it names the public weights.
        data: The data set's folder; the labels are of its validation split.
        host: What he trains beside, with slices that know nothing; None for the public
            backbone, which everybody has.
    """

    recipe: Recipe
    data: Path
    host: Callable[[], Sliced] | None = None

    def train(self, way: str, pool: Pool, rate: float) -> Sliced:
        """Train in one way, on the labels of a pool, with one learning rate."""
        model = self.public_model() if self.host is None else self.host()
        if way == "whole":
            model.thaw()
            self.teach(model, pool, STEPS[way], rate)
            return model
        alone = STEPS["slices"] - (STEPS[way] if way in MORE else 0)
        with model.remembering(GIGABYTE):
            self.teach(model, pool, alone, rate)
            if way in MORE:
                seen = self.split(MORE[way])
                shown = torch.stack([seen[row][0] for row in range(len(seen))])
                both = torch.cat((pool[0], shown))
                truth = torch.cat((pool[1], self.believed(model, shown)))
                self.teach(model, (both, truth), STEPS[way], rate)
        return model

    def public_model(self) -> Sliced:
        """Return what the host's memory holds, and slices that know nothing."""
        torch.manual_seed(1000 + self.recipe.train.seed)
        model = build_model(self.recipe.model, self.recipe.data.classes)
        assert isinstance(model, Sliced)
        return model

    def split(self, name: str) -> LabelledSet:
        seed = self.recipe.train.seed
        return open_split(self.recipe.data, self.data, name, seed=seed)

    def teach(self, model: Sliced, pool: Pool, steps: int, rate: float) -> None:
        images, truths = pool
        draws = torch.Generator().manual_seed(self.recipe.train.seed)
        learned = [one for one in model.parameters() if one.requires_grad]
        optimizer = torch.optim.AdamW(learned, lr=rate, weight_decay=1e-2)
        normalization = normalization_of(self.recipe.model)
        model.train()
        for step in range(steps):
            for group in optimizer.param_groups:
                group["lr"] = rate * (1 - step / steps)
            rows = torch.randint(len(images), (BATCH,), generator=draws)
            flip = torch.randint(2, (BATCH,), generator=draws).bool()
            shown, truth = mirrored(images[rows], flip), truths[rows]
            truth = mirrored(truth, flip) if truth.ndim > 1 else truth
            ignored = self.recipe.data.ignore_index
            if (truth == ignored).all():  # he is sure of none
                continue
            logits = model(normalization(shown.float() / 255))
            loss = F.cross_entropy(logits, truth.long(), ignore_index=ignored)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        model.eval()

    @torch.inference_mode()
    def believed(self, model: Sliced, images: Tensor) -> Tensor:
        """Return the thief's own answers, and nothing where he is not sure."""
        normalization = normalization_of(self.recipe.model)
        found = []
        for part in images.split(BATCH):
            chances = model(normalization(part.float() / 255)).softmax(1)
            sure, classes = chances.max(1)
            unknown = self.recipe.data.ignore_index
            found.append(classes.masked_fill(sure < SURE, unknown).to(torch.uint8))
        return torch.cat(found)


def spread(images: LabelledSet, labels: int) -> Pool:
    """Images and their truth from all over a split: neighbours may be of one film."""
    if labels > len(images):
        raise SystemExit(f"{labels} labels: there are {len(images)} images")
    rows = np.linspace(0, len(images) - 1, labels).round().astype(int)
    pairs = [images[int(row)] for row in rows]
    return torch.stack([a for a, _ in pairs]), torch.stack([b for _, b in pairs])


def mirrored(batch: Tensor, flip: Tensor) -> Tensor:
    batch = batch.clone()
    batch[flip] = batch[flip].flip(-1)
    return batch
