"""Encodings tell any two architectures apart, and say what each number is."""

from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import parti
from parti import choose, one_of, repeat, some_of
from parti.core.errors import InvalidArchitecture, SpaceError
from parti.spaces import load_space
from parti.spaces.encodings import one_hot, one_hot_names, ordinal, ordinal_names


@parti.space
def toy():
    return (
        choose("width", [16, 32, 64]),
        one_of("op", {"conv": lambda: choose("kernel", [3, 5]), "skip": lambda: None}),
        some_of("edges", {"a": lambda: None, "b": lambda: choose("act", ["x", "y"])}, k=[0, 1, 2]),
        repeat("depth", lambda i: choose("flag", [False, True]), [1, 2]),
    )


@parti.space
def dynamic():
    return [choose(f"op{i}", ["a", "b"]) for i in range(choose("depth", [1, 2]))]


BRANCHES = load_space("branches", 1, 10, 8)
CODES = pytest.mark.parametrize(
    ("encode", "names"), [(one_hot, one_hot_names), (ordinal, ordinal_names)]
)


def test_one_hot_by_hand():
    architecture = parti.validate(
        toy, {"width": 32, "op": "skip", "edges": ("b",), "edges=b/act": "y", "depth": 1,
              "depth[0]/flag": True}
    )  # fmt: skip
    taken = {n for n, v in zip(one_hot_names(toy), one_hot(toy, architecture), strict=True) if v}
    assert taken == {
        "width=32", "op=skip", "edges=b", "edges=b/act=y", "depth=1", "depth[0]/flag=True"
    }  # fmt: skip
    assert one_hot_names(toy)[:7] == [
        "width=16", "width=32", "width=64", "op=conv", "op=skip", "op=conv/kernel=3",
        "op=conv/kernel=5",
    ]  # fmt: skip


def test_ordinal_by_hand():
    architecture = parti.validate(
        toy, {"width": 32, "op": "skip", "edges": (), "depth": 2, "depth[0]/flag": False,
              "depth[1]/flag": True}
    )  # fmt: skip
    values = dict(zip(ordinal_names(toy), ordinal(toy, architecture).tolist(), strict=True))
    assert values["width"] == 0.5
    assert values["depth"] == 1
    assert values["op=conv/kernel"] == values["op=conv/kernel exists"] == 0
    assert (values["depth[0]/flag"], values["depth[0]/flag exists"]) == (0, 1)
    assert (values["edges"], values["edges exists"]) == (0, 1)


@CODES
def test_all_members_of_a_space_have_different_codes(encode, names):
    members = list(parti.architectures(toy))
    codes = {encode(toy, member).tobytes() for member in members}
    assert len(codes) == len(members) == parti.size(toy)


@CODES
@settings(deadline=None)
@given(st.integers(0, 2**32), st.integers(0, 2**32))
def test_codes_are_equal_when_architectures_are(encode, names, one, other):
    first = parti.sample(BRANCHES, Random(one))
    near = parti.mutate(BRANCHES, first, Random(other))
    code = encode(BRANCHES, first)
    assert code.dtype == np.float32
    assert code.shape == (len(names(BRANCHES)),)
    assert code.min() >= 0
    assert code.max() <= 1
    again = parti.Architecture(dict(reversed(list(first.items()))))
    assert np.array_equal(encode(BRANCHES, again), code)
    assert np.array_equal(encode(BRANCHES, near), code) == (near == first)


@CODES
def test_names_are_different_and_fixed(encode, names):
    found = names(BRANCHES)
    assert len(set(found)) == len(found)
    assert found == names(BRANCHES)


@CODES
def test_a_dynamic_space_has_no_code(encode, names):
    with pytest.raises(SpaceError, match="dynamic"):
        encode(dynamic, parti.sample(dynamic, Random(0)))
    with pytest.raises(SpaceError, match="dynamic"):
        names(dynamic)


@CODES
def test_strange_architectures_are_refused(encode, names):
    member = parti.sample(toy, Random(0))
    with pytest.raises(InvalidArchitecture, match="no choice 'colour'"):
        encode(toy, member.taking(colour="red"))
    with pytest.raises(InvalidArchitecture, match=r"17.*16, 32, 64"):
        encode(toy, member.taking(width=17))
