"""`mlguard recipes`: list, show, copy and check recipes."""

from pathlib import Path
from typing import Annotated

import typer

from mlguard.cli.key_space import places_of
from mlguard.cli.printable import say, say_text
from mlguard.files import write_new
from mlguard.recipe import read_recipe, recipe_text, shipped_recipes

recipes_app = typer.Typer(
    no_args_is_help=True, help="List, show, copy and check recipes."
)
Name = Annotated[str, typer.Argument(help="A shipped recipe's name, or a file.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="SECTION.FIELD=VALUE", help="Change one field."),
]


@recipes_app.command("list")
def list_recipes() -> None:
    """List the recipes that come with mlguard."""
    for name in shipped_recipes():
        recipe = read_recipe(name)
        methods = "+".join(recipe.transform.methods)
        data = f"{recipe.data.kind} {recipe.data.size[0]}x{recipe.data.size[1]}"
        say(
            f"{name:18} {recipe.model.name:28} {data:16} "
            f"{methods} {places_of(recipe.transform)}"
        )


@recipes_app.command()
def show(name: Name) -> None:
    """Print a recipe with its explanations."""
    say_text(recipe_text(name))


@recipes_app.command()
def copy(name: Name, file: Path) -> None:
    """Copy a recipe to FILE, to change it."""
    write_new(file, recipe_text(name).encode())


@recipes_app.command()
def check(name: Name, set_: Overrides = None) -> None:
    """Check a recipe and say every problem it has."""
    read_recipe(name, overrides=set_ or [])
    say(f"{name}: ok")
