"""What an audit found: numbers, never a verdict.

Every fraction is in [0, 1]; mIoU and the words fidelity, leakage and floor are
defined in docs/spec/audit-v1.md, section 3. None stands where a number does not
exist: the IoU of a class that no mask shows, or a ratio to a baseline that was not
trained. Knows nothing of keys, files or pages.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import ConfigDict, Field

STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

Fraction = Annotated[float, Field(ge=0, le=1)]
Ratio = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(ge=1)]


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
        miou: Mean IoU over the classes that occur in the masks.
        miou_interval: Its interval over images.
        pixel_accuracy: Share of the scored pixels that are right.
        class_iou: IoU of each class, None for a class that no mask shows.
        of_reference: `miou` as a share of the reference's mIoU.
        leakage: How far `miou` is from the floor (0) to the reference (1); None for
            the baseline and the correct key, which leak nothing.
    """

    __pydantic_config__ = STRICT

    miou: Fraction
    miou_interval: Interval
    pixel_accuracy: Fraction
    class_iou: tuple[Fraction | None, ...]
    of_reference: Ratio | None
    leakage: Fraction | None


@dataclass(frozen=True, kw_only=True)
class IncorrectKeys:
    """The model under keys drawn at random.

    Attributes:
        miou: mIoU of every key, in the order drawn.
        mean: Their mean.
        mean_interval: Its interval over images, the keys held fixed.
        standard_deviation: Over the keys, with N - 1; None for a single key.
        maximum: The best of them.
        maximum_interval: Its interval over images, the keys held fixed.
        mean_pixel_accuracy: Over the keys.
        mean_class_iou: Over the keys, None for a class that no mask shows.
        mean_leakage: Leakage of `mean`.
        maximum_leakage: Leakage of `maximum`.
        same_transform: How many of the keys give exactly the correct transform.
    """

    __pydantic_config__ = STRICT

    miou: Annotated[tuple[Fraction, ...], Field(min_length=1)]
    mean: Fraction
    mean_interval: Interval
    standard_deviation: Fraction | None
    maximum: Fraction
    maximum_interval: Interval
    mean_pixel_accuracy: Fraction
    mean_class_iou: tuple[Fraction | None, ...]
    mean_leakage: Fraction | None
    maximum_leakage: Fraction | None
    same_transform: Count


@dataclass(frozen=True, kw_only=True)
class NearbyKeys:
    """The model under transforms that differ from the correct one by a known share.

    Attributes:
        share: Share of the transform's entries that was to change.
        changed: Share that did change; entries are whole, so the two can differ.
        miou: mIoU of every transform tried at this share.
        mean: Their mean.
        maximum: The best of them.
    """

    __pydantic_config__ = STRICT

    share: Fraction
    changed: Fraction
    miou: Annotated[tuple[Fraction, ...], Field(min_length=1)]
    mean: Fraction
    maximum: Fraction


@dataclass(frozen=True, kw_only=True)
class Findings:
    """Everything one audit measured.

    Attributes:
        class_names: The classes, in the order of every per-class tuple.
        class_pixels: Scored pixels of each class in the masks; 0 means absent.
        images: Images in the split.
        floor: mIoU of the best constant answer.
        reference: What leakage is measured against: the baseline, or, where none was
            trained, the correct key.
        baseline: The plain model on plain images.
        correct: The protected model with the correct key.
        no_key: The protected model on plain images.
        incorrect: The protected model with keys drawn at random.
        nearby: The curve of nearby keys, by share.
        fidelity: correct / baseline.
        fidelity_interval: Its interval over images, both models on the same draws.
        leakage: The largest leakage over no key and every incorrect key.
        leakage_interval: Its interval over images.
        key_space_bits: log2 of the number of distinct transforms.
    """

    __pydantic_config__ = STRICT

    class_names: tuple[str, ...]
    class_pixels: tuple[Count, ...]
    images: Positive
    floor: Fraction
    reference: Literal["baseline", "correct"]
    baseline: Score | None
    correct: Score
    no_key: Score
    incorrect: IncorrectKeys
    nearby: tuple[NearbyKeys, ...]
    fidelity: Ratio | None
    fidelity_interval: Interval | None
    leakage: Fraction | None
    leakage_interval: Interval | None
    key_space_bits: Annotated[float, Field(ge=0)]

    @property
    def absent_classes(self) -> tuple[str, ...]:
        """Classes that no mask shows, and so nothing is said about."""
        pairs = zip(self.class_names, self.class_pixels, strict=True)
        return tuple(name for name, pixels in pairs if pixels == 0)

    @property
    def unauthorized_tries(self) -> int:
        """How many tries `leakage` is the largest of."""
        return 1 + len(self.incorrect.miou)
