"""Find the images of `mlguard predict`, and the files that it skips in a folder."""

from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from mlguard.cli.printable import warn
from mlguard.errors import ImageError
from mlguard.files import is_dropping
from mlguard.runtime import SUFFIXES


def find_images(arguments: list[Path]) -> list[Path]:
    """Return the images in files and folders.

    A folder stands for the images directly in it. A file is accepted whatever its name.

    Raises:
        ImageError: A path does not exist, or a folder has no image.
    """
    found = (path for argument in arguments for path in _expand(argument))
    return list(dict.fromkeys(found))


def by_mask_name(images: list[Path]) -> dict[str, Path]:
    """Return images by the name of their mask.

    Raises:
        ImageError: Two images would give masks of one name.
    """
    by_name: dict[str, list[Path]] = defaultdict(list)
    for path in images:
        # Some file systems do not distinguish A.png from a.png.
        by_name[path.stem.casefold()].append(path)
    for path, *others in by_name.values():
        if others:
            raise ImageError(
                f"{path} and {others[0]} would both be written to {path.stem}.png",
                hint="predict them into different folders",
            )
    return {paths[0].stem: paths[0] for paths in by_name.values()}


def _expand(argument: Path) -> list[Path]:
    if not argument.is_dir():
        if not argument.exists():
            raise ImageError(f"{argument}: no such file or folder")
        return [argument]
    found = _Listing.of(argument).images
    if not found:
        known = ", ".join(sorted(SUFFIXES))
        raise ImageError(f"{argument} holds no image", hint=f"known suffixes: {known}")
    return found


@dataclass
class _Listing:
    """The contents of a folder, each in the order of its name."""

    images: list[Path] = field(default_factory=list)
    others: list[Path] = field(default_factory=list)
    folders: list[Path] = field(default_factory=list)
    notes: list[Path] = field(default_factory=list)

    @classmethod
    def of(cls, folder: Path) -> Self:
        """List a folder.

        Raises:
            ImageError: It cannot be read.
        """
        try:
            paths = sorted(folder.iterdir())
        except OSError as error:
            raise ImageError(f"cannot read {folder}: {error.strerror}") from None
        found = cls()
        for path in paths:
            if is_dropping(path.name):
                found.notes.append(path)
            elif path.is_dir():
                found.folders.append(path)
            elif path.suffix.lower() in SUFFIXES and path.is_file():
                found.images.append(path)
            else:
                found.others.append(path)
        return found

    def passed_over(self) -> str:
        """Return the skipped files in words; empty if there are only images."""
        parts = (
            _counted(self.others, "file of another suffix", "files of another suffix"),
            _counted(self.folders, "folder", "folders"),
            _counted(self.notes, "note of another system", "notes of another system"),
        )
        return "; ".join(filter(None, parts))


def say_passed_over(arguments: list[Path]) -> None:
    """Warn of other files than images in the folders, with number and first name."""
    for argument in filter(Path.is_dir, arguments):
        if said := _Listing.of(argument).passed_over():
            warn(f"not predicted in {argument}: {said}")


def _counted(paths: list[Path], one: str, more: str) -> str:
    """Return how many there are, and the first; empty if there are none."""
    if not paths:
        return ""
    what = one if len(paths) == 1 else more
    return f"{len(paths)} {what}, first {paths[0].name}"
