"""`mlguard audit NAME.mlgb` as a user types it: what it prints, writes and refuses."""

import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from keystore import Identity, Keystore
from mlguard.audit import read_report
from mlguard.audit.findings.budgets import BUDGETS
from mlguard.bundle import Bundle, write_bundle
from mlguard.cli.app import run as mlguard
from tests.audits import TINY
from tests.bundles import CLASSES, KEY, OTHER_KEY, small_bundle

ROOT = Path(__file__).parents[2]
IDENTITY = Identity(bytes(range(32)))
RECIPE = f"""
recipe = 1
[data]
kind = "folder"
class_names = {[f"class {number}" for number in range(CLASSES)]}
size = [64, 64]
test = "holiday"
[transform]
method = "np"
block_size = 2
[model]
name = "fcn_small"
[train]
epochs = 1
batch = 4
[audit]
incorrect_keys = 2
nearby = [0.5]
nearby_keys = 1
batch = 4
max_leakage = 0.5
"""
FEWER = dataclasses.replace(TINY, starts=1, labelled=(2,))


def write_data(root: Path) -> Path:
    """Noise with masks of noise, in the `folder` layout."""
    draw = np.random.default_rng(0)
    names = {"val": ["v0", "v1"], "test": ["a", "b", "c"], "holiday": ["h"]}
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    for split, ids in names.items():
        (root / f"{split}.txt").write_text("".join(f"{name}\n" for name in ids))
        for name in ids:
            pixels = draw.integers(0, 256, (64, 64, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / "images" / f"{name}.png")
            mask = draw.integers(0, CLASSES, (64, 64), dtype=np.uint8)
            Image.fromarray(mask).save(root / "masks" / f"{name}.png")
    return root


UNDECIDED = 31  # a few images of a small model decide no claim


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle, its images, a recipe, and a keystore with its key and another one."""
    folder = tmp_path_factory.mktemp("audit")
    write_bundle(folder / "acme.mlgb", small_bundle())
    write_data(folder / "data")
    (folder / "mine.toml").write_text(RECIPE)
    IDENTITY.write(folder / "identity")
    with Keystore.create(folder / "keys.mlgk", IDENTITY) as store:
        store.add("acme", KEY.reveal())
        store.add("other", OTHER_KEY.reveal())
    return folder


@pytest.fixture
def audit(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Run `mlguard audit` on the bundle, or on another file."""
    monkeypatch.setitem(BUDGETS, "quick", FEWER)

    def call(
        *options: str,
        bundle: Path = folder / "acme.mlgb",
        data: Path = folder / "data",
        key: str = "acme",
    ) -> int:
        words = ["audit", str(bundle), "--out", str(tmp_path / "report")]
        words += ["--data", str(data), *(["--key", key] if key else [])]
        store = ["--keystore", str(folder / "keys.mlgk")]
        return mlguard(
            [*words, *store, "--identity", str(folder / "identity"), *options]
        )

    return call


def report_of(tmp_path: Path):
    return read_report(tmp_path / "report/audit.json")


def test_a_bundle_and_its_images_are_all_that_is_needed(
    audit, tmp_path, capsys
) -> None:
    assert audit("--incorrect-keys", "3") == UNDECIDED
    shown = capsys.readouterr().out
    for words in ("correct key", "no key", "best of 3", "run as a black box"):
        assert words in shown
    names = {path.name for path in (tmp_path / "report").iterdir()}
    assert names == {
        "audit.html",
        "audit.json",
        "audit.jsonl",
        "audit.proof",
        "junit.xml",
    }
    report = report_of(tmp_path)
    assert (report.findings.images, report.material.kind) == (3, "folder")
    assert report.command.startswith(
        "mlguard audit BUNDLE --key acme --data DATA --split test --incorrect-keys 3"
    )


def test_the_same_seed_finds_the_same(audit, tmp_path) -> None:
    options = ("--incorrect-keys", "2", "--attacks", "hill-climbing,known-plaintext")
    found = []
    for number in range(2):
        assert audit(*options) == UNDECIDED
        report = report_of(tmp_path)
        found.append((report.findings, report.attacks))
        (tmp_path / "report").rename(tmp_path / f"report {number}")
    assert found[0] == found[1]


def test_a_recipe_says_where_the_images_are_and_what_is_claimed(
    audit, folder, tmp_path, capsys
) -> None:
    recipe = ["--recipe", str(folder / "mine.toml")]
    assert audit(*recipe, "--set", "audit.incorrect_keys=3") == UNDECIDED
    report = report_of(tmp_path)
    assert report.findings.images == 1, "the list that the recipe names"
    assert len(report.findings.incorrect.scores) == 3
    (own,) = [one for one in report.verdicts if one.source == "recipe"]
    assert (own.claim, own.answer) == ("random-keys", "FAIL")
    assert "--recipe RECIPE --set audit.incorrect_keys=3 --data DATA" in report.command
    assert str(folder) not in (tmp_path / "report/audit.json").read_text()
    assert "FAIL" in capsys.readouterr().out


def test_attacks_on_a_bundle_say_what_was_left_out(audit, tmp_path, capsys) -> None:
    attacks = "known-plaintext,retraining,public-ancestor"
    assert audit("--incorrect-keys", "2", "--attacks", attacks) == UNDECIDED
    shown = " ".join(capsys.readouterr().out.split())
    assert "known-plaintext, one pair" in shown
    assert "not run: retraining: it needs the weights" in shown
    section = report_of(tmp_path).attacks
    assert section is not None
    left_out = {x.attack for x in section.not_run if x.reason == "needs-weights"}
    assert left_out == {"retraining", "public-ancestor"}


def test_an_audit_goes_on_with_resume_and_not_with_another_bundle(
    audit, folder, tmp_path, capsys
) -> None:
    assert audit("--incorrect-keys", "2") == UNDECIDED
    report = tmp_path / "report"
    whole = report_of(tmp_path).findings
    for path in report.iterdir():
        if path.name != "audit.jsonl":
            path.unlink()
    lines = (report / "audit.jsonl").read_bytes().splitlines(keepends=True)
    (report / "audit.jsonl").write_bytes(b"".join(lines[:2]))
    other = tmp_path / "other.mlgb"
    write_bundle(other, small_bundle(licence="another"))
    assert audit("--incorrect-keys", "3", "--resume", bundle=other) == 40
    assert "settings.incorrect_keys was 2 and is now 3" in capsys.readouterr().err
    assert audit("--incorrect-keys", "2", "--resume") == UNDECIDED
    assert report_of(tmp_path).findings == whole


@pytest.mark.parametrize(
    ("options", "status", "words"),
    [
        (["--set", "data.test=val"], 2, "--set changes a recipe"),
        (
            ["--ancestor", "x.safetensors"],
            2,
            "--ancestor cannot be combined with a bundle",
        ),
        (["--recipe", "nothing"], 40, "no such file or recipe"),
        (["--recipe", "demo"], 40, "has other classes than the data"),
        (["--split", "holiday"], 40, "expected one of train, validation, test"),
        (["--device", "tpu"], 40, "expected auto, cpu, cuda"),
        (["--attacks", "magic"], 40, "expected some of without-key"),
        (["--attacks", "retrainin"], 40, "did you mean retraining?"),
        (["--budget", "quik"], 40, "did you mean quick?"),
        (["--claim", "stolen-valu=1"], 40, "did you mean stolen-value?"),
        (["--budget", "endless"], 40, "expected one of none, quick"),
    ],
    ids=lambda value: " ".join(value[:2]) if isinstance(value, list) else "",
)
def test_refusals_leave_nothing(
    audit, tmp_path, capsys, options: list[str], status: int, words: str
) -> None:
    assert audit(*options) == status
    assert words in " ".join(capsys.readouterr().err.split())
    assert not [path for path in tmp_path.iterdir() if "report" in path.name]


def test_a_mask_of_other_values_is_answered_without_words_of_a_recipe(
    audit, folder, tmp_path, capsys
) -> None:
    data = tmp_path / "data"
    shutil.copytree(folder / "data", data)
    Image.fromarray(np.full((64, 64), 99, np.uint8)).save(data / "masks" / "a.png")
    assert audit(data=data) == 40
    told = capsys.readouterr().err
    assert "a.png has the value 99 in 4096 pixels" in told
    hint = told.partition("hint: ")[2]
    assert f"the numbers of the bundle's {CLASSES} classes" in hint
    assert "`mlguard inspect`" in hint
    assert "data." not in hint
    recipe = ["--recipe", str(folder / "mine.toml"), "--set", "data.test=test"]
    assert audit(*recipe, data=data) == 40
    assert "data.ignore_index" in capsys.readouterr().err


def test_settings_without_a_recipe_are_answered_with_options(audit, capsys) -> None:
    assert audit("--set", "audit.incorrect_keys=3") == 2
    told = " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert "a bundle has none: name one with --recipe" in told
    assert "--incorrect-keys" in told


def test_the_size_of_the_images_must_be_the_bundle_s(audit, folder, capsys) -> None:
    recipe = ["--recipe", str(folder / "mine.toml"), "--set", "data.size=[32, 32]"]
    assert audit(*recipe) == 40
    shown = capsys.readouterr().err
    assert "was trained at 64 x 64 pixels" in shown
    assert "hint: --set data.size=[64, 64]" in shown


def test_a_bundle_names_no_key(audit, capsys) -> None:
    assert audit(key="") == 2
    assert "a bundle does not name its key" in capsys.readouterr().err


def test_another_key_is_refused_by_its_id(audit, tmp_path, capsys) -> None:
    assert audit(key="other") == 21
    told = capsys.readouterr().err
    assert f"key {KEY.key_id}, but other@1 is key {OTHER_KEY.key_id}" in told
    assert "hint: give --key acme@1, which is that key" in told
    assert not (tmp_path / "report").exists()


def test_a_sealed_bundle_is_measured_under_its_key_and_says_why_not_without(
    audit, tmp_path, capsys
) -> None:
    sealed = tmp_path / "sealed.mlgb"
    write_bundle(sealed, small_bundle(sealed=True))
    assert audit("--budget", "quick", bundle=sealed) == UNDECIDED
    shown = " ".join(capsys.readouterr().out.split())
    why = "the model is sealed; without the key, it cannot run"
    for left_out in ("no key", "incorrect keys", "nearby keys", "retraining"):
        assert f"not run: {left_out}: {why}" in shown
    found = report_of(tmp_path).findings
    (tmp_path / "report").rename(tmp_path / "sealed")
    assert audit("--incorrect-keys", "1") == UNDECIDED
    assert report_of(tmp_path).findings.correct == found.correct


def test_an_audit_of_a_sealed_bundle_goes_on_with_resume(audit, tmp_path) -> None:
    sealed = tmp_path / "sealed.mlgb"
    write_bundle(sealed, small_bundle(sealed=True))
    assert audit(bundle=sealed) == UNDECIDED
    report, whole = tmp_path / "report", report_of(tmp_path).findings
    for path in report.iterdir():
        if path.name != "audit.jsonl":
            path.unlink()
    lines = (report / "audit.jsonl").read_bytes().splitlines(keepends=True)
    (report / "audit.jsonl").write_bytes(b"".join(lines[:2]))
    assert audit("--resume", bundle=sealed) == UNDECIDED
    assert report_of(tmp_path).findings == whole


@pytest.mark.parametrize("name", ["photo.mlgb", "photo.png"])
def test_a_file_that_is_no_bundle_is_refused(
    audit, tmp_path, capsys, name: str
) -> None:
    (tmp_path / name).write_bytes(b"no bundle at all, and no run folder either")
    assert audit(bundle=tmp_path / name) == 20
    assert name in capsys.readouterr().err


def test_a_missing_bundle_is_refused_as_one(audit, tmp_path, capsys) -> None:
    assert audit(bundle=tmp_path / "none.mlgb") == 20
    assert "cannot read bundle" in capsys.readouterr().err


def test_a_run_folder_has_a_recipe_of_its_own(audit, tmp_path, capsys) -> None:
    assert audit("--recipe", "demo", bundle=tmp_path) == 2
    assert "--recipe cannot be combined with a run folder" in " ".join(
        capsys.readouterr().err.split()
    )


def test_the_layout_of_another_data_set_is_refused(audit, tmp_path, capsys) -> None:
    (tmp_path / "empty").mkdir()
    assert audit(data=tmp_path / "empty") == 40
    assert "test.txt" in capsys.readouterr().err


def test_several_processes_are_refused(audit, monkeypatch, capsys) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert audit() == 40
    assert "an audit of a bundle runs in one process" in capsys.readouterr().err


def test_what_runs_a_bundle_loads_no_torch() -> None:
    probe = (
        "import sys, mlguard.runtime as r; r.Graphs; sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", probe], cwd=ROOT, check=False)
    assert done.returncode == 0


def test_no_key_material_is_in_what_is_written(audit, tmp_path) -> None:
    assert audit("--attacks", "known-plaintext", "--incorrect-keys", "2") == UNDECIDED
    bundle: Bundle = small_bundle()
    subkeys = KEY.for_model(bytes.fromhex(bundle.manifest.protection_id))
    for path in (tmp_path / "report").iterdir():
        content = path.read_bytes()
        assert KEY.reveal() not in content
        assert subkeys.derive("shf/m=4/c=3") not in content
    log = (tmp_path / "report/audit.jsonl").read_text()
    assert json.loads(log.splitlines()[0])["subject"]["access"] == "black-box"
