"""Step 0: read a recipe, one TOML file that says everything about one protected model.

A recipe can name only what this room lists. It cannot name a Python object to import,
so reading an untrusted recipe never runs code from it, and it has no field for a
secret: the key is named on the command line. The header of `recipes/fcn_voc.toml`
explains every option.
"""

from mlguard.recipe.data import Data, Kind
from mlguard.recipe.fields import MAX_IMAGES, MAX_KEYS
from mlguard.recipe.reading import (
    MAX_RECIPE_BYTES,
    dump_recipe,
    parse_recipe,
    read_recipe,
    recipe_sha256,
    recipe_text,
    shipped_recipes,
)
from mlguard.recipe.sections import (
    BY_DEFAULT,
    CLASSIFIERS,
    LEAST_BATCH,
    Audit,
    Export,
    Lock,
    Model,
    Recipe,
    Train,
)
from mlguard.recipe.transform import Method, Transform

__all__ = [
    "BY_DEFAULT",
    "CLASSIFIERS",
    "LEAST_BATCH",
    "MAX_IMAGES",
    "MAX_KEYS",
    "MAX_RECIPE_BYTES",
    "Audit",
    "Data",
    "Export",
    "Kind",
    "Lock",
    "Method",
    "Model",
    "Recipe",
    "Train",
    "Transform",
    "dump_recipe",
    "parse_recipe",
    "read_recipe",
    "recipe_sha256",
    "recipe_text",
    "shipped_recipes",
]
