"""Batch the requests of a server: images of one size form one batch."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def by_shape(images: Sequence[NDArray[Any]]) -> Iterable[list[int]]:
    """Group the places of requests by the size of their images."""
    groups: dict[tuple[int, ...], list[int]] = {}
    for place, image in enumerate(images):
        groups.setdefault(image.shape[1:], []).append(place)
    return groups.values()


def split(
    answers: NDArray[Any], images: Sequence[NDArray[Any]], group: Sequence[int]
) -> list[NDArray[Any]]:
    """Split the answers of a group among its requests."""
    ends = np.cumsum([len(images[place]) for place in group])[:-1]
    return np.split(answers, ends)
