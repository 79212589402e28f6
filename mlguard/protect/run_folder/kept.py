"""Tensors that a run keeps for itself: authenticated, and sealed if need be.

An adversary who can write a checkpoint into a run folder could choose the weights that
its owner goes on from, and then signs. So the state of an unfinished run carries
authentication tags under the key of the run (docs/spec/sealed-tensors-v1.md), and is
parsed only after they are verified. Nothing is ever pickled.
"""

import hashlib
import io
import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from mlguard.errors import MalformedRun, TamperedRun, TamperedTensors, WrongKey
from mlguard.files import atomic_write
from mlguard.keys import ModelSubkeys, TrainingSecret
from mlguard.protect.run_folder.limits import read_whole
from mlguard.protect.run_folder.weights import PRIVATE, contiguous
from mlguard.sealing import (
    TAG_BYTES,
    FileKey,
    TensorHeader,
    chunks_of,
    new_salt,
    open_tensor,
    seal_tensor,
)

MAGIC = b"mlguard kept 1\n"
HEAD = struct.Struct(f"<{len(MAGIC)}s?32s32sI")  # hidden, salt, commitment, tags
BYTE = 2  # the number of unsigned bytes in ONNX


def is_kept(data: bytes) -> bool:
    """Whether the bytes of a weights file were written by a Keeper."""
    return data.startswith(MAGIC)


def is_hidden(path: Path) -> bool:
    """Whether a weights file was written by a Keeper, encrypted.

    Raises:
        MalformedRun: It cannot be read.
    """
    try:
        with path.open("rb") as file:
            head = file.read(HEAD.size)
    except OSError as error:
        raise MalformedRun(f"cannot read {path}: {error.strerror}") from None
    return len(head) == HEAD.size and is_kept(head) and bool(HEAD.unpack(head)[1])


@dataclass(frozen=True)
class Keeper:
    """A writer and reader of the tensors that one run keeps.

    Attributes:
        subkeys: The subkeys of its protection; for a plain run, its secret.
        role: "run", or "twin" for the plain twin in it; neither is accepted as the
            other.
        hidden: Whether to encrypt what is written. Reading detects it.
    """

    subkeys: ModelSubkeys | TrainingSecret
    role: str = "run"
    hidden: bool = False

    def write(self, path: Path, tensors: Mapping[str, Tensor], note: str = "") -> str:
        """Write tensors and a note; return the file's SHA-256, in hex.

        Raises:
            OutputError: There is no space, or the folder is not writable.
        """
        data = save(contiguous(tensors), {"note": note})
        salt, sink = new_salt(), io.BytesIO()
        key = FileKey.of_owner(self.subkeys, salt)
        header = self._header(path, len(data))
        tags = seal_tensor(key, 0, header, data, sink, hidden=self.hidden)
        head = HEAD.pack(MAGIC, self.hidden, salt, key.commitment, len(tags))
        whole = b"".join((head, *tags, sink.getbuffer()))
        atomic_write(path, whole, mode=PRIVATE)
        return hashlib.sha256(whole).hexdigest()

    def read(self, path: Path, *, limit: int) -> tuple[dict[str, Tensor], str]:
        """Read tensors and the note, from the bytes that were authenticated.

        Args:
            path: The file.
            limit: The most bytes it may have.

        Raises:
            TamperedRun: It was changed after this run wrote it.
            MalformedRun: It is missing, cannot be read or is too large.
        """
        return self.parse(path, read_whole(path, limit))

    def parse(self, path: Path, whole: bytes) -> tuple[dict[str, Tensor], str]:
        """Parse the bytes of a file, as `read` does.

        Raises:
            TamperedRun: It was changed after this run wrote it.
            MalformedRun: A later version of mlguard wrote it.
        """
        data = self._opened(path, whole)
        try:
            (header,) = struct.unpack_from("<Q", data)
            note = json.loads(data[8 : 8 + header])["__metadata__"]["note"]
            return dict(load(data)), str(note)
        except (SafetensorError, struct.error, LookupError, ValueError) as error:
            raise MalformedRun(
                f"{path} was written by a version of mlguard that this one cannot read:"
                f" {error}"
            ) from None

    def _opened(self, path: Path, whole: bytes) -> bytes:
        try:
            magic, hidden, salt, commitment, count = HEAD.unpack_from(whole)
            tags_end = HEAD.size + TAG_BYTES * count
            size = len(whole) - tags_end
            if magic != MAGIC or size < 0 or count != chunks_of(size):
                raise ValueError("not laid out as this run lays it out")
            tags = [
                whole[place : place + TAG_BYTES]
                for place in range(HEAD.size, tags_end, TAG_BYTES)
            ]
            key = FileKey.of_owner(self.subkeys, salt)
            key.check(commitment, name=str(path))
            into, source = bytearray(size), io.BytesIO(whole)
            source.seek(tags_end)
            header = self._header(path, size)
            open_tensor(
                key, 0, header, source, into, tags, name=str(path), hidden=hidden
            )
        except (struct.error, ValueError, WrongKey, TamperedTensors):
            raise TamperedRun(f"{path} was changed after this run wrote it") from None
        return bytes(into)

    def _header(self, path: Path, size: int) -> TensorHeader:
        return TensorHeader(f"{self.role}/{path.name}", BYTE, (size,))
