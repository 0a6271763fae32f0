"""One Conformer block (Gulati et al. 2020, arXiv 2005.08100) with the options that set the published music models apart.

Conventions
-----------
- The residual stream is ``Tensor[B, T, D]`` in float32.
- A block is: half of a feed-forward, attention, convolution, half of a feed-forward, layer norm.
- `ConformerStyle` holds what cannot be read from the shapes of the weights. MuQ and MusicFM (`WAV2VEC2_STYLE`) turn the *input*
  of the attention by the rotary angles before the query and key projections, as Wav2Vec2-Conformer does; OMAR-RQ turns the
  projected queries and keys, attends causally, weighs its feed-forwards by 4 and norms after the attention (DeepNorm,
  arXiv 2203.00555). The convolution is never causal.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from marble.upstreams.nn.precision import Conv1d, Foldable, LayerNorm, Linear, attend, half_on_cpu, in_float32
from marble.upstreams.nn.rotary import Pairing, rotate
from marble.upstreams.nn.summary_mixing import SummaryMixingBranch, SummarySizes


@dataclass(frozen=True)
class ConformerSizes:
    """Width D of the residual stream, number of blocks and heads, width of the feed-forwards, taps of the convolution.

    Raises:
        ValueError: a size is not positive, a head would not have a whole, even number of dimensions, or the convolution has
            no centre.
    """

    width: int
    depth: int
    heads: int
    hidden: int
    kernel: int = 31

    def __post_init__(self) -> None:
        if min(self.width, self.depth, self.heads, self.hidden, self.kernel) < 1:
            raise ValueError("sizes must be positive")
        if self.width % (2 * self.heads):
            raise ValueError("width must be a multiple of twice the heads")
        if self.kernel % 2 == 0:
            raise ValueError("kernel must be odd")


@dataclass(frozen=True)
class ConformerStyle:
    """The differences between published Conformers of equal sizes.

    Attributes:
        rotate_input: turn the input of the query and key projections, rather than their output.
        pairing: of the rotary embedding.
        causal: whether a frame attends to the past and itself only.
        activation: of feed-forwards and convolution.
        feed_forward_factor: weight of both feed-forwards on the residual stream.
        deepnorm: None norms the input of the attention; a number multiplies the stream that the attention is added to,
            and the sum is normed.
        attention_bias: whether query, key and value have a bias.
        convolution_bias: whether the convolutions have one.
        branch_eps: of the layer norms before feed-forwards and convolution, and of the batch norm; others have 1e-5.
        attention_dropout: whether features are dropped after the attention, not its weights alone.
        dropout: share of the features dropped in training, in and after every branch, and of the attention weights.
    """

    rotate_input: bool
    pairing: Pairing
    causal: bool
    activation: Callable[[Tensor], Tensor]
    feed_forward_factor: float
    deepnorm: float | None
    attention_bias: bool
    convolution_bias: bool
    branch_eps: float
    attention_dropout: bool
    dropout: float = 0.0


WAV2VEC2_STYLE = ConformerStyle(
    rotate_input=True,
    pairing="halves",
    causal=False,
    activation=functional.silu,
    feed_forward_factor=0.5,
    deepnorm=None,
    attention_bias=True,
    convolution_bias=False,
    branch_eps=1e-5,
    attention_dropout=True,
)


class FeedForward(nn.Module):
    """Layer norm, linear, activation, linear."""

    def __init__(self, sizes: ConformerSizes, style: ConformerStyle):
        super().__init__()
        self.norm = LayerNorm(sizes.width, eps=style.branch_eps)
        self.up = Linear(sizes.width, sizes.hidden)
        self.down = Linear(sizes.hidden, sizes.width)
        self.activation = style.activation
        self.dropout = style.dropout

    def forward(self, x: Tensor) -> Tensor:
        """Map ``Tensor[B, T, D]`` to the same shape; the residual connection is the caller's."""
        x = functional.dropout(self.activation(self.up(self.norm(x))), self.dropout, self.training)
        return functional.dropout(self.down(x), self.dropout, self.training)


