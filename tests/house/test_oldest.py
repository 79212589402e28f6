"""The lower bounds of pyproject.toml are what `make test-oldest` installs."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_oldest_versions_are_those_that_are_allowed() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    allowed = list(project["dependencies"])
    for name in ("cpu", "onnx", "pkcs11", "sql"):
        allowed += extras[name]
    bound = re.compile(r"([\w.-]+)(?:\[\w+\])?>=([\d.]+)")
    bounds = dict(bound.match(one).groups() for one in allowed)  # type: ignore[union-attr]
    pinned = re.findall(
        r"^([\w.-]+)==([\d.]+)$", (ROOT / ".ci/oldest.txt").read_text(), re.M
    )
    assert dict(pinned) == bounds
