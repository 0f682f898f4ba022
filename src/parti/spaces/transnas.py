"""The two spaces of TransNAS-Bench-101: cells, and skeletons.

Yawen Duan, Xin Chen, Hang Xu, Zewei Chen, Xiaodan Liang, Tong Zhang, Zhenguo Li:
TransNAS-Bench-101: Improving Transferability and Generalizability of Cross-Task Neural
Architecture Search, CVPR 2021.

`transnas_micro` searches the cell of a fixed skeleton of five modules. A cell has four nodes, 0
(its input) to 3 (its output), and an operation on each edge from a node to a later one:

    edge0-1, edge0-2, edge1-2, edge0-3, edge1-3, edge2-3         none, skip, conv1x1, conv3x3

`transnas_macro` searches the skeleton of residual blocks: four to six modules, of which one to
four halve the images and one to three double the channels.

    modules                                    4, 5 or 6
    modules=5/halved = module1 + module4       which of them halve the images
    modules=5/doubled = module4                which of them double the channels

Size: 4,096 cells, of which some are one (`canonical_micro`), and 3,256 skeletons, all different.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache, partial
from itertools import product

from torch import nn

from parti.core.architecture import Architecture, Option
from parti.core.errors import InvalidArchitecture, InvalidSettings
from parti.core.graph import Graph
from parti.core.program import space
from parti.core.walks import validate
from parti.core.words import one_of, some_of
from parti.networks.nasbench201 import EDGES, EdgeCell
from parti.networks.transnas import ModuleKind, edge_operations, preactivated_block, stack_modules
from parti.spaces.isomorphism import Certificate, certificate
from parti.spaces.stages import stem_stride

__all__ = [
    "canonical_micro",
    "draw_macro",
    "draw_micro",
    "macro_from_string",
    "macro_to_string",
    "micro_from_string",
    "micro_to_string",
    "transnas_macro",
    "transnas_micro",
]

PRIMITIVES = ("none", "skip", "conv1x1", "conv3x3")
"""What an edge may be; the benchmark's strings have their places, from 0."""

MODULES = (
    ModuleKind(halves=False, doubles=False),
    ModuleKind(halves=False, doubles=True),
    ModuleKind(halves=True, doubles=False),
    ModuleKind(halves=True, doubles=True),
)
"""What a module may be; the benchmark's strings have their places, from 1."""

MICRO_SKELETON = "41414"
COUNTS = (4, 5, 6)
HALVED = (1, 2, 3, 4)
DOUBLED = (1, 2, 3)
CHANNELS = 64
"""Of the benchmark's networks."""

CHOICES = tuple(f"edge{edge}" for edge in EDGES)
ENDS = tuple((int(edge[0]), int(edge[2])) for edge in EDGES)
LAST = 3
"""The node that is a cell's output."""

Operations = tuple[str, ...]
"""A primitive for each edge."""


# --- cells -----------------------------------------------------------------------------------


def canonical_micro(architecture: Architecture) -> Architecture:
    """Return the one cell that stands for all that compute the same functions.

    Of the cells whose graphs (`draw_micro`) are isomorphic it is the first in the order of the
    space, so it has no operation without effect.
    """
    first = _firsts()[_certificate(_operations(architecture))]
    return Architecture(dict(zip(CHOICES, first, strict=True)))


def draw_micro(architecture: Architecture) -> Graph:
    """Draw a cell as the graph of those of its operations that have an effect.

    Several edges into a vertex are summed. An operation has no effect when its output does not
    reach the cell's, or when nothing reaches it: a convolution of zeros gives its normalization's
    bias, which is taken for nothing. A skip between later nodes is no operation; one of the
    cell's input is, since it has weights in the modules that halve images.
    """
    return _graph(_operations(architecture))


