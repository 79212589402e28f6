"""The `voc` layout: PASCAL VOC 2012 as torchvision unpacks it."""

from pathlib import Path
from urllib.error import URLError

from torchvision.datasets import VOCSegmentation

from mlguard.data.files import PairPaths
from mlguard.data.folder import Images, Masks, read_list
from mlguard.errors import DatasetError

YEAR = "2012"
BASE = Path("VOCdevkit") / "VOC2012"
LISTS = BASE / "ImageSets" / "Segmentation"
SPLITS = ("train", "trainval", "val")  # 1464, 2913 and 1449 images
ARCHIVE = "VOCtrainval_11-May-2012.tar"
PARTS = (LISTS, BASE / "JPEGImages", BASE / "SegmentationClass")
LAYOUT = (
    f"expected DIR/{BASE.as_posix()}/ with JPEGImages/<id>.jpg, "
    "SegmentationClass/<id>.png and ImageSets/Segmentation/<split>.txt"
)
FETCH = (
    f"unpack {ARCHIVE} (2 GB, from the PASCAL VOC 2012 site) in DIR, "
    "or let --download do it"
)


def voc_ids(root: Path, split: str, *, download: bool = False) -> tuple[str, ...]:
    """Return the ids of one split, after fetching VOC 2012 if asked and missing.

    Raises:
        DatasetError: The layout is missing, the split does not exist, or the download
            failed.
    """
    if split not in SPLITS:
        raise DatasetError(
            f"VOC 2012 has no split {split!r}, only {', '.join(SPLITS)}",
            hint='your own lists need kind = "folder"',
        )
    if download and _missing(root):
        _download(root)
    if missing := _missing(root):
        raise DatasetError(
            f"no VOC 2012 in {root}: {missing} is missing; {LAYOUT}",
            hint=_elsewhere(root) or FETCH,
        )
    return read_list(root / LISTS / f"{split}.txt")


def voc_pairs(root: Path, ids: tuple[str, ...]) -> list[PairPaths]:
    """Return the image and the mask of every id; they are checked when read."""
    images = Images(root / BASE / "JPEGImages", root)
    masks = Masks(root / BASE / "SegmentationClass", root)
    return [
        PairPaths(name, images.of(name, default=".jpg"), masks.of(name, default=".png"))
        for name in ids
    ]


def _missing(root: Path) -> str:
    """Return the first missing part of the layout, or an empty text."""
    absent = (part.as_posix() for part in PARTS if not (root / part).is_dir())
    return next(absent, "")


def _elsewhere(root: Path) -> str:
    """Return advice for a path one or two folders too deep, the usual mistake."""
    for above in (root.parent, root.parent.parent):
        if not _missing(above):
            return f"this is a folder inside the layout; give {above} instead"
    return ""


def _download(root: Path) -> None:
    try:
        root.mkdir(parents=True, exist_ok=True)
        VOCSegmentation(str(root), year=YEAR, image_set="train", download=True)
    # A refused connection, a wrong checksum, a full disk.
    except (URLError, OSError, RuntimeError, EOFError) as error:
        raise DatasetError(
            f"VOC 2012 could not be downloaded to {root}: {error}",
            hint=f"fetch {ARCHIVE} by other means and unpack it in {root}",
        ) from None
