"""The `imagefolder` and `imagenet` layouts: one folder for each split and class.

The class of an image is the folder that it lies in. Only names are read: an id is
`<class folder>/<file>`, and each folder is listed once.
"""

import hashlib
import os
import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from mlguard import recipe
from mlguard.data.files import decode_image, read_file
from mlguard.data.folder import IMAGE_SUFFIXES, is_unsafe, nfc
from mlguard.data.labelled import Pair
from mlguard.errors import DatasetError
from mlguard.files import is_dropping
from mlguard.rules import MAX_CLASSES

LAYOUT = "<split>/<class>/<image>.jpg, .jpeg or .png"
WNID = re.compile(r"n\d{8}\Z")  # WordNet's number of a noun, ImageNet's folder names
IMAGENET_CLASSES = 1000
LABEL_BYTES = 4
MOST = MAX_CLASSES["classification"]
MAX_NAMES_LENGTH = 1 << 18  # letters; a recipe and a bundle's manifest hold 1 MiB


class ClassFiles:
    """A source that decodes the images of class folders.

    Args:
        folder: The split's folder.
        ids: `<class folder>/<file>` of every image.
        spec: The recipe's [data], with its classes named.
    """

    def __init__(self, folder: Path, ids: tuple[str, ...], spec: recipe.Data) -> None:
        self.ids = ids
        self._folder = folder
        self._numbers = {nfc(name): i for i, name in enumerate(class_folders(spec))}

    @property
    def ignored(self) -> str:
        """The files in the class folders that are not images of a class."""
        folders = sorted({name.partition("/")[0] for name in self.ids})
        return ignored_files(self._folder, folders)

    def read(self, index: int) -> Pair:
        """Decode one image; its class is that of its folder.

        Raises:
            DatasetError: The file is missing or damaged.
        """
        path = self._folder / self.ids[index]
        content = read_file(path)
        label = self._numbers[nfc(self.ids[index].partition("/")[0])]
        digest = hashlib.sha256(content).digest() + label.to_bytes(
            LABEL_BYTES, "little"
        )
        image = decode_image(content, path)
        return Pair(image, np.array(label), hashlib.sha256(digest).digest())


def class_file_ids(root: Path, split: str, spec: recipe.Data) -> tuple[str, ...]:
    """List the images of one split, class by class in the recipe's order.

    Raises:
        DatasetError: The folder of the split is missing, has images outside class
            folders or an unknown class, or a class of the training split has no image.
    """
    # Folders by their names in one spelling: a Mac writes é as two letters.
    present = {nfc(name): name for name in _listed_classes(root, split, spec.kind)}
    known = tuple(map(nfc, class_folders(spec)))
    if strays := sorted(set(present) - set(known)):
        raise DatasetError(
            f"the folder {root / split / present[strays[0]]} is not one of the "
            f"{len(known)} classes of the recipe",
            hint="name every class in data.class_names, or move the folder away; "
            "without class_names, the folders of the training split are the classes",
        )
    ids: list[str] = []
    for name in known:
        folder = present.get(name, name)
        files = _images(root / split / folder) if name in present else []
        if not files and split == spec.train:
            raise _without_images(name, root, split, there=name in present)
        ids += [f"{folder}/{file}" for file in files]
    if not ids:
        raise DatasetError(
            f"there is no image in the class folders of {root / split}",
            hint=f"expected in {root}: {LAYOUT}",
        )
    return tuple(ids)


def listed_class_names(root: Path, split: str, spec: recipe.Data) -> tuple[str, ...]:
    """Return the classes that the folders of a split name, in sorted order.

    The thousand classes of ImageNet get words after their number, from torchvision.

    Raises:
        DatasetError: As in `class_file_ids`, or there are fewer than two.
    """
    names = _listed_classes(root, split, spec.kind)
    if len(names) < 2:
        raise DatasetError(
            f"{root / split} holds {len(names)} class folder, expected two or more",
            hint=f"expected in {root}: {LAYOUT}",
        )
    if spec.kind == "imagenet" and len(names) == IMAGENET_CLASSES:
        from torchvision.models import ResNet50_Weights  # slow, and rarely needed

        words = ResNet50_Weights.IMAGENET1K_V1.meta["categories"]
        return tuple(f"{n} {word}" for n, word in zip(names, words, strict=True))
    if len(names) > MOST or sum(map(len, names)) > MAX_NAMES_LENGTH:
        raise DatasetError(
            f"{root / split} holds {len(names)} class folders; at most {MOST} with "
            f"{MAX_NAMES_LENGTH} letters in all fit into a recipe and a bundle",
            hint="take fewer classes, or give the folders shorter names",
        )
    return tuple(names)


