"""`mlguard export --target triton`: a repository around a bundle, no key in it."""

from pathlib import Path

import pytest

from mlguard.bundle import write_bundle
from mlguard.cli.app import run
from tests.bundles import small_bundle
from tests.bundles2 import shuffled, small2_bytes


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "acme.mlgb").write_bytes(small2_bytes(image=shuffled()))


EXPORT = ["export", "acme.mlgb", "--target", "triton", "--out", "models"]


def test_a_repository_is_written_without_a_keystore(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = ["--key-source", "file:/run/secrets/acme.key", "--instances", "2"]
    assert run([*EXPORT, *source]) == 0
    assert "file:/run/secrets/acme.key" in capsys.readouterr().out
    config = (tmp_path / "models" / "acme" / "config.pbtxt").read_text()
    assert "count: 2" in config
    assert run([*EXPORT, *source, "--model-version", "2"]) == 0
    assert (tmp_path / "models" / "acme" / "2" / "model.mlgb").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--name", "../up"], 40, "name: expected letters"),
        (
            ["--key-source", "MLGUARD-KEY-1-AAAA"],
            40,
            "the place of a key, without a secret",
        ),
    ],
)
def test_bad_input_is_a_sentence(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
    said: str,
) -> None:
    assert run([*EXPORT, *arguments]) == code
    assert said in capsys.readouterr().err
    assert not (tmp_path / "models").exists()


def test_a_host_without_the_key_gets_a_plain_model(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_bundle(tmp_path / "host.mlgb", small_bundle())
    line = ["export", "host.mlgb", "--out", "models", "--key-at", "client"]
    assert run(line) == 2
    assert "--key-at needs --target triton" in capsys.readouterr().err
    assert run([*line, "--target", "triton"]) == 0
    assert "without the key" in capsys.readouterr().out
    assert (tmp_path / "models" / "host" / "1" / "model.onnx").exists()


def test_a_host_without_the_key_opens_no_seal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*EXPORT, "--key-at", "client"]) == 20
    assert "is sealed, and a host without the key" in capsys.readouterr().err
    assert not (tmp_path / "models").exists()


def test_only_a_bundle_is_served(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run").mkdir()
    assert run(["export", "run", "--target", "triton", "--out", "models"]) == 40
    assert "expected a bundle" in capsys.readouterr().err


def test_a_version_is_never_written_over(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(EXPORT) == 0
    assert run(EXPORT) == 41
    assert "already has version 1 of acme" in capsys.readouterr().err
