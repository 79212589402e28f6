"""Write a Triton model repository around a bundle, without the key.

    NAME/config.pbtxt     inputs, outputs, batching, where the key comes from
    NAME/1/model.py       two lines: the code is mlguard.serving.triton_model
    NAME/1/model.mlgb     the bundle, as it is

Anybody may read the repository: the bundle is sealed, and config.pbtxt names the place
where the server finds the key, not the key.

Where the key stays at the client, the host gets the model of a bundle that is not
sealed, or the public backbone of a split one, and nothing of the key: `1/model.onnx` in
place of the bundle.
"""

import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mlguard.bundle import (
    Bundle2,
    Glimpse,
    Tensor2,
    backbone_of,
    glimpse_bundle,
    image_of,
    task_of,
)
from mlguard.bundle.about import predicts, shown_inputs
from mlguard.errors import BundleError, OptionError, OutputExists
from mlguard.files import read_bounded, write_new
from mlguard.serving.at_host import HostModel, model_at_host
from mlguard.serving.key_sources import holds_secret

BUNDLE = "model.mlgb"
PLAIN = "model.onnx"  # what a host without the key gets
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")
SOURCE = re.compile(r"[ -~]{1,1000}")  # printable ASCII
MAX_CONFIG_BYTES = 1 << 20
SMALL = 256  # classes, whose numbers fit into a byte
NUMBERS = ("INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64")
TYPES = {
    **{name: f"TYPE_{name}" for name in (*NUMBERS, "BOOL", "FP16", "FP32", "FP64")},
    "BYTES": "TYPE_STRING",
}
MODEL = '''"""Serve the {what} beside this file."""

from mlguard.serving.{module} import TritonPythonModel

__all__ = ["TritonPythonModel"]
'''
KeyAt = Literal["server", "client"]


@dataclass(frozen=True)
class Served:
    """How a bundle is served.

    Attributes:
        name: The model's name on the server.
        key_source: Where the server finds the key; see `open_key`. If empty, the
            server's environment must say it.
        version: The version; it is added beside the old ones of the same name.
        instances: How many copies run at a time, each with its own session.
        max_batch: The most images in one call of the model.
        queue_us: How long a request waits for others to form a batch, in microseconds.
        threads: The threads of each instance; 0 for onnxruntime's choice.
        key_at: Who has the key: the server, or the clients alone.
    """

    name: str
    key_source: str = ""
    version: int = 1
    instances: int = 1
    max_batch: int = 8
    queue_us: int = 1000
    threads: int = 0
    key_at: KeyAt = "server"


def write_repository(
    bundle: Path, out: Path, served: Served, *, backbone: Path | None = None
) -> Path:
    """Write a model repository, or add a version to one.

    Args:
        bundle: The bundle.
        out: The repository; created if it does not exist.
        served: How to serve it.
        backbone: Of a split model: its public half, which is what is served; None for
            backbone.onnx beside the bundle.

    Returns:
        The folder of the model.

    Raises:
        BundleError: The bundle or its backbone cannot be read, or does not follow its
            specification; the key is to stay at the client, and the model needs it; or
            it is to come to the server, which runs a public backbone.
        OptionError: A name or number is not valid in a configuration.
        OutputExists: The repository has this version of the model already.
        OutputError: There is no space, or the place is not writable.
    """
    _check(served)
    given = glimpse_bundle(bundle)
    _refuse_in_vain(given, served, backbone)
    if served.key_at == "client":
        plain = model_at_host(given, backbone)
        config = configuration_at_host(plain, served)
    else:
        config = configuration(given, served)
    folder = out / served.name
    version = folder / str(served.version)
    if version.exists():
        raise OutputExists(
            f"{out} already has version {served.version} of {served.name}",
            hint="choose another --version",
        )
    _check_same(folder / "config.pbtxt", config)
    version.mkdir(parents=True)
    if not (folder / "config.pbtxt").exists():
        write_new(folder / "config.pbtxt", config.encode())
    if served.key_at == "client":
        code = MODEL.format(what="model", module="host_model")
        write_new(version / PLAIN, plain.content)
    else:
        code = MODEL.format(what="bundle", module="triton_model")
        shutil.copyfile(bundle, version / BUNDLE)
    write_new(version / "model.py", code.encode())
    return folder


