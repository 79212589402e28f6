"""Write a report: files that appear together, or not at all.

audit.json   the numbers; docs/spec/audit-v4.md
audit.html   the same for people, one self-contained page
junit.xml    the verdicts for a CI system
audit.proof  proof that these were written with the key

Beside them, from the start of the audit on, lies audit.jsonl: the room `log`.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mlguard.audit.report.audit_report import AuditReport
from mlguard.audit.report.gallery import Gallery
from mlguard.audit.report.junit import junit_xml
from mlguard.audit.report.page import render_page
from mlguard.audit.report.proofs import PROOF, proof_of
from mlguard.audit.report.schema import dump_report
from mlguard.errors import OutputError, OutputExists
from mlguard.files import atomic_write, prepare_output_folder, refuse_existing

JSON = "audit.json"
HTML = "audit.html"
JUNIT = "junit.xml"
LOG = "audit.jsonl"
STAGING = ".report.tmp"
UNFINISHED = {
    LOG,
    HTML,
    JUNIT,
    PROOF,
    STAGING,
}  # files that a stopped audit may leave


@contextmanager
def report_folder(out: Path, *, resume: bool = False) -> Iterator[Path]:
    """Claim a folder for a report before the work, and fill it afterwards.

    It yields a folder to write into. When the block ends, its files move into `out`,
    audit.json last: if it exists, the audit is finished. If the block fails, they are
    removed, and `out` too unless it existed or holds a log: a long audit never fails at
    the end for a reason known at the start, and no half-written report is left.

    Args:
        out: The folder.
        resume: Accept a folder that is empty or holds an unfinished audit.

    Raises:
        OutputExists: `out` is a file, a folder with other files, or a finished audit.
        OutputError: There is no space, or the place is not writable.
    """
    existed = out.is_dir()
    if resume and existed:
        _check_unfinished(out)
    else:
        _prepare(out)
    place = Path(os.path.realpath(out))  # `out` may be "." or a link to a folder
    # On the same file system as the report, so that a move is not a copy.
    staging = place / STAGING
    try:
        if resume:
            shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir()
        yield staging
        _move(staging, place, over=resume)
    except OSError as error:
        raise OutputError(f"cannot write {out}: {error.strerror}") from None
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        if not existed:
            with suppress(OSError):  # it holds the report, or was never made
                out.rmdir()


def _prepare(out: Path) -> None:
    try:
        prepare_output_folder(out)
    except OutputExists as refusal:
        if (out / LOG).exists() and not (out / JSON).exists():
            refusal.hint = "resume the audit that was stopped there with --resume"
        raise


def _check_unfinished(out: Path) -> None:
    try:
        names = {path.name for path in out.iterdir()}
    except OSError as error:
        raise OutputError(f"cannot read {out}: {error.strerror}") from None
    if JSON in names:
        raise OutputExists(
            f"the audit in {out} is finished",
            hint=f"write its report again with `mlguard audit --from {out} --out NEW`",
        )
    strays = sorted(names - UNFINISHED)
    if strays or (names and LOG not in names):
        stray = (strays or sorted(names))[0]
        raise OutputExists(f"{out} is not an unfinished audit: it holds {stray}")


def _move(staging: Path, place: Path, *, over: bool) -> None:
    """Move every file, or none, audit.json last; replace files of a stopped audit."""
    names = sorted(
        (path.name for path in staging.iterdir()), key=lambda name: (name == JSON, name)
    )
    for name in names:
        if not over or name == JSON:
            refuse_existing(place / name)
    moved: list[Path] = []
    try:
        for name in names:
            os.replace(staging / name, place / name)
            moved.append(place / name)
    except OSError:
        for path in moved:
            path.unlink()
        raise


def write_report(
    folder: Path,
    report: AuditReport,
    gallery: Gallery | None,
    *,
    secret: bytes | None,
    content: bytes | None = None,
) -> None:
    """Write audit.json, audit.html and junit.xml into a folder, with their proof.

    Only their owner may read them: they show how well each theft works.

    Args:
        folder: The folder, which must exist.
        report: The audit.
        gallery: The page's pictures; None if only an audit.json is left.
        secret: The subkey of the proof; None for an unproved report, whose page then
            says so.
        content: The audit.json that `report` was read from, to be kept unchanged.

    Raises:
        OutputError: There is no space, or the folder is not writable.
    """
    proved = secret is not None
    files = {
        HTML: render_page(report, gallery, proved=proved).encode(),
        JUNIT: junit_xml(report, proved=proved),
        JSON: dump_report(report) if content is None else content,
    }
    if secret is not None:
        files = {PROOF: proof_of(files, secret), **files}
    for name, data in files.items():
        atomic_write(folder / name, data, mode=0o600)
