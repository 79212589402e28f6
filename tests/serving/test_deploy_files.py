"""The files of docs/deploy do what they say: the service runs, images copy what is."""

import io
import os
import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mlguard.bundle import write_bundle
from mlguard.runtime import Session
from tests.bundles import KEY, OTHER_KEY, images, small_bundle
from tests.serving.key_files import write_key

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs" / "deploy"
DOCKERFILES = sorted(FOLDER.glob("Dockerfile.*"))


def start(folder: Path, port: int) -> subprocess.Popen:
    environment = os.environ | {
        "MLGUARD_BUNDLE": str(folder / "acme.mlgb"),
        "MLGUARD_KEY_SOURCE": f"file:{folder / 'acme.key'}",
        "PYTHONPATH": str(ROOT),
    }
    environment.pop("HOME", None)
    environment.pop("XDG_STATE_HOME", None)
    command = [sys.executable, "-m", "uvicorn", "app:app", "--port", str(port)]
    return subprocess.Popen(
        command, cwd=FOLDER, env=environment, stderr=subprocess.PIPE, text=True
    )


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    pytest.importorskip("fastapi", reason="needs fastapi, uvicorn, python-multipart")
    pytest.importorskip("uvicorn")
    folder = tmp_path_factory.mktemp("service")
    write_bundle(folder / "acme.mlgb", small_bundle(sealed=True))
    write_key(folder / "acme.key", KEY)
    port = free_port()
    process = start(folder, port)
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(150):
            try:
                urllib.request.urlopen(f"{address}/health").close()
                break
            except urllib.error.URLError:
                assert process.poll() is None, process.stderr.read()
                time.sleep(0.2)
        yield address, folder
    finally:
        process.terminate()
        process.communicate()


def post(address: str, content: bytes) -> tuple[int, bytes]:
    mark = b"----mark"
    head = b'Content-Disposition: form-data; name="image"; filename="a.png"'
    body = b"--" + mark + b"\r\n" + head + b"\r\n\r\n" + content
    request = urllib.request.Request(
        f"{address}/masks",
        body + b"\r\n--" + mark + b"--\r\n",
        {"Content-Type": "multipart/form-data; boundary=" + mark.decode()},
    )
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def test_the_service_answers_what_the_session_answers(service) -> None:
    address, folder = service
    pixels = images(1, 3, 20, 28)
    file = io.BytesIO()
    Image.fromarray(np.moveaxis(pixels[0], 0, 2)).save(file, "PNG")
    status, answer = post(address, file.getvalue())
    assert status == 200
    expected = Session.open(folder / "acme.mlgb", KEY).predict(pixels)[0]
    with Image.open(io.BytesIO(answer)) as mask:
        np.testing.assert_array_equal(np.asarray(mask), expected)


def test_the_service_refuses_what_is_no_image(service) -> None:
    status, answer = post(service[0], b"GIF89a")
    assert status == 422
    assert b"cannot be read as an image" in answer


def test_a_service_with_a_wrong_key_does_not_start(tmp_path: Path) -> None:
    pytest.importorskip("uvicorn", reason="needs fastapi, uvicorn")
    write_bundle(tmp_path / "acme.mlgb", small_bundle(sealed=True))
    write_key(tmp_path / "acme.key", OTHER_KEY)
    process = start(tmp_path, free_port())
    _, said = process.communicate(timeout=60)
    assert process.returncode != 0
    assert "WrongKey" in said
    assert OTHER_KEY.reveal().hex() not in said


def test_there_are_images() -> None:
    assert len(DOCKERFILES) == 3


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_an_image_copies_what_is_there_and_holds_no_secret(path: Path) -> None:
    text = path.read_text()
    for source in re.findall(r"^COPY (\S+)", text, re.M):
        assert (ROOT / source).exists(), source
    assert re.search(r"^USER \d+$", text, re.M), "runs as root"
    assert "MLGUARD-KEY" not in text
    assert "MLGUARD-IDENTITY" not in text
