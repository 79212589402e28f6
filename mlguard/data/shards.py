"""The `shards` layout: images and masks in tar archives, as WebDataset writes them.

An archive is never unpacked. Its headers are read once, and an image is read where it
lies, so that positions, shares of processes and the resumption of a run are those of
every other kind. Of its members only images and masks are ever read: WebDataset allows
pickles, texts and arrays, and nothing of them is decoded. docs/decisions/0014.
"""

import os
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from mlguard import recipe
from mlguard.data.files import MAX_FILE_BYTES, PairPaths, decode_pair
from mlguard.data.folder import IMAGE_SUFFIXES, is_unsafe, nfc
from mlguard.data.labelled import Pair
from mlguard.errors import DatasetError
from mlguard.files import is_dropping, open_to_read
from mlguard.kinds import but_is, kind_of

IMAGES = tuple(suffix[1:] for suffix in IMAGE_SUFFIXES)
MASKS = ("mask.png", "seg.png")
LAYOUT = "<split>-000000.tar and so on, each with <id>.jpg and <id>.mask.png"
TAR_MAGIC, MAGIC_AT = b"ustar", 257  # of every archive that is not older than 1988


@dataclass(frozen=True)
class Place:
    """Where a member's bytes lie.

    Attributes:
        shard: The archive.
        name: The member's name in it.
        start: Its first byte in the archive.
        size: How many bytes it has.
    """

    shard: Path
    name: str
    start: int
    size: int

    @property
    def path(self) -> Path:
        """The member as messages name it; there is no such file."""
        return self.shard / self.name


@dataclass
class Index:
    """The members of the archives of one split.

    Attributes:
        images: Where each image is, by id, in the order of the archives.
        masks: Where each mask is, by id.
        others: How many members were passed over.
        first_other: One of them, for a note.
    """

    images: dict[str, Place] = field(default_factory=dict)
    masks: dict[str, Place] = field(default_factory=dict)
    others: int = 0
    first_other: str = ""


class ShardPairs:
    """A source that decodes members of archives."""

    def __init__(self, root: Path, split: str, ids: tuple[str, ...], spec: recipe.Data):
        self.ids = ids
        self._spec = spec
        index = read_index(root, split)
        self._pairs = [(index.images[name], index.masks[name]) for name in ids]
        self.ignored = ""
        if index.others:
            self.ignored = (
                f"{index.others} members of the archives are neither an image nor a "
                f"mask and were not read, first {index.first_other}"
            )

    def read(self, index: int) -> Pair:
        """Decode one pair.

        Raises:
            DatasetError: The archive was changed, a member is damaged, or the two do
                not match.
        """
        image, mask = self._pairs[index]
        paths = PairPaths(self.ids[index], image.path, mask.path)
        return decode_pair(read_place(image), read_place(mask), paths, self._spec)


def shard_ids(root: Path, split: str) -> tuple[str, ...]:
    """List the ids of one split, in the order of its archives.

    Raises:
        DatasetError: There is no archive, one cannot be read, or an id is incomplete
            or there twice.
    """
    index = read_index(root, split)
    for name, place in index.images.items():
        if name not in index.masks:
            raise DatasetError(
                f"{place.path} has no mask in its archive",
                hint=f"a mask is named {name}.mask.png and lies behind its image",
            )
    for name, place in index.masks.items():
        if name not in index.images:
            raise DatasetError(
                f"{place.path} has no image in its archive",
                hint=f"an image is named {name}.jpg, .jpeg or .png",
            )
    if not index.images:
        raise DatasetError(
            f"there is no image in the archives {split}-*.tar of {root}",
            hint=f"expected in {root}: {LAYOUT}",
        )
    return tuple(index.images)


def read_index(root: Path, split: str) -> Index:
    """Read the headers of a split's archives; no member is read.

    Raises:
        DatasetError: There is no archive, one cannot be read, or an id is there twice.
    """
    index = Index()
    for shard in _shards(root, split):
        for member in _members(shard):
            _add(index, shard, member)
    return index


def read_place(place: Place) -> bytes:
    """Read a member.

    Raises:
        DatasetError: The archive is gone or ends within it.
    """
    try:
        with open(place.shard, "rb", opener=open_to_read) as file:
            file.seek(place.start)
            content = file.read(place.size)
    except OSError as error:
        raise _unreadable(place.shard, error) from None
    if len(content) != place.size:
        raise DatasetError(
            f"{place.shard} ends within {place.name}",
            hint="fetch the archive again",
        )
    return content


