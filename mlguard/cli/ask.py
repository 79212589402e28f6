"""Read a passphrase from a descriptor, a file or the terminal; never from a flag.

A secret on the command line would be shown to everyone by `ps`.
"""

import codecs
import getpass
import os
import stat
import sys
from dataclasses import dataclass
from pathlib import Path

from keystore import PassphraseMissing, PassphraseRefused
from mlguard.cli import generated
from mlguard.cli.printable import printable, warn

MAX_FILE_BYTES = 4096  # a passphrase is one line; more is another file


@dataclass(frozen=True, kw_only=True)
class Source:
    """The sources of a secret that a person could type; the first one found is used.

    Attributes:
        what: Its name in questions and refusals: "passphrase".
        descriptor: An open file descriptor.
        file: A file with one line.
        variable: An environment variable that names such a file.
        hint: The hint if there is none of these, and no terminal.
    """

    what: str
    descriptor: int | None = None
    file: Path | None = None
    variable: str | None = None
    hint: str = PassphraseMissing.hint

    def read(self, question: str, *, confirm: bool = False) -> str:
        """Read the secret, or ask for it.

        Args:
            question: The question on the terminal.
            confirm: Ask twice, for a new secret; on a terminal, an empty answer has one
                made and shown, and the second question asks for that.

        Raises:
            PassphraseMissing: There is no source, and no terminal to ask at.
            PassphraseRefused: It has more than one line, is not text, or was typed
                differently.
        """
        if self.descriptor is not None:
            return self._from(self.descriptor, f"file descriptor {self.descriptor}")
        named = os.environ.get(self.variable) if self.variable else None
        path = self.file or (Path(named) if named else None)
        if path is not None:
            return self._from_file(path)
        makes = confirm and generated.can_show()
        offer = " (empty: have one made)" if makes else ""
        answer = ask(f"{question}{offer}: ", hint=self.hint)
        if makes and not answer:
            answer = generated.passphrase()
            generated.show(answer)
        if confirm and answer != ask("Again: ", hint=self.hint):
            raise PassphraseRefused(
                f"the two {self.what}s differ", hint="nothing was changed; try again"
            )
        return answer

    def _from_file(self, path: Path) -> str:
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise PassphraseMissing(
                f"cannot read the {self.what} file {path}: {error.strerror}",
                hint=self.hint,
            ) from None
        # A warning and not a refusal: container secrets are mounted like this.
        found = os.fstat(descriptor)
        if stat.S_ISREG(found.st_mode) and found.st_mode & 0o077:
            warn(f"{path} can be read by other users; `chmod 600` it")
        return self._from(descriptor, str(path))

    def _from(self, descriptor: int, source: str) -> str:
        try:
            with open(descriptor, "rb") as file:
                data = file.read(MAX_FILE_BYTES + 1)
        except OSError as error:
            raise PassphraseMissing(
                f"cannot read the {self.what} from {source}: {error.strerror}",
                hint=self.hint,
            ) from None
        if data.startswith(codecs.BOM_UTF8):
            data = data.removeprefix(codecs.BOM_UTF8)
            warn(f"ignored the byte-order mark at the start of {source}")
        line, _, rest = data.partition(b"\n")
        if len(data) > MAX_FILE_BYTES or rest:
            raise PassphraseRefused(
                f"{source} holds more than one line",
                hint="check that this is the right file",
            )
        try:
            return line.removesuffix(b"\r").decode("utf-8")
        except UnicodeDecodeError:
            raise PassphraseRefused(
                f"the {self.what} in {source} is not UTF-8"
            ) from None


def ask(question: str, *, hint: str = PassphraseMissing.hint) -> str:
    """Ask on the terminal without showing the answer.

    Raises:
        PassphraseMissing: There is no terminal, or nothing was typed.
    """
    if sys.stdin is None or not sys.stdin.isatty():
        raise PassphraseMissing(
            f"there is no terminal to ask at: {question.removesuffix(': ')}", hint=hint
        )
    try:
        typed = getpass.getpass(printable(question), stream=sys.stderr)
    except EOFError:
        raise PassphraseMissing("nothing was typed", hint=hint) from None
    sys.stderr.flush()  # the line ends before the answer begins
    return typed
