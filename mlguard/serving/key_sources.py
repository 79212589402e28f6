"""Where a server gets its key: a file, a keystore, a token, or a local key service.

A source is a short text without any secret, so that it can be part of a configuration.
Nothing here asks a person, and no key is taken from the value of an environment
variable or from a command line, which other processes can read.
"""

import os
import queue
import re
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from http.client import HTTPException, InvalidURL
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from keystore import (
    Identity,
    Keystore,
    Token,
    TokenIdentity,
    TokenUri,
    read_private,
)
from keystore.textform import (
    IDENTITY_1,
    IDENTITY_2,
    KEY_1,
    begins_with,
    from_text,
    looks_secret,
)
from keystore.token_uri import refuse_planted
from mlguard.errors import KeySourceError
from mlguard.keys import KEY_BYTES, ModelKey

ENVIRONMENT = "MLGUARD_KEY_SOURCE"  # takes precedence over the configuration
IDENTITY = "MLGUARD_IDENTITY_FILE"
TOKEN, PIN = "MLGUARD_TOKEN", "MLGUARD_PIN_FILE"
MAX_ANSWER_BYTES = 4096  # a key as text has about 80
TIMEOUT_S = 10.0


Opener = ModelKey | Identity | TokenIdentity


def open_key(source: str) -> Opener:
    """Get the key of a bundle from a source.

    The key is the owner's model key, or for an issued bundle the customer's identity.

    Args:
        source: `file:PATH`, an identity file or what `mlguard keys export` wrote, such
            as a mounted secret; `keystore:PATH#NAME`, opened by the identity file that
            MLGUARD_IDENTITY_FILE names, or the key on a token that MLGUARD_TOKEN names;
            `pkcs11:…;type=private?module-path=…`, an identity on a token, of which
            MLGUARD_PIN_FILE names the PIN's file; or `http://127.0.0.1:PORT/…`, a key
            service on this machine, such as the Confidential Data Hub of a confidential
            container, which answers after attestation.

    Raises:
        KeySourceError: The source is of an unknown kind, or does not answer with a key.
        KeystoreError: The file, the keystore or the token does not open.
    """
    kind, colon, rest = source.partition(":")
    if not colon or kind not in SOURCES:
        known = ", ".join(f"{name}:…" for name in SOURCES)
        # The value is not shown: by mistake it may be the key itself.
        raise KeySourceError(f"expected a key source: {known}")
    if holds_secret(source):
        raise KeySourceError(
            f"expected a place after {kind}:, got a secret; it is not shown here",
            hint="write the key into a file that only the server reads, and name that",
        )
    return SOURCES[kind](rest)


def holds_secret(source: str) -> bool:
    """Whether a source holds what it should only lead to: a key, or a password."""
    _, _, rest = source.partition("://")
    return looks_secret(source) or "@" in re.split(r"[/?#]", rest)[0]


def chosen_source(configured: str) -> str:
    """Return the source to use: the environment's, otherwise the configured one."""
    source = os.environ.get(ENVIRONMENT) or configured
    if not source:
        raise KeySourceError(
            "no key source is configured",
            hint=f"set {ENVIRONMENT}, for example to file:/run/secrets/acme.key",
        )
    return source


def _from_file(path: str) -> Opener:
    return _key(read_private(Path(path)))


def _from_keystore(rest: str) -> ModelKey:
    path, hash_, name = rest.rpartition("#")
    if not hash_ or not path or not name:
        raise KeySourceError("expected keystore:PATH#NAME")
    with Keystore.open(Path(path), _opener()) as store:
        secret = store.get(name)
    if len(secret) != KEY_BYTES:
        raise KeySourceError(f"{name} in {path} is not a model key")
    return ModelKey(secret)


def _opener() -> Identity | Token | TokenIdentity:
    """What opens a keystore where nobody can be asked."""
    identity, token = os.environ.get(IDENTITY), os.environ.get(TOKEN)
    if token:
        return _on_token(token)
    if not identity:
        raise KeySourceError(
            "a keystore is opened here by an identity file or a key on a token, and "
            f"neither {IDENTITY} nor {TOKEN} is set"
        )
    return Identity.read(Path(identity))


def _from_token(rest: str) -> TokenIdentity:
    found = _on_token(f"pkcs11:{rest}")
    if not isinstance(found, TokenIdentity):
        raise KeySourceError(
            "the key on the token is no identity, which has type=private",
            hint=f"a token's AES key opens a keystore: set {TOKEN} to it, and take "
            "keystore:PATH#NAME for the source",
        )
    return found


def _on_token(text: str) -> Token | TokenIdentity:
    uri = TokenUri.parse(text)
    refuse_planted(uri.module_path, hint="let root own it, and its folders")
    file = os.environ.get(PIN)
    if not file:
        raise KeySourceError(f"a token needs its PIN, and {PIN} is not set")
    pin = read_private(Path(file))
    return TokenIdentity(uri, pin) if uri.private else Token(uri, pin)


def _from_service(rest: str) -> Opener:
    url = f"http:{rest}"
    shown = _local(url)
    if shown is None:
        raise KeySourceError(
            "a key is fetched only from this machine, by its address",
            hint="run the key service in the same pod or machine, at 127.0.0.1",
        )
    answers: queue.SimpleQueue[bytes | str] = queue.SimpleQueue()
    # The library bounds each read and not the whole, so a slow service is abandoned.
    threading.Thread(target=_ask, args=(url, answers), daemon=True).start()
    try:
        text = answers.get(timeout=TIMEOUT_S)
    except queue.Empty:
        raise KeySourceError(
            f"{shown} did not answer within {TIMEOUT_S:.0f} s"
        ) from None
    if isinstance(text, str):
        raise KeySourceError(f"{shown} {ascii(text)[1:-1]}")
    if len(text) > MAX_ANSWER_BYTES or not text.isascii():
        raise KeySourceError(f"{shown} did not answer with a key")
    return _key(text.decode("ascii"))


def _ask(url: str, answers: "queue.SimpleQueue[bytes | str]") -> None:
    """Put the service's answer into the queue, or the reason for none as text."""
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), _NoRedirects()
    )
    try:
        with opener.open(url, timeout=TIMEOUT_S) as answer:
            answers.put(answer.read(MAX_ANSWER_BYTES + 1))
    except urllib.error.HTTPError as error:
        answers.put(f"answered {error.code} {error.reason}")
    except InvalidURL:  # its own words repeat the path
        answers.put("is followed by what is no path of a URL")
    except (OSError, HTTPException) as error:
        answers.put(f"does not answer: {getattr(error, 'reason', None) or error}")


def _key(text: str) -> Opener:
    if begins_with(IDENTITY_1, text) or begins_with(IDENTITY_2, text):
        return Identity.parse(text)
    return ModelKey(from_text(KEY_1, text))


def _local(url: str) -> str | None:
    """What refusals show of a URL, scheme, host and port; None if not of this machine.

    The rest of it may be a password or a token.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
        if "%" in host or not ip_address(host).is_loopback:
            return None
    except ValueError:
        return None  # names are not looked up: their addresses can change
    place = f"[{host}]" if ":" in host else host
    return f"http://{place}" + ("" if port is None else f":{port}")


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


SOURCES: dict[str, Callable[[str], Opener]] = {
    "file": _from_file,
    "keystore": _from_keystore,
    "pkcs11": _from_token,
    "http": _from_service,
}
