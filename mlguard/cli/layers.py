"""`mlguard layers`: list the feature maps that a recipe can name."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from mlguard.cli.answers import Json, answer
from mlguard.cli.backbone_maps import backbone_maps
from mlguard.cli.extras import need
from mlguard.cli.own_model import BuildName, build_of
from mlguard.cli.recipes import Name, Overrides
from mlguard.recipe import read_recipe
from mlguard.transforms import channels_key_space

if TYPE_CHECKING:
    from mlguard.models.binding import LayerFacts


def layers(
    recipe: Name,
    set_: Overrides = None,
    build: BuildName = None,
    as_json: Json = False,
) -> None:
    """List the layers of RECIPE's model, and which can be permuted without training.

    RECIPE may be a run folder too. A model trained under its key can permute the other
    layers as well. For your own model, --build names the function that makes it.

    With the method split: the maps of the backbone that model.maps can name, what each
    takes to send, and the client's share of the multiply-adds.
    """
    inside = Path(recipe) / "recipe.toml"
    named = str(inside) if inside.is_file() else recipe
    settings = read_recipe(named, overrides=set_ or [])
    need("mlguard.protect")
    if settings.transform.splits:
        answer(*backbone_maps(settings), as_json=as_json)
        return
    from mlguard.models.binding import layers_of
    from mlguard.protect.key_work import blank_model
    from mlguard.protect.run_folder import read_setup, refuse_unbuilt

    made = build_of(build)
    if inside.is_file():
        refuse_unbuilt(Path(recipe), read_setup(Path(recipe)), made)
    found = layers_of(blank_model(settings, made), settings.data.size)
    rows = [asdict(facts) | {"key_space_bits": _bits(facts)} for facts in found]
    width = max(len(facts.name) for facts in found)
    heading = f"{'layer':{width}} {'C':>5} {'H':>4} {'W':>4} {'bits':>8}  bind"
    lines = [_line(facts, width) for facts in found]
    answer(rows, "\n".join([heading, *lines]), as_json=as_json)


def _line(facts: "LayerFacts", width: int) -> str:
    said = f"no: it {facts.refusal}" if facts.refusal else "yes"
    sizes = f"{facts.channels:5} {facts.height:4} {facts.width:4}"
    return f"{facts.name:{width}} {sizes} {_bits(facts):8.1f}  {said}"


def _bits(facts: "LayerFacts") -> float:
    return round(channels_key_space(facts.channels, signs=False), 1)
