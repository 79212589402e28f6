"""One bundle, one image, four ways: Python, Triton, Node.js and a browser."""

import threading
from functools import partial
from http.server import ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from keystore import Identity
from mlguard.cli.parties import Customer, Holder
from mlguard.grants import Terms
from mlguard.issuing import issue, open_issued
from mlguard.runtime import Session
from mlguard.serving import Served, write_repository
from tests.browser import browser_or_skip, open_browser
from tests.bundles import KEY
from tests.grants.people import OWNER
from tests.issuing.files import owners, reading
from tests.javascript.node import CLIENT, needs_node, node
from tests.javascript.test_in_browser import Quiet, choose_and_predict
from tests.serving.triton_server import needs_triton, triton, wait_for

pytestmark = [needs_node, needs_triton]
IMAGE = np.random.default_rng(4).integers(0, 256, (30, 41, 3), dtype=np.uint8)
PLANES = np.ascontiguousarray(np.moveaxis(IMAGE, 2, 0)[None])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A customer's identity and file, and an image."""
    me = Identity.generate()
    me.write(tmp_path / "me.identity")
    customer = Customer.read(me.recipient)
    issue(owners(), KEY, OWNER, customer, Terms("Me"), tmp_path / "mine.mlgb")
    Image.fromarray(IMAGE).save(tmp_path / "image.png")
    (tmp_path / "image").write_bytes(PLANES.tobytes())
    return tmp_path


def in_python(folder: Path) -> np.ndarray:
    bundle = reading(folder / "mine.mlgb")
    holder = Holder(Identity.read(folder / "me.identity"))
    return Session(bundle, open_issued(bundle, holder)).predict(PLANES)


def in_triton(folder: Path) -> np.ndarray:
    served = Served("mine", f"file:{folder / 'me.identity'}")
    write_repository(folder / "mine.mlgb", folder / "models", served)
    (folder / "scratch").mkdir()
    with triton(folder / "models", folder / "scratch") as server:
        assert wait_for(lambda: server.ready("mine")), server.log
        return server.classes(PLANES, model="mine")


def in_node(folder: Path) -> np.ndarray:
    files = (folder / "mine.mlgb", folder / "me.identity", folder / "image")
    done = node("bin/run.mjs", "onnxruntime-node", *files, 30, 41, folder / "mask")
    assert done.returncode == 0, done.stdout
    return np.frombuffer((folder / "mask").read_bytes(), np.uint8).reshape(1, 30, 41)


def in_browser(folder: Path) -> np.ndarray:
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=CLIENT))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        with open_browser(folder / "profile") as browser:
            browser._driver.get(f"http://127.0.0.1:{server.server_address[1]}/demo/")
            files = ("mine.mlgb", "me.identity")
            said = choose_and_predict(browser._driver, folder, *files)
            assert said.startswith("opened in"), said
            mask = browser.ask("return window.answer")
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    return np.array(mask, np.uint8).reshape(1, 30, 41)


def test_four_masks_are_one(folder: Path) -> None:
    browser_or_skip()
    expected = in_python(folder)
    assert len(np.unique(expected)) > 1
    for way in (in_triton, in_node, in_browser):
        np.testing.assert_array_equal(way(folder), expected, err_msg=way.__name__)
