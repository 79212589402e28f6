"""A sealed store of named, versioned secrets.

It needs the standard library, cryptography and filelock, and knows nothing of models.
The file is described in docs/spec/keystore-v1.md.
"""

from keystore.backup import backup, restore
from keystore.entries import Entry, Policy, Use, Version, check_name
from keystore.errors import (
    IdentityError,
    InvalidName,
    KeyExists,
    KeyInUse,
    KeyNotFound,
    KeyNotUsable,
    KeystoreBusy,
    KeystoreError,
    KeystoreExists,
    KeystoreNotFound,
    KeystoreNotReadable,
    KeystoreNotWritable,
    LogNotWritable,
    MalformedKeystore,
    NoSlotOpens,
    NotAllowed,
    PassphraseMissing,
    PassphraseRefused,
    RolledBackKeystore,
    SlotError,
    TamperedKeystore,
    TamperedLog,
    TokenError,
    WorkFactorTooHigh,
)
from keystore.file_storage import FileStorage
from keystore.identity import Identity
from keystore.log import Record
from keystore.memory_storage import MemoryStorage
from keystore.passphrase import Passphrase, WorkFactor
from keystore.pins import Pins
from keystore.places import storage_at
from keystore.private_file import read_private, write_private
from keystore.recipient import Recipient, wrap
from keystore.slots import Slot
from keystore.storage import Storage
from keystore.store import Keystore
from keystore.token import Token
from keystore.token_identity import TokenIdentity
from keystore.token_uri import TokenUri

__all__ = [
    "Entry",
    "FileStorage",
    "Identity",
    "IdentityError",
    "InvalidName",
    "KeyExists",
    "KeyInUse",
    "KeyNotFound",
    "KeyNotUsable",
    "Keystore",
    "KeystoreBusy",
    "KeystoreError",
    "KeystoreExists",
    "KeystoreNotFound",
    "KeystoreNotReadable",
    "KeystoreNotWritable",
    "LogNotWritable",
    "MalformedKeystore",
    "MemoryStorage",
    "NoSlotOpens",
    "NotAllowed",
    "Passphrase",
    "PassphraseMissing",
    "PassphraseRefused",
    "Pins",
    "Policy",
    "Recipient",
    "Record",
    "RolledBackKeystore",
    "Slot",
    "SlotError",
    "Storage",
    "TamperedKeystore",
    "TamperedLog",
    "Token",
    "TokenError",
    "TokenIdentity",
    "TokenUri",
    "Use",
    "Version",
    "WorkFactor",
    "WorkFactorTooHigh",
    "backup",
    "check_name",
    "read_private",
    "restore",
    "storage_at",
    "wrap",
    "write_private",
]
