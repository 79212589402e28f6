"""Read the key off one image and its transformed version."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray

from mlguard.audit.attacks.base import Attack, Group, Scene, Variant
from mlguard.audit.attacks.reasons import NO_IMAGE_METHOD, ffx_in_a_chain
from mlguard.audit.attacks.search.guesses import GuessSpace
from mlguard.audit.attacks.training.adapters import BlockAdapter
from mlguard.audit.findings import Budget, Outcome
from mlguard.models import Condition, keyed
from mlguard.rules import BYTE_MAX
from mlguard.transforms import FormatPreserving, Transform, TransformSet
from mlguard.transforms.blocks import Scalar, to_blocks

TABLE_SIZE = BYTE_MAX + 1
MAX_SCALE = 999  # the largest value of ffx: three decimal digits

Columns = NDArray[np.int32]  # (blocks of the image, L)


@dataclass(frozen=True)
class KnownPlaintext(Attack):
    """Compare a plain image with its transformed version, position by position.

    Adversary: has the weights, this code, and one image before and after the
               transform; no labels.
    Budget:    one pair; seconds.
    Success:   the recovered transform gives the correct key's score on other images.
    Limits:    chains of `ffx` with another method are not taken apart. A position that
               the one image cannot tell from another is guessed, and so is what `ffx`
               makes of a value that the image does not have. `orthogonal` is solved
               for; fewer blocks than unknowns leave it open.
    Source:    our own; the classic setting of cryptanalysis. Why one pair is enough:
               docs/decisions/0002-no-picture-of-a-models-own-transform.md.
    """

    name: ClassVar[str] = "known-plaintext"

    @classmethod
    def within(cls, budget: Budget, *, seed: int) -> Self:
        """Return the same attack for every budget: one pair is enough."""
        return cls(seed=seed)

    def impossible(self, scene: Scene) -> str:
        """Return why it cannot run on this model; empty if it can."""
        if not scene.spec.image_methods:
            return NO_IMAGE_METHOD
        return ffx_in_a_chain(scene.spec)

    def variants(self, scene: Scene) -> Sequence[Group]:
        """Return the one variant."""
        return [(Variant("one pair", 1),)]

    def run(self, scene: Scene, group: Group) -> Iterator[Outcome]:
        """Recover the transform from the pool's first image, and score it."""
        image, size = scene.pool.images[0].numpy(), scene.spec.block_size
        transformed, methods = scene.leaks.pair(image), scene.spec.image_methods
        if methods == ("orthogonal",):
            solved = solve(image, transformed, size)
            condition = Condition(solved.adapter.to(scene.stolen.device))
            explains = complete = solved.complete
        else:
            recovered = recover(image, transformed, methods, size)
            explains, complete = recovered.explains, recovered.complete
            found = TransformSet(recovered.transform)
            condition = keyed(found, scene.stolen.device)
        yield Outcome(
            attack=self.name,
            variant="one pair",
            rung="T6",
            images=1,
            labels=0,
            queries=0,
            counts=scene.referee(scene.stolen.model, condition),
            converged=explains,
            notes=() if complete else ("pair-leaves-a-choice",),
        )


@dataclass(frozen=True)
class Recovered:
    """A transform read off a pair.

    Attributes:
        transform: The transform: key material, if it is right.
        explains: Whether it turns the plain image exactly into the transformed one.
        complete: Whether the pair left no choice.
    """

    transform: Transform
    explains: bool
    complete: bool


@dataclass(frozen=True)
class Solved:
    """A linear map read off a pair.

    Attributes:
        adapter: An adapter that replaces the key, if the pair determined it.
        complete: Whether it did: the pair had as many independent blocks as unknowns.
    """

    adapter: BlockAdapter
    complete: bool


def solve(
    plain: NDArray[np.uint8], transformed: NDArray[np.float32], block_size: int
) -> Solved:
    """Solve for the matrix and the offset that turn one image into the other.

    Shape:
        plain        (3, H, W) uint8
        transformed  (3, H, W) float32
    """
    before = _columns(plain[None].astype(np.float64) / BYTE_MAX, block_size)
    after = _columns(transformed[None].astype(np.float64), block_size)
    known = np.concatenate([before, np.ones((len(before), 1))], axis=1)
    solution, _, rank, _ = np.linalg.lstsq(known, after, rcond=None)
    adapter = BlockAdapter(block_size)
    adapter.matrix.data = torch.from_numpy(solution[:-1].T.astype(np.float32))
    adapter.offset.data = torch.from_numpy(solution[-1].astype(np.float32))
    return Solved(adapter.requires_grad_(False), bool(rank == known.shape[1]))


