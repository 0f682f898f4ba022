"""Networks outside a search: trained in full, loaded from a trial, and looked at."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from parti.core.architecture import Architecture
from parti.core.errors import TrialError
from parti.core.protocols import Builder
from parti.evaluators.checkpoint import load_checkpoint
from parti.evaluators.feed import Memory, Pictures, as_tensor
from parti.evaluators.learner import Learner, Loss, explained, logits_of
from parti.evaluators.machine import isolated, machine_for, place
from parti.evaluators.recipe import Recipe, default_recipe

if TYPE_CHECKING:
    from parti.tasks.images import SearchData

__all__ = ["load_trained", "predict", "train"]


def train(
    network: nn.Module,
    data: SearchData,
    recipe: Recipe | None = None,
    *,
    seed: int = 0,
    epochs: int | None = None,
    device: str = "auto",
    threads: int | None = None,
    memory: Memory = "auto",
    loss: Loss | None = None,
    watch: Callable[[int, float], None] | None = None,
) -> nn.Module:
    """Train a network on the training images of a data set.

    Args:
        network: with fresh weights; trained in place.
        data: its validation images are not looked at.
        recipe: None for `default_recipe(data)`.
        seed: of the order of images, augmentation, and the network's own random numbers.
        epochs: None for the recipe's.
        device: a name that torch knows, or "auto".
        threads: of the CPU, during training; None to leave them.
        memory: as in `Training`.
        loss: what is minimised, as in `parti.evaluators.learner.Learner`; None for the loss of
            the labels.
        watch: called after every epoch with the number of epochs done and the training loss.

    Returns:
        The trained network, averaged if the recipe says so, on the CPU in evaluation mode.

    Raises:
        Diverged: the loss became NaN or infinite.
        TrialError: the network raises, does not fit into memory, or does not fit the data.
        InvalidSettings: a value is not allowed.
    """
    recipe = default_recipe(data) if recipe is None else recipe
    recipe = replace(recipe, epochs=recipe.epochs if epochs is None else epochs)
    steps = recipe.epochs * max(1, len(data.train_labels) // recipe.batch_size)
    machine = machine_for(recipe, device, threads, steps)
    with explained(recipe):
        learner = Learner(
            network,
            Pictures(data.train_images, data.mean, data.std, machine.device, memory),
            as_tensor(data.train_labels).to(machine.device),
            len(data.classes),
            recipe,
            seed=seed,
            horizon=recipe.epochs,
            machine=machine,
            loss=loss,
        )
        while learner.epoch < recipe.epochs:
            mean = learner.run_epoch()
            if watch is not None:
                watch(learner.epoch, mean)
        trained = learner.result()
    return _at_rest(trained)


def predict(
    network: nn.Module,
    images: np.ndarray[Any, Any],
    *,
    mean: Sequence[float],
    std: Sequence[float],
    device: str = "auto",
    threads: int | None = None,
    batch_size: int | None = None,
) -> Tensor:
    """Compute the logits of images, in float32 and evaluation mode.

    Args:
        network: maps normalised [b, c, h, w] to [b, k]; it is left in evaluation mode on the CPU.
        images: [n, h, w, c] raw pixels, uint8 or float32; may be memory-mapped.
        mean: of each channel of the training images, in raw pixel units.
        std: likewise.
        device: a name that torch knows, or "auto".
        threads: of the CPU; None to leave them.
        batch_size: images at a time; None for what is quickest on the device.

    Returns:
        [n, k] float32 on the CPU.

    Raises:
        InvalidData: the images have no such shape.
        InvalidSettings: there is no such device here.
    """
    machine = machine_for(Recipe(precision="float32", compile=False), device, threads)
    pictures = Pictures(images, mean, std, machine.device, "stream")
    with isolated(machine, 0):
        layout = place(network, machine, pictures.part(0, 2))
        logits = logits_of(network, pictures, layout, batch_size)
    _at_rest(network)
    return logits


def load_trained(space: Builder, architecture: Architecture, workdir: Path) -> nn.Module:
    """Return the network that a trial trained, with the weights that its metrics were measured of.

    Args:
        space: builds the network.
        architecture: of the trial.
        workdir: the trial's folder.

    Returns:
        The network, on the CPU in evaluation mode.

    Raises:
        TrialError: there is no checkpoint, or it is of another architecture.
    """
    checkpoint = load_checkpoint(workdir)
    differences = checkpoint.differences({"architecture": architecture.fingerprint})
    if differences:
        raise TrialError(f"the checkpoint in {workdir} is of another trial: {differences}")
    with torch.random.fork_rng(devices=[]):
        network: nn.Module = space.build(architecture)
    network.load_state_dict(dict(checkpoint.weights))
    return network.eval()


def _at_rest(network: nn.Module) -> nn.Module:
    """Bring a network back to the CPU, in the default order of memory, to evaluate."""
    network.to("cpu")
    return network.to(memory_format=torch.contiguous_format).eval()  # type: ignore[call-overload, no-any-return]
