"""Checkpoints: what a trial leaves in its folder, so that it can go on from there."""

from __future__ import annotations

import os
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from parti.core.errors import TrialError
from parti.core.trial import Measurement

__all__ = ["Checkpoint", "load_checkpoint", "save_checkpoint"]

FILE = "checkpoint.pt"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The state of a training at the end of an epoch.

    Args:
        identity: what makes this training this one: architecture, recipe, horizon, data, seed.
        weights: state dict of the network that was measured (the averaged one, if any).
        training: state of the learner.
        measurements: of this trial, so far.
    """

    identity: Mapping[str, Any]
    weights: Mapping[str, Any]
    training: Mapping[str, Any]
    measurements: tuple[Measurement, ...]

    def differences(self, identity: Mapping[str, Any], *, ignoring: Sequence[str] = ()) -> str:
        """Name what differs from another training, or nothing when it is the same."""
        names = [n for n in identity if n not in ignoring and self.identity.get(n) != identity[n]]
        return ", ".join(
            f"{name} {self.identity.get(name)!r} instead of {identity[name]!r}" for name in names
        )


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> Path:
    """Write a checkpoint so that at any moment the folder holds the old or the new one, whole.

    Returns:
        The file that was written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / FILE
    part = folder / f"{FILE}.part"
    with part.open("wb") as file:
        torch.save(
            {
                "identity": dict(checkpoint.identity),
                "weights": dict(checkpoint.weights),
                "training": dict(checkpoint.training),
                "measurements": [
                    (dict(m.metrics), m.step, m.seconds) for m in checkpoint.measurements
                ],
            },
            file,
        )
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
    return path


def load_checkpoint(folder: Path) -> Checkpoint:
    """Read the checkpoint of a folder, onto the CPU, without running any code from it.

    Raises:
        TrialError: there is none, or it cannot be read.
    """
    path = folder / FILE
    if not path.exists():
        raise TrialError(f"there is no checkpoint at {path}; was the trial's folder moved?")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        return Checkpoint(
            content["identity"],
            content["weights"],
            content["training"],
            tuple(Measurement(*entry) for entry in content["measurements"]),
        )
    except (pickle.UnpicklingError, RuntimeError, EOFError, KeyError, TypeError) as error:
        raise TrialError(f"the checkpoint at {path} cannot be read ({error})") from error
