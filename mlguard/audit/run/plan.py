"""What an audit is to do: the model, the images, who attacks, and what is claimed."""

from dataclasses import dataclass
from pathlib import Path

from mlguard import recipe
from mlguard.audit.attacks import has_ancestor, pool_size
from mlguard.audit.findings import BUDGETS, AdversaryImages, Budget, Limit
from mlguard.audit.target import Target, digest
from mlguard.data import LabelledSet
from mlguard.errors import DatasetError
from mlguard.protect.crew import ALONE, Crew

EXAMPLES = 4  # images shown with their predictions


@dataclass(frozen=True)
class Adversary:
    """The images that attacks may use.

    Attributes:
        dataset: Labelled images of the same kind as those audited, and others.
        split: What to call them in the report.
        ancestor: Public weights of the same architecture, a .safetensors file; None
            where there are only those that the recipe starts from.
    """

    dataset: LabelledSet
    split: str
    ancestor: Path | None = None


@dataclass(frozen=True, kw_only=True)
class AuditPlan:
    """Everything that one audit follows from.

    Attributes:
        target: Of `target_of_run` or `target_of_bundle`, with the same settings.
        images: Labelled images that the model was not trained on.
        split: What to call them in the report.
        settings: The recipe's [audit] section, as options changed it.
        limits: What is claimed; of `limits_of`.
        adversary: The images of whoever attacks; needed if there is a budget.
        examples: Images to show in the report; 0 keeps every image out of it.
        crew: The processes that share the work; only the first writes the log.
    """

    target: Target
    images: LabelledSet
    split: str
    settings: recipe.Audit
    limits: tuple[Limit, ...]
    adversary: Adversary | None = None
    examples: int = EXAMPLES
    crew: Crew = ALONE

    @property
    def budget(self) -> Budget | None:
        """What attacks may spend; None where none are run."""
        name = self.settings.budget
        return None if name == "none" else BUDGETS[name]

    @property
    def public(self) -> recipe.Model | None:
        """The architecture with the weights that the public has."""
        spec, given = self.target.model, self.adversary and self.adversary.ancestor
        if spec is None or given is None:
            return spec
        return spec.model_copy(update={"weights": str(given)})

    @property
    def pool(self) -> int:
        """How many images of its own the adversary gets."""
        if self.budget is None or self.adversary is None:
            return 0
        wanted = pool_size(self.budget, self.target.trained_on)
        return min(len(self.adversary.dataset), wanted)

    @property
    def pixels(self) -> int:
        """How many the protected model is shown, all conditions together."""
        height, width = self.target.data.size
        tried = self.target.transforms.number
        return len(self.images) * height * width * tried

    def check(self) -> None:
        """Refuse images that the model, or the attacks, cannot be judged by.

        Raises:
            DatasetError: They are of another task or of other classes than the model;
                or the adversary has none, or has the audited ones.
        """
        self._check_classes(self.images)
        if self.budget is None:
            return
        if self.adversary is None:
            raise DatasetError(
                "attacks need images of the adversary's own",
                hint="give `adversary`, or set audit.budget to none",
            )
        self._check_classes(self.adversary.dataset)
        if self.adversary.dataset.fingerprint == self.images.fingerprint:
            raise DatasetError(
                "the adversary's images are the audited ones: every score would be "
                "too high"
            )

    def source(self) -> AdversaryImages | None:
        """Whose images attacks use, for the log; None where there are no attacks."""
        if self.budget is None or self.adversary is None:
            return None
        given, public = self.adversary.ancestor, self.public
        known = public is not None and given is None and has_ancestor(public)
        return AdversaryImages(
            split=self.adversary.split,
            fingerprint=self.adversary.dataset.fingerprint,
            images=self.pool,
            ancestor=None if given is None else digest(given),
            weights=digest(Path(public.weights)) if public and known else None,
        )

    def _check_classes(self, images: LabelledSet) -> None:
        spec, task = self.target.data, images.task
        if task.name != spec.task:
            raise DatasetError(
                f"the model was trained for {spec.task}, the images are labelled for "
                f"{task.name}"
            )
        if task.classes != spec.classes:
            raise DatasetError(
                f"the model has {spec.classes} classes, the images have {task.classes}",
                hint="audit a model on images labelled with its own classes",
            )
