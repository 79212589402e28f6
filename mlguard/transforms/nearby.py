"""Transforms close to the correct one, in which a share of the key is wrong.

If accuracy falls steeply with that share, a thief must get nearly all of the key right;
if it falls slowly, part of it is enough, and each correct guess is rewarded. The
entries of the transform are changed. The FFX table is kept: it follows from a password,
and a password has no neighbours.
"""

import numpy as np
from numpy.typing import NDArray

from mlguard.keys import ModelSubkeys
from mlguard.transforms import (
    ChannelPermutation,
    Compose,
    FormatPreserving,
    NegativePositive,
    Orthogonal,
    Passport,
    PixelShuffle,
    Transform,
    TransformSet,
)
from mlguard.transforms.choice import permutation


def nearby(
    transforms: TransformSet, share: float, *, subkeys: ModelSubkeys, use: str
) -> TransformSet:
    """Change a share of the entries of every transform, and no others.

    Args:
        transforms: The correct ones.
        share: Share of the entries to change, in [0, 1]. Above 0, at least two change.
        subkeys: Subkeys that choose the entries, so that the choice is as secret as the
            key.
        use: The label of the choice; another label gives another neighbour.
    """
    image = transforms.image
    if image is not None:
        image = _nearby_image(image, share, subkeys=subkeys, use=use)
    channels = (
        _nearby_channels(one, share, subkeys=subkeys, use=f"{use}/{one.layer}")
        for one in transforms.channels
    )
    passports = (
        _nearby_passport(one, share, subkeys=subkeys, use=f"{use}/{one.where.layer}")
        for one in transforms.passports
    )
    return TransformSet(image, tuple(channels), tuple(passports))


def _nearby_image(
    transform: Transform, share: float, *, subkeys: ModelSubkeys, use: str
) -> Transform:
    if isinstance(transform, Compose):
        return Compose(
            [
                _nearby_image(part, share, subkeys=subkeys, use=f"{use}/{part.name}")
                for part in transform.transforms
            ]
        )
    positions = permutation(subkeys.derive(use), transform.length)
    size = transform.block_size
    if isinstance(transform, Orthogonal):
        first = reshuffled(transform.orders[0], share, positions)
        orders = np.stack([first, *transform.orders[1:]])
        return Orthogonal(size, orders, transform.signs.astype(np.float32))
    if isinstance(transform, PixelShuffle):
        return PixelShuffle(size, reshuffled(transform.order, share, positions))
    if isinstance(transform, NegativePositive):
        return NegativePositive(size, moved(transform.mask, share, positions))
    if isinstance(transform, FormatPreserving):
        mask = moved(transform.mask, share, positions)
        return FormatPreserving(size, mask, transform.table)
    raise TypeError(f"no neighbours are defined for {transform!r}")


def changed_share(one: TransformSet, other: TransformSet) -> float:
    """Return the share of the entries in which two sets of the same methods differ."""
    pairs = list(zip(_entries(one), _entries(other), strict=True))
    different = sum(int((left != right).sum()) for left, right in pairs)
    return different / sum(left.size for left, _ in pairs)


def same(one: TransformSet, other: TransformSet) -> bool:
    """Whether two sets of the same methods treat every image alike."""
    slots, others = one.slots(), other.slots()
    return all(np.array_equal(slots[name], others[name]) for name in slots)


def reshuffled(
    order: NDArray[np.int64], share: float, positions: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Move the entries at a share of the positions in one cycle.

    A cycle moves every entry, so exactly that share changes.
    """
    number = round(share * len(order))
    chosen = positions[: max(2, number) if share > 0 else 0]
    changed = order.copy()
    changed[chosen] = order[np.roll(chosen, 1)]
    return changed


def moved(
    mask: NDArray[np.bool_], share: float, positions: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Clear some set positions and set as many clear ones, so that half stay set."""
    number = max(1, round(share * len(mask) / 2)) if share > 0 else 0
    set_ones, clear_ones = positions[mask[positions]], positions[~mask[positions]]
    number = min(number, len(set_ones), len(clear_ones))
    changed = mask.copy()
    changed[set_ones[:number]] = False
    changed[clear_ones[:number]] = True
    return changed


def _nearby_channels(
    permutation_: ChannelPermutation, share: float, *, subkeys: ModelSubkeys, use: str
) -> ChannelPermutation:
    """Move a share of the channels; a moved channel takes its sign along."""
    order, signs = permutation_.order, permutation_.signs
    positions = permutation(subkeys.derive(use), len(order))
    moves = reshuffled(np.arange(len(order)), share, positions)
    return ChannelPermutation(
        permutation_.layer, order[moves], None if signs is None else signs[moves]
    )


def _nearby_passport(
    passport: Passport, share: float, *, subkeys: ModelSubkeys, use: str
) -> Passport:
    """Change a share of the signs, of the scale and of the bias alike."""
    length = passport.where.length
    number = max(1, round(share * length)) if share > 0 else 0
    flips = np.ones(length, dtype=np.float32)
    flips[permutation(subkeys.derive(use), length)[:number]] = -1
    return Passport(passport.where, passport.scale * flips, passport.bias * flips)


def _entries(transforms: TransformSet) -> list[NDArray[np.int64]]:
    """Return the entries that the key chose, and those that a neighbour can change."""
    image = transforms.image
    if isinstance(image, Orthogonal):
        chosen = [image.orders[0], *transforms.channel_slots().values()]
    else:
        slots = transforms.slots().items()
        chosen = [tensor for name, tensor in slots if name != "ffx.table"]
    return [np.asarray(tensor).reshape(-1).astype(np.int64) for tensor in chosen]
