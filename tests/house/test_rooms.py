"""The plan of the house: which room may import what, and what must not load torch."""

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COMMON = {"mlguard.errors", "mlguard.files", "mlguard.nearest", "mlguard.rules"}
PICTURES = {"mlguard.pictures", "PIL"}
TORCH = {"torch", "torchvision", "numpy"}
MAY_IMPORT = {
    "keystore": {"cryptography", "filelock", "pkcs11", "sqlalchemy"},
    "mlguard.__init__": set(),
    "mlguard.__main__": {"mlguard.cli"},
    "mlguard.errors": {"keystore.refusal"},
    "mlguard.files": {"mlguard.errors"},
    "mlguard.rules": set(),
    "mlguard.kinds": set(),
    "mlguard.nearest": set(),
    "mlguard.quota": set(),
    "mlguard.installed": set(),
    "mlguard.engine": {"mlguard.errors", "onnxruntime"},
    "mlguard.validation": {"mlguard.nearest", "pydantic"},
    "mlguard.canonical": {"pydantic"},
    "mlguard.images": {"numpy", "PIL"},
    "mlguard.pictures": {"mlguard.errors", "mlguard.rules", "mlguard.recipe"}
    | {"mlguard.keys", "mlguard.transforms", "numpy", "PIL"},
    "mlguard.metrics": {"numpy"},
    "mlguard.tasks": {"mlguard.metrics", "mlguard.rules", "numpy"},
    "mlguard.recipe": COMMON
    | {"mlguard.kinds"}
    | {"mlguard.validation", "pydantic", "tomli_w"},
    "mlguard.keys": {"cryptography"},
    "mlguard.signing": {"mlguard.errors", "cryptography"},
    "mlguard.sealing": {"mlguard.errors", "cryptography"},
    "mlguard.grants": {"mlguard.errors", "mlguard.signing"}
    | {"mlguard.canonical", "mlguard.validation", "pydantic"},
    "mlguard.transforms": {
        "mlguard.errors",
        "mlguard.keys",
        "mlguard.rules",
        "cryptography",
        "numpy",
        "pyffx",
    },
    "mlguard.weights": COMMON
    | {"mlguard.keys", "mlguard.sealing", "numpy", "torch", "ml_dtypes"},
    "mlguard.marks": {"mlguard.keys", "cryptography", "numpy"},
    "mlguard.data": COMMON
    | {"mlguard.kinds"}
    | TORCH
    | {"mlguard.images", "mlguard.recipe", "mlguard.tasks", "PIL"},
    "mlguard.models": COMMON
    | {"mlguard.kinds"}
    | TORCH
    | {"timm"}  # where it is installed
    | {"mlguard.foreign", "mlguard.runtime", "onnx"}  # a backbone in an ONNX file
    | {"mlguard.recipe", "mlguard.transforms", "safetensors"},
    "mlguard.bundle": COMMON
    | {"mlguard.kinds"}
    | {"mlguard.tasks", "mlguard.keys", "mlguard.transforms", "mlguard.sealing"}
    | {"mlguard.canonical", "mlguard.validation"}
    | {"cryptography", "numpy", "onnx", "pydantic"},
    "mlguard.issuing": COMMON
    | {"mlguard.validation"}
    | {"mlguard.bundle", "mlguard.grants", "mlguard.keys", "mlguard.marks"}
    | {"mlguard.sealing", "mlguard.signing", "numpy"}
    | {"mlguard.foreign", "mlguard.weights"},  # in `leak`, the owner's side
    "mlguard.runtime": COMMON
    | {"mlguard.kinds"}
    | {"mlguard.keys", "mlguard.transforms", "mlguard.bundle", "mlguard.sealing"}
    | {"mlguard.grants", "mlguard.issuing"}  # an issued bundle opens with an identity
    | {"mlguard.images", "mlguard.quota", "numpy", "mlguard.engine", "PIL"}
    | {"mlguard.validation", "pydantic"},  # what a server at another machine answers
    "mlguard.foreign": COMMON
    | {"mlguard.validation"}
    | {"mlguard.kinds"}
    | {"mlguard.keys", "mlguard.sealing", "mlguard.bundle", "mlguard.runtime"}
    | {"google.protobuf", "mlguard.installed"}
    | {"numpy", "onnx", "mlguard.engine", "pydantic"},
    "mlguard.protect": COMMON
    | {"mlguard.kinds"}
    | {"mlguard.validation"}
    | TORCH
    | {"mlguard.recipe", "mlguard.tasks", "mlguard.keys", "mlguard.transforms"}
    | {"mlguard.data", "mlguard.models", "mlguard.bundle", "mlguard.runtime"}
    | {"mlguard.sealing", "mlguard.installed"}
    | {"mlguard.foreign", "mlguard.weights"}
    | {"accelerate", "matplotlib", "onnx", "onnxscript", "pydantic", "safetensors"}
    | {"google.protobuf"}  # what onnx graphs are; comes with onnx
    | {"mlguard.engine", "onnxruntime.quantization", "onnxruntime.transformers"},
    "mlguard.audit": COMMON
    | {"mlguard.validation"}
    | TORCH
    | PICTURES
    | {"mlguard.recipe", "mlguard.metrics", "mlguard.keys", "mlguard.transforms"}
    | {"mlguard.tasks", "mlguard.data", "mlguard.models", "mlguard.protect"}
    | {"mlguard.bundle", "mlguard.runtime"}  # docs/decisions/0007
    | {"mlguard.__init__", "mlguard", "jinja2", "markupsafe", "pydantic", "rich"}
    | {"scipy"},
    "mlguard.serving": COMMON
    | {"keystore", "mlguard.keys", "mlguard.bundle", "mlguard.runtime", "numpy"}
    | {"mlguard.issuing", "mlguard.signing", "mlguard.engine"}
    | {"triton_python_backend_utils"},  # only there within Triton
    "mlguard.cli": {"keystore", "mlguard", "numpy", "PIL", "rich", "typer"} | {"torch"},
}

