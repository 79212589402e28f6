"""The options of `mlguard audit` that a run folder and a bundle have in common."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class AuditOptions:
    """What was given on the command line; None where the recipe decides.

    Attributes:
        split: Which images.
        device: "auto", "cpu" or "cuda".
        examples: How many images the page shows.
        incorrect_keys: How many are tried.
        seed: Of the keys tried, and of the attacks.
        budget: Its name.
        attacks: Their names, with commas.
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
