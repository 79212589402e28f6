"""Build a model by its name in a recipe.

Any `nn.Module` that takes normalized pixels and returns logits can be protected from
Python; a recipe can name the models in this table.
"""

from collections.abc import Callable

from torch import Tensor, nn
from torchvision.models import mobilenet_v2, resnet18, resnet50, segmentation

from mlguard import recipe
from mlguard.models.architectures.cnn_small import CNNSmall
from mlguard.models.architectures.fcn_convnext_tiny import FCNConvNeXtTiny
from mlguard.models.architectures.fcn_mobilenet_v2 import FCNMobileNetV2
from mlguard.models.architectures.fcn_patch_small import FCNPatchSmall
from mlguard.models.architectures.fcn_small import FCNSmall
from mlguard.models.architectures.setr_vit_b_16 import SETRViTB16
from mlguard.models.architectures.upernet_swin_t import UPerNetSwinT
from mlguard.models.split import Backbone, Classifier, Segmenter, sliced
from mlguard.models.weights import load_weights, read_weights


def _torchvision(
    constructor: Callable[..., nn.Module], *, aux: bool
) -> Callable[[int], nn.Module]:
    """Return a torchvision constructor as classes -> model, without a download."""
    options = {"aux_loss": True} if aux else {}
    return lambda classes: constructor(
        weights=None, weights_backbone=None, num_classes=classes, **options
    )


def _resnet18_cifar(classes: int) -> nn.Module:
    """Build ResNet-18 for images of 32 pixels: 3×3 stem at stride 1, no max-pooling.

    Source: the CIFAR networks that the code of arXiv:2105.14756's authors trains.
    """
    model = resnet18(weights=None, num_classes=classes)
    model.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    nn.init.kaiming_normal_(model.conv1.weight, mode="fan_out", nonlinearity="relu")
    model.maxpool = nn.Identity()
    built: nn.Module = model
    return built


ARCHITECTURES: dict[str, Callable[[int], nn.Module]] = {
    "fcn_small": FCNSmall,
    "fcn_patch_small": FCNPatchSmall,
    "fcn_mobilenet_v2": FCNMobileNetV2,
    "fcn_resnet50": _torchvision(segmentation.fcn_resnet50, aux=True),
    "fcn_resnet101": _torchvision(segmentation.fcn_resnet101, aux=True),
    "deeplabv3_resnet50": _torchvision(segmentation.deeplabv3_resnet50, aux=True),
    "deeplabv3_resnet101": _torchvision(segmentation.deeplabv3_resnet101, aux=True),
    "deeplabv3_mobilenet_v3_large": _torchvision(
        segmentation.deeplabv3_mobilenet_v3_large, aux=True
    ),
    "lraspp_mobilenet_v3_large": _torchvision(
        segmentation.lraspp_mobilenet_v3_large, aux=False
    ),
    "fcn_convnext_tiny": FCNConvNeXtTiny,
    "upernet_swin_t": UPerNetSwinT,
    "setr_vit_b_16": SETRViTB16,
    "cnn_small": CNNSmall,
    "mobilenet_v2": lambda classes: mobilenet_v2(weights=None, num_classes=classes),
    "resnet18": lambda classes: resnet18(weights=None, num_classes=classes),
    "resnet50": lambda classes: resnet50(weights=None, num_classes=classes),
    "resnet18_cifar": _resnet18_cifar,
}


HALVES: dict[str, Callable[..., nn.Module]] = {
    "sliced_segmenter": Segmenter,
    "sliced_classifier": Classifier,
}


def build_model(spec: recipe.Model, classes: int) -> nn.Module:
    """Build the architecture and load its initial weights.

    Parameters are drawn from torch's global random state: seed it first.

    Args:
        spec: The recipe's [model] section.
        classes: Number of classes K, without the ignored one.

    Raises:
        WeightsError: The weights do not fit, or are not on this machine.
        RecipeError: The backbone of a model in two halves has not the maps named.
    """
    if spec.name in HALVES:
        return _in_halves(spec, classes)
    model = ARCHITECTURES[spec.name](classes)
    load_weights(model, spec)
    return model


def _in_halves(spec: recipe.Model, classes: int) -> nn.Module:
    """A public backbone, and private slices with random weights."""
    model = sliced(spec, classes, HALVES[spec.name])
    if isinstance(model.backbone, Backbone) and spec.weights != "none":
        model.backbone.load_public(read_weights(spec), source=spec.weights)
    return model


def logits_of(output: Tensor | dict[str, Tensor]) -> Tensor:
    """Return the logits in a model's output: a tensor, or torchvision's {"out": …}.

    Shape:
        returns  (N, classes, H, W), or (N, classes) for a classification
    """
    return output if isinstance(output, Tensor) else output["out"]