def configuration(bundle: Bundle2 | Glimpse, served: Served) -> str:
    """Return the text of config.pbtxt.

    A model of images takes 8-bit images and returns classes, and requests are batched:
    Triton adds the batch axis. Any other model takes and returns the bundle's own
    tensors, one request at a time.

    Raises:
        OptionError: The bundle has a tensor of a type that Triton does not know.
    """
    manifest = bundle.manifest
    image, task = image_of(manifest), task_of(manifest)
    head = _head(served)
    source = f'string_value: "{served.key_source}"'
    tail = f'parameters {{ key: "key_source" value: {{ {source} }} }}\n{_tail(served)}'
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
{_batching(served)}
{tail}"""


def configuration_at_host(model: HostModel, served: Served) -> str:
    """Return the text of config.pbtxt for a host without a key.

    Raises:
        OptionError: The model has a tensor of a type that Triton does not know.
    """
    tensors = "".join(_input(_of_one(one)) for one in model.inputs)
    tensors += "".join(_output(_of_one(one)) for one in model.outputs)
    batch = max(served.max_batch, model.batch)
    head = f"{_head(served)}max_batch_size: {batch}\n"
    return f"{head}{tensors}{_batching(served)}\n{_tail(served)}"


def _refuse_in_vain(
    bundle: Bundle2 | Glimpse, served: Served, backbone: Path | None
) -> None:
    """Refuse a key where a public half runs, and a public half of a whole model.

    Raises:
        BundleError: One is given in vain.
    """
    splits = backbone_of(bundle.manifest) is not None
    if splits and served.key_at == "server":
        raise BundleError(
            f"{bundle.name} is the private half of a split model: the server runs the "
            "public one, and the key stays at the client",
            hint="give --key-at client",
        )
    if backbone is not None and not splits:
        raise BundleError(
            f"--backbone {backbone}: {bundle.name} is a whole model",
            hint="leave it out",
        )


def _of_one(tensor: Tensor2) -> Tensor2:
    """A tensor without the axis of the batch, which Triton adds."""
    return tensor.model_copy(update={"shape": (tensor.shape or ())[1:]})


def _head(served: Served) -> str:
    return f'name: "{served.name}"\nbackend: "python"\n'


def _batching(served: Served) -> str:
    return f"dynamic_batching {{ max_queue_delay_microseconds: {served.queue_us} }}"


def _tail(served: Served) -> str:
    threads = f'key: "threads" value: {{ string_value: "{served.threads}" }}'
    count = f"kind: KIND_CPU count: {served.instances}"
    return f"instance_group [ {{ {count} }} ]\nparameters {{ {threads} }}\n"


def _input(tensor: Tensor2) -> str:
    return f"input [ {_tensor(tensor)} ]\n"


def _output(tensor: Tensor2) -> str:
    return f"output [ {_tensor(tensor)} ]\n"


def _tensor(tensor: Tensor2) -> str:
    if tensor.datatype not in TYPES or tensor.shape is None:
        raise OptionError(
            "the repository",
            [
                f"tensor {tensor.name!r}: Triton does not support the type "
                f"{tensor.datatype}"
            ],
        )
    if set(tensor.name) & set('"\\') or not tensor.name.isprintable():
        raise OptionError(
            "the repository",
            [f"tensor {tensor.name!r}: Triton does not accept this name"],
        )
    dims = ", ".join(map(str, tensor.shape)) or "1"
    kind = TYPES[tensor.datatype]
    return f'{{ name: "{tensor.name}" data_type: {kind} dims: [ {dims} ] }}'


def _check_same(path: Path, config: str) -> None:
    """Refuse a version that does not match the configuration in place.

    Raises:
        OptionError: The model already has a different configuration.
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
            [f"{path} does not match this version; all versions share it"],
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
        or holds_secret(served.key_source)
    ):
        problems.append(
            "key_source: expected the place of a key, without a secret or quotes"
        )
    if served.key_at == "client" and served.key_source:
        problems.append("key_source: there is none where the key stays at the client")
    for field, least in (("version", 1), ("instances", 1), ("max_batch", 1)):
        if getattr(served, field) < least:
            problems.append(f"{field}: expected at least {least}")
    if problems:
        raise OptionError("the repository", problems)
