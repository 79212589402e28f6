"""Take a model key out of the keystore, and register its uses there."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from keystore import KeyNotUsable, Keystore, KeystoreError
from mlguard.cli.printable import warn
from mlguard.cli.unlock import Unlock
from mlguard.errors import WrongKey
from mlguard.keys import KEY_BYTES, ModelKey

MAX_SEARCHED = 1000  # keys among which the one needed is looked for
NO_ID = "-"  # shown for a secret that is not a model key


@dataclass(frozen=True)
class HeldKey:
    """A model key, while its keystore is open."""

    key: ModelKey
    name: str
    version: int
    _store: Keystore = field(repr=False)

    def register(self, kind: str, reference: str) -> None:
        """Register a use of this version, so that nobody destroys it by accident.

        A keystore that cannot be written only causes a warning.
        """
        try:
            self._store.add_use(self.name, kind, reference, version=self.version)
        except KeystoreError as refusal:
            warn(
                f"could not note in the keystore that {kind} {reference} needs "
                f"{self.name}@{self.version}: {refusal}"
            )


@contextmanager
def open_model_key(
    name: str, unlock: Unlock, *, key_id: str | None = None
) -> Iterator[HeldKey]:
    """Open the keystore and take one model key out of it.

    Args:
        name: The key's name; "acme@2" asks for version 2.
        unlock: The keystore, and how to open it.
        key_id: The id of the key needed, if known: any version is accepted, so that a
            model outlives the rotation of its key.

    Raises:
        KeystoreError: The keystore does not open, or lacks such a usable key.
        KeyNotUsable: The secret under the name is not a model key.
        WrongKey: No version is the key that is needed.
    """
    with open_model_keys([(name, key_id)], unlock) as (held,):
        yield held


@contextmanager
def open_model_keys(
    wanted: Sequence[tuple[str, str | None]], unlock: Unlock
) -> Iterator[list[HeldKey]]:
    """Take several model keys out of one keystore, opened once, as `open_model_key`.

    Args:
        wanted: The name of every key, and its key id if known.
        unlock: The keystore, and how to open it.

    Raises:
        KeystoreError: The keystore does not open, or lacks such a usable key.
        KeyNotUsable: The secret under a name is not a model key.
        WrongKey: No version of a key is the one that is needed.
    """
    with unlock.open() as store:
        yield [held_key(store, name, key_id) for name, key_id in wanted]


def read_model_key(name: str, unlock: Unlock, *, key_id: str | None = None) -> ModelKey:
    """Return a model key alone. Raises as `open_model_key`."""
    with open_model_key(name, unlock, key_id=key_id) as held:
        return held.key


def parse_key_name(text: str) -> tuple[str, int | None]:
    """Split "acme@2" into a name and a version; without @, the version is None.

    Raises:
        KeyNotUsable: The text after the @ is not a version number.

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


def key_id_of(secret: bytes) -> str:
    """Return the public name of a stored secret."""
    return ModelKey(secret).key_id if len(secret) == KEY_BYTES else NO_ID


def held_key(store: Keystore, name: str, key_id: str | None) -> HeldKey:
    """Return one model key of an open keystore. Raises as `open_model_key`."""
    plain, asked = parse_key_name(name)
    version = asked or store.info(plain).primary
    if key_id is not None:
        version = _find(store, plain, asked, key_id)
    secret = store.get(plain, version)
    if len(secret) != KEY_BYTES:
        raise KeyNotUsable(
            f"{name} is not a model key: expected {KEY_BYTES} bytes, got {len(secret)}"
        )
    return HeldKey(ModelKey(secret), plain, version, store)


def _find(store: Keystore, name: str, asked: int | None, key_id: str) -> int:
    """Return the version with a key id: the one asked for, otherwise the newest."""
    info, ids = store.info_and_ids(name, key_id_of)
    tried = [info.version(asked)] if asked else list(reversed(info.versions))
    fitting = [version for version in tried if ids.get(version.id) == key_id]
    fitting.sort(key=lambda version: version.state != "enabled")  # enabled ones first
    if fitting:
        return fitting[0].id
    shown = info.version(asked)
    more = "" if asked or len(tried) == 1 else ", and no other version is that key"
    raise WrongKey(
        f"the model was protected with key {key_id}, but {name}@{shown.id} is key "
        f"{ids.get(shown.id, NO_ID)}{more}",
        hint=_where(store, key_id),
    )


def _where(store: Keystore, key_id: str) -> str | None:
    """Name the key of a keystore that has an id; None if it is none of them."""
    for name in store.names()[:MAX_SEARCHED]:
        _, ids = store.info_and_ids(name, key_id_of)
        for version, found in ids.items():
            if found == key_id:
                return f"give --key {name}@{version}, which is that key"
    return None
