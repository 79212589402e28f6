"""The findings of an audit: numbers, never a verdict.

Every fraction is in [0, 1]. A score is mIoU for a segmentation and top-1 accuracy for a
classification; these and the words fidelity, leakage and floor are defined in
docs/spec/audit-v4.md, sections 3 and 4. None means that a number does not exist: the
score of a class that no mask shows, or a ratio to a baseline that was not trained. The
module knows nothing of keys, files or pages.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from mlguard.audit.findings.vocabulary import VOCABULARIES, Vocabulary
from mlguard.rules import TaskName

# How the model was accessed: with its weights, as a graph that anybody can run, or as a
# graph that only the holder of the key can run.
Access = Literal["weights", "black-box", "sealed"]
SEALED = "the model is sealed; without the key, it cannot run"
OPENED = "in the opened model the key does nothing, so all keys give the same result"

STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

Fraction = Annotated[float, Field(ge=0, le=1)]
Ratio = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(ge=1)]


def leakage_of(score: float, floor: float, reference: float) -> float | None:
    """Return how far a score is from the floor (0) to the reference (1), clipped.

    It is None if the reference is not above the floor: there is nothing to leak.
    """
    if reference <= floor:
        return None
    return min(1.0, max(0.0, (score - floor) / (reference - floor)))


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A 95 % bootstrap interval over images.

    Attributes:
        low: The 2.5th percentile of the replicates.
        high: The 97.5th percentile.
    """

    __pydantic_config__ = STRICT

    low: Ratio
    high: Ratio


@dataclass(frozen=True, kw_only=True)
class Score:
    """One model under one condition, over the whole split.

    Attributes:
        score: Mean IoU over the classes that occur in the masks; or the share of the
            images whose class is correct.
        score_interval: Its interval over images.
        accuracy: Share of the scored pixels, or images, that are correct.
        class_scores: IoU of each class, or the share of its images that are correct;
            None for a class that no mask or image shows.
        of_reference: `score` as a share of the reference's.
        leakage: How far `score` is from the floor (0) to the reference (1); None for
            the baseline and the correct key, which leak nothing.
    """

    __pydantic_config__ = STRICT

    score: Fraction
    score_interval: Interval
    accuracy: Fraction
    class_scores: tuple[Fraction | None, ...]
    of_reference: Ratio | None
    leakage: Fraction | None


@dataclass(frozen=True, kw_only=True)
class IncorrectKeys:
    """The model under keys drawn at random.

    Attributes:
        scores: The score of every key, in the order drawn.
        mean: Their mean.
        mean_interval: Its interval over images, the keys held fixed.
        standard_deviation: Over the keys, with N - 1; None for a single key.
        maximum: The best of them.
        maximum_interval: Its interval over images, the keys held fixed.
        mean_accuracy: Over the keys.
        mean_class_scores: Over the keys, None for a class that does not occur.
        mean_leakage: Leakage of `mean`.
        maximum_leakage: Leakage of `maximum`.
        same_transform: How many of the keys give exactly the correct transform.
    """

    __pydantic_config__ = STRICT

    scores: Annotated[tuple[Fraction, ...], Field(min_length=1)]
    mean: Fraction
    mean_interval: Interval
    standard_deviation: Fraction | None
    maximum: Fraction
    maximum_interval: Interval
    mean_accuracy: Fraction
    mean_class_scores: tuple[Fraction | None, ...]
    mean_leakage: Fraction | None
    maximum_leakage: Fraction | None
    same_transform: Count


@dataclass(frozen=True, kw_only=True)
class NearbyShare:
    """A point of the curve of nearby keys: how far they are from the correct one.

    Attributes:
        share: Share of the transform's entries that should change.
        changed: Share that did change; entries are whole, so the two can differ.
    """

    __pydantic_config__ = STRICT

    share: Fraction
    changed: Fraction


@dataclass(frozen=True, kw_only=True)
class NearbyKeys(NearbyShare):
    """The model under transforms that differ from the correct one by a known share.

    Attributes:
        scores: The score of every transform tried at this share.
        mean: Their mean.
        maximum: The best of them.
    """

    __pydantic_config__ = STRICT

    scores: Annotated[tuple[Fraction, ...], Field(min_length=1)]
    mean: Fraction
    maximum: Fraction


@dataclass(frozen=True, kw_only=True)
class NotShown:
    """A condition under which the model was not run, and why.

    Attributes:
        condition: "no key", "incorrect keys" or "nearby keys".
        message: The reason in words.
    """

    __pydantic_config__ = STRICT

    condition: Literal["no key", "incorrect keys", "nearby keys"]
    message: str


@dataclass(frozen=True, kw_only=True)
class Findings:
    """Everything that one audit measured.

    Attributes:
        task: The task of the model, which defines the score.
        class_names: The classes, in the order of every per-class tuple.
        class_counts: Scored pixels, or images, of each class; 0 means absent.
        images: Images in the split.
        floor: The score of the best constant answer.
        reference: The reference of leakage: the baseline, or the correct key if no
            baseline was trained.
        baseline: The plain model on plain images.
        correct: The protected model with the correct key.
        no_key: The protected model on plain images; None if it is sealed.
        incorrect: The protected model with keys drawn at random; None if it is sealed,
            or if the key does nothing once it is open.
        nearby: The curve of nearby keys, by share.
        fidelity: correct / baseline.
        fidelity_interval: Its interval over images, both models on the same draws.
        leakage: The largest leakage over no key and every incorrect key.
        leakage_interval: Its interval over images.
        key_space_bits: log2 of the number of distinct transforms, without those that
            the weights reveal.
        not_run: Conditions that were left out, and why.
    """

    __pydantic_config__ = STRICT

    task: TaskName
    class_names: tuple[str, ...]
    class_counts: tuple[Count, ...]
    images: Positive
    floor: Fraction
    reference: Literal["baseline", "correct"]
    baseline: Score | None
    correct: Score
    no_key: Score | None
    incorrect: IncorrectKeys | None
    nearby: tuple[NearbyKeys, ...]
    fidelity: Ratio | None
    fidelity_interval: Interval | None
    leakage: Fraction | None
    leakage_interval: Interval | None
    key_space_bits: Annotated[float, Field(ge=0)]
    not_run: tuple[NotShown, ...] = ()

    @property
    def absent_classes(self) -> tuple[str, ...]:
        """Classes that no mask or image shows, about which nothing is known."""
        pairs = zip(self.class_names, self.class_counts, strict=True)
        return tuple(name for name, number in pairs if number == 0)

    @property
    def unauthorized_tries(self) -> int:
        """The number of tries of which `leakage` is the largest."""
        tries = 0 if self.no_key is None else 1
        return tries + (0 if self.incorrect is None else len(self.incorrect.scores))

    @property
    def best_try(self) -> float | None:
        """The best score of no key and every random key; None if none was tried."""
        tries = [] if self.no_key is None else [self.no_key.score]
        tries += [] if self.incorrect is None else [self.incorrect.maximum]
        return max(tries, default=None)

    @property
    def vocabulary(self) -> Vocabulary:
        """The words of the report for the task."""
        return VOCABULARIES[self.task]
