"""The charts of a comparison; each audit is drawn with its number from the table."""

import math
from collections.abc import Iterator, Sequence

from markupsafe import Markup

from mlguard.audit.report.compare import Entry
from mlguard.audit.report.svg import (
    BOTTOM,
    HEIGHT,
    LEFT,
    RIGHT,
    Scale,
    chart,
    dot,
    label,
    tag,
)

STYLES = 8  # set0 … set7 in compare.css; the number beside a mark is what tells
NEAR = (15.0, 12.0)  # user units; nearer labels would touch
PLACES = ((13, 4), (-13, 4), (0, -10), (0, 19))  # where a number may stand
INSET = 18.0  # user units between the plot's edges and the curves
ATTACK = "retraining"


def access_chart(entries: Sequence[Entry], name: str) -> Markup:
    """With the key against without it: the best model is at the lower right.

    A ring is the best of no key and random keys, a disc the best attack. Of a sealed
    model, which nobody ran without its key, there is the number alone.
    """
    found = [entry.report.findings for entry in entries]
    values = [
        max(f.correct.score, e.best_try or 0.0)
        for f, e in zip(found, entries, strict=True)
    ]
    vocabulary = found[0].vocabulary
    values += [entry.best_attack or 0.0 for entry in entries]
    scale = Scale.over(values, vocabulary.score)
    width = RIGHT - LEFT

    def x(value: float) -> float:
        return LEFT + width * value / scale.top

    ticks = [index * scale.step for index in range(round(scale.top / scale.step) + 1)]
    body = [
        *scale.grid(),
        scale.level(found[0].floor, "floor"),
        tag(
            "line",
            class_="level",
            x1=x(0),
            y1=scale.y(0),
            x2=RIGHT,
            y2=scale.y(scale.top),
        ),
        *(label(x(value), BOTTOM + 17, f"{value:.3g}", "middle") for value in ticks),
        label(
            (LEFT + RIGHT) / 2,
            HEIGHT - 5,
            f"{vocabulary.score} with the correct key",
            "middle",
        ),
    ]
    taken: list[tuple[float, float]] = []
    for entry in entries:
        body += _marks(entry, x(entry.report.findings.correct.score), scale, taken)
    said = "; ".join(_access(entry) for entry in entries)
    words = f"{vocabulary.title} with and without the correct key. {said}."
    return chart(f"{name}-access", "With the key against without it", words, body)


def labels_chart(entries: Sequence[Entry], name: str) -> Markup | None:
    """Re-training against its budget of labelled images; None if none was run."""
    curves = [(entry, curve) for entry in entries if (curve := _curve(entry))]
    if not curves:
        return None
    values = [score for _, curve in curves for _, score in curve]
    keys = [entry.report.findings.correct.score for entry, _ in curves]
    vocabulary = entries[0].report.findings.vocabulary
    scale = Scale.over([*values, *keys], vocabulary.score)
    numbers = sorted({images for _, curve in curves for images, _ in curve})
    first, last = math.log2(numbers[0]), math.log2(numbers[-1])

    def x(images: int) -> float:
        share = (math.log2(images) - first) / (last - first) if last > first else 0.5
        return LEFT + INSET + (RIGHT - LEFT - 2 * INSET) * share

    body = [
        *scale.grid(),
        scale.level(entries[0].report.findings.floor, "floor"),
        *(label(x(n), BOTTOM + 17, str(n), "middle") for n in numbers),
        label((LEFT + RIGHT) / 2, HEIGHT - 5, "labelled images", "middle"),
    ]
    taken: list[tuple[float, float]] = []
    for entry, curve in curves:
        style = _style(entry)
        places = [(x(images), scale.y(score)) for images, score in curve]
        line = " ".join(f"{left:.1f},{top:.1f}" for left, top in places)
        body.append(tag("polyline", class_=f"line {style}", points=line))
        body += [dot(left, top, style, radius=4) for left, top in places]
        body.append(_number(entry, places[-1], taken))
    said = "; ".join(
        f"{entry.number}: " + ", ".join(f"{n} images {score:.3f}" for n, score in curve)
        for entry, curve in curves
    )
    return chart(
        f"{name}-labels",
        f"{vocabulary.title} after re-training",
        f"{vocabulary.title}. {said}.",
        body,
    )


def _marks(
    entry: Entry, x: float, scale: Scale, taken: list[tuple[float, float]]
) -> Iterator[Markup]:
    if entry.best_try is None:
        yield _number(entry, (x, scale.y(0)), taken)
        return
    style, tried = _style(entry), scale.y(entry.best_try)
    highest = tried
    if entry.best_attack is not None:
        highest = scale.y(entry.best_attack)
        yield tag("line", class_=f"stem {style}", x1=x, x2=x, y1=tried, y2=highest)
        yield dot(x, highest, style, radius=5)
    yield dot(x, tried, f"ring {style}", radius=4.5)
    yield _number(entry, (x, highest), taken)


def _number(
    entry: Entry, point: tuple[float, float], taken: list[tuple[float, float]]
) -> Markup:
    """The audit's number beside a point, where no other number stands."""
    places = [(point[0] + right, point[1] + down) for right, down in PLACES]
    free = (place for place in places if not any(_near(place, one) for one in taken))
    place = next(free, places[0])
    taken.append(place)
    return label(*place, str(entry.number), "middle", "value")


def _near(one: tuple[float, float], other: tuple[float, float]) -> bool:
    return abs(one[0] - other[0]) < NEAR[0] and abs(one[1] - other[1]) < NEAR[1]


def _curve(entry: Entry) -> list[tuple[int, float]]:
    """The best re-training for each number of labelled images."""
    best: dict[int, float] = {}
    attacks = entry.report.attacks
    for finding in attacks.findings if attacks else ():
        if finding.attack == ATTACK and finding.labels:
            best[finding.labels] = max(best.get(finding.labels, 0.0), finding.score)
    return sorted(best.items())


def _access(entry: Entry) -> str:
    said = f"{entry.number}: {entry.report.findings.correct.score:.3f} with"
    if entry.best_try is None:
        return f"{said}, sealed without"
    said += f", {entry.best_try:.3f} without"
    if entry.best_attack is not None:
        said += f", {entry.best_attack:.3f} for the best attack"
    return said


def _style(entry: Entry) -> str:
    return f"set{(entry.number - 1) % STYLES}"
