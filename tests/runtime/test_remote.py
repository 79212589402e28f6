"""A model at another machine: what is sent, what is believed, what is refused."""

import datetime
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from mlguard.bundle import Tensor2
from mlguard.errors import OptionError, RemoteError, ShapeError
from mlguard.runtime.inference_protocol import decode
from mlguard.runtime.remote import Endpoint, Remote
from tests.runtime.oip_server import Host, answer_of, host

X = Tensor2(name="x", datatype="FP32", shape=(-1, 3))
Y = Tensor2(name="y", datatype="FP16", shape=(-1, 3))
COUNT = Tensor2(name="count", datatype="INT64", shape=(1,))
ROWS = np.arange(6, dtype=np.float32).reshape(2, 3)
TOKEN = "s3cret-T0ken"


def doubled(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    rows = (tensors["x"] * 2).astype(np.float16)
    return {"y": rows, "count": np.array([len(rows)], np.int64)}


@pytest.fixture
def served() -> Iterator[Host]:
    with host(doubled, [X], [Y, COUNT]) as found:
        yield found


def remote(url: str, **changes: object) -> Remote:
    return Remote(Endpoint(url, "acme", **changes), [X], [Y, COUNT])


def ask(url: str, tensors: dict = {"x": ROWS}, **changes: object) -> dict:  # noqa: B006
    with remote(url, **changes) as model:
        return model.infer(tensors)


def test_tensors_go_and_come_back(served: Host) -> None:
    with remote(served.url, token=TOKEN, version="3") as model:
        for _ in range(2):  # the second over the same connection
            found = model.infer({"x": ROWS})
    np.testing.assert_array_equal(found["y"], ROWS * 2)
    assert (found["y"].dtype, found["count"].tolist()) == (np.float16, [2])
    path, headers, tensors = served.asked[0]
    assert path == "/v2/models/acme/versions/3/infer"
    assert headers["Authorization"] == f"Bearer {TOKEN}"
    np.testing.assert_array_equal(tensors["x"], ROWS)


def test_a_path_before_the_protocols_is_kept(served: Host) -> None:
    ask(f"{served.url}/tenants/7/")
    assert served.asked[0][0] == "/tenants/7/v2/models/acme/infer"


def test_many_threads_get_their_own_answers(served: Host) -> None:
    wrong, model = [], remote(served.url)

    def work(number: int) -> None:
        rows = np.full((1, 3), number, np.float32)
        for _ in range(20):
            if not np.array_equal(model.infer({"x": rows})["y"], rows * 2):
                wrong.append(number)
        done.append(number)

    done: list[int] = []
    threads = [threading.Thread(target=work, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    model.close()
    assert (sorted(done), wrong) == ([*range(6)], [])


@pytest.mark.parametrize(
    ("tensors", "said"),
    [
        ({}, "expected tensors x, got none"),
        ({"x": ROWS, "z": ROWS}, "expected tensors x"),
        ({"x": ROWS.astype(np.float64)}, r"expected FP32 of \[-1, 3\], got float64"),
        ({"x": ROWS[:, :2]}, r"got float32 of \[2, 2\]"),
        ({"x": ROWS[0]}, r"got float32 of \[3\]"),
        ({"x": np.array([[1, np.nan, 2]], np.float32)}, "'x' has a number that is not"),
    ],
)
def test_what_the_model_does_not_take_is_not_sent(
    served: Host, tensors: dict[str, np.ndarray], said: str
) -> None:
    with pytest.raises(ShapeError, match=said):
        ask(served.url, tensors)
    assert served.asked == []


def answers(**changes: np.ndarray) -> dict[str, np.ndarray]:
    return doubled({"x": ROWS}) | changes


TYPES = {"y": "FP16", "count": "INT64"}
NAN = np.full((2, 3), np.inf, np.float16)


@pytest.mark.parametrize(
    ("tensors", "types", "said"),
    [
        (answers(y=NAN), TYPES, "'y' with numbers that are not finite"),
        (answers(y=ROWS), TYPES | {"y": "FP32"}, "'y' as FP32 of .* expected FP16"),
        (answers(y=NAN[:, :2]), TYPES, r"'y' as FP16 of \[2, 2\], expected"),
        (answers(y=ROWS), TYPES, r"'y' of \[2, 3\] in 24 bytes"),
        (answers(z=ROWS), TYPES | {"z": "FP32"}, "'z', which was not asked for"),
        ({"y": ROWS.astype(np.float16)}, TYPES, "did not send 'count'"),
    ],
)
def test_an_answer_of_other_tensors_is_refused(
    served: Host, tensors: dict[str, np.ndarray], types: dict[str, str], said: str
) -> None:
    served.reply = [(200, *answer_of(tensors, types))]
    with pytest.raises(RemoteError, match=said):
        ask(served.url)


GOOD = answer_of(answers(), TYPES)
HEADER = int(GOOD[0]["Inference-Header-Content-Length"])


def damaged(edit: Callable[[dict], None]) -> tuple[dict[str, str], bytes]:
    """A good answer with one edit of its header."""
    header = json.loads(GOOD[1][:HEADER])
    edit(header["outputs"][0])
    text = json.dumps(header).encode()
    size = {"Inference-Header-Content-Length": str(len(text))}
    return size, text + GOOD[1][HEADER:]


@pytest.mark.parametrize(
    ("headers", "body", "said"),
    [
        ({}, GOOD[1], "expected tensors as bytes"),
        ({"Inference-Header-Content-Length": "9" * 9}, GOOD[1], "expected tensors as"),
        ({"Inference-Header-Content-Length": "-1"}, GOOD[1], "expected tensors as"),
        (GOOD[0], GOOD[1] + b"x", "1 bytes are left over"),
        (GOOD[0], GOOD[1][:-1], "in 8 bytes, but sent 7"),
        (GOOD[0], b"{" * HEADER + GOOD[1][HEADER:], "the answer: Invalid JSON"),
        (
            {**GOOD[0], "Content-Encoding": "gzip"},
            GOOD[1],
            "compressed, which was not asked for",
        ),
        (*damaged(lambda y: y.update(shape=[2, -3])), "shape"),
        (*damaged(lambda y: y.update(shape=[1 << 50])), "shape"),
        (*damaged(lambda y: y.update(name="count")), "count"),
        (*damaged(lambda y: y.pop("parameters")), "parameters"),
        (*damaged(lambda y: y.update(shape="23")), "shape"),
        (*damaged(lambda y: y.update(datatype="BYTES")), "as BYTES"),
        (
            *damaged(lambda y: y.update(datatype="B\x1b[2J\nok")),
            r"as B\\x1b\[2J\\nok of",
        ),
    ],
)
def test_what_is_no_answer_is_refused(
    served: Host, headers: dict[str, str], body: bytes, said: str
) -> None:
    served.reply = [(200, headers, body)]
    with pytest.raises(RemoteError, match=said):
        ask(served.url)


def test_an_empty_tensor_of_impossible_axes_is_refused() -> None:
    wide = Tensor2(name="y", datatype="FP16", shape=(-1, -1, -1))
    header = json.loads(GOOD[1][:HEADER])
    header["outputs"] = [
        header["outputs"][0]
        | {"shape": [0, 1 << 40, 1 << 40], "parameters": {"binary_data_size": 0}}
    ]
    text = json.dumps(header).encode()
    with pytest.raises(RemoteError, match="which is too large"):
        decode(bytearray(text), len(text), [wide], name="host")


@pytest.mark.parametrize("field", ["name", "datatype"])
def test_a_server_that_repeats_the_token_is_not_quoted(
    served: Host, field: str
) -> None:
    served.reply = [(200, *damaged(lambda y: y.update({field: f"Bearer {TOKEN}"})))]
    with pytest.raises(RemoteError) as refusal:
        ask(served.url, token=TOKEN)
    assert TOKEN not in str(refusal.value)
    one = Tensor2(name="x", datatype="FP32", shape=(-1, 3))
    served.inputs = [one, one.model_copy(update={"name": TOKEN})]
    with (
        remote(served.url, token=TOKEN) as model,
        pytest.raises(RemoteError) as refusal,
    ):
        model.check()
    assert TOKEN not in str(refusal.value)


@given(st.binary(max_size=300), st.integers(-2, 400))
def test_any_bytes_are_an_answer_or_a_refusal(body: bytes, size: int) -> None:
    with pytest.raises(RemoteError):
        decode(bytearray(body), size, [Y, COUNT], name="host")


@given(st.integers(0, len(GOOD[1]) - 1), st.integers(1, 255))
def test_a_changed_byte_is_tensors_of_the_same_kind_or_a_refusal(
    place: int, change: int
) -> None:
    body = bytearray(GOOD[1])
    body[place] ^= change
    try:
        found = decode(body, HEADER, [Y, COUNT], name="host")
    except RemoteError:
        return
    assert (found["y"].dtype, found["count"].shape) == (np.float16, (1,))


def test_a_long_answer_is_refused_before_it_is_read(served: Host) -> None:
    with pytest.raises(RemoteError, match="longer than 20 bytes"):
        ask(served.url, max_answer_bytes=20)


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_a_busy_server_is_asked_again(served: Host, status: int) -> None:
    served.reply = [(status, {}, b"")]
    assert ask(served.url)["count"] == 2
    assert len(served.asked) == 2


def test_a_server_that_stays_busy_is_given_up(served: Host) -> None:
    served.reply = [(503, {}, b'{"error": "queue\\u001b[2J is full"}')] * 9
    with pytest.raises(RemoteError, match=r"answered 503: queue\\x1b\[2J is full"):
        ask(served.url, retries=1)
    assert len(served.asked) == 2


@pytest.mark.parametrize("status", [204, 302, 400, 401, 404, 500])
def test_another_status_is_a_refusal_and_is_not_asked_again(
    served: Host, status: int
) -> None:
    said = json.dumps({"error": f"not with {TOKEN}"}).encode()
    away = {"Location": "http://192.0.2.1/"}
    served.reply = [(status, away, b"" if status == 204 else said)]
    with pytest.raises(RemoteError, match=f"answered {status}") as refusal:
        ask(served.url, token=TOKEN)
    assert TOKEN not in str(refusal.value)
    assert len(served.asked) == 1


def test_nobody_answers() -> None:
    with pytest.raises(RemoteError, match="does not answer: Connection refused"):
        ask("http://127.0.0.1:1", retries=1)


@contextmanager
def dripping(first: bytes) -> Iterator[str]:
    """Somebody who takes everything, and answers a byte at a time, for ever."""
    stop, server = threading.Event(), socket.create_server(("127.0.0.1", 0))
    server.settimeout(0.05)

    def drip() -> None:
        others = []
        while not stop.is_set():
            try:
                others.append(server.accept()[0])
                others[-1].sendall(first)
            except TimeoutError:
                pass
            except OSError:
                others.pop()
            for one in others:
                with suppress(OSError):
                    one.sendall(b"a")
        for one in others:
            one.close()

    thread = threading.Thread(target=drip)
    thread.start()
    try:
        yield f"127.0.0.1:{server.getsockname()[1]}"
    finally:
        stop.set()
        thread.join()
        server.close()


@pytest.mark.parametrize(
    ("scheme", "first"),
    [
        ("http", b""),
        ("http", b"HTTP/1.1 200 OK\r\nA: "),
        ("http", b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"),
        ("https", b"\x16\x03\x03\x40\x00"),
    ],
)
def test_a_server_that_drips_is_left_after_the_time(scheme: str, first: bytes) -> None:
    with dripping(first) as address:
        begun = time.monotonic()
        with pytest.raises(RemoteError, match=r"no answer within 0\.4 s"):
            ask(f"{scheme}://{address}", timeout_s=0.4)
        assert time.monotonic() - begun < 5


def test_the_model_that_is_there_is_the_one_that_is_meant(served: Host) -> None:
    wide = Tensor2(name="x", datatype="FP32", shape=(-1, 4))
    with remote(served.url) as model:
        model.check()
        for inputs, outputs, said in (
            ([X], [Y], "its model gives no 'count'"),
            ([X, COUNT], [Y, COUNT], "its model takes 'count' too"),
            ([wide], [Y, COUNT], r"FP32 of \[-1, 4\], expected FP32 of"),
        ):
            served.inputs, served.outputs = inputs, outputs
            with pytest.raises(RemoteError, match=said):
                model.check()


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("https://user:pa55@host/", "no name, password or query"),
        ("ftp://127.0.0.1/", "expected https"),
        ("grpc://127.0.0.1:8001", "expected https"),
        ("https://", "expected https"),
        ("https://host:99999", "expected https"),
        ("https://host/?key=pa55", "no name, password or query"),
        ("https://host/a b", "expected https"),
        ("https://host/%2e%2e/", "expected https"),
        ("http://models.example:8000", "anybody on the way could read"),
        ("http://localhost:8000", "anybody on the way could read"),
        ("http://127.0.0.1.evil.example/", "anybody on the way could read"),
    ],
)
def test_an_address_that_will_not_do(url: str, said: str) -> None:
    with pytest.raises(OptionError, match=said) as refusal:
        Endpoint(url, "acme")
    assert "pa55" not in str(refusal.value)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model": "../up"}, "model: expected letters"),
        ({"version": "one"}, "version: expected a number"),
        ({"token": "two words"}, "token: expected printable"),
        ({"timeout_s": 0}, "timeout_s"),
        ({"timeout_s": float("nan")}, "timeout_s"),
        ({"retries": -1}, "retries"),
        ({"max_answer_bytes": 0}, "max_answer_bytes"),
    ],
)
def test_what_an_endpoint_cannot_be(changes: dict[str, object], said: str) -> None:
    with pytest.raises(OptionError, match=said):
        Endpoint(**({"url": "https://host", "model": "acme"} | changes))


