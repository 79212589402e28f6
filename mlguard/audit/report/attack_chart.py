"""The chart of re-training: attack(n) beside control(n), n on a log axis."""

from functools import partial

from markupsafe import Markup

from mlguard.audit.findings import AttackSection, Findings
from mlguard.audit.report.labels_chart import (
    Line,
    Point,
    labels_plot,
    labels_words,
    retraining_of,
)
from mlguard.audit.report.svg import Scale, chart, label


def attack_chart(section: AttackSection, findings: Findings) -> Markup | None:
    """Draw the curves; None if the model was not re-trained."""
    curves = retraining_of(section)
    if not curves:
        return None
    control = [(one.images, one.score) for one in section.controls]
    lines = [
        Line(f"curve{index}", curve, name, partial(_name, name))
        for index, (name, curve) in enumerate({"control": control, **curves}.items())
        if curve
    ]
    vocabulary, correct = findings.vocabulary, findings.correct.score
    values = [score for line in lines for _, score in line.curve]
    scale = Scale.over([correct, *values], vocabulary.score)
    body = [
        *scale.grid(),
        scale.level(findings.floor, "floor"),
        scale.level(correct, "correct key", inside=True),
        *labels_plot(lines, scale),
    ]
    words = f"{vocabulary.title}. {labels_words(lines)}. Correct key {correct:.3f}."
    return chart("retraining", f"{vocabulary.title} after re-training", words, body)


def _name(name: str, end: Point) -> Markup:
    return label(end[0], end[1] - 8, name, "end", "note")