# One level deeper: what the rooms inside a room may import of each other. Their own
# inside files are private: everybody else imports the room inside.
INSIDE: dict[str, set[str]] = {
    "mlguard.models.architectures": set(),
    "mlguard.models.conditions": set(),
    "mlguard.models.binding": {
        "mlguard.models.architectures",
        "mlguard.models.conditions",
    },
    "mlguard.protect.run_folder": set(),
    "mlguard.protect.training": {"mlguard.protect.run_folder"},
    "mlguard.protect.export": {"mlguard.protect.run_folder"},
    "mlguard.protect.binding": {
        "mlguard.protect.export",
        "mlguard.protect.run_folder",
    },
    "mlguard.audit.findings": set(),
    "mlguard.audit.log": {"mlguard.audit.findings"},
    "mlguard.audit.report": {"mlguard.audit.log", "mlguard.audit.findings"},
    "mlguard.audit.target": {"mlguard.audit.log", "mlguard.audit.findings"},
}
INSIDE["mlguard.audit.measure"] = {
    "mlguard.audit.target",
    *INSIDE["mlguard.audit.target"],
}
INSIDE["mlguard.audit.attacks"] = {
    "mlguard.audit.measure",
    *INSIDE["mlguard.audit.measure"],
}
INSIDE["mlguard.audit.run"] = {
    "mlguard.audit.attacks",
    "mlguard.audit.report",
    *INSIDE["mlguard.audit.attacks"],
}
WITHOUT_TORCH = ["mlguard.audit.findings", "mlguard.audit.log", "mlguard.audit.report"]
LIGHT = [
    "mlguard",
    "mlguard.cli.app",
    "keystore",
    "mlguard.runtime",
    "mlguard.bundle",
    "mlguard.pictures",
]
HEAVY = ["torch", "onnx", "matplotlib", "sqlalchemy", "pkcs11"]


