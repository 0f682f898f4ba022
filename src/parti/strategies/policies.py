"""Policies: probability distributions over the walks of a space, with exact gradients.

A policy rolls out architectures choice by choice, and says for architectures that are known how
likely each of their decisions was and how these likelihoods depend on its parameters. Parameters
are made when a choice is first met, so a space may be conditional, recursive or dynamic.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from random import Random
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from parti.core.architecture import Architecture, Option
from parti.core.choice import Choice
from parti.core.protocols import Space
from parti.core.walks import choices

__all__ = [
    "Adam",
    "Array",
    "Group",
    "LogitsPolicy",
    "Policy",
    "Roll",
    "Step",
    "Steps",
    "Trace",
    "grouped",
    "roll_out",
    "softmax",
    "steps_of",
]

Array = NDArray[np.float64]
Gradient = dict[str, Array]


@dataclass(frozen=True, slots=True)
class Step:
    """One decision of a walk: the option at a place among those of a choice."""

    choice: Choice
    place: int


Steps = tuple[Step, ...]
"""All decisions of one architecture, in walking order."""


def steps_of(space: Space, architecture: Architecture) -> Steps:
    """Return the decisions of an architecture in walking order."""
    return tuple(
        Step(choice, choice.options.index(architecture[choice.name]))
        for choice in choices(space, architecture)
    )


class Roll(Protocol):
    """One architecture in the making."""

    def probabilities(self, choice: Choice) -> Array:
        """Probability of each option of the choice that has come up."""
        ...

    def take(self, step: Step) -> None:
        """Note what was decided."""
        ...


class Policy(Protocol):
    """A distribution over the walks of any space."""

    parameters: dict[str, Array]
    """What is learned. Those of a choice are made when it is first met."""

    def roll(self) -> Roll:
        """Begin an architecture."""
        ...

    def trace(self, batch: Sequence[Steps]) -> Trace:
        """Follow known architectures."""
        ...


def roll_out(policy: Policy, space: Space, random: Random) -> Architecture:
    """Draw one architecture from a policy."""
    roll = policy.roll()

    def pick(choice: Choice) -> Option:
        place = _draw(roll.probabilities(choice), random)
        roll.take(Step(choice, place))
        return choice.options[place]

    return space.walk(pick)


def _draw(probabilities: Array, random: Random) -> int:
    point = random.random()
    for place, bound in enumerate(accumulate(probabilities.tolist())):
        if point < bound:
            return place
    return int(np.argmax(probabilities))  # the sum was rounded to less than the point


def softmax(logits: Array) -> Array:
    """Probabilities of logits, along the last axis."""
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True))


# --- many architectures at once ------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Group:
    """All decisions in a batch of architectures about one choice.

    Args:
        choice: what was decided.
        rows: which architectures of the batch decided it.
        times: as which of their decisions.
        places: which of its options they took.
    """

    choice: Choice
    rows: NDArray[np.intp]
    times: NDArray[np.intp]
    places: NDArray[np.intp]


def grouped(batch: Sequence[Steps]) -> list[Group]:
    """Sort the decisions of a batch by choice, in the order in which choices are first met."""
    met: dict[Choice, list[tuple[int, int, int]]] = {}
    for row, steps in enumerate(batch):
        for time, step in enumerate(steps):
            met.setdefault(step.choice, []).append((row, time, step.place))
    return [Group(choice, *np.array(found, dtype=np.intp).T) for choice, found in met.items()]


class Trace:
    """How likely the decisions of a batch of architectures are under a policy.

    Args:
        batch: the architectures' decisions.
        groups: the same, sorted by choice.
        logits: for each group, an array of shape (decisions, options).
        backward: takes gradients by these logits to gradients by the policy's parameters.
    """

    def __init__(
        self,
        batch: Sequence[Steps],
        groups: Sequence[Group],
        logits: Sequence[Array],
        backward: Callable[[Sequence[Array]], Gradient],
    ) -> None:
        shape = (len(batch), max(map(len, batch), default=0))
        self._groups = groups
        self._backward = backward
        self._probabilities = [softmax(each) for each in logits]
        self.log_probs = np.zeros(shape)
        """Logarithm of each decision's probability, shape (architectures, longest walk); 0 beyond
        the end of a walk. A row's sum is the logarithm of the architecture's probability."""
        self.entropies = np.zeros(shape)
        """Entropy of the distribution that each decision was drawn from, in nats; same shape."""
        for group, probabilities in zip(groups, self._probabilities, strict=True):
            logs = _safe_log(probabilities)
            self.log_probs[group.rows, group.times] = logs[np.arange(len(logs)), group.places]
            self.entropies[group.rows, group.times] = -(probabilities * logs).sum(axis=1)

    def gradient(self, weights: Array, entropy: float = 0.0) -> Gradient:
        """Gradient of sum(weights * log_probs) + entropy * sum(entropies) by the parameters.

        Args:
            weights: one for each decision, of the shape of `log_probs`; what lies beyond the end
                of a walk does not matter.
            entropy: weight of the entropies.

        Returns:
            The gradient by each parameter that had a part, by its name.
        """
        found = []
        for group, probabilities in zip(self._groups, self._probabilities, strict=True):
            weight = weights[group.rows, group.times][:, None]
            by_logits = -weight * probabilities
            by_logits[np.arange(len(weight)), group.places] += weight[:, 0]
            if entropy:
                own = self.entropies[group.rows, group.times][:, None]
                by_logits -= entropy * probabilities * (_safe_log(probabilities) + own)
            found.append(by_logits)
        return self._backward(found)


def _safe_log(probabilities: Array) -> Array:
    return np.asarray(np.log(np.maximum(probabilities, np.finfo(np.float64).tiny)))


class LogitsPolicy:
    """Independent logits for every choice, all 0 at first: uniform picks."""

    def __init__(self) -> None:
        self.parameters: dict[str, Array] = {}
        self._names: dict[Choice, str] = {}

    def roll(self) -> Roll:
        """Begin an architecture."""
        return _LogitsRoll(self)

    def trace(self, batch: Sequence[Steps]) -> Trace:
        """Follow known architectures."""
        groups = grouped(batch)

        def backward(by_logits: Sequence[Array]) -> Gradient:
            return {
                self._names[group.choice]: gradient.sum(axis=0)
                for group, gradient in zip(groups, by_logits, strict=True)
            }

        logits = [np.tile(self.logits(group.choice), (len(group.rows), 1)) for group in groups]
        return Trace(batch, groups, logits, backward)

    def logits(self, choice: Choice) -> Array:
        """The logits of a choice's options."""
        if choice not in self._names:
            self._names[choice] = f"{choice.name}: {choice.options!r}"
        name = self._names[choice]
        if name not in self.parameters:
            self.parameters[name] = np.zeros(len(choice.options))
        return self.parameters[name]


