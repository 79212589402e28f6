"""Seal and open the bytes of tensors and of blobs, in one pass, a piece at a time.

Every byte is read once, so the bytes authenticated are the bytes returned. A file is
read and not mapped: nobody can change a byte between the two halves of AES-GCM, a
truncated file leads to a refusal and not to a signal, and no mapped page counts as
memory in use. docs/spec/sealed-tensors-v1.md, sections 2 to 4.
"""

import struct
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import GCM

from mlguard.errors import TamperedTensors
from mlguard.sealing import tensors
from mlguard.sealing.file_key import FileKey
from mlguard.sealing.tensors import TensorHeader, chunks_of

DOMAIN = b"mlguard.sealed-tensors/1\0"
TAG_BYTES = 16
PIECE_BYTES = 1 << 20  # read and decrypted at a time; small enough for a CPU's cache
MAX_BLOB_BYTES = (1 << 31) - 1
IN_THE_CLEAR = b"\x01"


def seal_tensor(
    key: FileKey,
    index: int,
    header: TensorHeader,
    data: Any,
    sink: BinaryIO,
    *,
    hidden: bool = True,
) -> tuple[bytes, ...]:
    """Write a tensor's ciphertext, which is as long as the tensor.

    Args:
        key: The key of the file.
        index: Its place in the file's table; no other tensor of the file has it.
        header: The tensor's name, type and shape.
        data: A buffer of its bytes.
        sink: Where the ciphertext goes, at its present position.
        hidden: False to write the bytes in the clear, and authenticate them only.

    Returns:
        The tags, one for each chunk.
    """
    given = _flat(data)
    secret, count = key.key(f"tensor/{index}"), chunks_of(len(given))
    tags = []
    for number, chunk in enumerate(_chunks(given)):
        associated = _of_tensor(index, header, count, number)
        cipher = _Cipher(secret, number, associated, hidden=hidden)
        for piece in _pieces(chunk):
            sink.write(cipher.seal(piece))
        tags.append(cipher.tag())
    return tuple(tags)


def open_tensor(
    key: FileKey,
    index: int,
    header: TensorHeader,
    source: BinaryIO,
    into: Any,
    tags: Sequence[bytes],
    *,
    name: str,
    hidden: bool = True,
) -> None:
    """Decrypt and authenticate a tensor. Do not read `into` before this returns.

    Args:
        key: The key of the file, its commitment checked.
        index: The tensor's place in the file's table.
        header: The tensor's name, type and shape, from the file.
        source: The file, at the tensor's first byte.
        into: A buffer of the tensor's size, for the plain bytes.
        tags: One for each chunk.
        name: The name of the file in a refusal.
        hidden: Whether it was encrypted, as for `seal_tensor`.

    Raises:
        TamperedTensors: The tensor was changed or moved, or the file ends within it.
        ValueError: There are more or fewer tags than chunks.
    """
    target = _flat(into)
    secret, count = key.key(f"tensor/{index}"), chunks_of(len(target))
    if len(tags) != count:
        raise ValueError(f"expected {count} tags, got {len(tags)}")
    what = f"{name}: tensor {header.name!r}"
    for number, chunk in enumerate(_chunks(target)):
        associated = _of_tensor(index, header, count, number)
        try:
            if hidden and len(chunk) <= PIECE_BYTES:
                _open_piece(
                    secret, number, associated, tags[number], source, chunk, what
                )
                continue
            cipher = _Cipher(secret, number, associated, tags[number], hidden=hidden)
            cipher.read(source, chunk, name=what)
            cipher.verify()
        except InvalidTag:
            target[:] = bytes(len(target))
            raise TamperedTensors(f"{what} was changed after it was sealed") from None


def seal_blob(
    key: FileKey, blob: str, data: bytes, *, hidden: bool = True
) -> tuple[bytes, bytes]:
    """Seal a blob that is not a tensor, such as a graph or a table.

    Args:
        key: The key of the file.
        blob: Its name; no other blob of the file has it.
        data: At most 2 GiB.
        hidden: False to leave the bytes in the clear, and authenticate them only.

    Returns:
        The sealed bytes, of the same length, and their tag.

    Raises:
        ValueError: There are too many bytes.
    """
    if len(data) > MAX_BLOB_BYTES:
        raise ValueError(f"{blob} has {len(data)} bytes, at most {MAX_BLOB_BYTES} fit")
    cipher = _Cipher(key.key(f"blob/{blob}"), 0, _of_blob(blob), hidden=hidden)
    return bytes(cipher.seal(memoryview(data))), cipher.tag()


