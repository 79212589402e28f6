"""Where a passphrase or an identity comes from, and the model key they give.

Sources, first found wins: `--identity`, `--passphrase-fd`, `--passphrase-file`; then
`MLGUARD_IDENTITY_FILE`, `MLGUARD_PASSPHRASE_FILE`; then a question on the terminal.
`--identity -` asks for an identity, such as the one on a recovery sheet.
What is said on the command line thus beats the environment. A passphrase is never the
value of a flag: `ps` would show it to everyone.
"""

import getpass
import os
import stat
import sys
from pathlib import Path
from typing import Annotated

import typer

from keystore import (
    Identity,
    KeyNotUsable,
    Keystore,
    KeystoreNotFound,
    Passphrase,
    PassphraseMissing,
    PassphraseRefused,
    Pins,
)
from mlguard.keys import KEY_BYTES, ModelKey

DEFAULT_KEYSTORE = Path(typer.get_app_dir("mlguard")) / "keystore.mlgk"
IDENTITY_VARIABLE = "MLGUARD_IDENTITY_FILE"
PASSPHRASE_VARIABLE = "MLGUARD_PASSPHRASE_FILE"
FROM_TERMINAL = Path("-")
MAX_PASSPHRASE_FILE_BYTES = 4096  # a passphrase is a line; more is another file

KeystorePath = Annotated[
    Path,
    typer.Option("--keystore", envvar="MLGUARD_KEYSTORE", help="The keystore file."),
]
PassphraseFile = Annotated[
    Path | None,
    typer.Option(
        "--passphrase-file",
        help=f"Read the passphrase from a file (or {PASSPHRASE_VARIABLE})",
        show_default=False,
    ),
]
PassphraseFd = Annotated[
    int | None,
    typer.Option(
        "--passphrase-fd",
        min=0,
        max=(1 << 31) - 1,
        metavar="N",
        help="Read the passphrase from an open file descriptor.",
        show_default=False,
    ),
]
IdentityFile = Annotated[
    Path | None,
    typer.Option(
        "--identity",
        help=f"Open the keystore with an identity file (or {IDENTITY_VARIABLE})",
        show_default=False,
    ),
]


def parse_key_name(text: str) -> tuple[str, int | None]:
    """Split "acme@2" into a name and a version; without @ there is no version.

    Raises:
        KeyNotUsable: What follows the @ is not a version number.

    Example:
        >>> parse_key_name("acme@2"), parse_key_name("acme")
        (('acme', 2), ('acme', None))
    """
    name, at, version = text.partition("@")
    if not at:
        return name, None
    if not (version.isascii() and version.isdigit() and len(version) < 10):
        raise KeyNotUsable(
            f"{text!r} does not name a version",
            hint="write NAME, or NAME@2 for version 2",
        )
    return name, int(version)


def read_model_key(
    name: str,
    *,
    keystore: Path,
    passphrase_file: Path | None = None,
    passphrase_fd: int | None = None,
    identity: Path | None = None,
    version: int | None = None,
    use: tuple[str, str] | None = None,
) -> ModelKey:
    """Open the keystore and take one model key out of it.

    Args:
        name: The key's name; "acme@2" asks for version 2.
        keystore: The keystore file.
        passphrase_file: See the module's text for these three.
        passphrase_fd: An open file descriptor.
        identity: An identity file.
        version: Overrides a version in the name; the primary one if neither is given.
        use: What will need the key from now on, such as ("run", "runs/acme").
            `keys destroy` refuses while something is registered.

    Raises:
        KeystoreError: The keystore does not open, or has no such usable key.
        KeyNotUsable: What is stored under the name is not a model key.
    """
    plain, in_name = parse_key_name(name)
    wanted = in_name if version is None else version
    opener = find_opener(
        keystore,
        passphrase_file=passphrase_file,
        passphrase_fd=passphrase_fd,
        identity=identity,
    )
    with Keystore.open(keystore, opener, pins=pins()) as store:
        secret = store.get(plain, wanted)
        if use is not None:
            store.add_use(plain, *use, version=wanted)
    if len(secret) != KEY_BYTES:
        raise KeyNotUsable(
            f"{name} is not a model key: expected {KEY_BYTES} bytes, got {len(secret)}"
        )
    return ModelKey(secret)


def pins() -> Pins:
    """Where it is remembered how far each keystore had come."""
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Pins(Path(state) / "mlguard" / "pins")


