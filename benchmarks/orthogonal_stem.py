"""What the zeros of a lifted stem say about an `orthogonal` key.

Each output of a block sees some of its pixels, so its weights lie in the space into
which the key took the colours of these. Where such spaces meet, and where they do not,
is the space of every single pixel. Prints how far each space that is read so is from
the key's, as the sine of the largest angle between them.

    python benchmarks/orthogonal_stem.py runs/plain --block-size 4
"""

import argparse
import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from mlguard.audit.attacks import Grid
from mlguard.keys import ModelKey
from mlguard.models import normalization_of
from mlguard.models.binding import (
    LiftedStem,
    absorb,
    affine_of,
    find_stem,
    prepare_stem,
)
from mlguard.models.conditions import cut
from mlguard.protect.run_folder import read_run
from mlguard.transforms import derive_transform

KEY = ModelKey(hashlib.sha256(b"mlguard: photographs; protects nothing").digest())
PROTECTION_ID = bytes(16)
PRESENT = 1e-4  # of the largest singular value


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("run", type=Path, help="a plain run folder")
    parser.add_argument("--block-size", type=int, default=4)
    options = parser.parse_args()
    run, size = read_run(options.run), options.block_size
    normalization = normalization_of(run.recipe.model)
    model = run.load_model()
    plain = find_stem(model).layer
    transform = derive_transform(("orthogonal",), KEY.for_model(PROTECTION_ID), size)
    affine = affine_of(transform).normalized(normalization.mean, normalization.std)
    stem = find_stem(absorb(prepare_stem(model, size), affine)).layer
    spaces, reached = list(spaces_of(stem)), Grid.of(stem, plain).reached
    sines = []
    for pixel in range(size**2):
        true, _ = np.linalg.qr(affine.matrix[:, 3 * pixel : 3 * pixel + 3])
        read = space_of(spaces, reached[pixel].reshape(-1))
        sines.append(float(np.linalg.norm(true - read @ (read.T @ true), 2)))
    print(" ".join(f"{sine:.1e}" for sine in sines))
    print(f"{sum(sine < 1e-4 for sine in sines)} of {len(sines)} pixels exactly")


def spaces_of(stem: LiftedStem) -> Iterator[np.ndarray]:
    """The projection onto the space of each cell's weights."""
    weight, places = stem.windows.weight.detach().double(), stem.ratio**2
    columns = cut(weight, stem.block_size).numpy()  # (O·places, blocks, L)
    cells = columns.reshape(-1, places, *columns.shape[1:])
    for place in range(places):
        for block in range(columns.shape[1]):
            _, sizes, axes = np.linalg.svd(cells[:, place, block], full_matrices=False)
            rank = int((sizes > PRESENT * sizes[0]).sum()) if sizes[0] else 0
            yield axes[:rank].T @ axes[:rank]


def space_of(spaces: list[np.ndarray], reached: np.ndarray) -> np.ndarray:
    """The three directions in every cell that sees a pixel, and in no other."""
    unit = np.eye(len(spaces[0]))
    unlike = sum(
        unit - space if seen else space
        for space, seen in zip(spaces, reached, strict=True)
    )
    return np.linalg.eigh(unlike)[1][:, :3]


if __name__ == "__main__":
    main()
