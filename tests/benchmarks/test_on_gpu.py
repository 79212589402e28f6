"""What is ready for a rare GPU runs from end to end on a CPU."""

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "benchmarks" / "on_gpu.sh"


def test_the_script_is_a_shell_script() -> None:
    subprocess.run(["bash", "-n", SCRIPT], check=True)


def test_every_command_of_the_script_has_its_options(monkeypatch, capsys) -> None:
    text = SCRIPT.read_text().replace("\\\n", " ")
    used = {
        "table1": ["--scale", "--out", "--seconds", "--print", "--most", "--set"],
        "gpu_checks": ["--out", "--small", "--device"],
        "transforms": ["--device", "--batch", "--model", "--size"],
        "audit": ["--device", "--batch", "--model", "--size"],
        "packed": ["--unpack"],
    }
    for name, options in used.items():
        assert f"{name}.py" in text
        monkeypatch.setattr(sys, "argv", [name, "--help"])
        module = importlib.import_module(name)
        parse = getattr(module, "parse", module.main)
        with pytest.raises(SystemExit, match="0"):
            parse()
        shown = capsys.readouterr().out
        assert [option for option in options if option not in shown] == []


def test_a_device_is_compared_with_numpy(tmp_path, monkeypatch) -> None:
    checks = importlib.import_module("gpu_checks")
    monkeypatch.setattr(sys, "argv", ["", "bound", "--small", "--out", str(tmp_path)])
    options = checks.parse()
    options.device = "cpu"
    rows = list(checks.transforms_alike(options))
    assert len(rows) == 19
    assert all(row["ok"] for row in rows)
    monkeypatch.setattr(checks, "torch_transform", lambda *_: lambda images: images)
    assert not any(row["ok"] for row in checks.transforms_alike(options))


def test_a_packed_copy_is_the_folder(tmp_path) -> None:
    packed = importlib.import_module("packed")
    folder = tmp_path / "data"
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True)
    Image.new("RGB", (4, 4)).save(folder / "images" / "one.jpg")
    Image.new("L", (4, 4)).save(folder / "masks" / "one.png")
    (folder / "train.txt").write_text("one\n")
    first, second = tmp_path / "first.zip", tmp_path / "second.zip"
    assert packed.pack(folder, first, ["train"]) == first.stat().st_size
    packed.pack(folder, second, ["train"])
    assert first.read_bytes() == second.read_bytes()
    packed.unpack(first, tmp_path / "there")
    for name in ("train.txt", "images/one.jpg", "masks/one.png"):
        there = (tmp_path / "there" / name).read_bytes()
        assert there == (folder / name).read_bytes()


@pytest.mark.slow
def test_all_pieces_run_on_a_cpu(tmp_path) -> None:
    out = tmp_path / "out"
    done = subprocess.run(
        [SCRIPT, out, "--smoke"],
        env={"PYTHON": sys.executable, "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    ended = dict(
        line.split("\t")[:2] for line in (out / "pieces.tsv").read_text().splitlines()
    )
    assert len(ended) == 7
    assert set(ended.values()) == {"0"}
    assert len(json.loads((out / "smoke.json").read_text())["cells"]) == 2
