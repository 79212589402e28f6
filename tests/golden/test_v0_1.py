"""What version 0.1 wrote still opens. The files are never made again: see README.md."""

from pathlib import Path

import numpy as np
import pytest

from mlguard.errors import WrongKey
from mlguard.protect import read_run
from mlguard.protect.export import export_run
from mlguard.runtime import Session
from tests.runs import KEY, OTHER_KEY

FOLDER = Path(__file__).parent / "v0.1"
EXPECTED = np.load(FOLDER / "expected.npz")
ATOL = 1e-4  # logits are of the order of 1; another machine adds in another order


@pytest.mark.parametrize("name", ["shf", "ffx", "bound"])
def test_a_bundle_of_version_0_1_gives_the_same_logits(name: str) -> None:
    logits = Session.open(FOLDER / f"{name}.mlgb", KEY).logits(EXPECTED["images"])
    np.testing.assert_allclose(logits, EXPECTED[name], atol=ATOL)


def test_another_bundle_gives_other_logits() -> None:
    """Shows that the test above can fail."""
    assert np.abs(EXPECTED["shf"] - EXPECTED["ffx"]).max() > 100 * ATOL


def test_a_bundle_of_version_0_1_refuses_another_key() -> None:
    with pytest.raises(WrongKey):
        Session.open(FOLDER / "shf.mlgb", OTHER_KEY)


@pytest.mark.parametrize("name", ["shf", "bound"])
def test_a_run_of_version_0_1_is_exported_to_the_same_answers(
    name: str, tmp_path: Path
) -> None:
    run = read_run(FOLDER / f"run_{name}")
    export_run(run, KEY, tmp_path / "again.mlgb")
    logits = Session.open(tmp_path / "again.mlgb", KEY).logits(EXPECTED["images"])
    np.testing.assert_allclose(logits, EXPECTED[name], atol=ATOL)
