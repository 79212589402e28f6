"""The sentences of a report, the same in the terminal and on the page."""

from mlguard.audit.findings import (
    SEALED,
    Access,
    AttackFinding,
    AttackSection,
    Findings,
    Verdict,
    decide,
)
from mlguard.audit.report.audit_report import AuditReport
from mlguard.audit.report.gallery import Gallery
from mlguard.rules import IMAGE_METHODS

NOTHING = "–"  # stands where a number does not exist
SPACE = "\N{NO-BREAK SPACE}"  # between a number and its unit

FIRST_RUNG = (
    "These are the first two adversaries of the threat model: a user without a key, "
    "and a user who tries random keys. They did not search for the key, re-train the "
    "model, or have a transformed image."
)
FIRST_RUNG_OF_MORE = (
    "These are the first two adversaries of the threat model: a user without a key, "
    "and a user who tries random keys. Stronger adversaries follow below."
)
FROM_MEMORY = "These adversaries took the opened model from memory."
FROM_HOST = "These adversaries hold all that a host has: the public backbone."
WHO_ATTACKS: dict[Access, str] = {
    "weights": "These adversaries hold the weights.",
    "black-box": "These adversaries run the bundle, and see only its answers.",
    "sealed": "These adversaries hold a bundle that is sealed.",
}
NOTES = {
    "table-assumed-known": "the table of ffx was assumed to be known, as if published",
    "pair-leaves-a-choice": "the single image left choices open, which were guessed",
    "ancestor-unlike": "the weights do not resemble the ancestor's, in any order",
    "initialization-unlike": "no seed's initial weights resemble the stolen ones",
}
CLAIMS = {
    "fidelity": "fidelity at least",
    "random-keys": "leakage of no key and random keys at most",
    "key-bits": "bits of the effective key space at least",
    "stolen-value": "stolen value of every attack without the key's work at most",
    "key-search": "stolen value of key searches at most",
    "retraining": "stolen value of re-training at most",
    "known-plaintext": "stolen value of known plaintext at most",
    "public-ancestor": "stolen value of matching known weights at most",
}
SOURCES = {
    "recipe": "set by the recipe",
    "option": "set by --claim",
    "default": "the default",
}
UNPROVED = (
    "Unproved: nothing shows that this was measured with the key. Anybody who edits "
    "the file can make it say anything consistent; check it with the model key: "
    "`mlguard audit --from … --key NAME`"
)


def verdict_words(one: Verdict, report: AuditReport) -> str:
    """Return a verdict's claim, number and reasons.

    If every weight is sealed in all files, the claim is about these; the same number
    for the opened model is shown beside it, and is not part of the verdict.
    """
    why = f" ({', '.join(one.reasons)})" if one.reasons else ""
    limit = f"{one.threshold:g} ({SOURCES[one.source]})"
    said = f"{CLAIMS[one.claim]} {limit}: {_measured(one)}{why}"
    if not report.subject.sealed_files or one.claim == "fidelity":
        return said
    (opened,) = decide([one], report.findings, report.attacks, ())
    if one.claim == "key-bits" and report.subject.access == "sealed":
        return f"{said} from the files alone"
    return f"{said} from the files alone; from memory {_measured(opened)}, not claimed"


def _measured(one: Verdict) -> str:
    return "not measured" if one.measured is None else f"{one.measured:.3f}"


def number(value: float | None) -> str:
    """Return a fraction with three decimals."""
    return NOTHING if value is None else f"{value:.3f}"


def percent(value: float | None) -> str:
    """Return a fraction as a whole percentage; below 10 %, with one decimal."""
    if value is None:
        return NOTHING
    decimals = 1 if 0 < value < 0.1 else 0
    return f"{100 * value:.{decimals}f}{SPACE}%"


def reference_name(findings: Findings) -> str:
    """Return the reference of leakage, in words."""
    return "the plain twin" if findings.baseline else "the correct key"


def reference_column(findings: Findings) -> str:
    """Return the same, for the head of a column."""
    return "baseline" if findings.baseline else "correct key"


def who_attacks(report: AuditReport) -> str:
    """Return what the adversaries of a report hold."""
    subject = report.subject
    if subject.in_halves and subject.access == "weights":
        return FROM_HOST
    if subject.sealed_files and subject.access == "weights":
        return FROM_MEMORY
    return WHO_ATTACKS[subject.access]


