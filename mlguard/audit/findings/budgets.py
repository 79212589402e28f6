"""The budgets of adversaries, in one table, repeated in docs/audit.md.

A budget counts guesses, steps and images, never seconds, so that the same seed gives
the same findings on a slow machine and on a fast one.
"""

from dataclasses import dataclass
from typing import Literal

BudgetName = Literal["quick", "standard", "thorough"]


@dataclass(frozen=True, kw_only=True)
class Budget:
    """The limits of every attack.

    Attributes:
        search_images: How many images judge a guess of the key.
        unlabelled: How many images a gradient uses if no label is needed.
        guesses: How many keys each search tries, for each objective.
        starts: How many random keys a step-by-step search may start from.
        labelled: The numbers of labelled images for re-training.
        labelled_share: Another number, as a share of the model's training images; 0 for
            none.
        steps: Steps of each training, of 16 images each.
        rates: Learning rates to train everything; the best one counts.
        adapter_rates: The same for an adapter.
        initial_seeds: How many seeds' initial weights are drawn.
        patient_labelled: With how many labelled images it is re-trained for long.
        patient_steps: Steps of such a training; 0 for none.
        patient_rates: Learning rates that a tenth of the steps is tried with each.
    """

    search_images: int
    unlabelled: int
    guesses: int
    starts: int
    labelled: tuple[int, ...]
    labelled_share: float = 0.0
    steps: int
    rates: tuple[float, ...]
    adapter_rates: tuple[float, ...]
    initial_seeds: int = 10_000
    patient_labelled: tuple[int, ...] = (1, 4, 16, 64, 500)
    patient_steps: int = 0
    patient_rates: tuple[float, ...] = (3e-4, 1e-3, 3e-3)


def share_of(share: float, trained_on: int) -> int:
    """Return the number of labels that `labelled_share` stands for.

    Args:
        share: The `labelled_share` of a budget.
        trained_on: How many images the model was trained on; 0 if unknown.
    """
    return round(share * trained_on)


BUDGETS: dict[BudgetName, Budget] = {
    # about 5 minutes of one core for a model like the demo's
    "quick": Budget(
        search_images=16,
        unlabelled=64,
        guesses=1500,
        starts=4,
        labelled=(4, 16),
        steps=100,
        rates=(2e-3,),
        adapter_rates=(1e-2,),
    ),
    # an hour and a half
    "standard": Budget(
        search_images=16,
        unlabelled=64,
        guesses=15_000,
        starts=8,
        labelled=(1, 4, 16, 64),
        labelled_share=0.1,
        steps=400,
        rates=(1e-3, 3e-3),
        adapter_rates=(3e-3, 1e-2),
        patient_steps=2000,
    ),
    # days, or a GPU
    "thorough": Budget(
        search_images=64,
        unlabelled=256,
        guesses=60_000,
        starts=32,
        labelled=(1, 4, 16, 64, 256),
        labelled_share=0.1,
        steps=2000,
        rates=(3e-4, 1e-3, 3e-3),
        adapter_rates=(1e-3, 3e-3, 1e-2),
        patient_steps=10_000,
        patient_rates=(1e-4, 3e-4, 1e-3, 3e-3),
    ),
}
