"""What do the keyed transforms cost? Ratios of two things measured in one run.

For every method, beside what it is compared with:

- the torch back-end against a straightforward loop over blocks in numpy, and against a
  plain copy of the tensor it returns (aim: near a few copies);
- a training step with the transform against one without (aim: at most 3 % more);
- preprocess.onnx against the model's graph in onnxruntime (aim: at most 3 %).

    python benchmarks/transforms.py                       # on the CPU, about a minute
    python benchmarks/transforms.py --model fcn_resnet50 --device cuda --batch 64
    python benchmarks/transforms.py --model fcn_small --size 64 --batch 32   # the demo
"""

import argparse
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mlguard.bundle.preprocess_graph import build_preprocess_graph
from mlguard.engine import onnxruntime
from mlguard.keys import ModelKey, new_protection_id
from mlguard.models import ARCHITECTURES, Normalization, logits_of
from mlguard.models.conditions import TorchTransform, plain
from mlguard.protect.export import export_graph
from mlguard.transforms import Transform, derive_transform

CHAINS = (("shf",), ("np",), ("ffx",), ("np", "shf", "ffx"))
CLASSES = 21
OPSET, IR_VERSION = 20, 10


def main() -> None:
    options = parse()
    torch.manual_seed(0)
    shape = (options.batch, 3, options.size, options.size)
    images = torch.randint(0, 256, shape, dtype=torch.uint8, device=options.device)
    step, work = training_step(options), Normalization()
    step_s = seconds(lambda: step(work(plain(images))), images)
    model_s = onnx_seconds(model_session(options), {"pixels": work(plain(images))})
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    print(f"{options.model} on {options.device}, {options.batch} images of")
    print(f"{options.size} × {options.size} pixels, blocks of {options.block_size}")
    print(f"{'':12} {'loop /':>8} {'torch /':>8} {'training':>9} {'onnx /':>8}")
    print(f"{'':12} {'torch':>8} {'copy':>8} {'step':>9} {'model':>8}")
    for methods in CHAINS:
        subkeys = ModelKey.generate().for_model(new_protection_id())
        transform = derive_transform(methods, subkeys, options.block_size)
        keyed = TorchTransform(transform, options.device)
        keyed_s = seconds(partial(keyed, images), images)
        plain_s = seconds(partial(plain, images), images)
        copy_s = seconds(keyed(images).clone, images)
        onnx_s = onnx_seconds(
            preprocess_session(transform, methods), {"images": images}
        )
        print(
            f"{'+'.join(methods):12} {loop_seconds(transform, images) / keyed_s:7.0f}×"
            f" {keyed_s / copy_s:7.1f}× {(keyed_s - plain_s) / step_s:+9.2%}"
            f" {onnx_s / model_s:8.2%}"
        )


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--model", choices=ARCHITECTURES, default="fcn_mobilenet_v2")
    parser.add_argument("--block-size", type=int, default=4, help="M, pixels")
    parser.add_argument("--size", type=int, default=256, help="pixels")
    parser.add_argument("--batch", type=int, default=16, help="images")
    parser.add_argument("--device", default="cpu")
    return parser.parse_args()


def seconds(work: Callable[[], object], images: Tensor, *, least: float = 0.5) -> float:
    """The fastest of several runs, at least three and at least `least` seconds."""
    runs: list[float] = []
    begun = time.perf_counter()
    while len(runs) < 4 or time.perf_counter() - begun < least:
        start = time.perf_counter()
        work()
        if images.is_cuda:
            torch.cuda.synchronize()
        runs.append(time.perf_counter() - start)
    return min(runs[1:])  # the first one makes tables and finds memory


def training_step(options: argparse.Namespace) -> Callable[[Tensor], None]:
    """Forward, loss, backward and update, as in training."""
    model = ARCHITECTURES[options.model](CLASSES).to(options.device).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
    shape = (options.batch, options.size, options.size)
    masks = torch.randint(0, CLASSES, shape, device=options.device)

    def step(pixels: Tensor) -> None:
        optimizer.zero_grad(set_to_none=True)
        loss = nn.functional.cross_entropy(logits_of(model(pixels)), masks)
        loss.backward()
        optimizer.step()

    return step


def loop_seconds(transform: Transform, images: Tensor) -> float:
    """A loop over the blocks of one image, for as many images as there are."""
    image = images[0].cpu().numpy().transpose(1, 2, 0).astype(np.int32)
    size, scale = transform.block_size, np.float32(transform.scale)
    shown = np.empty(image.shape, dtype=np.float32)

    def loop() -> None:
        for top in range(0, image.shape[0], size):
            for left in range(0, image.shape[1], size):
                place = np.s_[top : top + size, left : left + size]
                changed = transform.transform_blocks(image[place].ravel())
                shown[place] = changed.reshape(size, size, 3) / scale

    return seconds(loop, images[:0].cpu()) * len(images)


def preprocess_session(
    transform: Transform, methods: tuple[str, ...]
) -> onnxruntime.InferenceSession:
    graph = build_preprocess_graph(
        methods,
        transform.block_size,
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        opset=OPSET,
        ir_version=IR_VERSION,
    )
    return session(graph.SerializeToString(), transform.slots())


def model_session(options: argparse.Namespace) -> onnxruntime.InferenceSession:
    graph = export_graph(ARCHITECTURES[options.model](CLASSES).eval(), OPSET)
    return session(graph.SerializeToString(), {})


def session(file: bytes, slots: dict[str, NDArray]) -> onnxruntime.InferenceSession:
    """On the CPU, with the threads that torch has."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    values = [onnxruntime.OrtValue.ortvalue_from_numpy(v) for v in slots.values()]
    if slots:
        options.add_external_initializers(list(slots), values)
    return onnxruntime.InferenceSession(
        file, options, providers=["CPUExecutionProvider"]
    )


def onnx_seconds(
    loaded: onnxruntime.InferenceSession, feeds: dict[str, Tensor]
) -> float:
    """The first output for one image, as in prediction."""
    first = {name: tensor[:1].cpu().numpy() for name, tensor in feeds.items()}
    output = loaded.get_outputs()[0].name
    return seconds(lambda: loaded.run([output], first), torch.empty(0))


if __name__ == "__main__":
    main()
