"""A bundle served by a real Triton answers what the session in Python answers."""

import os
import signal
from pathlib import Path

import numpy as np
import psutil
import pytest

from keystore import Identity
from mlguard.bundle import Tensor2, write_bundle
from mlguard.cli.parties import Customer
from mlguard.errors import RemoteError
from mlguard.grants import Terms
from mlguard.issuing import issue
from mlguard.runtime import Endpoint, Preprocess, Remote, Session
from mlguard.serving import Served, write_repository
from tests.bundles import KEY, OTHER_KEY, small_bundle
from tests.bundles2 import small2, small2_bytes
from tests.grants.people import OWNER
from tests.issuing.files import owners
from tests.serving.key_files import write_key
from tests.serving.triton_asks import fingerprint
from tests.serving.triton_asks import images as drawn
from tests.serving.triton_server import needs_triton, triton, wait_for

pytestmark = needs_triton
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
    write_bundle(folder / "plain.mlgb", small_bundle())
    keyless = Served("keyless", key_at="client")
    write_repository(folder / "plain.mlgb", folder / "models", keyless)
    issued_and_tensors(folder)
    (folder / "scratch").mkdir()
    with triton(folder / "models", folder / "scratch") as server:
        assert wait_for(lambda: server.ready("acme")), server.log
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


def images(seed: int, height: int = 12, width: int = 16) -> np.ndarray:
    return drawn(seed, 2, height, width)


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_answers_are_the_sessions(served, protocol: str) -> None:
    server, _, session = served
    for pixels in (images(0), images(1, height=13, width=9)):  # padded inside
        np.testing.assert_array_equal(
            server.classes(pixels, protocol=protocol), session.predict(pixels)
        )


def test_our_own_client_gets_them_too(served) -> None:
    server, _, session = served
    taken = Tensor2(name="images", datatype="UINT8", shape=(-1, 3, -1, -1))
    given = Tensor2(name="classes", datatype="UINT8", shape=(-1, -1, -1))
    with Remote(Endpoint(f"http://{server.http}", "acme"), [taken], [given]) as remote:
        remote.check()
        found = remote.infer({"images": images(7)})["classes"]
        with pytest.raises(RemoteError, match="answered 500: mlguard: error: expected"):
            remote.infer({"images": np.zeros((1, 3, 0, 4), np.uint8)})
    np.testing.assert_array_equal(found, session.predict(images(7)))


def test_a_host_without_the_key_gives_the_same_masks(served) -> None:
    server, folder, session = served
    assert wait_for(lambda: server.ready("keyless")), server.log
    client = Preprocess.open(folder / "acme.mlgb", KEY)
    pixels = images(8, height=13, width=9)
    with client.at(Endpoint(f"http://{server.http}", "keyless")) as host:
        host.check()
        masks = client.predict(pixels, host.infer)
    np.testing.assert_array_equal(masks, session.predict(pixels))


def test_an_issued_bundle_is_served_with_an_identity(served) -> None:
    server, pixels = served[0], images(5)
    assert wait_for(lambda: server.ready("mine")), server.log
    expected = Session(owners(), KEY).predict(pixels)
    np.testing.assert_array_equal(server.classes(pixels, model="mine"), expected)


def test_tensors_go_in_and_come_out(served) -> None:
    server = served[0]
    assert wait_for(lambda: server.ready("tensors")), server.log
    pixels = np.random.default_rng(0).normal(size=(2, 3, 8, 9)).astype(np.float32)
    found = server.asker.infer(
        server.http, {"pixels": pixels}, ["logits"], model="tensors"
    )["logits"]
    session = Session(small2(image=None, task=None), KEY)
    expected = session.run({"pixels": pixels})["logits"]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_metadata_says_what_goes_in_and_comes_out(served) -> None:
    server = served[0]
    found = server.asker.ask("metadata", address=server.http, model="acme")
    assert found["inputs"] == [
        {"name": "images", "datatype": "UINT8", "shape": [-1, 3, -1, -1]}
    ]
    assert found["outputs"] == [
        {"name": "classes", "datatype": "UINT8", "shape": [-1, -1, -1]}
    ]


def test_a_wrong_key_is_not_ready_and_the_log_says_why(served) -> None:
    server, folder, _ = served
    assert not server.ready("stranger")
    assert wait_for(lambda: OTHER_KEY.key_id in server.log, 20)
    assert "mlguard: error:" in server.log
    for name in ("acme.key", "other.key"):
        secret = (folder / name).read_text().split()[-1]
        assert secret not in server.log
    assert KEY.reveal().hex() not in server.log


def test_an_image_that_cannot_be_predicted_is_refused_alone(served) -> None:
    server = served[0]
    with pytest.raises(RuntimeError, match="expected images"):
        server.classes(np.zeros((1, 3, 0, 4), np.uint8))
    assert server.classes(images(2)).shape == (2, 12, 16)


def test_many_clients_get_their_own_answers(served) -> None:
    server, _, session = served
    about = {"clients": CLIENTS, "requests": REQUESTS, "address": server.http}
    found = server.asker.ask("many", model="acme", **about)
    assert len(found) == CLIENTS * REQUESTS
    wrong = []
    for seed in range(CLIENTS * REQUESTS):
        pixels = drawn(seed, 1 + seed % 3, 8 + 4 * (seed % 2), 16)
        if found[str(seed)] != fingerprint(session.predict(pixels)):
            wrong.append(seed)
    assert wrong == []


def test_a_new_version_is_taken_up_without_a_restart(served) -> None:
    server, folder, _ = served
    key = f"file:{folder / 'acme.key'}"
    again = Served("acme", key, version=2, instances=2)
    write_repository(folder / "acme.mlgb", folder / "models", again)
    assert wait_for(lambda: server.ready("acme", "2")), server.log
    assert server.classes(images(3)).shape == (2, 12, 16)


def test_a_killed_instance_comes_back(served) -> None:
    server, _, session = served
    stubs = [
        child
        for child in psutil.Process(server.process.pid).children(recursive=True)
        if "stub" in child.name() and "/models/acme/" in " ".join(child.cmdline())
    ]
    assert stubs
    for stub in stubs:
        os.kill(stub.pid, signal.SIGKILL)
    pixels = images(4)
    assert wait_for(
        lambda: np.array_equal(server.classes(pixels), session.predict(pixels))
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
