"""An AES-256 key on a PKCS#11 token: find it, make it, encrypt with it.

Needs the extra `pkcs11`, so only `token` imports it, and only when a token is used.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pkcs11
from pkcs11 import Attribute, GCMParams, KeyType, Mechanism, ObjectClass, exceptions

from keystore.errors import TokenError
from keystore.sealing import KEY_BYTES
from keystore.token_uri import TokenUri

GCM, KWP = "aes-gcm", "aes-kwp"
ASSOCIATED = b"mlguard/keystore/v1/pkcs11"
NEW_KEY_ID_BYTES = 8
TAG_BITS = 128
# What tokens answer when a ciphertext is not theirs; SoftHSM says GeneralError.
NOT_OURS = (
    exceptions.DataInvalid,
    exceptions.EncryptedDataInvalid,
    exceptions.FunctionFailed,
    exceptions.GeneralError,
    exceptions.SignatureInvalid,
    exceptions.WrappedKeyInvalid,
)
WRONG_PIN = (exceptions.PinIncorrect, exceptions.PinInvalid, exceptions.PinLenRange)


class TokenKey:
    """An AES key on a token, while we are logged in."""

    def __init__(self, session: pkcs11.Session, key: Any) -> None:
        self._session = session
        self._key = key
        self.id = bytes(key.id)

    def best_mechanism(self) -> str:
        """AES-GCM if the token has it, else AES-KWP.

        Raises:
            TokenError: It has neither.
        """
        known = self._session.token.slot.get_mechanisms()
        if Mechanism.AES_GCM in known:
            return GCM
        if Mechanism.AES_KEY_WRAP_PAD in known:
            return KWP
        raise TokenError("the token has neither AES-GCM nor AES-KWP")

    def encrypt(self, mechanism: str, nonce: bytes, secret: bytes) -> bytes:
        """Encrypt a slot secret."""
        if mechanism == GCM:
            return bytes(self._key.encrypt(secret, **_gcm(nonce)))
        value = self._session.create_object(
            {
                Attribute.CLASS: ObjectClass.SECRET_KEY,
                Attribute.KEY_TYPE: KeyType.GENERIC_SECRET,
                Attribute.VALUE: secret,
                Attribute.TOKEN: False,
                Attribute.EXTRACTABLE: True,
                Attribute.SENSITIVE: False,
            }
        )
        return bytes(self._key.wrap_key(value, mechanism=Mechanism.AES_KEY_WRAP_PAD))

    def decrypt(self, mechanism: str, nonce: bytes, secret: bytes) -> bytes | None:
        """Decrypt a slot secret; None if this key did not encrypt it."""
        try:
            if mechanism == GCM:
                return bytes(self._key.decrypt(secret, **_gcm(nonce)))
            value = self._key.unwrap_key(
                ObjectClass.SECRET_KEY,
                KeyType.GENERIC_SECRET,
                secret,
                mechanism=Mechanism.AES_KEY_WRAP_PAD,
                store=False,
                template={Attribute.EXTRACTABLE: True, Attribute.SENSITIVE: False},
            )
            return bytes(value[Attribute.VALUE])
        except NOT_OURS:
            return None


@contextmanager
def open_key(uri: TokenUri, pin: str) -> Iterator[TokenKey]:
    """Log in and find the key.

    Raises:
        TokenError: The token or the key is missing, or the token refuses.
    """
    with open_session(uri, pin) as session:
        found = _keys(session, uri)
        if len(found) != 1:
            raise TokenError(f"{uri}: expected one AES key, found {len(found)}")
        yield TokenKey(session, _checked(found[0], uri))


def make_key(uri: TokenUri, pin: str) -> bool:
    """Make the key if it does not exist; return whether it was made.

    Raises:
        TokenError: The token is missing or refuses.
    """
    with open_session(uri, pin, rw=True) as session:
        if _keys(session, uri):
            return False
        if not uri.object:
            raise TokenError(
                f"{uri}: there is no such key, and the URI has no object to name a new "
                "one"
            )
        yes = (
            Attribute.DECRYPT,
            Attribute.ENCRYPT,
            Attribute.PRIVATE,
            Attribute.SENSITIVE,
            Attribute.UNWRAP,
            Attribute.WRAP,
        )
        session.generate_key(
            KeyType.AES,
            8 * KEY_BYTES,
            id=uri.id or os.urandom(NEW_KEY_ID_BYTES),
            label=uri.object,
            store=True,
            template={Attribute.EXTRACTABLE: False} | dict.fromkeys(yes, True),
        )
        return True


@contextmanager
def open_session(
    uri: TokenUri, pin: str, *, rw: bool = False
) -> Iterator[pkcs11.Session]:
    """Log in to a token.

    Raises:
        TokenError: The token is missing or refuses.
    """
    try:
        token = _token(pkcs11.lib(uri.module_path), uri)
        with token.open(rw=rw, user_pin=pin) as session:
            yield session
    except WRONG_PIN:
        raise TokenError(
            f"{uri}: the PIN was refused",
            hint="a token locks itself after a few wrong PINs",
        ) from None
    except exceptions.PinLocked:
        raise TokenError(
            f"{uri}: the PIN is locked",
            hint="the token's security officer can unlock it",
        ) from None
    except exceptions.PKCS11Error as error:
        reason = str(error) or type(error).__name__
        raise TokenError(f"{uri}: the token refused: {reason}") from None


def _token(library: Any, uri: TokenUri) -> pkcs11.Token:
    wanted = {
        "label": uri.token,
        "serial": uri.serial.encode(),
        "model": uri.model,
        "manufacturer_id": uri.manufacturer,
    }
    found: list[pkcs11.Token] = [
        token
        for token in library.get_tokens()
        if all(getattr(token, name) == v for name, v in wanted.items() if v)
    ]
    if len(found) != 1:
        raise TokenError(
            f"{uri}: expected one token, found {len(found)}",
            hint="is it plugged in? `pkcs11-tool --list-slots` shows what is there",
        )
    return found[0]


def objects_of(
    session: pkcs11.Session, uri: TokenUri, kind: ObjectClass, type_: KeyType
) -> list[Any]:
    """The token's objects of a kind that a URI names, by their label and id."""
    wanted: dict[Attribute, Any] = {Attribute.CLASS: kind, Attribute.KEY_TYPE: type_}
    if uri.object:
        wanted[Attribute.LABEL] = uri.object
    if uri.id:
        wanted[Attribute.ID] = uri.id
    return list(session.get_objects(wanted))


def _keys(session: pkcs11.Session, uri: TokenUri) -> list[Any]:
    return objects_of(session, uri, ObjectClass.SECRET_KEY, KeyType.AES)


def _checked(key: Any, uri: TokenUri) -> Any:
    if key[Attribute.EXTRACTABLE] or not key[Attribute.SENSITIVE]:
        raise TokenError(
            f"{uri}: the key could be taken out of the token",
            hint="make another with `mlguard keys slots add NAME --new-token URI`",
        )
    if key.key_length != 8 * KEY_BYTES or not key.id:
        raise TokenError(f"{uri}: not an AES-256 key with an id")
    return key


def _gcm(nonce: bytes) -> dict[str, Any]:
    parameters = GCMParams(nonce, ASSOCIATED, TAG_BITS)
    return {"mechanism": Mechanism.AES_GCM, "mechanism_param": parameters}
