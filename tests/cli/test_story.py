"""The whole job as a user types it, on generated images, and what it leaves on disk."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from keystore import Identity, Keystore
from mlguard.cli.app import run
from mlguard.keys import ModelKey
from mlguard.protect import read_run
from tests.runs import SMALL


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An empty folder with a keystore of its own, opened with an identity file."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        patch.setenv("MLGUARD_KEYSTORE", str(home / "keystore.mlgk"))
        patch.setenv("MLGUARD_IDENTITY_FILE", str(home / "owner.identity"))
        patch.setenv("XDG_STATE_HOME", str(home / "state"))
        yield home


@pytest.fixture(scope="module")
def story(home: Path) -> Path:
    """Everything the README's five commands do, once for this file."""
    small = [word for setting in SMALL for word in ("--set", setting)]
    method = ["--set", 'transform.method=["shf", "np", "ffx"]']
    protect = ["protect", "--recipe", "demo", "--key", "acme", "--device", "cpu"]
    figure = ["show-transform", "images/test-00000.png", "--recipe", "demo"]
    audit = ["audit", "run", "--key", "acme", "--incorrect-keys", "3"]
    commands = [
        ["keygen", "acme"],
        ["keygen", "other"],
        [*protect, "--out", "run", "--baseline", *small, *method],
        ["export", "run", "--out", "acme.mlgb"],
        ["samples", "--recipe", "demo", "--out", "images", "--count", "3", *small],
        ["predict", "acme.mlgb", "images", "--key", "acme", "--out", "masks"],
        [*audit, "--out", "report"],
        [*figure, "--key", "acme", "--out", "fig.png"],
    ]
    for command in commands:
        # So few images of so small a model decide no claim of an audit.
        assert run(command) == (31 if command[0] == "audit" else 0), command
    return home


def model_key(home: Path, name: str) -> ModelKey:
    identity = Identity.read(home / "owner.identity")
    with Keystore.open(home / "keystore.mlgk", identity) as store:
        return ModelKey(store.get(name))


def test_masks_are_index_pngs_of_the_images_sizes(story: Path) -> None:
    masks = sorted((story / "masks").glob("*.png"))
    assert [path.name for path in masks] == [f"test-0000{i}.png" for i in range(3)]
    with Image.open(masks[0]) as mask:
        assert (mask.mode, mask.size) == ("P", (16, 16))
        assert np.asarray(mask).max() < 6


def test_audit_reports_all_four_conditions(story: Path) -> None:
    report = json.loads((story / "report" / "audit.json").read_text())
    text = json.dumps(report)
    assert report["schema"] == "mlguard.audit/4"
    for condition in ("baseline", "correct", "no_key", "incorrect"):
        assert condition in text


def test_wrong_key_is_refused_by_name_and_exit_code(
    story: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["predict", "acme.mlgb", "images", "--key", "other", "--out", "stolen"]
    status = run([*command, "--identity", "owner.identity"])
    told = capsys.readouterr().err
    assert status == 21
    assert model_key(story, "acme").key_id in told
    assert model_key(story, "other").key_id in told
    assert not (story / "stolen").exists()


def secrets_of(home: Path) -> dict[str, bytes]:
    """Everything that must be in no file, in every form it could be written in."""
    key = model_key(home, "acme")
    protected = read_run(home / "run")
    assert protected.protection is not None
    transform = protected.transform(key)
    found = {"model key": key.reveal()}
    subkeys = key.for_model(protected.protection.protection_id)
    for use in ("shf/m=4/c=3", "np/m=4/c=3", "ffx-mask/m=4/c=3", "ffx-password"):
        found[f"subkey {use}"] = subkeys.derive(use)
    for name, tensor in transform.slots().items():
        whole = np.rint(tensor).astype(np.int64).ravel()
        found[f"{name} as text"] = ", ".join(map(str, whole)).encode()
        found[f"{name} as packed text"] = ",".join(map(str, whole)).encode()
        found[f"{name} as bits"] = "".join(map(str, whole)).encode()
        for kind in ("u1", "<i2", "<i4", "<i8", "<f4", "<f8"):
            found[f"{name} as {kind}"] = whole.astype(kind).tobytes()
    texts = {f"{name} in hex": value.hex().encode() for name, value in found.items()}
    return found | texts


def files_with(secrets: dict[str, bytes], home: Path) -> list[tuple[str, str]]:
    written = [path for path in home.rglob("*") if path.is_file()]
    assert len(written) > 20
    return [
        (str(path.relative_to(home)), name)
        for path in written
        for name, secret in secrets.items()
        if secret in path.read_bytes()
    ]


def test_no_file_holds_a_key_a_subkey_a_permutation_a_mask_or_a_table(
    story: Path,
) -> None:
    assert files_with(secrets_of(story), story) == []


def test_secret_in_a_file_would_be_found(story: Path, tmp_path: Path) -> None:
    """The twin of the test above."""
    secrets = secrets_of(story)
    for number, secret in enumerate(secrets.values()):
        (tmp_path / str(number)).write_bytes(b"x" + secret + b"x")
    assert {name for _, name in files_with(secrets, tmp_path)} == set(secrets)


def test_nothing_half_written_remains(story: Path) -> None:
    assert [p for p in story.rglob("*") if p.name.endswith((".tmp", ".part"))] == []
