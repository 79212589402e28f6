"""Node.js with the packages of clients/javascript."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

CLIENT = Path(__file__).parents[2] / "clients" / "javascript"
REQUIRED = os.environ.get("MLGUARD_REQUIRE_NODE") == "1"
needs_node = pytest.mark.skipif(
    not REQUIRED and not (shutil.which("node") and (CLIENT / "node_modules").is_dir()),
    reason="needs Node.js 20 and `npm ci` in clients/javascript",
)


def node(*arguments: object) -> subprocess.CompletedProcess:
    """Run a program of the client; what it says is in `stdout`."""
    command = ["node", *map(str, arguments)]
    return subprocess.run(
        command, cwd=CLIENT, capture_output=True, text=True, check=False, timeout=300
    )
