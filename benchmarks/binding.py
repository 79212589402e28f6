"""What does a bound model cost at inference? Ratios of two things measured in one run.

The plain model, with nothing but normalization before it, against the model bound in
several ways, with the keyed preprocess graph before it; both as ONNX graphs in
onnxruntime, run in turns (aim for the recommended method: at most 3 % more). Batch
norms are folded by the exporter in every graph, so they make no difference here.

    python benchmarks/binding.py                          # on the CPU, a minute or two
    python benchmarks/binding.py --model fcn_resnet50 --size 256
"""

import argparse
import time

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from mlguard.bundle import FeatureMapFacts
from mlguard.bundle.preprocess_graph import build_preprocess_graph
from mlguard.engine import onnxruntime
from mlguard.keys import ModelKey, new_protection_id
from mlguard.models import ARCHITECTURES, Normalization
from mlguard.models.binding import layers_of, prepare_stem
from mlguard.models.conditions import feature_channels
from mlguard.protect.binding import fold
from mlguard.protect.export import export_graph
from mlguard.transforms import TransformSet, derive_channels, derive_transform

OPSET, IR_VERSION = 20, 10
CLASSES = 21
WAYS = (("shf",), ("orthogonal",), ("one layer",))
TOGETHER = ("orthogonal", "one layer")
Run = list[onnxruntime.InferenceSession]


def main() -> None:
    options = parse()
    torch.manual_seed(0)
    shape = (options.batch, 3, options.size, options.size)
    images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    threads = options.threads
    plain = sessions(new_model(options), TransformSet(), (), threads)
    print(f"onnxruntime {onnxruntime.__version__}, {options.threads} threads")
    print(
        f"{options.model}, {options.batch} images of {options.size}² pixels, ", end=""
    )
    print(f"blocks of {options.block_size}; time of bound / plain")
    for way in (*WAYS, TOGETHER):
        bound = sessions(*bind(new_model(options), way, options), way, threads)
        times = [(seconds(bound, images), seconds(plain, images)) for _ in range(9)]
        ratios = sorted(one / other for one, other in times[2:])
        middle = ratios[len(ratios) // 2]
        print(
            f"{' + '.join(way):24} {middle:6.3f}  ({ratios[0]:.3f} – {ratios[-1]:.3f})"
        )


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--model", choices=ARCHITECTURES, default="fcn_mobilenet_v2")
    parser.add_argument("--block-size", type=int, default=4, help="M, pixels")
    parser.add_argument("--size", type=int, default=256, help="pixels")
    parser.add_argument("--batch", type=int, default=4, help="images")
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


def new_model(options: argparse.Namespace) -> nn.Module:
    torch.manual_seed(0)
    return ARCHITECTURES[options.model](CLASSES).eval()


def bind(
    model: nn.Module, way: tuple[str, ...], options: argparse.Namespace
) -> tuple[nn.Module, TransformSet]:
    """Bind a model under a key of its own."""
    subkeys = ModelKey.generate().for_model(new_protection_id())
    image, size = None, (options.size, options.size)
    if way[0] in ("shf", "orthogonal"):
        prepare_stem(model, options.block_size)
        image = derive_transform(way[:1], subkeys, options.block_size)
    layers: tuple[str, ...] = ()
    if way[-1] == "one layer":
        can = [one.name for one in layers_of(model, size) if not one.refusal]
        layers = (can[len(can) // 2],)
    channels = derive_channels(
        subkeys, feature_channels(model, layers, size), signs=False
    )
    transforms = TransformSet(image, channels)
    fold(model, transforms, Normalization())
    return model, transforms


def sessions(
    model: nn.Module, transforms: TransformSet, way: tuple[str, ...], threads: int
) -> Run:
    """The two graphs of a bundle, their slots filled."""
    methods = way[:1] if transforms.image is not None else ()
    preprocess = build_preprocess_graph(
        methods,
        transforms.block_size,
        mean=Normalization().mean,
        std=Normalization().std,
        opset=OPSET,
        ir_version=IR_VERSION,
    )
    facts = [
        FeatureMapFacts(layer=one.layer, channels=len(one.order), signs=False)
        for one in transforms.channels
    ]
    graph = export_graph(model, OPSET, facts)
    image_slots = {} if transforms.image is None else transforms.image.slots()
    return [
        session(preprocess.SerializeToString(), image_slots, threads),
        session(graph.SerializeToString(), transforms.channel_slots(), threads),
    ]


def session(
    graph: bytes, slots: dict[str, NDArray[np.generic]], threads: int
) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    if slots:
        values = [onnxruntime.OrtValue.ortvalue_from_numpy(v) for v in slots.values()]
        options.add_external_initializers(list(slots), values)
    return onnxruntime.InferenceSession(
        graph, options, providers=["CPUExecutionProvider"]
    )


def seconds(run: Run, images: NDArray[np.uint8]) -> float:
    """One pass through both graphs."""
    preprocess, model = run
    start = time.perf_counter()
    (pixels,) = preprocess.run(["pixels"], {"images": images})
    model.run(["logits"], {"pixels": pixels})
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
