"""train, layers, bind and rebind as a user types them."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlguard.bundle import describe, glimpse_bundle, image_of
from mlguard.cli.app import run
from mlguard.protect import read_run
from mlguard.transforms import channels_key_space
from tests.runs import SMALL

LAYERS = "stages.0.branch.2,stages.1.branch.2,stages.1,classifier.1"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with two keys, a plain model and a bound one."""
    home = tmp_path_factory.mktemp("home")
    small = [word for setting in SMALL for word in ("--set", setting)]
    bind = ["bind", "plain", "--key", "acme", "--layers", LAYERS, "--fold-batch-norm"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        patch.setenv("MLGUARD_KEYSTORE", str(home / "keystore.mlgk"))
        patch.setenv("MLGUARD_IDENTITY_FILE", str(home / "owner.identity"))
        patch.setenv("XDG_STATE_HOME", str(home / "state"))
        for command in (
            ["keygen", "acme"],
            ["keygen", "other"],
            ["train", "--recipe", "demo", "--out", "plain", "--device", "cpu", *small],
            [*bind, "--out", "bound"],
            ["rebind", "bound", "--key", "other", "--out", "again"],
        ):
            assert run(command) == 0, command
        yield home


@pytest.fixture(autouse=True)
def _at_home(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home)
    monkeypatch.setenv("MLGUARD_KEYSTORE", str(home / "keystore.mlgk"))
    monkeypatch.setenv("MLGUARD_IDENTITY_FILE", str(home / "owner.identity"))
    monkeypatch.setenv("XDG_STATE_HOME", str(home / "state"))


def test_bound_and_rebound_models_are_ordinary_runs(home: Path) -> None:
    audit = ["audit", "again", "--key", "other", "--incorrect-keys", "2"]
    for command in (
        ["export", "bound", "--out", "bound.mlgb"],
        ["export", "again", "--out", "again.mlgb"],
        ["samples", "--recipe", "demo", "--out", "images", "--count", "2"],
        ["predict", "bound.mlgb", "images", "--key", "acme", "--out", "masks"],
        ["predict", "again.mlgb", "images", "--key", "other", "--out", "others"],
        [*audit, "--out", "report"],
    ):
        # Two keys on so few images decide no claim of an audit.
        assert run(command) == (31 if command[0] == "audit" else 0), command
    one, other = (sorted((home / name).glob("*.png")) for name in ("masks", "others"))
    assert [p.read_bytes() for p in one] == [p.read_bytes() for p in other]
    findings = json.loads((home / "report" / "audit.json").read_text())["findings"]
    assert findings["fidelity"] == 1.0


def test_bind_says_how_long_it_took_and_warns_of_tied_stems(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["bind", "plain", "--key", "acme", "--out", "said"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("bound model: said\nfolded in ")
    assert "logits differ from the plain model's by at most" in out
    assert "effective key space: 0.0 bits: shf with M=4; the transform of i" in err
    assert err.count("mlguard: warning:") == 1
    assert "mlguard: warning: the stem reveals its part of the key" in err
    assert "permute layers too" in err


def test_an_open_bundle_of_a_tied_stem_is_warned_of_and_a_sealed_one_is_not(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["bind", "plain", "--key", "acme", "--out", "tied"]) == 0
    bits = {}
    for option in ("--seal", "--no-seal"):
        capsys.readouterr()
        out = f"tied{option}.mlgb"
        assert run(["export", "tied", option, "--out", out]) == 0
        warned = "the stem reveals its part of the key" in capsys.readouterr().err
        assert warned == (option == "--no-seal")
        found = glimpse_bundle(Path(out))
        spec = image_of(found.manifest).transform
        assert spec.shown_by_weights
        bits[option] = describe(found)["key_space_bits"]
    assert bits == {"--seal": 202.9, "--no-seal": 0.0}


def test_bind_warns_of_a_small_key_space(capsys: pytest.CaptureFixture[str]) -> None:
    command = ["bind", "plain", "--key", "acme", "--method", "np", "--out", "small"]
    assert run(command) == 0
    err = capsys.readouterr().err
    assert "effective key space: 0.0 bits: np with M=4; the transform of im" in err


def test_layers_count_where_the_stem_does_not(
    capsys: pytest.CaptureFixture[str],
) -> None:
    layers = ["--layers", "stages.1.branch.2", "--fold-batch-norm"]
    assert run(["bind", "plain", "--key", "acme", *layers, "--out", "few"]) == 0
    bits = round(channels_key_space(64, signs=False), 1)
    told = capsys.readouterr().err
    said = f"256 bits, all of the secret (its transforms have {bits})"
    assert f"effective key space: {said}: shf+channels with M=4 and 1 layer;" in told
    assert "the stem reveals its part of the key" in told
    assert "permute layers too" not in told


def test_channels_alone_tie_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    layers = ["--method", "channels", "--layers", "stages.1.branch.2,stages.1"]
    assert run(["bind", "plain", "--key", "acme", *layers, "--out", "inside"]) == 0
    assert "reveals its part of the key" not in capsys.readouterr().err
    assert read_run(Path("inside")).recipe.model.stem == "plain"


def test_the_keystore_knows_which_runs_need_a_key(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["keys", "show", "other"]) == 0
    protection = read_run(Path("again")).protection
    assert protection is not None
    assert protection.protection_id.hex() in capsys.readouterr().out


def test_layers_are_listed_as_a_table_and_as_json(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["layers", "demo"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["layer", "C", "H", "W", "bits", "bind"]
    wanted = next(line for line in lines if line.startswith("stages.1.branch.2 "))
    assert wanted.split(maxsplit=5)[1:] == ["64", "16", "16", "296.0", "yes"]
    assert run(["layers", "demo", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert (
        rows["stem"]["refusal"] == "is added to another feature map (a residual join)"
    )
    assert rows["stages.2.branch.2"]["key_space_bits"] == 498.3


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["bind", "bound", "--key", "acme"], "holds a protected model"),
        (
            ["bind", "bound/model.safetensors", "--recipe", "demo", "--key", "acme"],
            "holds a protected model",
        ),
        (
            ["bind", "plain", "--key", "acme", "--layers", "stages.1.brunch.2"],
            "near it: stages.1.branch.2",
        ),
        (["bind", "plain", "--key", "acme", "--layers", "auto"], "no layer 'auto'"),
        (["bind", "plain", "--key", "acme", "--method", "ffx"], "ffx cannot be folded"),
        (["bind", "plain", "--key", "acme", "--block-size", "1"], "does not divide 1"),
        (["bind", "plain", "--key", "acme", "--layers", "stem"], "residual join"),
        (["rebind", "plain", "--key", "acme"], "is a baseline run and needs no key"),
        (["rebind", "bound", "--key", "other", "--old-key", "other"], "but other@1 is"),
    ],
)
def test_refusals(
    command: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*command, "--out", "refused"]) in {21, 40}
    assert words in capsys.readouterr().err
    assert not Path("refused").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--method", ""], "expected names separated"),
        (["--layers", "stages.1,"], "expected names separated"),
        (["--out", "plain/inside"], "expected a folder outside it"),
    ],
)
def test_what_a_script_gets_wrong_is_refused(
    options: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["bind", "plain", "--key", "acme", "--out", "wrong"]
    assert run([*command, *options]) == 2
    assert words in " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert not Path("wrong").exists()
    assert not Path("plain/inside").exists()


def test_refused_binding_says_nothing_of_a_key_space(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["bind", "plain", "--key", "nobody", "--out", "none"]) != 0
    assert "key space" not in capsys.readouterr().err


def test_a_model_with_public_relatives_is_warned_of(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(home / "plain", home / "tuned")
    recipe = home / "tuned" / "recipe.toml"
    plain = 'weights = "none"'
    assert plain in recipe.read_text()
    third = "[0.5, 0.5, 0.5]"
    public = f'weights = "public.safetensors"\nmean = {third}\nstd = {third}'
    recipe.write_text(recipe.read_text().replace(plain, public))
    inside = ["--method", "channels", "--layers", LAYERS]
    for name, warned in (("plain", False), ("tuned", True)):
        command = ["bind", name, "--key", "acme", *inside, "--out", f"{name}-bound"]
        assert run(command) == 0
        told = capsys.readouterr().err
        assert ("training started from public.safetensors" in told) == warned


def test_layers_of_a_run_folder_are_those_of_its_recipe(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["layers", "plain"]) == 0
    listed = capsys.readouterr().out
    assert run(["layers", "plain/recipe.toml"]) == 0
    assert listed == capsys.readouterr().out
