"""Elastic layers: built for the largest value of a choice, cut to the one that is active.

A layer keeps the names and the class of torch's own, so that whoever looks at weights or at types
finds what a plain network has. How many channels come in is read from the input itself.

`parti.supernets.constructors` puts them in the place of torch's own while a program runs.
"""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from parti.core.elastic import always_equal
from parti.core.errors import SpaceError
from parti.supernets.convolutions import ElasticConv1d, ElasticConv2d, ElasticConvTranspose2d
from parti.supernets.cutting import Layer, cut, is_open, now

__all__ = ["ELASTIC", "Layer", "cut"]


class ElasticLinear(Layer, nn.Linear):
    """A linear layer; inputs that are flattened images keep their first channels."""

    takes = frozenset(("in_features", "out_features", "bias"))

    def forward(self, x: Tensor) -> Tensor:
        """Map the last dimension with the active part of the weights."""
        features = self.now("out_features")
        weight = self.cut_to("weight", (features, x.shape[-1]))
        biased = self.bias is not None and self.now("bias")
        return F.linear(x, weight, self.cut_to("bias", (features,)) if biased else None)


class ElasticEmbedding(Layer, nn.Embedding):
    """Vectors of elastic length; of tokens too there may be fewer."""

    takes = frozenset(("num_embeddings", "embedding_dim"))

    def forward(self, x: Tensor) -> Tensor:
        """Look up the first entries of each token's vector."""
        weight = self.cut_to("weight", (self.now("num_embeddings"), self.now("embedding_dim")))
        return F.embedding(
            x,
            weight,
            self.padding_idx,
            self.max_norm,
            self.norm_type,
            self.scale_grad_by_freq,
            self.sparse,
        )


class _BatchNorm(Layer):
    """The statistics of the first channels are shared by all widths: recalibrate a subnet's."""

    takes = frozenset(("num_features",))
    num_batches_tracked: Any
    momentum: Any
    eps: Any
    training: bool

    def forward(self, x: Tensor) -> Tensor:
        """Normalize the channels that come in."""
        shape = (x.shape[1],)
        mean, variance = self.part("running_mean", shape), self.part("running_var", shape)
        momentum = self.momentum
        if self.training and self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
            if momentum is None:
                momentum = 1.0 / float(self.num_batches_tracked)
        return F.batch_norm(
            x,
            mean,
            variance,
            self.part("weight", shape),
            self.part("bias", shape),
            training=self.training or mean is None,
            momentum=momentum or 0.0,
            eps=self.eps,
        )


class ElasticBatchNorm1d(_BatchNorm, nn.BatchNorm1d):
    """Of vectors or sequences."""


class ElasticBatchNorm2d(_BatchNorm, nn.BatchNorm2d):
    """Of images."""


class ElasticGroupNorm(Layer, nn.GroupNorm):
    """Groups may be as elastic as the channels."""

    takes = frozenset(("num_groups", "num_channels"))

    @classmethod
    def built(cls, given: dict[str, Any]) -> dict[str, Any]:
        # The most groups need not divide the most channels; here they only count when it runs.
        return {**super().built(given), "num_groups": 1}

    def forward(self, x: Tensor) -> Tensor:
        """Normalize the channels that come in."""
        weight, bias = (self.part(name, (x.shape[1],)) for name in ("weight", "bias"))
        return F.group_norm(x, self.now("num_groups"), weight, bias, self.eps)


class ElasticLayerNorm(Layer, nn.LayerNorm):
    """Over as many trailing dimensions as it was built for."""

    takes = frozenset(("normalized_shape",))

    def forward(self, x: Tensor) -> Tensor:
        """Normalize what comes in."""
        shape = tuple(x.shape[-len(self.normalized_shape) :])
        weight, bias = (self.part(name, shape) for name in ("weight", "bias"))
        return F.layer_norm(x, shape, weight, bias, self.eps)


class ElasticPReLU(Layer, nn.PReLU):
    """A slope for each channel."""

    takes = frozenset(("num_parameters",))

    def forward(self, x: Tensor) -> Tensor:
        """Activate."""
        return F.prelu(x, self.cut_to("weight", (self.now("num_parameters"),)))


