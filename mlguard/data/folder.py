"""The `folder` layout: images/, masks/ and one list of ids for each split.

The id is a file's name without its suffix. Each folder is listed once, rather than
looked into for every id, and nothing a list says can lead out of it.
"""

from pathlib import Path

from mlguard.data.files import PairPaths
from mlguard.errors import DatasetError
from mlguard.files import read_bounded

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")
LAYOUT = "images/<id>.jpg or .png, masks/<id>.png, and <split>.txt with one id a line"
MAX_LIST_BYTES = 1 << 28  # 256 MiB is millions of ids; anything larger is no list


def folder_ids(root: Path, split: str) -> tuple[str, ...]:
    """Read the ids of one split.

    Raises:
        DatasetError: The folder or the list is missing, the list is empty, or a line
            is not a plain and unique name.
    """
    if not root.is_dir():
        raise DatasetError(
            f"no folder {root}", hint=f"expected a folder that holds {LAYOUT}"
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
    images = _files(root / "images", IMAGE_SUFFIXES)
    masks = _files(root / "masks", (".png",))
    return [
        PairPaths(
            id=name,
            image=_only(name, images, root / "images", "image"),
            mask=_only(name, masks, root / "masks", "mask"),
        )
        for name in ids
    ]


def read_list(path: Path) -> tuple[str, ...]:
    """Read a list of ids, one a line; empty lines are skipped.

    Raises:
        DatasetError: It is missing, empty, not text, or has an id that is repeated or
            not a plain name.
    """
    lines = _text(path).splitlines()
    first_line: dict[str, int] = {}
    for number, line in enumerate(lines, start=1):
        name = line.strip()
        if not name:
            continue
        if is_unsafe(name):
            raise DatasetError(
                f"{path}, line {number}: {name!r} is not a plain name",
                hint="an id is a file's name without folder and suffix",
            )
        if name in first_line:
            raise DatasetError(
                f"{path}, line {number}: {name} is already in line {first_line[name]}",
                hint="list every id once",
            )
        first_line[name] = number
    if not first_line:
        raise DatasetError(f"{path} is empty", hint="list one id a line")
    return tuple(first_line)


def _text(path: Path) -> str:
    try:
        return read_bounded(path, MAX_LIST_BYTES).decode("utf-8-sig")
    except FileNotFoundError:
        raise DatasetError(
            f"no list {path}", hint=f"expected in {path.parent}: {LAYOUT}"
        ) from None
    except UnicodeDecodeError:
        raise DatasetError(
            f"{path} is not UTF-8 text", hint="list one id a line, in UTF-8"
        ) from None
    except OSError as error:
        raise DatasetError(
            f"cannot read {path}: {error.strerror}",
            hint="a list of ids is a text file with one id a line",
        ) from None


def _files(folder: Path, suffixes: tuple[str, ...]) -> dict[str, list[Path]]:
    """Every file by its stem. One listing is much faster than a look for each id."""
    found: dict[str, list[Path]] = {}
    try:
        for path in sorted(folder.iterdir()):
            if path.suffix.lower() in suffixes:
                found.setdefault(path.stem, []).append(path)
    except OSError as error:
        raise DatasetError(
            f"cannot read the folder {folder}: {error.strerror}",
            hint=f"expected in {folder.parent}: {LAYOUT}",
        ) from None
    return found


def _only(name: str, files: dict[str, list[Path]], folder: Path, what: str) -> Path:
    candidates = files.get(name, [])
    if not candidates:
        hint = "add the file, or take the id out of the list"
        if Path(name).suffix.lower() in IMAGE_SUFFIXES:
            hint = f"ids have no suffix: write {Path(name).stem} in the list"
        raise DatasetError(f"no {what} for id {name} in {folder}", hint=hint)
    if len(candidates) > 1:
        names = " and ".join(path.name for path in candidates)
        raise DatasetError(
            f"two {what}s for id {name} in {folder}: {names}", hint="keep one of them"
        )
    return candidates[0]


def is_unsafe(name: str) -> bool:
    """Whether a name could leave its folder."""
    return name in {"", ".", ".."} or any(mark in name for mark in "/\\:\0")
