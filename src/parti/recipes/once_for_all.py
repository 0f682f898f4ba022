"""Once-for-all: progressive shrinking from the largest network to all of its subnets.

Han Cai, Chuang Gan, Tianzhe Wang, Zhekai Zhang, Song Han: Once-for-All: Train One Network and
Specialize it for Efficient Deployment, ICLR 2020, section 3.3. First the largest network is
trained, then kernels shrink, then depth, then width, each opened beside what is open already, depth
and width in two parts. After the first phase subnets learn the labels and, at the same weight, what
the largest network of that time says of the images. Before the width shrinks, the channels of
inverted residuals are sorted by importance. Phases, their learning rates, warm-ups and subnets per
step are those of the authors' code (`train_ofa_net.py` of mit-han-lab/once-for-all), the first
phase is the paper's (section 4.1: 180 epochs, 2.6 for 2048 images on 32 GPUs); lengths are shares
of the training.

Where the space lets networks choose their resolution, all of these are open from the beginning, as
with the authors (128 to 224 in steps of 4), and a teacher sees what its subnet sees.

Departures: a smaller kernel is the centre of a larger one, without the authors' 7x7 to 5x5 to 3x3
transformation matrices. Width is every scale that is neither a kernel nor a depth: expansions, and
where the space offers them the widths of stages, whose channels are not sorted (shortcuts tie
them). There is no dropout before the classifier (0.1), images are shifted instead of resized from a
random part, and colours are not distorted. Channels are sorted once, not again before the second
part. Choices that are no scales are drawn at random in all phases, the same for the teacher.
Resolutions are off unless the space asks for one, as `mobile(resolutions=...)` does; then each
subnet has its own (the authors': one for all of a step). The paper's search afterwards, evolution
guided by a predictor of accuracy, is any strategy over `InheritedWeights`.
"""

from __future__ import annotations

import copy
import math
import random
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from parti.core.architecture import Architecture, Option
from parti.core.choice import Choice
from parti.core.elastic import Elastic
from parti.core.errors import InvalidSettings
from parti.evaluators.recipe import Recipe
from parti.recipes.bench import Batch, Bench
from parti.recipes.channels import sort_channels
from parti.recipes.recipe import SupernetRecipe
from parti.recipes.sampled import Paths, by_size
from parti.supernets.layers import Layer
from parti.supernets.share import Supernet
from parti.supernets.subnets import activate

__all__ = ["ONCE_FOR_ALL", "PHASES", "Phase", "ProgressiveShrinking", "axes"]

ALL = 1_000
"""More options than any scale has."""


@dataclass(frozen=True, slots=True)
class Phase:
    """A part of progressive shrinking.

    Args:
        name: of the part.
        epochs: the authors'; relative to those of the others.
        lr: the highest learning rate, relative to that of the recipe.
        warmup: epochs, of these, in which it rises from 0.
        subnets: trained in each step.
        opened: how many options of each scale are open, largest first, by its axis: "kernel",
            "depth" or "width"; of others, only the largest.
    """

    name: str
    epochs: float
    lr: float
    warmup: float = 0.0
    subnets: int = 1
    opened: Mapping[str, int] = field(default_factory=dict)


LARGEST_LR = 2.6 / 32
"""The authors' first learning rate, for the 64 images on one of their 32 GPUs."""

PHASES = (
    Phase("largest", 180, 1.0),
    Phase("kernel", 120, 3e-2 / LARGEST_LR, 5, 1, {"kernel": ALL}),
    Phase("depth 1", 25, 2.5e-3 / LARGEST_LR, 0, 2, {"kernel": ALL, "depth": 2}),
    Phase("depth 2", 120, 7.5e-3 / LARGEST_LR, 5, 2, {"kernel": ALL, "depth": ALL}),
    Phase("width 1", 25, 2.5e-3 / LARGEST_LR, 0, 4, {"kernel": ALL, "depth": ALL, "width": 2}),
    Phase("width 2", 120, 7.5e-3 / LARGEST_LR, 5, 4, {"kernel": ALL, "depth": ALL, "width": ALL}),
)
"""The authors' phases."""


