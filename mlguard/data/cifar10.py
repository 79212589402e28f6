"""The `cifar10` layout: CIFAR-10 in its binary version, which needs no pickle.

The version for Python is a set of pickles, and a pickle runs whatever its author wrote
into it; it is never opened. The binary version holds the same images: records of one
label and 3 × 32 × 32 bytes, ten thousand to a file.

Source: Krizhevsky 2009, "Learning multiple layers of features from tiny images"; the
    layout is described on the data set's page, www.cs.toronto.edu/~kriz/cifar.html.
"""

import hashlib
import tarfile
import tempfile
import zlib
from pathlib import Path
from urllib.error import URLError

import numpy as np
from torchvision.datasets.utils import download_url

from mlguard.data.labelled import Pair
from mlguard.errors import DatasetError
from mlguard.files import atomic_write

CIFAR10_CLASS_NAMES = (
    "airplane", "automobile", "bird", "cat", "deer",
    "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip
SIDE = 32  # pixels
RECORD_BYTES = 1 + 3 * SIDE * SIDE
RECORDS = 10_000  # of a file
FOLDER = "cifar-10-batches-bin"
FILES = {
    "train": tuple(f"data_batch_{number}.bin" for number in range(1, 6)),
    "test": ("test_batch.bin",),
}
ARCHIVE = "cifar-10-binary.tar.gz"
ADDRESS = f"https://www.cs.toronto.edu/~kriz/{ARCHIVE}"
MD5 = "c32a1d4ab5d03f1284b67883e8d87530"  # on the data set's page
DAMAGED_ARCHIVE = (tarfile.TarError, zlib.error, KeyError)
PICKLES = "cifar-10-batches-py"
LAYOUT = f"expected DIR/{FOLDER}/ with data_batch_1.bin … data_batch_5.bin and "
LAYOUT += "test_batch.bin"
FETCH = f"unpack {ARCHIVE} (162 MB, from {ADDRESS}) in DIR, or let --download do it"


class Cifar10Source:
    """A source that reads one record at a time."""

    def __init__(self, root: Path, ids: tuple[str, ...]) -> None:
        self.ids = ids
        self.ignored = ""
        self._folder = root / FOLDER

    def read(self, index: int) -> Pair:
        """Read one image and its class.

        Raises:
            DatasetError: The file is missing or truncated, or the class is unknown.
        """
        split, number = self.ids[index].split("-")
        file, place = divmod(int(number), RECORDS)
        path = self._folder / FILES[split][file]
        try:
            with path.open("rb") as opened:
                opened.seek(place * RECORD_BYTES)
                record = opened.read(RECORD_BYTES)
        except OSError as error:
            raise DatasetError(
                f"cannot read {path}: {error.strerror}", hint=FETCH
            ) from None
        if len(record) != RECORD_BYTES or record[0] >= len(CIFAR10_CLASS_NAMES):
            found = f"the class {record[0]}" if record else "nothing"
            raise DatasetError(
                f"{path}: image {place} is damaged: {found} in {len(record)} bytes",
                hint="fetch the archive again",
            )
        planes = np.frombuffer(record, dtype=np.uint8, offset=1)
        image = planes.reshape(3, SIDE, SIDE).transpose(1, 2, 0)
        return Pair(image, np.array(record[0]), hashlib.sha256(record).digest())


def cifar10_ids(root: Path, split: str, *, download: bool = False) -> tuple[str, ...]:
    """Return the ids of one split, after fetching CIFAR-10 if asked and missing.

    Raises:
        DatasetError: A file is missing or has another size, the split does not exist,
            or the download failed.
    """
    if split not in FILES:
        raise DatasetError(
            f"CIFAR-10 has no split {split!r}, only {' and '.join(FILES)}",
            hint="data.validation = 5000 holds images out of the training list",
        )
    folder = root / FOLDER
    if download and not folder.is_dir():
        _download(root)
    for name in FILES[split]:
        _check(folder / name, root)
    count = RECORDS * len(FILES[split])
    return tuple(f"{split}-{index:05d}" for index in range(count))


def _check(path: Path, root: Path) -> None:
    expected = RECORDS * RECORD_BYTES
    if not path.is_file():
        missing = path.relative_to(root)
        hint = FETCH
        if (root / PICKLES).is_dir():
            hint = (
                f"{PICKLES} is the pickled version, and pickles are never opened; "
                f"{hint}"
            )
        raise DatasetError(
            f"no CIFAR-10 in {root}: {missing} is missing; {LAYOUT}", hint=hint
        )
    if (size := path.stat().st_size) != expected:
        raise DatasetError(
            f"{path} has {size} bytes, expected {expected}",
            hint="fetch the archive again",
        )


def _download(root: Path) -> None:
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=root) as folder:
            download_url(ADDRESS, folder, md5=MD5)
            _unpack(Path(folder) / ARCHIVE, Path(folder) / FOLDER)
            (Path(folder) / FOLDER).rename(root / FOLDER)
    # A refused connection, a wrong checksum, a full disk.
    except (URLError, OSError, RuntimeError, EOFError, *DAMAGED_ARCHIVE) as error:
        raise DatasetError(
            f"CIFAR-10 could not be downloaded to {root}: {error}",
            hint=f"fetch {ADDRESS} by other means and unpack it in {root}",
        ) from None


def _unpack(archive: Path, folder: Path) -> None:
    """Unpack the six files needed from the archive, and nothing else."""
    folder.mkdir()
    with tarfile.open(archive, "r:gz") as members:
        for name in (*FILES["train"], *FILES["test"]):
            member = members.extractfile(f"{FOLDER}/{name}")
            if member is None:
                raise tarfile.TarError(f"{name} is not a file")
            atomic_write(folder / name, member.read(RECORDS * RECORD_BYTES + 1))
