"""A real Triton Inference Server on loopback, out of the wheel `nvidia-pytriton`.

The server has an environment of its own, for its Python backend needs numpy 1 (with
numpy 2 tensors arrive empty): MLGUARD_TRITON_SITE names that environment's
site-packages, in which `mlguard-toolkit[cpu,triton]` is installed.
"""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

READY_S = 60


SITE = os.environ.get("MLGUARD_TRITON_SITE", "")


def installed() -> bool:
    """Whether there is a server; its clients can then be imported."""
    if not SITE:
        return False
    if SITE not in sys.path:
        sys.path.append(SITE)  # at the end: only what this environment lacks
    return find_spec("tritonclient") is not None


@dataclass
class Server:
    http: str
    grpc: str
    process: subprocess.Popen
    log_path: Path

    @property
    def log(self) -> str:
        return self.log_path.read_text()


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
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    stub = home / "python_backend_stubs" / version / "triton_python_backend_stub"
    shutil.copy(stub, python)
    return path


@contextmanager
def triton(repository: Path, scratch: Path, **environment: str) -> Iterator[Server]:
    """Start a server over a repository; it is stopped at the end."""
    home = Path(SITE) / "pytriton" / "tritonserver"
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
        | environment
        | {
            # The backend takes its packages from the Python that it finds first.
            "PATH": f"{Path(SITE).parents[2] / 'bin'}:{os.environ['PATH']}",
            "LD_LIBRARY_PATH": str(Path(SITE) / "nvidia_pytriton.libs"),
            "OMP_NUM_THREADS": "1",
        }
    )
    with log_path.open("wb") as log:
        process = subprocess.Popen(command, env=variables, stdout=log, stderr=log)
    try:
        yield Server(f"127.0.0.1:{http}", f"127.0.0.1:{grpc}", process, log_path)
    finally:
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
