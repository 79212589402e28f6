"""Chart scores against the number of labelled images, on a log axis."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from mlguard.audit.findings import AttackSection
from mlguard.audit.report.svg import (
    BOTTOM,
    HEIGHT,
    LEFT,
    RIGHT,
    Scale,
    dot,
    label,
    tag,
)

INSET = 18.0  # user units between the plot's edges and the curves
ATTACK = "retraining"

Curve = Sequence[tuple[int, float]]  # labelled images, score
Point = tuple[float, float]  # in user units


@dataclass(frozen=True)
class Line:
    """One curve.

    Attributes:
        style: Its class in the style sheet.
        curve: The score by number of images.
        said: Its name in the text below the chart.
        name: A function that writes its name beside its last point.
    """

    style: str
    curve: Curve
    said: str
    name: Callable[[Point], Markup]


def retraining_of(section: AttackSection | None) -> dict[str, Curve]:
    """Return every variant of re-training, by name."""
    curves: dict[str, list[tuple[int, float]]] = {}
    for finding in section.findings if section else ():
        if finding.attack == ATTACK and finding.labels:
            curves.setdefault(finding.variant, []).append(
                (finding.labels, finding.score)
            )
    return {name: sorted(curve) for name, curve in curves.items()}


def labels_plot(lines: Sequence[Line], scale: Scale) -> Iterable[Markup]:
    """Draw the axis of labelled images, and every line."""
    numbers = sorted({images for line in lines for images, _ in line.curve})
    first, last = math.log2(numbers[0]), math.log2(numbers[-1])

    def x(images: int) -> float:
        share = (math.log2(images) - first) / (last - first) if last > first else 0.5
        return LEFT + INSET + (RIGHT - LEFT - 2 * INSET) * share

    for number in numbers:
        yield label(x(number), BOTTOM + 17, str(number), "middle")
    yield label((LEFT + RIGHT) / 2, HEIGHT - 5, "labelled images", "middle")
    for line in lines:
        places = [(x(images), scale.y(score)) for images, score in line.curve]
        drawn = " ".join(f"{left:.1f},{top:.1f}" for left, top in places)
        yield tag("polyline", class_=f"line {line.style}", points=drawn)
        yield from (dot(left, top, line.style, radius=4) for left, top in places)
        yield line.name(places[-1])


def labels_words(lines: Sequence[Line]) -> str:
    """Return the lines in words."""
    return "; ".join(
        f"{line.said}: " + ", ".join(f"{n} images {x:.3f}" for n, x in line.curve)
        for line in lines
    )
