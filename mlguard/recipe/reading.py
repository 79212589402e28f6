"""Read a recipe from TOML, and write it out again with every field."""

import hashlib
import re
import tomllib
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import tomli_w
from pydantic import ValidationError

from mlguard.errors import RecipeError
from mlguard.files import read_text
from mlguard.kinds import but_is
from mlguard.nearest import did_you_mean
from mlguard.recipe.fields import Section
from mlguard.recipe.sections import Recipe
from mlguard.validation import problems_of, shortened

MAX_RECIPE_BYTES = 1 << 20  # a recipe is a page of text; anything larger is refused
# A key of more parts than a recipe is deep would nest tables, and the time and memory
# of the parser grow with the square of their number.
MAX_KEY_PARTS = 32
_PART = r"""(?:[A-Za-z0-9_-]++|"(?:[^"\\\n]|\\.){0,256}+"|'[^'\n]{0,256}+')"""
DEEP_KEY = re.compile(
    rf"(?<![A-Za-z0-9_-]){_PART}(?:[ \t]*+\.[ \t]*+{_PART}){{{MAX_KEY_PARTS}}}"
)
TOO_DEEP = f"nested too deeply: a key of more than {MAX_KEY_PARTS} parts"
SECTIONS = {
    name: tuple(section.annotation.model_fields)
    for name, section in Recipe.model_fields.items()
    if isinstance(section.annotation, type) and issubclass(section.annotation, Section)
}
KNOWN = (*SECTIONS, *(f"{name}.{one}" for name, own in SECTIONS.items() for one in own))
UNREADABLE = "holds a number with thousands of digits, or is nested too deeply"


def parse_recipe(text: str, *, name: str, overrides: Sequence[str] = ()) -> Recipe:
    """Parse and check the text of a recipe.

    Args:
        text: TOML.
        name: The name of the recipe in a refusal.
        overrides: `section.field=value`, the value in TOML or a bare word.

    Raises:
        RecipeError: The text is not TOML, or has unknown, missing or unfit fields.
            Every problem is listed, not only the first.
    """
    table = _loads(text, name)
    for override in overrides:
        _override(table, override, name)
    try:
        return Recipe.model_validate(_tuples(table))
    except ValidationError as error:
        raise RecipeError(name, problems_of(error, show=True, known=KNOWN)) from None
    except RecursionError:
        raise RecipeError(name, [UNREADABLE]) from None


def read_recipe(name: str, *, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe by its name among the shipped ones, or from a file.

    Raises:
        RecipeError: The recipe does not exist, or is not valid.
    """
    return parse_recipe(recipe_text(name), name=name, overrides=overrides)


def recipe_text(name: str) -> str:
    """Return the text of a shipped recipe, or of a file, comments included.

    Raises:
        RecipeError: The recipe does not exist, is too large, or is not text.
    """
    shipped = shipped_recipes()
    path = shipped.get(name, Path(name))
    try:
        return read_text(path, MAX_RECIPE_BYTES)
    except FileNotFoundError:
        known, near = ", ".join(shipped), did_you_mean(Path(name).stem, shipped)
        raise RecipeError(
            name, [f"no such file or recipe; known are {known}{near}"]
        ) from None
    except OSError as error:
        raise RecipeError(name, [f"cannot be read: {error.strerror}"]) from None
    except UnicodeDecodeError as error:
        known = but_is(error.object) or f": {error}"
        raise RecipeError(name, [f"cannot be read as text, not UTF-8{known}"]) from None
    except ValueError as error:  # a path with a zero byte
        raise RecipeError(name, [f"cannot be read as text: {error}"]) from None


def shipped_recipes() -> dict[str, Path]:
    """Return the recipes that come with mlguard, by name."""
    installed = Path(str(resources.files("mlguard"))) / "recipes"
    checkout = Path(__file__).parents[2] / "recipes"
    folder = installed if installed.is_dir() else checkout
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def dump_recipe(recipe: Recipe) -> str:
    """Return the resolved recipe as TOML: every field, defaults included."""
    return tomli_w.dumps(recipe.model_dump(mode="json", exclude_none=True))


def recipe_sha256(recipe: Recipe) -> str:
    """Return the SHA-256 of the resolved recipe, in hex."""
    return hashlib.sha256(dump_recipe(recipe).encode()).hexdigest()


def _override(table: dict[str, Any], override: str, name: str) -> None:
    path, equals, value = override.partition("=")
    *sections, field = path.strip().split(".")
    shown = shortened(override)
    if not equals or not field or len(sections) > 1:
        raise RecipeError(name, [f"--set {shown}: expected section.field=value"])
    for section in sections:
        table = table.setdefault(section, {})
        if not isinstance(table, dict):
            raise RecipeError(name, [f"--set {shown}: {section} is not a section"])
    if DEEP_KEY.search(value):
        raise RecipeError(
            name, [f"--set {shown}: a key of more than {MAX_KEY_PARTS} parts"]
        )
    try:
        table[field] = tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        table[field] = value.strip()
    except (ValueError, RecursionError):
        raise RecipeError(name, [f"--set {shown}: {UNREADABLE}"]) from None


def _loads(text: str, name: str) -> dict[str, Any]:
    if DEEP_KEY.search(text):
        raise RecipeError(name, [TOO_DEEP])
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(name, [f"not TOML: {shortened(str(error))}"]) from None
    except (ValueError, RecursionError):  # of int() and of the parser
        raise RecipeError(name, [UNREADABLE]) from None


def _tuples(value: Any) -> Any:
    """Return TOML arrays as tuples, which strict pydantic fields expect."""
    if isinstance(value, Mapping):
        return {key: _tuples(item) for key, item in value.items()}
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
