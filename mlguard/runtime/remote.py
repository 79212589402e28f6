"""A model on another machine, over the Open Inference Protocol's HTTP.

It is for users who keep the key and let a host compute the rest. The host is not
trusted: its answers are bounded in size and time, and any but the tensors asked for is
refused. The data sent may be as secret as the key, so it goes over TLS, or stays on
this machine.
"""

import contextlib
import http.client
import json
import re
import selectors
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Self
from urllib.parse import SplitResult, urlsplit

from numpy.typing import NDArray

from mlguard.bundle import Tensor2
from mlguard.errors import OptionError, RemoteError
from mlguard.runtime.inference_protocol import (
    MAX_HEADER_BYTES,
    Model,
    decode,
    encode,
    numpy_type,
    parse,
    same_model,
)

NAME = re.compile(
    r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}"
)  # characters of a model's name, in an address
TOKEN = re.compile(r"[!-~]{1,8192}")
PATH = re.compile(r"(/[A-Za-z0-9._~-]+)*/?")
MAX_REFUSAL_BYTES = 1 << 12
MAX_SHOWN = 200  # characters shown of a server's message
BUSY = (429, 502, 503, 504)  # statuses after which a request may be repeated
FIRST_WAIT_S = 0.1  # before a second try, doubled for each further one
CHUNK_BYTES = 1 << 16
MAX_RETRIES = 20


@dataclass(frozen=True)
class Endpoint:
    """Where a model is, and the limits on its answers.

    Attributes:
        url: https://HOST:PORT, with a path before `v2` if there is one; or http:// and
            an address of this machine, such as http://127.0.0.1:8000.
        model: Its name on the server.
        version: The model's version; empty for the server's choice.
        token: Sent as `Authorization: Bearer`; never shown.
        ca_file: Certificates to trust instead of the system's.
        timeout_s: The limit of a whole call, all tries and waits together.
        retries: How often to ask again if the server is busy or cannot be reached.
        max_answer_bytes: Longer answers are refused before they are read.
        plaintext: Allow http:// to another machine. Anybody on the way can then read
            all that is sent.

    Raises:
        OptionError: A value is invalid.
    """

    url: str
    model: str
    version: str = ""
    token: str | None = field(default=None, repr=False)
    ca_file: Path | None = None
    timeout_s: float = 30.0
    retries: int = 2
    max_answer_bytes: int = 1 << 28
    plaintext: bool = False

    def __post_init__(self) -> None:
        """Refuse invalid values."""
        problems = [*self._problems()]
        if problems:
            raise OptionError("the endpoint", problems)

    @property
    def parts(self) -> SplitResult:
        """The address, taken apart."""
        return urlsplit(self.url)

    @property
    def shown(self) -> str:
        """Its name in a refusal."""
        return f"{self.parts.netloc} ({self.model})"

    def path(self, ending: str = "") -> str:
        """Return the model's path on the server."""
        version = f"/versions/{self.version}" if self.version else ""
        return f"{self.parts.path.rstrip('/')}/v2/models/{self.model}{version}{ending}"

    def _problems(self) -> Iterable[str]:
        yield from self._problems_of_url()
        if not NAME.fullmatch(self.model):
            yield "model: expected letters, digits, '.', '_' and '-'"
        if self.version and not (self.version.isascii() and self.version.isdigit()):
            yield "version: expected a number"
        if self.token is not None and not TOKEN.fullmatch(self.token):
            yield "token: expected printable characters without spaces"
        if not 0 < self.timeout_s <= 86400:
            yield "timeout_s: expected more than 0 and at most 86400"
        if not 0 <= self.retries <= MAX_RETRIES:
            yield f"retries: expected 0 to {MAX_RETRIES}"
        if self.max_answer_bytes < 1:
            yield "max_answer_bytes: expected at least 1"

    def _problems_of_url(self) -> Iterable[str]:
        try:
            parts, port = self.parts, self.parts.port
        except ValueError:
            parts, port = urlsplit(""), None
        if (
            parts.scheme not in ("http", "https")
            or not parts.hostname
            or not parts.netloc.isascii()
            or "@" in parts.netloc
            or port == 0
            or parts.query
            or parts.fragment
            or not PATH.fullmatch(parts.path)
        ):
            # Not shown: it may hold a password.
            yield "url: expected https://HOST:PORT, with no name, password or query"
        elif parts.scheme == "http" and not (self.plaintext or _is_here(parts)):
            yield (
                f"url: expected https, got {self.url}: anybody on the way could read "
                "what is sent; http is only for addresses of this machine, such as "
                "127.0.0.1"
            )


