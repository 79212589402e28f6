"""A small challenge, the whole way: made, attacked, scored; and entries refused."""

import importlib
import json
import shutil
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from mlguard.recipe import dump_recipe
from tests.audits import make_run
from tests.benchmarks.conftest import BENCHMARKS
from tests.splits import public_weights, split_recipe

LAYERS = "stages.0.branch.2,stages.2.branch.2"


@pytest.fixture
def challenge() -> ModuleType:
    return importlib.import_module("challenge")


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("plain") / "run"
    make_run(path, "data.shapes_images=[8, 4, 3]", protected=False)
    return path


@pytest.fixture(scope="module")
def original(plain, tmp_path_factory) -> Path:
    """A challenge, and what somebody sends in who has the plain weights as ancestor."""
    folder = tmp_path_factory.mktemp("original")
    made, entry = folder / "challenge", folder / "entry"
    ancestor = plain / "model.safetensors"
    make = f"make {made} --run {plain} --layers {LAYERS} --tracks channels"
    attack = f"attack {made} --track channels --attack public-ancestor --labels 0"
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        main = importlib.import_module("challenge").main
        main(make.split())
        main(f"{attack} --ancestor {ancestor} --out {entry}".split())
    for name in ("challenge", "challenge_score", "challenge_split", "split_thief"):
        del sys.modules[name]
    return folder


@pytest.fixture
def made(original, tmp_path) -> Path:
    return shutil.copytree(original / "challenge", tmp_path / "challenge")


@pytest.fixture
def entry(original, tmp_path) -> Path:
    return shutil.copytree(original / "entry", tmp_path / "entry")


def rewrite(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_nothing_secret_is_given_out(made) -> None:
    names = {str(path.relative_to(made)) for path in made.rglob("*") if path.is_file()}
    own = ("model.safetensors", "recipe.toml", "proofs.json", "protection.json")
    given = {f"channels/{name}" for name in (*own, "provenance.json")}
    assert names == given | {"challenge.json", "leaderboard.json"}


def test_an_attack_becomes_an_entry_and_is_scored(
    challenge, made, entry, capsys
) -> None:
    challenge.main(["score", str(made), str(entry)])
    (row,) = json.loads((made / "leaderboard.json").read_text())["entries"]
    track = json.loads((made / "challenge.json").read_text())["tracks"]["channels"]
    assert row["score"] == pytest.approx(track["correct"]), "the key was read off"
    assert row["control"] == track["floor"], "without labels"
    challenge.main(["score", str(made), str(entry)])
    assert len(json.loads((made / "leaderboard.json").read_text())["entries"]) == 1
    challenge.main(["table", str(made), "--out", str(made / "table.json")])
    assert "public-ancestor, matched columns" in capsys.readouterr().out
    kept = json.loads((made / "table.json").read_text())
    assert kept["entries"] == [row], "as it stands on the leaderboard"
    assert kept["tracks"]["channels"] == {
        "correct": track["correct"],
        "floor": track["floor"],
    }


def test_labels_without_a_control_are_not_scored(challenge, made, entry) -> None:
    rewrite(entry / "entry.json", labels=4)
    with pytest.raises(SystemExit, match="no control with 4 labels yet"):
        challenge.main(["score", str(made), str(entry)])
    challenge.main(["controls", str(made), "--labels", "4", "--steps", "1"])
    challenge.main(["score", str(made), str(entry)])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"track": "another"}, "no track 'another'"),
        ({"labels": 3}, "labels is none of"),
        ({"labels": True}, "labels is no int"),
        ({"by": "a\nb"}, "short line of plain letters"),
        ({"more": 1}, "other fields"),
    ],
)
def test_an_entry_that_says_too_much_or_too_little_is_refused(
    challenge, made, entry, changes, words
) -> None:
    rewrite(entry / "entry.json", **changes)
    with pytest.raises(SystemExit, match=words):
        challenge.main(["score", str(made), str(entry)])


def test_masks_that_are_no_masks_are_refused(challenge, made, entry) -> None:
    mask = entry / "masks/0001.png"
    with Image.open(mask) as png:
        size = png.size
    for content, words in (
        (np.full(size[::-1], 250, np.uint8), "class 250"),
        (np.zeros((5, 5), np.uint8), "5×5"),
        (np.zeros((*size[::-1], 3), np.uint8), "got RGB"),
    ):
        Image.fromarray(content).save(mask)
        with pytest.raises(SystemExit, match=words):
            challenge.main(["score", str(made), str(entry)])
    mask.write_bytes(b"GIF89a")
    with pytest.raises(SystemExit, match="not a readable PNG"):
        challenge.main(["score", str(made), str(entry)])
    mask.unlink()
    with pytest.raises(SystemExit, match="for every test image"):
        challenge.main(["score", str(made), str(entry)])


def test_the_split_track_gives_out_what_a_host_has(
    challenge, tmp_path, monkeypatch
) -> None:
    weights, made, out = public_weights(tmp_path), tmp_path / "made", tmp_path / "entry"
    recipe = tmp_path / "small.toml"
    recipe.write_text(dump_recipe(split_recipe(weights, "data.shapes_images=[8,4,3]")))
    given = ["--ancestor", str(weights)]
    challenge.main(["split", str(made), "--recipe", str(recipe), *given])
    names = {path.name for path in (made / "split").iterdir()}
    assert names == {"private.mlgb", "backbone.onnx", "recipe.toml"}
    thief = importlib.import_module("split_thief")
    monkeypatch.setattr(thief, "STEPS", {**dict.fromkeys(thief.STEPS, 1), "slices": 2})
    labels = ["--track", "split", "--labels", "4", *given]
    challenge.main(["controls", str(made), *labels])
    challenge.main(
        ["attack", str(made), *labels, "--attack", "traffic", "--out", str(out)]
    )
    challenge.main(["score", str(made), str(out)])
    (row,) = json.loads((made / "leaderboard.json").read_text())["entries"]
    assert (row["track"], row["name"]) == ("split", "traffic on the public backbone")
    more = ["--attack", "public-ancestor", "--out", str(tmp_path / "none")]
    with pytest.raises(SystemExit, match="no attack on track split"):
        challenge.main(["attack", str(made), *labels, *more])
    with pytest.raises(SystemExit, match="a challenge without this track"):
        challenge.main(["split", str(made), "--recipe", str(recipe), *given])


def test_other_images_and_a_filled_folder_are_refused(
    challenge, plain, made, entry
) -> None:
    with pytest.raises(SystemExit, match="is not empty"):
        challenge.main(["make", str(made), "--run", str(plain), "--layers", LAYERS])
    rewrite(made / "challenge.json", test="00" * 32)
    with pytest.raises(SystemExit, match="not the images"):
        challenge.main(["score", str(made), str(entry)])
