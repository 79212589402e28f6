"""Write docs/reference/architectures.md: `python docs/_site/architectures.py`.

Every architecture that a recipe can name: its parameters, the public weights that it
starts from, and what can be bound. All of it is asked of the code that builds, loads
and binds; models are built without memory for their weights. Takes a minute.
"""

import re
import sys
import tomllib
from pathlib import Path
from typing import Any, get_args
from unittest.mock import patch

import torch
from torch import nn
from torchvision.models import get_model, get_model_weights

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from mlguard.errors import BindingError, WeightsError  # noqa: E402
from mlguard.models import ARCHITECTURES, fitting_weights  # noqa: E402
from mlguard.models.binding import layers_of  # noqa: E402
from mlguard.models.binding.stem import form_of_stem  # noqa: E402
from mlguard.models.split.backbones import Backbone  # noqa: E402
from mlguard.recipe import Model, recipe_text, shipped_recipes  # noqa: E402
from mlguard.recipe.sections import CLASSIFIERS  # noqa: E402
from mlguard.recipe.sections import Backbone as BackboneName  # noqa: E402
from mlguard.transforms import BLOCK_SIZES  # noqa: E402

PAGE = ROOT / "docs" / "reference" / "architectures.md"
CLASSES = 21
SIZE = (256, 256)  # pixels
PUBLIC = [  # models of torchvision whose weights an architecture may start from
    "mobilenet_v2",
    "mobilenet_v3_large",
    "resnet18",
    "resnet50",
    "resnet101",
    "convnext_tiny",
    "swin_t",
    "vit_b_16",
    "fcn_resnet50",
    "fcn_resnet101",
    "deeplabv3_resnet50",
    "deeplabv3_resnet101",
    "deeplabv3_mobilenet_v3_large",
    "lraspp_mobilenet_v3_large",
]
SEGMENTING = ("fcn", "deeplabv3", "lraspp")
# Parts of an encoder whose outputs are worth sending, in torchvision's names.
PARTS = re.compile(r"(features|layers|trunk_output)\.\w+|layer\d|stage\d|conv5")
SENT = (4, 8, 16, 32)  # strides in pixels
HEAD = """\
# Architectures

    python docs/_site/architectures.py

writes this page from the code, and a test compares the two. `model.name` in a recipe
takes these names. Any other model needs none of them: [ONNX files](../models/onnx.md),
[torch modules](../models/torch.md).

**The method `weights` takes every one of them**, and so do the methods that are trained
(`shf`, `np`, `ffx`, `channels`). What differs is what can be [bound](../bind.md) to a
trained model without training it again:

- *images*: the block sizes M with which `shf`, `np` and `orthogonal` are folded into
  the first layer. **Free** ones go into a patch embedding as it is; others rewrite the
  first convolution as a lifted stem, which shows its key and costs time.
- *channels*: how many of the feature maps can be permuted, of those there are at
  256 × 256.
"""
NOTE = f"""\
Parameters with {CLASSES} classes. Public weights are members of torchvision's classes,
such as `MobileNet_V2_Weights.IMAGENET1K_V1`, or a `.safetensors` file of these layers.

## Backbones of split models

`sliced_segmenter` and `sliced_classifier` are [two halves](../split.md), and
`model.backbone` names the public one. Nothing of it can be bound, and nothing needs to
be: none of it is yours.
"""
ROWS = """\
| `model.name` | what it does | parameters | public weights | images, free at M \
| images, lifted at M | channels | recipes |
|---|---|---|---|---|---|---|---|"""
HALVES = """\
| `model.backbone` | parameters up to its last map | public weights \
| such `model.maps`, with channels and stride |
|---|---|---|---|"""
FITS, COVERS = 0.95, 0.6  # least shares of the file's and of the model's tensors


def main() -> None:
    """Write the page, and say where it is."""
    PAGE.write_text(page())
    print(PAGE)


def page() -> str:
    """The whole page."""
    with torch.device("meta"):
        candidates = {name: _tensors(name) for name in PUBLIC}
        rows = [row(name, candidates) for name in ARCHITECTURES]
    split = [backbone_row(name) for name in get_args(BackboneName)]
    return "\n".join([HEAD, ROWS, *rows, "", NOTE, HALVES, *split, ""])


def row(name: str, candidates: dict[str, dict[str, torch.Tensor]]) -> str:
    """One architecture."""
    model = ARCHITECTURES[name](CLASSES).eval()
    found = layers_of(model, SIZE)
    free = sum(not facts.refusal for facts in found)
    forms = {size: _form(model, size) for size in BLOCK_SIZES}
    cells = [
        f"`{name}`",
        "classification" if name in CLASSIFIERS else "segmentation",
        _millions(model),
        _weights(name, model, candidates) or "none",
        *(_sizes(forms, form) for form in ("patch", "lifted")),
        f"{free} of {len(found)}",
        ", ".join(_recipes(name)),
    ]
    return f"| {' | '.join(cells)} |"


def backbone_row(name: str) -> str:
    """One public half, with the last map of each usual stride."""
    half = Backbone(name, _maps(name))
    shown = ", ".join(f"`{m.name}` ({m.channels}, {m.stride})" for m in half.maps)
    return f"| `{name}` | {_millions(half)} | {_enum(name)} | {shown} |"


def _maps(name: str) -> list[str]:
    found: dict[int, str] = {}
    whole = get_model(name, weights=None).eval()
    for layer, module in whole.named_modules():
        if PARTS.fullmatch(layer):
            module.register_forward_hook(
                lambda _, __, out, layer=layer: (
                    found.__setitem__(SIZE[0] // out.shape[2], layer)
                    if out.ndim == 4
                    else None
                )
            )
    whole(torch.zeros(1, 3, *SIZE))
    return [layer for stride, layer in sorted(found.items()) if stride in SENT]


def _millions(model: nn.Module) -> str:
    number = sum(parameter.numel() for parameter in model.parameters())
    return f"{number:,}"


def _tensors(name: str) -> dict[str, torch.Tensor]:
    alone = {"weights_backbone": None} if name.startswith(SEGMENTING) else {}
    return dict(get_model(name, weights=None, **alone).state_dict())


def _weights(
    name: str, model: nn.Module, candidates: dict[str, dict[str, torch.Tensor]]
) -> str:
    fitting, own = [], len(model.state_dict())
    for public, tensors in candidates.items():
        spec = Model(name=name, weights=public)  # type: ignore[arg-type]
        with patch("mlguard.models.weights.read_weights", lambda _, t=tensors: dict(t)):
            try:
                number = len(fitting_weights(model, spec))
            except WeightsError:
                continue
        if number >= FITS * len(tensors) and number >= COVERS * own:
            fitting.append(_enum(public))
    return ", ".join(fitting)


def _enum(name: str) -> str:
    return f"`{get_model_weights(name).__name__}`"


def _form(model: nn.Module, size: int) -> str | None:
    try:
        return form_of_stem(model, size)
    except BindingError:
        return None


def _sizes(forms: dict[int, str | None], form: str) -> str:
    return ", ".join(str(size) for size, found in forms.items() if found == form)


def _recipes(name: str) -> list[str]:
    def names(one: str) -> Any:
        return tomllib.loads(recipe_text(one))["model"]["name"]

    return [
        f"[{one}](../../recipes/{one}.toml)"
        for one in shipped_recipes()
        if names(one) == name
    ]


if __name__ == "__main__":
    main()