class _Again(Exception):
    """The request may be repeated."""


class Remote:
    """A model on another machine.

    It may be used from several threads; each running call has its own connection.

    Args:
        endpoint: Where the model is.
        inputs: Its inputs.
        outputs: The outputs to ask for.

    Raises:
        OptionError: A tensor has a type that cannot be sent: texts, bfloat16.

    Example:
        pixels = Tensor2(name="pixels", datatype="FP32", shape=(-1, 3, -1, -1))
        logits = Tensor2(name="logits", datatype="FP32", shape=(-1, 21, -1, -1))
        with Remote(Endpoint("http://127.0.0.1:8000", "acme"), [pixels], [logits]) as m:
            scores = m.infer({"pixels": images})["logits"]
    """

    def __init__(
        self,
        endpoint: Endpoint,
        inputs: Sequence[Tensor2],
        outputs: Sequence[Tensor2],
    ) -> None:
        problems = [
            f"tensor {one.name!r}: type {one.datatype} cannot be sent"
            for one in (*inputs, *outputs)
            if numpy_type(one.datatype) is None
        ]
        if problems:
            raise OptionError("the endpoint", problems)
        self.endpoint = endpoint
        self._inputs, self._outputs = tuple(inputs), tuple(outputs)
        self._idle: list[http.client.HTTPConnection] = []
        self._connect = _connecting(endpoint)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all idle connections."""
        with contextlib.suppress(IndexError):  # another thread may have taken the last
            while True:
                self._idle.pop().close()

    def infer(self, tensors: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Run the model.

        Args:
            tensors: The tensors by the names of the inputs.

        Returns:
            The outputs by name.

        Raises:
            ShapeError: A tensor is missing, is not an input, has another type or shape,
                or holds a number that is not finite.
            RemoteError: The server does not answer in time, or not with the outputs.
        """
        header, parts = encode(tensors, self._inputs, self._outputs)
        body: list[bytes | memoryview] = [header, *parts]
        more = {
            "Content-Type": "application/octet-stream",
            "Content-Length": str(sum(map(len, body))),
            "Inference-Header-Content-Length": str(len(header)),
        }
        size, answer = self._ask("POST", self.endpoint.path("/infer"), body, more)
        with self._without_token():
            return decode(answer, size, self._outputs, name=self.endpoint.shown)

    def check(self) -> None:
        """Ask for the model's description, and refuse one with other tensors.

        Raises:
            RemoteError: Its inputs or outputs differ, or the server does not answer.
        """
        _, answer = self._ask("GET", self.endpoint.path())
        name = self.endpoint.shown
        if len(answer) > MAX_HEADER_BYTES:
            raise RemoteError(
                f"{name}: its description has {len(answer)} bytes, the limit is "
                f"{MAX_HEADER_BYTES}"
            )
        with self._without_token():
            model = parse(Model, answer, name=name)
            if problem := same_model(model, self._inputs, self._outputs):
                raise RemoteError(
                    f"{name}: {problem}",
                    hint="is this the model that belongs to this file?",
                )

    @contextlib.contextmanager
    def _without_token(self) -> Iterator[None]:
        """Leave a server's words out of a refusal where they repeat the token."""
        token = self.endpoint.token
        try:
            yield
        except RemoteError as refusal:
            if not token or token not in str(refusal):
                raise
            raise RemoteError(
                f"{self.endpoint.shown}: its answer is not this model's, and repeats "
                "the token"
            ) from None

    def _ask(
        self,
        method: str,
        path: str,
        body: Sequence[bytes | memoryview] | None = None,
        more: Mapping[str, str] | None = None,
    ) -> tuple[int | None, bytearray]:
        """Send a request, and repeat it while that may help and time is left."""
        end = time.monotonic() + self.endpoint.timeout_s
        headers = dict(more or {})
        if self.endpoint.token is not None:
            headers["Authorization"] = f"Bearer {self.endpoint.token}"
        reason = ""
        for number in range(self.endpoint.retries + 1):
            wait = FIRST_WAIT_S * 2 ** (number - 1) if number else 0.0
            if time.monotonic() + wait >= end:
                break
            time.sleep(wait)
            try:
                return self._once(method, path, body, headers, end)
            except _Again as again:
                reason = str(again)
        if time.monotonic() >= end:
            reason = f"no answer within {self.endpoint.timeout_s:g} s"
        raise RemoteError(f"{self.endpoint.shown}: {reason}")

    def _once(
        self,
        method: str,
        path: str,
        body: Sequence[bytes | memoryview] | None,
        headers: dict[str, str],
        end: float,
    ) -> tuple[int | None, bytearray]:
        connection = self._connection(end)
        try:
            with _until(end, connection):
                connection.request(method, path, body, headers)
                with connection.getresponse() as answer:
                    found = self._read(answer)
            if time.monotonic() >= end:  # a cut answer may look complete
                raise TimeoutError
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            self.close()  # the others are likely to be as stale as this one
            said = getattr(error, "strerror", None) or type(error).__name__
            raise _Again(f"does not answer: {_shown(said)}") from None
        except BaseException:
            connection.close()
            raise
        self._idle.append(connection)
        return found

    def _connection(self, end: float) -> http.client.HTTPConnection:
        with contextlib.suppress(IndexError):
            while _dropped(kept := self._idle.pop()):
                kept.close()
            return kept
        return self._connect(max(0.001, end - time.monotonic()))

    def _read(self, answer: http.client.HTTPResponse) -> tuple[int | None, bytearray]:
        most, name = self.endpoint.max_answer_bytes, self.endpoint.shown
        if answer.status != http.client.OK:
            said = self._words(_bounded(answer, MAX_REFUSAL_BYTES) or b"")
            if answer.status in BUSY:
                raise _Again(f"answered {answer.status}{said}")
            raise RemoteError(f"{name}: answered {answer.status}{said}")
        if answer.getheader("Content-Encoding", "identity") != "identity":
            raise RemoteError(
                f"{name}: its answer is compressed, which was not asked for"
            )
        body = None if (answer.length or 0) > most else _bounded(answer, most)
        if body is None:
            raise RemoteError(
                f"{name}: its answer is longer than {most} bytes",
                hint="ask for smaller images, or raise `max_answer_bytes`",
            )
        size = answer.getheader("Inference-Header-Content-Length", "")
        known = size.isascii() and size.isdigit() and len(size) < 10
        return (int(size) if known else None), body

    def _words(self, body: bytes | bytearray) -> str:
        """Return a server's error message, fit to be shown."""
        try:
            said = json.loads(body)["error"]
        except (ValueError, TypeError, KeyError, RecursionError):
            return ""
        token = self.endpoint.token
        if not isinstance(said, str) or (token and token in said):
            return ""
        return f": {_shown(said)}"


