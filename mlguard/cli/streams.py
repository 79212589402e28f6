"""Standard output and error that never stop a command.

A terminal that cannot show a character, a reader that has left, or a full disk must not
cost an hour of training. Characters that cannot be shown are escaped; output that
cannot be written is noted, and reported when the work is done.
"""

import codecs
import errno
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

WRITTEN_OUT = "mlguard.written-out"  # our handler of characters that an encoding lacks
NOBODY_READS = {errno.EPIPE, errno.ESHUTDOWN, errno.EINVAL}  # Windows says EINVAL


def written_out(error: UnicodeError) -> tuple[str | bytes, int]:
    r"""Replace characters that an encoding lacks by \uXXXX, which JSON reads back.

    Example:
        >>> codecs.register_error(WRITTEN_OUT, written_out)
        >>> "né €".encode("ascii", WRITTEN_OUT)
        b'n\\u00e9 \\u20ac'
    """
    if not isinstance(error, UnicodeEncodeError):
        raise error
    missing = error.object[error.start : error.end]
    units = missing.encode("utf-16-be", "surrogatepass")
    pairs = (units[i : i + 2].hex() for i in range(0, len(units), 2))
    return "".join(f"\\u{pair}" for pair in pairs), error.end


class Lasting(io.TextIOWrapper):
    """A text stream that keeps working when nothing can be written any more.

    Attributes:
        failure: Why nothing can be written, or None.
    """

    failure: OSError | None = None

    def write(self, text: str) -> int:
        """Write a text, or note why it cannot be written."""
        try:
            return super().write(text)
        except OSError as error:
            self._give_up(error)
            return len(text)

    def flush(self) -> None:
        """Flush the buffer, or note why it cannot be flushed."""
        try:
            super().flush()
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        """Redirect the stream to nowhere, so that its buffer can be dropped."""
        self.failure = self.failure or error
        with suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())
            os.close(nowhere)


@contextmanager
def lasting_streams() -> Iterator[Lasting | None]:
    """Replace standard output and error; return standard output, if there is one."""
    codecs.register_error(WRITTEN_OUT, written_out)
    sys.stdout, sys.stderr = _lasting(sys.stdout), _lasting(sys.stderr)
    try:
        yield sys.stdout if isinstance(sys.stdout, Lasting) else None
    finally:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()


def lost(stream: Lasting | None) -> str:
    """Return why the answer was not fully written; empty if it was, or nobody reads."""
    failure = None if stream is None else stream.failure
    if failure is None or failure.errno in NOBODY_READS:
        return ""
    return failure.strerror or type(failure).__name__


def _lasting(stream: object) -> Lasting | None:
    if not isinstance(stream, io.TextIOWrapper):  # closed, or a host program's own
        return stream  # type: ignore[return-value]
    with suppress(OSError):
        stream.flush()
    encoding, by_line = stream.encoding, stream.line_buffering
    return Lasting(
        stream.detach(), encoding=encoding, errors=WRITTEN_OUT, line_buffering=by_line
    )
