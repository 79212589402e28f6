"""`mlguard samples`: write a few test images as the model will see them."""

from pathlib import Path
from typing import Annotated

import typer

from mlguard.cli.answers import Json, answer
from mlguard.cli.extras import need
from mlguard.cli.recipes import Overrides
from mlguard.files import atomic_write, prepare_output_folder
from mlguard.pictures import image_png
from mlguard.recipe import read_recipe


def samples(
    recipe: Annotated[str, typer.Option(help="A shipped recipe's name, or a file.")],
    out: Annotated[Path, typer.Option(help="Folder for the images, new or empty.")],
    data: Annotated[Path | None, typer.Option(help="Folder of the data set.")] = None,
    count: Annotated[int, typer.Option(min=1, help="Number of images.")] = 8,
    set_: Overrides = None,
    json: Json = False,
) -> None:
    """Write the first images of a recipe's test split, at the recipe's size."""
    settings = read_recipe(recipe, overrides=set_ or [])
    test = need("mlguard.data").open_split(
        settings.data, data, "test", seed=settings.train.seed
    )
    prepare_output_folder(out)
    for index, id_ in enumerate(test.ids[:count]):
        image, _ = test[index]
        # The id of an image in a class folder has a slash and a suffix.
        name = f"{index + 1:04d}-{Path(id_).stem}" if "/" in id_ else id_
        atomic_write(out / f"{name}.png", image_png(image.numpy()))
    written = min(count, len(test))
    value = {"images": written, "folder": str(out)}
    answer(value, f"{written} images in {out}", as_json=json)
