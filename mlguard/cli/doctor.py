"""`mlguard doctor`: report what is installed or missing, and what to do."""

import platform
import re
import stat
import sys
from collections.abc import Iterable, Iterator
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
from mlguard.cli.answers import Json, answer
from mlguard.cli.unlock_options import DEFAULT_KEYSTORE, KeystorePlace

NOT_YET = "does not exist yet: `mlguard keygen NAME` makes it"
PROBLEM, UNREADABLE = "PROBLEM: ", "PROBLEM: the keystore: "
EXIT_PROBLEM, EXIT_DAMAGED = 2, 12  # rows of the table in exit_codes.py
DISTRIBUTION = "mlguard-toolkit"  # our name on the package index
# Distributions that install the module onnxruntime, each over the others' files.
RUNTIMES = (
    "onnxruntime-gpu",
    "onnxruntime",
    "onnxruntime-directml",
    "onnxruntime-openvino",
    "onnxruntime-qnn",
    "onnxruntime-rocm",
    "onnxruntime-silicon",
    "onnxruntime-training",
)
# The names of modules that differ from their package's.
MODULES = {"pillow": "PIL"}


def doctor(keystore: KeystorePlace = DEFAULT_KEYSTORE, json: Json = False) -> None:
    """Print versions, providers, the keystore's health, and what is missing.

    The exit status is not 0 if a line says PROBLEM.
    """
    sections = {
        "versions": list(_versions()),
        "onnxruntime": list(_runtime()),
        "training": list(_training()),
        "keystore": list(_keystore(keystore)),
    }
    found = [line for lines in sections.values() for line in lines]
    status = max(map(_status, found))
    shown = [
        [title, *(f"  {line}" for line in lines)] for title, lines in sections.items()
    ]
    text = "\n".join(line for lines in shown for line in lines)
    answer(sections | {"status": status}, text, as_json=json)
    if status:
        raise typer.Exit(status)


def _status(line: str) -> int:
    if line.startswith(UNREADABLE):
        return EXIT_DAMAGED
    return EXIT_PROBLEM if line.startswith(PROBLEM) else 0


def _imported(package: str, module: str = "") -> tuple[Any, str]:
    """Return a package's module, or None and why it fails to import."""
    name = module or MODULES.get(package, package.replace("-", "_"))
    try:
        return import_module(name), ""
    except Exception as error:  # whatever a half-installed package may raise
        why = str(error).partition("\n")[0] or type(error).__name__
        return None, (
            f"PROBLEM: {package} {_version(package)}: does not import: {why}; "
            f"repair it with: pip install --force-reinstall --no-deps {package}"
        )


def _examined(packages: Iterable[str]) -> Iterator[str]:
    """Return each package's version, and what is wrong with it."""
    for package in packages:
        found = _version(package)
        yield f"{package} {found or 'MISSING'}"
        if found:
            yield from _too_old(package, found)
            _, problem = _imported(package)
            yield from filter(None, [problem])


def _too_old(package: str, found: str) -> Iterator[str]:
    least = _least().get(package, "")
    if least and _numbers(found) < _numbers(least):
        yield (
            f"PROBLEM: {package} {found}: older than {least}, the oldest that mlguard "
            f"works with; run: pip install --upgrade {package}"
        )


def _numbers(version: str) -> tuple[int, ...]:
    """Return the numbers at the start of a version: 1.20.0rc1 is (1, 20, 0)."""
    begins = re.match(r"\d+(\.\d+)*", version)
    return tuple(map(int, begins.group().split("."))) if begins else ()


def _versions() -> Iterator[str]:
    yield f"mlguard {__version__}, Python {platform.python_version()}"
    yield f"{platform.system()} {platform.machine()}"
    base = _required("")
    if not base:
        yield "mlguard itself is not installed, so its requirements are unknown"
    yield from _examined(base)


def _runtime() -> Iterator[str]:
    installed = [name for name in RUNTIMES if _version(name)]
    yield from (f"{name} {_version(name)}" for name in installed)
    if not installed:
        yield (
            "MISSING: bundles need it: pip install onnxruntime, or onnxruntime-gpu "
            "for CUDA"
        )
        return
    if len(installed) > 1:
        yield (
            f"PROBLEM: {' and '.join(installed)} overwrite each other's module; run: "
            f"pip uninstall -y {' '.join(installed)} && pip install {installed[0]}"
        )
    for name in installed:
        yield from _too_old(name, _version(name) or "")
    onnxruntime, problem = _imported(installed[0], "onnxruntime")
    if not problem and not hasattr(onnxruntime, "get_available_providers"):
        problem = (
            f"PROBLEM: {installed[0]} {_version(installed[0])}: its files are "
            "missing, as after another runtime was uninstalled; repair it with: "
            f"pip install --force-reinstall --no-deps {installed[0]}"
        )
    if problem:
        yield problem
        return
    yield f"providers built in: {', '.join(onnxruntime.get_available_providers())}"
    yield "a built-in provider can still lack its driver; predict says so"


def _training() -> Iterator[str]:
    train = _required("train")
    missing = [name for name in train if not _version(name)]
    yield from _examined(name for name in train if name not in missing)
    if missing:
        yield f"missing {', '.join(missing)}: pip install '.[train]'"
    if not _version("torch"):
        return
    torch, problem = _imported("torch")
    if problem:
        if "torch" not in train:  # otherwise already reported
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
    """Return what a store's bytes show without opening it."""
    try:
        take_apart(storage.read())
    except (MalformedKeystore, WorkFactorTooHigh) as refusal:
        yield f"{UNREADABLE}{refusal}"
    except KeystoreError as refusal:
        yield f"{PROBLEM}{refusal}"
    else:
        yield "a keystore with a correct checksum; `mlguard keys check` opens it"


def _required(extra: str) -> list[str]:
    """Return the packages that mlguard, or one of its extras, requires."""
    found = {name for name, _, of in _requirements() if of == extra}
    return sorted(found - {*RUNTIMES, DISTRIBUTION})


def _least() -> dict[str, str]:
    """Return the oldest version of every required package that mlguard works with."""
    return {name: least for name, least, _ in _requirements() if least}


def _requirements() -> list[tuple[str, str, str]]:
    """Return name, oldest version and extra of every requirement, if installed."""
    try:
        lines = requires(DISTRIBUTION) or []
    except PackageNotFoundError:
        return []
    found = []
    for line in lines:
        requirement, _, marker = line.partition(";")
        name = re.match(r"[A-Za-z0-9._-]+", requirement)
        least = re.search(r">=\s*([0-9.]+)", requirement)
        of = re.search(r"""extra\s*==\s*["']([^"']+)""", marker)
        if name:
            oldest, extra = (each.group(1) if each else "" for each in (least, of))
            found.append((name.group(), oldest, extra))
    return found


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
