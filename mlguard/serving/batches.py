"""Requests that a server gets together: those of one size go in as one batch."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def by_shape(images: Sequence[NDArray[Any]]) -> Iterable[list[int]]:
    """The places of requests, those together whose images have one size."""
    groups: dict[tuple[int, ...], list[int]] = {}
    for place, image in enumerate(images):
        groups.setdefault(image.shape[1:], []).append(place)
    return groups.values()


def split(
    answers: NDArray[Any], images: Sequence[NDArray[Any]], group: Sequence[int]
) -> list[NDArray[Any]]:
    """Give each request of a group the answers to its own images."""
    ends = np.cumsum([len(images[place]) for place in group])[:-1]
    return np.split(answers, ends)
