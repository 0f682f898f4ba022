"""The cells of DARTS, which are those of NAS-Bench-301.

Hanxiao Liu, Karen Simonyan, Yiming Yang: DARTS: Differentiable Architecture Search, ICLR 2019.
Arber Zela, Julien Siems, Lucas Zimmer, Jovita Lukasik, Margret Keuper, Frank Hutter: Surrogate
NAS Benchmarks: Going Beyond the Limited Search Spaces of Tabular NAS Benchmarks, ICLR 2022.

A normal and a reduction cell, decided once each and stacked. A cell has the outputs of the two
cells before it as inputs, and four nodes; a node sums two operations, one on each of two
*different* sources among the inputs and the nodes before it; the nodes are concatenated.

    normal/node2/inputs = earlier + node1              two of earlier, previous and node1
    normal/node2/inputs=earlier/operation              max_pool_3x3, avg_pool_3x3, skip_connect,
    normal/node2/inputs=node1/operation                sep_conv_3x3 and _5x5, dil_conv_3x3, _5x5
    reduction/...                                      likewise

In a reduction cell the operations on the cell's inputs have stride 2. The supernet's operation
`none` is no option: what is derived from a supernet never has it.

Numbering the nodes otherwise gives the same cell; `canonical` picks one numbering. `to_genotype`
and `from_genotype` translate to the text form that the field uses, and `GENOTYPES` has cells from
the literature. With channels=36, cells=20 they are the networks evaluated on CIFAR-10, with
channels=48, cells=14, resolution=224 those on ImageNet; the defaults are the size for searching.

Size: 1.1e18 architectures.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from functools import partial

from torch import nn

from parti.core.architecture import Architecture, Option
from parti.core.errors import InvalidArchitecture, InvalidSettings
from parti.core.graph import Graph
from parti.core.program import space
from parti.core.walks import validate
from parti.core.words import one_of, scope, some_of
from parti.networks.darts import PRIMITIVES, Cell, CellNetwork, Stem, auxiliary_head, enter
from parti.spaces.nodes import Node, draw_cells, first_numbering

__all__ = ["GENOTYPES", "canonical", "darts", "draw", "from_genotype", "to_genotype"]

CELLS = {"normal": "normal", "reduction": "reduce"}
"""The cells, and what genotypes call them."""

NODES = 4
SOURCES = ("earlier", "previous", *(f"node{number}" for number in range(1, NODES)))
"""In the order in which genotypes number them; node n has the first n + 1 to choose from."""

CONCATENATED = list(range(2, NODES + 2))
"""What a cell's output is made of, as genotypes number it."""

LARGEST_SMALL_IMAGE = 64
"""Images of more pixels than this get the stem for ImageNet."""


def canonical(architecture: Architecture) -> Architecture:
    """Return the one architecture that stands for all that only number the nodes otherwise."""
    return _of_cells({kind: first_numbering(_nodes(architecture, kind)) for kind in CELLS})


def draw(architecture: Architecture) -> Graph:
    """Draw both cells as one graph: `normal/sep_conv_3x3`, `normal/node`, `reduction/output`."""
    return draw_cells({kind: _nodes(architecture, kind) for kind in CELLS})


