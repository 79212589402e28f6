"""Choose the requested device, or refuse."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from accelerate import Accelerator, DataLoaderConfiguration

from mlguard.errors import RunError

DEVICES = ("auto", "cpu", "cuda")


def pick_device(name: str) -> torch.device:
    """Return the device of a name; "auto" takes a GPU if there is one.

    Raises:
        RunError: The name is unknown, or this machine lacks such a device.
    """
    if name not in DEVICES:
        raise RunError(
            f"--device: expected {', '.join(DEVICES)}, got {name!r}",
            hint="auto takes a GPU if there is one",
        )
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise RunError(
            "--device cuda: torch does not find a CUDA device",
            hint="`mlguard doctor` says what is missing; --device cpu always works",
        )
    return torch.device("cuda" if available and name != "cpu" else "cpu")


def new_accelerator(device: str, precision: str) -> Accelerator:
    """The engine under the training loop.

    Args:
        device: "auto", "cpu" or "cuda".
        precision: "no", "fp16" or "bf16".

    Raises:
        RunError: This machine lacks such a device, it cannot compute in that precision,
            or this process has begun to train in another one.
    """
    on_cpu = pick_device(device).type == "cpu"
    if on_cpu and precision == "fp16":
        raise RunError(
            "train.precision is fp16, in which a CPU cannot train",
            hint="choose bf16 or no with --set train.precision=…",
        )
    try:
        return Accelerator(
            cpu=on_cpu,
            mixed_precision=precision,
            dataloader_config=DataLoaderConfiguration(split_batches=True),
        )
    except ValueError:
        raise RunError(
            f"this process has already trained in a precision other than {precision!r}",
            hint="train in a new process",
        ) from None


@contextmanager
def enough_memory(advice: str) -> Iterator[None]:
    """Turn a device without memory into a refusal.

    Args:
        advice: How to need less memory.

    Raises:
        RunError: The device ran out of memory.
    """
    try:
        yield
    except torch.OutOfMemoryError:
        raise RunError("the device has too little memory", hint=advice) from None
