"""Elastic values: arithmetic that stays open, comparisons that all options agree on."""

import copy
import math
import operator
import subprocess
import sys
from collections.abc import Callable, Mapping
from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parti import choose, computed, select, space
from parti.core.choice import Choice
from parti.core.elastic import Active, Elastic, always_equal, possible
from parti.core.errors import SpaceError


class Recorded(Active):
    """Notes what is selected."""

    def selected(self, value: Elastic, factories: Mapping[Any, Callable[[], Any]]) -> Any:
        return {option: make() for option, make in factories.items()}


def elastic(active: Active, name: str, *options: Any) -> Elastic:
    return Elastic.of(Choice(name, options), active)


@pytest.fixture
def active() -> Recorded:
    return Recorded()


@pytest.fixture
def width(active: Active) -> Elastic:
    return elastic(active, "width", 8, 16)


OPERATIONS: dict[str, Callable[[Any, Any], Any]] = {
    name: getattr(operator, name) for name in ("add", "sub", "mul", "floordiv", "truediv", "mod")
} | {
    "power": lambda a, b: 2 ** (a % 3) + (b % 3) ** 2,
    "negative": lambda a, b: -a + b,
    "round": lambda a, b: round(a / b) + round(a / b, 1),
    "floor": lambda a, b: math.floor(a / b),
    "ceil": lambda a, b: math.ceil(a / b),
    "computed": lambda a, b: computed(max, a, b),
}
numbers = st.integers(1, 6)


@given(
    st.lists(
        st.tuples(st.sampled_from(sorted(OPERATIONS)), st.integers(0, 2), numbers), max_size=4
    ),
    st.lists(numbers, min_size=1, max_size=3, unique=True),
    st.lists(numbers, min_size=1, max_size=3, unique=True),
)
def test_arithmetic_follows_the_choices(steps: Any, a: list[int], b: list[int]) -> None:
    def compute(one: Any, other: Any) -> Any:
        total = one
        for name, side, number in steps:
            function = OPERATIONS[name]
            left, right = ((total, other), (total, number), (number, one))[side]
            total = function(left, right)
        return total

    active = Recorded()
    made = compute(elastic(active, "a", *a), elastic(active, "b", *b))
    expected = {pair: compute(*pair) for pair in product(a, b)}
    assert possible(made) == set(expected.values())
    for (active.decisions["a"], active.decisions["b"]), result in expected.items():
        assert made.value() == result


def test_values_know_what_depends_on_the_same_choice(width: Elastic) -> None:
    assert (width - width).values() == {0}
    assert (width // width * 3).values() == {3}


def test_with_very_many_combinations_values_are_found_part_by_part(active: Active) -> None:
    many = [elastic(active, f"c{i}", *range(10)) for i in range(8)]
    total: Any = sum(many)
    assert total.values() == set(range(73))


def test_values_leave_decisions_as_they_are(active: Active, width: Elastic) -> None:
    active.decisions["width"] = 16
    (width * 2).values()
    assert active.decisions == {"width": 16}
    with active.under({"width": 8, "other": 1}):
        assert width.value() == 8
    assert active.decisions == {"width": 16}


def test_comparisons_hold_when_all_options_agree(width: Elastic) -> None:
    assert width > 4
    assert width >= 8
    assert width < 32
    assert width <= 16
    assert width != 3
    assert (width == 3) is False
    assert width == width
    assert 2 * width == width + width
    assert width
    with pytest.raises(
        SpaceError, match=r"`width >= 16` at .*test_elastic.py:\d+ is true for some"
    ):
        width >= 16  # noqa: B015
    with pytest.raises(SpaceError, match=r"`bool\(width - 8\)`"):
        bool(width - 8)


@pytest.mark.parametrize(
    "use",
    [
        range,
        int,
        float,
        hash,
        math.sqrt,
        lambda w: math.gcd(w, 8),
        lambda w: [0] * w,
        lambda w: {w: 1},
    ],
)
def test_plain_numbers_are_refused_while_building(
    width: Elastic, use: Callable[[Any], Any]
) -> None:
    with pytest.raises(
        SpaceError, match=r"elastic value 'width' is .* at .*test_elastic.py.*8, 16"
    ):
        use(width)


def test_texts_are_refused_while_a_program_runs() -> None:
    made = elastic(Recorded(), "width", 8, 16)
    assert f"{made} {made!r} {made!s}" == "<elastic width> " * 2 + "<elastic width>"

    def program() -> str:
        choose("asked", [1])
        return f"{made}"

    with pytest.raises(SpaceError, match="'width' becomes text"):
        space(program).build({"asked": 1})


def test_while_the_supernet_computes_it_is_the_current_value(
    active: Active, width: Elastic
) -> None:
    active.decisions["width"] = 16
    active.running = True
    assert list(range(width)) == list(range(16))
    assert type(width * 2) is int
    assert math.sqrt(width) == 4
    assert width > 8
    assert {16: "found"}[width] == "found"
    assert f"{width:3d}" == " 16"
    assert computed(lambda n: n + 1, width) == 17


def test_equality_whatever_is_chosen(active: Active, width: Elastic) -> None:
    assert always_equal(3, 3)
    assert not always_equal(3, 4)
    assert always_equal(2 * width, width * 2)
    assert not always_equal(width, 8)
    assert not always_equal(width, elastic(active, "other", 8, 16))


def test_computed_is_the_plain_call_for_plain_values() -> None:
    assert computed(max, 3, 4) == 4
    assert computed(len, [1, 2]) == 2


def test_computed_says_what_it_is(width: Elastic) -> None:
    assert repr(computed(max, width // 2, 6)) == "<elastic max(width // 2, 6)>"


def test_select_builds_what_the_value_stands_for(width: Elastic) -> None:
    assert select("b", {"a": list, "b": dict}) == {}
    assert select(False, {True: lambda: 1, False: lambda: 2}) == 2
    assert select(width, {8: list, 16: dict}) == {8: [], 16: {}}
    with pytest.raises(
        SpaceError, match=r"at .*test_elastic.py:\d+ has no factory for 'c'.*'a', 'b'"
    ):
        select("c", {"a": list, "b": dict})
    with pytest.raises(SpaceError, match="no factory for 16; it has 8"):
        select(width, {8: list})


def test_select_asks_nothing_of_its_own() -> None:
    @space
    def program() -> Any:
        return select(
            choose("kind", ["a", "b"]),
            {"a": lambda: choose("x", [1, 2]), "b": lambda: choose("x", [1, 2])},
        )

    assert program.tree is not None
    assert program.tree.size == 4
    assert program.build({"kind": "b", "x": 2}) == 2


def test_a_copy_follows_the_copied_state(active: Active, width: Elastic) -> None:
    copied, state = copy.deepcopy((width * 2, active))
    state.decisions["width"] = 16
    assert copied.value() == 32
    assert not active.decisions


def test_importing_it_does_not_import_torch() -> None:
    code = "import sys, parti; parti.computed, parti.select; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
