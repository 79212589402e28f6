"""The two charts of a report: scores by user, and the curve of nearby keys."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

from markupsafe import Markup

from mlguard.audit.findings import Findings, Interval, Score
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
from mlguard.audit.report.words import percent

MAX_BAR = 46.0  # user units
INSET = 18.0  # user units between the plot's edges and the curve
LABEL_ROOM = 30.0  # width of a label under the axis in user units
GOLDEN = 0.6180339887  # multiples of it, modulo 1, spread evenly for any number of dots


@dataclass(frozen=True)
class _Bar:
    name: str
    style: str
    value: float
    interval: Interval
    dots: Sequence[float] = ()

    @property
    def highest(self) -> float:
        return max(self.value, self.interval.high, *self.dots)


def conditions_chart(findings: Findings) -> Markup:
    """Draw Fig. 6 of arXiv:2107.09362, here with every key."""
    bars = list(_bars(findings))
    said = findings.vocabulary
    scale = Scale.over((bar.highest for bar in bars), said.score)
    slot = (RIGHT - LEFT) / len(bars)
    drawn = (
        _draw(bar, LEFT + slot * (index + 0.5), min(MAX_BAR, slot / 2), scale)
        for index, bar in enumerate(bars)
    )
    keys = findings.incorrect
    of_keys = (
        f" (the mean of {len(keys.scores)}; the best is {keys.maximum:.3f})"
        if keys
        else ""
    )
    words = (
        f"{said.title}: "
        + ", ".join(f"{bar.name} {bar.value:.3f}" for bar in bars)
        + f"{of_keys}; floor {findings.floor:.3f}."
    )
    floor = scale.level(findings.floor, "floor")
    return chart(
        "users", f"{said.title} by user", words, [*scale.grid(), floor, *drawn]
    )


def nearby_chart(findings: Findings) -> Markup:
    """Draw the score against the share of wrong entries in the key."""
    curve = [(0.0, findings.correct.score)]
    curve += [(point.changed, point.mean) for point in findings.nearby]
    tries = [(p.changed, value) for p in findings.nearby for value in p.scores]
    vocabulary = findings.vocabulary
    random = [findings.incorrect.mean] if findings.incorrect else []
    scale = Scale.over(
        [*random, *(value for _, value in chain(curve, tries))], vocabulary.score
    )
    widest = max(share for share, _ in curve) or 1.0

    def place(share: float, score: float) -> tuple[float, float]:
        inside = RIGHT - LEFT - 2 * INSET
        return LEFT + INSET + inside * share / widest, scale.y(score)

    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(*point) for point in curve))
    body = [
        *scale.grid(),
        scale.level(findings.floor, "floor"),
        *(scale.level(mean, "random keys, mean", inside=True) for mean in random),
        tag("polyline", class_="line", points=line),
        *(dot(*place(*one), "incorrect") for one in tries),
        *(dot(*place(*point), "correct", radius=4) for point in curve),
        *_shares([(place(share, 0)[0], share) for share, _ in curve]),
        label(
            (LEFT + RIGHT) / 2, HEIGHT - 5, "share of the key that is wrong", "middle"
        ),
    ]
    said = ", ".join(f"{percent(share)} wrong {score:.3f}" for share, score in curve)
    title = f"{vocabulary.title} with part of the key wrong"
    return chart("nearby", title, f"{vocabulary.title}: {said}.", body)


def _bars(findings: Findings) -> Iterator[_Bar]:
    scores: list[tuple[str, str, Score | None]] = [
        ("baseline", "baseline", findings.baseline),
        ("correct key", "correct", findings.correct),
        ("no key", "nokey", findings.no_key),
    ]
    for name, style, score in scores:
        if score is not None:
            yield _Bar(name, style, score.score, score.score_interval)
    if keys := findings.incorrect:
        interval = keys.mean_interval
        yield _Bar("incorrect keys", "incorrect", keys.mean, interval, keys.scores)


def _draw(bar: _Bar, x: float, width: float, scale: Scale) -> Markup:
    top, base = scale.y(bar.value), scale.y(0)
    rectangle = tag(
        "rect",
        class_=f"bar {bar.style}",
        x=x - width / 2,
        y=top,
        width=width,
        height=base - top,
        rx=2,
    )
    spread = (
        width * 1.4 * ((index * GOLDEN) % 1 - 0.5) for index in range(len(bar.dots))
    )
    dots = (
        dot(x + offset, scale.y(value), bar.style)
        for offset, value in zip(spread, bar.dots, strict=True)
    )
    above = scale.y(bar.highest) - 7
    texts = [label(x, base + 17, bar.name, "middle")]
    if bar.dots:
        texts.append(label(x, above, f"best {max(bar.dots):.3f}", "middle"))
        texts.append(label(x, above - 15, f"mean {bar.value:.3f}", "middle", "value"))
    else:
        texts.append(label(x, above, f"{bar.value:.3f}", "middle", "value"))
    return Markup("").join([rectangle, *dots, _whisker(x, bar.interval, scale), *texts])


def _whisker(x: float, interval: Interval, scale: Scale) -> Markup:
    low, high = scale.y(interval.low), scale.y(interval.high)
    cap = f"M{x - 4:.1f},{{:.1f}}h8"
    stem = f"M{x:.1f},{high:.1f}V{low:.1f}"
    return tag("path", class_="whisker", d=cap.format(high) + stem + cap.format(low))


def _shares(places: list[tuple[float, float]]) -> Iterator[Markup]:
    """Return labels under the axis, without those that would touch the previous one."""
    free = 0.0
    for x, share in sorted(places):
        if x >= free:
            yield label(x, BOTTOM + 17, percent(share), "middle")
            free = x + LABEL_ROOM
