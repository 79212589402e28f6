"""One file of a folder of images and masks, small enough to travel to a GPU.

Entries are stored as they are, for JPEG and PNG do not get smaller; dates are left
out, so the same folder gives the same file.

    python benchmarks/packed.py voc2012_256 voc.zip --lists train_aug,val
    python benchmarks/packed.py voc.zip voc --unpack
"""

import argparse
import zipfile
from pathlib import Path

from mlguard.data.folder import folder_ids, folder_pairs

LIMIT = 60 << 20  # bytes; what a rented machine takes with a job
EPOCH = (1980, 1, 1, 0, 0, 0)  # the first date that the format has


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("source", type=Path, help="a `folder` data set, or a file")
    parser.add_argument("out", type=Path)
    parser.add_argument("--lists", default="train,val,test", help="with commas")
    parser.add_argument("--unpack", action="store_true")
    options = parser.parse_args()
    if options.unpack:
        unpack(options.source, options.out)
        return
    size = pack(options.source, options.out, options.lists.split(","))
    print(f"{options.out}: {size / 2**20:.1f} MiB")
    if size >= LIMIT:
        raise SystemExit(f"expected less than {LIMIT >> 20} MiB: name fewer lists")


def pack(folder: Path, out: Path, lists: list[str]) -> int:
    """Write lists and what they name into one file; gives its size in bytes."""
    ids = [(name, folder_ids(folder, name)) for name in lists]
    files = {f"{name}.txt": folder / f"{name}.txt" for name, _ in ids}
    for _, named in ids:
        for pair in folder_pairs(folder, named):
            for path in (pair.image, pair.mask):
                files[path.relative_to(folder).as_posix()] = path
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as packed:
        for name in sorted(files):
            packed.writestr(zipfile.ZipInfo(name, EPOCH), files[name].read_bytes())
    return out.stat().st_size


def unpack(packed: Path, folder: Path) -> None:
    """Make a folder of a file that `pack` wrote. Names cannot leave the folder."""
    with zipfile.ZipFile(packed) as opened:
        opened.extractall(folder)


if __name__ == "__main__":
    main()
