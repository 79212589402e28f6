"""The chart of re-training: attack(n) beside control(n), n on a log axis."""

import math

from markupsafe import Markup

from mlguard.audit.findings import AttackSection, Findings
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

INSET = 18.0  # user units between the plot's edges and the curves
ATTACK = "retraining"

Curve = list[tuple[int, float]]  # labelled images, score


def curves_of(section: AttackSection) -> dict[str, Curve]:
    """The control, then every variant of re-training, by name."""
    curves: dict[str, Curve] = {
        "control": [(control.images, control.score) for control in section.controls]
    }
    for finding in section.findings:
        if finding.attack == ATTACK and finding.labels:
            curves.setdefault(finding.variant, []).append(
                (finding.labels, finding.score)
            )
    return {name: sorted(curve) for name, curve in curves.items()}


def attack_chart(section: AttackSection, findings: Findings) -> Markup | None:
    """Draw the curves; None where the model was not re-trained."""
    curves = curves_of(section)
    if len(curves) < 2:
        return None
    vocabulary = findings.vocabulary
    values = [score for curve in curves.values() for _, score in curve]
    scale = Scale.over([findings.correct.score, *values], vocabulary.score)
    numbers = sorted({images for curve in curves.values() for images, _ in curve})
    first, last = math.log2(numbers[0]), math.log2(numbers[-1])

    def x(images: int) -> float:
        share = (math.log2(images) - first) / (last - first) if last > first else 0.5
        return LEFT + INSET + (RIGHT - LEFT - 2 * INSET) * share

    body = [
        *scale.grid(),
        scale.level(findings.floor, "floor"),
        scale.level(findings.correct.score, "correct key", inside=True),
        *(label(x(n), BOTTOM + 17, str(n), "middle") for n in numbers),
        label((LEFT + RIGHT) / 2, HEIGHT - 5, "labelled images", "middle"),
    ]
    for index, (name, curve) in enumerate(curves.items()):
        style = f"curve{index}"
        places = [(x(images), scale.y(score)) for images, score in curve]
        line = " ".join(f"{left:.1f},{top:.1f}" for left, top in places)
        body.append(tag("polyline", class_=f"line {style}", points=line))
        body += [dot(left, top, style, radius=4) for left, top in places]
        end, height = places[-1]
        body.append(label(end, height - 8, name, "end", "note"))
    said = "; ".join(
        f"{name}: " + ", ".join(f"{n} images {score:.3f}" for n, score in curve)
        for name, curve in curves.items()
    )
    words = f"{vocabulary.title}. {said}. Correct key {findings.correct.score:.3f}."
    title = f"{vocabulary.title} after re-training"
    return chart("retraining", title, words, body)
