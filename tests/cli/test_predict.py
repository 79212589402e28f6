"""`mlguard predict` and `mlguard export`: what is written, printed and refused."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from keystore import Identity, Keystore
from mlguard.bundle import make_bundle, write_bundle
from mlguard.cli import app, opening, predict
from mlguard.cli.exit_codes import exit_code_of
from mlguard.errors import ImageError, OutputExists, WrongKey
from mlguard.keys import ModelKey
from mlguard.pictures import palette
from mlguard.runtime import Session, read_image
from tests import bundles
from tests.bundles import KEY, OTHER_KEY


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    path = tmp_path / "acme.mlgb"
    write_bundle(path, bundles.small_bundle())
    return path


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for name, height, width in (("a.png", 9, 13), ("b.jpg", 20, 8), ("c.bmp", 1, 1)):
        pixels = bundles.images(height, width, 3)
        Image.fromarray(pixels).save(folder / name)
    (folder / "notes.txt").write_text("no image")
    return folder


@pytest.fixture(autouse=True)
def given_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "read_model_key", lambda *_, **__: KEY)


def run(bundle: Path, *images: Path, out: Path, **options: object) -> None:
    predict.predict(bundle, list(images), key="acme", out=out, **options)


def files(folder: Path) -> list[str]:
    found = sorted(folder.rglob("*"))
    return [str(path.relative_to(folder)) for path in found if path.is_file()]


def test_every_image_of_a_folder_gets_a_mask_of_its_name_and_size(
    bundle: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(bundle, photos, out=tmp_path / "masks")
    assert files(tmp_path / "masks") == ["a.png", "b.png", "c.png"]
    session = Session.open(bundle, KEY)
    for name in ("a.png", "b.jpg", "c.bmp"):
        (expected,) = session.predict(read_image(photos / name))
        with Image.open((tmp_path / "masks" / name).with_suffix(".png")) as mask:
            assert mask.mode == "P"
            np.testing.assert_array_equal(np.asarray(mask), expected)
            assert tuple(mask.getpalette()[3:6]) == palette()[1]
    out, err = capsys.readouterr()
    assert out == f"wrote 3 of 3 masks to {tmp_path / 'masks'}\n"
    passed_over, warned = err.splitlines()
    assert passed_over.endswith("photos: 1 file of another suffix, first notes.txt")
    assert "a, b, c: far from the 64 x 64 pixels" in warned


def test_what_a_folder_holds_besides_is_counted_and_named(
    bundle: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("._a.png", ".DS_Store", "list.csv", "z.tif.part"):
        (photos / name).write_bytes(b"\0")
    (photos / "day 1").mkdir()
    Image.fromarray(bundles.images(4, 4, 3)).save(photos / "day 1" / "d.png")
    run(bundle, photos, out=tmp_path / "masks")
    assert files(tmp_path / "masks") == ["a.png", "b.png", "c.png"]
    out, err = capsys.readouterr()
    assert "wrote 3 of 3 masks" in out
    assert (
        f"not predicted in {photos}: 3 files of another suffix, first list.csv; "
        "1 folder, first day 1; 2 notes of another system, first .DS_Store"
    ) in " ".join(err.split())


def test_a_folder_with_nothing_else_is_passed_over_in_silence(
    bundle: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (photos / "notes.txt").unlink()
    run(bundle, photos, out=tmp_path / "masks")
    assert "not predicted" not in capsys.readouterr().err


def test_a_folder_that_may_not_be_listed_is_refused(
    bundle: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(self: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", denied)
    with pytest.raises(ImageError, match="photos: Permission denied"):
        run(bundle, photos, out=tmp_path / "masks")


def test_overlays_are_written_beside_the_masks_when_asked_for(
    bundle: Path, photos: Path, tmp_path: Path
) -> None:
    run(bundle, photos / "a.png", out=tmp_path / "masks", overlay=True)
    assert files(tmp_path / "masks") == ["a.png", "overlays/a.png"]
    with Image.open(tmp_path / "masks" / "overlays" / "a.png") as overlay:
        assert (overlay.mode, overlay.size) == ("RGB", (13, 9))


def test_a_file_is_taken_whatever_its_suffix(bundle: Path, tmp_path: Path) -> None:
    path = tmp_path / "photo.data"
    Image.fromarray(bundles.images(4, 4, 3)).save(path, format="PNG")
    run(bundle, path, out=tmp_path / "masks")
    assert files(tmp_path / "masks") == ["photo.png"]


def test_an_image_named_twice_is_predicted_once(
    bundle: Path, photos: Path, tmp_path: Path
) -> None:
    run(bundle, photos / "a.png", photos / "a.png", out=tmp_path / "masks")
    assert files(tmp_path / "masks") == ["a.png"]


@pytest.mark.parametrize("other", ["a.jpg", "A.bmp"])
def test_two_images_of_one_name_are_refused_before_anything_is_written(
    bundle: Path, photos: Path, tmp_path: Path, other: str
) -> None:
    Image.fromarray(bundles.images(4, 4, 3)).save(photos / other)
    with pytest.raises(ImageError, match=r"would both be written to (a|A)\.png"):
        run(bundle, photos, out=tmp_path / "masks")
    assert not (tmp_path / "masks").exists()


def test_a_bad_image_does_not_stop_the_others(
    bundle: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (photos / "b.jpg").write_bytes(b"damaged")
    words = "refused 1 of 3 images; the others are done"
    with pytest.raises(ImageError, match=words) as refusal:
        run(bundle, photos, out=tmp_path / "masks")
    assert refusal.value.hint.endswith("for b")
    assert files(tmp_path / "masks") == ["a.png", "c.png"]
    assert "b.jpg cannot be read as an image" in capsys.readouterr().err


def test_a_lossy_conversion_is_warned_of(
    bundle: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    deep = bundles.images(4, 4)[:, :].astype(np.uint16) * 256
    Image.fromarray(deep).save(photos / "d.png")
    run(bundle, photos / "d.png", out=tmp_path / "masks")
    assert "mlguard: warning:" in capsys.readouterr().err


def test_a_wrong_key_writes_nothing(
    bundle: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "read_model_key", lambda *_, **__: OTHER_KEY)
    with pytest.raises(WrongKey, match=r"acme\.mlgb was made for key") as refusal:
        run(bundle, photos, out=tmp_path / "masks")
    assert exit_code_of(refusal.value) == 21
    assert not (tmp_path / "masks").exists()


def test_a_folder_that_holds_something_is_refused(
    bundle: Path, photos: Path, tmp_path: Path
) -> None:
    with pytest.raises(OutputExists, match="photos is not empty"):
        run(bundle, photos, out=photos)
    assert files(photos) == ["a.png", "b.jpg", "c.bmp", "notes.txt"]


def test_a_missing_image_is_refused(bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"none\.png: no such file or folder"):
        run(bundle, tmp_path / "none.png", out=tmp_path / "masks")


def test_a_folder_without_images_is_refused(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ImageError, match="empty holds no image"):
        run(bundle, tmp_path / "empty", out=tmp_path / "masks")


def test_the_command_takes_its_key_from_the_keystore(
    photos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.undo()
    opens = ["--keystore", str(tmp_path / "k.mlgk"), "--identity", str(tmp_path / "id")]
    assert app.run(["keygen", "acme", *opens]) == 0
    secret = Keystore.open(tmp_path / "k.mlgk", Identity.read(tmp_path / "id")).get(
        "acme"
    )
    facts = bundles.facts()
    bundle = make_bundle(
        facts,
        preprocess=bundles.preprocess_graph(facts),
        model=bundles.model_graph(),
        subkeys=ModelKey(secret).for_model(bundles.PROTECTION_ID),
        name="acme",
    )
    write_bundle(tmp_path / "acme.mlgb", bundle)
    command = ["predict", str(tmp_path / "acme.mlgb"), str(photos), "--key", "acme"]
    masks = tmp_path / "masks"
    assert app.run([*command, "--out", str(masks), *opens]) == 0
    assert files(masks) == ["a.png", "b.png", "c.png"]
    assert secret.hex() not in "".join(capsys.readouterr())


@pytest.mark.parametrize(
    ("damage", "status", "words"),
    [
        (lambda data: data[:-5], 20, "ends within its directory"),
        (lambda data: data[:200] + b"!" + data[201:], 20, "the checksum of"),
    ],
    ids=["truncated", "changed"],
)
def test_a_damaged_bundle_is_one_line_a_hint_and_status_20(
    bundle: Path,
    photos: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    damage,
    status: int,
    words: str,
) -> None:
    bundle.write_bytes(damage(bundle.read_bytes()))
    command = ["predict", str(bundle), str(photos), "--key", "acme"]
    assert app.run([*command, "--out", str(tmp_path / "masks")]) == status
    error, hint = capsys.readouterr().err.splitlines()
    assert error.startswith("mlguard: error: ")
    assert words in error
    assert hint.startswith("mlguard: hint: ")
    assert not (tmp_path / "masks").exists()


def test_exporting_what_is_no_run_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "acme.mlgb")
    assert app.run(["export", str(tmp_path), "--out", out]) == 40
    assert "is not a run folder" in capsys.readouterr().err


def test_image_far_from_the_size_of_training_is_named_and_can_be_resized(
    bundle: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(bundle, photos / "a.png", out=tmp_path / "native")
    told = capsys.readouterr().err
    assert "a: far from the 64 x 64 pixels that the model was trained at" in told
    run(bundle, photos / "a.png", out=tmp_path / "resized", resize=True)
    assert "far from" not in capsys.readouterr().err
    native = np.asarray(Image.open(tmp_path / "native" / "a.png"))
    resized = np.asarray(Image.open(tmp_path / "resized" / "a.png"))
    assert native.shape == resized.shape == (9, 13)
    assert (native != resized).any()


def test_image_of_the_size_of_training_is_predicted_alike_either_way(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.fromarray(bundles.images(64, 64, 3)).save(tmp_path / "a.png")
    for name in ("native", "resized"):
        run(bundle, tmp_path / "a.png", out=tmp_path / name, resize=name == "resized")
    assert "far from" not in capsys.readouterr().err
    masks = [(tmp_path / n / "a.png").read_bytes() for n in ("native", "resized")]
    assert masks[0] == masks[1]
