"""The options of `mlguard audit` that runs and bundles share."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class AuditOptions:
    """The options on the command line; None if the recipe decides.

    Attributes:
        split: The split to audit.
        device: "auto", "cpu" or "cuda".
        examples: How many images the page shows.
        incorrect_keys: How many incorrect keys are tried.
        seed: The seed of the keys tried, and of the attacks.
        budget: The name of the budget.
        attacks: The names of attacks, separated by commas.
        claims: Thresholds, each as CLAIM=NUMBER.
    """

    split: str
    device: str
    examples: int
    incorrect_keys: int | None
    seed: int | None
    budget: str | None
    attacks: str | None
    claims: tuple[str, ...] = ()
