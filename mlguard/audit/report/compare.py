"""Compare several audits, and explain why some cannot be compared.

Audits of different images are never put in one table or chart. Other differences are
listed, and nothing is averaged. The module knows only reports.
docs/spec/audit-compare-v1.md.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mlguard.audit.findings import Answer, Material
from mlguard.audit.report.audit_report import AuditReport
from mlguard.audit.report.folder import JSON
from mlguard.audit.report.schema import read_report
from mlguard.audit.report.words import subject_line
from mlguard.errors import ReportError

SCHEMA = "mlguard.audit-compare/1"
MAX_AUDITS = 50  # audits in one table that a person can still read


@dataclass(frozen=True)
class Entry:
    """One audit of a comparison.

    Attributes:
        number: Its number in charts, from 1, in the order given.
        name: The end of its path that distinguishes it from the others.
        report: Its report.
    """

    number: int
    name: str
    report: AuditReport

    @property
    def model(self) -> str:
        """Architecture and transform, in a few words."""
        return subject_line(self.report)

    @property
    def best_try(self) -> float | None:
        """The best score of no key and every random key; None if none was tried."""
        return self.report.findings.best_try

    @property
    def random_keys(self) -> int:
        """The number of random keys tried."""
        keys = self.report.findings.incorrect
        return 0 if keys is None else len(keys.scores)

    @property
    def best_attack(self) -> float | None:
        """The best score of any attack; None if none was run."""
        attacks = self.report.attacks
        return (
            max((f.score for f in attacks.findings), default=None) if attacks else None
        )

    @property
    def stolen_value(self) -> float | None:
        """The headline of the attacks."""
        return self.report.attacks.stolen_value if self.report.attacks else None

    @property
    def worst_attack(self) -> str | None:
        """The attack and variant with the stolen value."""
        worst = self.report.attacks.worst_finding if self.report.attacks else None
        return None if worst is None else f"{worst.attack}, {worst.variant}"

    @property
    def budget(self) -> str:
        """The budget of its attacks."""
        return self.report.attacks.budget if self.report.attacks else "none"

    @property
    def claims(self) -> dict[str, Answer]:
        """The answer to each claim."""
        return {one.claim: one.answer for one in self.report.verdicts}

    @property
    def worst_answer(self) -> Answer | None:
        """The worst answer to its claims, or None; unmeasured outranks failed."""
        ranks: tuple[Answer, ...] = ("INCONCLUSIVE", "FAIL", "PASS")
        answers = set(self.claims.values())
        return next((answer for answer in ranks if answer in answers), None)


@dataclass(frozen=True)
class Difference:
    """Something that audits of a comparison do not share.

    Attributes:
        code: Stable name, listed in the spec.
        message: What differs, with the numbers of the audits.
    """

    code: str
    message: str


@dataclass(frozen=True)
class Group:
    """Audits of the same images, and their other differences."""

    material: Material
    entries: tuple[Entry, ...]
    differences: tuple[Difference, ...]


@dataclass(frozen=True)
class Comparison:
    """Every audit, by the images it saw.

    Attributes:
        groups: The groups, in the order of their first audit.
        differences: The differences between the groups.
    """

    groups: tuple[Group, ...]
    differences: tuple[Difference, ...]

    @property
    def entries(self) -> tuple[Entry, ...]:
        """Return every audit, group by group."""
        return tuple(entry for group in self.groups for entry in group.entries)


def read_audits(paths: Sequence[Path]) -> list[Entry]:
    """Read audits, each a report folder or an audit.json.

    Raises:
        ReportError: One of them is not an audit or is given twice, or there is only
            one.
    """
    if not 2 <= len(paths) <= MAX_AUDITS:
        raise ReportError(
            f"expected 2 to {MAX_AUDITS} audits to compare, got {len(paths)}",
            hint="name report folders or audit.json files",
        )
    files = [path / JSON if path.is_dir() else path for path in paths]
    seen: set[Path] = set()
    for file in files:
        if file.resolve() in seen:
            raise ReportError(f"{file} is given twice", hint="name every audit once")
        seen.add(file.resolve())
    reports = [read_report(file) for file in files]
    named = zip(_names(files), reports, strict=True)
    return [Entry(index + 1, name, one) for index, (name, one) in enumerate(named)]


def compare(entries: Sequence[Entry]) -> Comparison:
    """Group audits by their images, and list their other differences."""
    groups: dict[str, list[Entry]] = {}
    for entry in entries:
        material = entry.report.material
        asked = [asdict(material), entry.report.findings.task]
        groups.setdefault(json.dumps(asked), []).append(entry)
    made = tuple(
        Group(one[0].report.material, tuple(one), tuple(_differences(one)))
        for one in groups.values()
    )
    between = tuple(_different_images(made)) if len(made) > 1 else ()
    return Comparison(made, between)


def dump_comparison(comparison: Comparison) -> bytes:
    """Return the comparison for programs: UTF-8 JSON."""
    table = {
        "schema": SCHEMA,
        "differences": [asdict(one) for one in comparison.differences],
        "groups": [
            {
                "material": asdict(group.material),
                "differences": [asdict(one) for one in group.differences],
                "audits": [_numbers(entry) for entry in group.entries],
            }
            for group in comparison.groups
        ],
    }
    return json.dumps(table, indent=2, ensure_ascii=False).encode() + b"\n"


def _numbers(entry: Entry) -> dict[str, Any]:
    report, findings = entry.report, entry.report.findings
    return {
        "number": entry.number,
        "name": entry.name,
        "architecture": report.subject.architecture,
        "methods": list(report.subject.methods),
        "block_size": report.subject.block_size,
        "key_id": report.subject.key_id,
        "protection_id": report.subject.protection_id,
        "recipe_sha256": report.subject.recipe_sha256,
        "training_seed": report.subject.training_seed,
        "seed": report.seed,
        "budget": entry.budget,
        "images": findings.images,
        "floor": findings.floor,
        "baseline": findings.baseline.score if findings.baseline else None,
        "correct": findings.correct.score,
        "fidelity": findings.fidelity,
        "no_key": findings.no_key.score if findings.no_key else None,
        "incorrect_keys": entry.random_keys,
        "incorrect_maximum": findings.incorrect.maximum if findings.incorrect else None,
        "leakage": findings.leakage,
        "best_attack": entry.best_attack,
        "stolen_value": entry.stolen_value,
        "worst_attack": entry.worst_attack,
        "key_space_bits": findings.key_space_bits,
        "claims": entry.claims,
        "flags": [flag.code for flag in report.flags],
    }


def _different_images(groups: Sequence[Group]) -> Iterator[Difference]:
    said = "; ".join(
        f"{_numbered(group.entries)}: {group.material.kind}, split "
        f"{group.material.split}, {group.entries[0].report.findings.images} images of "
        f"{group.material.size[0]} × {group.material.size[1]}, SHA-256 "
        f"{group.material.fingerprint[:12]}…"
        for group in groups
    )
    yield Difference(
        "different-images",
        "not all audits used the same images, so there is a table for each set, and "
        f"numbers in different tables cannot be compared ({said})",
    )


def _differences(entries: Sequence[Entry]) -> Iterator[Difference]:
    """Return the differences of audits of the same images, one for each kind."""
    kinds: list[tuple[str, str, Callable[[Entry], object]]] = [
        (
            "different-seeds",
            "the seed of the audit differs, so other keys were tried, and part of "
            "every difference is due to the draw",
            lambda entry: entry.report.seed,
        ),
        (
            "different-training-seeds",
            "the seed of the training differs, so part of every difference is due to "
            "the training run",
            lambda entry: entry.report.subject.training_seed,
        ),
        (
            "different-tries",
            "the number of incorrect keys differs; the best of more keys is higher",
            lambda entry: entry.random_keys,
        ),
        (
            "different-access",
            "not all models were accessed alike: an audit of a bundle as a black box "
            "tries less than one with the weights",
            lambda entry: entry.report.subject.access,
        ),
        (
            "different-budgets",
            "the budget of the attacks differs; a larger one finds more",
            lambda entry: entry.budget,
        ),
        (
            "different-attacks",
            "different attacks were run, and a stolen value is the worst of them",
            lambda entry: ", ".join(_attacks_of(entry)) or "none",
        ),
        (
            "different-references",
            "leakage is measured against different references",
            lambda entry: entry.report.findings.reference,
        ),
        (
            "different-versions",
            "the findings were computed with different versions",
            lambda entry: _versions(entry),
        ),
    ]
    for code, message, value_of in kinds:
        values: dict[object, list[Entry]] = {}
        for entry in entries:
            values.setdefault(value_of(entry), []).append(entry)
        if len(values) > 1:
            said = "; ".join(
                f"{_numbered(some)}: {value}" for value, some in values.items()
            )
            yield Difference(code, f"{message} ({said})")
    yield from _same_models(entries)


def _same_models(entries: Sequence[Entry]) -> Iterator[Difference]:
    models: dict[str, list[Entry]] = {}
    for entry in entries:
        models.setdefault(entry.report.subject.protection_id, []).append(entry)
    for some in models.values():
        if len(some) > 1:
            message = "are audits of one model: they show the draw, not a difference"
            yield Difference("same-model", f"{_numbered(some)} {message}")


def _attacks_of(entry: Entry) -> list[str]:
    attacks = entry.report.attacks
    return sorted({f.attack for f in attacks.findings}) if attacks else []


def _versions(entry: Entry) -> str:
    versions = entry.report.versions
    return ", ".join(
        f"{name} {versions[name]}" for name in ("mlguard", "torch") if name in versions
    )


def _numbered(entries: Sequence[Entry]) -> str:
    return ", ".join(str(entry.number) for entry in entries)


def _names(files: Sequence[Path]) -> list[str]:
    """Return the end of each path that distinguishes it from the others."""
    parts = [file.absolute().parts for file in files]
    if all(each[-1] == JSON for each in parts):
        parts = [each[:-1] for each in parts]
    depth = 1
    while len({each[-depth:] for each in parts}) < len(parts):
        depth += 1
    return [_shown("/".join(each[-depth:])) for each in parts]


def _shown(name: str) -> str:
    """Return a name without control characters."""
    return "".join(letter if letter.isprintable() else "?" for letter in name)
