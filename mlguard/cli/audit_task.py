"""What `mlguard audit` does between its options and its report. Needs torch.

`run_audit_task.py` makes the task of a run folder, `bundle_audit_task.py` of a bundle.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from mlguard import recipe
from mlguard.audit.attacks import check_names
from mlguard.audit.findings import BUDGETS
from mlguard.audit.run import Adversary, AttackProgress, Audit, audit_target
from mlguard.audit.target import Target
from mlguard.cli.audit_options import AuditOptions
from mlguard.data import LabelledSet
from mlguard.errors import DatasetError, RunError
from mlguard.keys import ModelKey
from mlguard.protect.crew import ALONE, Crew

Split = Literal["train", "validation", "test"]

Progress = Callable[[int, int], None]

PROCESSES = "WORLD_SIZE"  # torchrun says so how many there are


@dataclass(frozen=True)
class AuditTask:
    """One audit, with everything that can be checked before a key is asked for.

    Attributes:
        target_under: What is audited, given its key.
        key_name: What the owner's keystore calls the key.
        key_id: The key that the model was protected with.
        dataset: The audited images.
        settings: The [audit] section, as options changed it.
        split: Which images these are.
        adversary: Whose images attacks use; None without a budget.
        examples: How many images the page shows.
        crew: The processes that share the work.
    """

    target_under: Callable[[ModelKey], Target]
    key_name: str
    key_id: str
    dataset: LabelledSet
    settings: recipe.Audit
    split: str
    adversary: Adversary | None
    examples: int
    crew: Crew = ALONE

    def check_images(self, progress: Progress) -> None:
        """Decode every image once.

        Raises:
            DatasetError: An image or a mask is missing, damaged, or has other classes.
        """
        self.dataset.check(progress)
        if self.adversary is not None:
            self.adversary.dataset.check(progress)

    def run(
        self,
        key: ModelKey,
        progress: Progress,
        attack_progress: AttackProgress,
        *,
        log: Path,
        resume: bool,
    ) -> Audit:
        """Measure, and give the report and its pictures."""
        return audit_target(
            self.target_under(key),
            self.dataset,
            split=self.split,
            settings=self.settings,
            adversary=self.adversary,
            examples=self.examples,
            progress=progress,
            attack_progress=attack_progress,
            log=log,
            resume=resume,
            crew=self.crew,
        )


def settings_of(settings: recipe.Audit, options: AuditOptions) -> recipe.Audit:
    """The recipe's settings, changed by options. Attacks without a budget are quick.

    Raises:
        RunError: There is no such budget or attack.
    """
    changes: dict[str, object] = {
        "incorrect_keys": options.incorrect_keys,
        "seed": options.seed,
    }
    budget, attacks = options.budget, options.attacks
    if budget is not None:
        if budget not in BUDGETS and budget != "none":
            known = ", ".join(["none", *BUDGETS])
            raise RunError(f"--budget: expected one of {known}, got {budget!r}")
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
    """Whose images attacks use: never the audited ones, nor any that were trained on.

    Args:
        name: The audited split.
    """
    return "test" if name == "validation" else "validation"


def known_split(name: str) -> Split:
    """The split of a name.

    Raises:
        DatasetError: There is none.
    """
    splits: tuple[Split, ...] = get_args(Split)
    for split in splits:
        if name == split:
            return split
    raise DatasetError(f"--split: expected one of {', '.join(splits)}, got {name!r}")
