"""`mlguard predict` for models of any tensors: .npz in, .npz out."""

import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mlguard.bundle import write_bundle2
from mlguard.cli import app, opening
from tests.bundles import KEY, images
from tests.bundles2 import SUBKEYS, model2


@pytest.fixture(autouse=True)
def given_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "read_model_key", lambda *_, **__: KEY)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    write_bundle2(tmp_path / "x.mlgb", model2(image=None, task=None), SUBKEYS)
    return tmp_path / "x.mlgb"


def run(bundle: Path, *files: Path, out: Path) -> int:
    paths = [str(path) for path in (bundle, *files)]
    return app.run(
        ["predict", *paths, "--key", "a", "--out", str(out), "--threads", "1"]
    )


def test_arrays_go_in_and_come_out(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pixels = np.zeros((1, 3, 5, 6), np.float32)
    np.savez(tmp_path / "a.npz", pixels=pixels)
    np.savez(tmp_path / "b.npz", other=pixels)
    out = tmp_path / "out"
    assert run(bundle, tmp_path / "a.npz", tmp_path / "b.npz", out=out) == 40
    told = capsys.readouterr()
    assert "wrote 1 of 2 answers" in told.out
    assert "expected tensors pixels, got other" in told.err
    with np.load(out / "a.npz") as answers:
        assert {name: answers[name].shape for name in answers} == {
            "logits": (1, 4, 5, 6)
        }
    assert [path.name for path in out.iterdir()] == ["a.npz"]


def test_what_is_no_archive_of_plain_arrays_is_refused(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "text.npz").write_text("no")
    np.savez(tmp_path / "objects.npz", pixels=np.array([{}], object))
    Image.fromarray(images(5, 6, 3)).save(tmp_path / "photo.png")
    names = ("text.npz", "objects.npz", "photo.png")
    assert run(bundle, *(tmp_path / name for name in names), out=tmp_path / "out") == 40
    err = capsys.readouterr().err
    assert err.count("expected an .npz file of arrays") == 2
    assert err.count(str(tmp_path / "text.npz")) == 1
    assert "does not take images; expected an .npz of pixels FP32" in err


def damaged(path: Path, kind: str) -> None:
    """Write an .npz that numpy answers with an error of its own kind."""
    np.savez_compressed(path, pixels=np.zeros((1, 3, 5, 6), np.float32))
    content = bytearray(path.read_bytes())
    if kind == "deflated":  # the data behind the header of the first member
        start = content.index(b".npy") + 24
        content[start : start + 9] = b"\xff" * 9
    elif kind == "encrypted":  # the flag, in both headers of the member
        content[6] |= 1
        content[content.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(content)
    if kind == "exaggerating":
        head = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1 << 60,)}"
        head = head.replace(b"1 << 60", str(1 << 60).encode()).ljust(117) + b"\n"
        with zipfile.ZipFile(path, "w") as archive:
            magic = b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little")
            archive.writestr("pixels.npy", magic + head)


@pytest.mark.parametrize("kind", ["deflated", "encrypted", "exaggerating"])
def test_a_damaged_archive_is_refused_and_the_next_one_answered(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    damaged(tmp_path / "a.npz", kind)
    np.savez(tmp_path / "b.npz", pixels=np.zeros((1, 3, 5, 6), np.float32))
    out = tmp_path / "out"
    assert run(bundle, tmp_path / "a.npz", tmp_path / "b.npz", out=out) == 40
    assert "a.npz: expected an .npz file of arrays" in capsys.readouterr().err
    assert [path.name for path in out.iterdir()] == ["b.npz"]


def test_an_image_may_stand_for_the_input_that_is_one(tmp_path: Path) -> None:
    write_bundle2(tmp_path / "x.mlgb", model2(task=None), SUBKEYS)
    Image.fromarray(images(5, 6, 3)).save(tmp_path / "photo.png")
    assert run(tmp_path / "x.mlgb", tmp_path / "photo.png", out=tmp_path / "out") == 0
    with np.load(tmp_path / "out/photo.npz") as answers:
        assert answers["logits"].shape == (1, 4, 5, 6)


def test_masks_are_not_asked_of_a_model_of_tensors(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.savez(tmp_path / "a.npz", pixels=np.zeros((1, 3, 5, 6), np.float32))
    command = [
        "predict",
        str(bundle),
        str(tmp_path / "a.npz"),
        "--key",
        "a",
        "--overlay",
    ]
    assert app.run([*command, "--out", str(tmp_path / "out")]) == 40
    assert "--overlay draws masks, but" in capsys.readouterr().err
