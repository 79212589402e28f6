"""A headless Chromium of the system's, driven through WebDriver; offline."""

import base64
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

REQUIRED = "MLGUARD_REQUIRE_BROWSER"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
OPTIONS = (
    "--headless",
    "--no-sandbox",  # it opens our own pages alone, and CI is root
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--hide-scrollbars",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)
A4 = 718  # CSS pixels between the margins of a printed page


def browser_or_skip() -> tuple[str, str]:
    """The browser and its driver; skips the test without them, unless required."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    driver = shutil.which("chromedriver")
    missing = [
        name
        for name, found in (("chromium", browser), ("chromedriver", driver))
        if not found
    ]
    try:
        import selenium  # noqa: F401
    except ImportError:
        missing.append("the package selenium")
    if missing:
        reason = f"not installed: {', '.join(missing)}"
        if os.environ.get(REQUIRED) == "1":
            pytest.fail(f"{REQUIRED}=1, but {reason}")
        pytest.skip(reason)
    assert browser
    assert driver
    return browser, driver


class Browser:
    """One browser with one tab."""

    def __init__(self, driver: Any) -> None:
        self._driver = driver
        self._log: list[dict] = []

    def open(
        self,
        page: Path | str,
        *,
        width: int = 1280,
        dark: bool = False,
        media: str = "",
    ) -> None:
        """Open a file or address at a width in CSS pixels; light, dark, as printed."""
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._command(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=800,
            deviceScaleFactor=1,
            mobile=width < 500,
        )
        self._command("Emulation.setEmulatedMedia", media=media, features=[scheme])
        self.logs()  # those of pages before
        self._driver.get(page if isinstance(page, str) else page.resolve().as_uri())

    def ask(self, script: str) -> Any:
        """What a function body of JavaScript returns."""
        return self._driver.execute_script(script)

    def logs(self) -> tuple[list[str], list[str]]:
        """What the console said since the last call, and which URLs were asked for."""
        said = [entry["message"] for entry in self._driver.get_log("browser")]
        events = [
            json.loads(entry["message"])["message"]
            for entry in self._driver.get_log("performance")
        ]
        asked = [
            event["params"]["request"]["url"]
            for event in events
            if event["method"] == "Network.requestWillBeSent"
        ]
        return said, asked

    def pdf(self) -> bytes:
        """The page as it is printed."""
        printed = self._command("Page.printToPDF", printBackground=False)
        return base64.b64decode(printed["data"])

    def picture(self) -> bytes:
        """The whole page as a PNG."""
        taken = self._command("Page.captureScreenshot", captureBeyondViewport=True)
        return base64.b64decode(taken["data"])

    def _command(self, name: str, **parameters: object) -> Any:
        return self._driver.execute_cdp_cmd(name, parameters)


@contextmanager
def open_browser(profile: Path) -> Iterator[Browser]:
    """Start a browser with a profile of its own, and end it."""
    browser, driver = browser_or_skip()
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for option in (*OPTIONS, f"--user-data-dir={profile}"):
        options.add_argument(option)
    options.set_capability(
        "goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"}
    )
    # With the driver named, selenium looks for none and asks no server.
    started = webdriver.Chrome(options=options, service=Service(driver))
    try:
        yield Browser(started)
    finally:
        started.quit()
