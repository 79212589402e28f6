"""The sentences of a report, the same in the terminal and on the page."""

from mlguard.audit.findings import Findings
from mlguard.audit.report import AuditReport

NOTHING = "–"  # stands where a number does not exist
SPACE = "\N{NO-BREAK SPACE}"  # between a number and its unit

FIRST_RUNG = (
    "These are the first two of the adversaries in the threat model: a user without a "
    "key, and a user who tries keys at random. Nobody here searched for the key, "
    "re-trained the model, or had a transformed image to look at."
)


def number(value: float | None) -> str:
    """A fraction with three decimals."""
    return NOTHING if value is None else f"{value:.3f}"


def percent(value: float | None) -> str:
    """A fraction as a whole percentage; below 10 % with one decimal."""
    if value is None:
        return NOTHING
    decimals = 1 if 0 < value < 0.1 else 0
    return f"{100 * value:.{decimals}f}{SPACE}%"


def reference_name(findings: Findings) -> str:
    """What leakage is measured against, in words."""
    return "the plain twin" if findings.baseline else "the correct key"


def reference_column(findings: Findings) -> str:
    """The same, to head a column."""
    return "baseline" if findings.baseline else "correct key"


def verdict(findings: Findings) -> str:
    """What was found, in two sentences."""
    tries = len(findings.incorrect.miou)
    best = max(findings.no_key.miou, findings.incorrect.maximum)
    with_key = (
        f"With the correct key the model reaches {findings.correct.miou:.3f} mIoU"
    )
    if findings.baseline:
        with_key += (
            f", {percent(findings.fidelity)} of its plain twin's "
            f"{findings.baseline.miou:.3f}"
        )
    without = (
        f"Without it, the best of {findings.unauthorised_tries} tries (no key, and "
        f"{tries} random {'key' if tries == 1 else 'keys'}) reaches {best:.3f}"
    )
    if findings.leakage is not None:
        without += (
            f": {percent(findings.leakage)} of the way from a constant answer "
            f"({findings.floor:.3f}) to {reference_name(findings)}"
        )
    return f"{with_key}. {without}."


def subject_line(report: AuditReport) -> str:
    """Which model, in a few words."""
    subject = report.subject
    methods = " + ".join(subject.methods)
    return f"{subject.architecture}, {methods} with M = {subject.block_size}"


def leakage_line(findings: Findings) -> str:
    """What the one number is, in words."""
    return (
        f"leakage: the best of {findings.unauthorised_tries} tries without the key, on "
        f"a scale from a constant answer ({percent(0)}) to {reference_name(findings)} "
        f"({percent(1)})"
    )
