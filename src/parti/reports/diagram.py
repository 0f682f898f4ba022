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
        aria_label=f"Plan of the network: {plural(len(blocks), 'block')} from left to right; height "
        "is resolution, width is channels, darkness is computation.",
        style=f"max-width:{x - gap:.0f}px",
    )


def _tall(block: Block) -> float:
    return 10 + 13 * math.log2(1 + block.resolution)


@dataclass(frozen=True, slots=True)
class _Spot:
    """Where a card lies: its row of cards, and its corner."""

    row: int
    x: float
    y: float

    @property
    def middle(self) -> float:
        return self.x + _WIDTH / 2


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
    lines = [
        _line(spots[i], spots[j], _is_next(blocks, i, j))
        for j, block in enumerate(blocks)
        for i in block.inputs
    ]
    total = sum(block.macs for block in blocks)
    sharpest = max(block.resolution for block in blocks)
    cards = [_card(b, s, total, sharpest) for b, s in zip(blocks, spots, strict=True)]
    width = columns * _WIDTH + (columns - 1) * _GAP
    return tag(
        "svg",
        lines,
        cards,
        class_=f"graph {name}".strip(),
        viewBox=f"-8 0 {width + 16} {height:.0f}",
        style=f"max-width:{width + 16}px",
        role="img",
        aria_label=f"Graph of the network: {plural(len(blocks), 'block')} from "
        f"{blocks[0].title} to {blocks[-1].title}. The table below lists its modules.",
    )


def _places(blocks: Sequence[Block], columns: int) -> tuple[list[_Spot], float]:
    """Put every block in the layer after the last of its inputs, and wrap layers into rows."""
    layer: list[int] = []
    for block in blocks:
        layer.append(max((layer[i] + 1 for i in block.inputs), default=0))
    members: dict[int, list[int]] = {}
    for i, place in enumerate(layer):
        members.setdefault(place, []).append(i)
    for place in range(1, len(members)):
        order = {i: n for n, i in enumerate(members[place - 1])}
        members[place].sort(key=lambda j: _mean([order.get(i, 0) for i in blocks[j].inputs]))
    spots = [_Spot(0, 0.0, 0.0)] * len(blocks)
    top = float(_LANE)
    for row in range(math.ceil(len(members) / columns)):
        layers = [members[p] for p in range(row * columns, min((row + 1) * columns, len(members)))]
        deepest = max(map(len, layers))
        for column, inside in enumerate(layers):
            down = (deepest - len(inside)) * (_HEIGHT + 14) / 2
            for n, i in enumerate(inside):
                x = column * (_WIDTH + _GAP)
                spots[i] = _Spot(row, x, top + down + n * (_HEIGHT + 14))
        top += deepest * (_HEIGHT + 14) - 14 + _LANE
    return spots, top - _LANE + 8


def _mean(values: Sequence[int]) -> float:
    return sum(values) / len(values) if values else 0.0


def _is_next(blocks: Sequence[Block], i: int, j: int) -> bool:
    """Whether no other way leads from block i to block j, so that a plain line will do."""
    return not any(i < k < j for k in blocks[j].inputs)


def _line(a: _Spot, b: _Spot, plain: bool) -> Html:
    """Draw an arrow from card a to card b; around the cards between them if there are any."""
    if a.row == b.row and plain:
        x, y = a.x + _WIDTH, a.y + _HEIGHT / 2
        end = b.y + _HEIGHT / 2
        way = f"M{x:.0f} {y:.0f}C{x + 16:.0f} {y:.0f} {b.x - 16:.0f} {end:.0f} {b.x - 6:.0f} {end:.0f}"
        return join(tag("path", d=way, class_="way"), _head(b.x - 1, end, 5, 0))
    if a.row == b.row:
        above = min(a.y, b.y) - 20
        way = (
            f"M{a.middle + 20:.0f} {a.y:.0f}C{a.middle + 20:.0f} {above:.0f} "
            f"{b.middle - 20:.0f} {above:.0f} {b.middle - 20:.0f} {b.y - 6:.0f}"
        )
        return join(tag("path", d=way, class_="way skip"), _head(b.middle - 20, b.y - 1, 0, 5))
    lane = b.y - _LANE / 2
    way = f"M{a.middle:.0f} {a.y + _HEIGHT:.0f}V{lane:.0f}H{b.middle:.0f}V{b.y - 6:.0f}"
    kind = "way" if plain else "way skip"
    return join(tag("path", d=way, class_=kind), _head(b.middle, b.y - 1, 0, 5))


def _head(x: float, y: float, right: int, down: int) -> Html:
    """Draw the head of an arrow that ends at (x, y) and points right or down."""
    back_x, back_y = x - right, y - down
    way = (
        f"M{x:.0f} {y:.0f}L{back_x + 0.7 * down:.1f} {back_y + 0.7 * right:.1f}"
        f"L{back_x - 0.7 * down:.1f} {back_y - 0.7 * right:.1f}Z"
    )
    return tag("path", d=way, class_="head")


def _card(block: Block, spot: _Spot, total: float, sharpest: int) -> Html:
    share = block.macs / total if total else 0.0
    level = min(_LEVELS - 1, round(math.log2(max(1.0, sharpest / max(1, block.resolution)))))
    inside = ", ".join(f"{n} × {kind}" if n > 1 else kind for kind, n in block.operations)
    about = (
        f"{block.name}: {inside}. Output {shape(block.output)}, {amount(block.params)} parameters, "
        f"{amount(block.macs)} MACs ({percent(share)} of all)."
    )
    bar = _WIDTH - 24
    return tag(
        "g",
        tag("title", about),
        tag("rect", class_="card", width=_WIDTH, height=_HEIGHT, rx=6),
        tag("rect", class_=f"tint level{level}", width=_WIDTH, height=_HEIGHT, rx=6),
        tag("text", _short(block.title, _TEXT), x=12, y=23, class_="title"),
        tag("text", _short(block.name, 22), x=12, y=40, class_="name"),
        tag("text", shape(block.output), x=12, y=60, class_="shape"),
        tag("text", percent(share, 0), x=_WIDTH - 12, y=60, class_="share"),
        tag("rect", class_="track", x=12, y=73, width=bar, height=4, rx=2),
        tag("rect", class_="bar", x=12, y=73, width=f"{bar * share:.1f}", height=4, rx=2)
        if share
        else None,
        transform=f"translate({spot.x:.0f} {spot.y:.0f})",
    )


def _short(text: str, most: int) -> str:
    """Cut a text in the middle, where names differ least."""
    if len(text) <= most:
        return text
    front = (most - 1) // 2
    return f"{text[:front]}…{text[len(text) - (most - 1 - front) :]}"
