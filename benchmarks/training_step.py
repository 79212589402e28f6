"""One step of training, as `mlguard protect` makes it, for what measures steps."""

from collections.abc import Callable

import torch

from mlguard.models import Condition
from mlguard.protect.key_work import blank_model
from mlguard.protect.training import cross_entropy_loss, new_optimizer
from mlguard.recipe import Recipe

Step = Callable[[torch.Tensor, torch.Tensor], None]


def step_of(recipe: Recipe, condition: Condition) -> Step:
    """A new model of a recipe, as a function of images and masks that trains it.

    Shape:
        images  (N, 3, H, W) uint8
        masks   (N, H, W), or (N,) of classes, int64
    """
    model = blank_model(recipe).train()
    optimizer = new_optimizer(model, recipe.train)

    def step(images: torch.Tensor, masks: torch.Tensor) -> None:
        optimizer.zero_grad(set_to_none=True)
        output = model(condition.image(images) * 2 - 1)
        loss = cross_entropy_loss(
            output, masks, ignore_index=255, aux=recipe.train.aux_loss
        )
        loss.backward()
        optimizer.step()

    return step
