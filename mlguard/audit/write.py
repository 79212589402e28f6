"""Write a report: files that appear together, or not at all.

audit.json   the numbers; docs/spec/audit-v2.md
audit.html   the same for people, one page that needs nothing else
junit.xml    the verdicts for a CI system
"""

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mlguard.audit.junit import junit_xml
from mlguard.audit.page import render_page
from mlguard.audit.pictures import Gallery
from mlguard.audit.report import AuditReport, dump_report
from mlguard.errors import OutputError
from mlguard.files import atomic_write, prepare_output_folder, refuse_existing

JSON = "audit.json"
HTML = "audit.html"
JUNIT = "junit.xml"


@contextmanager
def report_folder(out: Path) -> Iterator[Path]:
    """Claim a folder for a report before the work, and fill it after.

    Gives a folder to write into. When the block ends, it takes the place of `out`; if
    `out` was there already, the files move into it, because a mount point or the
    folder one stands in cannot be replaced. It goes away if the block does not end
    well: a long audit never fails at the end for a reason that was there at the
    start, and no half-written report is left.

    Raises:
        OutputExists: `out` is a file, or a folder that holds something.
        OutputError: There is no space, or the place is not writable.
    """
    existed = out.is_dir()
    prepare_output_folder(out)
    place = Path(os.path.realpath(out))  # `out` may be "." or a link to a folder
    # On the file system that the report will be on, so that a move is no copy.
    staging = (place if existed else place.parent) / f".{secrets.token_hex(8)}.tmp"
    try:
        staging.mkdir()
        yield staging
        if existed:
            _move(staging, place)
        else:
            place.rmdir()
            os.replace(staging, place)
    except OSError as error:
        raise OutputError(f"cannot write {out}: {error.strerror}") from None
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        if not existed and out.is_dir() and not any(out.iterdir()):
            out.rmdir()


def _move(staging: Path, place: Path) -> None:
    """Move every file, or none."""
    names = sorted(path.name for path in staging.iterdir())
    for name in names:
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
    content: bytes | None = None,
) -> None:
    """Write audit.json, audit.html and junit.xml into a folder.

    Args:
        folder: Must exist.
        report: The audit.
        gallery: The page's pictures; None where only an audit.json is left of them.
        content: The audit.json that `report` was read from, to be kept as it is.

    Raises:
        OutputError: There is no space, or the folder is not writable.
    """
    atomic_write(folder / HTML, render_page(report, gallery).encode())
    atomic_write(folder / JUNIT, junit_xml(report))
    atomic_write(folder / JSON, dump_report(report) if content is None else content)
