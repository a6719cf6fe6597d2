"""A U-Net: images in [0, 1] to logits of a class for each pixel. torch.

Its form is that of the network that ASMA was published on: two 3x3 convolutions with ReLU a level, no
batch norm, transposed convolutions upwards, one 1x1 convolution to the classes. `padded` keeps the size of the image;
without it, as published, each convolution takes a border off (572 pixels a side become 388 with five levels).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from bench.errors import BenchError


class UNet(nn.Module):
    """(N, `channels`, H, W) in [0, 1] -> logits (N, `n_classes`, H', W'), with `widths` channels from top to bottom.

    H and W must be multiples of 2 ** (levels - 1) where it is padded, then H' = H and W' = W.
    """

    def __init__(self, channels: int, n_classes: int, widths: Sequence[int], *, padded: bool = True) -> None:
        super().__init__()
        self.padded, self.levels = padded, len(widths)
        before = [channels, *widths[:-1]]
        self.down = nn.ModuleList(_block(a, b, padded) for a, b in zip(before, widths, strict=True))
        pairs = list(zip(widths[:0:-1], widths[-2::-1], strict=True))
        self.up = nn.ModuleList(nn.ConvTranspose2d(deep, shallow, 2, stride=2) for deep, shallow in pairs)
        self.merge = nn.ModuleList(_block(2 * shallow, shallow, padded) for _, shallow in pairs)
        self.head = nn.Conv2d(widths[0], n_classes, 1)
        self.pool = nn.MaxPool2d(2)

    def forward(self, x: Tensor) -> Tensor:
        side = 2 ** (self.levels - 1)
        if self.padded and (x.shape[2] % side or x.shape[3] % side):
            raise BenchError(
                f"cannot take images of {x.shape[3]} x {x.shape[2]} pixels.",
                where="U-Net",
                remedy=f"With {self.levels} levels each side must be a multiple of {side}.",
            )
        x, kept = (x - 0.5) / 0.25, []
        for level, block in enumerate(self.down):
            x = block(x if not level else self.pool(x))
            kept.append(x)
        for up, merge, skip in zip(self.up, self.merge, kept[-2::-1], strict=True):
            x = up(x)
            x = merge(torch.cat([_cropped(skip, x), x], dim=1))
        return self.head(x)


def _block(before: int, after: int, padded: bool) -> nn.Sequential:
    border = int(padded)
    return nn.Sequential(
        nn.Conv2d(before, after, 3, padding=border),
        nn.ReLU(inplace=True),
        nn.Conv2d(after, after, 3, padding=border),
        nn.ReLU(inplace=True),
    )


def _cropped(skip: Tensor, like: Tensor) -> Tensor:
    """The middle of (N, C, H, W), as large as `like`."""
    top, left = ((a - b) // 2 for a, b in zip(skip.shape[2:], like.shape[2:], strict=True))
    return skip[:, :, top : top + like.shape[2], left : left + like.shape[3]]
