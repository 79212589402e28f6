"""The residual block of the small networks.

Source: He, Zhang, Ren and Sun 2016, arXiv:1512.03385.
"""

import torch.nn.functional as F
from torch import Tensor, nn


class Residual(nn.Module):
    """Two convolutions beside a shortcut.

    Shape:
        features  (N, channels, H, W)
        returns   (N, width, H / stride, W / stride)
    """

    def __init__(self, channels: int, width: int, *, stride: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            nn.Conv2d(channels, width, 3, stride=stride, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
        )
        same = stride == 1 and channels == width
        self.shortcut = (
            nn.Identity() if same else nn.Conv2d(channels, width, 1, stride=stride)
        )

    def forward(self, features: Tensor) -> Tensor:
        """Add the branch to the shortcut."""
        return F.relu(self.branch(features) + self.shortcut(features))
