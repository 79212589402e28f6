"""The plan of an audit: the model, the images, the adversary and the claims."""

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
        dataset: Labelled images like the audited ones, but different.
        split: Their name in the report.
        ancestor: Public weights of the same architecture, a .safetensors file; None if
            there are only the recipe's initial weights.
    """

    dataset: LabelledSet
    split: str
    ancestor: Path | None = None


@dataclass(frozen=True, kw_only=True)
class AuditPlan:
    """Everything that decides an audit.

    Attributes:
        target: The result of `target_of_run` or `target_of_bundle`, with the same
            settings.
        images: Labelled images that the model was not trained on.
        split: Their name in the report.
        settings: The recipe's [audit] section, as options changed it.
        limits: The claims, from `limits_of`.
        adversary: The images of attacks; required if there is a budget.
        examples: The number of images in the report; 0 for none.
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
        """The budget of attacks; None without attacks."""
        name = self.settings.budget
        return None if name == "none" else BUDGETS[name]

    @property
    def public(self) -> recipe.Model | None:
        """The architecture with its public weights."""
        spec, given = self.target.model, self.adversary and self.adversary.ancestor
        if spec is None or given is None:
            return spec
        return spec.model_copy(update={"weights": str(given)})

    @property
    def pool(self) -> int:
        """The number of the adversary's own images."""
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
        """Refuse images that cannot score the model or the attacks.

        Raises:
            DatasetError: Their task or classes differ from the model's; or the
                adversary has no images, or the audited ones.
        """
        self._check_classes(self.images)
        if self.budget is None:
            return
        if self.adversary is None:
            raise DatasetError(
                "attacks need the adversary's own images",
                hint="give `adversary`, or set audit.budget to none",
            )
        self._check_classes(self.adversary.dataset)
        if self.adversary.dataset.fingerprint == self.images.fingerprint:
            raise DatasetError(
                "the adversary's images are the audited ones: every score would be "
                "too high"
            )

    def source(self) -> AdversaryImages | None:
        """Return the images of attacks, for the log; None without attacks."""
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
                f"the model was trained for {spec.task}, but the images are labelled "
                f"for {task.name}"
            )
        if task.classes != spec.classes:
            raise DatasetError(
                f"the model has {spec.classes} classes, but the images have "
                f"{task.classes}",
                hint="audit a model on images labelled with its own classes",
            )
