"""Everything the keystore can refuse, in one tree.

KeystoreError
├── KeystoreNotFound        there is nothing at the path
├── KeystoreExists          something is already at the path
├── KeystoreNotReadable     a link, a folder, no permission, an input error
├── KeystoreNotWritable     no space, no permission; the old state is intact
│   └── LogNotWritable      the audit log; nothing is changed without a line in it
├── KeystoreBusy            another process kept the lock for too long
├── MalformedKeystore       damaged, or not a keystore at all
├── TamperedKeystore        an opener fits, but the rest was altered
│   └── TamperedLog         the audit log was altered, cut or swapped
├── RolledBackKeystore      older than the store seen before, or a different one
├── WorkFactorTooHigh       opening would cost more than we allow; no work is done
├── NoSlotOpens             wrong passphrase or identity
├── PassphraseMissing       none was given, and there is no terminal to ask at
├── PassphraseRefused       empty, too long, or not text
├── IdentityError           an identity file that is missing, unsafe or damaged
├── TokenError              a PKCS#11 token that is missing, locked or refuses
├── SlotError               a slot that is unknown, or cannot be added or removed
├── InvalidName             a name that is not valid
├── KeyNotFound             no such key or version; names the known ones
├── KeyExists               a key is already stored under the name
└── KeyNotUsable            the version is disabled or destroyed
    ├── KeyInUse            something registered needs the version
    └── NotAllowed          the key's policy or state forbids it

A caller who only wants to know that it did not open catches KeystoreError. Each refusal
carries a `hint`: advice that a person can act on, or nothing. Passing the wrong Python
type is a bug, not a refusal, and raises TypeError or ValueError.
"""

from keystore.refusal import Refusal


class KeystoreError(Refusal):
    """Base of every refusal."""


class KeystoreNotFound(KeystoreError):
    """There is no keystore at the path."""

    hint = (
        "`mlguard keygen NAME` makes one; --keystore or MLGUARD_KEYSTORE names another"
    )


class KeystoreExists(KeystoreError):
    """Something is already at the path; it is never overwritten."""

    hint = "open it, or choose another path"


class KeystoreNotReadable(KeystoreError):
    """Something is at the path, but it cannot be read as a file."""


class KeystoreNotWritable(KeystoreError):
    """The new state could not be saved; the old state is intact."""

    hint = "free some space or make the folder writable; the keystore is as it was"


class LogNotWritable(KeystoreNotWritable):
    """The audit log cannot be written, so nothing was changed or exported."""

    hint = "make the log beside the keystore writable; the keystore is as it was"


class KeystoreBusy(KeystoreError):
    """Another process kept the lock for too long."""

    hint = "wait for the other mlguard process to end, then try again"


class MalformedKeystore(KeystoreError):
    """The bytes do not follow docs/spec/keystore-v1.md."""

    hint = "put back a backup; the state before the last write is beside it, as .bak"


class TamperedKeystore(KeystoreError):
    """An opener fits, but the store is not what its owner wrote."""

    hint = "someone may have altered it: keep this file, put back a trusted backup"


class TamperedLog(TamperedKeystore):
    """The audit log was altered, cut or swapped."""

    hint = (
        "keep the log and find out who could write to it; once you move it away, the "
        "keystore starts a new one, and the gap stays visible"
    )


class RolledBackKeystore(KeystoreError):
    """The store is older than the one seen before, or a different one."""

    hint = (
        "`mlguard keys check` compares the two; if you did it yourself, `mlguard keys "
        "accept` accepts the state as it is now"
    )


class WorkFactorTooHigh(KeystoreError):
    """Opening would cost more than we allow; nothing was computed."""

    hint = "mlguard never writes such a file; do not trust it"


class NoSlotOpens(KeystoreError):
    """No slot of the store opens with the given passphrase or identity."""

    hint = "check the passphrase or identity, and that this is the right keystore"


class PassphraseMissing(KeystoreError):
    """A passphrase is needed, none was given, and there is no terminal to ask at."""

    hint = (
        "give --identity FILE, --passphrase-file FILE or --passphrase-fd N, "
        "or set MLGUARD_IDENTITY_FILE or MLGUARD_PASSPHRASE_FILE"
    )


class PassphraseRefused(KeystoreError):
    """The passphrase is empty, too long, or not text."""


class IdentityError(KeystoreError):
    """An identity or its file is missing, unsafe or damaged."""


class TokenError(KeystoreError):
    """A PKCS#11 token is missing or locked, or refuses."""


class SlotError(KeystoreError):
    """A slot is unknown, or cannot be added or removed."""


class InvalidName(KeystoreError):
    """The name is not valid for a key, slot or purpose."""

    hint = "use 1 to 64 letters, digits, dots, hyphens and underscores, such as acme-2"


class KeyNotFound(KeystoreError):
    """No key is stored under the name, or it has no such version."""

    hint = "`mlguard keys list` shows what is in the keystore"


class KeyExists(KeystoreError):
    """A key is already stored under the name; it is never overwritten."""

    hint = "choose another name, or add a version to the key with `mlguard keys rotate`"


class KeyNotUsable(KeystoreError):
    """The version is disabled or destroyed."""

    hint = "`mlguard keys show NAME` shows the state of each version"


class KeyInUse(KeyNotUsable):
    """Something that is registered still needs the version."""

    hint = "protect it again with another version, or lose it with --force"


class NotAllowed(KeyNotUsable):
    """The key's policy or state forbids it."""
