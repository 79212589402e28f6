"""Open a bundle of either format from a path, reading only what is needed.

A hostile file may announce two gigabytes. Until a key has authenticated its manifest,
only the manifest is read, up to its limit.
"""

import hashlib
import os
import stat
import weakref
from pathlib import Path
from typing import BinaryIO

from mlguard.bundle import archive, archive2
from mlguard.bundle.bundle import Bundle, parse_bundle
from mlguard.bundle.bundle2 import Bundle2
from mlguard.bundle.manifest import Manifest, parse_manifest
from mlguard.bundle.proofs import check_key
from mlguard.errors import BundleError, MalformedBundle, TamperedBundle, WrongKey
from mlguard.files import open_to_read
from mlguard.keys import ModelKey, ModelSubkeys

VERSION_AT = slice(4, 6)  # of a local header: the ZIP version that is needed


class Glimpse:
    """A bundle of format 1 of which only the manifest was read.

    Attributes:
        name: The path it was read from.
        manifest: Everything that is not a graph.
    """

    def __init__(self, file: BinaryIO, size: int, *, name: str) -> None:
        """Read the manifest.

        Raises:
            MalformedBundle: The file does not follow the specification.
        """
        weakref.finalize(self, file.close)
        self.name, self._file, self._size = name, file, size
        file.seek(0)
        self._content = archive.unpack_first(file, size, name=name)
        self.digest = hashlib.sha256(self._content).hexdigest()
        self.manifest: Manifest = parse_manifest(self._content, name=name)

    @property
    def sealed(self) -> bool:
        """Whether the model can be read only with the key."""
        return self.manifest.seal is not None

    def whole(self) -> Bundle:
        """Read the rest.

        Raises:
            MalformedBundle: The file does not follow the specification.
            TamperedBundle: A member does not match the manifest.
        """
        self._file.seek(0)
        bundle = parse_bundle(self._file, self._size, name=self.name)
        if bundle.manifest.to_bytes() != self._content:
            raise TamperedBundle(f"{self.name} was changed while it was being read")
        return bundle

    def unlock(self, key: ModelKey) -> tuple[Bundle, ModelSubkeys]:
        """Check the key against the manifest, and only then read the rest.

        Raises:
            WrongKey: The bundle was made for another key; both ids are named.
            TamperedBundle: The key is correct, but the file was changed since.
            MalformedBundle: The file does not follow the specification.
        """
        if not isinstance(key, ModelKey):
            raise WrongKey(
                f"{self.name} is of format 1, which cannot be issued to a customer"
            )
        subkeys = check_key(self.manifest, key, name=self.name)
        return self.whole(), subkeys


def glimpse_bundle(path: Path) -> Glimpse | Bundle2:
    """Open a bundle and read its manifest.

    Raises:
        BundleError: The file does not exist or is not readable.
        MalformedBundle: The file does not follow the specification.
    """
    try:
        file = open(path, "rb", opener=open_to_read)  # noqa: SIM115  # a bundle keeps it
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            file.close()
            raise MalformedBundle(f"{path} is not a regular file")
        start = file.read(archive.LOCAL.size)
        size, name = status.st_size, str(path)
        if start[VERSION_AT] == archive2.VERSION.to_bytes(2, "little"):
            return Bundle2(file, size, name=name)
        return Glimpse(file, size, name=name)
    except OSError as error:
        raise BundleError(
            f"cannot read bundle {path}: {error.strerror}", hint="check the path"
        ) from None


def read_bundle(path: Path) -> Bundle:
    """Read a bundle of format 1, and check that it is complete.

    Raises:
        BundleError: The file does not exist, is not readable, or is of format 2.
        MalformedBundle: The file does not follow the specification.
        TamperedBundle: A member does not match the manifest.
    """
    found = glimpse_bundle(path)
    if isinstance(found, Bundle2):
        raise BundleError(
            f"{path} is of format 2, but only format 1 can be read here",
            hint="export it again with `--format 1`",
        )
    return found.whole()
