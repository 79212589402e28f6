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
    assert package == "mlguard"
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
    base = names(PROJECT["dependencies"]) - {"onnxruntime", "onnxruntime-gpu"}
    assert {"jinja2", "filelock", "tomli-w"} <= base
    assert doctor._required("") == sorted(base)
    assert doctor._required("train") == sorted(names(EXTRAS["train"]))
    told = {line.split()[0] for line in [*doctor._versions(), *doctor._training()]}
    assert base | names(EXTRAS["train"]) <= told


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
    *_, last = getattr(doctor, section)()
    assert last.startswith(f"PROBLEM: {module}")
    assert last.endswith(" 1.2.3: does not import: libcudart.so.13: cannot open")
    assert doctor._status(last) == 2


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"hello", "this is not a keystore"),
        (b"mlguard keystore 1\nhello", "the checksum does not fit"),
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
