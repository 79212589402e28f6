"""Turn the place that a user names into the storage of a keystore."""

import re
from pathlib import Path

from keystore.errors import KeystoreNotReadable
from keystore.file_storage import FileStorage
from keystore.storage import Storage

URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://", re.ASCII)


def storage_at(place: str | Path) -> Storage:
    """Return the storage at a place: a path is a file; a URL is a database.

    Raises:
        KeystoreNotReadable: The URL is unknown, or the extra `sql` is missing.
    """
    if isinstance(place, Path) or not URL.match(place):
        return FileStorage(Path(place))
    try:
        from keystore.sql_storage import SqlStorage
    except ModuleNotFoundError as error:
        raise KeystoreNotReadable(
            f"a keystore in a database needs the package {error.name}",
            hint="install it with `pip install '.[sql]'` in a checkout of mlguard",
        ) from None
    return SqlStorage(place)
