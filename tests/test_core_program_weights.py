"""Programs that compute with their weights are read with weights, whatever an error says."""

from __future__ import annotations

from random import Random

import pytest
import torch
from torch import nn

from parti import choose, one_of, sample, space
from parti.core.errors import InvalidSettings
from parti.core.program import Program


def reading(message: str, times: list[str]) -> Program:
    @space
    def computes() -> nn.Module:
        width = choose("width", [2, 3])
        layer = nn.Linear(width, width)
        times.append(layer.weight.device.type)
        if layer.weight.is_meta:
            raise ValueError(message)
        return layer

    return computes


@pytest.mark.parametrize("message", ["the sum is not a number", "meta"])
def test_an_error_that_only_weightless_layers_raise_is_none(message: str) -> None:
    times: list[str] = []
    program = reading(message, times)
    assert sample(program, Random(0))["width"] in (2, 3)
    assert times[:2] == ["meta", "cpu"]
    times.clear()
    sample(program, Random(1))
    assert "meta" not in times  # it is known by then


def test_an_error_of_the_program_itself_is_raised_and_keeps_its_words() -> None:
    @space
    def broken() -> nn.Module:
        choose("width", [2, 3])
        raise ValueError("the metal is too thin")

    with pytest.raises(Exception, match="the metal is too thin"):
        sample(broken, Random(0))


def test_what_parti_itself_refuses_is_not_tried_again() -> None:
    devices: list[str] = []

    @space
    def refused() -> nn.Module:
        devices.append(torch.empty(0).device.type)
        one_of("op", {"a": nn.Identity})
        raise InvalidSettings("no such thing")

    with pytest.raises(InvalidSettings, match="no such thing"):
        sample(refused, Random(0))
    assert devices == ["meta"]


def test_decisions_are_the_same_with_and_without_weights() -> None:
    @space
    def plain() -> nn.Module:
        width = choose("width", list(range(1, 50)))
        return nn.Linear(width, choose("more", list(range(1, 50))))

    @space
    def computing() -> nn.Module:
        width = choose("width", list(range(1, 50)))
        layer = nn.Linear(width, choose("more", list(range(1, 50))))
        layer.scale = float(layer.weight.sum())
        return layer

    for seed in range(5):
        assert dict(sample(plain, Random(seed))) == dict(sample(computing, Random(seed)))
