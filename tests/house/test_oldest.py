"""The lower bounds of pyproject.toml are what `make test-oldest` installs."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_oldest_versions_are_those_that_are_allowed() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    allowed = [*project["dependencies"], *extras["cpu"], *extras["onnx"]]
    bounds = dict(re.match(r"([\w.-]+)>=([\d.]+)", one).groups() for one in allowed)  # type: ignore[union-attr]
    pinned = re.findall(
        r"^([\w.-]+)==([\d.]+)$", (ROOT / ".ci/oldest.txt").read_text(), re.M
    )
    assert dict(pinned) == bounds
