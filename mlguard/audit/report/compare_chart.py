"""The charts of a comparison; each audit is drawn with its number from the table."""

from collections.abc import Iterator, Sequence
from functools import partial

from markupsafe import Markup

from mlguard.audit.report.compare import Entry
from mlguard.audit.report.labels_chart import (
    Curve,
    Line,
    Point,
    labels_plot,
    labels_words,
    retraining_of,
)
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

STYLES = 8  # set0 … set7 in compare.css; the number beside a mark identifies it
NEAR = (15.0, 12.0)  # user units; nearer labels would touch
PLACES = ((13, 4), (-13, 4), (0, -10), (0, 19))  # possible places of a number


def access_chart(entries: Sequence[Entry], name: str) -> Markup:
    """Draw scores with the key against those without; the best is at the lower right.

    A ring is the best of no key and random keys, a disc the best attack. A sealed
    model, which cannot run without its key, has only its number.
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
    taken: list[Point] = []
    for entry in entries:
        body += _marks(entry, x(entry.report.findings.correct.score), scale, taken)
    said = "; ".join(_access(entry) for entry in entries)
    words = f"{vocabulary.title} with and without the correct key. {said}."
    return chart(f"{name}-access", "With the key against without it", words, body)


def labels_chart(entries: Sequence[Entry], name: str) -> Markup | None:
    """Draw re-training against its number of labelled images; None if none was run."""
    taken: list[Point] = []
    lines = [
        Line(
            _style(entry),
            curve,
            str(entry.number),
            partial(_number, entry, taken),
        )
        for entry in entries
        if (curve := _curve(entry))
    ]
    if not lines:
        return None
    retrained = {line.said for line in lines}
    values = [score for line in lines for _, score in line.curve]
    keys = [
        entry.report.findings.correct.score
        for entry in entries
        if str(entry.number) in retrained
    ]
    first = entries[0].report.findings
    scale = Scale.over([*values, *keys], first.vocabulary.score)
    level, title = scale.level(first.floor, "floor"), first.vocabulary.title
    return chart(
        f"{name}-labels",
        f"{title} after re-training",
        f"{title}. {labels_words(lines)}.",
        [*scale.grid(), level, *labels_plot(lines, scale)],
    )


def _marks(
    entry: Entry, x: float, scale: Scale, taken: list[Point]
) -> Iterator[Markup]:
    if entry.best_try is None:
        yield _number(entry, taken, (x, scale.y(0)))
        return
    style, tried = _style(entry), scale.y(entry.best_try)
    highest = tried
    if entry.best_attack is not None:
        highest = scale.y(entry.best_attack)
        yield tag("line", class_=f"stem {style}", x1=x, x2=x, y1=tried, y2=highest)
        yield dot(x, highest, style, radius=5)
    yield dot(x, tried, f"ring {style}", radius=4.5)
    yield _number(entry, taken, (x, highest))


def _number(entry: Entry, taken: list[Point], point: Point) -> Markup:
    """Return the audit's number beside a point, at a free place."""
    places = [(point[0] + right, point[1] + down) for right, down in PLACES]
    free = (place for place in places if not any(_near(place, one) for one in taken))
    place = next(free, places[0])
    taken.append(place)
    return label(*place, str(entry.number), "middle", "value")


def _near(one: Point, other: Point) -> bool:
    return abs(one[0] - other[0]) < NEAR[0] and abs(one[1] - other[1]) < NEAR[1]


def _curve(entry: Entry) -> Curve:
    """Return the best re-training for each number of labelled images."""
    best: dict[int, float] = {}
    for curve in retraining_of(entry.report.attacks).values():
        for images, score in curve:
            best[images] = max(best.get(images, 0.0), score)
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
