"""The two extra layers of a rewritten model.

Both compute what ordinary layers compute; their parameters have another form, into
which keys and batch norms can be folded.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class LiftedStem(nn.Module):
    """A convolution of images, as one convolution over whole blocks of M × M pixels.

    One window of whole blocks computes the r × r outputs of one block at once, r = M /
    stride, as channels that are then put side by side. As every window sees whole
    blocks, any affine map of blocks can be folded into the weights. Outside the image
    there are zeros, which stand for the mean colour; a map with an offset moves it, so
    the constant part is added only where there is an image: it is the windows' response
    to a fourth channel, of ones inside the image.

    Args:
        channels: Channels of the output.
        block_size: M, in pixels.
        ratio: r, the outputs of a block along a side.
        before: How many blocks a window reaches to the left of and above its own.
        after: The same to the right and below.

    Shape:
        pixels   (N, 3, H, W) float32, normalized; M divides H and W
        returns  (N, channels, H·r/M, W·r/M) float32
    """

    def __init__(
        self, channels: int, *, block_size: int, ratio: int, before: int, after: int
    ) -> None:
        super().__init__()
        self.block_size, self.ratio = block_size, ratio
        self.before, self.after = before, after
        window = before + 1 + after
        self.windows = nn.Conv2d(
            3, channels * ratio**2, window * block_size, stride=block_size
        )
        self.constant = nn.Conv2d(1, channels * ratio**2, window, bias=False)
        nn.init.zeros_(self.constant.weight)

    def forward(self, pixels: Tensor) -> Tensor:
        """Convolve."""
        left, right = self.before * self.block_size, self.after * self.block_size
        with_ones = F.pad(pixels, (0, 0, 0, 0, 0, 1), value=1.0)
        found = F.conv2d(
            F.pad(with_ones, (left, right, left, right)),
            torch.cat((self.windows.weight, self._constant_windows()), dim=1),
            self.windows.bias,
            stride=self.block_size,
        )
        return found if self.ratio == 1 else F.pixel_shuffle(found, self.ratio)

    def _constant_windows(self) -> Tensor:
        """Return the constant part as a window of pixels, spread over each block."""
        size = self.block_size
        block = self.constant.weight.new_full((1, 1, size, size), size**-2)
        return torch.kron(self.constant.weight, block)


class ChannelScale(nn.Module):
    """A batch norm without statistics: it scales and shifts every channel.

    Shape:
        features  (N, C, H, W)
        returns   (N, C, H, W)
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, features: Tensor) -> Tensor:
        """Scale and shift."""
        return features * self.weight.view(1, -1, 1, 1) + self.bias.view(1, -1, 1, 1)
