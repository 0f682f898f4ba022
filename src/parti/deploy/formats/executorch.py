"""ExecuTorch's program for XNNPACK, one image per call, its memory planned beforehand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from parti.deploy.check import Compute, singly
from parti.deploy.model import DeployedModel
from parti.evaluators.runtimes.executorch import pte_method, to_pte

__all__ = ["write"]


def write(model: DeployedModel, input_shape: Sequence[int], file: Path) -> Compute:
    """Write model.pte; arguments, result and errors as in `Format.write`."""
    file.write_bytes(to_pte(model, input_shape))
    method = pte_method(file, threads=1)

    def compute(images: NDArray[np.float32]) -> NDArray[np.float32]:
        logits: NDArray[np.float32] = method.execute([torch.from_numpy(images)])[0].numpy().copy()
        return logits

    return singly(compute)