class Attention(nn.Module):
    """Multi-head self-attention with its residual connection and norm."""

    def __init__(self, sizes: ConformerSizes, style: ConformerStyle):
        super().__init__()
        width = sizes.width
        self.style = style
        self.head_width = width // sizes.heads
        self.norm = LayerNorm(width, eps=1e-5)
        self.query = Linear(width, width, bias=style.attention_bias)
        self.key = Linear(width, width, bias=style.attention_bias)
        self.value = Linear(width, width, bias=style.attention_bias)
        self.out = Linear(width, width)

    def _attend(self, x: Tensor, table: Tensor) -> Tensor:
        def heads(y: Tensor) -> Tensor:
            """Return ``Tensor[B, T, heads, head_width]`` of ``Tensor[B, T, D]``."""
            return y.unflatten(-1, (-1, self.head_width))

        if self.style.rotate_input:
            turned = rotate(heads(x), table, self.style.pairing).flatten(2)
            query, key = heads(self.query(turned)), heads(self.key(turned))
        else:
            query = rotate(heads(self.query(x)), table, self.style.pairing)
            key = rotate(heads(self.key(x)), table, self.style.pairing)
        dropout = self.style.dropout if self.training else 0.0
        x = self.out(attend(query, key, heads(self.value(x)), self.style.causal, dropout))
        return functional.dropout(x, dropout, self.training and self.style.attention_dropout)

    def branch(self, x: Tensor, table: Tensor) -> Tensor:
        """Return the attention of the normed stream ``Tensor[B, T, D]``, to be added to the stream."""
        return self._attend(self.norm(x), table)

    def forward(self, x: Tensor, table: Tensor) -> Tensor:
        """Return the stream ``Tensor[B, T, D]`` with the attention added; `table` is a `rotary_table` of T frames."""
        if self.style.deepnorm is None:
            return x + self.branch(x, table)
        return self.norm(self.style.deepnorm * x + self._attend(x, table))


def mixer(sizes: ConformerSizes, style: ConformerStyle, summary: SummarySizes | None) -> Attention | SummaryMixingBranch:
    """Return the part of a block that mixes frames: SummaryMixing where its sizes are given, else attention."""
    return Attention(sizes, style) if summary is None else SummaryMixingBranch(sizes.width, summary, style.dropout)


class DepthwiseConv1d(Conv1d):
    """A depthwise convolution of ``Tensor[B, D, T]`` that is fast on a CPU where D is the innermost axis in memory."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        """Map ``Tensor[B, D, T]`` to the same shape."""
        if input.is_cuda:
            return super().forward(input)
        if half_on_cpu(self.weight):
            # In half precision oneDNN may hang, see `marble.upstreams.nn.precision`; float32 takes about as long.
            return in_float32(self._as_image, input, self.weight, self.bias)
        return self._as_image(input.to(self.weight.dtype), self.weight, self.bias)

    def _as_image(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        # As an image of height 1 the order of the axes is recognised; torch's conv1d would copy, and take ten times as long.
        padding = (0, int(self.padding[0]))
        return functional.conv2d(x[:, :, None], weight[:, :, None], bias, padding=padding, groups=self.groups)[:, :, 0]


class Convolution(Foldable):
    """Layer norm, pointwise convolution with gate, depthwise convolution, batch norm, activation, pointwise convolution."""

    folds = (("depthwise", "batch_norm"),)

    def __init__(self, sizes: ConformerSizes, style: ConformerStyle):
        super().__init__()
        width, bias = sizes.width, style.convolution_bias
        self.norm = LayerNorm(width, eps=style.branch_eps)
        self.expand = Linear(width, 2 * width, bias=bias)
        self.depthwise = DepthwiseConv1d(width, width, sizes.kernel, padding=sizes.kernel // 2, groups=width, bias=bias)
        self.batch_norm = nn.BatchNorm1d(width, eps=style.branch_eps)
        self.project = Linear(width, width, bias=bias)
        self.activation = style.activation
        self.dropout = style.dropout

    def forward(self, x: Tensor) -> Tensor:
        """Map ``Tensor[B, T, D]`` to the same shape; the residual connection is the caller's."""
        x = functional.glu(self.expand(self.norm(x)), dim=-1).transpose(1, 2)
        x = self.activation(self.batch_norm(self.depthwise(x)))
        return functional.dropout(self.project(x.transpose(1, 2)), self.dropout, self.training)


class ConformerBlock(nn.Module):
    """One block: ``Tensor[B, T, D]`` and a `rotary_table` of T frames to ``Tensor[B, T, D]``.

    Where `summary` gives its sizes, SummaryMixing takes the place of the attention, and its name.
    """

    def __init__(self, sizes: ConformerSizes, style: ConformerStyle, summary: SummarySizes | None = None):
        super().__init__()
        self.factor = style.feed_forward_factor
        self.feed_forward1 = FeedForward(sizes, style)
        self.attention = mixer(sizes, style, summary)
        self.convolution = Convolution(sizes, style)
        self.feed_forward2 = FeedForward(sizes, style)
        self.norm = LayerNorm(sizes.width, eps=1e-5)

    def forward(self, x: Tensor, table: Tensor) -> Tensor:
        """Map the stream ``Tensor[B, T, D]`` to the same shape; `table` is a `rotary_table` of T frames."""
        x = torch.add(x, self.feed_forward1(x), alpha=self.factor)
        x = self.attention(x, table)
        x = x + self.convolution(x)
        x = torch.add(x, self.feed_forward2(x), alpha=self.factor)
        return self.norm(x)
