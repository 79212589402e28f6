"""A bundle served by a real Triton answers what the session in Python answers."""

import os
import signal
import threading
from pathlib import Path

import numpy as np
import psutil
import pytest

from keystore import Identity
from mlguard.bundle import write_bundle
from mlguard.cli.parties import Customer
from mlguard.grants import Terms
from mlguard.issuing import issue
from mlguard.runtime import Session
from mlguard.serving import Served, write_repository
from tests.bundles import KEY, OTHER_KEY, small_bundle
from tests.bundles2 import small2, small2_bytes
from tests.grants.people import OWNER
from tests.issuing.files import owners
from tests.serving.key_files import write_key
from tests.serving.triton_server import Server, installed, triton, wait_for

REQUIRED = os.environ.get("MLGUARD_REQUIRE_TRITON") == "1"
pytestmark = [
    pytest.mark.skipif(
        not installed() and not REQUIRED,
        reason="needs a Triton server: MLGUARD_TRITON_SITE, see docs/deploy/triton.md",
    ),
    pytest.mark.filterwarnings("ignore"),  # of the clients
]
CLIENTS, REQUESTS = 8, 250


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("triton")
    write_bundle(folder / "acme.mlgb", small_bundle(sealed=True))
    write_key(folder / "acme.key", KEY)
    write_key(folder / "other.key", OTHER_KEY)
    good = Served("acme", f"file:{folder / 'acme.key'}", instances=2)
    bad = Served("stranger", f"file:{folder / 'other.key'}")
    for one in (good, bad):
        write_repository(folder / "acme.mlgb", folder / "models", one)
    issued_and_tensors(folder)
    (folder / "scratch").mkdir()
    with triton(folder / "models", folder / "scratch") as server:
        client = http_client(server)
        assert wait_for(lambda: client.is_model_ready("acme")), server.log
        yield server, folder, Session.open(folder / "acme.mlgb", KEY)


def issued_and_tensors(folder: Path) -> None:
    """A bundle that was issued to an identity, and one of tensors and no images."""
    me = Identity.generate()
    me.write(folder / "me.identity")
    customer = Customer.read(me.recipient)
    issue(owners(), KEY, OWNER, customer, Terms("Me"), folder / "mine.mlgb", mark=False)
    mine = Served("mine", f"file:{folder / 'me.identity'}")
    write_repository(folder / "mine.mlgb", folder / "models", mine)
    content = small2_bytes(image=None, task=None)
    (folder / "tensors.mlgb").write_bytes(content)
    tensors = Served("tensors", f"file:{folder / 'acme.key'}")
    write_repository(folder / "tensors.mlgb", folder / "models", tensors)


def http_client(server: Server):
    from tritonclient import http

    return http.InferenceServerClient(server.http, concurrency=2)


def images(seed: int, count: int = 2, height: int = 12, width: int = 16) -> np.ndarray:
    draw = np.random.default_rng(seed)
    return draw.integers(0, 256, (count, 3, height, width), dtype=np.uint8)


def ask(client, pixels: np.ndarray, protocol: str = "http", model: str = "acme"):
    from importlib import import_module

    module = import_module(f"tritonclient.{protocol}")
    tensor = module.InferInput("images", list(pixels.shape), "UINT8")
    tensor.set_data_from_numpy(pixels)
    return client.infer(model, [tensor]).as_numpy("classes")


def test_http_answers_are_the_sessions(served) -> None:
    server, _, session = served
    pixels = images(0)
    np.testing.assert_array_equal(
        ask(http_client(server), pixels), session.predict(pixels)
    )


def test_grpc_answers_are_the_sessions(served) -> None:
    from tritonclient import grpc

    server, _, session = served
    pixels = images(1, height=13, width=9)  # padded inside
    client = grpc.InferenceServerClient(server.grpc)
    np.testing.assert_array_equal(ask(client, pixels, "grpc"), session.predict(pixels))


