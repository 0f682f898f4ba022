"""What a compression that was stopped has kept, so that the same one goes on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Any

import torch
from torch import nn

__all__ = ["Kept", "identity"]


class Kept:
    """States in a folder, by name; those of another question are not seen.

    Args:
        folder: that exists.
        identity: of what is asked, from `identity`.
    """

    def __init__(self, folder: Path, identity: str) -> None:
        self._folder, self._identity = folder, identity

    def load(self, name: str) -> Any:
        """What `save` kept under a name; None when there is nothing that answers this question."""
        file = self._file(name)
        if not file.exists():
            return None
        kept = torch.load(file, weights_only=True)
        return kept["state"] if kept["identity"] == self._identity else None

    def save(self, name: str, state: Mapping[Any, Any]) -> None:
        """Keep tensors and JSON values; the file appears complete or not at all."""
        file = self._file(name)
        partial = file.with_suffix(".partial")
        torch.save({"identity": self._identity, "state": dict(state)}, partial)
        partial.replace(file)

    def _file(self, name: str) -> Path:
        return self._folder / f"{name}.pt"


def identity(network: nn.Module, asked: object = ()) -> str:
    """A digest of a network's weights and of what is asked, in JSON values."""
    digest = blake2b(json.dumps(asked, default=str).encode(), digest_size=8)
    for name, tensor in network.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