def open_blob(
    key: FileKey, blob: str, data: bytes, tag: bytes, *, name: str, hidden: bool = True
) -> bytes:
    """Decrypt and authenticate a blob, as `open_tensor` does.

    Raises:
        TamperedTensors: The blob was changed after it was sealed.
    """
    cipher = _Cipher(key.key(f"blob/{blob}"), 0, _of_blob(blob), tag, hidden=hidden)
    opened = bytes(cipher.open(memoryview(data)))
    try:
        cipher.verify()
    except InvalidTag:
        raise TamperedTensors(
            f"{name}: {blob} was changed after it was sealed"
        ) from None
    return opened


def _open_piece(
    key: bytes,
    number: int,
    associated: bytes,
    tag: bytes,
    source: BinaryIO,
    target: memoryview,
    name: str,
) -> None:
    """Decrypt a chunk of one piece at once, as most tensors are; as `_Cipher` does."""
    sealed = bytearray(len(target) + TAG_BYTES)
    _fill(source, memoryview(sealed)[: len(target)], name=name)
    sealed[len(target) :] = tag
    AESGCM(key).decrypt_into(struct.pack("<I8x", number), sealed, associated, target)


class _Cipher:
    """AES-256-GCM over one chunk, a piece at a time.

    If it is not hidden, the data is associated data and the plaintext is empty.
    """

    def __init__(
        self,
        key: bytes,
        number: int,
        associated: bytes,
        tag: bytes | None = None,
        *,
        hidden: bool,
    ) -> None:
        nonce = struct.pack("<I8x", number)
        cipher = Cipher(AES256(key), GCM(nonce, tag))
        self._context: Any = cipher.encryptor() if tag is None else cipher.decryptor()
        self._context.authenticate_additional_data(associated)
        self._hidden = hidden
        if not hidden:
            self._context.authenticate_additional_data(IN_THE_CLEAR)

    def seal(self, piece: memoryview) -> bytes | memoryview:
        if self._hidden:
            context: CipherContext = self._context
            return context.update(piece)
        self._context.authenticate_additional_data(piece)
        return piece

    open = seal  # AES-GCM goes the same way in both directions

    def read(self, source: BinaryIO, target: memoryview, *, name: str) -> None:
        """Fill a buffer from a file, decrypting what is hidden."""
        scratch = memoryview(bytearray(min(PIECE_BYTES, len(target))))
        for place in _pieces(target):
            piece = scratch[: len(place)] if self._hidden else place
            _fill(source, piece, name=name)
            if self._hidden:
                self._context.update_into(piece, place)
            else:
                self._context.authenticate_additional_data(piece)

    def tag(self) -> bytes:
        self._context.finalize()
        return bytes(self._context.tag)

    def verify(self) -> None:
        self._context.finalize()


def _fill(source: BinaryIO, piece: memoryview, *, name: str) -> None:
    filled = 0
    while filled < len(piece):
        count = source.readinto(piece[filled:])  # type: ignore[attr-defined]
        if not count:
            raise TamperedTensors(f"{name}: the file ends within it")
        filled += count


def _flat(data: Any) -> memoryview:
    view = memoryview(data)  # an empty one cannot be cast
    return view.cast("B") if view.nbytes else memoryview(bytearray())


def _chunks(data: memoryview) -> Iterator[memoryview]:
    """Split data into at least one chunk, which is empty if the data is."""
    for number in range(chunks_of(len(data))):
        start = number * tensors.CHUNK_BYTES
        yield data[start : start + tensors.CHUNK_BYTES]


def _pieces(data: memoryview) -> Iterator[memoryview]:
    for start in range(0, len(data), PIECE_BYTES):
        yield data[start : start + PIECE_BYTES]


def _of_tensor(index: int, header: TensorHeader, count: int, number: int) -> bytes:
    """Return the associated data of one chunk."""
    name, rank = header.name.encode(), len(header.shape)
    numbers = struct.pack("<5I", index, count, number, header.element_type, rank)
    sizes = struct.pack(f"<{rank}Q", *header.shape)
    return b"".join((DOMAIN, numbers, sizes, struct.pack("<I", len(name)), name))


def _of_blob(name: str) -> bytes:
    return DOMAIN + b"blob\0" + name.encode()
