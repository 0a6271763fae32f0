"""3 x 3 convolutions with fewer products than their definition has (Winograd's algorithm, Lavin & Gray 2016, arXiv 1509.09308).

Conventions
-----------
- Two outputs along one axis are sums of products of sums: with stride 1 four products instead of six (F(2, 3)); with stride 2
  five, two of them of the odd samples and three, F(2, 2), of the even ones. Over both axes that is 16 and 25 instead of 36.
- The sums over the input are taken tile by tile, then the products over all channels as matrix products, then the sums over
  the output. On a CPU, where the matrix rate is the limit, this saves up to half of the time of a wide convolution; on a GPU
  the sums would cost more than the products save.
- Products are in the type of the weight. In float32 the result is as close to the exact one as that of a direct convolution
  (relative error 4e-7 against 2e-7); in bfloat16 the sums are rounded once more (6e-3 against 2e-3).
- About `_TILES` tiles are in work at a time: enough for the matrix products to run at full rate, few enough for a cache.
- Tiles are two by two outputs: an odd edge is computed with one line too many, and cut.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

_TILES = 768
_KERNEL_TRANSFORM = ((1.0, 0.0, 0.0), (0.5, 0.5, 0.5), (0.5, -0.5, 0.5), (0.0, 0.0, 1.0))

# With stride 2 five neighbours p0 … p4 give y0 = a + b and y1 = b - c, where a = (p0 - p2) w0 + p1 w1, b = p2 (w0 + w2) and
# c = (p2 - p4) w2 - p3 w1. The rows are the kernels of the five products, the slices those that are summed right away.
_STRIDED_TRANSFORM = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (1.0, 0.0, 1.0), (0.0, 0.0, 1.0), (0.0, -1.0, 0.0))
_STRIDED_GROUPS = (slice(0, 2), slice(2, 3), slice(3, 5))


class WinogradTail(nn.Module):
    """The end of a residual block, ``relu(convolution(relu(x)) + shortcut)``, the 3 x 3 convolution trained, with stride 1.

    What surrounds the convolution is done on the rows in work, where it costs no way through memory.
    """

    products: Tensor
    bias: Tensor

    def __init__(self, convolution: nn.Conv2d):
        super().__init__()
        weight = convolution.weight.detach()
        transform = torch.tensor(_KERNEL_TRANSFORM, device=weight.device)
        products = torch.einsum("bh,oihw,aw->abio", transform, weight.float(), transform).flatten(0, 1)
        self.register_buffer("products", products.to(weight.dtype).contiguous(), persistent=False)
        self.register_buffer("bias", _bias(convolution), persistent=False)

    def forward(self, x: Tensor, left: int, shortcut: Tensor) -> Tensor:
        """Map ``Tensor[B, C, H, V]`` to ``Tensor[B, O, H, W]``, as `shortcut` is, in channels-last order.

        Zeros stand above and below x, in `left` columns before it, and in the columns that it lacks behind: W + 2 - left - V.
        """
        batch, channels, height, columns = x.shape
        width = shortcut.shape[3]
        odd_height, odd_width = height % 2, width % 2
        padded = self.products.new_zeros(batch, height + odd_height + 2, width + odd_width + 2, channels)
        torch.clamp_min(x.permute(0, 2, 3, 1), 0, out=padded[:, 1 : 1 + height, left : left + columns])
        y = padded.new_empty(batch, height + odd_height, width + odd_width, len(self.bias))
        tiles = y.shape[2] // 2
        step = 2 * max(1, _TILES // tiles)
        for clip, added, out in zip(padded, shortcut.permute(0, 2, 3, 1), y, strict=True):
            for row in range(0, len(out), step):
                rows = out[row : row + step]
                self._rows_of_tiles(clip[row : row + step + 2], rows, tiles)
                rows = rows[: height - row, :width]
                rows.add_(added[row : row + step]).relu_()
        return y[:, :height, :width].permute(0, 3, 1, 2)

    def _rows_of_tiles(self, x: Tensor, y: Tensor, tiles: int) -> None:
        """Fill the output rows ``y[2 R, 2 tiles, O]`` from the input rows ``x[2 R + 2, 2 tiles + 2, C]``."""
        rows = _four_from_four(*(x[i : i + len(y) - 1 : 2] for i in range(4)))
        inputs = _four_from_four(*(rows[:, :, i : i + 2 * tiles - 1 : 2] for i in range(4)))  # [column, row, R, tiles, C]
        products = torch.bmm(inputs.view(16, -1, x.shape[-1]), self.products)
        left_right = _two_from_four(*products.view(4, 4, len(y) // 2, tiles, -1))  # [side, row, R, tiles, O]
        pairs = y.unflatten(1, (tiles, 2)).unflatten(0, (-1, 2)).permute(3, 1, 0, 2, 4)  # [side, level, R, tiles, O]
        for sides, pair in zip(left_right, pairs, strict=True):
            torch.add(_two_from_four(*sides), self.bias, out=pair)


class StridedWinogradConv2d(nn.Module):
    """Stands in for trained 3 x 3 ``nn.Conv2d`` with stride 2 on one input, zeros above and below but not at the sides.

    Several convolutions share the sums over the input; their output channels follow each other.
    """

    bias: Tensor

    def __init__(self, *convolutions: nn.Conv2d):
        super().__init__()
        weight = torch.cat([convolution.weight.detach() for convolution in convolutions])
        transform = torch.tensor(_STRIDED_TRANSFORM, device=weight.device)
        products = torch.einsum("ah,oihw,bw->abio", transform, weight.float(), transform).to(weight.dtype)
        self.products = nn.ParameterList(
            nn.Parameter(products[rows, columns].flatten(0, 2).contiguous(), requires_grad=False)
            for rows in _STRIDED_GROUPS
            for columns in _STRIDED_GROUPS
        )
        self.register_buffer("bias", torch.cat([_bias(convolution) for convolution in convolutions]), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``Tensor[B, C, H, 2 W + 1]`` to ``Tensor[B, O, ceil(H / 2), W]`` in channels-last order."""
        height, width = (x.shape[2] + 1) // 2, x.shape[3] // 2
        odd_height, odd_width = height % 2, width % 2
        below = 2 * (height + odd_height) - x.shape[2]
        x = functional.pad(x.to(self.bias.dtype), (0, 2 * odd_width, 1, below)).permute(0, 2, 3, 1).contiguous()
        y = x.new_empty(len(x), height + odd_height, width + odd_width, len(self.bias))
        tiles = y.shape[2] // 2
        step = 2 * max(1, _TILES // tiles)
        for clip, out in zip(x, y, strict=True):
            for row in range(0, len(out), step):
                self._rows_of_tiles(clip[2 * row : 2 * (row + step) + 1], out[row : row + step], tiles)
        return y[:, :height, :width].permute(0, 3, 1, 2)

    def _rows_of_tiles(self, x: Tensor, y: Tensor, tiles: int) -> None:
        """Fill the output rows ``y[2 R, 2 tiles, O]`` from the input rows ``x[4 R + 1, 4 tiles + 1, C]``."""
        products = iter(self.products)
        sides = []
        for rows in _five_from_five(*(x[i : i + 2 * len(y) - 3 : 4] for i in range(5))):
            columns = [_five_from_five(*(row[:, i : i + 4 * tiles - 3 : 4] for i in range(5))) for row in rows]
            a, b, c = (
                torch.cat([part for parts in columns for part in parts[group]], dim=-1).flatten(0, 1) @ next(products)
                for group in range(3)
            )
            sides.append((a.add_(b), b.sub_(c)))
        pairs = y.view(len(y) // 2, 2, tiles, 2, -1)
        for side, (a, b, c) in enumerate(zip(*sides, strict=True)):
            a, b, c = (product.view(-1, tiles, len(self.bias)) for product in (a, b, c))
            torch.add(a.add_(self.bias), b, out=pairs[:, 0, :, side])
            torch.sub(b.add_(self.bias), c, out=pairs[:, 1, :, side])


def _bias(convolution: nn.Conv2d) -> Tensor:
    """Return the bias of a convolution, zeros where it has none."""
    weight = convolution.weight.detach()
    return weight.new_zeros(len(weight)) if convolution.bias is None else convolution.bias.detach()


def _five_from_five(p0: Tensor, p1: Tensor, p2: Tensor, p3: Tensor, p4: Tensor) -> tuple[tuple[Tensor, ...], ...]:
    """Transform five neighbours of the input along one axis into the factors of `_STRIDED_TRANSFORM`, in its groups."""
    return (p0 - p2, p1), (p2,), (p2 - p4, p3)


def _four_from_four(a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> Tensor:
    """Transform four neighbours of the input along one axis: ``Tensor[4, ...]``."""
    y = a.new_empty(4, *a.shape)
    torch.sub(a, c, out=y[0])
    torch.add(b, c, out=y[1])
    torch.sub(c, b, out=y[2])
    torch.sub(b, d, out=y[3])
    return y


def _two_from_four(a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> Tensor:
    """Transform four products into two neighbours of the output along one axis: ``Tensor[2, ...]``."""
    y = a.new_empty(2, *a.shape)
    torch.add(a, b, out=y[0]).add_(c)
    torch.sub(b, c, out=y[1]).sub_(d)
    return y
