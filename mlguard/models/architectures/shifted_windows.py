"""Swin's attention, for maps of any size in one exported graph.

torchvision's version tests at run time whether a map is one window and then does not
shift; an exported graph would keep the result for its example. This version tests
nothing, so its callers must ensure that maps are larger than a window.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.models.swin_transformer import ShiftedWindowAttention

APART = (
    -100.0
)  # as in torchvision; added to the scores of places that are not neighbours


class WindowAttention(ShiftedWindowAttention):  # type: ignore[misc]  # untyped
    """torchvision's shifted window attention, with the same parameters and results.

    Shape:
        features (N, H, W, C) float32; H and W greater than the window's
        returns  (N, H, W, C) float32

    Source: Liu et al. 2021, arXiv:2103.14030, section 3.2.
    """

    def forward(self, features: Tensor) -> Tensor:
        """Attend within windows."""
        height, width = features.shape[1:3]
        rows = _Axis.over(height, self.window_size[0], self.shift_size[0])
        columns = _Axis.over(width, self.window_size[1], self.shift_size[1])
        beyond = (0, 0, 0, columns.length - width, 0, rows.length - height)
        padded = F.pad(features, beyond)
        turned = _turned(padded, 1, rows.shift, rows.length)
        turned = _turned(turned, 2, columns.shift, columns.length)
        attended = self._attend(_cut(turned, rows, columns), rows, columns)
        joined = _join(attended, rows, columns)
        back = _turned(joined, 1, rows.length - rows.shift, height)
        return _turned(back, 2, columns.length - columns.shift, width)

    def _attend(self, windows: Tensor, rows: "_Axis", columns: "_Axis") -> Tensor:
        """Shape: (N · windows, places, C) to the same."""
        heads, channels = self.num_heads, windows.shape[2]
        split = self.qkv(windows).unflatten(2, (3, heads, channels // heads))
        query, key, value = split.permute(2, 0, 3, 1, 4)
        scores = query * (channels // heads) ** -0.5 @ key.transpose(2, 3)
        scores = scores + self.get_relative_position_bias()
        if any(self.shift_size):
            apart = _apart(windows, rows, columns)
            by_image = scores.unflatten(0, (-1, rows.windows * columns.windows))
            scores = (by_image + apart[:, None]).flatten(0, 1)
        attended = scores.softmax(3) @ value
        projected: Tensor = self.proj(attended.transpose(1, 2).flatten(2))
        return projected


class _Axis(NamedTuple):
    """Height or width of a map in windows.

    Attributes:
        windows: How many there are.
        window: Places in one.
        shift: Places that the windows are shifted by.
    """

    windows: int
    window: int
    shift: int

    @property
    def length(self) -> int:
        return self.windows * self.window

    @classmethod
    def over(cls, places: int, window: int, shift: int) -> "_Axis":
        return cls((places + window - 1) // window, window, shift)

    def regions(self, like: Tensor) -> Tensor:
        """Return which places were neighbours before the shift: those of one number."""
        sizes = (self.length - self.window, self.window - self.shift, self.shift)
        numbered = enumerate(sizes)
        return torch.cat([like.new_full((size,), number) for number, size in numbered])


def _turned(features: Tensor, axis: int, start: int, count: int) -> Tensor:
    """Take `count` places along an axis from `start`, wrapping around at the end."""
    length, device = features.shape[axis], features.device
    to_end = torch.arange(start, length, device=device)
    rest = torch.arange(count - (length - start), device=device)
    return features.index_select(axis, torch.cat((to_end, rest)))


def _cut(features: Tensor, rows: _Axis, columns: _Axis) -> Tensor:
    """Shape: (N, H, W, C) to (N · windows, places in a window, C)."""
    split = _split(features, 2, columns.windows, columns.window)
    split = _split(split, 1, rows.windows, rows.window)
    return split.transpose(2, 3).flatten(3, 4).flatten(0, 2)


def _join(windows: Tensor, rows: _Axis, columns: _Axis) -> Tensor:
    """Undo `_cut`."""
    split = _split(windows, 1, rows.window, columns.window)
    split = _split(split, 0, -1, rows.windows, columns.windows)
    places = split.transpose(2, 3).reshape(-1).view(-1, windows.shape[2])
    # Through one axis: torch's export cannot tell that others can be merged.
    return _split(places, 0, -1, rows.length, columns.length)


def _split(features: Tensor, axis: int, *sizes: int) -> Tensor:
    split: Tensor = features.unflatten(axis, sizes)  # type: ignore[no-untyped-call]
    return split


def _apart(like: Tensor, rows: _Axis, columns: _Axis) -> Tensor:
    """Return the mask that keeps places apart which the shift brought together.

    Shape:
        returns  (windows, places, places)
    """
    across, along = rows.regions(like), columns.regions(like)
    regions = (3 * across[:, None] + along)[None, :, :, None]
    numbers = _cut(regions, rows, columns).squeeze(2)
    return APART * (numbers[:, :, None] != numbers[:, None]).to(like.dtype)