class _LogitsRoll:
    def __init__(self, policy: LogitsPolicy) -> None:
        self._policy = policy

    def probabilities(self, choice: Choice) -> Array:
        return softmax(self._policy.logits(choice))

    def take(self, step: Step) -> None:
        """Nothing depends on what was decided before."""


class Adam:
    """Adam (Kingma and Ba, ICLR 2015, Algorithm 1), going uphill.

    Parameters without a gradient stay as they are, and each counts its own steps: a choice that
    seldom comes up is not moved by the momentum of old architectures.

    Args:
        learning_rate: the step size (alpha).
        momentum: decay of the mean of gradients (beta_1).
        scaling: decay of the mean of their squares (beta_2).
        epsilon: keeps from dividing by 0.
    """

    def __init__(
        self,
        learning_rate: float,
        *,
        momentum: float = 0.9,
        scaling: float = 0.999,
        epsilon: float = 1e-8,
    ) -> None:
        self._learning_rate = learning_rate
        self._momentum = momentum
        self._scaling = scaling
        self._epsilon = epsilon
        self._means: dict[str, tuple[int, Array, Array]] = {}

    def ascend(self, parameters: Mapping[str, Array], gradient: Mapping[str, Array]) -> None:
        """Move parameters, in place, to where the function with this gradient is larger."""
        for name, slope in gradient.items():
            zero = np.zeros_like(slope)
            step, first, second = self._means.get(name, (0, zero, zero))
            step += 1
            first = self._momentum * first + (1 - self._momentum) * slope
            second = self._scaling * second + (1 - self._scaling) * slope**2
            self._means[name] = (step, first, second)
            corrected = first / (1 - self._momentum**step)
            spread = np.sqrt(second / (1 - self._scaling**step))
            parameters[name][...] += self._learning_rate * corrected / (spread + self._epsilon)
