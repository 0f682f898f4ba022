"""What a compression that was stopped has kept, so that the same one goes on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["Kept", "identity", "restored", "snapshot"]


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


def snapshot(network: nn.Module) -> dict[str, Any]:
    """A pruned network as tensors and numbers, for `restored`."""
    sizes = {name: _sizes(module) for name, module in network.named_modules()}
    return {"sizes": sizes, "weights": {k: v.clone() for k, v in network.state_dict().items()}}


def restored(network: nn.Module, kept: Mapping[str, Any]) -> nn.Module:
    """Bring an unpruned network to the channels and weights of a pruned one, in place.

    Args:
        network: the one that was pruned, as it was before.
        kept: what `snapshot` gave.

    Returns:
        The same network.
    """
    weights: Mapping[str, Tensor] = kept["weights"]
    for name, module in network.named_modules():
        for attribute, value in kept["sizes"].get(name, {}).items():
            setattr(module, attribute, tuple(value) if isinstance(value, list) else value)
        for own, tensor in [
            *module.named_parameters(recurse=False),
            *module.named_buffers(recurse=False),
        ]:
            new = weights.get(f"{name}.{own}" if name else own)
            if new is not None and new.shape != tensor.shape:
                tensor.data = torch.empty_like(new)
    network.load_state_dict(dict(weights))
    return network


def _sizes(module: nn.Module) -> dict[str, Any]:
    """The whole numbers that a module knows: channels, groups."""

    def whole(value: object) -> bool:
        return isinstance(value, int) and not isinstance(value, bool)

    return {
        name: value
        for name, value in vars(module).items()
        if not name.startswith("_")
        and (whole(value) or (isinstance(value, tuple) and value and all(map(whole, value))))
    }
