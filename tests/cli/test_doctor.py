"""What `mlguard doctor` lists: all that the package requires, nothing forgotten."""

import re
import tomllib
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from mlguard.cli import doctor
from mlguard.cli.app import run

PROJECT = tomllib.loads(
    (Path(__file__).parents[2] / "pyproject.toml").read_text()
)["project"]  # fmt: skip
EXTRAS = PROJECT["optional-dependencies"]


def metadata(package: str) -> list[str]:
    """What importlib.metadata says of an installed mlguard."""
    assert package == "mlguard-toolkit"
    extras = [
        f'{line}; extra == "{extra}"'
        for extra, lines in EXTRAS.items()
        for line in lines
    ]
    return [*PROJECT["dependencies"], *extras]


def names(lines: list[str]) -> set[str]:
    return {re.split(r"[<>=;]", line)[0].strip() for line in lines}


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "requires", metadata)
    monkeypatch.setattr(doctor, "version", lambda _: "1.2.3")


@pytest.mark.usefixtures("installed")
def test_every_package_of_the_project_is_listed() -> None:
    base = names(PROJECT["dependencies"])
    assert {"jinja2", "filelock", "tomli-w"} <= base
    assert doctor._required("") == sorted(base)
    train = names(EXTRAS["train"]) - {"mlguard-toolkit[gpu]"}
    assert doctor._required("train") == sorted(train)
    told = {line.split()[0] for line in [*doctor._versions(), *doctor._training()]}
    assert base | train <= told


def test_a_checkout_that_is_not_installed_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def unknown(_: str) -> None:
        raise PackageNotFoundError

    monkeypatch.setattr(doctor, "requires", unknown)
    assert run(["doctor", "--keystore", str(tmp_path / "none")]) == 0
    assert "mlguard itself is not installed" in capsys.readouterr().out


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    ("module", "section"), [("torch", "_training"), ("onnxruntime", "_runtime")]
)
def test_a_package_that_is_installed_but_does_not_import_is_a_problem(
    module: str, section: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(name: str) -> None:
        raise ImportError("libcudart.so.13: cannot open\nmore")

    monkeypatch.setattr(doctor, "import_module", broken)
    told = "\n".join(getattr(doctor, section)())
    problem = rf"PROBLEM: {module}(-gpu)? 1\.2\.3: does not import: libcudart\.so\.13: "
    assert re.search(rf"^{problem}cannot open; repair it with: .*$", told, re.M)
    assert "more" not in told


@pytest.fixture
def versions(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What is installed, for a test to change."""
    known: dict[str, str] = {}

    def version(package: str) -> str:
        if package not in known:
            raise PackageNotFoundError
        return known[package]

    monkeypatch.setattr(doctor, "requires", metadata)
    monkeypatch.setattr(doctor, "version", version)
    return known


def test_two_runtimes_at_once_are_a_problem_with_its_repair(versions) -> None:
    versions |= {"onnxruntime": "1.31.0", "onnxruntime-gpu": "1.31.0"}
    (line,) = [line for line in doctor._runtime() if "PROBLEM" in line]
    assert "onnxruntime-gpu and onnxruntime overwrite each" in line
    assert "pip uninstall -y onnxruntime-gpu onnxruntime && pip install" in line
    versions.pop("onnxruntime")
    assert [line for line in doctor._runtime() if "PROBLEM" in line] == []


@pytest.mark.parametrize(("found", "old"), [("1.20.1", True), ("1.24.1rc1", False)])
def test_a_runtime_that_is_too_old_is_a_problem(versions, found: str, old) -> None:
    versions["onnxruntime"] = found
    told = [line for line in doctor._runtime() if "PROBLEM" in line]
    assert bool(told) == old
    assert not old or f"onnxruntime {found}: older than 1.24.1" in told[0]


def test_a_package_that_is_too_old_is_a_problem(versions) -> None:
    versions["pillow"] = "9.1.0"
    told = [line for line in doctor._versions() if "PROBLEM" in line]
    assert [line.partition(", the")[0] for line in told] == [
        "PROBLEM: pillow 9.1.0: older than 10.3"
    ]


def test_no_runtime_says_which_to_install(versions) -> None:
    (line,) = doctor._runtime()
    assert line.startswith("MISSING")
    assert "pip install onnxruntime" in line


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"hello", "this is not a keystore"),
        (b"mlguard keystore 1\nhello", "the checksum does not match"),
    ],
)
def test_a_file_that_is_no_keystore_is_a_problem_with_its_exit_code(
    data: bytes,
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for section in ("_runtime", "_training"):  # this machine's own
        monkeypatch.setattr(doctor, section, lambda: iter(()))
    place = tmp_path / "keystore"
    place.write_bytes(data)
    place.chmod(0o600)
    assert run(["doctor", "--keystore", str(place)]) == 12
    assert f"PROBLEM: the keystore: {words}" in capsys.readouterr().out
