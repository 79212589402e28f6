"""The task of `mlguard audit`, between its options and its report. Needs torch.

`run_audit_task.py` makes the task of a run folder, `bundle_audit_task.py` of a bundle.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from mlguard import recipe
from mlguard.audit.attacks import check_names
from mlguard.audit.findings import BUDGETS, CLAIMS, Claim, Limit
from mlguard.audit.run import Adversary, Audit, AuditPlan, Watch, audit
from mlguard.audit.target import Target
from mlguard.cli.audit_options import AuditOptions
from mlguard.data import LabelledSet
from mlguard.errors import DatasetError, RunError
from mlguard.keys import ModelKey
from mlguard.nearest import did_you_mean
from mlguard.protect.crew import ALONE, Crew

Split = Literal["train", "validation", "test"]

Progress = Callable[[int, int], None]

PROCESSES = "WORLD_SIZE"  # torchrun's number of processes


@dataclass(frozen=True)
class AuditTask:
    """One audit, checked as far as possible before a key is asked for.

    Attributes:
        target_under: A function from the key to the audited target.
        key_name: The key's name in the owner's keystore.
        key_id: The key that the model was protected with.
        images: The audited images.
        split: The split of these images.
        settings: The [audit] section, as options changed it.
        limits: The thresholds of the claims.
        adversary: The images that attacks use; None without a budget.
        examples: How many images the page shows.
        crew: The processes that share the work.
        reword: What to make of refused images; None if a recipe's words fit.
    """

    target_under: Callable[[ModelKey], Target]
    key_name: str
    key_id: str
    images: LabelledSet
    split: str
    settings: recipe.Audit
    limits: tuple[Limit, ...]
    adversary: Adversary | None
    examples: int
    crew: Crew = ALONE
    reword: Callable[[DatasetError], DatasetError] | None = None

    def check_images(self, progress: Progress) -> None:
        """Decode every image once.

        Raises:
            DatasetError: An image or a mask is missing, damaged, or has other classes.
        """
        try:
            self.images.check(progress)
            if self.adversary is not None:
                self.adversary.dataset.check(progress)
        except DatasetError as refusal:
            if self.reword is None:
                raise
            raise self.reword(refusal) from None

    def run(
        self, key: ModelKey, watch: Watch, *, log: Path, resume: bool
    ) -> tuple[Audit, bytes]:
        """Measure, and return the report with its pictures, and its proof."""
        plan = AuditPlan(
            target=self.target_under(key),
            images=self.images,
            split=self.split,
            settings=self.settings,
            limits=self.limits,
            adversary=self.adversary,
            examples=self.examples,
            crew=self.crew,
        )
        found = audit(plan, log, resume=resume, watch=watch)
        return found, plan.target.proof_secret


def claims_of(options: AuditOptions) -> dict[Claim, float]:
    """Return the thresholds given as options.

    Raises:
        RunError: An option is not CLAIM=NUMBER, or the claim is unknown.
    """
    found: dict[Claim, float] = {}
    for text in options.claims:
        name, _, number = text.partition("=")
        claim = next((one for one in CLAIMS if one == name), None)
        try:
            threshold = float(number)
        except ValueError:
            threshold = -1.0
        if claim is None or not 0 <= threshold < math.inf:
            raise RunError(
                f"--claim: expected CLAIM=NUMBER with a claim of {', '.join(CLAIMS)}; "
                f"got {text!r}{did_you_mean(name, CLAIMS) if claim is None else ''}"
            )
        found[claim] = threshold
    return found


def settings_of(settings: recipe.Audit, options: AuditOptions) -> recipe.Audit:
    """Return the recipe's settings with options applied; attacks default to quick.

    Raises:
        RunError: The budget or an attack is unknown.
    """
    changes: dict[str, object] = {
        "incorrect_keys": options.incorrect_keys,
        "seed": options.seed,
    }
    budget, attacks = options.budget, options.attacks
    if budget is not None:
        if budget not in BUDGETS and budget != "none":
            known = ", ".join(["none", *BUDGETS])
            near = did_you_mean(budget, ["none", *BUDGETS])
            raise RunError(f"--budget: expected one of {known}, got {budget!r}{near}")
        changes["budget"] = budget
    if attacks is not None:
        names = tuple(name.strip() for name in attacks.split(",") if name.strip())
        check_names(names)
        changes["attacks"] = names
        if budget is None and settings.budget == "none":
            changes["budget"] = "quick"
    given = {name: value for name, value in changes.items() if value is not None}
    return settings.model_copy(update=given)


def other_split(name: Split) -> Split:
    """Return the split for attacks: never the audited one, nor the training split.

    Args:
        name: The audited split.
    """
    return "test" if name == "validation" else "validation"


def known_split(name: str) -> Split:
    """Return the split of a name.

    Raises:
        DatasetError: It does not exist.
    """
    splits: tuple[Split, ...] = get_args(Split)
    for split in splits:
        if name == split:
            return split
    raise DatasetError(f"--split: expected one of {', '.join(splits)}, got {name!r}")