def test_an_issued_bundle_is_served_with_an_identity(served) -> None:
    client, pixels = http_client(served[0]), images(5)
    assert wait_for(lambda: client.is_model_ready("mine")), served[0].log
    expected = Session(owners(), KEY).predict(pixels)
    np.testing.assert_array_equal(ask(client, pixels, model="mine"), expected)


def test_tensors_go_in_and_come_out(served) -> None:
    from tritonclient import http

    client = http_client(served[0])
    assert wait_for(lambda: client.is_model_ready("tensors")), served[0].log
    pixels = np.random.default_rng(0).normal(size=(2, 3, 8, 9)).astype(np.float32)
    tensor = http.InferInput("pixels", list(pixels.shape), "FP32")
    tensor.set_data_from_numpy(pixels)
    found = client.infer("tensors", [tensor]).as_numpy("logits")
    session = Session(small2(image=None, task=None), KEY)
    expected = session.run({"pixels": pixels})["logits"]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_metadata_says_what_goes_in_and_comes_out(served) -> None:
    found = http_client(served[0]).get_model_metadata("acme")
    assert found["inputs"] == [
        {"name": "images", "datatype": "UINT8", "shape": [-1, 3, -1, -1]}
    ]
    assert found["outputs"] == [
        {"name": "classes", "datatype": "UINT8", "shape": [-1, -1, -1]}
    ]


def test_a_wrong_key_is_not_ready_and_the_log_says_why(served) -> None:
    server, folder, _ = served
    assert not http_client(server).is_model_ready("stranger")
    assert wait_for(lambda: OTHER_KEY.key_id in server.log, 20)
    assert "mlguard: error:" in server.log
    for name in ("acme.key", "other.key"):
        secret = (folder / name).read_text().split()[-1]
        assert secret not in server.log
    assert KEY.reveal().hex() not in server.log


def test_an_image_that_cannot_be_predicted_is_refused_alone(served) -> None:
    client = http_client(served[0])
    with pytest.raises(Exception, match="expected images"):
        ask(client, np.zeros((1, 3, 0, 4), np.uint8))
    assert ask(client, images(2)).shape == (2, 12, 16)


def test_many_clients_get_their_own_answers(served) -> None:
    server, _, session = served
    wrong: list[int] = []

    def work(number: int) -> None:
        client = http_client(server)
        for request in range(REQUESTS):
            seed = number * REQUESTS + request
            pixels = images(seed, count=1 + seed % 3, height=8 + 4 * (seed % 2))
            if not np.array_equal(ask(client, pixels), session.predict(pixels)):
                wrong.append(seed)
        done.append(number)

    done: list[int] = []
    threads = [threading.Thread(target=work, args=(n,)) for n in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (sorted(done), wrong) == ([*range(CLIENTS)], [])


def test_a_new_version_is_taken_up_without_a_restart(served) -> None:
    server, folder, _ = served
    key = f"file:{folder / 'acme.key'}"
    again = Served("acme", key, version=2, instances=2)
    write_repository(folder / "acme.mlgb", folder / "models", again)
    client = http_client(server)
    assert wait_for(lambda: client.is_model_ready("acme", "2"), 30), server.log
    assert ask(client, images(3)).shape == (2, 12, 16)


def test_a_killed_instance_comes_back(served) -> None:
    server, _, session = served
    stubs = [
        child
        for child in psutil.Process(server.process.pid).children(recursive=True)
        if "triton_python_backend_stub" in child.name() or "stub" in child.name()
    ]
    assert stubs
    for stub in stubs:
        os.kill(stub.pid, signal.SIGKILL)
    client, pixels = http_client(server), images(4)
    assert wait_for(
        lambda: np.array_equal(ask(client, pixels), session.predict(pixels)), 60
    ), server.log


def test_the_repository_holds_no_key(served) -> None:
    _, folder, _ = served
    secret = KEY.reveal()
    files = [path for path in Path(folder / "models").rglob("*") if path.is_file()]
    assert len(files) >= 4
    for path in files:
        content = path.read_bytes()
        assert secret not in content
        assert secret.hex().encode() not in content
        assert b"MLGUARD-KEY" not in content
