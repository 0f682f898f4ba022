"""Evaluation with inherited weights: a subnet of a trained supernet is measured as it is.

Batch norms of a supernet have seen all of its subnets, so their statistics fit none of them. For
each architecture they are measured anew on some training images, as Guo et al. (Single Path
One-Shot, ECCV 2020, section 3.4), Cai et al. (Once-for-All, ICLR 2020) and Yu et al. (BigNAS, ECCV
2020, section 3.1) do. That takes milliseconds to seconds, and no training.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from parti.core.errors import InvalidSettings
from parti.core.program import Program
from parti.core.trial import Job, Measurement
from parti.evaluators.average import measure_statistics
from parti.evaluators.feed import Pictures, as_tensor
from parti.evaluators.learner import STATISTICS_IMAGES, explained, images_at_once, logits_of
from parti.evaluators.machine import arranged, choose_device, derive, isolated, machine_for, place
from parti.evaluators.recipe import Recipe
from parti.supernets.share import Supernet
from parti.supernets.subnets import activate
from parti.tasks.classification import metrics

if TYPE_CHECKING:
    from parti.tasks.images import SearchData

__all__ = ["InheritedWeights", "recalibrate"]

PRECISE = Recipe(precision="float32", compile=False)

FEWEST_IN_A_BATCH = 64
"""Of images that batch norms are measured on: variances within smaller batches are too small."""


class InheritedWeights:
    """Measures each architecture on the validation images with the weights of a supernet.

    The same architecture always gets the same numbers: those that `extract` and the same
    recalibration of its batch norms would give. Fidelity, seed and folder of a job do not matter.

    Args:
        space: whose architectures are measured.
        data: the training and validation images; test images are in no reach.
        load: gives the trained supernet; called once in every process, so pickle must know it.
        images: training images, without augmentation, that batch norms are measured on; all of
            them when there are fewer.
        device: a name that torch knows, or "auto".
        threads: of the CPU; None to leave them.

    Raises:
        InvalidSettings: a value is not allowed.
    """

    def __init__(
        self,
        space: Program,
        data: SearchData,
        load: Callable[[], Supernet],
        *,
        images: int = STATISTICS_IMAGES,
        device: str = "auto",
        threads: int | None = None,
    ) -> None:
        if images < 2:
            raise InvalidSettings(f"images={images}: batch norms need at least 2, best some 1000")
        self._space, self._data, self._load, self._images = space, data, load, images
        self._machine = machine_for(PRECISE, str(choose_device(device)), threads)
        self._material: _Material | None = None

    @property
    def provides(self) -> frozenset[str]:
        """Names of the metrics it measures."""
        names = ["accuracy", "loss", "f1", "precision", "recall", "auc"]
        if len(self._data.classes) > 5:
            names.append("top5_accuracy")
        return frozenset(f"val_{name}" for name in names)

    def __call__(self, job: Job) -> Iterator[Measurement]:
        """Yield one measurement.

        Raises:
            InvalidArchitecture: the architecture is no member of the space.
            InvalidSettings: the supernet is of another space.
            Diverged: the logits are NaN or infinite.
            TrialError: the subnet raises, or does not fit into memory.
        """
        began = time.perf_counter()
        with explained(), isolated(self._machine, derive(0, "inherited")):
            material = self._loaded()
            activate(material.supernet, job.architecture)
            logits = material.logits()
        measured = metrics(logits, material.val_labels)
        yield Measurement(
            {f"val_{name}": value for name, value in measured.items()},
            seconds=time.perf_counter() - began,
        )

    def _loaded(self) -> _Material:
        if self._material is None:
            supernet = self._load()
            if repr(supernet.space) != repr(self._space):
                raise InvalidSettings(
                    f"the supernet that was loaded holds {supernet.space!r}, not {self._space!r}: "
                    "architectures inherit from a supernet of their own space"
                )
            device = self._machine.device
            train, val = (
                Pictures(images, self._data.mean, self._data.std, device)
                for images in (self._data.train_images, self._data.val_images)
            )
            layout = place(supernet, self._machine, train.part(0, 2))
            labels = as_tensor(self._data.val_labels)
            self._material = _Material(supernet, train, val, labels, layout, self._images)
        return self._material

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_material": None}


class _Material:
    """A supernet and a data set on a device: loaded once for all trials of a process."""

    def __init__(
        self,
        supernet: Supernet,
        train: Pictures,
        val: Pictures,
        val_labels: Tensor,
        layout: torch.memory_format,
        images: int,
    ) -> None:
        self.supernet = supernet.eval()
        self.val_labels = val_labels
        self._train, self._val, self._layout, self._images = train, val, layout, images

    def logits(self) -> Tensor:
        """What the active subnet makes of the validation images, with statistics of its own."""
        with _kept_statistics(self.supernet):
            recalibrate(self.supernet, self._train, self._layout, self._images)
            return logits_of(self.supernet, self._val, self._layout)


def recalibrate(
    network: nn.Module,
    train: Pictures,
    layout: torch.memory_format,
    images: int = STATISTICS_IMAGES,
) -> None:
    """Measure batch norms on so many training images: always the same ones, in the same batches.

    Args:
        network: on the device of the images; changed in place.
        train: the training images.
        layout: the order of memory that suits the network.
        images: how many; all of them when there are fewer.
    """
    generator = torch.Generator().manual_seed(derive(0, "recalibration"))
    order = torch.randperm(train.size, generator=generator)[:images]
    # Parts of one size, as the mean over batches counts each of them alike.
    parts = order.tensor_split(-(-len(order) // max(FEWEST_IN_A_BATCH, images_at_once(train))))
    measure_statistics(network, (arranged(train.some(part), layout) for part in parts))


@contextmanager
def _kept_statistics(network: nn.Module) -> Iterator[None]:
    """Afterwards all buffers are what they were before."""
    buffers = list(network.buffers())
    before = [buffer.clone() for buffer in buffers]
    try:
        yield
    finally:
        for buffer, value in zip(buffers, before, strict=True):
            buffer.copy_(value)
