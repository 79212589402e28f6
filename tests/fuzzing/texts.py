"""Parsers of texts: recipes, audit logs and reports, headers of weights."""

import json
from pathlib import Path
from tempfile import TemporaryDirectory

from mlguard.audit import read_report
from mlguard.audit.log import read_log
from mlguard.recipe import parse_recipe, recipe_text, shipped_recipes
from mlguard.weights.header import parse_header
from tests.fuzzing.harness import Target

TESTS = Path(__file__).parents[1]
SECRET = bytes(range(32))
LOG = TESTS / "vectors" / "audit_log" / "good.jsonl"
REPORT = TESTS.parent / "docs" / "results" / "demo-attacks.json"
FOLDER = TemporaryDirectory(prefix="mlguard-fuzzing-")  # for what reads files only
WEIGHTS = {
    "__metadata__": {"format": "pt"},
    "w": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]},
    "b": {"dtype": "F16", "shape": [], "data_offsets": [24, 26]},
}


def targets() -> dict[str, Target]:
    """Texts that somebody else may have written."""
    file = Path(FOLDER.name) / "input"

    def at(read) -> object:
        def read_file(data: bytes) -> None:
            file.write_bytes(data)
            read(file)

        return read_file

    recipes = [recipe_text(name).encode() for name in shipped_recipes()]
    short = [one[one.index(b"recipe = 1") :] for one in recipes]

    def read_recipe(data: bytes) -> None:
        parse_recipe(data.decode("utf-8", "replace"), name="it")

    def read_weights(data: bytes) -> None:
        parse_header(data, name="it")

    return {
        "recipe": Target(short, read_recipe),
        "audit log": Target([LOG.read_bytes()], at(read_log)),
        "audit log, proved": Target(
            [LOG.read_bytes()], at(lambda path: read_log(path, SECRET))
        ),
        "audit report": Target([REPORT.read_bytes()], at(read_report)),
        "weights header": Target([json.dumps(WEIGHTS).encode()], read_weights),
    }
