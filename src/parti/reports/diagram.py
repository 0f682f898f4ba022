"""The winner drawn as SVG: its plan (a silhouette) and its blocks (a layered graph)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from parti.reports.blocks import Block
from parti.reports.formats import amount, percent, plural, shape
from parti.reports.markup import Html, join, tag

__all__ = ["graph", "plan"]

_WIDTH, _HEIGHT = 150, 92  # of a card, in the SVG's units: CSS pixels when it is not scaled
_GAP, _LANE = 30, 36  # between cards, and between the rows, where lines run
_TEXT = 17  # letters of a title that fit on a card
_STEP = _HEIGHT + 14  # from a card to the one below it in the same layer
_LEVELS = 6


def plan(blocks: Sequence[Block]) -> Html:
    """Draw the network's silhouette: one bar per block.

    A bar is as high as the resolution of its output and as wide as its channels (both on a
    logarithmic scale), and the darker, the more of the computation it does.
    """
    if not blocks:
        return Html("")
    most = max(block.macs for block in blocks) or 1.0
    bars, x, gap = [], 0.0, 5.0
    tallest = max(_tall(block) for block in blocks)
    for block in blocks:
        high = _tall(block)
        wide = 5 + 3.4 * math.log2(1 + block.channels)
        bars.append(
            tag(
                "rect",
                tag("title", f"{block.name}: {block.title}, {shape(block.output)}"),
                x=f"{x:.1f}",
                y=f"{(tallest - high) / 2:.1f}",
                width=f"{wide:.1f}",
                height=f"{high:.1f}",
                rx=2,
                fill_opacity=f"{0.25 + 0.75 * math.sqrt(block.macs / most):.2f}",
            )
        )
        x += wide + gap
    return tag(
        "svg",
        bars,
        class_="plan",
        viewBox=f"0 0 {x - gap:.0f} {tallest:.0f}",
        role="img",
        aria_label=f"Plan of the network: {plural(len(blocks), 'block')} from left to right; "
        "height is resolution, width is channels, darkness is computation.",
        style=f"max-width:{2 * (x - gap):.0f}px",
    )


def _tall(block: Block) -> float:
    return 10 + 13 * math.log2(1 + block.resolution)


@dataclass(frozen=True, slots=True)
class _Spot:
    """Where a card lies: its layer, its corner, and the top of its row of layers."""

    layer: int
    x: float
    y: float
    top: float


def graph(blocks: Sequence[Block], columns: int, name: str = "") -> Html:
    """Draw the blocks as cards in layers, read like text: left to right, row after row.

    Args:
        blocks: as gathered from the modules.
        columns: how many layers one row holds.
        name: the CSS class of the drawing.

    Returns:
        An SVG that takes its colours from the page; empty without blocks.
    """
    if not blocks:
        return Html("")
    spots, height = _places(blocks, columns)
    lines = [_line(spots[i], spots[j], i) for j, block in enumerate(blocks) for i in block.inputs]
    total, most = sum(block.macs for block in blocks), max(block.macs for block in blocks)
    sharpest = max(block.resolution for block in blocks)
    cards = [_card(b, s, total, most, sharpest) for b, s in zip(blocks, spots, strict=True)]
    width = columns * (_WIDTH + _GAP)
    return tag(
        "svg",
        lines,
        cards,
        class_=f"graph {name}".strip(),
        viewBox=f"{-_GAP // 2} 0 {width} {height:.0f}",
        style=f"max-width:{width}px",
        role="img",
        aria_label=f"Graph of the network: {plural(len(blocks), 'block')} from "
        f"{blocks[0].title} to {blocks[-1].title}. The table below lists its modules.",
    )


def _layers(blocks: Sequence[Block]) -> list[list[int]]:
    """Put blocks in layers: after all that they read, and as near as can be to what reads them."""
    layer: list[int] = []
    for block in blocks:
        layer.append(max((layer[i] + 1 for i in block.inputs), default=0))
    readers: dict[int, list[int]] = {}
    for j in reversed(range(len(blocks))):
        if blocks[j].inputs and j in readers:
            layer[j] = min(layer[k] for k in readers[j]) - 1
        for i in blocks[j].inputs:
            readers.setdefault(i, []).append(j)
    found = [[i for i, at in enumerate(layer) if at == n] for n in range(max(layer) + 1)]
    return [members for members in found if members]


def _places(blocks: Sequence[Block], columns: int) -> tuple[list[_Spot], float]:
    """Return where each card lies, and how high the drawing is: layers are wrapped into rows."""
    layers = _layers(blocks)
    height: dict[int, float] = {}  # of each block within its layer, to keep lines from crossing
    spots: dict[int, _Spot] = {}
    top = float(_LANE)
    for first in range(0, len(layers), columns):
        row = layers[first : first + columns]
        deepest = max(map(len, row))
        for column, members in enumerate(row):
            members.sort(key=lambda j: _mean([height[i] for i in blocks[j].inputs]))
            down = (deepest - len(members)) * _STEP / 2
            for n, i in enumerate(members):
                height[i] = n - len(members) / 2
                x, y = column * (_WIDTH + _GAP), top + down + n * _STEP
                spots[i] = _Spot(first + column, x, y, top)
        top += deepest * _STEP + _LANE - (_STEP - _HEIGHT)
    return [spots[i] for i in range(len(blocks))], top - _LANE + 8


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def _line(a: _Spot, b: _Spot, source: int) -> Html:
    """Draw an arrow from card a to card b, through the gaps between cards.

    Lines from different sources keep a little apart where they run side by side.
    """
    x, y, end = a.x + _WIDTH, a.y + _HEIGHT / 2, b.y + _HEIGHT / 2
    head = tag("path", d=f"M{b.x - 1:.0f} {end:.0f}l-6 -3.5v7Z", class_="head")
    if b.layer == a.layer + 1 and a.top == b.top:
        bend = _GAP / 2
        way = (
            f"M{x:.0f} {y:.0f}C{x + bend:.0f} {y:.0f} {b.x - bend:.0f} {end:.0f} "
            f"{b.x - 6:.0f} {end:.0f}"
        )
        return join(tag("path", d=way, class_="way"), head)
    apart = 2 * (source % 4)
    lane = b.top - 10 - 2 * apart
    way = f"M{x:.0f} {y:.0f}h{5 + apart}V{lane:.0f}H{b.x - 13:.0f}V{end:.0f}H{b.x - 6:.0f}"
    kind = "way" if b.layer == a.layer + 1 else "way far"
    return join(tag("path", d=way, class_=kind), head)


def _card(block: Block, spot: _Spot, total: float, most: float, sharpest: int) -> Html:
    share = block.macs / total if total else 0.0
    level = min(_LEVELS - 1, round(math.log2(max(1.0, sharpest / max(1, block.resolution)))))
    inside = ", ".join(f"{n} × {kind}" if n > 1 else kind for kind, n in block.operations)
    about = (
        f"{block.name}: {inside}. Output {shape(block.output)}, {amount(block.params)} parameters, "
        f"{amount(block.macs)} MACs ({percent(share)} of all)."
    )
    rail = _WIDTH - 24
    bar = rail * block.macs / most if most else 0.0
    return tag(
        "g",
        tag("title", about),
        tag("rect", class_="card", width=_WIDTH, height=_HEIGHT, rx=6),
        tag("rect", class_=f"tint level{level}", width=_WIDTH, height=_HEIGHT, rx=6),
        tag("text", _short(block.title, _TEXT), x=12, y=23, class_="title"),
        tag("text", _short(block.name, 22), x=12, y=40, class_="name"),
        tag("text", shape(block.output), x=12, y=60, class_="shape"),
        tag("text", percent(share, 0), x=_WIDTH - 12, y=60, class_="share"),
        tag("rect", class_="rail", x=12, y=73, width=rail, height=4, rx=2),
        tag("rect", class_="bar", x=12, y=73, width=f"{bar:.1f}", height=4, rx=2) if bar else None,
        transform=f"translate({spot.x:.0f} {spot.y:.0f})",
    )


def _short(text: str, most: int) -> str:
    """Cut a text in the middle, where names differ least."""
    if len(text) <= most:
        return text
    front = (most - 1) // 2
    return f"{text[:front]}…{text[len(text) - (most - 1 - front) :]}"
