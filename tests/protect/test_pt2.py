"""Programs of torch.export: into a bundle, and nothing in them is run to read them."""

import json
import zipfile
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.export import Dim, export, save

from mlguard.cli.app import run
from mlguard.errors import ModelFileError
from mlguard.protect import bind_program
from mlguard.protect.modules.pt2 import read_program
from mlguard.runtime import Session
from tests.runs import KEY

FREE = {0: Dim.DYNAMIC, 2: Dim.DYNAMIC, 3: Dim.DYNAMIC}


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, nn.Module]:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 2, 1))
    program = export(module, (torch.rand(2, 3, 16, 24),), dynamic_shapes=(FREE,))
    path = tmp_path_factory.mktemp("saved") / "small.pt2"
    save(program, path)
    return path, module


def edited(path: Path, out: Path, place: str, edit) -> Path:
    """The same file with one member changed; one that is not there is added."""
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(out, "w") as made:
        names = archive.namelist()
        for name in names:
            content = archive.read(name)
            made.writestr(name, edit(content) if name.endswith(place) else content)
        if not any(name.endswith(place) for name in names):
            made.writestr(f"{names[0].partition('/')[0]}/{place}", edit(b""))
    return out


def changed(**fields: object):
    """An edit of the first object of a JSON file that has one of the fields."""

    def edit(content: bytes) -> bytes:
        document = json.loads(content)
        waiting = [document]
        while waiting:
            one = waiting.pop(0)
            if isinstance(one, dict):
                if fields.keys() <= one.keys():
                    one.update(fields)
                    break
                waiting += one.values()
            elif isinstance(one, list):
                waiting += one
        else:
            raise AssertionError("nothing to edit")
        return json.dumps(document).encode()

    return edit


def test_a_program_becomes_a_bundle(
    saved: tuple[Path, nn.Module], tmp_path: Path
) -> None:
    path, module = saved
    done = bind_program(path, KEY, tmp_path / "small.mlgb")
    session, images = Session.open(done.path, KEY), torch.rand(1, 3, 9, 13)
    (got,) = session.run({session.inputs[0].name: images.numpy()}).values()
    with torch.no_grad():
        assert torch.allclose(torch.from_numpy(got), module(images), atol=1e-5)
    content = done.path.read_bytes()
    assert module[0].weight.detach().numpy().tobytes() not in content


def test_a_program_is_exported_from_the_command_line(
    saved: tuple[Path, nn.Module],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("MLGUARD_KEYSTORE", str(tmp_path / "keystore.mlgk"))
    monkeypatch.setenv("MLGUARD_IDENTITY_FILE", str(tmp_path / "owner.identity"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    model, out = str(saved[0]), tmp_path / "acme.mlgb"
    assert run(["keygen", "acme"]) == 0
    assert run(["export", model, "--key", "acme", "--out", str(out)]) == 0
    assert "covered: " in capsys.readouterr().out
    assert out.exists()
    assert run(["export", model, "--out", str(tmp_path / "other.mlgb")]) == 2
    options = ["--key", "acme", "--method", "shf", "--out", str(tmp_path / "x")]
    assert run(["bind", model, *options]) == 2


class Planted:
    """What a pickle can do: run something when it is read."""

    def __reduce__(self) -> tuple:
        return exec, ("raise AssertionError('a pickle was run')",)


def test_example_inputs_are_not_unpickled(
    saved: tuple[Path, nn.Module], tmp_path: Path
) -> None:
    planted = tmp_path / "planted"
    torch.save((Planted(),), planted)
    place = "data/sample_inputs/model.pt"
    path = edited(saved[0], tmp_path / "p.pt2", place, lambda _: planted.read_bytes())
    assert read_program(path).example_inputs is None
    with pytest.raises(AssertionError, match="a pickle was run"):
        torch.export.load(path)  # the twin: torch runs it


WEIGHTS = "data/weights/model_weights_config.json"
PROGRAM = "models/model.json"
FROM_FILE = "torch.ops.aten.from_file.default"


@pytest.mark.parametrize(
    ("place", "edit", "words"),
    [
        (
            WEIGHTS,
            changed(use_pickle=True),
            "stored as a pickle, and pickles are never loaded",
        ),
        (WEIGHTS, changed(path_name="custom_obj_0"), "stored as a pickle"),
        (PROGRAM, changed(target="torch.hub.load", inputs=[]), "operator 'torch.hub"),
        (
            PROGRAM,
            changed(target="torch.ops.aten.from_file.default", inputs=[]),
            "oper",
        ),
        (PROGRAM, changed(target="_operator.methodcaller", inputs=[]), "operator '_op"),
        (
            PROGRAM,
            changed(expr_str="__import__('os').getcwd()"),
            "not a formula of sizes",
        ),
        (PROGRAM, changed(expr_str="s0.real"), "is not a formula of sizes"),
        (PROGRAM, changed(expr_str="S('exec(1)')"), "is not a formula of sizes"),
        ("data/aotinductor/model/a.so", lambda _: b"code", "not part of a program"),
        (PROGRAM, lambda _: b"{", r"is not a \.pt2 file"),
        (PROGRAM, lambda _: b"[" * 100_000, r"is not a \.pt2 file"),
        (WEIGHTS, lambda _: b"{}", r"is not a \.pt2 file"),
    ],
)
def test_what_asks_for_more_than_tensors_is_refused(
    saved: tuple[Path, nn.Module], tmp_path: Path, place: str, edit, words: str
) -> None:
    path = edited(saved[0], tmp_path / "bad.pt2", place, edit)
    with pytest.raises(ModelFileError, match=words):
        read_program(path)


def test_formulas_of_sizes_are_read(tmp_path: Path) -> None:
    """The twin: what torch itself writes passes."""
    eight = 8 * Dim("h")
    module = nn.Sequential(nn.Conv2d(3, 2, 1), nn.PixelUnshuffle(4))
    example, free = (torch.rand(2, 3, 16, 24),), ({2: eight},)
    save(export(module, example, dynamic_shapes=free), tmp_path / "free.pt2")
    program = read_program(tmp_path / "free.pt2")
    assert program.module()(torch.rand(2, 3, 8, 24)).shape == (2, 32, 2, 6)


@pytest.mark.parametrize("content", [b"", b"PK", b"no archive at all" * 99])
def test_what_is_no_archive_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.pt2").write_bytes(content)
    with pytest.raises(ModelFileError, match=r"is not a \.pt2 file"):
        read_program(tmp_path / "x.pt2")
    with pytest.raises(ModelFileError, match="cannot read"):
        read_program(tmp_path / "missing.pt2")
