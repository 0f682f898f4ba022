"""Plain chains of convolutions, as in VGG (Simonyan 2015), with every classical hyper-parameter.

Decided once: the activation (seven), the normalization (batch, group or none) and the head.
For each stage: how it shrinks images, its width and the number of its layers. For each layer:
kernel and dilation. The head is a linear classifier, or dense layers with dropout before it.

    activation, normalization         how every layer goes on after its convolution
    stage2/downsample                 strided convolution, or max or average pooling
    stage2/width                      channels of all its layers
    stage2/layers = 3                 how many there are
    stage2/layers[0]/kernel           3, 5 or 7, as far as it fits into the images
    stage2/layers[0]/dilation         1 or 2, where images are large enough
    head=dense/units, .../dropout     of the dense layers; head=dense/layers: how many

Size: 7.7e12 architectures at 32×32, of 10 thousand to 5.7 million parameters. Choose
it to study these hyper-parameters, or for speed: chains have no side paths. For accuracy,
residual networks train better when deep.

In a weight-sharing supernet, consider fixing `activations` and `normalizations` to one each: they
say how weights are meant, so networks that differ in them share badly.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from parti.core.program import space
from parti.core.words import choose, one_of, repeat, scope
from parti.networks.heads import assemble, dense_layer, head, stem
from parti.networks.operations import average_pool, conv_norm_act, max_pool
from parti.spaces.stages import Stage, fitting, stages, stem_stride, widths

__all__ = ["chain"]


@space
def chain(
    in_channels: int = 3,
    classes: int = 10,
    resolution: int = 32,
    *,
    width: int = 16,
    layers: Sequence[int] = (1, 2, 3),
    kernels: tuple[int, ...] = (3, 5, 7),
    activations: Sequence[str] = ("relu", "leaky_relu", "prelu", "elu", "selu", "silu", "gelu"),
    normalizations: Sequence[str] = ("batch", "group", "none"),
) -> nn.Sequential:
    """Build a chain of convolutions.

    Args:
        in_channels: of the images.
        classes: number of logits.
        resolution: of the images in pixels.
        width: the usual number of channels of the first stage.
        layers: how many a stage may have.
        kernels: sizes to choose from.
        activations: to choose from, keys of `parti.networks.layers.ACTIVATIONS`.
        normalizations: to choose from, keys of `parti.networks.layers.NORMALIZATIONS`.
    """
    act = choose("activation", activations)
    norm = choose("normalization", normalizations)

    def stage_of(stage: Stage, before: int) -> tuple[nn.Module, int]:
        channels = choose("width", widths(width, stage))

        def layer(i: int) -> nn.Module:
            kernel = choose("kernel", fitting(kernels, stage.size))
            dilation = choose("dilation", (1, 2)) if stage.size >= 8 else 1
            inputs = channels if i else before
            return conv_norm_act(inputs, channels, kernel, dilation=dilation, norm=norm, act=act)

        body = repeat("layers", layer, layers)
        if stage.stride == 1:
            return body, channels
        shrink = one_of(
            "downsample",
            {
                "stride": lambda: conv_norm_act(before, before, stride=2, norm=norm, act=act),
                "max_pool": lambda: max_pool(3, stride=2),
                "average_pool": lambda: average_pool(3, stride=2),
            },
        )
        return nn.Sequential(shrink, body), channels

    parts: dict[str, nn.Module] = {
        "stem": stem(in_channels, width, stem_stride(resolution), norm=norm, act=act)
    }
    channels = width
    for stage in stages(resolution):
        with scope(stage.name):
            parts[stage.name], channels = stage_of(stage, channels)
    parts["head"] = one_of(
        "head",
        {
            "linear": lambda: head(channels, classes),
            "dense": lambda: _dense_head(channels, classes, act),
        },
    )
    return assemble(parts, act)


def _dense_head(channels: int, classes: int, act: str) -> nn.Sequential:
    units = choose("units", (64, 128, 256))
    dropout = choose("dropout", (0.0, 0.2, 0.5))
    hidden = repeat(
        "layers",
        lambda i: dense_layer(units if i else channels, units, dropout=dropout, act=act),
        (1, 2),
    )
    return head(units, classes, hidden)
