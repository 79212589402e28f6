"""Tensors as the Open Inference Protocol sends them: a JSON header, then their bytes.

This is its binary tensor data extension, which Triton, KServe, OpenVINO's server and
others implement:
https://kserve.github.io/website/docs/concepts/architecture/data-plane. A server's
answer is untrusted: it is bounded and checked before use.
"""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mlguard.bundle import Tensor2
from mlguard.errors import RemoteError, ShapeError
from mlguard.runtime.types import ELEMENT_OF, NUMPY_OF
from mlguard.validation import problems_of, refuse_crowded

MAX_HEADER_BYTES = 1 << 20  # JSON; a tensor's description takes about 100
MAX_TENSORS = 1000
TEXTS = "BYTES"  # have no fixed size, and are not needed here

Name = Annotated[str, Field(max_length=1024)]
Size = Annotated[int, Field(ge=0, le=1 << 40)]
Axis = Annotated[int, Field(ge=-1, le=1 << 40)]


class Loose(BaseModel):
    """A part of an answer; unknown fields are ignored."""

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore")


class Placed(Loose):
    """The size of a tensor's bytes, which follow the header."""

    binary_data_size: Size


class Announced(Loose):
    """A tensor in the header of an answer."""

    name: Name
    datatype: Annotated[str, Field(max_length=100)]
    shape: Annotated[list[Size], Field(max_length=64)]
    parameters: Placed


class Answer(Loose):
    """The header of an answer."""

    outputs: Annotated[list[Announced], Field(max_length=MAX_TENSORS)]


class Described(Loose):
    """A tensor in a server's description of a model."""

    name: Name
    datatype: Annotated[str, Field(max_length=100)]
    shape: Annotated[list[Axis], Field(max_length=64)]


class Model(Loose):
    """A server's description of a model."""

    inputs: Annotated[list[Described], Field(max_length=MAX_TENSORS)]
    outputs: Annotated[list[Described], Field(max_length=MAX_TENSORS)]


def encode(
    tensors: Mapping[str, NDArray[Any]],
    inputs: Sequence[Tensor2],
    outputs: Sequence[Tensor2],
) -> tuple[bytes, list[memoryview]]:
    """Encode a request: its header, and the bytes of each tensor, which are not copied.

    Args:
        tensors: The tensors by name, as `inputs` describes them.
        inputs: The inputs of the model.
        outputs: The outputs to ask for.

    Raises:
        ShapeError: A tensor is missing, is not an input, has another type or shape, or
            holds a number that is not finite.
    """
    if set(tensors) != {one.name for one in inputs}:
        names = ", ".join(one.name for one in inputs)
        given = ", ".join(tensors) or "none"
        raise ShapeError(f"expected tensors {names}, got {given}")
    listed, parts = [], []
    for about in inputs:
        array = np.asarray(tensors[about.name], order="C")
        if problem := misfit(about, array.dtype, array.shape):
            raise ShapeError(problem)
        if not finite(array):
            raise ShapeError(f"tensor {about.name!r} has a number that is not finite")
        listed.append(
            {
                "name": about.name,
                "datatype": about.datatype,
                "shape": list(array.shape),
                "parameters": {"binary_data_size": array.nbytes},
            }
        )
        parts.append(array.reshape(-1).view(np.uint8).data)
    asked = [{"name": one.name, "parameters": {"binary_data": True}} for one in outputs]
    header = json.dumps({"inputs": listed, "outputs": asked}).encode()
    return header, parts


def decode(
    body: bytearray, header_size: int | None, outputs: Sequence[Tensor2], *, name: str
) -> dict[str, NDArray[Any]]:
    """Decode an answer, and check that it holds exactly the outputs asked for.

    Args:
        body: The bytes that the server sent.
        header_size: The size of the header, as the server says.
        outputs: The outputs asked for.
        name: The name of the server in a refusal.

    Raises:
        RemoteError: The answer is malformed, has other tensors, or holds a number that
            is not finite.
    """
    if header_size is None or not 0 < header_size <= min(len(body), MAX_HEADER_BYTES):
        raise RemoteError(
            f"{name}: expected tensors as bytes behind a header of JSON",
            hint="the server must support the binary tensor data extension",
        )
    answer = parse(Answer, body[:header_size], name=name)
    found: dict[str, NDArray[Any]] = {}
    at, about = header_size, {one.name: one for one in outputs}
    for one in answer.outputs:
        if one.name not in about or one.name in found:
            raise RemoteError(f"{name} sent {one.name!r}, which was not asked for")
        found[one.name] = _taken(one, about[one.name], body, at, name=name)
        at += one.parameters.binary_data_size
    if missing := sorted(set(about) - set(found)):
        raise RemoteError(f"{name} did not send {missing[0]!r}")
    if at != len(body):
        raise RemoteError(f"{name}: {len(body) - at} bytes are left over")
    return found


