"""3 x 3 convolutions with fewer products than their definition has (Winograd's algorithm, Lavin & Gray 2016, arXiv 1509.09308).

Conventions
-----------
- Outputs along one axis are sums of products of sums. With stride 1 four outputs take six products instead of twelve, F(4, 3);
  with stride 2 two outputs take five instead of six, two of the odd samples and three, F(2, 2), of the even ones. Over both
  axes that is a quarter, and 25 of 36.
- The sums over the input are taken tile by tile, then the products over all channels as matrix products, then the sums over
  the output. On a CPU, where the matrix rate is the limit, this saves up to half of the time of a wide convolution; on a GPU
  the sums would cost more than the products save.
- F(4, 3) is a polynomial product through its values at 0, at infinity, and at p, -p, 1 / p and -1 / p. The usual points 1
  and 2 would double the error in bfloat16; p = 3 / 2 is near its minimum.
- Products are in the type of the weight. In float32 the result is as close to the exact one as that of a direct convolution;
  in bfloat16 the sums are rounded once more (relative error of F(4, 3) up to 2.2e-2 against 2e-3).
- About `_TILES` tiles are in work at a time: enough for the matrix products to run at full rate, few enough for a cache.
- Tiles are four by four outputs with stride 1, two by two with stride 2: edges that do not fill one are computed, and cut.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

_TILES = 640

# With stride 1 the kernel is a polynomial, and the rows give its values at 0, p, -p, q = 1 / p, -q and infinity, scaled so that
# powers of p and q are all that `_six_from_six` and `_four_from_six` need.
_P, _Q = 3 / 2, 2 / 3
_C = 1 / (2 * (_P**2 - _Q**2))
_KERNEL_TRANSFORM = (
    (1.0, 0.0, 0.0),
    (_C * _Q, _C, _C * _P),
    (_C * _Q, -_C, _C * _P),
    (-_C * _P, -_C, -_C * _Q),
    (-_C * _P, _C, -_C * _Q),
    (0.0, 0.0, 1.0),
)

# With stride 2 five neighbours p0 … p4 give y0 = a + b and y1 = b - c, where a = (p0 - p2) w0 + p1 w1, b = p2 (w0 + w2) and
# c = (p2 - p4) w2 - p3 w1. The rows are the kernels of the five products, the slices those that are summed right away.
_STRIDED_TRANSFORM = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (1.0, 0.0, 1.0), (0.0, 0.0, 1.0), (0.0, -1.0, 0.0))
_STRIDED_GROUPS = (slice(0, 2), slice(2, 3), slice(3, 5))


class WinogradTail(nn.Module):
    """The end of a residual block, ``relu(convolution(relu(x)) + shortcut)``, the 3 x 3 convolution trained, with stride 1.

    The other steps are done on the rows in work, where they need no further pass through memory.
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

        Zeros stand above and below x, in `left` columns before it, and in the columns that it lacks after it: W + 2 - left - V.
        """
        batch, channels, height, columns = x.shape
        width = shortcut.shape[3]
        full_height, full_width = height + -height % 4, width + -width % 4
        padded = self.products.new_zeros(batch, full_height + 2, full_width + 2, channels)
        torch.clamp_min(x.permute(0, 2, 3, 1), 0, out=padded[:, 1 : 1 + height, left : left + columns])
        y = padded.new_empty(batch, full_height, full_width, len(self.bias))
        tiles = full_width // 4
        step = 4 * max(1, _TILES // tiles)
        for clip, added, out in zip(padded, shortcut.permute(0, 2, 3, 1), y, strict=True):
            for row in range(0, len(out), step):
                rows = out[row : row + step]
                self._rows_of_tiles(clip[row : row + step + 2], rows, tiles)
                rows = rows[: height - row, :width]
                rows.add_(added[row : row + step]).relu_()
        return y[:, :height, :width].permute(0, 3, 1, 2)

    def _rows_of_tiles(self, x: Tensor, y: Tensor, tiles: int) -> None:
        """Fill the output rows ``y[4 R, 4 tiles, O]`` from the input rows ``x[4 R + 2, 4 tiles + 2, C]``."""
        rows = _six_from_six(*(x[i : i + len(y) - 3 : 4] for i in range(6)))
        inputs = _six_from_six(*(rows[:, :, i : i + 4 * tiles - 3 : 4] for i in range(6)))  # [column, row, R, tiles, C]
        products = torch.bmm(inputs.view(36, -1, x.shape[-1]), self.products)
        columns = _four_from_six(products.view(6, 6, len(y) // 4, tiles, -1))  # [side, row, R, tiles, O]
        outputs = y.unflatten(1, (tiles, 4)).unflatten(0, (-1, 4)).permute(3, 1, 0, 2, 4)  # [side, level, R, tiles, O]
        for side, output in zip(columns, outputs, strict=True):
            torch.add(_four_from_six(side), self.bias, out=output)


class StridedWinogradConv2d(nn.Module):
    """Replaces trained 3 x 3 ``nn.Conv2d`` with stride 2 on one input, zeros above and below but not at the sides.

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


def _six_from_six(p0: Tensor, p1: Tensor, p2: Tensor, p3: Tensor, p4: Tensor, p5: Tensor) -> Tensor:
    """Transform six neighbours of the input along one axis: ``Tensor[6, ...]``."""
    y = p0.new_empty(6, *p0.shape)
    torch.sub(p0, p2, alpha=_P**2 + _Q**2, out=y[0]).add_(p4)
    torch.sub(p5, p3, alpha=_P**2 + _Q**2, out=y[5]).add_(p1)
    for i, point, other in ((1, _P, _Q), (3, _Q, _P)):
        even, odd = torch.sub(p4, p2, alpha=other**2), torch.sub(p3, p1, alpha=other**2)
        torch.add(even, odd, alpha=point, out=y[i])
        torch.sub(even, odd, alpha=point, out=y[i + 1])
    return y


def _four_from_six(products: Tensor) -> Tensor:
    """Transform six products ``Tensor[6, ...]`` into four neighbours of the output along one axis: ``Tensor[4, ...]``."""
    zero, p, minus_p, q, minus_q, infinity = products
    y = products.new_empty(4, *zero.shape)
    even_p, odd_p, even_q, odd_q = p + minus_p, p - minus_p, q + minus_q, q - minus_q
    torch.add(zero, even_p, alpha=_Q, out=y[0]).add_(even_q, alpha=_P)
    torch.add(odd_p, odd_q, out=y[1])
    torch.mul(even_p, _P, out=y[2]).add_(even_q, alpha=_Q)
    torch.add(infinity, odd_p, alpha=_P**2, out=y[3]).add_(odd_q, alpha=_Q**2)
    return y