def find_opener(
    keystore: Path,
    *,
    passphrase_file: Path | None,
    passphrase_fd: int | None,
    identity: Path | None,
) -> Passphrase | Identity:
    """Take the first source there is; ask on the terminal if there is none.

    Raises:
        KeystoreNotFound: There is no keystore, so nothing is asked.
        IdentityError: The identity file is missing, unsafe or damaged.
        PassphraseMissing: No source, and no terminal to ask on.
        PassphraseRefused: The passphrase is empty, too long, or not text.
    """
    if not os.path.lexists(keystore):
        raise KeystoreNotFound(f"there is no keystore at {keystore}")
    return choose_opener(keystore, passphrase_file, passphrase_fd, identity)


def choose_opener(
    keystore: Path,
    passphrase_file: Path | None,
    passphrase_fd: int | None,
    identity: Path | None,
) -> Passphrase | Identity:
    """As `find_opener`, for a file that need not exist. Raises the same."""
    chosen = choose_identity(passphrase_file, passphrase_fd, identity)
    if chosen == FROM_TERMINAL:
        return Identity.parse(_ask(f"Identity for {keystore}: "))
    if chosen is not None:
        return Identity.read(chosen)
    return find_passphrase(keystore, passphrase_file, passphrase_fd, confirm=False)


def choose_identity(
    passphrase_file: Path | None, passphrase_fd: int | None, identity: Path | None
) -> Path | None:
    """The identity file to use, or None if a passphrase comes first."""
    if identity is not None:
        return identity
    if passphrase_file is not None or passphrase_fd is not None:
        return None
    variable = os.environ.get(IDENTITY_VARIABLE)
    return Path(variable) if variable else None


def find_passphrase(
    keystore: Path,
    file: Path | None,
    descriptor: int | None,
    *,
    confirm: bool,
    new: bool = False,
) -> Passphrase:
    """Read the passphrase from a descriptor, a file, or the terminal.

    Args:
        keystore: What it is for, in the question.
        file: A file with one line.
        descriptor: An open file descriptor.
        confirm: Ask twice.
        new: It replaces or joins another one, which the environment may name.

    Raises:
        PassphraseMissing: No source, and no terminal to ask on.
        PassphraseRefused: It is empty, too long, or not text.
    """
    if descriptor is not None:
        return _from_descriptor(descriptor, f"file descriptor {descriptor}")
    variable = None if new else os.environ.get(PASSPHRASE_VARIABLE)
    path = file or (Path(variable) if variable else None)
    if path is not None:
        return _from_file(path)
    answer = _ask(f"{'New passphrase' if new else 'Passphrase'} for {keystore}: ")
    if confirm and answer != _ask("Again: "):
        raise PassphraseRefused(
            "the two passphrases differ", hint="nothing was changed; try again"
        )
    return Passphrase(answer)


def _from_file(path: Path) -> Passphrase:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise PassphraseMissing(
            f"cannot read the passphrase file {path}: {error.strerror}",
            hint="check --passphrase-file and " + PASSPHRASE_VARIABLE,
        ) from None
    # A warning and not a refusal: container secrets are mounted like this.
    found = os.fstat(descriptor)
    if stat.S_ISREG(found.st_mode) and found.st_mode & 0o077:
        print(
            f"mlguard: warning: {path} can be read by other users; `chmod 600` it",
            file=sys.stderr,
        )
    return _from_descriptor(descriptor, str(path))


def _from_descriptor(descriptor: int, source: str) -> Passphrase:
    try:
        with open(descriptor, "rb") as file:
            data = file.read(MAX_PASSPHRASE_FILE_BYTES + 1)
    except OSError as error:
        raise PassphraseMissing(
            f"cannot read the passphrase from {source}: {error.strerror}"
        ) from None
    line, _, rest = data.partition(b"\n")
    if len(data) > MAX_PASSPHRASE_FILE_BYTES or rest:
        raise PassphraseRefused(
            f"{source} holds more than one line", hint="was another file named?"
        )
    try:
        return Passphrase(line.removesuffix(b"\r").decode("utf-8"))
    except UnicodeDecodeError:
        raise PassphraseRefused(f"the passphrase in {source} is not UTF-8") from None


def _ask(question: str) -> str:
    if sys.stdin is None or not sys.stdin.isatty():
        raise PassphraseMissing(
            f"there is no terminal to ask on: {question.removesuffix(': ')}"
        )
    try:
        return getpass.getpass(question, stream=sys.stderr)
    except EOFError:
        raise PassphraseMissing("nothing was typed") from None