@space(dynamic=False, canonical=canonical_micro, graph=draw_micro)
def transnas_micro(
    in_channels: int = 3, classes: int = 10, resolution: int = 32, *, channels: int = CHANNELS
) -> nn.Sequential:
    """Build a network of ten equal cells, two in each of five modules.

    Args:
        in_channels: of the images.
        classes: number of logits.
        resolution: of the images in pixels.
        channels: of the stem; doubled three times. Even.

    Raises:
        InvalidSettings: the number of channels is not even.
    """

    def cell(before: int, after: int, stride: int) -> EdgeCell:
        def edge(source: int) -> dict[str, Callable[[], nn.Module]]:
            if source == 0:
                return edge_operations(before, after, stride)
            return edge_operations(after, after, 1)

        return EdgeCell(
            {
                name: one_of(f"edge{name}", edge(source))
                for name, (source, _) in zip(EDGES, ENDS, strict=True)
            }
        )

    modules = [MODULES[int(digit) - 1] for digit in MICRO_SKELETON]
    return stack_modules(
        cell,
        modules,
        in_channels,
        classes,
        channels=_even(channels),
        stem_stride=stem_stride(resolution),
    )


def micro_to_string(architecture: Mapping[str, Option]) -> str:
    """Write a cell as the benchmark does: `64-41414-1_02_333`, the edges of nodes 1, 2 and 3.

    Raises:
        InvalidArchitecture: the architecture is no member of `transnas_micro`.
    """
    operations = _operations(validate(transnas_micro, architecture))
    digits = "".join(str(PRIMITIVES.index(operation)) for operation in operations)
    return f"{CHANNELS}-{MICRO_SKELETON}-{digits[0]}_{digits[1:3]}_{digits[3:]}"


def micro_from_string(text: str) -> Architecture:
    """Read what `micro_to_string` wrote.

    Raises:
        InvalidArchitecture: the text is no cell of this space.
    """
    digits = text.rpartition("-")[2].replace("_", "")
    if len(digits) == len(EDGES) and set(digits) <= set("0123"):
        operations = (PRIMITIVES[int(digit)] for digit in digits)
        architecture = Architecture(dict(zip(CHOICES, operations, strict=True)))
        if text == micro_to_string(architecture):
            return architecture
    raise InvalidArchitecture(
        f"{text!r} is no cell of TransNAS-Bench-101; it is written "
        f"{CHANNELS}-{MICRO_SKELETON}-1_02_333, with a digit from 0 to 3 for each edge, where "
        f"0 to 3 are {', '.join(PRIMITIVES)}"
    )


def _operations(architecture: Mapping[str, Option]) -> Operations:
    return tuple([str(architecture[name]) for name in CHOICES])


@cache
def _firsts() -> dict[Certificate, Operations]:
    """For each certificate, the first cell that has it."""
    firsts: dict[Certificate, Operations] = {}
    for operations in product(PRIMITIVES, repeat=len(EDGES)):
        firsts.setdefault(_certificate(operations), operations)
    return firsts


@cache
def _certificate(operations: Operations) -> Certificate:
    return certificate(_graph(operations))


@cache
def _graph(operations: Operations) -> Graph:
    labels = ["input"]
    edges: list[tuple[int, int]] = []
    arriving: list[list[int]] = [[0], [], [], []]
    # In order of the target, so that all that arrives at a source is known.
    for operation, (source, target) in zip(operations, ENDS, strict=True):
        if operation == "none" or not arriving[source]:
            continue
        if operation == "skip" and source > 0:
            arriving[target] += arriving[source]
            continue
        edges += [(vertex, len(labels)) for vertex in arriving[source]]
        arriving[target].append(len(labels))
        labels.append(operation)
    edges += [(vertex, len(labels)) for vertex in arriving[LAST]]
    return _without_loose_ends(Graph((*labels, "output"), tuple(edges)))


def _without_loose_ends(graph: Graph) -> Graph:
    """The graph without what does not lead to its last vertex; the first one is kept too."""
    useful = {0, len(graph.labels) - 1}
    for start, end in reversed(graph.edges):
        if end in useful:
            useful.add(start)
    places = {vertex: place for place, vertex in enumerate(sorted(useful))}
    return Graph(
        tuple(graph.labels[vertex] for vertex in places),
        tuple((places[start], places[end]) for start, end in graph.edges if end in useful),
    )


# --- skeletons -------------------------------------------------------------------------------


