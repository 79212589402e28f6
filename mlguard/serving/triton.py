"""A Triton model repository around a bundle. The key is not in it.

    NAME/config.pbtxt     inputs, outputs, batching, where the key comes from
    NAME/1/model.py       two lines: the code is mlguard.serving.triton_model
    NAME/1/model.mlgb     the bundle, as it is

The repository can lie where anybody reads it: the bundle is sealed, and config.pbtxt
names the place where the server finds the key, not the key.
"""

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from keystore.textform import looks_secret
from mlguard.bundle import Bundle2, Glimpse, Tensor2, glimpse_bundle, image_of, task_of
from mlguard.bundle.about import predicts, shown_inputs
from mlguard.errors import OptionError, OutputExists
from mlguard.files import read_bounded, write_new

BUNDLE = "model.mlgb"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")
SOURCE = re.compile(r"[ -~]{1,1000}")  # printable ASCII
MAX_CONFIG_BYTES = 1 << 20
SMALL = 256  # classes, whose numbers fit into a byte
NUMBERS = ("INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64")
TYPES = {
    **{name: f"TYPE_{name}" for name in (*NUMBERS, "BOOL", "FP16", "FP32", "FP64")},
    "BYTES": "TYPE_STRING",
}
MODEL = '''"""Serve the bundle beside this file."""

from mlguard.serving.triton_model import TritonPythonModel

__all__ = ["TritonPythonModel"]
'''


@dataclass(frozen=True)
class Served:
    """How a bundle is served.

    Attributes:
        name: The model's name at the server.
        key_source: Where the server finds the key; see `open_key`. May be empty: then
            the server's environment must say it.
        version: A new version goes beside the old ones of the same name.
        instances: How many copies run at a time, each with a session of its own.
        max_batch: The most images that one call of the model gets.
        queue_us: How long a request waits for others to make a batch, microseconds.
        threads: Of each instance; 0 leaves it to onnxruntime.
    """

    name: str
    key_source: str = ""
    version: int = 1
    instances: int = 1
    max_batch: int = 8
    queue_us: int = 1000
    threads: int = 0


def write_repository(bundle: Path, out: Path, served: Served) -> Path:
    """Write a model repository, or add a version to one.

    Args:
        bundle: The bundle.
        out: The repository; made if it is not there.
        served: How to serve it.

    Returns:
        The folder of the model.

    Raises:
        BundleError: The bundle cannot be read, or does not follow its specification.
        OptionError: A name or number cannot stand in a configuration.
        OutputExists: The repository has this version of the model already.
        OutputError: There is no space, or the place is not writable.
    """
    _check(served)
    config = configuration(glimpse_bundle(bundle), served)
    folder = out / served.name
    version = folder / str(served.version)
    if version.exists():
        raise OutputExists(
            f"{out} has version {served.version} of {served.name} already",
            hint="choose another --version",
        )
    _check_same(folder / "config.pbtxt", config)
    version.mkdir(parents=True)
    if not (folder / "config.pbtxt").exists():
        write_new(folder / "config.pbtxt", config.encode())
    write_new(version / "model.py", MODEL.encode())
    shutil.copyfile(bundle, version / BUNDLE)
    return folder


def configuration(bundle: Bundle2 | Glimpse, served: Served) -> str:
    """The text of config.pbtxt.

    A model of images takes 8-bit images and gives classes, and requests go through it
    together: Triton adds the axis of the batch. Any other takes and gives the bundle's
    own tensors, one request at a time.

    Raises:
        OptionError: The bundle has a tensor of a type that Triton does not know.
    """
    manifest = bundle.manifest
    image, task = image_of(manifest), task_of(manifest)
    head = f'name: "{served.name}"\nbackend: "python"\n'
    tail = f"""instance_group [ {{ kind: KIND_CPU count: {served.instances} }} ]
parameters {{ key: "key_source" value: {{ string_value: "{served.key_source}" }} }}
parameters {{ key: "threads" value: {{ string_value: "{served.threads}" }} }}
"""
    single = predicts(manifest.inputs, image, task)
    if image is None or task is None or not single:
        if not isinstance(bundle, Bundle2):
            raise AssertionError("a bundle of format 1 takes images")
        tensors = "".join(map(_input, shown_inputs(bundle.manifest.inputs, image)))
        tensors += "".join(map(_output, bundle.manifest.outputs))
        return f"{head}max_batch_size: 0\n{tensors}{tail}"
    sides = ", ".join("-1" for _ in image.size)
    classifies = task.name == "classification"
    wide = classifies or len(task.class_names) > SMALL
    kind = "TYPE_INT64" if classifies else "TYPE_UINT16" if wide else "TYPE_UINT8"
    answer = f"dims: [ {sides} ]"
    if classifies:
        answer = "dims: [ 1 ]\n    reshape: { shape: [ ] }"
    return f"""{head}max_batch_size: {served.max_batch}
input [
  {{
    name: "images"
    data_type: TYPE_UINT8
    dims: [ {image.channels}, {sides} ]
  }}
]
output [
  {{
    name: "classes"
    data_type: {kind}
    {answer}
  }}
]
dynamic_batching {{ max_queue_delay_microseconds: {served.queue_us} }}
{tail}"""


def _input(tensor: Tensor2) -> str:
    return f"input [ {_tensor(tensor)} ]\n"


def _output(tensor: Tensor2) -> str:
    return f"output [ {_tensor(tensor)} ]\n"


def _tensor(tensor: Tensor2) -> str:
    if tensor.datatype not in TYPES or tensor.shape is None:
        raise OptionError(
            "the repository",
            [f"tensor {tensor.name!r}: Triton knows no {tensor.datatype}"],
        )
    if set(tensor.name) & set('"\\') or not tensor.name.isprintable():
        raise OptionError(
            "the repository",
            [f"tensor {tensor.name!r}: Triton takes no such name"],
        )
    dims = ", ".join(map(str, tensor.shape)) or "1"
    kind = TYPES[tensor.datatype]
    return f'{{ name: "{tensor.name}" data_type: {kind} dims: [ {dims} ] }}'


def _check_same(path: Path, config: str) -> None:
    """Refuse a version that would be served otherwise than the configuration says.

    Raises:
        OptionError: The model's configuration is there, and is another one.
    """
    try:
        there = read_bounded(path, MAX_CONFIG_BYTES).decode(errors="replace")
    except FileNotFoundError:
        return
    except OSError as error:
        raise OptionError("the repository", [f"{path}: {error.strerror}"]) from None
    if there != config:
        raise OptionError(
            "the repository",
            [f"{path} says something else than this version needs; all share it"],
        )


def _check(served: Served) -> None:
    problems = []
    if not NAME.fullmatch(served.name):
        problems.append(
            "name: expected letters, digits, - and _, at most 100, "
            f"got {served.name[:100]!r}"
        )
    if served.key_source and (
        not SOURCE.fullmatch(served.key_source)
        or set(served.key_source) & set('"\\')
        or looks_secret(served.key_source)
    ):
        problems.append("key_source: expected the place of a key, not a key, no quotes")
    for field, least in (("version", 1), ("instances", 1), ("max_batch", 1)):
        if getattr(served, field) < least:
            problems.append(f"{field}: expected at least {least}")
    if problems:
        raise OptionError("the repository", problems)
