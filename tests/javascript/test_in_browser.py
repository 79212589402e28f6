"""The demo page in a real browser: the mask is the one that Python gives."""

import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from keystore import Identity
from mlguard.cli.parties import Customer, Holder
from mlguard.grants import Terms
from mlguard.issuing import issue, open_issued
from mlguard.runtime import Session
from tests.browser import browser_or_skip, open_browser
from tests.bundles import KEY
from tests.grants.people import OWNER
from tests.issuing.files import owners, reading
from tests.javascript.node import CLIENT, needs_node

pytestmark = needs_node
IMAGE = np.random.default_rng(3).integers(0, 256, (30, 41, 3), dtype=np.uint8)


class Quiet(SimpleHTTPRequestHandler):
    extensions_map = SimpleHTTPRequestHandler.extensions_map | {
        ".mjs": "text/javascript",
        ".wasm": "application/wasm",
    }

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=CLIENT))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/demo/"
    server.shutdown()
    thread.join()
    server.server_close()


def choose_and_predict(driver, folder: Path, bundle: str, key: str) -> str:
    """Choose three files, press the button, and give what the page says."""
    from selenium.webdriver.support.ui import WebDriverWait

    for element, file in (("bundle", bundle), ("key", key), ("image", "image.png")):
        driver.find_element("id", element).send_keys(str(folder / file))
    driver.find_element("css selector", "button").click()
    WebDriverWait(driver, 60).until(
        lambda _: driver.find_element("id", "status").text not in ("", "opening …")
    )
    return driver.find_element("id", "status").text


def test_the_page_gives_pythons_mask_and_refuses_a_stranger(
    address: str, tmp_path: Path
) -> None:
    browser_or_skip()
    me, other = Identity.generate(), Identity.generate()
    me.write(tmp_path / "me.identity")
    other.write(tmp_path / "other.identity")
    Image.fromarray(IMAGE).save(tmp_path / "image.png")
    customer = Customer.read(me.recipient)
    path = tmp_path / "mine.mlgb"
    issue(owners(), KEY, OWNER, customer, Terms("Me"), path)
    session = Session(reading(path), open_issued(reading(path), Holder(me)))
    expected = session.predict(np.moveaxis(IMAGE, 2, 0)[None])[0]
    with open_browser(tmp_path / "profile") as browser:
        browser._driver.get(address)
        said = choose_and_predict(browser._driver, tmp_path, path.name, "me.identity")
        assert said.startswith("opened in"), said
        mask = np.array(browser.ask("return window.answer"), np.uint8)
        np.testing.assert_array_equal(mask.reshape(expected.shape), expected)
        said, asked = browser.logs()
        assert said == []
        site = address.removesuffix("/demo/")
        assert [url for url in asked if url.startswith("http")]
        assert [u for u in asked if u.startswith("http") and site not in u] == []
        browser._driver.refresh()
        said = choose_and_predict(
            browser._driver, tmp_path, path.name, "other.identity"
        )
        assert said.startswith("WrongKey:")
