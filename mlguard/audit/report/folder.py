"""Write a report: files that appear together, or not at all.

audit.json   the numbers; docs/spec/audit-v4.md
audit.html   the same for people, one page that needs nothing else
junit.xml    the verdicts for a CI system
audit.proof  that the holder of the key wrote these

Beside them, and there while the audit still runs, lies audit.jsonl: the room `log`.
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
}  # what an audit that was stopped may leave


@contextmanager
def report_folder(out: Path, *, resume: bool = False) -> Iterator[Path]:
    """Claim a folder for a report before the work, and fill it after.

    Gives a folder to write into. When the block ends, its files move into `out`,
    audit.json last: where it is, the audit is finished. If the block does not end
    well, they go away, and `out` too unless it was there or holds a log: a long audit
    never fails at the end for a reason that was there at the start, and no
    half-written report is left.

    Args:
        out: The folder.
        resume: Take one that holds an unfinished audit, or nothing.

    Raises:
        OutputExists: `out` is a file, a folder that holds something else, or a
            finished audit.
        OutputError: There is no space, or the place is not writable.
    """
    existed = out.is_dir()
    if resume and existed:
        _check_unfinished(out)
    else:
        _prepare(out)
    place = Path(os.path.realpath(out))  # `out` may be "." or a link to a folder
    # On the file system that the report will be on, so that a move is no copy.
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
            refusal.hint = "--resume goes on with the audit that was stopped there"
        raise


def _check_unfinished(out: Path) -> None:
    try:
        names = {path.name for path in out.iterdir()}
    except OSError as error:
        raise OutputError(f"cannot read {out}: {error.strerror}") from None
    if JSON in names:
        raise OutputExists(
            f"the audit in {out} is finished",
            hint=f"`mlguard audit --from {out} --out NEW` makes its report again",
        )
    strays = sorted(names - UNFINISHED)
    if strays or (names and LOG not in names):
        stray = (strays or sorted(names))[0]
        raise OutputExists(f"{out} is no unfinished audit: it holds {stray}")


def _move(staging: Path, place: Path, *, over: bool) -> None:
    """Move every file, or none; audit.json last. Over what a stopped audit left."""
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

    Only their owner may read them: they say how well which theft works.

    Args:
        folder: Must exist.
        report: The audit.
        gallery: The page's pictures; None where only an audit.json is left of them.
        secret: The subkey of the proof; None where nobody proves the report, which
            its page then says.
        content: The audit.json that `report` was read from, to be kept as it is.

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
