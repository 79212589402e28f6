"""Bring an audit.json of an older schema into the newest one's words.

Schema 1 had no attacks and no claims; 1 and 2 knew segmentation and transforms of
images only, and named every score after mIoU. Nothing is guessed: a field that the
older schema did not have is refused. docs/spec/audit-v3.md, section 1.
"""

from typing import Any

from mlguard.errors import ReportError

FIRST, SECOND = "mlguard.audit/1", "mlguard.audit/2"
OLDER = (FIRST, SECOND)

SINCE_SECOND: dict[str, Any] = {"attacks": None, "verdicts": []}
SINCE_THIRD: dict[str, Any] = {"task": "segmentation", "not_run": []}  # of findings
SINCE_THIRD_OF_SUBJECT: dict[str, Any] = {"layers": [], "access": "weights"}

SCORE = {
    "miou": "score",
    "miou_interval": "score_interval",
    "pixel_accuracy": "accuracy",
    "class_iou": "class_scores",
}
INCORRECT = {
    "miou": "scores",
    "mean_pixel_accuracy": "mean_accuracy",
    "mean_class_iou": "mean_class_scores",
}
NEARBY = {"miou": "scores"}
FINDINGS = {"class_pixels": "class_counts"}
ATTACK = {"miou": "score", "miou_interval": "score_interval"}
CONTROL = {"miou": "score"}


def upgraded(table: dict[str, Any], name: str) -> dict[str, Any]:
    """The content of an older audit.json, in the words of the newest schema.

    What is not of the expected type is left as it is, for the reader to refuse.

    Args:
        table: The whole file; its `schema` is one of OLDER.
        name: What to call it in a refusal.

    Raises:
        ReportError: It has a field that its schema did not have.
    """
    old = _Older(str(table["schema"]), name)
    if old.schema == FIRST:
        table = old.without(SINCE_SECOND, table) | SINCE_SECOND
    subject = table.get("subject")
    if isinstance(subject, dict):
        subject = old.without(SINCE_THIRD_OF_SUBJECT, subject) | SINCE_THIRD_OF_SUBJECT
    findings = old.renamed(table.get("findings"), FINDINGS)
    if isinstance(findings, dict):
        findings = old.without(SINCE_THIRD, findings) | SINCE_THIRD
        for part in ("baseline", "correct", "no_key"):
            old.replace(findings, part, SCORE)
        old.replace(findings, "incorrect", INCORRECT)
        old.replace(findings, "nearby", NEARBY)
    attacks = table.get("attacks")
    if isinstance(attacks, dict):
        attacks = dict(attacks)
        old.replace(attacks, "findings", ATTACK)
        old.replace(attacks, "controls", CONTROL)
    changed = {"subject": subject, "findings": findings, "attacks": attacks}
    return table | {key: value for key, value in changed.items() if key in table}


class _Older:
    """Renames fields of one file, and refuses those that its schema did not have."""

    def __init__(self, schema: str, name: str) -> None:
        self.schema, self._name = schema, name

    def replace(self, part: dict[str, Any], key: str, names: dict[str, str]) -> None:
        """Rename the fields of what stands under a key, if it stands there."""
        if key in part:
            part[key] = self.renamed(part[key], names)

    def renamed(self, part: Any, names: dict[str, str]) -> Any:
        """The same part, or list of parts, under the newer names."""
        if isinstance(part, list):
            return [self.renamed(one, names) for one in part]
        if not isinstance(part, dict):
            return part
        self.without(dict.fromkeys(names.values()), part)
        return {names.get(key, key): value for key, value in part.items()}

    def without(self, fields: dict[str, Any], part: dict[str, Any]) -> dict[str, Any]:
        """The part, which must have none of these fields."""
        if strays := sorted(set(part) & set(fields)):
            listed = ", ".join(strays)
            raise ReportError(f"{self._name}: {self.schema} has no field {listed}")
        return part