class _Settings(Layer):
    """A layer without weights, whose arguments are read as attributes when it runs."""

    def forward(self, x: Tensor) -> Tensor:
        """Compute with the active arguments."""
        for name, value in self.elastic.items():
            if is_open(value):
                setattr(self, name, now(value))
        output: Tensor = super().forward(x)  # type: ignore[misc]
        return output


class ElasticDropout(_Settings, nn.Dropout):
    """An elastic share of dropped inputs."""

    takes = frozenset(("p",))


class _Pool(_Settings):
    """An elastic window; side by side where no stride is given."""

    takes = frozenset(("kernel_size", "stride", "padding", "dilation"))

    @classmethod
    def built(cls, given: dict[str, Any]) -> dict[str, Any]:
        if given["stride"] is None:
            given["stride"] = given["kernel_size"]
        return super().built(given)


class ElasticMaxPool2d(_Pool, nn.MaxPool2d):
    """The maximum."""


class ElasticAvgPool2d(_Pool, nn.AvgPool2d):
    """The mean."""


class ElasticUpsample(_Settings, nn.Upsample):
    """An elastic height and width, larger or smaller than those that come in."""

    takes = frozenset(("size",))


class ElasticMultiheadAttention(Layer, nn.MultiheadAttention):
    """Elastic width and number of heads; query, key and value come in with the same width.

    In evaluation without gradients torch's own has a fused kernel that rounds differently, so
    that there outputs are equal to rounding only.
    """

    takes = frozenset(("embed_dim", "num_heads", "dropout", "kdim", "vdim"))

    @classmethod
    def built(cls, given: dict[str, Any]) -> dict[str, Any]:
        for name in ("kdim", "vdim"):
            if given[name] is not None and not always_equal(given[name], given["embed_dim"]):
                raise SpaceError(
                    f"an elastic attention has {name}={given[name]!r} and embed_dim="
                    f"{given['embed_dim']!r}: they must be the same"
                )
        if given["add_bias_kv"]:
            raise SpaceError("an elastic attention has no add_bias_kv: leave it out")
        # The most heads need not divide the largest width; here they only count when it runs.
        return {**super().built(given), "num_heads": 1, "kdim": None, "vdim": None}

    def cut_to(self, name: str, shape: tuple[int, ...]) -> Tensor:
        return cut(getattr(self, name), shape, parts=3 if name.startswith("in_proj") else 1)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """As torch's own, with the active part of the weights."""
        width = query.shape[-1]
        if self.batch_first and query.dim() == 3:
            query, key, value = (each.transpose(0, 1) for each in (query, key, value))
        attended, weights = F.multi_head_attention_forward(
            query,
            key,
            value,
            width,
            self.now("num_heads"),
            self.cut_to("in_proj_weight", (3 * width, width)),
            self.part("in_proj_bias", (3 * width,)),
            None,
            None,
            self.add_zero_attn,
            self.now("dropout"),
            cut(self.out_proj.weight, (width, width)),
            None if self.out_proj.bias is None else cut(self.out_proj.bias, (width,)),
            training=self.training,
            key_padding_mask=key_padding_mask,
            need_weights=need_weights,
            attn_mask=attn_mask,
            average_attn_weights=average_attn_weights,
            is_causal=is_causal,
        )
        if self.batch_first and attended.dim() == 3:
            attended = attended.transpose(0, 1)
        return attended, weights


ELASTIC: dict[type[nn.Module], type[Layer]] = {
    nn.Conv1d: ElasticConv1d,
    nn.Conv2d: ElasticConv2d,
    nn.ConvTranspose2d: ElasticConvTranspose2d,
    nn.Linear: ElasticLinear,
    nn.Embedding: ElasticEmbedding,
    nn.BatchNorm1d: ElasticBatchNorm1d,
    nn.BatchNorm2d: ElasticBatchNorm2d,
    nn.GroupNorm: ElasticGroupNorm,
    nn.LayerNorm: ElasticLayerNorm,
    nn.PReLU: ElasticPReLU,
    nn.Dropout: ElasticDropout,
    nn.MaxPool2d: ElasticMaxPool2d,
    nn.AvgPool2d: ElasticAvgPool2d,
    nn.Upsample: ElasticUpsample,
    nn.MultiheadAttention: ElasticMultiheadAttention,
}
"""What torch's layers become when one of their arguments is elastic."""
