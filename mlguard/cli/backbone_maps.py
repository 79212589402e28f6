"""List the maps that a split model's backbone can send, for `mlguard layers`."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlguard.recipe import Recipe

if TYPE_CHECKING:
    from mlguard.models.split import MapFacts

BYTES = 2  # of a number that a host sends
KIB = 1 << 10


@dataclass(frozen=True)
class Sendable:
    """A map that a host could send.

    Attributes:
        facts: Its facts.
        sent: Its size for one image, in bytes.
        named: Whether the recipe names it.
    """

    facts: "MapFacts"
    sent: int
    named: bool

    def row(self) -> dict[str, Any]:
        """Return it for a program."""
        return vars(self.facts) | {"sent_bytes": self.sent, "named": self.named}

    def line(self, width: int) -> str:
        """Return it for a person."""
        one = self.facts
        sizes = f"{one.channels:5} {one.stride:6} {self.sent / KIB:8.1f}"
        return f"{one.name:{width}} {sizes}  {'yes' if self.named else ''}".rstrip()


def backbone_maps(recipe: Recipe) -> tuple[dict[str, Any], str]:
    """Return the maps of a recipe's backbone, and the share of its client's half.

    Raises:
        RecipeError: There is no such backbone.
        ModelFileError: It is an ONNX file that cannot be read.
    """
    from mlguard.models.split import maps_of

    found = [_sendable(one, recipe) for one in maps_of(recipe.model)]
    width = max(len(one.facts.name) for one in found)
    heading = f"{'map':{width}} {'C':>5} {'stride':>6} {'KiB':>8}  named"
    known = {one.facts.name for one in found}
    if unknown := [one for one in recipe.model.maps if one not in known]:
        share, last = None, f"model.maps names {', '.join(unknown)}: none of these"
    else:
        share = _share(recipe)
        last = f"the client's half: {share:.1%} of the multiply-adds"
    lines = [heading, *(one.line(width) for one in found), "", last]
    value = {"maps": [one.row() for one in found], "client_share": share}
    return value, "\n".join(lines)


def _sendable(one: "MapFacts", recipe: Recipe) -> Sendable:
    height, width = (-(-side // one.stride) for side in recipe.data.size)
    sent = BYTES * one.channels * height * width
    return Sendable(one, sent, one.name in recipe.model.maps)


def _share(recipe: Recipe) -> float:
    from mlguard.models.split import Sliced, share_of
    from mlguard.protect.key_work import blank_model

    model = blank_model(recipe).eval()
    if not isinstance(model, Sliced):
        raise AssertionError("the recipe was not checked")
    return share_of(model, recipe.data.size).of_client