def recover(
    plain: NDArray[np.uint8],
    transformed: NDArray[np.float32],
    methods: tuple[str, ...],
    block_size: int,
) -> Recovered:
    """Recover a transform from one pair.

    Args:
        plain: The image before.
        transformed: The image after, before normalization.
        methods: The chain: `shf`, `np` or both, or `ffx` alone.
        block_size: M, in pixels.

    Shape:
        plain        (3, H, W) uint8
        transformed  (3, H, W) float32 in [0, 1]
    """
    before = _columns(plain[None].astype(np.int32), block_size)
    if methods == ("ffx",):
        scale = _scale(before, _columns(transformed[None], block_size))
        after = _columns(_whole(transformed[None], scale), block_size)
        transform, complete = _recover_ffx(before, after, scale, block_size)
    else:
        after = _columns(_whole(transformed[None], BYTE_MAX), block_size)
        transform, complete = _recover_chain(before, after, methods, block_size)
    made = transform.apply(plain[None])[0]
    return Recovered(transform, bool(np.array_equal(made, transformed)), complete)


def _recover_chain(
    before: Columns, after: Columns, methods: tuple[str, ...], block_size: int
) -> tuple[Transform, bool]:
    """Find the plain column that each transformed column shows, plain or inverted.

    It works for `shf`, `np`, and both in either order.
    """
    length = before.shape[1]
    sources, complete = np.arange(length), True
    upright, inverted = before, BYTE_MAX - before
    if "shf" in methods:
        sources, complete = _match(before, after, inverting="np" in methods)
    mask = np.zeros(length, dtype=np.bool_)
    if "np" in methods:
        same, other = upright[:, sources] == after, inverted[:, sources] == after
        mask = other.sum(0) > same.sum(0)
        complete &= not bool((other.sum(0) == same.sum(0)).any())
    space = GuessSpace(methods, block_size)
    return space.transform(space.signed(sources, mask)), complete


def _match(
    before: Columns, after: Columns, *, inverting: bool
) -> tuple[NDArray[np.int64], bool]:
    """Return the plain position of each transformed position, each used once."""
    forms = [before, BYTE_MAX - before] if inverting else [before]
    waiting: dict[bytes, list[int]] = {}
    for form in forms:
        for position in range(before.shape[1]):
            waiting.setdefault(form[:, position].tobytes(), []).append(position)
    complete = all(len(found) == 1 for found in waiting.values())
    free = dict.fromkeys(range(before.shape[1]))  # ordered
    sources = np.full(before.shape[1], -1, dtype=np.int64)
    for position in range(before.shape[1]):
        candidates = waiting.get(after[:, position].tobytes(), [])
        source = next((one for one in candidates if one in free), None)
        if source is not None:
            sources[position] = source
            del free[source]
    unmatched = np.flatnonzero(sources < 0)
    sources[unmatched] = list(free)
    return sources, complete and not len(unmatched)


def _recover_ffx(
    before: Columns, after: Columns, scale: int, block_size: int
) -> tuple[Transform, bool]:
    """Recover `ffx`: positions with changed values are masked, and show the table."""
    mask = (before != after).any(0)
    table = np.full(TABLE_SIZE, -1, dtype=np.int64)
    table[before[:, mask].ravel()] = after[:, mask].ravel()
    unknown = np.flatnonzero(table < 0)
    unused = np.setdiff1d(np.arange(scale, -1, -1), table)[::-1]  # the scale first
    fitting = unused[: len(unknown)]
    if len(fitting) < len(unknown) or len(np.unique(table[table >= 0])) < int(
        (table >= 0).sum()
    ):
        # The pair does not match this transform: any table serves.
        table, fitting = np.arange(TABLE_SIZE), np.arange(0)
        unknown = fitting
    table[unknown] = fitting
    return FormatPreserving(block_size, mask, table), not len(unknown)


def _scale(before: Columns, after: NDArray[np.float32]) -> int:
    """Return the divisor of the values, from the positions that kept theirs.

    It is the integer for which most values of `after` equal those of `before`.
    """
    lit = after > 0
    ratios = np.rint(before[lit] / after[lit].astype(np.float64)).astype(np.int64)
    fitting = ratios[(ratios >= BYTE_MAX) & (ratios <= MAX_SCALE)]
    return int(np.bincount(fitting).argmax()) if len(fitting) else BYTE_MAX


def _whole(pixels: NDArray[np.float32], scale: int) -> NDArray[np.int32]:
    return np.rint(pixels.astype(np.float64) * scale).astype(np.int32)


def _columns(images: NDArray[Scalar], block_size: int) -> NDArray[Scalar]:
    blocks = to_blocks(images, block_size)
    return blocks.reshape(-1, blocks.shape[-1])
