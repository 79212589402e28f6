"""`mlguard layers` of a split recipe, and a backbone that is a file."""

import json
from pathlib import Path

import pytest

from mlguard.cli.app import run
from tests.splits import FILE_MAPS, file_overrides, public_file

SPLIT = ["camvid_split", "--set", "data.size=[64, 96]"]


def given(path: Path, *more: str) -> list[str]:
    fields = ("model.mean=[0.5, 0.5, 0.5]", "model.std=[0.5, 0.5, 0.5]")
    fields += (*file_overrides(path), "model.widths=[8, 12]", *more)
    return [*SPLIT, *(word for one in fields for word in ("--set", one))]


def test_maps_of_a_backbone_are_listed_with_what_the_client_computes(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["layers", *SPLIT]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["map", "C", "stride", "KiB", "named"]
    # 24 channels of 16 by 24 numbers of 2 bytes
    assert "features.3 24 4 18.0 yes" in [" ".join(line.split()) for line in lines]
    assert lines[-1].startswith("the client's half: 19.")


def test_maps_of_a_file_are_listed_for_a_program(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, _ = public_file(tmp_path)
    assert run(["layers", *given(path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    named = [row for row in found["maps"] if row["named"]]
    assert [row["name"] for row in named] == list(FILE_MAPS)
    assert [row["sent_bytes"] for row in named] == [2 * 8 * 32 * 48, 2 * 12 * 8 * 12]
    assert 0 < found["client_share"] < 1


def test_before_its_maps_are_chosen_it_tells_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, _ = public_file(tmp_path)
    assert run(["layers", *given(path, 'model.maps=["a", "b"]')]) == 0
    *lines, last = capsys.readouterr().out.splitlines()
    assert any(line.startswith(FILE_MAPS[0]) for line in lines)
    assert last == "model.maps names a, b: none of these"


def test_a_twin_of_a_file_is_refused_before_any_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, _ = public_file(tmp_path)
    command = ["protect", "--recipe", *given(path), "--key", "acme", "--baseline"]
    assert run([*command, "--out", str(tmp_path / "run")]) == 40
    assert "a plain twin trains its backbone" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
