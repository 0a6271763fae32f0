"""The stem of MuQ and MusicFM: two residual convolution blocks that turn 128 mel bands at 100 Hz into 25 frames a second.

Two thirds of the work of these models is in the stem, in convolutions of 512 by 512 channels. For inference on a CPU the stem
goes through a clip in stretches, in channels-last order, by Winograd's algorithm: the memory does not grow with the clip, and
the values are those of the plain convolutions up to rounding.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from marble.upstreams.nn.precision import Conv2d, Foldable, Linear
from marble.upstreams.nn.winograd import StridedWinogradConv2d, WinogradTail

STRETCH = 150  # frames per stretch on a CPU: six seconds, whose activations still fit a large cache

Read = Callable[[int, int], Tensor]


class ResidualConv2d(Foldable):
    """Two 3 x 3 convolutions with batch norm beside a 3 x 3 shortcut with batch norm; halves frequency and time."""

    folds = (("conv1", "bn1"), ("conv2", "bn2"), ("conv3", "bn3"))

    def __init__(self, channels_in: int, channels: int):
        super().__init__()
        # `columns` pads the time axis itself, because a stretch has zeros beside it only at the ends of the clip.
        self.conv1 = Conv2d(channels_in, channels, 3, stride=2, padding=(1, 0))
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = Conv2d(channels, channels, 3, padding=(1, 0))
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv3 = Conv2d(channels_in, channels, 3, stride=2, padding=(1, 0))
        self.bn3 = nn.BatchNorm2d(channels)
        # Replacements of conv1 and conv3, and of conv2, after `arrange` for a CPU.
        self.joint: StridedWinogradConv2d | None = None
        self.tail: WinogradTail | None = None

    def columns(self, read: Read, width: int, start: int, stop: int) -> Tensor:
        """Return the output columns from `start` to `stop`, ``Tensor[B, channels, ceil(F / 2), stop - start]``.

        ``read(a, b)`` returns the input columns from a to b, ``Tensor[B, channels_in, F, b - a]``, of `width` in all.
        """
        low, high = max(start - 1, 0), min(stop + 1, (width + 1) // 2)
        x = read(max(2 * low - 1, 0), min(2 * high, width))
        x = functional.pad(x, (int(low == 0), max(2 * high - width, 0)))
        if self.joint is None:
            inner, shortcut = self.bn1(self.conv1(x)), self.bn3(self.conv3(x))
        else:
            inner, shortcut = self.joint(x).chunk(2, dim=1)
        left = int(low == start)
        shortcut = shortcut[..., start - low : stop - low]
        if self.tail is not None:
            return self.tail(inner, left, shortcut)
        inner = functional.pad(inner.relu(), (left, int(high == stop)))
        return (self.bn2(self.conv2(inner)) + shortcut).relu()

    def arrange(self, device: torch.device) -> None:
        """Arrange the folded convolutions for inference on a device."""
        for convolution in (self.conv1, self.conv2, self.conv3):
            convolution.weight.data = convolution.weight.contiguous(memory_format=torch.channels_last)
        on_cpu = device.type == "cpu"
        self.tail = WinogradTail(self.conv2) if on_cpu else None
        self.joint = StridedWinogradConv2d(self.conv1, self.conv3) if on_cpu and self.conv1.in_channels > 1 else None


class Stem(nn.Module):
    """Mel spectrogram ``Tensor[B, bands, M]`` to ``Tensor[B, ceil(M / 4), width]``; frame k is centred on mel frame 4 k."""

    def __init__(self, bands: int, channels: int, width: int):
        super().__init__()
        self.first = ResidualConv2d(1, channels)
        self.second = ResidualConv2d(channels, channels)
        self.linear = Linear(channels * (bands // 4), width)
        self.in_stretches = False

    def arrange(self, device: torch.device) -> None:
        """Arrange the folded convolutions for inference on a device."""
        self.in_stretches = device.type == "cpu"
        self.first.arrange(device)
        self.second.arrange(device)

    def forward(self, mel: Tensor) -> Tensor:
        """Return the frames ``Tensor[B, ceil(M / 4), width]`` of a mel spectrogram ``Tensor[B, bands, M]``."""
        if not self.in_stretches:
            return self._frames(mel, (mel.shape[2] + 3) // 4)
        return torch.cat([self._frames(clip, STRETCH) for clip in mel.split(1)])

    def _frames(self, mel: Tensor, stretch: int) -> Tensor:
        """Return all frames of ``Tensor[B, bands, M]``, computed `stretch` frames at a time."""
        # The one channel last, so that torch gives the channels of the first convolution the same order as all others.
        x = mel[..., None].permute(0, 3, 1, 2)
        width = x.shape[-1]
        frames = (width + 3) // 4

        def middle(start: int, stop: int) -> Tensor:
            """Return the output columns of the first block that the second needs."""
            return self.first.columns(lambda a, b: x[..., a:b], width, start, stop)

        parts = []
        for start in range(0, frames, stretch):
            part = self.second.columns(middle, (width + 1) // 2, start, min(start + stretch, frames))
            parts.append(self.linear(part.permute(0, 3, 1, 2).flatten(2)).float())
        return torch.cat(parts, dim=1)