def verdict(findings: Findings, *, sealed_files: bool = False) -> str:
    """Return the findings in two sentences; in three if all files are sealed."""
    with_key = (
        f"With the correct key the model reaches {findings.correct.score:.3f} "
        f"{findings.vocabulary.score}"
    )
    if findings.baseline:
        with_key += (
            f", {percent(findings.fidelity)} of its plain twin's "
            f"{findings.baseline.score:.3f}"
        )
    if sealed_files:
        with_key += ". A thief with only the files cannot run the model"
    best, keys = findings.best_try, findings.incorrect
    whose = "in the opened model, taken from memory, " if sealed_files else ""
    if best is None:
        return f"{with_key}. Without it, nothing was run: {SEALED}."
    if keys is None:
        without = f"Without the key, the opened model reaches {best:.3f}"
    else:
        tries = len(keys.scores)
        without = (
            f"Without it, {whose}the best of {findings.unauthorized_tries} tries (no "
            f"key, and {tries} random {'key' if tries == 1 else 'keys'}) reaches "
            f"{best:.3f}"
        )
    if findings.leakage is not None:
        without += (
            f": {percent(findings.leakage)} of the way from a constant answer "
            f"({findings.floor:.3f}) to {reference_name(findings)}"
        )
    return f"{with_key}. {without}."


def score_caption(findings: Findings) -> str:
    """Return the caption of the table of conditions."""
    classes = len(findings.class_names) - len(findings.absent_classes)
    said = f"{findings.vocabulary.title} over {classes} classes and {findings.images}"
    return f"{said} images. Intervals redraw the images."


def subject_line(report: AuditReport) -> str:
    """Return the model, in a few words."""
    subject = report.subject
    methods = " + ".join(subject.methods)
    of_images = set(subject.methods) & set(IMAGE_METHODS)
    places = [f"M = {subject.block_size}"] if of_images else []
    if subject.layers:
        places.append(f"the outputs of {', '.join(subject.layers)}")
    where = f" with {' and '.join(places)}" if places else ""
    return f"{subject.architecture}, {methods}{where}"


def leakage_line(findings: Findings, *, sealed_files: bool = False) -> str:
    """Return the meaning of the first number, in words."""
    if findings.best_try is None:
        return f"leakage: not measured, because {SEALED}"
    whose = " of the opened model, as in memory" if sealed_files else ""
    return (
        f"leakage{whose}: the best of {findings.unauthorized_tries} tries without the "
        f"key, on a scale from a constant answer ({percent(0)}) to "
        f"{reference_name(findings)} ({percent(1)})"
    )


def attack_name(finding: AttackFinding) -> str:
    """Return an attack and its variant."""
    return f"{finding.attack}, {finding.variant}"


def attack_images(finding: AttackFinding) -> str:
    """Return the images of an attack, in words."""
    if finding.rung == "T6":
        return "1 pair" if finding.images == 1 else f"{finding.images} transformed"
    if not finding.images:
        return "no image"
    return f"{finding.images} {'labelled' if finding.labels else 'unlabelled'}"


def headline(section: AttackSection) -> str:
    """Return the worst attack, and the worst without a transformed image, in words."""
    worst = section.worst_finding
    if not section.findings:
        return "No attack was run."
    if worst is None:
        return "No attack has a result that can be compared with the correct key."
    said = (
        f"The worst of {len(section.findings)} attacks, {_described(worst)}, steals "
        f"{percent(worst.stolen_value)} of the worth of the correct key"
    )
    others = [
        finding
        for finding in section.findings
        if finding.rung != "T6" and finding.stolen_value is not None
    ]
    if worst.rung != "T6":
        return f"{said}."
    if not others:
        return (
            f"{said}; it needs a transformed image, and no other attack was compared."
        )
    next_one = max(others, key=lambda finding: finding.stolen_value or 0.0)
    return (
        f"{said}; it needs a transformed image. Without one, the worst is "
        f"{_described(next_one)}: {percent(next_one.stolen_value)}."
    )


def no_pictures(gallery: Gallery | None) -> str:
    """Return why a page shows no images; empty if it does."""
    if gallery is None:
        return (
            "This page has no pictures: it was written again from audit.json, which "
            "has none. They are on the page that the audit itself wrote."
        )
    if not gallery.predictions:
        return "This page has no pictures: --examples 0 asked for none."
    return ""


def _described(finding: AttackFinding) -> str:
    if finding.rung == "T6" or not finding.images:
        return attack_name(finding)
    return f"{attack_name(finding)} with {attack_images(finding)} images"


def stolen_value_line(section: AttackSection) -> str:
    """Return the meaning of the second number, in words."""
    return (
        "stolen value: the worst attack, on a scale from what the same adversary gets "
        f"without the stolen weights ({percent(0)}) to the correct key ({percent(1)})"
    )