def axes(supernet: Supernet) -> dict[str, str]:
    """Sort the scales of a space, by the name of the choice.

    Resolutions are what the size of `nn.Upsample` hangs on, kernels what the kernel sizes of
    convolutions do; depth is asked with `repeat`; all other scales are widths.

    Returns:
        "resolution", "kernel", "depth" or "width" for each.
    """
    found: dict[str, set[str]] = {"kernel_size": set(), "size": set()}
    for layer in supernet.modules():
        if isinstance(layer, Layer):
            for argument, names in found.items():
                value = layer.elastic.get(argument)
                for part in value if isinstance(value, tuple) else (value,):
                    names |= set(part.choices) if isinstance(part, Elastic) else set()

    def axis(choice: Choice) -> str:
        if choice.kind == "repeat":
            return "depth"
        if choice.name in found["size"]:
            return "resolution"
        return "kernel" if choice.name in found["kernel_size"] else "width"

    return {name: axis(choice) for name, choice in supernet.choices.items() if choice.ordered}


class ProgressiveShrinking(Paths):
    """Train the largest network, then smaller and smaller ones, which learn from it.

    Args:
        bench: what it works with.
        phases: in order; the first trains the largest network, with no scale opened.
        distillation: weight of what the teacher says, beside the labels with weight 1.
        resolutions: as for `Paths`.

    Raises:
        InvalidSettings: there is no phase, the first opens something, or a number is negative.
    """

    def __init__(
        self,
        bench: Bench,
        *,
        phases: Sequence[Phase] = PHASES,
        distillation: float = 1.0,
        resolutions: Sequence[int] = (),
    ) -> None:
        super().__init__(bench, resolutions=resolutions)
        _check(phases, distillation)
        self._phases, self._distillation = tuple(phases), distillation
        self._axes = axes(bench.supernet)
        total = sum(phase.epochs for phase in phases)
        ends = accumulate(phase.epochs / total for phase in phases)
        steps = bench.epochs * bench.steps
        self._ends = [round(end * steps) for end in ends]
        self._planned = self._last = steps
        self._since = (0, 0.0)
        self._teacher: Supernet | None = None
        self._entered = 0

    def phase(self, step: int) -> int:
        """Number of the phase that a step belongs to."""
        return min(bisect_right(self._ends, self.place(step)), len(self._phases) - 1)

    def place(self, step: int) -> float:
        """Where in the plan a step is; what is in a hurry takes several planned steps at once."""
        since, place = self._since
        left = max(1, self._last - since)
        return place + (step - since) * (self._planned - place) / left

    def finish_by(self, step: int) -> None:
        """Come to the end of the plan after so many steps: later phases are as much shorter."""
        last = min(step, self._planned)
        if last != self._last:
            self._since, self._last = (self.steps, self.place(self.steps)), last

    def done(self) -> bool:
        """Whether it has come to the end of the plan."""
        return self.steps >= self._last

    def missing(self) -> str:
        """Say in which phase it is, and which scales it has not opened as far as the last will."""
        now, last = self._phases[self._entered], self._phases[-1]

        def closed(axis: str) -> bool:
            named = (name for name, its in self._axes.items() if its == axis)
            choices = self.bench.supernet.choices
            most = max((len(choices[name].options) for name in named), default=1)
            return min(most, now.opened.get(axis, 1)) < min(most, last.opened.get(axis, 1))

        names = ", ".join(filter(closed, ("kernel", "depth", "width")))
        return names and (
            f"phase {self._entered + 1} of {len(self._phases)} ({now.name}): the smallest options "
            f"of {names} were never trained, so that what networks with them inherit does not tell "
            "how good they are"
        )

    def learn(self, batch: Batch) -> Tensor:
        """Add the gradients of some subnets; their mean loss is returned."""
        number = self.phase(self.steps)
        while self._entered < number:
            self._enter(self._entered + 1)
        phase = self._phases[number]
        self._set_rate(number)
        drawn = [self.draw(phase) for _ in range(phase.subnets)]
        losses = []
        for subnet in drawn:
            activate(self.bench.supernet, subnet)
            logits = self.bench.logits(batch.images)
            loss = F.cross_entropy(
                logits, batch.labels, label_smoothing=self.bench.training.label_smoothing
            )
            if self._teacher is not None and self._distillation:
                soft = self._taught(batch.images, subnet).softmax(1)
                loss = loss + self._distillation * F.cross_entropy(logits, soft)
            loss.backward()  # type: ignore[no-untyped-call]
            losses.append(loss.detach())
        return torch.stack(losses).mean()

    def draw(self, phase: Phase) -> Architecture:
        """Draw a subnet of those that a phase has opened, with Python's global random numbers."""

        def pick(choice: Choice) -> Option:
            if not choice.ordered:
                return random.choice(choice.options)
            axis = self._axes[choice.name]
            opened = ALL if axis == "resolution" else phase.opened.get(axis, 1)
            return random.choice(by_size(choice)[-opened:])

        return self.bench.supernet.tree.walk(pick)

    def monitors(self) -> Mapping[str, float]:
        """Number of the phase, from 1, and the learning rate of the last step."""
        rate = float(self.bench.optimizer.param_groups[0]["lr"])
        return {"phase": self._entered + 1.0, "lr": rate}

    def state(self) -> Mapping[str, Any]:
        """Steps, phases entered, how it hurries, and the weights of the teacher."""
        teacher = None if self._teacher is None else self._teacher.network.state_dict()
        hurry = {"since": self._since, "last": self._last}
        return {**super().state(), "entered": self._entered, "teacher": teacher, **hurry}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go back to a state."""
        super().restore(state)
        self._entered, self._teacher = int(state["entered"]), None
        self._since = state.get("since", self._since)
        self._last = state.get("last", self._last)
        if state["teacher"] is not None:
            self._teacher = _frozen(self.bench.supernet)
            self._teacher.network.load_state_dict(state["teacher"])

    def _enter(self, number: int) -> None:
        """Begin a phase: as in the authors' code, with fresh momentum."""
        self.bench.optimizer.state.clear()
        if self._teacher is None:
            self._teacher = _frozen(self.bench.supernet)
        before, now = (phase.opened.get("width", 1) for phase in self._phases[number - 1 :][:2])
        if before == 1 and now > 1:
            sort_channels(self.bench.supernet)
        self._entered = number

    @torch.no_grad()
    def _taught(self, images: Tensor, subnet: Architecture) -> Tensor:
        """The logits of the largest relative of a subnet, as it was after the first phase.

        Like the authors' teacher, it normalizes by the statistics of the batch.
        """
        assert self._teacher is not None

        def pick(choice: Choice) -> Option:
            if choice.ordered and self._axes[choice.name] != "resolution":
                return by_size(choice)[-1]
            return subnet.get(choice.name, choice.options[0])

        activate(self._teacher, self._teacher.tree.walk(pick))
        device = self.bench.machine.device.type
        with torch.autocast(device, torch.bfloat16, enabled=self.bench.machine.bfloat16):
            logits: Tensor = self._teacher(images)
        return logits.float() if self.bench.machine.bfloat16 else logits

    def _set_rate(self, number: int) -> None:
        """Warm up and fall along a half cosine within each phase."""
        phase = self._phases[number]
        began = self._ends[number - 1] if number else 0
        steps = self._ends[number] - began
        warmup = phase.warmup / phase.epochs * steps
        step = self.place(self.steps) - began
        if step + 1 <= warmup:
            share = (step + 1) / warmup
        else:
            share = (1 + math.cos(math.pi * (step - warmup) / max(1.0, steps - warmup))) / 2
        for group in self.bench.optimizer.param_groups:
            group["lr"] = self.bench.training.lr * phase.lr * share