Part = TypeVar("Part", bound=Loose)


def parse(kind: type[Part], data: bytes | bytearray, *, name: str) -> Part:
    """Parse JSON as one of the classes above.

    Raises:
        RemoteError: It does not match the class.
    """
    try:
        text = bytes(data)
        refuse_crowded(text)
        return kind.model_validate_json(text)
    except ValidationError as error:
        problem = problems_of(error, whole="the answer")[0]
    except ValueError as error:
        problem = f"the answer {error}"
    raise RemoteError(f"{name}: {problem}")


def same_model(
    model: Model, inputs: Sequence[Tensor2], outputs: Sequence[Tensor2]
) -> str | None:
    """Return how a server's model differs from these tensors, if it does.

    Args:
        model: The server's description of the model.
        inputs: The inputs that it must have.
        outputs: The outputs that it must have, at least.
    """
    for verb, asked, there in (
        ("takes", inputs, model.inputs),
        ("gives", outputs, model.outputs),
    ):
        known = {one.name: one for one in there}
        for about in asked:
            one = known.get(about.name)
            if one is None:
                return f"its model {verb} no {about.name!r}"
            fits = about.shape is None or (
                len(one.shape) == len(about.shape)
                and all(
                    -1 in (a, b) or a == b
                    for a, b in zip(one.shape, about.shape, strict=True)
                )
            )
            if one.datatype != about.datatype or not fits:
                return (
                    f"its model {verb} {about.name!r} as {_word(one.datatype)} of "
                    f"{one.shape}, expected {about.datatype} of {_shape(about)}"
                )
    extra = {one.name for one in model.inputs} - {one.name for one in inputs}
    return f"its model takes {sorted(extra)[0]!r} too" if extra else None


def misfit(about: Tensor2, dtype: np.dtype[Any], shape: Sequence[int]) -> str | None:
    """Return how a type and shape differ from a tensor's description, if they do."""
    asked = about.shape
    fits = asked is None or (
        len(asked) == len(shape)
        and all(a in (-1, b) for a, b in zip(asked, shape, strict=True))
    )
    if fits and dtype == numpy_type(about.datatype):
        return None
    return (
        f"tensor {about.name!r}: expected {about.datatype} of {_shape(about)}, got "
        f"{dtype} of {list(shape)}"
    )


def numpy_type(datatype: str) -> np.dtype[Any] | None:
    """Return the numpy type for one of the protocol's; None if there is none."""
    found = NUMPY_OF.get(ELEMENT_OF.get(datatype, 0))
    return None if datatype == TEXTS else found


def finite(array: NDArray[Any]) -> bool:
    """Whether all numbers of a tensor are finite, as integers always are."""
    return array.dtype.kind != "f" or bool(np.isfinite(array).all())


def _taken(
    one: Announced, about: Tensor2, body: bytearray, at: int, *, name: str
) -> NDArray[Any]:
    dtype = numpy_type(one.datatype)
    if dtype is None or misfit(about, dtype, one.shape):
        raise RemoteError(
            f"{name} gives {one.name!r} as {_word(one.datatype)} of {one.shape}, "
            f"expected {about.datatype} of {_shape(about)}"
        )
    size = one.parameters.binary_data_size
    if size != math.prod(one.shape) * dtype.itemsize or size > len(body) - at:
        raise RemoteError(
            f"{name} gives {one.name!r} of {one.shape} in {size} bytes, but sent "
            f"{len(body) - at}"
        )
    try:
        array = np.frombuffer(body, dtype, math.prod(one.shape), at).reshape(one.shape)
    except ValueError:  # empty, and yet beyond what numpy lays out
        raise RemoteError(
            f"{name} gives {one.name!r} of {one.shape}, which is too large"
        ) from None
    if not finite(array):
        raise RemoteError(f"{name} gives {one.name!r} with numbers that are not finite")
    return array


def _shape(about: Tensor2) -> str:
    return "any shape" if about.shape is None else str(list(about.shape))


def _word(said: str) -> str:
    """Return a word of a server's on one line of printable characters."""
    return ascii(said)[1:-1]
