"""Line charts as SVG: small multiples over logarithmic axes, readable on light and on dark."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
import numpy.typing as npt

__all__ = ["COLOURS", "OTHERS", "Line", "Panel", "draw"]

Floats = npt.NDArray[np.float64]

COLOURS = (
    "#0f7fbf",
    "#e07b00",
    "#2f9e44",
    "#d6336c",
    "#8f5bd6",
    "#a8741a",
    "#0c9c9c",
    "#c2410c",
    "#5f7d00",
    "#868e96",
)
"""Told apart on white and on nearly black."""

OTHERS = "others"
"""In the legend, the lines that have no colour of their own."""

WIDTH, HEIGHT = 430, 290
LEFT, RIGHT, TOP, BOTTOM = 76, 14, 34, 46
ROW = 22
"""Height of a row of the legend."""
LEGEND_COLUMN = 215

STYLE = """
text{font:12px system-ui,sans-serif;fill:#333}.title{font-weight:600;font-size:13px}
.grid{stroke:#8884;stroke-width:1}.axis{stroke:#888;stroke-width:1}
.line{fill:none;stroke-width:1.8;stroke-linejoin:round}.band{stroke:none;opacity:.13}
.rest{fill:none;stroke:#8887;stroke-width:1;stroke-linejoin:round}
@media(prefers-color-scheme:dark){text{fill:#ddd}}
"""


@dataclass(frozen=True)
class Line:
    """One line of a panel, drawn in steps: each value holds until the next.

    Args:
        name: as in the legend.
        x: ascending and positive.
        y: not negative; infinite values are left out.
        low: lower end of the band.
        high: upper end.
    """

    name: str
    x: Floats
    y: Floats
    low: Floats
    high: Floats


@dataclass(frozen=True)
class Panel:
    """One chart of several.

    Args:
        title: what it is of.
        x_label: what is on the horizontal axis.
        y_label: what is on the vertical axis.
        floor: the lowest value drawn; what is below is drawn there.
        lines: their names have the same colours in every panel; those without one are drawn thin
            and grey, below the others and without their bands.
    """

    title: str
    x_label: str
    y_label: str
    floor: float
    lines: tuple[Line, ...]


def draw(panels: Sequence[Panel], colours: dict[str, str], about: str, *, columns: int = 2) -> str:
    """Return panels side by side, with one legend below, as one SVG image.

    Args:
        panels: at least one.
        colours: by the names of lines, in the order of the legend.
        about: what is to be seen, for those who cannot see it.
        columns: so many panels stand beside each other.
    """
    uncoloured = any(line.name not in colours for panel in panels for line in panel.lines)
    legend = [*colours.items(), *([(OTHERS, None)] if uncoloured else [])]
    columns = min(columns, len(panels))
    rows = -(-len(panels) // columns)
    width = columns * WIDTH
    beside = max(1, width // LEGEND_COLUMN)
    height = rows * HEIGHT + -(-len(legend) // beside) * ROW + 12
    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
            f'width="{width}" height="{height}" role="img">'
        ),
        f"<title>{escape(about)}</title><style>{STYLE}</style>",
    ]
    for place, panel in enumerate(panels):
        across, down = place % columns * WIDTH, place // columns * HEIGHT
        parts += [f'<g transform="translate({across},{down})">', *_panel(panel, colours), "</g>"]
    for place, (name, colour) in enumerate(legend):
        x = 16 + place % beside * LEGEND_COLUMN
        y = rows * HEIGHT + 14 + place // beside * ROW
        parts.append(
            f'<path {_stroke(colour)} d="M{x} {y}h22"/>'
            f'<text x="{x + 30}" y="{y + 4}">{escape(name)}</text>'
        )
    return "\n".join([*parts, "</svg>\n"])


def _panel(panel: Panel, colours: dict[str, str]) -> list[str]:
    scale = _Scale(panel)
    parts = [f'<text class="title" x="{LEFT}" y="20">{escape(panel.title)}</text>']
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    for value in _ticks(scale.x_low, scale.x_high):
        x = scale.x(value)
        parts.append(f'<path class="grid" d="M{x:.1f} {TOP}V{bottom}"/>')
        parts.append(_label(x, bottom + 16, _text(value)))
    for value in _ticks(scale.y_low, scale.y_high):
        y = scale.y(value)
        label = ("≤ " if value <= panel.floor else "") + _text(value)
        parts.append(f'<path class="grid" d="M{LEFT} {y:.1f}H{right}"/>')
        parts.append(_label(LEFT - 6, y + 4, label, "end"))
    parts.append(f'<path class="axis" fill="none" d="M{LEFT} {TOP}V{bottom}H{right}"/>')
    parts.append(_label((LEFT + right) / 2, HEIGHT - 10, panel.x_label))
    upwards = _label(0, 0, panel.y_label)
    parts.append(f'<g transform="translate(14,{(TOP + bottom) / 2}) rotate(-90)">{upwards}</g>')
    upwards_from_last = panel.lines[::-1]  # the first lies on top, the grey ones below all
    for line in sorted(upwards_from_last, key=lambda line: line.name in colours):
        parts += scale.line(line, colours.get(line.name))
    return parts


def _stroke(colour: str | None) -> str:
    return 'class="rest"' if colour is None else f'class="line" stroke="{colour}"'


def _label(x: float, y: float, text: str, anchor: str = "middle") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


class _Scale:
    """From values to places in a panel; both axes are logarithmic."""

    def __init__(self, panel: Panel) -> None:
        self.x_low, self.x_high = _span([line.x for line in panel.lines], 1.0)
        _, highest = _span([line.y for line in panel.lines], panel.floor)
        self.y_low, self.y_high = panel.floor, max(highest, panel.floor * 10)

    def x(self, value: float) -> float:
        share = math.log(value / self.x_low) / math.log(self.x_high / self.x_low)
        return LEFT + share * (WIDTH - RIGHT - LEFT)

    def y(self, value: float) -> float:
        value = min(max(value, self.y_low), self.y_high)
        share = math.log(value / self.y_low) / math.log(self.y_high / self.y_low)
        return HEIGHT - BOTTOM - share * (HEIGHT - BOTTOM - TOP)

    def line(self, line: Line, colour: str | None) -> list[str]:
        shown = np.isfinite(line.y)
        if not shown.any():
            return []
        x, y = line.x[shown], line.y[shown]
        middle = f'<path {_stroke(colour)} d="M{"L".join(self._steps(x, y))}"/>'
        if colour is None:
            return [middle]
        band = [*self._steps(x, line.high[shown]), *reversed(self._steps(x, line.low[shown]))]
        return [f'<path class="band" fill="{colour}" d="M{"L".join(band)}Z"/>', middle]

    def _steps(self, x: Floats, y: Floats) -> list[str]:
        """Corners of the steps; points in the middle of a level stretch are left out."""
        corners: list[str] = []
        before = None
        for place, value in zip(x, (self.y(float(value)) for value in y), strict=True):
            if before is None or value != before:
                if before is not None:
                    corners.append(f"{self.x(float(place)):.1f} {before:.1f}")
                corners.append(f"{self.x(float(place)):.1f} {value:.1f}")
            before = value
        return [*corners, f"{self.x(float(x[-1])):.1f} {before:.1f}"]


def _span(columns: Sequence[Floats], fallback: float) -> tuple[float, float]:
    """The smallest and the largest positive finite value, not equal."""
    values = np.concatenate([*columns, np.empty(0)])
    known = values[np.isfinite(values) & (values > 0)]
    low, high = (float(known.min()), float(known.max())) if len(known) else (fallback, fallback)
    return low, high if high > low else low * 10


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers in between: powers of ten, with their doubles and fives where few."""
    powers = [10.0**e for e in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)]
    steps = (1, 2, 5) if len(powers) <= 3 else (1,)
    values = [step * power for power in powers for step in steps]
    return [value for value in values if low * (1 - 1e-9) <= value <= high * (1 + 1e-9)]


def _text(value: float) -> str:
    return f"{value:,.0f}" if value >= 1 else f"{value:g}"
