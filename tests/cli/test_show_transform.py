"""`mlguard show-transform` as a user types it."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from keystore import Identity, Keystore
from mlguard.cli.app import run as mlguard
from mlguard.keys import PROTECTION_ID_BYTES, ModelKey, ModelSubkeys
from mlguard.pictures import figure as figure_module
from tests.audits import KEY, RECIPE

IDENTITY = Identity(bytes(range(32)))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An image, a recipe and a keystore in the current folder."""
    monkeypatch.chdir(tmp_path)
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    Image.fromarray(pixels).save("photo.png")
    Path("my.toml").write_text(RECIPE)
    IDENTITY.write(Path("identity"))
    with Keystore.create(Path("keys.mlgk"), IDENTITY) as store:
        store.add("acme", KEY.reveal())
    return tmp_path


def show(*options: str, image: str = "photo.png") -> int:
    words = ["show-transform", image, "--key", "acme", "--recipe", "my.toml"]
    store = ["--keystore", "keys.mlgk", "--identity", "identity"]
    return mlguard([*words, *store, "--out", "fig.png", *options])


def test_writes_a_figure_and_says_where(folder: Path, capsys) -> None:
    assert show() == 0
    assert "fig.png" in capsys.readouterr().out
    with Image.open("fig.png") as figure:
        assert figure.format == "PNG"


def test_a_recipe_with_two_methods_gives_three_rows(folder: Path) -> None:
    assert show() == 0
    one_row = height("fig.png")
    Path("fig.png").unlink()
    assert show("--set", 'transform.method=["np", "shf"]') == 0
    assert height("fig.png") == one_row + 2 * (
        5 * 32 + 12
    )  # small tiles are drawn larger


def height(path: str) -> int:
    with Image.open(path) as figure:
        return figure.height


def test_the_figure_uses_the_named_key_under_an_id_of_no_model(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    used: list[ModelSubkeys] = []
    drawn = bytes(range(PROTECTION_ID_BYTES))
    real = figure_module.transformed

    def transformed(image, methods, sizes, subkeys):  # type: ignore[no-untyped-def]
        used.append(subkeys)
        return real(image, methods, sizes, subkeys)

    monkeypatch.setattr(figure_module, "transformed", transformed)
    monkeypatch.setattr(figure_module, "new_protection_id", lambda: drawn)
    assert show() == 0
    assert [(one.key_id, one.protection_id) for one in used] == [(KEY.key_id, drawn)]


def test_nothing_is_overwritten(folder: Path, capsys) -> None:
    Path("fig.png").write_text("mine")
    assert show() != 0
    assert "fig.png already exists" in capsys.readouterr().err
    assert Path("fig.png").read_text() == "mine"


def test_a_file_that_is_no_image_is_refused(folder: Path, capsys) -> None:
    assert show(image="my.toml") == 40
    assert "my.toml" in capsys.readouterr().err
    assert not Path("fig.png").exists()


def test_the_key_is_not_in_the_figure(folder: Path) -> None:
    assert show() == 0
    content = Path("fig.png").read_bytes()
    assert KEY.reveal() not in content
    assert ModelKey(KEY.reveal()).key_id.encode() not in content