@space(dynamic=False, canonical=canonical, graph=draw)
def darts(
    in_channels: int = 3,
    classes: int = 10,
    resolution: int = 32,
    *,
    channels: int = 16,
    cells: int = 8,
    drop_path: float = 0.0,
    auxiliary: bool = False,
) -> CellNetwork:
    """Build a stack of cells, with reduction cells after one and two thirds of them.

    Args:
        in_channels: of the images.
        classes: number of logits.
        resolution: of the images in pixels; above 64 the stem is the one for ImageNet, which
            divides the size by 8.
        channels: of a node in the first cells [C]; doubled by reduction cells. Even.
        cells: how many, of both kinds [L]; at least 3.
        drop_path: the share of images for which an operation is left out in training; 0.2 in
            the paper's networks for CIFAR-10, at the end of training.
        auxiliary: whether there is an auxiliary head; in training the network then returns its
            own logits and those of the auxiliary head.

    Raises:
        InvalidSettings: a size is not allowed.
    """
    if cells < 3 or channels < 2 or channels % 2:
        raise InvalidSettings(
            f"cells={cells}, channels={channels}: choose at least 3 cells and an even number of "
            "channels"
        )
    large = resolution > LARGEST_SMALL_IMAGE
    stem = Stem(in_channels, channels, large=large)
    before = earlier = stem.channels
    halved = stem.halves
    size = -(-resolution // 8) if large else resolution
    stack: list[nn.Module] = []
    aside: nn.Module | None = None
    for number in range(cells):
        kind = "reduction" if number in (cells // 3, 2 * cells // 3) else "normal"
        if kind == "reduction":
            channels, size = 2 * channels, -(-size // 2)
        entries = {
            # It has twice the size of the previous one when that was a reduction.
            "earlier": enter(earlier, channels, halve=halved),
            "previous": enter(before, channels, halve=False),
        }
        with scope(kind):
            nodes = [_node(n, channels, kind) for n in range(1, NODES + 1)]
        stack.append(Cell(entries, nodes, drop_path))
        earlier, before, halved = before, NODES * channels, kind == "reduction"
        if auxiliary and number == 2 * cells // 3:
            aside = auxiliary_head(before, classes, size)
    return CellNetwork(stem, stack, before, classes, aside, 2 * cells // 3)


SMALLEST = darts(channels=2, cells=3)
"""Networks of all sizes take the same decisions; this one is traced most quickly."""


def from_genotype(text: str) -> Architecture:
    """Return the architecture that a genotype describes.

    Args:
        text: as DARTS prints it, `Genotype(normal=[('sep_conv_3x3', 1), ...],
            normal_concat=range(2, 6), reduce=[...], reduce_concat=[2, 3, 4, 5])`: for each node
            in turn, two pairs of operation and source, where 0 is the cell before the previous
            one, 1 the previous one, and from 2 on the nodes.

    Raises:
        InvalidArchitecture: the text is no genotype, or not of this space.
    """
    fields = _parsed(text)
    cells = {}
    for kind, field in CELLS.items():
        pairs, concatenated = fields[field], fields[f"{field}_concat"]
        if list(concatenated[: NODES + 1]) != CONCATENATED:
            raise InvalidArchitecture(
                f"{field}_concat is {concatenated!r:.80}; the cells of this space concatenate "
                f"all of their {NODES} nodes, {CONCATENATED}"
            )
        if len(pairs) != 2 * NODES:
            raise InvalidArchitecture(
                f"{field} has {len(pairs)} pairs of operation and source; {NODES} nodes have "
                f"{2 * NODES}"
            )
        edges = [_edge(field, place // 2 + 1, pair) for place, pair in enumerate(pairs)]
        cells[kind] = [(left, right) for left, right in zip(edges[::2], edges[1::2], strict=True)]
        for number, (left, right) in enumerate(cells[kind], start=1):
            if left[0] == right[0]:
                raise InvalidArchitecture(
                    f"node {number} of {field} takes source {SOURCES.index(left[0])} twice; a "
                    "node of this space has two different sources"
                )
    return _of_cells(cells)


def to_genotype(architecture: Mapping[str, Option]) -> str:
    """Write an architecture as DARTS prints it; `from_genotype` reads it.

    Raises:
        InvalidArchitecture: the architecture is no member of this space.
    """
    member = validate(SMALLEST, architecture)
    fields = []
    for kind, field in CELLS.items():
        pairs = [
            (operation, SOURCES.index(source))
            for node in _nodes(member, kind)
            for source, operation in node
        ]
        fields.append(f"{field}={pairs}, {field}_concat={CONCATENATED}")
    return f"Genotype({', '.join(fields)})"


def _node(number: int, channels: int, kind: str) -> nn.ModuleDict:
    """Ask for the sources and operations of node `number`, from 1."""

    def operation(source: str) -> nn.Module:
        halves = kind == "reduction" and not source.startswith("node")
        built: nn.Module = one_of(
            "operation",
            {
                name: partial(build, channels, 2 if halves else 1)
                for name, build in PRIMITIVES.items()
            },
        )
        return built

    with scope(f"node{number}"):
        options = {source: partial(operation, source) for source in SOURCES[: number + 1]}
        chosen: nn.ModuleDict = some_of("inputs", options, k=2)
    return chosen


def _nodes(architecture: Mapping[str, Option], kind: str) -> list[Node]:
    """The nodes of one cell, in order."""

    def node(number: int) -> Iterator[tuple[str, str]]:
        inputs = f"{kind}/node{number}/inputs"
        sources = architecture[inputs]
        assert isinstance(sources, tuple)
        for source in sources:
            yield source, str(architecture[f"{inputs}={source}/operation"])

    found = []
    for number in range(1, NODES + 1):
        first, second = node(number)
        found.append((first, second))
    return found


def _of_cells(cells: Mapping[str, Sequence[Node]]) -> Architecture:
    """The architecture that has these nodes."""
    decisions: dict[str, Option] = {}
    for kind, nodes in cells.items():
        for number, node in enumerate(nodes, start=1):
            inputs = f"{kind}/node{number}/inputs"
            edges = sorted(node, key=lambda edge: SOURCES.index(edge[0]))
            decisions[inputs] = tuple(source for source, _ in edges)
            for source, operation in edges:
                decisions[f"{inputs}={source}/operation"] = operation
    return Architecture(decisions)


def _edge(field: str, number: int, pair: object) -> tuple[str, str]:
    """Source and operation of one pair of a genotype, which belongs to node `number`.

    Raises:
        InvalidArchitecture: there is no such operation, or no such source for this node.
    """
    match pair:
        case (str(operation), int(source)) if operation in PRIMITIVES and 0 <= source <= number:
            return SOURCES[source], operation
    raise InvalidArchitecture(
        f"node {number} of {field} has {pair!r}; it takes a pair of operation and source, where "
        f"operations are {', '.join(PRIMITIVES)} and sources 0 to {number}"
    )


def _parsed(text: str) -> dict[str, Sequence[object]]:
    """The fields of a genotype, read without running it.

    Raises:
        InvalidArchitecture: it has another form.
    """
    expected = {name for field in CELLS.values() for name in (field, f"{field}_concat")}
    try:
        call = ast.parse(text.strip(), mode="eval").body
        if isinstance(call, ast.Call):
            fields = {str(keyword.arg): _value(keyword.value) for keyword in call.keywords}
            if fields.keys() == expected:
                return fields
    except (SyntaxError, TypeError, ValueError, RecursionError, MemoryError):
        pass  # literal_eval raises any of these for what is no literal
    raise InvalidArchitecture(
        f"not a genotype: {text[:80]!r}; it has the form Genotype(normal=[('sep_conv_3x3', 1), "
        "...], normal_concat=range(2, 6), reduce=[...], reduce_concat=range(2, 6))"
    )


def _value(node: ast.expr) -> Sequence[object]:
    """A list, a tuple or a range.

    Raises:
        ValueError: it is something else.
    """
    if isinstance(node, ast.Call) and ast.unparse(node.func) == "range":
        return range(*(int(ast.literal_eval(argument)) for argument in node.args))
    found = ast.literal_eval(node)
    if isinstance(found, list | tuple):
        return found
    raise ValueError(f"{found!r} is no list")


GENOTYPES: dict[str, str] = {
    # Liu 2019: found with first-order and with second-order gradients.
    "DARTS_V1": (
        "Genotype(normal=[('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('skip_connect', 0), "
        "('sep_conv_3x3', 1), ('skip_connect', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), "
        "('skip_connect', 2)], normal_concat=[2, 3, 4, 5], reduce=[('max_pool_3x3', 0), "
        "('max_pool_3x3', 1), ('skip_connect', 2), ('max_pool_3x3', 0), ('max_pool_3x3', 0), "
        "('skip_connect', 2), ('skip_connect', 2), ('avg_pool_3x3', 0)], "
        "reduce_concat=[2, 3, 4, 5])"
    ),
    "DARTS_V2": (
        "Genotype(normal=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), "
        "('sep_conv_3x3', 1), ('sep_conv_3x3', 1), ('skip_connect', 0), ('skip_connect', 0), "
        "('dil_conv_3x3', 2)], normal_concat=[2, 3, 4, 5], reduce=[('max_pool_3x3', 0), "
        "('max_pool_3x3', 1), ('skip_connect', 2), ('max_pool_3x3', 1), ('max_pool_3x3', 0), "
        "('skip_connect', 2), ('skip_connect', 2), ('max_pool_3x3', 1)], "
        "reduce_concat=[2, 3, 4, 5])"
    ),
    # Chen 2019, Progressive Differentiable Architecture Search.
    "P_DARTS": (
        "Genotype(normal=[('skip_connect', 0), ('dil_conv_3x3', 1), ('skip_connect', 0), "
        "('sep_conv_3x3', 1), ('sep_conv_3x3', 1), ('sep_conv_3x3', 3), ('sep_conv_3x3', 0), "
        "('dil_conv_5x5', 4)], normal_concat=[2, 3, 4, 5], reduce=[('avg_pool_3x3', 0), "
        "('sep_conv_5x5', 1), ('sep_conv_3x3', 0), ('dil_conv_5x5', 2), ('max_pool_3x3', 0), "
        "('dil_conv_3x3', 1), ('dil_conv_3x3', 1), ('dil_conv_5x5', 3)], "
        "reduce_concat=[2, 3, 4, 5])"
    ),
    # Xu 2020, PC-DARTS: the cells found on CIFAR-10.
    "PC_DARTS": (
        "Genotype(normal=[('sep_conv_3x3', 1), ('skip_connect', 0), ('sep_conv_3x3', 0), "
        "('dil_conv_3x3', 1), ('sep_conv_5x5', 0), ('sep_conv_3x3', 1), ('avg_pool_3x3', 0), "
        "('dil_conv_3x3', 1)], normal_concat=[2, 3, 4, 5], reduce=[('sep_conv_5x5', 1), "
        "('max_pool_3x3', 0), ('sep_conv_5x5', 1), ('sep_conv_5x5', 2), ('sep_conv_3x3', 0), "
        "('sep_conv_3x3', 3), ('sep_conv_3x3', 1), ('sep_conv_3x3', 2)], "
        "reduce_concat=[2, 3, 4, 5])"
    ),
    # Dong 2019, Searching for a Robust Neural Architecture in Four GPU Hours: GDAS, version 1.
    "GDAS": (
        "Genotype(normal=[('skip_connect', 0), ('skip_connect', 1), ('skip_connect', 0), "
        "('sep_conv_5x5', 2), ('sep_conv_3x3', 3), ('skip_connect', 0), ('sep_conv_5x5', 4), "
        "('sep_conv_3x3', 3)], normal_concat=[2, 3, 4, 5], reduce=[('sep_conv_5x5', 0), "
        "('sep_conv_3x3', 1), ('sep_conv_5x5', 2), ('sep_conv_5x5', 1), ('dil_conv_5x5', 2), "
        "('sep_conv_3x3', 1), ('sep_conv_5x5', 0), ('sep_conv_5x5', 1)], "
        "reduce_concat=[2, 3, 4, 5])"
    ),
}
"""Cells of the literature that are members of this space, by name, in text form."""
