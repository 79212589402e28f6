"""Show a comparison as a table, in the terminal and on one offline page."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup
from rich.console import Group as Lines
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from mlguard import __version__
from mlguard.audit.report.compare import Comparison, Entry, Group
from mlguard.audit.report.compare_chart import access_chart, labels_chart
from mlguard.audit.report.page import environment
from mlguard.audit.report.words import NOTHING, number, percent

UNPROVED = (
    "the reports were read without their keys, so nothing shows that they were "
    "measured with them; check a report with `mlguard audit --from … --key NAME`"
)
HEADINGS = (
    "audit",
    "model",
    "baseline",
    "correct key",
    "fidelity",
    "best without key",
    "leakage",
    "best attack",
    "stolen value",
    "claims",
)
SHOWN = (3, 4, 6, 8)  # width of HEADINGS in a terminal, beside name and model


def cells(entry: Entry) -> tuple[str, ...]:
    """Return one row, with a cell for each of HEADINGS."""
    findings = entry.report.findings
    return (
        f"{entry.number}. {entry.name}",
        entry.model,
        number(findings.baseline.score if findings.baseline else None),
        number(findings.correct.score),
        percent(findings.fidelity),
        number(entry.best_try),
        percent(findings.leakage),
        number(entry.best_attack),
        percent(entry.stolen_value),
        _claims(entry),
    )


def comparison_table(comparison: Comparison) -> Lines:
    """Return a table for each set of images, and notes on their differences."""
    lines: list[RenderableType] = []
    for group in comparison.groups:
        lines += [_table(group)]
        lines += [_warning(one.message) for one in group.differences]
    lines += [_warning(one.message) for one in comparison.differences]
    lines += [Text(UNPROVED)]
    return Lines(*lines)


@dataclass(frozen=True)
class _Section:
    """One group, as the page shows it."""

    name: str
    title: str
    score: str
    group: Group
    rows: Sequence[tuple[str, ...]]
    access: Markup
    labels: Markup | None


def render_comparison(comparison: Comparison) -> str:
    """Return one self-contained HTML page: no script, no font, no network."""
    sections = [
        _section(f"images-{index + 1}", group)
        for index, group in enumerate(comparison.groups)
    ]
    return (
        environment()
        .get_template("compare.html")
        .render(
            comparison=comparison,
            unproved=UNPROVED,
            sections=sections,
            headings=HEADINGS,
            version=__version__,
        )
    )


def title_of(group: Group) -> str:
    """Return the images of a group, in words."""
    material, findings = group.material, group.entries[0].report.findings
    return f"{material.kind}, split {material.split}, {findings.images} images"


def _section(name: str, group: Group) -> _Section:
    return _Section(
        name,
        title_of(group),
        group.entries[0].report.findings.vocabulary.score,
        group,
        [cells(entry) for entry in group.entries],
        access_chart(group.entries, name),
        labels_chart(group.entries, name),
    )


def _table(group: Group) -> Table:
    table = Table(title=title_of(group), title_justify="left")
    table.add_column("audit", overflow="fold")
    for index in SHOWN:
        table.add_column(HEADINGS[index], justify="right")
    table.add_column("claims", no_wrap=True)
    for entry in group.entries:
        row = cells(entry)
        shown = [f"{row[0]}\n{row[1]}", *(row[index] for index in SHOWN)]
        # Text, so that nothing in a name is taken for markup.
        table.add_row(*map(Text, shown), Text(entry.worst_answer or NOTHING))
    return table


def _warning(message: str) -> Text:
    return Text(f"warning: {message}", style="yellow")


def _claims(entry: Entry) -> str:
    """Return how many claims have each answer, the worst first."""
    answers = list(entry.claims.values())
    said = [
        f"{answers.count(answer)} {answer}"
        for answer in ("INCONCLUSIVE", "FAIL", "PASS")
        if answer in answers
    ]
    return ", ".join(said) or NOTHING
