"""Rules that several rooms share: written once, and known without numpy."""

import subprocess
import sys
from pathlib import Path

import pytest

from mlguard import rules
from mlguard.audit.attacks import ATTACKS
from mlguard.errors import RecipeError
from mlguard.recipe import read_recipe
from mlguard.transforms import METHODS, derive_transform, key_space_bits
from tests.transforms.chains import SUBKEYS

ROOT = Path(__file__).parents[2]
SOURCES = sorted(ROOT.glob("mlguard/**/*.py"))


def test_the_names_of_a_recipe_are_those_that_are_there() -> None:
    assert tuple(ATTACKS) == rules.ALL_ATTACKS
    assert METHODS == rules.IMAGE_METHODS


@pytest.mark.parametrize(
    ("value", "homes"),
    [
        ("(1, 2, 4, 8, 16, 32, 64, 128, 256)", ["rules.py"]),
        ("BYTE_MAX = 255", []),
        ("BYTE_MAX: Final = 255", ["rules.py"]),
        ("so it must come before ffx", ["rules.py"]),
        ("include_url=False", ["validation.py"]),
        ("file_digest", ["files.py"]),
    ],
)
def test_what_rooms_share_is_written_once(value: str, homes: list[str]) -> None:
    assert [p.name for p in SOURCES if value in p.read_text()] == homes


@pytest.mark.parametrize("size", [1, 3, 32, 512])
@pytest.mark.parametrize("methods", [["orthogonal"], ["shf"]])
def test_recipe_and_transform_refuse_the_same_block_sizes(
    methods: list[str], size: int
) -> None:
    side = max(size, 64) if size != 3 else 66
    settings = [f"transform.method={methods}", f"transform.block_size={size}"]
    try:
        read_recipe("demo", overrides=[*settings, f"data.size=[{side}, {side}]"])
    except RecipeError:
        with pytest.raises(ValueError, match="block"):
            derive_transform(methods, SUBKEYS, size)
    else:
        assert size in rules.block_sizes_of(methods)
        derive_transform(methods, SUBKEYS, size)


@pytest.mark.parametrize(
    "methods", [["ffx", "np"], ["shf", "shf"], ["orthogonal", "shf"]]
)
def test_recipe_and_transform_refuse_the_same_chains(methods: list[str]) -> None:
    with pytest.raises(RecipeError, match="method: "):
        read_recipe("demo", overrides=[f"transform.method={methods}"])
    with pytest.raises(ValueError, match=r"expected|must|cannot be combined"):
        key_space_bits(methods, 4)


@pytest.mark.parametrize("module", ["mlguard.recipe", "mlguard.rules", "mlguard.files"])
def test_recipe_is_checked_without_numpy(module: str) -> None:
    probe = f"import sys, {module}; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", probe], cwd=ROOT).returncode == 0