def draw_macro(architecture: Architecture) -> Graph:
    """Draw a skeleton as a chain of modules: `plain`, `doubled`, `halved`, `halved, doubled`."""
    labels = ["input"]
    for module in _modules(architecture):
        done = ["halved"] * module.halves + ["doubled"] * module.doubles
        labels.append(", ".join(done) or "plain")
    labels.append("output")
    return Graph(tuple(labels), tuple((place, place + 1) for place in range(len(labels) - 1)))


@space(dynamic=False, graph=draw_macro)
def transnas_macro(
    in_channels: int = 3, classes: int = 10, resolution: int = 32, *, channels: int = CHANNELS
) -> nn.Sequential:
    """Build a network of four to six modules of two residual blocks each.

    Args:
        in_channels: of the images.
        classes: number of logits.
        resolution: of the images in pixels.
        channels: of the stem; doubled one to three times. Even.

    Raises:
        InvalidSettings: the number of channels is not even.
    """
    modules = one_of("modules", {str(count): partial(_skeleton, count) for count in COUNTS})
    return stack_modules(
        preactivated_block,
        modules,
        in_channels,
        classes,
        channels=_even(channels),
        stem_stride=stem_stride(resolution),
    )


def macro_to_string(architecture: Mapping[str, Option]) -> str:
    """Write a skeleton as the benchmark does: `64-1234-basic`.

    A digit for each module: 1 keeps everything, 2 doubles the channels, 3 halves the images, 4
    does both.

    Raises:
        InvalidArchitecture: the architecture is no member of `transnas_macro`.
    """
    modules = _modules(validate(transnas_macro, architecture))
    digits = "".join(str(MODULES.index(module) + 1) for module in modules)
    return f"{CHANNELS}-{digits}-basic"


def macro_from_string(text: str) -> Architecture:
    """Read what `macro_to_string` wrote.

    Raises:
        InvalidArchitecture: the text is no skeleton of this space.
    """
    channels, _, rest = text.partition("-")
    digits, _, block = rest.partition("-")
    if channels == str(CHANNELS) and block == "basic" and set(digits) <= set("1234"):
        modules = [MODULES[int(digit) - 1] for digit in digits]
        numbered = {f"module{number}": module for number, module in enumerate(modules, start=1)}
        halved = tuple(name for name, module in numbered.items() if module.halves)
        doubled = tuple(name for name, module in numbered.items() if module.doubles)
        if len(modules) in COUNTS and len(halved) in HALVED and len(doubled) in DOUBLED:
            under = f"modules={len(modules)}"
            return Architecture(
                {
                    "modules": str(len(modules)),
                    f"{under}/halved": halved,
                    f"{under}/doubled": doubled,
                }
            )
    raise InvalidArchitecture(
        f"{text!r} is no skeleton of TransNAS-Bench-101; it is written {CHANNELS}-1234-basic, with "
        "4 to 6 modules: 1 keeps everything, 2 doubles the channels, 3 halves the images, 4 does "
        "both; 1 to 4 modules halve the images and 1 to 3 double the channels"
    )


def _skeleton(count: int) -> list[ModuleKind]:
    """Ask what each of `count` modules does."""
    names = [f"module{number}" for number in range(1, count + 1)]
    yes = dict.fromkeys(names, lambda: True)
    halved: dict[str, bool] = some_of("halved", yes, HALVED)
    doubled: dict[str, bool] = some_of("doubled", yes, DOUBLED)
    return [ModuleKind(halves=name in halved, doubles=name in doubled) for name in names]


def _modules(architecture: Mapping[str, Option]) -> list[ModuleKind]:
    count = architecture["modules"]
    halved = architecture[f"modules={count}/halved"]
    doubled = architecture[f"modules={count}/doubled"]
    assert isinstance(halved, tuple)
    assert isinstance(doubled, tuple)
    names = [f"module{number}" for number in range(1, int(str(count)) + 1)]
    return [ModuleKind(halves=name in halved, doubles=name in doubled) for name in names]


def _even(channels: int) -> int:
    if channels < 2 or channels % 2:
        raise InvalidSettings(f"channels={channels}: choose an even number, such as {CHANNELS}")
    return channels