def files_of(room: str) -> list[Path]:
    path = ROOT / room.replace(".", "/")
    return sorted(path.rglob("*.py")) if path.is_dir() else [path.with_suffix(".py")]


@cache
def imports_of(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            package = node.module or ""
            if package == "mlguard":  # `from mlguard import recipe` names a room
                found |= {f"mlguard.{alias.name}" for alias in node.names}
            else:
                found.add(package)
    return {name for name in found if name.split(".")[0] not in sys.stdlib_module_names}


def strays_of(path: Path, allowed: set[str]) -> set[str]:
    return {
        name
        for name in imports_of(path)
        if not any(name == room or name.startswith(room + ".") for room in allowed)
    }


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_room_imports_only_what_its_row_allows(room: str) -> None:
    files = files_of(room)
    assert files
    assert all(path.exists() for path in files), f"{room} is not there"
    allowed = MAY_IMPORT[room] | {room}
    strays = {path.name: strays_of(path, allowed) for path in files}
    assert {name: found for name, found in strays.items() if found} == {}


def test_stray_import_would_be_seen(tmp_path: Path) -> None:
    path = tmp_path / "stray.py"
    path.write_text("import os\nfrom torch import nn\nfrom mlguard import recipe\n")
    assert strays_of(path, {"mlguard.keys"}) == {"torch", "mlguard.recipe"}


def test_every_source_file_belongs_to_a_room() -> None:
    listed = {path for room in MAY_IMPORT for path in files_of(room)}
    present = {*ROOT.glob("mlguard/**/*.py"), *ROOT.glob("keystore/**/*.py")}
    assert present - listed == set()


def loaded_by(module: str) -> set[str]:
    """What a new process has loaded once it has imported a module."""
    probe = f"import sys, {module}; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", probe], cwd=ROOT, capture_output=True, check=True
    )
    return set(done.stdout.decode().split())


@pytest.mark.parametrize("module", LIGHT)
def test_heavy_packages_are_not_loaded_by(module: str) -> None:
    assert module in loaded_by(module)
    assert loaded_by(module) & {*HEAVY} == set()


def intrusions(path: Path) -> set[str]:
    """What a file imports of a room inside that its place does not allow."""
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    own = next((room for room in INSIDE if name.startswith(f"{room}.")), None)
    found = set()
    for imported in imports_of(path):
        room = next((r for r in INSIDE if f"{imported}.".startswith(f"{r}.")), None)
        if room in (None, own):
            continue
        other = own is None or room.split(".")[:2] != own.split(".")[:2]
        arrow = other or room in INSIDE[own or ""]
        if imported != room or not arrow:
            found.add(imported)
    return found


def test_inside_of_a_room_is_private() -> None:
    sources = [*ROOT.glob("mlguard/**/*.py"), *ROOT.glob("benchmarks/*.py")]
    found = {str(path.relative_to(ROOT)): intrusions(path) for path in sources}
    assert {name: strays for name, strays in found.items() if strays} == {}


def test_intrusion_would_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "imports_of", lambda path: {"mlguard.audit.run"})
    within = ROOT / "mlguard/audit/log/file.py"
    assert intrusions(within) == {"mlguard.audit.run"}
    private = "mlguard.audit.log.file"
    monkeypatch.setitem(globals(), "imports_of", lambda path: {private})
    assert intrusions(ROOT / "mlguard/audit/report/page.py") == {private}
    assert intrusions(within) == set()


@pytest.mark.parametrize("room", WITHOUT_TORCH)
def test_room_inside_does_without_torch(room: str) -> None:
    assert room in loaded_by(room)
    assert "torch" not in loaded_by(room)


@pytest.mark.parametrize("path", [*ROOT.glob("keystore/*.py")], ids=lambda p: p.name)
def test_keystore_knows_nothing_of_mlguard_but_commands_in_its_hints(
    path: Path,
) -> None:
    assert not any(name.startswith("mlguard") for name in imports_of(path))
