"""The facts behind a result besides its recipe: versions and machine, no host names."""

import os
import platform
from pathlib import Path

import torch

from mlguard.installed import versions_of

PACKAGES = (
    "mlguard",
    "torch",
    "torchvision",
    "accelerate",
    "numpy",
    "onnx",
    "onnxruntime",
    "onnxruntime-gpu",
    "pyffx",
    "pillow",
)


def versions() -> dict[str, str]:
    """Return the version of Python and of every package that can change a result."""
    return {"python": platform.python_version(), **versions_of(PACKAGES)}


def machine(device: torch.device) -> dict[str, str | int]:
    """Return processor, cores, torch's threads and the device, without a host name."""
    name = "cpu"
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
    return {
        "system": platform.system(),
        "processor": _processor(),
        "cores": os.cpu_count() or 1,
        "threads": torch.get_num_threads(),
        "device": name,
    }


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
