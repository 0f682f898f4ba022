"""ENAS: a controller and shared weights, trained in turn.

Hieu Pham, Melody Guan, Barret Zoph, Quoc Le, Jeff Dean: Efficient Neural Architecture Search via
Parameter Sharing, ICML 2018, section 2.2. In an epoch the weights learn from all training images,
each batch with an architecture that the controller draws. Then the weights stand still and the
controller learns by REINFORCE: the reward of an architecture is its accuracy on one batch of
held-out images, and ten rewards make one update. At the end (section 2.3) some architectures are
drawn and compared on one batch of held-out images; the best is the result.

The controller is the strategy `Reinforce`, told trials; so what it has learned is a fold over the
architectures and rewards so far, and these are what is saved.

Hyper-parameters are those of the authors' code for cells on CIFAR-10
(`scripts/cifar10_micro_search.sh` and `src/cifar10/main.py` of melodyguan/enas), held-out images a
tenth of the training images. Departures: cells are those of DARTS (four nodes of two inputs each,
all of them the output), where the authors' have five, and give what no node takes; the controller's
logits are not squashed by a tanh (1.1 for nodes, 0.44 for operations), and none begins with a bonus
(separable convolutions, there); the bonus for entropy is a part of its gradient instead of the
reward, Adam has a first momentum of 0.9, and the moving average that rewards are compared with is
without bias towards its beginning. The learning rate of the weights falls along one half cosine,
without restarts (after 10, 30 and 70 epochs, there). There is no auxiliary head, no dropout (0.1)
and no drop path (up to 0.4).
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from random import Random
from typing import Any

import torch
from torch import Tensor

from parti.core.architecture import Architecture, Option
from parti.core.choice import labels
from parti.core.errors import InvalidSettings
from parti.core.study import Objective, Study
from parti.core.trial import Measurement, Proposal, State, Trial
from parti.evaluators.recipe import Recipe
from parti.recipes.bench import Batch, Bench
from parti.recipes.recipe import SupernetRecipe
from parti.recipes.sampled import Paths
from parti.strategies.controller import PolicyName
from parti.strategies.policies import roll_out, steps_of
from parti.strategies.reinforce import Reinforce
from parti.supernets.subnets import activate

__all__ = ["ENAS", "Enas"]

REWARD = "held_accuracy"


class Enas(Paths):
    """Train weights under drawn architectures; at the end of each epoch, the controller.

    Args:
        bench: what it works with; its supernet is that of a static space.
        updates: of the controller after each epoch.
        aggregate: rewards for one update.
        candidates: architectures that are drawn and compared when one is derived.
        policy: the controller: "lstm", or "logits", which decides each choice by itself.
        learning_rate: of the controller.
        baseline: momentum of the moving average of rewards.
        entropy: weight of a bonus for undecidedness, in the unit of accuracy.
        layers: of the LSTM.
        hidden: cells in each layer.
        initial: parameters of the LSTM begin uniformly within this distance of 0.
        resolutions: as for `Paths`.

    Raises:
        InvalidSettings: a number is out of its range.
    """

    def __init__(
        self,
        bench: Bench,
        *,
        updates: int = 30,
        aggregate: int = 10,
        candidates: int = 10,
        policy: PolicyName = "lstm",
        learning_rate: float = 0.0035,
        baseline: float = 0.99,
        entropy: float = 1e-4,
        layers: int = 1,
        hidden: int = 64,
        initial: float = 0.1,
        resolutions: Sequence[int] = (),
    ) -> None:
        super().__init__(bench, resolutions=resolutions)
        if updates < 0 or candidates < 1:
            raise InvalidSettings(
                f"updates={updates}, candidates={candidates}: the first is at least 0, the second 1"
            )
        self._rewards_per_epoch, self._candidates = updates * aggregate, candidates
        self._controller = Reinforce(
            bench.supernet.space,
            Study("enas", (Objective(REWARD, "max"),), seed=bench.seed),
            policy=policy,
            learning_rate=learning_rate,
            baseline=baseline,
            batch=aggregate,
            entropy=entropy,
            layers=layers,
            hidden=hidden,
            initial=initial,
            distinct=False,
        )
        self.told: list[tuple[Architecture, float]] = []
        self._strengths: dict[str, Tensor] = {}
        self._watched: dict[str, float] = {}

    def learn(self, batch: Batch) -> Tensor:
        """Draw an architecture from the controller, and add the gradient of its loss."""
        activate(self.bench.supernet, self.draw())
        loss = self.bench.loss(batch)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    def __call__(self, batch: Batch, held: Batch | None) -> Tensor:
        """Take a step of the weights; after the last of an epoch, all those of the controller.

        Raises:
            InvalidSettings: there are no held-out images.
        """
        if held is None or self.bench.batches is None:
            raise InvalidSettings(
                "the controller learns from images that the weights do not see: choose held=0.1, "
                "or another share, in the recipe"
            )
        loss = super().__call__(batch, held)
        if self.steps % self.bench.steps == 0:
            batches = self.bench.batches("held")
            for _ in range(self._rewards_per_epoch):
                proposal = self._controller.ask()
                assert proposal is not None  # the controller may draw what it has drawn before
                drawn = proposal.architecture
                self._tell(drawn, self.accuracy(drawn, next(batches)))
        return loss

    def draw(self) -> Architecture:
        """Draw an architecture from the controller, with Python's global random numbers."""
        space = self.bench.supernet.space
        return roll_out(self._controller.policy, space, Random(random.getrandbits(64)))

    @torch.no_grad()
    def accuracy(self, architecture: Architecture, batch: Batch) -> float:
        """Share of a batch that an architecture gets right; norms go by the batch.

        The supernet is left in training mode, as it comes.
        """
        activate(self.bench.supernet, architecture)
        logits = self.bench.logits(batch.images)
        return float((logits.argmax(1) == batch.labels).double().mean())

    def settle(self) -> None:
        """Activate the best of some drawn architectures, by their accuracy on one held batch."""
        assert self.bench.batches is not None
        self.bench.supernet.train()
        batch = next(self.bench.batches("held"))
        drawn = [self.draw() for _ in range(self._candidates)]
        best = max(drawn, key=lambda architecture: self.accuracy(architecture, batch))
        self._strengths = self._compared(drawn, best)
        self._watched = {"entropy": self._entropy(drawn)}
        if last := self.told[-self._rewards_per_epoch :]:
            self._watched[REWARD] = sum(reward for _, reward in last) / len(last)
        activate(self.bench.supernet, best)
        self.recalibrate()

    def probabilities(self) -> Mapping[str, Tensor]:
        """Strengths of which the best drawn architecture is the strongest.

        Its options have strength 1 (labels of a `some_of`, 2); others half of the share of drawn
        architectures that take them, so that what comes next is near to it and likely, too.
        """
        return dict(self._strengths)

    def monitors(self) -> Mapping[str, float]:
        """How undecided the controller is (from 0 to 1), and its mean reward in the last epoch."""
        return dict(self._watched)

    def state(self) -> Mapping[str, Any]:
        """Steps, and what the controller was told: places of options (-1: no such choice)."""
        choices = self.bench.supernet.choices.values()
        places = [
            [c.options.index(told[c.name]) if c.name in told else -1 for c in choices]
            for told, _ in self.told
        ]
        return {
            **super().state(),
            "places": torch.tensor(places, dtype=torch.int32).reshape(-1, len(choices)),
            "rewards": torch.tensor([reward for _, reward in self.told], dtype=torch.float64),
            "strengths": self.probabilities(),
            "watched": self.monitors(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go back to a state: tell a controller that knows nothing all it had been told.

        Raises:
            InvalidSettings: this controller has been told something already.
        """
        if self.told:
            raise InvalidSettings("a controller that has learned cannot go back; make a new step")
        super().restore(state)
        choices = list(self.bench.supernet.choices.values())
        for row, reward in zip(state["places"].tolist(), state["rewards"].tolist(), strict=True):
            pairs = zip(choices, row, strict=True)
            told = {c.name: c.options[place] for c, place in pairs if place >= 0}
            self._tell(Architecture(told), reward)
        self._strengths, self._watched = dict(state["strengths"]), dict(state["watched"])

    def _tell(self, architecture: Architecture, reward: float) -> None:
        measured = (Measurement({REWARD: reward}),)
        trial = Trial(len(self.told), Proposal(architecture), State.DONE, measured)
        self._controller.tell(trial)
        self.told.append((architecture, reward))

    def _compared(self, drawn: Sequence[Architecture], best: Architecture) -> dict[str, Tensor]:
        found = {}
        for name, choice in self.bench.supernet.choices.items():
            several = choice.kind == "some_of"
            options = labels(choice) if several else choice.options
            shares = [sum(_takes(each, name, o) for each in drawn) / len(drawn) for o in options]
            found[name] = torch.tensor(
                [
                    (2.0 if several else 1.0) if _takes(best, name, option) else share / 2
                    for option, share in zip(options, shares, strict=True)
                ]
            )
        return found

    def _entropy(self, drawn: Sequence[Architecture]) -> float:
        steps = [steps_of(self.bench.supernet.space, architecture) for architecture in drawn]
        most = sum(math.log(len(step.choice.options)) for each in steps for step in each)
        return float(self._controller.policy.trace(steps).entropies.sum()) / most if most else 0.0


def _takes(architecture: Architecture, name: str, option: Option) -> bool:
    """Whether a choice is decided for an option, or for a subset with this label."""
    taken = architecture.get(name)
    if isinstance(taken, tuple) and isinstance(option, str):
        return option in taken
    return taken == option


ENAS = SupernetRecipe(
    name="enas",
    paper="Pham et al.: Efficient Neural Architecture Search via Parameter Sharing, ICML 2018",
    step="parti.recipes.enas:Enas",
    training=Recipe(
        epochs=150,
        batch_size=160,
        lr=0.05,
        schedule="cosine",
        warmup=0.0,
        momentum=0.9,
        weight_decay=1e-4,
        final_lr=0.0005,
        decay="all",
        flip=True,
        crop=4,
        clip_norm=5.0,
    ),
    held=0.1,
    space="darts",
    sizes={"channels": 20, "cells": 8},
    derives=True,
)
"""The published settings for cells."""
