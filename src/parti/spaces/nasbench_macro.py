"""The layers of NAS-Bench-Macro.

Xiu Su, Tao Huang, Yanxi Li, Shan You, Fei Wang, Chen Qian, Changshui Zhang, Chang Xu: Prioritized
Architecture Sampling with Monto-Carlo Tree Search, CVPR 2021 (section 4).

Eight layers in three stages of 2, 3 and 3; the first layer of a stage halves the images and
doubles the channels. Each layer is one of three:

    stage1/layer1      identity, mb3_k3, mb6_k5: an inverted residual of expansion 3 or 6 and
    stage1/layer2      kernel 3 or 5. The identity is a 1×1 convolution where the shape changes
    ...

An identity that keeps the shape does nothing, so it makes no difference where it stands among the
later layers of its stage; `canonical` has them last.

Size: 6,561 architectures, 3,969 canonical forms. For images of up to 40 pixels the network is what
was published, to the last parameter; the stem shrinks larger ones. Initial weights are parti's
(`assemble`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from torch import nn

from parti.core.architecture import Architecture, Option
from parti.core.errors import InvalidArchitecture, InvalidSettings
from parti.core.graph import Graph
from parti.core.program import space
from parti.core.walks import validate
from parti.core.words import one_of
from parti.networks.blocks import inverted_residual
from parti.networks.heads import assemble, head, stem
from parti.networks.operations import conv_norm_act
from parti.spaces.stages import stem_stride

__all__ = ["canonical", "draw", "from_string", "nasbench_macro", "to_string"]

PRIMITIVES = ("identity", "mb3_k3", "mb6_k5")
"""What a layer may be; the benchmark's strings have their places, from 0."""

LAYERS = (2, 3, 3)
"""How many each stage has."""

STAGES = tuple(
    tuple(f"stage{stage}/layer{number}" for number in range(1, count + 1))
    for stage, count in enumerate(LAYERS, start=1)
)
"""Names of the choices of each stage."""

CHOICES = tuple(name for stage in STAGES for name in stage)
FEATURES = 1280
"""Channels before the head."""


def canonical(architecture: Architecture) -> Architecture:
    """Return the one architecture that stands for all that compute the same functions."""
    decisions: dict[str, Option] = {}
    for stage in STAGES:
        first, *later = (architecture[name] for name in stage)
        # Sorting is stable: what is no identity keeps its order.
        ordered = (first, *sorted(later, key=lambda layer: layer == "identity"))
        decisions.update(zip(stage, ordered, strict=True))
    return Architecture(decisions)


def draw(architecture: Architecture) -> Graph:
    """Draw the layers that do something as a chain; labels say which stage: `stage2/mb3_k3`."""
    layers = [
        f"{name.partition('/')[0]}/{architecture[name]}"
        for stage in STAGES
        for name in stage
        if name == stage[0] or architecture[name] != "identity"
    ]
    labels = ("input", *layers, "output")
    return Graph(labels, tuple((place, place + 1) for place in range(len(labels) - 1)))


@space(dynamic=False, canonical=canonical, graph=draw)
def nasbench_macro(
    in_channels: int = 3, classes: int = 10, resolution: int = 32, *, channels: int = 32
) -> nn.Sequential:
    """Build a network of eight layers.

    Args:
        in_channels: of the images.
        classes: number of logits.
        resolution: of the images in pixels.
        channels: of the stem; doubled by each stage.

    Raises:
        InvalidSettings: there are no channels.
    """
    if channels < 1:
        raise InvalidSettings(f"channels={channels}: there must be at least 1")
    parts: dict[str, nn.Module] = {"stem": stem(in_channels, channels, stem_stride(resolution))}
    before = channels
    for number, names in enumerate(STAGES, start=1):
        layers = [one_of(names[0], _layers(before, 2 * before))]
        before *= 2
        layers += [one_of(name, _layers(before, before)) for name in names[1:]]
        parts[f"stage{number}"] = nn.Sequential(*layers)
    parts["features"] = conv_norm_act(before, FEATURES, 1)
    parts["head"] = head(FEATURES, classes)
    return assemble(parts)


def to_string(architecture: Mapping[str, Option]) -> str:
    """Write an architecture as the benchmark does: `01202201`, a digit for each layer.

    Raises:
        InvalidArchitecture: the architecture is no member of this space.
    """
    member = validate(nasbench_macro, architecture)
    return "".join(str(PRIMITIVES.index(str(member[name]))) for name in CHOICES)


def from_string(text: str) -> Architecture:
    """Read what `to_string` wrote.

    Raises:
        InvalidArchitecture: the text is no architecture of this space.
    """
    if len(text) == len(CHOICES) and set(text) <= set("012"):
        layers = (PRIMITIVES[int(digit)] for digit in text)
        return Architecture(dict(zip(CHOICES, layers, strict=True)))
    raise InvalidArchitecture(
        f"{text!r} is no architecture of NAS-Bench-Macro; it is written with {len(CHOICES)} digits "
        f"from 0 to 2, for {', '.join(PRIMITIVES)}"
    )


def _layers(in_channels: int, channels: int) -> dict[str, Callable[[], nn.Module]]:
    """What a layer may be; it halves the images where it changes the channels."""
    changes = in_channels != channels
    stride = 2 if changes else 1

    def identity() -> nn.Module:
        if changes:
            return conv_norm_act(in_channels, channels, 1, stride=stride, act=None)
        return nn.Identity()

    def inverted(expansion: int, kernel: int) -> nn.Module:
        return inverted_residual(
            in_channels,
            channels,
            kernel,
            expansion=expansion,
            stride=stride,
            shortcut=not changes,
            act="relu",
        )

    return {
        "identity": identity,
        "mb3_k3": partial(inverted, 3, 3),
        "mb6_k5": partial(inverted, 6, 5),
    }
