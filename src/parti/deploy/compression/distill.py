"""Distillation: a network learns what better ones answer, wrong answers included.

Hinton, Vinyals, Dean: "Distilling the Knowledge in a Neural Network", NIPS 2014 Deep Learning
Workshop, arXiv 1503.02531, section 2. At a temperature T, probabilities are softmax(z / T)
(equation 1); the loss is

    alpha T² KL(teacher || student) + (1 - alpha) cross-entropy with the labels,

where T² keeps the size of the gradients when T changes (section 2, last paragraph).

Departures: the KL divergence instead of the cross-entropy with the teacher's probabilities, which
has the same gradients; several teachers give the mean of their probabilities at that temperature;
an auxiliary classifier of the student learns from the labels alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from parti.core.errors import InvalidSettings
from parti.evaluators.feed import Memory, as_tensor
from parti.evaluators.learner import explained
from parti.evaluators.machine import Machine, machine_for
from parti.evaluators.recipe import Recipe, default_recipe
from parti.evaluators.trained import predict, train
from parti.tasks.classification import accuracy

if TYPE_CHECKING:
    from parti.tasks.images import SearchData

__all__ = ["TEMPERATURE", "chosen_teachers", "distill", "distillation_loss"]

TEMPERATURE, ALPHA = 4.0, 0.9
"""The usual ones for small networks; the paper tries temperatures from 1 to 20."""


def distill(
    student: nn.Module,
    teachers: Sequence[nn.Module],
    data: SearchData,
    recipe: Recipe | None = None,
    *,
    temperature: float = TEMPERATURE,
    alpha: float = ALPHA,
    seed: int = 0,
    device: str = "auto",
    threads: int | None = None,
    memory: Memory = "auto",
    watch: Callable[[int, float], None] | None = None,
) -> nn.Module:
    """Train a network on the training images to answer as its teachers do.

    Teachers see the very images that the student sees, augmented.

    Args:
        student: trained in place; with fresh weights or with good ones.
        teachers: one or more trained networks of the same classes; left as they were.
        data: its validation images are not looked at.
        recipe: None for `default_recipe(data)`.
        temperature: by which logits are divided, more than 0 (T).
        alpha: weight of the teachers' answers against the labels, 0 to 1.
        seed: of the order of images, augmentation, and the network's own random numbers.
        device: a name that torch knows, or "auto".
        threads: of the CPU, during training; None to leave them.
        memory: as in `parti.evaluators.training.Training`.
        watch: called after every epoch with the number of epochs done and the training loss.

    Returns:
        The trained student, averaged if the recipe says so, on the CPU in evaluation mode.

    Raises:
        InvalidSettings: there is no teacher, or a value is not allowed.
        Diverged: the loss became NaN or infinite.
        TrialError: a network raises, does not fit into memory, or does not fit the data.
    """
    if not teachers:
        raise InvalidSettings("distillation needs at least one teacher; pass a trained network")
    if not temperature > 0 or not 0 <= alpha <= 1:
        raise InvalidSettings(
            f"temperature={temperature!r} must be more than 0 and alpha={alpha!r} from 0 to 1"
        )
    recipe = default_recipe(data) if recipe is None else recipe
    machine = machine_for(recipe, device, threads)
    student.requires_grad_()  # averaged weights ask for none
    try:
        with explained(recipe):
            placed = [teacher.to(machine.device).eval() for teacher in teachers]
        return train(
            student,
            data,
            recipe,
            seed=seed,
            device=device,
            threads=threads,
            memory=memory,
            loss=_Taught(placed, machine, temperature, alpha),
            watch=watch,
        )
    finally:
        for teacher in teachers:
            teacher.to("cpu")


def distillation_loss(
    logits: Tensor, answers: Tensor, hard: Tensor, temperature: float, alpha: float
) -> Tensor:
    """The loss of a batch.

    Args:
        logits: of the student, [b, k].
        answers: probabilities of the teachers at that temperature, [b, k].
        hard: the loss with respect to the labels.
        temperature: T.
        alpha: weight of the teachers' answers.
    """
    said = F.log_softmax(logits.float() / temperature, dim=1)
    apart = F.kl_div(said, answers, reduction="batchmean")
    return alpha * temperature**2 * apart + (1 - alpha) * hard


def chosen_teachers(
    source: nn.Module,
    others: Sequence[nn.Module],
    data: SearchData,
    *,
    device: str = "auto",
    threads: int | None = None,
) -> tuple[list[nn.Module], float]:
    """Choose teachers whose mean probability is most often right on the validation images.

    Args:
        source: always a teacher.
        others: each of them stays if the accuracy rises with it, in this order.
        data: its validation images are looked at.
        device: a name that torch knows, or "auto".
        threads: of the CPU; None to leave them.

    Returns:
        The teachers, and their validation accuracy together.
    """
    labels = as_tensor(data.val_labels)

    def answers(network: nn.Module) -> Tensor:
        logits = predict(
            network,
            data.val_images,
            mean=data.mean,
            std=data.std,
            device=device,
            threads=threads,
        )
        return logits.softmax(1)

    chosen, total = [source], answers(source)
    best = accuracy(total, labels)
    for network in others:
        with_it = total + answers(network)
        if (together := accuracy(with_it, labels)) > best:
            chosen, total, best = [*chosen, network], with_it, together
    return chosen, best


class _Taught:
    """The loss of a student, for `parti.evaluators.learner.Learner`: it asks teachers.

    Args:
        teachers: trained networks, on the machine's device in evaluation mode.
        machine: where they compute, as precisely as the student.
        temperature: T.
        alpha: weight of their answers.
    """

    def __init__(
        self, teachers: Sequence[nn.Module], machine: Machine, temperature: float, alpha: float
    ) -> None:
        self._teachers, self._machine = teachers, machine
        self._temperature, self._alpha = temperature, alpha

    def __call__(self, images: Tensor, logits: Tensor, hard: Tensor) -> Tensor:
        answers = torch.stack([self._answer(teacher, images) for teacher in self._teachers])
        return distillation_loss(logits, answers.mean(0), hard, self._temperature, self._alpha)

    @torch.no_grad()
    def _answer(self, teacher: nn.Module, images: Tensor) -> Tensor:
        """The probabilities that a teacher gives at the temperature, [b, k]."""
        machine = self._machine
        with torch.autocast(machine.device.type, torch.bfloat16, enabled=machine.bfloat16):
            logits: Tensor = teacher(images)
        return (logits.float() / self._temperature).softmax(1)
