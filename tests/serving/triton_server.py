"""A real Triton Inference Server on loopback, out of the wheel `nvidia-pytriton`.

The server has an environment of its own, for its Python backend needs numpy 1 (with
numpy 2 tensors arrive empty), and nothing of it comes into the tests' own: its clients
run there too (`triton_asks.py`). MLGUARD_TRITON_PYTHON names that environment's Python.
"""

import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
READY_S = 180  # on a busy machine; a second or two on a quiet one
PYTHON = os.environ.get("MLGUARD_TRITON_PYTHON", "")
REQUIRED = os.environ.get("MLGUARD_REQUIRE_TRITON") == "1"
needs_triton = pytest.mark.skipif(
    not PYTHON and not REQUIRED,
    reason="needs a Triton server: MLGUARD_TRITON_PYTHON, see docs/deploy/triton.md",
)
WHERE = (
    "import sys, sysconfig; print(sysconfig.get_path('purelib')); "
    "print(f'{sys.version_info.major}.{sys.version_info.minor}')"
)


@cache
def environment() -> tuple[Path, str]:
    """The site-packages of the server's Python, and its version."""
    said = subprocess.check_output([PYTHON, "-c", WHERE], text=True)
    site, version = said.split()
    return Path(site), version


class Asker:
    """Triton's own clients, in a process of the server's Python."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process = subprocess.Popen(
            [PYTHON, Path(__file__).with_name("triton_asks.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def close(self) -> None:
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()

    def ask(self, what: str, **about: object) -> object:
        print(json.dumps({"do": what, **about}), file=self._process.stdin, flush=True)
        said = json.loads(self._process.stdout.readline())
        if "error" in said:
            raise RuntimeError(said["error"])
        return said["found"]

    def infer(
        self,
        address: str,
        tensors: dict[str, np.ndarray],
        outputs: list[str],
        *,
        model: str = "acme",
        protocol: str = "http",
    ) -> dict[str, np.ndarray]:
        files = {
            part: str(self._folder / f"{part}.npz") for part in ("tensors", "answer")
        }
        np.savez(files["tensors"], **tensors)
        self.ask(
            "infer",
            protocol=protocol,
            address=address,
            model=model,
            outputs=outputs,
            **files,
        )
        with np.load(files["answer"]) as arrays:
            return {name: arrays[name] for name in outputs}


@dataclass
class Server:
    http: str
    grpc: str
    process: subprocess.Popen
    log_path: Path
    asker: Asker

    @property
    def log(self) -> str:
        return self.log_path.read_text()

    def ready(self, model: str, version: str = "") -> bool:
        return self.asker.ask("ready", address=self.http, model=model, version=version)

    def classes(
        self, images: np.ndarray, *, model: str = "acme", protocol: str = "http"
    ) -> np.ndarray:
        address = {"http": self.http, "grpc": self.grpc}[protocol]
        tensors = {"images": images}
        return self.asker.infer(
            address, tensors, ["classes"], model=model, protocol=protocol
        )["classes"]


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def backend_folder(path: Path, home: Path) -> Path:
    """The Python backend with the stub of this Python beside it."""
    python = path / "python"
    python.mkdir(parents=True)
    for file in (home / "backends" / "python").iterdir():
        if file.is_file():
            shutil.copy(file, python)
    _, version = environment()
    stub = home / "python_backend_stubs" / version / "triton_python_backend_stub"
    shutil.copy(stub, python)
    return path


@contextmanager
def triton(repository: Path, scratch: Path, **more: str) -> Iterator[Server]:
    """Start a server over a repository; it is stopped at the end."""
    site, _ = environment()
    home = site / "pytriton" / "tritonserver"
    http, grpc, metrics = free_ports(3)
    log_path = scratch / "server.log"
    command = [
        str(home / "bin" / "tritonserver"),
        f"--model-repository={repository}",
        f"--backend-directory={backend_folder(scratch / 'backends', home)}",
        "--model-control-mode=poll",
        "--repository-poll-secs=1",
        "--exit-on-error=false",
        "--strict-readiness=true",
        "--exit-timeout-secs=3",
        f"--http-port={http}",
        f"--grpc-port={grpc}",
        f"--metrics-port={metrics}",
        "--http-address=127.0.0.1",
        "--grpc-address=127.0.0.1",
    ]
    variables = (
        os.environ
        | more
        | {
            # The backend takes its packages from the Python that it finds first.
            "PATH": f"{Path(PYTHON).parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "LD_LIBRARY_PATH": str(site / "nvidia_pytriton.libs"),
            "OMP_NUM_THREADS": "1",
        }
    )
    with log_path.open("wb") as log:
        process = subprocess.Popen(command, env=variables, stdout=log, stderr=log)
    asker = Asker(scratch)
    try:
        addresses = (f"127.0.0.1:{http}", f"127.0.0.1:{grpc}")
        yield Server(*addresses, process, log_path, asker)
    finally:
        asker.close()
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_for(true, seconds: float = READY_S) -> bool:
    """Ask until it is so; False once the time is over."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if true():
                return True
        except Exception:  # the server is not there yet, in one of many ways
            pass
        time.sleep(0.2)
    return False
