"""Read an untrusted ONNX file, and refuse it if it cannot be used."""

import re
from collections.abc import Iterable
from pathlib import Path

from google.protobuf.message import DecodeError, EncodeError
from onnx import ModelProto, TensorProto

from mlguard.bundle.graph_limits import check_graph
from mlguard.engine import ORT_ERRORS
from mlguard.errors import MalformedBundle, ModelFileError
from mlguard.files import read_bounded
from mlguard.foreign.sessions import first_line, load
from mlguard.kinds import but_is

MAX_BYTES = (1 << 31) - 1  # protocol buffers end at 2 GiB; weights may lie beside
ORT_FORMAT = b"ORTM"  # at byte 4 of onnxruntime's own format
TOO_NEW = re.compile(
    r"max supported IR version|till opset|is under development|"
    r"is not a registered function/op|No Op registered for"
)


def read_model(path: Path) -> ModelProto:
    """Read an ONNX file without its data files.

    Raises:
        ModelFileError: The file is missing, or is not an ONNX file.
    """
    return parse_model(read_file(path), name=str(path))


def read_file(path: Path) -> bytes:
    """Read the bytes of a model's file.

    Raises:
        ModelFileError: The file is missing, or is in onnxruntime's own format.
    """
    try:
        data = read_bounded(path, MAX_BYTES)
    except OSError as error:
        raise ModelFileError(
            f"cannot read model {path}: {error.strerror}", hint="check the path"
        ) from None
    if data[4:8] == ORT_FORMAT:
        raise ModelFileError(
            f"{path} is in onnxruntime's own format, expected ONNX",
            hint="use the .onnx file that it was made from",
        )
    return data


def parse_model(data: bytes, *, name: str) -> ModelProto:
    """Read the bytes of an ONNX file.

    Raises:
        ModelFileError: They are not an ONNX file.
    """
    try:
        model: ModelProto = ModelProto.FromString(data)
    except DecodeError:
        model = ModelProto()
    if not model.HasField("graph") or not model.opset_import:
        raise ModelFileError(
            f"{name} is not an ONNX file{but_is(data) or ', or a damaged one'}",
            hint="export a model of another library to ONNX first; docs/models/ says "
            "how",
        )
    return model


def check_one_file(model: ModelProto, data: bytes, *, name: str) -> None:
    """Refuse a model that reads other files, or exceeds the limits of a bundle.

    Args:
        model: The model.
        data: The bytes of its file.
        name: Its name in a refusal.

    Raises:
        ModelFileError: It does.
    """
    held: Iterable[TensorProto] = model.graph.initializer
    if any(one.data_location == TensorProto.EXTERNAL for one in held):
        raise ModelFileError(
            f"{name} has its weights in other files, expected one file",
            hint="join them: onnx.save(onnx.load(FILE), NEW)",
        )
    try:
        check_graph(data, name=name, foreign=True)
    except MalformedBundle as refusal:
        raise ModelFileError(str(refusal)) from None


def check_original(original: Path | bytes, model: ModelProto, *, name: str) -> None:
    """Refuse a model that the installed onnxruntime does not run.

    Args:
        original: The model.
        model: The same model, parsed.
        name: Its name in a refusal.

    Raises:
        ModelFileError: It does not run; too new operator sets are named as such.
    """
    try:
        load(original, optimize=False)
    except ORT_ERRORS as error:
        reason = first_line(error)
    else:
        return
    if TOO_NEW.search(reason):
        sets = ", ".join(
            f"{o.domain or 'ai.onnx'} {o.version}" for o in model.opset_import
        )
        raise ModelFileError(
            f"{name}: the model is newer than the installed onnxruntime, or uses "
            f"operators that it lacks: IR version {model.ir_version}, "
            f"operator sets {sets}: {reason}",
            hint="update onnxruntime, or export the model for an older opset",
        )
    raise ModelFileError(
        f"{name}: onnxruntime does not load the model: {reason}",
        hint="only a model that plain onnxruntime runs can be protected",
    )


def serialized(model: ModelProto) -> bytes:
    """Return the bytes of a model without its weights.

    Raises:
        ModelFileError: The rest is larger than 2 GiB.
    """
    try:
        return bytes(model.SerializeToString(deterministic=True))
    except (EncodeError, ValueError):
        raise ModelFileError(
            "the graph without its weights is larger than 2 GiB",
            hint="attributes and strings stay in the graph, and this model has too "
            "many",
        ) from None
