"""The charts of a comparison: few lines in colour, so that they can be told apart."""

from __future__ import annotations

import numpy as np

from parti.comparing.standings import Curve, Estimate, ProblemStandings, Standing, Standings
from parti.comparing.svg import OTHERS, Line, Panel, draw
from parti.comparing.writing import to_svg


def test_only_lines_with_a_colour_have_bands_and_the_others_are_grey() -> None:
    ones = np.ones(3)
    lines = tuple(Line(n, np.arange(1.0, 4), ones, ones / 2, 2 * ones) for n in ("a", "b", "c"))
    panel = Panel("t", "x", "y", 1e-3, lines)
    some = draw([panel], {"b": "#0f7fbf"}, "about")
    assert some.count('class="band"') == 1
    assert some.count('class="rest"') == 2 + 1  # both lines, and one for both in the legend
    assert some.count(f">{OTHERS}<") == 1
    assert some.rindex('class="band"') > some.index('class="rest"')
    every = draw([panel], dict.fromkeys("abc", "#0f7fbf"), "about")
    assert every.count('class="band"') == 3
    assert OTHERS not in every


def test_the_best_five_and_random_have_colours() -> None:
    names = [f"s{n}" for n in range(8)] + ["random"]
    estimate, curve = Estimate(1, 1, 1), Curve(*(np.array([1.0, 2.0]),) * 4)
    rows = tuple(
        Standing(name, False, 1, 0, estimate, estimate, estimate, estimate, 1.0, place, 1.0,
                 (1.0, 1.0, 1.0), curve, None)
        for place, name in enumerate(names)
    )  # fmt: skip
    problem = ProblemStandings("p", "u", None, 0.1, "", "", "", rows, ())
    image = to_svg(Standings((problem,), ()), "evaluations")
    assert image is not None
    legend = [name for name in (*names, OTHERS) if f">{name}<" in image]
    assert legend == ["s0", "s1", "s2", "s3", "s4", "random", OTHERS]
    assert image.count('class="band"') == 6
    assert to_svg(Standings((problem,), ()), "seconds") is None