def test_a_token_is_not_shown() -> None:
    endpoint = Endpoint("https://host", "acme", token=TOKEN)
    assert TOKEN not in repr(endpoint)


def test_texts_are_not_sent() -> None:
    words = Tensor2(name="words", datatype="BYTES", shape=(-1,))
    with pytest.raises(OptionError, match="'words': type BYTES cannot be sent"):
        Remote(Endpoint("https://host", "acme"), [words], [Y])


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that it has signed itself, and its key."""
    import ipaddress

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a test")])
    now = datetime.datetime.now(datetime.UTC)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(1))
        .not_valid_after(now + datetime.timedelta(1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .sign(key, hashes.SHA256())
    )
    folder = tmp_path_factory.mktemp("tls")
    (folder / "cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return folder / "cert.pem", folder / "key.pem"


def test_a_certificate_is_checked(certificate: tuple[Path, Path]) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    with host(doubled, [X], [Y, COUNT], tls=context) as served:
        with pytest.raises(RemoteError, match="its certificate is not trusted"):
            ask(served.url)
        assert served.asked == []
        assert ask(served.url, ca_file=certificate[0])["count"] == 2


def test_nothing_is_sent_in_the_clear_when_the_time_is_over(
    certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    plainly: list[object] = []
    # Where a socket drops TLS before it is shut, its other thread sends on without.
    monkeypatch.setattr(ssl.SSLSocket, "shutdown", lambda *at: plainly.append(at))
    ready = threading.Event()

    def slow(_: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        ready.wait(10)
        return answers()

    with host(slow, [X], [Y, COUNT], tls=context) as served:
        model = remote(served.url, ca_file=certificate[0], timeout_s=0.5, retries=0)
        with pytest.raises(RemoteError, match="no answer within"):
            model.infer({"x": ROWS})
        assert plainly == []
        ready.set()


def test_authorities_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="ca_file: cannot read"):
        remote("https://host", ca_file=tmp_path / "none.pem")
    (tmp_path / "no.pem").write_text("hello")
    with pytest.raises(OptionError, match="ca_file: cannot read"):
        remote("https://host", ca_file=tmp_path / "no.pem")
