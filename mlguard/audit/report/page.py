"""Render an audit as one self-contained HTML page: no script, no font, no network.

The template engine escapes all data; the page's own content security policy forbids it
to load anything.
"""

import base64
from collections.abc import Sequence
from dataclasses import dataclass

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from mlguard.audit.findings import AttackFinding, Findings
from mlguard.audit.report import words
from mlguard.audit.report.attack_chart import attack_chart
from mlguard.audit.report.audit_report import AuditReport
from mlguard.audit.report.cells import attack_headings, attack_rows, rows
from mlguard.audit.report.charts import conditions_chart, nearby_chart
from mlguard.audit.report.gallery import Gallery, Picture
from mlguard.pictures import palette
from mlguard.transforms import said_bits


@dataclass(frozen=True)
class ClassRow:
    """One class in the per-class table.

    Attributes:
        name: The class.
        colour: Its colour in the pictures, in CSS.
        share: Its share of the labelled pixels, or of the images.
        scores: Its score in every column.
    """

    name: str
    colour: str
    share: float
    scores: tuple[float | None, ...]


def render_page(
    report: AuditReport, gallery: Gallery | None = None, *, proved: bool
) -> str:
    """Render the page.

    Args:
        report: The audit, the source of every number.
        gallery: Pictures to show; None for none, as when only audit.json is left.
        proved: Whether the numbers are proved by the key.
    """
    findings = report.findings
    columns, classes = per_class(findings)
    attacks = report.attacks
    found = attacks.findings if attacks else ()
    return (
        environment()
        .get_template("audit.html")
        .render(
            report=report,
            proved=proved,
            findings=findings,
            vocabulary=findings.vocabulary,
            gallery=gallery or Gallery(),
            no_pictures=words.no_pictures(gallery),
            rows=rows(findings, sealed_files=report.subject.sealed_files),
            columns=columns,
            classes=classes,
            conditions_chart=conditions_chart(findings),
            nearby_chart=nearby_chart(findings) if findings.nearby else None,
            ran={finding.attack for finding in found},
            attack_headings=attack_headings(findings),
            attack_rows=attack_rows(attacks) if attacks else [],
            attack_notes=_notes(found),
            attack_chart=attack_chart(attacks, findings) if attacks else None,
            words=words,
        )
    )


def per_class(findings: Findings) -> tuple[list[str], list[ClassRow]]:
    """Return the per-class table: its columns, and a row for every class."""
    columns = {"correct key": findings.correct.class_scores}
    if findings.no_key:
        columns["no key"] = findings.no_key.class_scores
    if findings.incorrect:
        columns["incorrect, mean"] = findings.incorrect.mean_class_scores
    if findings.baseline:
        columns = {"baseline": findings.baseline.class_scores, **columns}
    total = sum(findings.class_counts)
    colours = palette()
    return list(columns), [
        ClassRow(
            name,
            f"rgb{colours[index % len(colours)]}",
            findings.class_counts[index] / total,
            tuple(column[index] for column in columns.values()),
        )
        for index, name in enumerate(findings.class_names)
    ]


def _notes(found: Sequence[AttackFinding]) -> list[str]:
    """Return the notes of all findings as sentences, each once."""
    codes = dict.fromkeys(code for finding in found for code in finding.notes)
    said = [words.NOTES.get(code, code) for code in codes]
    return [f"{one[:1].upper()}{one[1:]}." for one in said]


def environment() -> Environment:
    """Return templates that escape everything; undefined names are errors."""
    environment = Environment(
        loader=PackageLoader("mlguard.audit.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = words.number
    environment.filters["percent"] = words.percent
    environment.filters["said_bits"] = said_bits
    environment.filters["data_uri"] = _data_uri
    environment.filters["sentence"] = _sentence
    return environment


def _sentence(message: str) -> Markup:
    """Return a flag's message as a sentence, with backticks as code."""
    pieces = f"{message[:1].upper()}{message[1:]}.".split("`")
    return Markup("").join(
        Markup("<code>{}</code>").format(piece) if index % 2 else escape(piece)
        for index, piece in enumerate(pieces)
    )


def _data_uri(picture: Picture) -> Markup:
    return Markup("data:image/png;base64,") + base64.b64encode(picture.png).decode()
