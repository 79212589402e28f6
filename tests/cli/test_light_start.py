"""What a command loads: no more than it needs, and nothing that it can do without."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from mlguard.cli import commands
from mlguard.cli.app import app, run
from mlguard.engine import LEAST

ROOT = Path(__file__).parents[2]
HEAVY = "onnxruntime", "torch", "matplotlib", "mlguard.audit", "jinja2"
# Words of a command, and what it may load of the modules that we look at.
LIGHT = [
    ([], ("numpy", "pydantic", "keystore", "PIL")),
    (["--help"], ("numpy", "pydantic", "keystore", "PIL")),
    (["--version"], ("numpy", "pydantic", "keystore", "PIL")),
    (["keys", "--help"], ("numpy", "PIL")),
    (["keys", "list", "--keystore", "none"], ("numpy", "PIL")),
    (["keygen", "--help"], ("numpy", "PIL")),
    (["identity", "--help"], ("numpy", "PIL")),
    (["exit-codes"], ("numpy", "PIL")),
    (["recipes", "list"], ("PIL",)),
    (["recipes", "check", "demo"], ("PIL",)),
]
PROBE = """
import sys
from mlguard.cli.app import run
run(sys.argv[1:])
print("LOADED", *sorted(sys.modules))
"""


def loaded_by(words: list[str]) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", PROBE, *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stdout.rpartition("LOADED")[2].split())


@pytest.mark.parametrize(
    ("words", "also"), LIGHT, ids=lambda value: " ".join(value) or "nothing"
)
def test_a_light_command_loads_nothing_heavy(
    words: list[str], also: tuple[str, ...]
) -> None:
    loaded = loaded_by(words)
    assert "mlguard.cli.app" in loaded
    assert loaded & {*HEAVY, *also} == set()


def test_a_heavy_command_would_be_seen() -> None:
    assert {"onnxruntime", "numpy", "PIL"} <= loaded_by(["predict", "--help"])


@pytest.mark.parametrize("name", commands.COMMANDS)
def test_the_table_says_of_a_command_what_it_says_itself(name: str) -> None:
    command = commands.load(name)
    assert command.name == name
    assert commands.COMMANDS[name].help == command.get_short_help_str(1000)


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"]) == 0
    told = capsys.readouterr().out
    assert [name for name in commands.COMMANDS if f"│ {name}" not in told] == []


def test_a_command_that_is_none_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["nonsense"]) == 2
    assert "No such command 'nonsense'" in capsys.readouterr().err


def test_every_command_of_the_table_is_in_the_tree() -> None:
    assert list(typer.main.get_command(app).commands) == list(commands.COMMANDS)


def imports_onnxruntime(source: str) -> bool:
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module or "")
    return bool(names & {"onnxruntime"}) or any(
        "onnxruntime.capi" in one for one in names
    )


def test_onnxruntime_is_imported_in_one_place() -> None:
    sources = [*ROOT.glob("mlguard/**/*.py"), *ROOT.glob("benchmarks/*.py")]
    homes = [path.name for path in sources if imports_onnxruntime(path.read_text())]
    assert homes == ["engine.py"]
    assert imports_onnxruntime("from onnxruntime.capi import x")


# Dependencies that are broken or missing

NO_RUNTIME = {
    "half removed": ("", ["capi/leftover.txt"]),
    "without its library": (
        "raise ImportError('libcudart.so.13: cannot open')",
        ["__init__.py"],
    ),
    "of another numpy": (
        "raise ValueError('numpy.dtype size changed')",
        ["__init__.py"],
    ),
}


@pytest.fixture(params=NO_RUNTIME)
def without_runtime(request, tmp_path: Path) -> Path:
    """A folder that hides onnxruntime behind what pip, or a bad day, left of it."""
    content, names = NO_RUNTIME[request.param]
    for name in names:
        path = tmp_path / "broken" / "onnxruntime" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    if request.param == "half removed":  # a package without __init__ is found last
        blocker = tmp_path / "broken" / "onnxruntime" / "__init__.py"
        blocker.touch()
    return tmp_path / "broken"


def mlguard(broken: Path, *words: str) -> subprocess.CompletedProcess[str]:
    program = "import sys; from mlguard.cli.app import main; main()"
    start = f"import sys; sys.path[:0] = [{str(broken)!r}, {str(ROOT)!r}]; {program}"
    return subprocess.run(
        [sys.executable, "-c", start, *words],
        cwd=broken.parent,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    "words", [("keys", "list", "--keystore", "none"), ("recipes", "list"), ("--help",)]
)
def test_commands_without_a_model_work_with_a_broken_runtime(
    without_runtime: Path, words: tuple[str, ...]
) -> None:
    done = mlguard(without_runtime, *words)
    assert done.returncode == (10 if words[0] == "keys" else 0)
    assert "onnxruntime" not in done.stderr


def test_doctor_names_the_repair_of_a_broken_runtime(without_runtime: Path) -> None:
    torch = without_runtime / "torch" / "__init__.py"  # which takes seconds to load
    torch.parent.mkdir()
    torch.write_text("raise ImportError")
    done = mlguard(without_runtime, "doctor", "--keystore", "none")
    assert (done.returncode, done.stderr) == (2, "")
    assert "PROBLEM: onnxruntime" in done.stdout
    assert "pip install --force-reinstall --no-deps onnxruntime" in done.stdout


def test_predict_refuses_a_broken_runtime_and_points_to_the_doctor(
    without_runtime: Path,
) -> None:
    done = mlguard(without_runtime, "predict", "x", "y", "--key", "a", "--out", "b")
    assert done.returncode == 2
    assert "error: onnxruntime cannot be imported" in done.stderr
    assert "mlguard doctor" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("package", ["torch", "PIL", "jinja2"])
def test_a_broken_package_is_named_and_is_no_internal_error(
    tmp_path: Path, package: str
) -> None:
    (tmp_path / "broken" / package).mkdir(parents=True)
    (tmp_path / "broken" / package / "__init__.py").write_text(
        "raise OSError('libgomp.so.1: cannot open')"
    )
    words = ("audit", str(tmp_path), "--key", "acme", "--out", "report")
    done = mlguard(tmp_path / "broken", *words)
    assert done.returncode == 2
    assert "is broken: libgomp.so.1: cannot open" in done.stderr
    assert mlguard(tmp_path / "broken", "keys", "--help").returncode == 0


def test_a_runtime_that_is_too_old_is_not_called_a_damaged_bundle(
    tmp_path: Path,
) -> None:
    package = tmp_path / "broken" / "onnxruntime"
    (package / "capi").mkdir(parents=True)
    (package / "__init__.py").write_text("__version__ = '1.20.1'; InferenceSession = 0")
    (package / "capi" / "__init__.py").touch()
    (package / "capi" / "onnxruntime_pybind11_state.py").touch()
    done = mlguard(package.parent, "predict", "x", "y", "--key", "a", "--out", "b")
    assert done.returncode == 2
    assert "onnxruntime 1.20.1 is too old, expected 1.24 or later" in done.stderr


def test_the_oldest_runtime_is_that_of_the_project() -> None:
    wanted = f"onnxruntime>={'.'.join(map(str, LEAST))}"
    assert (ROOT / "pyproject.toml").read_text().count(wanted) == 2
