"""The drawn trees of refusals are the real ones, and every refusal has an exit code."""

import inspect
import re

import pytest

from keystore import errors as keystore_errors
from mlguard import errors
from mlguard.cli.exit_codes import EXIT_CODES, exit_code_of, exit_codes

TREES = [
    (errors, errors.MlguardError),
    (keystore_errors, keystore_errors.KeystoreError),
]
DESIGNED = [0, 1, 2, 3, 10, 11, 12, 13, 14, 15, 20, 21, 22, 23, 24, 25, 30, 31, 40, 41]


def subclasses(base: type) -> set[type]:
    direct = set(base.__subclasses__())
    return direct.union(*(subclasses(kind) for kind in direct))


def house(base: type) -> set[type]:
    """Without the classes that a test defines."""
    return {kind for kind in subclasses(base) if kind.__module__ == base.__module__}


@pytest.mark.parametrize(("module", "base"), TREES)
def test_tree_in_the_docstring_is_the_tree_in_the_code(module, base: type) -> None:
    drawn = re.findall(r"^([│ ]*)[├└]── (\w+)", inspect.getdoc(module), re.M)
    path: list[str] = [base.__name__]
    parents = {}
    for indent, name in drawn:
        depth = len(indent) // 4 + 1
        path[depth:] = [name]
        parents[name] = path[depth - 1]
    real = {kind.__name__: kind.__bases__[0].__name__ for kind in house(base)}
    assert parents == real
    assert len(real) > 10


@pytest.mark.parametrize(("module", "base"), TREES)
def test_every_refusal_has_a_row_of_its_own(module, base: type) -> None:
    rows = [kind for row in EXIT_CODES for kind in row.refusals]
    assert len(rows) == len(set(rows))
    assert house(base) - set(rows) == set()


def test_refusal_without_a_row_takes_that_of_its_base() -> None:
    class Unheard(errors.DatasetError):
        pass

    assert exit_code_of(Unheard("x")) == 40
    assert exit_code_of(ValueError("x")) == 1


def test_numbers_are_those_that_scripts_rely_on(
    capsys: pytest.CaptureFixture[str],
) -> None:
    exit_codes()
    lines = capsys.readouterr().out.splitlines()
    assert [int(line.split()[0]) for line in lines] == DESIGNED
