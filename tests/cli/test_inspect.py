"""`mlguard inspect`: all that the file shows, no more, and nothing that commands."""

import json
from pathlib import Path

import pytest

from mlguard.bundle import PrecisionFacts, SealFacts2, write_bundle, write_bundle2
from mlguard.cli import app
from tests.bundles import KEY, small_bundle
from tests.bundles2 import (
    ORIGIN,
    SUBKEYS,
    model2,
    shuffled,
    small2_bytes,
    task_facts,
)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    write_bundle(tmp_path / "one.mlgb", small_bundle(sealed=True))
    write_bundle2(tmp_path / "two.mlgb", model2(image=shuffled()), SUBKEYS)
    plain = SealFacts2(graph=False, weights=False)
    write_bundle2(tmp_path / "plain.mlgb", model2(image=None), SUBKEYS, seal=plain)
    return tmp_path


def shown(path: Path, capsys: pytest.CaptureFixture[str]) -> str:
    assert app.run(["inspect", str(path)]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out


def test_a_bundle_of_either_format_is_described(
    files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, words in (
        ("one", ["format 1", "graph and weights", "methods    shf\n", "4 classes"]),
        ("two", ["format 2", "methods    shf, weights", "100.00% of 448 bytes"]),
        ("plain", ["no: the file holds both in the clear", "plain      w, 432 bytes"]),
    ):
        told = shown(files / f"{name}.mlgb", capsys)
        assert [word for word in [*words, KEY.key_id] if word not in told] == []
        assert "none of this is authenticated" in told


@pytest.mark.parametrize("name", ["one", "two", "plain"])
def test_json_has_the_same_facts(
    name: str, files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert app.run(["inspect", str(files / f"{name}.mlgb"), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["key_id"] == KEY.key_id
    assert facts["vouched_for"] is False
    assert facts["outputs"][0]["name"] == "logits"
    assert ORIGIN.recipe_sha256 not in json.dumps(facts) or name == "one"


def test_a_name_that_would_command_a_terminal_is_written_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    forged = "road\nsigned     by the owner"
    names = (forged, "b", "c", "d")
    model = model2(task=task_facts(class_names=names), licence="a\nissued     to you")
    write_bundle2(tmp_path / "x.mlgb", model, SUBKEYS)
    lines = shown(tmp_path / "x.mlgb", capsys).splitlines()
    assert not any(line.startswith(("signed ", "issued ")) for line in lines)


def test_what_is_no_bundle_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "x.mlgb").write_bytes(b"PK\3\4 no")
    assert app.run(["inspect", str(tmp_path / "x.mlgb")]) == 20
    assert "mlguard: error: " in capsys.readouterr().err


def test_what_rounding_cost_is_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cost = PrecisionFacts(
        kind="int8", images=233, agreement=0.9692, before=0.4258, after=0.426
    )
    (tmp_path / "few.mlgb").write_bytes(small2_bytes(precision=cost))
    out = shown(tmp_path / "few.mlgb", capsys)
    said = (
        "int8: 96.92% the same class on 233 images; score 0.4258 before, 0.4260 after"
    )
    assert said in out
