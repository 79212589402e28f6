"""`mlguard` for pages of commands: loaded once, and forked for each command.

Python loads a command in half a second, and one with torch in three. Here a server has
loaded everything before the first command is typed. The `mlguard` that a shell finds is
a short script: it sends its arguments, folder, environment and open files, the server
forks, and the fork becomes the command. What the shell does stays real, and
test_process.py shows that a Python of its own does the same.
"""

import fcntl
import importlib
import json
import os
import pkgutil
import socket
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from keystore import WorkFactor

ROOT = Path(__file__).parents[1]
LENGTH = 8  # bytes that say how long a message is
# A new passphrase is tried in 20 ms of one core, not in half a second of two.
LIGHT = {"memory_kib": 8 * 1024, "iterations": 1, "lanes": 1}
MANY = 64  # files of one command
APART = 100  # descriptors from here on are not a command's own
SCRIPT = """#!{python} -IS
import json, os, socket, sys

def is_open(file):
    try:
        os.fstat(file)
    except OSError:
        return False
    return True

link = socket.socket(socket.AF_UNIX)
files = [file for file in map(int, os.listdir("/dev/fd")) if is_open(file)]
files.remove(link.fileno())
os.umask(umask := os.umask(0))
told = [sys.argv[1:], os.getcwd(), dict(os.environ), umask, files]
message = json.dumps(told).encode()
link.connect({address!r})
socket.send_fds(link, [len(message).to_bytes({length}, "big")], files)
link.sendall(message)
sys.exit(int(link.makefile().read() or 255))
"""


@pytest.fixture(scope="session")
def loaded_program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder for PATH, in which `mlguard` is."""
    folder = tmp_path_factory.mktemp("program")
    with tempfile.TemporaryDirectory(prefix="mlguard-") as place:  # of a short name
        address = f"{place}/server"
        program = folder / "mlguard"
        program.write_text(
            SCRIPT.format(python=sys.executable, address=address, length=LENGTH)
        )
        program.chmod(0o755)
        command = [sys.executable, "-m", "tests.loaded", address]
        quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE}
        with subprocess.Popen(command, cwd=ROOT, **quiet) as server:
            assert server.stdout.read(1) == b"."
            yield folder
            server.terminate()


def serve(address: str) -> None:
    """Load everything, and fork for every command."""
    WorkFactor.__init__.__kwdefaults__ = LIGHT
    load()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen()
        os.write(1, b".")
        while True:
            link, _ = listener.accept()
            if os.fork() == 0:
                listener.close()
                os._exit(become(link))
            link.close()
            with suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass


def load() -> None:
    import mlguard

    for module in pkgutil.walk_packages(mlguard.__path__, "mlguard."):
        with suppress(ImportError):  # of what only a server of Triton has
            importlib.import_module(module.name)


def become(link: socket.socket) -> int:
    """Be the command that was sent, and send back its exit status."""
    length, received, *_ = socket.recv_fds(link, LENGTH, MANY)
    with link.makefile("rb") as sent:
        message = sent.read(int.from_bytes(length, "big"))
    arguments, folder, environment, umask, numbers = json.loads(message)
    answer, *files = (
        fcntl.fcntl(file, fcntl.F_DUPFD_CLOEXEC, APART)
        for file in (link.fileno(), *received)
    )
    for file, number in zip(files, numbers, strict=True):
        os.dup2(file, number)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115 - as Python opens them itself
    sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115
    os.chdir(folder)
    os.umask(umask)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["mlguard", *arguments]
    status = run()
    os.write(answer, str(status).encode())
    return status


def run() -> int:
    from mlguard.__main__ import main

    try:
        main()
    except SystemExit as end:
        return int(end.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.flush()
    return 1


if __name__ == "__main__":
    serve(sys.argv[1])
