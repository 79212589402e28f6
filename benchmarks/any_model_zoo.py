"""Models of many libraries as ONNX files, for any_model.py; weights are random.

No hub is asked for anything. A library that is not installed, or an export that fails,
is said and passed over.
"""

import importlib
import importlib.util
import shutil
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

OPSET = 18
SIDE = 224
Make = Callable[[Path], None]


@dataclass(frozen=True)
class Model:
    """One model of the zoo.

    Attributes:
        library: What brings it; the package to import.
        name: The file is called `<library>-<name>.onnx`.
        make: Writes the file.
    """

    library: str
    name: str
    make: Make

    @property
    def file(self) -> str:
        """What its file is called."""
        return f"{self.library}-{self.name}.onnx".replace("/", "_")


def export(module: Any, inputs: tuple[Any, ...], path: Path, **how: Any) -> None:
    """Export a torch module in eval mode, with torch's current exporter."""
    import torch

    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        options: dict[str, Any] = {"dynamo": True, "external_data": False} | how
        torch.onnx.export(
            module.eval(), inputs, path, opset_version=OPSET, verbose=False, **options
        )


def image(channels: int = 3, side: int = SIDE, axes: int = 2) -> Any:
    import torch

    return torch.rand(1, channels, *[side] * axes)


def part(module: Any, take: Callable[[Any], Any]) -> Any:
    """A module that gives a part of another's answer."""
    from torch import nn

    class Part(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.whole = module

        def forward(self, *inputs: Any) -> Any:
            return take(self.whole(*inputs))

    return Part()


def first(answer: Any) -> Any:
    """What stands first in an answer: the predictions, without feature maps."""
    while isinstance(answer, (tuple, list)):
        answer = answer[0]
    return answer


def of_torchvision() -> Iterator[Model]:
    from torchvision import models

    names = "resnet50 mobilenet_v2 densenet121 convnext_tiny swin_t vit_b_16"
    names += " shufflenet_v2_x1_0 efficientnet_b0 googlenet regnet_y_400mf alexnet"
    for name in names.split():

        def make(path: Path, name: str = name) -> None:
            more = {"init_weights": False, "aux_logits": False}
            more = more if name == "googlenet" else {}
            export(getattr(models, name)(weights=None, **more), (image(),), path)

        yield Model("torchvision", name, make)
    for name in ("fcn_resnet50", "lraspp_mobilenet_v3_large"):

        def make_segmentation(path: Path, name: str = name) -> None:
            build = getattr(models.segmentation, name)
            module = build(weights=None, weights_backbone=None)
            apart = name.startswith("fcn")  # one model with a data file beside it
            module = part(module, lambda answer: answer["out"])
            export(module, (image(),), path, external_data=apart)

        yield Model("torchvision", name, make_segmentation)

    def make_detection(path: Path) -> None:
        build = models.detection.ssdlite320_mobilenet_v3_large
        module = build(weights=None, weights_backbone=None)
        given = ([image(side=320)[0]],)
        export(module, given, path, dynamo=False, external_data=True)

    yield Model("torchvision", "ssdlite320_mobilenet_v3_large", make_detection)

    def make_half(path: Path) -> None:
        module = models.resnet18(weights=None).half()
        export(module, (image().half(),), path)

    yield Model("torchvision", "resnet18_fp16", make_half)


def of_timm() -> Iterator[Model]:
    import timm

    names = "efficientnet_b0 mobilenetv3_large_100 regnety_008 vit_tiny_patch16_224"
    names += " mobilevit_s convnextv2_atto deit3_small_patch16_224"
    for name in names.split():

        def make(path: Path, name: str = name) -> None:
            module = timm.create_model(name, pretrained=False)
            side = 256 if name == "mobilevit_s" else SIDE
            export(module, (image(side=side),), path)

        yield Model("timm", name, make)


def of_segmentation_models_pytorch() -> Iterator[Model]:
    import segmentation_models_pytorch as smp

    for name, encoder in (
        ("Unet", "resnet18"),
        ("FPN", "mobilenet_v2"),
        ("DeepLabV3Plus", "resnet18"),
        ("Segformer", "mit_b0"),
        ("MAnet", "resnet18"),
    ):

        def make(path: Path, name: str = name, encoder: str = encoder) -> None:
            module = getattr(smp, name)(encoder, encoder_weights=None, classes=11)
            export(module, (image(),), path)

        yield Model("segmentation_models_pytorch", f"{name}_{encoder}", make)


def of_transformers() -> Iterator[Model]:
    import torch
    import transformers as hf

    def make_segformer(path: Path) -> None:
        module = hf.SegformerForSemanticSegmentation(hf.SegformerConfig())
        export(part(module, lambda answer: answer.logits), (image(),), path)

    yield Model("transformers", "segformer_b0", make_segformer)

    def make_bert(path: Path) -> None:
        config = hf.BertConfig(
            num_hidden_layers=4, hidden_size=256, num_attention_heads=4
        )
        module = hf.BertModel(config)
        ids = torch.ones(1, 32, dtype=torch.int64)
        export(part(module, lambda answer: answer.last_hidden_state), (ids, ids), path)

    yield Model("transformers", "bert_small", make_bert)

    def make_vit(path: Path) -> None:
        config = hf.ViTConfig(
            num_hidden_layers=6, hidden_size=384, num_attention_heads=6
        )
        module = hf.ViTForImageClassification(config)
        export(part(module, lambda answer: answer.logits), (image(),), path)

    yield Model("transformers", "vit_small", make_vit)

    def make_dinov2(path: Path) -> None:
        config = hf.Dinov2Config(
            num_hidden_layers=6, hidden_size=384, num_attention_heads=6
        )
        module = hf.Dinov2Model(config)
        export(part(module, lambda answer: answer.last_hidden_state), (image(),), path)

    yield Model("transformers", "dinov2_small", make_dinov2)

    def make_whisper(path: Path) -> None:
        config = hf.WhisperConfig(
            encoder_layers=4, d_model=384, encoder_attention_heads=6
        )
        module = hf.WhisperModel(config).encoder
        sound = torch.rand(1, 80, 3000)
        export(part(module, lambda answer: answer.last_hidden_state), (sound,), path)

    yield Model("transformers", "whisper_tiny_encoder", make_whisper)


def of_monai() -> Iterator[Model]:
    from monai.networks import nets

    sizes = {"channels": (16, 32, 64, 128), "strides": (2, 2, 2), "num_res_units": 2}

    def make_unet(path: Path, axes: int) -> None:
        module = nets.UNet(spatial_dims=axes, in_channels=1, out_channels=2, **sizes)
        export(module, (image(1, 64, axes),), path)

    yield Model("monai", "unet_2d", lambda path: make_unet(path, 2))
    yield Model("monai", "unet_3d", lambda path: make_unet(path, 3))

    def make_segresnet(path: Path) -> None:
        module = nets.SegResNet(spatial_dims=2, in_channels=4, out_channels=3)
        export(module, (image(4, 128),), path)

    yield Model("monai", "segresnet_4_channels", make_segresnet)

    def make_densenet(path: Path) -> None:
        module = nets.DenseNet121(spatial_dims=3, in_channels=1, out_channels=2)
        export(module, (image(1, 64, 3),), path)

    yield Model("monai", "densenet121_3d", make_densenet)


def of_ultralytics() -> Iterator[Model]:
    from ultralytics import YOLO

    for name in ("yolov8n", "yolo11n", "yolov8n-seg", "yolov8n-cls"):

        def make(path: Path, name: str = name) -> None:
            module = part(YOLO(f"{name}.yaml").model, first)
            export(module, (image(side=320),), path, dynamo=False)

        yield Model("ultralytics", name, make)


def of_keras() -> Iterator[Model]:
    import keras
    import torch

    for name in ("MobileNetV2", "EfficientNetB0", "ResNet50"):

        def make(path: Path, name: str = name) -> None:
            module = getattr(keras.applications, name)(
                weights=None, input_shape=(SIDE, SIDE, 3)
            )
            given = torch.rand(1, SIDE, SIDE, 3)
            export(module, (given,), path)

        yield Model("keras", name, make)


def of_onnxruntime() -> Iterator[Model]:
    """Models of the zoo, their weights quantized by onnxruntime."""
    quantization = importlib.import_module("onnxruntime.quantization")  # after mlguard

    for source in ("transformers-bert_small", "timm-vit_tiny_patch16_224"):

        def make(path: Path, source: str = source) -> None:
            plain = path.parent / f"{source}.onnx"
            quantization.quantize_dynamic(
                plain, path, weight_type=quantization.QuantType.QInt8
            )

        yield Model("onnxruntime", f"{source}_int8", make)


WHEELS = {  # packages whose wheels hold trained models
    "silero_vad": ("silero_vad", "silero_vad_16k_op15", "silero_vad_half"),
    "rapidocr_onnxruntime": (
        "ch_PP-OCRv4_det_infer",
        "ch_PP-OCRv4_rec_infer",
        "ch_ppocr_mobile_v2.0_cls_infer",
    ),
    "magika": ("model",),
    "nudenet": ("320n",),
}


def of_wheels() -> Iterator[Model]:
    for package, names in WHEELS.items():
        spec = importlib.util.find_spec(package)
        if spec is None or not spec.submodule_search_locations:
            print(f"{package}: not installed")
            continue
        folder = Path(spec.submodule_search_locations[0])
        for name in names:
            (found,) = folder.rglob(f"{name}.onnx")
            yield Model(package, name, lambda path, f=found: shutil.copy(f, path))


LIBRARIES = {
    "torchvision": of_torchvision,
    "timm": of_timm,
    "segmentation_models_pytorch": of_segmentation_models_pytorch,
    "transformers": of_transformers,
    "monai": of_monai,
    "ultralytics": of_ultralytics,
    "keras": of_keras,
    "onnxruntime": of_onnxruntime,
    "wheels": of_wheels,
}


def make(folder: Path, libraries: list[str]) -> None:
    """Write all models that are not there yet."""
    for library in libraries or LIBRARIES:
        try:
            models = list(LIBRARIES[library]())
        except ImportError as error:
            print(f"{library}: {error}")
            continue
        for model in models:
            path = folder / model.file
            if path.exists():
                continue
            try:
                model.make(path)
            except Exception:
                reason = traceback.format_exc().strip().rpartition("\n")[2]
                print(f"{model.file}: {reason[:200]}")
                path.unlink(missing_ok=True)
            else:
                print(f"{model.file}: {path.stat().st_size / 1e6:.1f} MB", flush=True)


if __name__ == "__main__":
    target = Path(sys.argv[1])
    target.mkdir(parents=True, exist_ok=True)
    make(target, sys.argv[2:])
