"""Thirty-two secret bytes as text that can be printed, typed and checked.

docs/spec/keystore-v1.md, section 4; docs/spec/keystore-v2.md, section 3.
"""

import base64
import binascii
import hashlib

from keystore.errors import IdentityError

SECRET_BYTES = 32
CHECKSUM_BYTES = 3
TEXT_CHARACTERS = 56
GROUP = 4  # characters between hyphens
IDENTITY_1 = "MLGUARD-IDENTITY-1-"
IDENTITY_2 = "MLGUARD-IDENTITY-2-"
KEY_1 = "MLGUARD-KEY-1-"
RECIPIENT = "MLGUARD-RECIPIENT-"
PUBLIC_HALF = "it is a recipient, the public half; the identity is the other file"
WORDS = {IDENTITY_1: "identity", IDENTITY_2: "identity", KEY_1: "key"}
ARTICLES = {IDENTITY_1: "an identity", IDENTITY_2: "an identity", KEY_1: "a key"}


def to_text(prefix: str, secret: bytes) -> str:
    """Write a secret as the prefix and 14 groups of four characters."""
    data = secret + _checksum(prefix, secret)
    body = base64.b32encode(data).decode("ascii")
    groups = [body[i : i + GROUP] for i in range(0, TEXT_CHARACTERS, GROUP)]
    return prefix + "-".join(groups)


def begins_with(prefix: str, text: str) -> bool:
    """Whether a text looks like this kind of text, however it was typed."""
    return _plain(text).startswith(prefix.replace("-", ""))


def looks_secret(text: str) -> bool:
    """Whether a text may hold an identity or a key, however it was typed."""
    plain = _plain(text)
    return any(f"MLGUARD{word.upper()}" in plain for word in WORDS.values())


def from_text(prefix: str, text: str) -> bytes:
    """Read a secret; hyphens, white space and case do not matter.

    Raises:
        IdentityError: Not this kind of text, or mistyped.
    """
    plain = _plain(text)
    body = plain.removeprefix(prefix.replace("-", ""))
    if body == plain or len(body) != TEXT_CHARACTERS:
        raise IdentityError(
            f"not {ARTICLES[prefix]}: expected {prefix} "
            f"and {TEXT_CHARACTERS} characters",
            hint=PUBLIC_HALF if begins_with(RECIPIENT, text) else None,
        )
    try:
        data = base64.b32decode(body)
    except (binascii.Error, ValueError):
        raise IdentityError(f"not {ARTICLES[prefix]}: not base32") from None
    secret = data[:SECRET_BYTES]
    if _checksum(prefix, secret) != data[SECRET_BYTES:]:
        raise IdentityError(
            f"the checksum of the {WORDS[prefix]} does not match",
            hint="a character may be mistyped or missing",
        )
    return secret


def _plain(text: str) -> str:
    return "".join(text.split()).replace("-", "").upper()


def _checksum(prefix: str, secret: bytes) -> bytes:
    number = prefix.rstrip("-").rpartition("-")[2]
    label = f"mlguard {WORDS[prefix]} {number}".encode("ascii")
    return hashlib.sha256(label + secret).digest()[:CHECKSUM_BYTES]
