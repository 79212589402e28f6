"""`mlguard show-transform`: show what the transforms do to an image, without torch."""

from pathlib import Path
from typing import Annotated

import typer

from mlguard.cli.model_key import read_model_key
from mlguard.cli.printable import say
from mlguard.cli.recipes import Overrides
from mlguard.cli.unlock import Unlock, unlocking
from mlguard.files import refuse_existing, write_new
from mlguard.pictures import transform_figure
from mlguard.recipe import read_recipe
from mlguard.runtime import read_image


@unlocking
def show_transform(
    image: Annotated[Path, typer.Argument(help="The image.")],
    key: Annotated[str, typer.Option(help="Name of the model key in the keystore.")],
    recipe: Annotated[str, typer.Option(help="A shipped recipe's name, or a file.")],
    out: Annotated[Path, typer.Option(help="The figure to write, a new PNG file.")],
    set_: Overrides = None,
    *,
    unlock: Unlock,
) -> None:
    """Draw an image plain and transformed, at several block sizes.

    The figure matches no protected model, not even one under the same key, because a
    plain image beside a model's own version of it would reveal the model's key.
    """
    settings = read_recipe(recipe, overrides=set_ or [])
    refuse_existing(out)
    (pixels,) = read_image(image)
    model_key = read_model_key(key, unlock)
    write_new(out, transform_figure(pixels, settings, model_key))
    say(f"{out}  (safe to share: it matches no protected model)")