def _connecting(endpoint: Endpoint) -> Callable[[float], http.client.HTTPConnection]:
    """Return a function that opens a connection with a limit for each of its steps."""
    host, port = endpoint.parts.hostname or "", endpoint.parts.port
    if endpoint.parts.scheme == "http":
        return lambda left: http.client.HTTPConnection(host, port, timeout=left)
    from mlguard.runtime.tls import TlsConnection, trusting

    tls = trusting(endpoint.ca_file)
    return lambda left: TlsConnection(host, port, timeout=left, context=tls)


def _dropped(connection: http.client.HTTPConnection) -> bool:
    """Whether the other side has closed a kept connection."""
    if connection.sock is None:
        return True
    with selectors.DefaultSelector() as selector:
        selector.register(connection.sock, selectors.EVENT_READ)
        return bool(selector.select(0))


@contextlib.contextmanager
def _until(end: float, connection: http.client.HTTPConnection) -> Iterator[None]:
    """Close a connection at its deadline; the library bounds only each read."""
    left = max(0.001, end - time.monotonic())
    if connection.sock is not None:
        connection.sock.settimeout(left)

    def cut() -> None:
        if connection.sock is not None:
            with contextlib.suppress(OSError):
                # Not SSLSocket's own: it drops TLS first, and until the socket is shut
                # the thread that sends would go on in the clear.
                socket.socket.shutdown(connection.sock, socket.SHUT_RDWR)

    timer = threading.Timer(left, cut)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _bounded(answer: http.client.HTTPResponse, most: int) -> bytearray | None:
    """Return the body of an answer; None if it is longer than the limit."""
    found = bytearray()
    while chunk := answer.read(min(CHUNK_BYTES, most + 1 - len(found))):
        found += chunk
        if len(found) > most:
            return None
    if answer.length:  # the library accepts a connection that ends early
        raise http.client.IncompleteRead(b"", answer.length)
    return found


def _is_here(parts: SplitResult) -> bool:
    host = parts.hostname or ""
    try:
        return "%" not in host and ip_address(host).is_loopback
    except ValueError:
        return False  # names are not looked up: their addresses can change


def _shown(said: str) -> str:
    """Shorten an untrusted message to one line of printable characters."""
    return ascii(said[:MAX_SHOWN])[1:-1]
