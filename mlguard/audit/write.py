"""Write a report: two files that appear together, or not at all.

audit.json   the numbers; docs/spec/audit-v1.md
audit.html   the same for people, one page that needs nothing else
"""

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mlguard.audit.page import render_page
from mlguard.audit.pictures import Gallery
from mlguard.audit.report import AuditReport, dump_report
from mlguard.errors import OutputError
from mlguard.files import atomic_write, prepare_output_folder

JSON = "audit.json"
HTML = "audit.html"


@contextmanager
def report_folder(out: Path) -> Iterator[Path]:
    """Claim a folder for a report before the work, and fill it after.

    Gives a folder to write into. It takes the place of `out` when the block ends, and
    goes away if the block does not end well: a long audit never fails at the end for a
    reason that was there at the start, and no half-written report is left.

    Raises:
        OutputExists: `out` is a file, or a folder that holds something.
        OutputError: There is no space, or the place is not writable.
    """
    existed = out.is_dir()
    prepare_output_folder(out)
    staging = out.with_name(f".{out.name}.{secrets.token_hex(4)}.tmp")
    try:
        staging.mkdir()
        yield staging
        out.rmdir()
        os.replace(staging, out)
    except OSError as error:
        raise OutputError(f"cannot write {out}: {error.strerror}") from None
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        if not existed and out.is_dir() and not any(out.iterdir()):
            out.rmdir()


def write_report(folder: Path, report: AuditReport, gallery: Gallery) -> None:
    """Write audit.json and audit.html into a folder.

    Raises:
        OutputError: There is no space, or the folder is not writable.
    """
    atomic_write(folder / JSON, dump_report(report))
    atomic_write(folder / HTML, render_page(report, gallery).encode())