def _shards(root: Path, split: str) -> list[Path]:
    if is_unsafe(split):
        raise DatasetError(
            f"the recipe's split {split!r} is not a plain name",
            hint="a split named `train` is read from DIR/train-*.tar",
        )
    try:
        names = sorted(entry.name for entry in os.scandir(root))
    except OSError as error:
        raise DatasetError(
            f"cannot read the folder {root}: {error.strerror}",
            hint=f"expected a folder that holds {LAYOUT}",
        ) from None
    own = [name for name in names if _is_of(name, split) and not is_dropping(name)]
    if packed := [name for name in own if not name.endswith(".tar")]:
        raise DatasetError(
            f"{root / packed[0]} is compressed, so no image can be read alone",
            hint="unpack it to a plain .tar: JPEG and PNG are compressed already",
        )
    if not own:
        raise DatasetError(
            f"there is no archive {split}-*.tar in {root}",
            hint=f"expected in {root}: {LAYOUT}",
        )
    return [root / name for name in own]


def _is_of(name: str, split: str) -> bool:
    """Whether a file is an archive of a split: its name, and perhaps a number."""
    stem, dot, suffix = name.partition(".")
    if not dot or suffix not in (
        "tar",
        "tar.gz",
        "tgz",
        "tar.zst",
        "tar.xz",
        "tar.bz2",
    ):
        return False
    number = stem.removeprefix(split)
    return number != stem and (not number or _is_number(number))


def _is_number(text: str) -> bool:
    return text[:1] in "-_" and text[1:].isascii() and text[1:].isdigit()


def _members(shard: Path) -> Iterator[tarfile.TarInfo]:
    """Read the headers of one archive."""
    try:
        with open(shard, "rb", opener=open_to_read) as file:
            size = os.fstat(file.fileno()).st_size
            _check_start(shard, file)
            with tarfile.open(fileobj=file, mode="r:") as archive:
                for member in archive:
                    if member.isreg() and member.offset_data + member.size > size:
                        raise DatasetError(
                            f"{shard} ends within {member.name!r}",
                            hint="fetch the archive again",
                        )
                    yield member
    except OSError as error:
        raise _unreadable(shard, error) from None
    except (tarfile.TarError, UnicodeError, ValueError) as error:
        raise DatasetError(
            f"{shard} is damaged: {error}", hint="fetch the archive again"
        ) from None


def _check_start(shard: Path, file: BinaryIO) -> None:
    start = file.read(MAGIC_AT + len(TAR_MAGIC))
    file.seek(0)
    if not start.endswith(TAR_MAGIC) and (any(start) or kind_of(start)):
        raise DatasetError(
            f"{shard} is not a tar archive{but_is(start)}",
            hint="fetch the archive again, or write it with `tar --format=ustar`",
        )


def _add(index: Index, shard: Path, member: tarfile.TarInfo) -> None:
    folder, _, file = member.name.rpartition("/")
    stem, _, suffix = file.partition(".")
    kind = (
        _kind_of(suffix.lower()) if member.isreg() and not member.issparse() else None
    )
    if kind is None or is_dropping(file) or not stem:
        if not member.isdir() and not is_dropping(file):
            index.others += 1
            index.first_other = index.first_other or f"{shard.name}/{member.name!a}"
        return
    name = nfc(f"{folder}/{stem}" if folder else stem)
    if not name.isprintable():
        raise DatasetError(f"{shard} holds an id with control characters: {name!a}")
    if member.size > MAX_FILE_BYTES:
        raise DatasetError(
            f"{shard}/{member.name} has {member.size} bytes, at most {MAX_FILE_BYTES} "
            "are read"
        )
    place = Place(shard, member.name, member.offset_data, member.size)
    there = kind(index)
    if name in there:
        raise DatasetError(
            f"{place.path} is already in {there[name].shard}",
            hint="an id stands for one image in all archives of a split",
        )
    there[name] = place


def _kind_of(suffix: str) -> Callable[[Index], dict[str, Place]] | None:
    """Return where a member of this suffix belongs; None for what is not read."""
    if suffix in MASKS:
        return lambda index: index.masks
    return (lambda index: index.images) if suffix in IMAGES else None


def _unreadable(shard: Path, error: OSError) -> DatasetError:
    return DatasetError(
        f"cannot read {shard}: {error.strerror}", hint="fetch the archive again"
    )
