"""`mlguard doctor`: what is installed, what is missing, and what to do about it."""

import platform
import re
import stat
import sys
from collections.abc import Iterator
from importlib import import_module
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any

import typer

from keystore import (
    FileStorage,
    KeystoreError,
    MalformedKeystore,
    WorkFactorTooHigh,
    storage_at,
)
from keystore.header import take_apart
from mlguard import __version__
from mlguard.cli.unlock import DEFAULT_KEYSTORE, KeystorePlace

NOT_YET = "not there yet: `mlguard keygen NAME` makes it"
PROBLEM, UNREADABLE = "PROBLEM: ", "PROBLEM: the keystore: "
EXIT_PROBLEM, EXIT_DAMAGED = 2, 12  # rows of the table in exit_codes.py
RUNTIMES = ("onnxruntime-gpu", "onnxruntime")


def doctor(keystore: KeystorePlace = DEFAULT_KEYSTORE) -> None:
    """Print versions, providers, the keystore's health, and what is missing.

    Ends with a status other than 0 when a line says PROBLEM.
    """
    sections = {
        "versions": _versions(),
        "onnxruntime": _runtime(),
        "training": _training(),
        "keystore": _keystore(keystore),
    }
    status = 0
    for title, lines in sections.items():
        print(title)
        for line in lines:
            print(f"  {line}")
            status = max(status, _status(line))
    if status:
        raise typer.Exit(status)


def _status(line: str) -> int:
    if line.startswith(UNREADABLE):
        return EXIT_DAMAGED
    return EXIT_PROBLEM if line.startswith(PROBLEM) else 0


def _imported(name: str, package: str) -> tuple[Any, str]:
    """A module, or None and why a package that is installed does not import."""
    try:
        return import_module(name), ""
    except (ImportError, OSError, RuntimeError, AttributeError) as error:
        # Whatever a half-installed package or a missing library of the system gives.
        why = str(error).partition("\n")[0] or type(error).__name__
        return None, f"PROBLEM: {package} {_version(package)}: does not import: {why}"


def _versions() -> Iterator[str]:
    yield f"mlguard {__version__}, Python {platform.python_version()}"
    yield f"{platform.system()} {platform.machine()}"
    base = _required("")
    if not base:
        yield "mlguard itself is not installed, so what it requires is not known"
    yield from (f"{name} {_version(name) or 'MISSING'}" for name in base)


def _runtime() -> Iterator[str]:
    installed = [name for name in RUNTIMES if _version(name)]
    yield from (f"{name} {_version(name)}" for name in installed)
    if not installed:
        yield "MISSING: pip install onnxruntime-gpu (or onnxruntime)"
        return
    if len(installed) > 1:
        yield (
            "PROBLEM: both install the same module over each other; do: pip uninstall "
            "-y onnxruntime onnxruntime-gpu && pip install onnxruntime-gpu"
        )
    onnxruntime, problem = _imported("onnxruntime", installed[0])
    if problem:
        yield problem
        return
    yield f"providers built in: {', '.join(onnxruntime.get_available_providers())}"
    yield "a provider that is built in can still lack its driver; predict says so"


def _training() -> Iterator[str]:
    train = _required("train")
    missing = [name for name in train if not _version(name)]
    yield from (f"{name} {_version(name)}" for name in train if name not in missing)
    if missing:
        yield f"missing {', '.join(missing)}: pip install '.[train]'"
    if not _version("torch"):
        return
    torch, problem = _imported("torch", "torch")
    if problem:
        yield problem
        return
    if torch.cuda.is_available():
        yield from (
            f"CUDA device {index}: {torch.cuda.get_device_name(index)}"
            for index in range(torch.cuda.device_count())
        )
    else:
        threads = torch.get_num_threads()
        plural = "" if threads == 1 else "s"
        yield f"no CUDA device; training runs on {threads} CPU thread{plural}"


def _keystore(place: str) -> Iterator[str]:
    try:
        storage = storage_at(place)
        yield f"at {storage.location}"
        if not isinstance(storage, FileStorage):
            yield "there" if storage.exists() else NOT_YET
            return
    except KeystoreError as refusal:
        yield f"PROBLEM: {refusal}"
        return
    yield from _file(Path(storage.location))


def _file(path: Path) -> Iterator[str]:
    try:
        status = path.lstat()
    except FileNotFoundError:
        yield NOT_YET
        return
    except OSError as error:
        yield f"PROBLEM: {error.strerror}"
        return
    if not stat.S_ISREG(status.st_mode):
        yield "PROBLEM: not a regular file, so it will not be opened"
        return
    mode = stat.S_IMODE(status.st_mode)
    yield f"{status.st_size} bytes, mode {mode:04o}"
    if sys.platform != "win32" and mode & 0o077:
        yield f"PROBLEM: others can read it: chmod 600 {path}"
    yield from _form(FileStorage(path))


def _form(storage: FileStorage) -> Iterator[str]:
    """What can be seen of a store's bytes without opening it."""
    try:
        take_apart(storage.read())
    except (MalformedKeystore, WorkFactorTooHigh) as refusal:
        yield f"{UNREADABLE}{refusal}"
    except KeystoreError as refusal:
        yield f"{PROBLEM}{refusal}"
    else:
        yield "a keystore, and its checksum fits; `mlguard keys check` opens it"


def _required(extra: str) -> list[str]:
    """The packages that mlguard, or one of its extras, requires; from its metadata."""
    try:
        lines = requires("mlguard") or []
    except PackageNotFoundError:
        return []
    found = set()
    for line in lines:
        requirement, _, marker = line.partition(";")
        of = re.search(r"""extra\s*==\s*["']([^"']+)""", marker)
        name = re.match(r"[A-Za-z0-9._-]+", requirement)
        if name and (of.group(1) if of else "") == extra:
            found.add(name.group())
    return sorted(found - set(RUNTIMES))


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
