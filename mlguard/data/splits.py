"""Open the training, validation or test split that a recipe describes."""

import hashlib
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Literal

from mlguard import recipe
from mlguard.data.cifar10 import CIFAR10_CLASS_NAMES, Cifar10Source, cifar10_ids
from mlguard.data.class_folders import (
    ClassFiles,
    class_file_ids,
    listed_class_names,
)
from mlguard.data.files import FilePairs
from mlguard.data.folder import folder_ids, folder_pairs
from mlguard.data.labelled import LabelledSet, Source
from mlguard.data.shapes import ShapesSource, shapes_ids
from mlguard.data.shards import ShardPairs, shard_ids
from mlguard.data.voc import voc_ids, voc_pairs
from mlguard.errors import DatasetError

Split = Literal["train", "validation", "test"]
Ids = tuple[str, ...]


def open_split(
    spec: recipe.Data,
    root: Path | None,
    split: Split,
    *,
    seed: int,
    download: bool = False,
) -> LabelledSet:
    """Open one split of the recipe's data; nothing is decoded yet.

    Args:
        spec: The recipe's [data].
        root: The folder of the data. The generated `shapes` need none.
        split: The name of the split. If `spec.validation` is a number, that many images
            are held out of the training list, and the training split lacks them.
        seed: The seed that chooses the images held out; other data does not depend on
            it.
        download: Fetch VOC 2012 or CIFAR-10 if it is missing. Other kinds ignore it.

    Raises:
        DatasetError: The layout, a list or a file of the split is missing or not valid,
            or images of the training list are also in the validation or test list.
    """
    holds_out = isinstance(spec.validation, int) and split == "validation"
    if spec.kind == "shapes":
        listed = shapes_ids(spec, "train" if holds_out else split)
        ids = _without_held_out(listed, spec, split, seed)
        return LabelledSet(ShapesSource(ids, spec), spec)
    spec = name_classes(spec, root)
    if root is None:
        raise _no_folder(spec)
    read = _reader(spec, root, download=download)
    name = _list_name(spec, split)
    listed = read(name)
    _refuse_overlap(spec, name, listed, read)
    ids = _without_held_out(listed, spec, split, seed)
    source = _files(spec, root, name, ids)
    return LabelledSet(source, spec, training=split == "train")


def name_classes(spec: recipe.Data, root: Path | None) -> recipe.Data:
    """Return the section with its classes named, if it leaves that to the data.

    Raises:
        DatasetError: The class folders are missing or not valid, or the recipe names
            other classes than CIFAR-10 has.
    """
    if spec.kind == "cifar10":
        if spec.class_names not in ((), CIFAR10_CLASS_NAMES):
            raise DatasetError(
                "the recipe names other classes than CIFAR-10 has",
                hint=f"data.class_names = {list(CIFAR10_CLASS_NAMES)}, or none at all",
            )
        return spec.model_copy(update={"class_names": CIFAR10_CLASS_NAMES})
    if spec.class_names:
        return spec
    if root is None:
        raise _no_folder(spec)
    names = listed_class_names(root, spec.train, spec)
    return spec.model_copy(update={"class_names": names})


def _no_folder(spec: recipe.Data) -> DatasetError:
    return DatasetError(
        f"data of kind {spec.kind} needs a folder, but none was given",
        hint="name it with --data DIR",
    )


def _reader(spec: recipe.Data, root: Path, *, download: bool) -> Callable[[str], Ids]:
    """Return the function that lists the ids of a split."""
    match spec.kind:
        case "voc":
            return partial(voc_ids, root, download=download)
        case "cifar10":
            return partial(cifar10_ids, root, download=download)
        case "imagefolder" | "imagenet":
            return partial(class_file_ids, root, spec=spec)
        case "shards":
            return partial(shard_ids, root)
        case _:
            return partial(folder_ids, root)


def _files(spec: recipe.Data, root: Path, name: str, ids: Ids) -> Source:
    match spec.kind:
        case "voc":
            return FilePairs(voc_pairs(root, ids), spec)
        case "cifar10":
            return Cifar10Source(root, ids)
        case "imagefolder" | "imagenet":
            return ClassFiles(root / name, ids, spec)
        case "shards":
            return ShardPairs(root, name, ids, spec)
        case _:
            return FilePairs(folder_pairs(root, ids), spec)


def _list_name(spec: recipe.Data, split: Split) -> str:
    """Return the name of the list that a split is read from."""
    if split == "validation" and isinstance(spec.validation, str):
        return spec.validation
    return spec.test if split == "test" else spec.train


def _without_held_out(listed: Ids, spec: recipe.Data, split: Split, seed: int) -> Ids:
    """Return the part of a list in a split; the whole list, if none is held out.

    The images with the smallest digests are held out; the list's order does not matter.
    """
    count = spec.validation
    if isinstance(count, str) or split == "test":
        return listed
    if count >= len(listed):
        raise DatasetError(
            f"cannot hold {count} images out of a training list of {len(listed)}",
            hint="lower data.validation, or name a separate list",
        )
    held_out = set(sorted(listed, key=partial(_digest, seed))[:count])
    return tuple(i for i in listed if (i in held_out) == (split == "validation"))


def _digest(seed: int, name: str) -> bytes:
    # By the bytes on the disk: a name need not be UTF-8.
    return hashlib.sha256(os.fsencode(f"mlguard/hold-out/v1/{seed}/{name}")).digest()


def _refuse_overlap(
    spec: recipe.Data, name: str, listed: Ids, read: Callable[[str], Ids]
) -> None:
    """Refuse scores on images that were trained on.

    A list that cannot be read is skipped: users who only evaluate may have no training
        list, and a missing list is refused when its own split is opened. Class folders
        overlap only if one folder serves both splits: two folders may hold different
        images of one name.
    """
    scored = {spec.test, spec.validation} if _has_list(spec) else {spec.test}
    for other in sorted(map(str, scored)) if name == spec.train else [spec.train]:
        if spec.kind in ("imagefolder", "imagenet") and other != name:
            continue
        try:
            common = sorted(set(listed) & set(read(other)))
        except DatasetError:
            continue
        if common:
            raise DatasetError(
                f"{len(common)} images of the list {name} are also in the list "
                f"{other}, first {common[0]}",
                hint="remove them from the training list: scores on training images "
                "mean nothing",
            )


def _has_list(spec: recipe.Data) -> bool:
    return isinstance(spec.validation, str)