def class_folders(spec: recipe.Data) -> tuple[str, ...]:
    """Return the folder of each class: its name, for ImageNet without the words."""
    if spec.kind == "imagenet":
        return tuple(name.partition(" ")[0] for name in spec.class_names)
    return spec.class_names


def _listed_classes(root: Path, split: str, kind: str) -> list[str]:
    if is_unsafe(split):
        raise DatasetError(
            f"the recipe's split {split!r} is not a plain name",
            hint="a split named `train` is read from the folder DIR/train",
        )
    folder = root / split
    folders, others = _entries(folder)
    if loose := [name for name in others if _is_image(name)]:
        raise DatasetError(
            f"{folder} holds images outside class folders, first {loose[0]}",
            hint=f"expected in {root}: {LAYOUT}; ImageNet's validation images come in "
            "one folder and must be moved into folders named by their class",
        )
    for name in folders:
        if kind == "imagenet" and not WNID.match(name):
            raise DatasetError(
                f"{folder / name} is not named like n01440764, as ImageNet's classes",
                hint='data.kind = "imagefolder" reads folders of any name',
            )
        if not name.isprintable():
            raise _unprintable(folder, name)
    return folders


def _without_images(name: str, root: Path, split: str, *, there: bool) -> DatasetError:
    folder = root / split / name
    hint = f"expected in {root}: {LAYOUT}"
    if there:
        hint = (
            "if the folder is not a class, move it away; a class needs a JPEG or PNG "
            "image directly in its folder"
        )
    return DatasetError(f"there is no image of the class {name} in {folder}", hint=hint)


def _unprintable(folder: Path, name: str) -> DatasetError:
    """Return the refusal of a class that no recipe, bundle or table could name."""
    if any(is_undecoded(letter) for letter in name):
        return DatasetError(
            f"the class folder {os.fsencode(name)!r} in {folder} is not named in UTF-8",
            hint="rename it; class names appear in recipes, bundles and reports",
        )
    return DatasetError(f"the class folder {name!r} has control characters")


def is_undecoded(letter: str) -> bool:
    """Whether Python replaced a byte that is not UTF-8 by a letter."""
    return "\udc80" <= letter <= "\udcff"


def ignored_files(folder: Path, names: Iterable[str]) -> str:
    """Return, in words, which files of class folders are not read; empty if none."""
    others: list[str] = []
    deeper: list[str] = []
    for name in names:
        folders, files = _entries(folder / name)
        others += [f"{name}/{file}" for file in files if not _is_image(file)]
        for inner in folders:
            found = os.walk(folder / name / inner)
            deeper += [
                os.path.relpath(os.path.join(where, file), folder)
                for where, _, inside in found
                for file in sorted(inside)
                if _is_image(file) and not is_dropping(file)
            ]
    parts = []
    if deeper:
        parts.append(f"{len(deeper)} images in subfolders, first {deeper[0]}")
    if others:
        parts.append(f"{len(others)} files other than .jpg or .png, first {others[0]}")
    return f"not read in {folder}: {'; '.join(parts)}" if parts else ""


def _images(folder: Path) -> list[str]:
    return [name for name in _entries(folder)[1] if _is_image(name)]


def _is_image(name: str) -> bool:
    return name.lower().endswith(IMAGE_SUFFIXES)


def _entries(folder: Path) -> tuple[list[str], list[str]]:
    """Return the sorted names of folders and files in a folder, without hidden ones.

    os.scandir lists a million images in seconds.
    """
    folders: list[str] = []
    files: list[str] = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if not entry.name.startswith(".") and not is_dropping(entry.name):
                    (folders if entry.is_dir() else files).append(entry.name)
    except OSError as error:
        raise DatasetError(
            f"cannot read the folder {folder}: {error.strerror}",
            hint=f"expected in --data DIR: {LAYOUT}",
        ) from None
    return sorted(folders), sorted(files)
