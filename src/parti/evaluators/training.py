"""Evaluation by training: accuracy on the validation images, epoch by epoch."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import nn
from torch.nn import functional as F

from parti.core.architecture import Architecture
from parti.core.errors import Diverged, InvalidSettings, TrialError
from parti.core.protocols import Builder
from parti.core.trial import Job, Measurement
from parti.evaluators.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from parti.evaluators.feed import Memory, Pictures, as_tensor, check_memory
from parti.evaluators.learner import Learner, explained, logits_of
from parti.evaluators.machine import choose_device, derive, isolated, machine_for
from parti.evaluators.recipe import Recipe, default_recipe
from parti.tasks.classification import accuracy, metrics

if TYPE_CHECKING:
    from parti.tasks.images import SearchData

__all__ = ["RecipeSpace", "Training"]


class RecipeSpace(Protocol):
    """A space of recipes, searched together with the networks."""

    def build(self, architecture: Architecture) -> Recipe:
        """Return the recipe that an architecture decides on."""
        ...


class Training:
    """Trains each architecture and measures it on the validation images after every epoch.

    The fidelity of a job is its number of epochs. With a `workdir` a trial leaves a checkpoint
    there: the same job goes on from it after a crash, and another may continue it to more epochs;
    either equals the training that was never interrupted, bit for bit on a CPU with the same
    number of threads. A continued trial keeps the seed of the one it continues.

    Args:
        space: gives the network of an architecture: [b, c, h, w] normalised images to logits.
        data: the training and validation images; test images are in no reach.
        recipe: how to train: one recipe, or a space of recipes that reads the same architecture;
            None for `default_recipe(data)`.
        epochs: of a job without a fidelity; None for the recipe's.
        horizon: epochs that the schedule of the learning rate is laid out for. Trials that are to
            be continued need it: the largest fidelity. None: each trial's own epochs.
        device: a name that torch knows, or "auto".
        threads: of the CPU, during training; None to leave them.
        memory: "resident" keeps the images as bytes on the device, "stream" reads them in batches
            in the background; "auto" streams those that are memory-mapped or too large.
        save_every: least seconds between checkpoints; one is always written at the end.

    Raises:
        InvalidSettings: a value is not allowed.
    """

    def __init__(
        self,
        space: Builder,
        data: SearchData,
        recipe: Recipe | RecipeSpace | None = None,
        *,
        epochs: int | None = None,
        horizon: int | None = None,
        device: str = "auto",
        threads: int | None = None,
        memory: Memory = "auto",
        save_every: float = 10.0,
    ) -> None:
        for name, value in (("epochs", epochs), ("horizon", horizon)):
            if value is not None and value < 1:
                raise InvalidSettings(f"{name}={value}, but at least 1 is needed")
        if epochs is not None and horizon is not None and epochs > horizon:
            raise InvalidSettings(_too_long(epochs, horizon))
        check_memory(memory)
        self._space, self._data = space, data
        self._recipe = default_recipe(data) if recipe is None else recipe
        self._epochs, self._horizon = epochs, horizon
        self._device, self._threads = choose_device(device), threads
        self._memory: Memory = memory
        self._save_every = save_every
        self._material: _Material | None = None
        if isinstance(self._recipe, Recipe):
            machine_for(self._recipe, str(self._device), threads)

    @property
    def provides(self) -> frozenset[str]:
        """Names of the metrics it measures; all but accuracy and losses only at the end."""
        names = ["accuracy", "loss", "f1", "precision", "recall", "auc"]
        if len(self._data.classes) > 5:
            names.append("top5_accuracy")
        return frozenset({"train_loss", *(f"val_{name}" for name in names)})

    def __call__(self, job: Job) -> Iterator[Measurement]:
        """Train, and yield after every epoch; step is the number of epochs done.

        After a crash the measurements from before are yielded again first.

        Raises:
            Diverged: the loss or the logits became NaN or infinite.
            TrialError: the network raises, does not fit into memory, or does not fit the data; or
                the checkpoint to continue is missing or of another training.
            InvalidSettings: the fidelity is beyond the horizon.
        """
        began = time.perf_counter()
        recipe, epochs, horizon = self._plan(job)
        identity = self._identity(job, recipe, horizon)
        own, parent = _own_checkpoint(job, identity, epochs), None
        if own is None and job.continues is not None:
            parent = _parent_checkpoint(job.continues, identity, epochs)
        start = own or parent
        if start is not None:
            identity = {**identity, "seed": start.identity["seed"]}
        done = list(own.measurements) if own else []
        began -= done[-1].seconds if done else 0.0
        yield from done
        if own is not None and own.training["epoch"] >= epochs:
            return
        with explained(recipe):
            learner = self._learner(job, recipe, horizon, identity["seed"])
            if start is not None:
                learner.restore(start.training)
        saved = time.perf_counter()
        while learner.epoch < epochs:
            with explained(recipe):
                loss = learner.run_epoch()
                network = learner.result()
                measured = self._validate(network, learner, last=learner.epoch == epochs)
            now = time.perf_counter()
            done.append(Measurement({"train_loss": loss, **measured}, learner.epoch, now - began))
            due = learner.epoch == epochs or now - saved >= self._save_every
            if job.workdir is not None and due:
                checkpoint = Checkpoint(
                    identity, network.state_dict(), learner.state(), tuple(done)
                )
                save_checkpoint(job.workdir, checkpoint)
                saved = time.perf_counter()
            yield done[-1]

    def _plan(self, job: Job) -> tuple[Recipe, int, int]:
        recipe = self._recipe
        if not isinstance(recipe, Recipe):
            recipe = recipe.build(job.architecture)
        epochs = job.fidelity or self._epochs or recipe.epochs
        horizon = self._horizon or epochs
        if epochs > horizon:
            raise InvalidSettings(_too_long(epochs, horizon))
        return recipe, epochs, horizon

    def _identity(self, job: Job, recipe: Recipe, horizon: int) -> dict[str, Any]:
        data = self._data
        settings = asdict(recipe)
        del settings["epochs"]  # how far to go is the job's, where it leads is the horizon's
        return {
            "architecture": job.architecture.fingerprint,
            **{f"recipe.{name}": value for name, value in settings.items()},
            "horizon": horizon,
            "images": [len(data.train_labels), len(data.val_labels), *data.input_shape],
            "pixels": [*map(float, data.mean), *map(float, data.std)],
            "seed": job.seed,
        }

    def _learner(self, job: Job, recipe: Recipe, horizon: int, seed: int) -> Learner:
        material = self._loaded()
        steps = horizon * max(1, material.train.size // recipe.batch_size)
        machine = machine_for(recipe, str(self._device), self._threads, steps)
        with isolated(machine, derive(seed, "weights")):
            network = self._space.build(job.architecture)
        return Learner(
            network,
            material.train,
            material.train_labels,
            len(self._data.classes),
            recipe,
            seed=seed,
            horizon=horizon,
            machine=machine,
        )

    def _loaded(self) -> _Material:
        if self._material is None:
            self._material = _Material(self._data, self._device, self._memory)
        return self._material

    def _validate(self, network: nn.Module, learner: Learner, *, last: bool) -> dict[str, float]:
        material = self._loaded()
        with isolated(learner.machine, derive(0, "validation")):
            logits = logits_of(network, material.val, learner.layout)
        if not torch.isfinite(logits).all():
            raise Diverged(
                f"after epoch {learner.epoch} the network's outputs for validation images are NaN "
                "or infinite; a lower lr or a clip_norm may help"
            )
        labels = material.val_labels
        if last:
            return {f"val_{name}": value for name, value in metrics(logits, labels).items()}
        return {
            "val_accuracy": accuracy(logits, labels),
            "val_loss": F.cross_entropy(logits, labels).item(),
        }

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_material": None}


class _Material:
    """A data set on a device: loaded once for all trials of a process."""

    def __init__(self, data: SearchData, device: torch.device, memory: Memory) -> None:
        self.train = Pictures(data.train_images, data.mean, data.std, device, memory)
        self.val = Pictures(data.val_images, data.mean, data.std, device, memory)
        self.train_labels = as_tensor(data.train_labels).to(device)
        self.val_labels = as_tensor(data.val_labels)


def _own_checkpoint(job: Job, identity: dict[str, Any], epochs: int) -> Checkpoint | None:
    """What this very job left before it was stopped; anything else in its folder is ignored."""
    if job.workdir is None:
        return None
    try:
        found = load_checkpoint(job.workdir)
    except TrialError:
        return None
    inherited = ("seed",) if job.continues is not None else ()
    other = found.differences(identity, ignoring=inherited)
    return None if other or found.training["epoch"] > epochs else found


def _parent_checkpoint(folder: Path, identity: dict[str, Any], epochs: int) -> Checkpoint:
    """The checkpoint of the trial to continue.

    Raises:
        TrialError: it is missing, of another training, or has no epoch less.
    """
    found = load_checkpoint(folder)
    other = found.differences(identity, ignoring=("seed",))
    if other:
        raise TrialError(
            f"the trial in {folder} cannot be continued, it had {other}; a trial is continued "
            "with the same settings, and with `horizon` set to the largest fidelity"
        )
    if found.training["epoch"] >= epochs:
        raise TrialError(
            f"the trial in {folder} has {found.training['epoch']} epochs already; "
            f"it can be continued to more than that, not to {epochs}"
        )
    return found


def _too_long(epochs: int, horizon: int) -> str:
    return (
        f"{epochs} epochs are beyond the horizon of {horizon}, at whose end the learning rate is "
        "0; set Training(horizon=...) to the largest number of epochs of any trial"
    )
