"""PKCS#11 URIs: they name a module, a token and a key. RFC 7512, without PINs.

Example:
    >>> uri = TokenUri.parse("pkcs11:token=team;object=mlguard?module-path=/lib/hsm.so")
    >>> uri.object, uri.module_path
    ('mlguard', '/lib/hsm.so')
    >>> str(uri)
    'pkcs11:token=team;object=mlguard'
"""

import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote, unquote_to_bytes

from keystore.errors import TokenError

SCHEME = "pkcs11:"
TOKEN_WORDS = ("token", "serial", "model", "manufacturer")
WORDS = (*TOKEN_WORDS, "object", "id", "type")
TYPES = ("secret-key", "private")
EXAMPLE = "pkcs11:token=team;object=mlguard?module-path=/usr/lib/softhsm/libsofthsm2.so"


@dataclass(frozen=True, kw_only=True)
class TokenUri:
    """The names in a URI. Empty fields match everything.

    Attributes:
        module_path: The PKCS#11 library of the token's maker. It is code that runs:
            it comes from the user, never from a keystore.
        id: The key's CKA_ID.
        private: Whether it names a key pair, type=private, rather than an AES key.
        object: The key's label.
    """

    module_path: str
    token: str = ""
    serial: str = ""
    model: str = ""
    manufacturer: str = ""
    object: str = ""
    id: bytes = b""
    private: bool = False

    @classmethod
    def parse(cls, text: str, *, private: bool | None = None) -> "TokenUri":
        """Read a URI.

        Args:
            text: The URI.
            private: Whether its type must be private or secret-key; either if left out.

        Raises:
            TokenError: Not such a URI, or it holds a PIN.
        """
        if "pin-value" in text or "pin-source" in text:
            raise TokenError(  # the text is not shown: it may hold the PIN
                "the URI of the token names a PIN",
                hint="other users may read it with `ps`: use --pin-file, --pin-fd, or "
                "type it when asked",
            )
        if not text.startswith(SCHEME):
            raise _refused(text, "it does not begin with pkcs11:")
        path, _, query = text.removeprefix(SCHEME).partition("?")
        words = _pairs(text, path, ";", WORDS)
        kind = words.pop("type", "private" if private else "secret-key")
        expected = TYPES if private is None else (TYPES[private],)
        if kind not in expected:
            raise _refused(text, f"its type is not {' or '.join(expected)}")
        module = _pairs(text, query, "&", ("module-path",)).get("module-path", "")
        if not module:
            raise _refused(text, "it has no module-path")
        if not (words.get("object") or words.get("id")):
            raise _refused(text, "it does not name an object")
        return cls(
            module_path=unquote(module),
            id=unquote_to_bytes(words.pop("id", "")),
            private=kind == "private",
            **{name: unquote(value) for name, value in words.items()},
        )

    def __str__(self) -> str:
        """The URI without the module."""
        found = {name: getattr(self, name) for name in WORDS if name != "type"}
        words = (f"{name}={quote(value)}" for name, value in found.items() if value)
        return SCHEME + ";".join(words)


def refuse_planted(module_path: str, *, hint: str) -> None:
    """Refuse a library that nobody named on purpose, unless it is the system's.

    It would run with the user's rights, and he may not know that it was named.

    Args:
        module_path: The library.
        hint: How to name it on purpose.

    Raises:
        TokenError: Somebody other than root could have put it there.
    """
    library = Path(os.path.realpath(module_path))
    for path in (library, *library.parents):
        try:
            found = path.stat()
        except OSError:
            return  # not there: said when it is loaded
        if found.st_uid != 0 or found.st_mode & 0o022:
            raise TokenError(
                f"the library {module_path} was named by the environment or a "
                "configuration, and users other than root could have put it there: "
                f"{path}",
                hint=hint,
            )


def _pairs(text: str, part: str, end: str, known: tuple[str, ...]) -> dict[str, str]:
    found: dict[str, str] = {}
    for pair in filter(None, part.split(end)):
        name, equals, value = pair.partition("=")
        if not equals or name not in known or name in found:
            raise _refused(text, f"{name!r} is unknown or appears twice")
        found[name] = value
    return found


def _refused(text: str, reason: str) -> TokenError:
    return TokenError(
        f"{text!r} does not name a key on a token: {reason}",
        hint=f"write it like {EXAMPLE}",
    )
