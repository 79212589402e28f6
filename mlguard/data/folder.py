"""The `folder` layout: images/, masks/ and one list of ids for each split.

The id is a file's name without its suffix. Each folder is listed once, not searched for
every id, and no entry of a list can lead out of it.
"""

import re
import unicodedata
from pathlib import Path

from mlguard.data.files import INDEX_HINT, PairPaths
from mlguard.errors import DatasetError
from mlguard.files import is_dropping, read_text
from mlguard.kinds import but_is

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")
LAYOUT = "images/<id>.jpg or .png, masks/<id>.png, and <split>.txt with one id per line"
MAX_LIST_BYTES = 1 << 28  # 256 MiB is millions of ids; anything larger is not a list


def folder_ids(root: Path, split: str) -> tuple[str, ...]:
    """Read the ids of one split.

    Raises:
        DatasetError: The folder or the list is missing, the list is empty, or a line
            is not a plain and unique name.
    """
    if not root.is_dir():
        raise DatasetError(
            f"there is no folder {root}", hint=f"expected a folder that holds {LAYOUT}"
        )
    if is_unsafe(split):
        raise DatasetError(
            f"the recipe's split {split!r} is not a plain name",
            hint="a split named `train` is read from DIR/train.txt",
        )
    return read_list(root / f"{split}.txt")


def folder_pairs(root: Path, ids: tuple[str, ...]) -> list[PairPaths]:
    """Find the image and the mask of every id.

    Raises:
        DatasetError: An image or a mask is missing, or an id has two images.
    """
    images, masks = Images(root / "images", root), Masks(root / "masks", root)
    return [PairPaths(name, images.of(name), masks.of(name)) for name in ids]


def read_list(path: Path) -> tuple[str, ...]:
    """Read a list of ids, one per line; empty lines are skipped.

    Raises:
        DatasetError: It is missing, empty, not text, or has an id that is repeated or
            not a plain name.
    """
    lines = _text(path).splitlines()
    first_line: dict[str, int] = {}
    spelled: dict[
        str, str
    ] = {}  # two that look alike count as one, however they are spelled
    for number, line in enumerate(lines, start=1):
        name = line.strip()
        if not name:
            continue
        if is_unsafe(name):
            raise DatasetError(
                f"{path}, line {number}: {name!r} is not a plain name",
                hint="an id is a file's name without folder and suffix: "
                f"write {bare_name(name)}",
            )
        name = spelled.setdefault(nfc(name), name)
        if name in first_line:
            raise DatasetError(
                f"{path}, line {number}: {name} is already in line {first_line[name]}",
                hint="list every id once",
            )
        first_line[name] = number
    if not first_line:
        raise DatasetError(f"{path} is empty", hint="list one id per line")
    return tuple(first_line)


def _text(path: Path) -> str:
    try:
        return read_text(existing(path), MAX_LIST_BYTES)
    except FileNotFoundError:
        raise DatasetError(
            f"there is no list {path}", hint=f"expected in {path.parent}: {LAYOUT}"
        ) from None
    except UnicodeDecodeError as error:
        raise DatasetError(
            f"{path} is not UTF-8 text{but_is(error.object)}",
            hint="list one id per line, in UTF-8",
        ) from None
    except OSError as error:
        raise DatasetError(
            f"cannot read {path}: {error.strerror}",
            hint="a list of ids is a text file with one id per line",
        ) from None


class Files:
    """The files of one folder, by their name without its suffix.

    One listing is much faster than a look-up for each id. Names that look alike count
    as one: a Mac writes é as e with an accent, other systems as one letter.

    Args:
        folder: The folder, listed once.
        root: The data set's folder, for refusals.
    """

    what = "file"
    suffixes: tuple[str, ...] = ()
    expected = ""

    def __init__(self, folder: Path, root: Path) -> None:
        self._folder = folder
        self._found: dict[str, list[Path]] = {}
        try:
            for path in sorted(folder.iterdir()):
                if not is_dropping(path.name):
                    self._found.setdefault(nfc(path.stem), []).append(path)
        except OSError as error:
            raise DatasetError(
                f"cannot read the folder {folder}: {error.strerror}",
                hint=f"expected in {root}: {LAYOUT}",
            ) from None

    def of(self, name: str, *, default: str | None = None) -> Path:
        """Return the one file of an id.

        Args:
            name: The id.
            default: A suffix, to return a path even if no file exists.

        Raises:
            DatasetError: There is none, there are two, or it is of another kind.
        """
        there = self._found.get(nfc(name), [])
        fitting = [path for path in there if path.suffix.lower() in self.suffixes]
        if len(fitting) == 1:
            return fitting[0]
        if fitting:
            names = " and ".join(path.name for path in fitting)
            raise DatasetError(
                f"two {self.what}s for id {name} in {self._folder}: {names}",
                hint="keep one of them",
            )
        missing = f"there is no {self.what} for id {name} in {self._folder}"
        if there:
            raise DatasetError(
                f"{missing}, but there is {there[0].name}", hint=self.expected
            )
        if advice := self._advice(name):
            raise DatasetError(missing, hint=advice)
        if default is not None:
            return self._folder / f"{name}{default}"
        raise DatasetError(missing, hint="add the file, or remove the id from the list")

    def _advice(self, name: str) -> str:
        """Return what the list should say instead, if a part of the line is a file."""
        bare = bare_name(name)
        if Path(name).suffix.lower() in IMAGE_SUFFIXES and bare == Path(name).stem:
            return f"ids have no suffix: write {bare} in the list"
        if bare != name and nfc(bare) in self._found:
            return f"a line holds one id and nothing after it: write {bare}"
        return ""


class Images(Files):
    """The images of a folder."""

    what = "image"
    suffixes = IMAGE_SUFFIXES
    expected = "images must be JPEG or PNG and named so: save it as one of them"


class Masks(Files):
    """The masks of a folder."""

    what = "mask"
    suffixes = (".png",)
    expected = INDEX_HINT


def existing(path: Path) -> Path:
    """Return a path, or else the one beside it whose name looks the same."""
    if path.exists() or path.name.isascii():
        return path
    try:
        alike = (
            one for one in path.parent.iterdir() if nfc(one.name) == nfc(path.name)
        )
        return next(alike, path)
    except OSError:
        return path


def nfc(name: str) -> str:
    """Return a name in the one spelling of letters with accents."""
    return unicodedata.normalize("NFC", name)


def bare_name(line: str) -> str:
    """Return the id meant by a line with a folder, a suffix or a label in it."""
    name = line.split()[0].rstrip(",;") if line.split() else line
    name = re.split(r"[,;]", name)[0].replace("\\", "/").rpartition("/")[2]
    stem, dot, suffix = name.rpartition(".")
    return stem if f"{dot}{suffix}".lower() in IMAGE_SUFFIXES else name


def is_unsafe(name: str) -> bool:
    """Whether a name could leave its folder."""
    return name in {"", ".", ".."} or any(mark in name for mark in "/\\:\0")
