"""`mlguard recipes`: list, show, copy and check recipes."""

from pathlib import Path
from typing import Annotated

import typer

from mlguard.cli.answers import Json, answer
from mlguard.cli.checking_progress import count_on_terminal
from mlguard.cli.extras import need
from mlguard.cli.key_space import places_of
from mlguard.cli.panels import Commands
from mlguard.cli.printable import say_text, warn
from mlguard.files import write_new
from mlguard.recipe import Recipe, read_recipe, recipe_text, shipped_recipes

recipes_app = Commands(no_args_is_help=True, help="List, show, copy and check recipes.")
Name = Annotated[str, typer.Argument(help="A shipped recipe's name, or a file.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="SECTION.FIELD=VALUE", help="Change one field."),
]


@recipes_app.command("list")
def list_recipes(json: Json = False) -> None:
    """List the recipes that come with mlguard."""
    facts, lines = [], []
    for name in shipped_recipes():
        recipe = read_recipe(name)
        methods = "+".join(recipe.transform.methods)
        data = f"{recipe.data.kind} {recipe.data.size[0]}x{recipe.data.size[1]}"
        lines.append(
            f"{name:18} {recipe.model.name:28} {data:16} "
            f"{methods} {places_of(recipe.transform)}"
        )
        facts.append(
            {
                "name": name,
                "model": recipe.model.name,
                "data": recipe.data.kind,
                "size": recipe.data.size,
                "methods": recipe.transform.methods,
                "block_size": recipe.transform.block_size,
            }
        )
    answer(facts, "\n".join(lines), as_json=json)


@recipes_app.command()
def show(name: Name) -> None:
    """Print a recipe with its explanations."""
    say_text(recipe_text(name))


@recipes_app.command(examples=("mlguard recipes copy camvid my.toml",))
def copy(name: Name, file: Path) -> None:
    """Copy a recipe to FILE, to change it."""
    write_new(file, recipe_text(name).encode())


@recipes_app.command(examples=("mlguard recipes check my.toml --data DIR",))
def check(
    name: Name,
    set_: Overrides = None,
    data: Annotated[
        Path | None,
        typer.Option(help="Also check every image of this folder."),
    ] = None,
    json: Json = False,
) -> None:
    """Check a recipe, and list all its problems."""
    recipe = read_recipe(name, overrides=set_ or [])
    images = {} if data is None else _check_data(recipe, data)
    lines = [f"{split}: {number} images" for split, number in images.items()]
    value = {"recipe": name, "images": images}
    answer(value, "\n".join([*lines, f"{name}: ok"]), as_json=json)


def _check_data(recipe: Recipe, folder: Path) -> dict[str, int]:
    """Decode all images and masks, and say what is odd; how many each split has."""
    images = {}
    for split in ("train", "validation", "test"):
        opened = need("mlguard.data").open_split(
            recipe.data, folder, split, seed=recipe.train.seed
        )
        with count_on_terminal(f"checking the {split} images") as progress:
            opened.check(progress)
        for note in opened.notes:
            warn(f"the {split} images: {note}")
        images[split] = len(opened)
    return images
