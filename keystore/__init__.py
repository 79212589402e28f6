"""A sealed store of named, versioned secrets.

Needs the standard library, cryptography and filelock; knows nothing of models.
The file is described in docs/spec/keystore-v1.md.
"""

from keystore.entries import Entry, Policy, Use, Version, check_name
from keystore.errors import (
    IdentityError,
    InvalidName,
    KeyExists,
    KeyNotFound,
    KeyNotUsable,
    KeystoreBusy,
    KeystoreError,
    KeystoreExists,
    KeystoreNotFound,
    KeystoreNotReadable,
    KeystoreNotWritable,
    MalformedKeystore,
    NoSlotOpens,
    PassphraseMissing,
    PassphraseRefused,
    RolledBackKeystore,
    SlotError,
    TamperedKeystore,
    WorkFactorTooHigh,
)
from keystore.file_storage import FileStorage
from keystore.identity import Identity
from keystore.passphrase import Passphrase, WorkFactor
from keystore.slots import Slot
from keystore.storage import Storage
from keystore.store import Keystore

__all__ = [
    "Entry",
    "FileStorage",
    "Identity",
    "IdentityError",
    "InvalidName",
    "KeyExists",
    "KeyNotFound",
    "KeyNotUsable",
    "Keystore",
    "KeystoreBusy",
    "KeystoreError",
    "KeystoreExists",
    "KeystoreNotFound",
    "KeystoreNotReadable",
    "KeystoreNotWritable",
    "MalformedKeystore",
    "NoSlotOpens",
    "Passphrase",
    "PassphraseMissing",
    "PassphraseRefused",
    "Policy",
    "RolledBackKeystore",
    "Slot",
    "SlotError",
    "Storage",
    "TamperedKeystore",
    "Use",
    "Version",
    "WorkFactor",
    "WorkFactorTooHigh",
    "check_name",
]
