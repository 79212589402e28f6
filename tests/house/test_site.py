"""The documents as a site: built strictly, whole, offline, and read in a browser."""

import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import unquote, urlsplit

import pytest

from tests.browser import open_browser

pytest.importorskip("zensical", reason="the site needs zensical, the extra `docs`")
pytestmark = pytest.mark.trains
ROOT = Path(__file__).parents[2]
OURS = ("", "127.0.0.1")
READ = [  # of each kind one, and the widest
    "index.html",
    "tutorial.html",
    "methods.html",
    "reference/cli/keys-list.html",
    "reference/recipe.html",
    "reference/api/mlguard.runtime.html",
    "results/index.html",
]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, str(ROOT / "docs" / "_site" / "build.py"), str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return out / "site"


class Page(HTMLParser):
    """What a page links to, what it shows, and the names that links can lead to."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.without_alt: list[str] = []
        self.names: set[str] = set()
        self.feed(file.read_text())

    def handle_starttag(self, tag: str, found: list[tuple[str, str | None]]) -> None:
        attributes = {name: value or "" for name, value in found}
        self.names |= {attributes[k] for k in ("id", "name") if k in attributes}
        if tag == "a" and "href" in attributes:
            self.links.append(attributes["href"])
        if tag in ("img", "script") and "src" in attributes:
            self.loaded.append(attributes["src"])
        if tag == "link" and attributes.get("rel") in ("stylesheet", "icon"):
            self.loaded.append(attributes["href"])
        if tag == "img" and not attributes.get("alt"):
            self.without_alt.append(attributes.get("src", ""))


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Page]:
    found = {path: Page(path) for path in sorted(site.glob("**/*.html"))}
    assert len(found) > 100
    del found[site / "404.html"]  # its links are absolute
    return found


def broken(link: str, file: Path, pages: dict[Path, Page]) -> bool:
    """Whether a link within the site leads nowhere."""
    parts = urlsplit(link)
    if parts.scheme or parts.netloc:
        return False
    target = (file.parent / unquote(parts.path)).resolve() if parts.path else file
    if target.is_dir():  # the start page, as the logo leads to it
        target /= "index.html"
    if not target.is_file():
        return True
    named = unquote(parts.fragment)
    return bool(named and target in pages and named not in pages[target].names)


def test_no_link_leads_nowhere_and_no_picture_is_missing(
    pages: dict[Path, Page],
) -> None:
    wrong = [
        (str(file), link)
        for file, page in pages.items()
        for link in [*page.links, *page.loaded]
        if broken(link, file, pages)
    ]
    assert wrong == []


def test_a_broken_link_would_be_seen(pages: dict[Path, Page]) -> None:
    file = next(iter(pages))
    assert broken("nowhere.html", file, pages)
    assert broken("#nowhere", file, pages)


def test_nothing_is_loaded_from_elsewhere_and_pictures_say_what_they_show(
    pages: dict[Path, Page],
) -> None:
    loaded = [url for page in pages.values() for url in page.loaded]
    assert [url for url in loaded if urlsplit(url).netloc] == []
    assert [url for page in pages.values() for url in page.without_alt] == []


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=site))
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_pages_are_read_in_a_browser(site: Path, address: str, tmp_path: Path) -> None:
    assert all((site / page).exists() for page in READ)
    with open_browser(tmp_path / "profile") as browser:
        for page in READ:
            for width, dark in ((1280, False), (390, True)):
                browser.open(f"{address}/{page}", width=width, dark=dark)
                assert browser.ask("return document.querySelector('h1') !== null")
                wide = browser.ask(
                    "return document.documentElement.scrollWidth > window.innerWidth"
                )
                assert not wide, (page, width)
                said, asked = browser.logs()
                errors = [line for line in said if "favicon" not in line]
                assert errors == [], page
                assert {urlsplit(url).hostname or "" for url in asked} <= set(OURS)