def _frozen(supernet: Supernet) -> Supernet:
    """A copy with a state of its own, whose normalizations go by the batch."""
    shared = (supernet.space, supernet.tree)
    copied = copy.deepcopy(supernet, {id(value): value for value in shared})
    for module in copied.modules():
        module.train(isinstance(module, nn.modules.batchnorm._BatchNorm))
    return copied.requires_grad_(False)


def _check(phases: Sequence[Phase], distillation: float) -> None:
    if not phases or any(count > 1 for count in phases[0].opened.values()):
        raise InvalidSettings(
            "progressive shrinking begins with a phase that opens nothing: it trains the largest "
            "network, which teaches the others"
        )
    for phase in phases:
        unknown = set(phase.opened) - {"kernel", "depth", "width"}
        if unknown or not 0 <= phase.warmup < phase.epochs or phase.subnets < 1 or phase.lr <= 0:
            raise InvalidSettings(
                f"{phase}: it needs epochs, more of them than of warm-up, a learning rate, at "
                "least 1 subnet, and may open 'kernel', 'depth' and 'width'"
            )
    if distillation < 0:
        raise InvalidSettings(f"distillation={distillation}: a weight of at least 0 is needed")


ONCE_FOR_ALL = SupernetRecipe(
    name="once-for-all",
    paper="Cai et al.: Once-for-All: Train One Network and Specialize it for Efficient "
    "Deployment, ICLR 2020",
    step="parti.recipes.once_for_all:ProgressiveShrinking",
    training=Recipe(
        epochs=590,
        batch_size=64,
        lr=LARGEST_LR,
        schedule="cosine",
        warmup=0.0,
        momentum=0.9,
        weight_decay=3e-5,
        label_smoothing=0.1,
        flip=True,
        crop=4,  # in place of a random part of the image, resized
    ),
    space="mobile",
    sizes={"width": 16},
)
"""The published settings, for ImageNet and one GPU."""
