"""A P-256 key pair on a PKCS#11 token: find it, make it, agree on a secret with it.

Needs the extra `pkcs11`, so only `token_identity` imports it, and only when a token is
used.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pkcs11
from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    EllipticCurvePublicKey,
)
from pkcs11 import Attribute, KeyType, Mechanism, ObjectClass
from pkcs11.util.ec import encode_named_curve_parameters

from keystore.errors import TokenError
from keystore.pkcs11_key import NEW_KEY_ID_BYTES, NOT_OURS, objects_of, open_session
from keystore.token_uri import TokenUri

CURVE = "secp256r1"
POINT_BYTES = 65
OCTET_STRING = bytes([0x04, POINT_BYTES])  # how DER begins a point of this length
SECRET_BITS = 256


class TokenPair:
    """A key pair on a token, while we are logged in."""

    def __init__(self, private: Any, point: bytes) -> None:
        self._private = private
        self.id = bytes(private.id)
        self.public = point

    def exchange(self, point: bytes) -> bytes | None:
        """Return the shared secret with a point; None if it is not on the curve."""
        try:
            EllipticCurvePublicKey.from_encoded_point(SECP256R1(), point)
        except ValueError:
            return None
        secret = None
        for spelled in (point, OCTET_STRING + point):  # tokens differ in what they take
            try:
                secret = self._derive(spelled)
                break
            except (*NOT_OURS, pkcs11.exceptions.MechanismParamInvalid):
                continue
        return secret

    def _derive(self, point: bytes) -> bytes:
        derived = self._private.derive_key(
            KeyType.GENERIC_SECRET,
            SECRET_BITS,
            mechanism=Mechanism.ECDH1_DERIVE,
            mechanism_param=(pkcs11.KDF.NULL, None, point),
            store=False,
            template={Attribute.EXTRACTABLE: True, Attribute.SENSITIVE: False},
        )
        return bytes(derived[Attribute.VALUE])


@contextmanager
def open_pair(uri: TokenUri, pin: str) -> Iterator[TokenPair]:
    """Log in and find the key pair.

    Raises:
        TokenError: The token or the key is missing, or the token refuses.
    """
    with open_session(uri, pin) as session:
        private = _only(session, uri, ObjectClass.PRIVATE_KEY)
        if private[Attribute.EXTRACTABLE] or not private[Attribute.SENSITIVE]:
            raise TokenError(
                f"{uri}: the key could be taken out of the token",
                hint="make another with `mlguard identity new --token URI`",
            )
        public = _only(session, uri, ObjectClass.PUBLIC_KEY)
        point = bytes(public[Attribute.EC_POINT]).removeprefix(OCTET_STRING)
        if len(point) != POINT_BYTES or not private.id:
            raise TokenError(f"{uri}: not a P-256 key with an id")
        yield TokenPair(private, point)


def make_pair(uri: TokenUri, pin: str) -> bool:
    """Make the key pair if it does not exist; return whether it was made.

    Raises:
        TokenError: The token is missing or refuses.
    """
    with open_session(uri, pin, rw=True) as session:
        if objects_of(session, uri, ObjectClass.PRIVATE_KEY, KeyType.EC):
            return False
        if not uri.object:
            raise TokenError(
                f"{uri}: there is no such key, and the URI has no object to name a new "
                "one"
            )
        curve = {Attribute.EC_PARAMS: encode_named_curve_parameters(CURVE)}
        parameters = session.create_domain_parameters(KeyType.EC, curve, local=True)
        private = (Attribute.DERIVE, Attribute.PRIVATE, Attribute.SENSITIVE)
        never = (Attribute.EXTRACTABLE, Attribute.SIGN, Attribute.DECRYPT)
        parameters.generate_keypair(
            id=uri.id or os.urandom(NEW_KEY_ID_BYTES),
            label=uri.object,
            store=True,
            private_template=dict.fromkeys(private, True) | dict.fromkeys(never, False),
        )
        return True


def _only(session: pkcs11.Session, uri: TokenUri, kind: ObjectClass) -> Any:
    found = objects_of(session, uri, kind, KeyType.EC)
    if len(found) != 1:
        raise TokenError(f"{uri}: expected one P-256 key pair, found {len(found)}")
    return found[0]
