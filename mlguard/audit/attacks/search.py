"""What the searches for a key share: their images, and how a guess is scored."""

from mlguard.audit.attacks.base import Pool, Scene
from mlguard.audit.attacks.guesses import Guess, GuessSpace
from mlguard.audit.outcomes import Outcome
from mlguard.models import keyed
from mlguard.transforms import TransformSet


def subset(pool: Pool, number: int) -> Pool:
    """The first images of a pool; all of them if there are fewer."""
    return Pool(pool.images[:number], pool.masks[:number], pool.ignore_index)


def wanted(scene: Scene, objective: str, images: int) -> bool:
    """Whether what a search by an objective finds is not known yet."""
    return scene.wants(objective, images, _labels(objective, images))


def found(
    scene: Scene,
    space: GuessSpace,
    guess: Guess,
    *,
    attack: str,
    objective: str,
    images: int,
    queries: int,
    converged: bool,
) -> Outcome:
    """Score a guess by what it gives, not by how many of its entries are right."""
    guessed = TransformSet(space.transform(guess))
    condition = keyed(guessed, scene.stolen.device)
    labels = _labels(objective, images)
    return Outcome(
        attack=attack,
        variant=objective,
        rung="T4" if labels else "T3",
        images=images,
        labels=labels,
        queries=queries,
        counts=scene.referee(scene.stolen.model, condition),
        converged=converged,
        notes=("table-assumed-known",) if space.table is not None else (),
    )


def _labels(objective: str, images: int) -> int:
    return images if objective == "cross-entropy" else 0
