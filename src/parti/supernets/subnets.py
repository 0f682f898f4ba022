"""One architecture of a supernet: activated in it, or taken out of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from parti.core.architecture import Architecture, Option
from parti.core.choice import labels
from parti.core.errors import InvalidArchitecture, InvalidSettings
from parti.core.walks import validate
from parti.supernets.layers import Layer, cut
from parti.supernets.modules import Mixture, Selected, Switch
from parti.supernets.share import NormalizedPool, PartialChannels, Supernet

__all__ = ["activate", "extract", "mix"]

RELAXED = (
    "this supernet was built for gradient search, and no plain network is like that; build the "
    "architecture and train it"
)


def activate(supernet: Supernet, architecture: Mapping[str, Option]) -> Architecture:
    """Let one architecture answer from now on; mixtures end.

    Args:
        supernet: whose state is changed.
        architecture: a member of its space.

    Returns:
        The architecture, in walking order.

    Raises:
        InvalidArchitecture: it is no member of the space.
    """
    member = validate(supernet.space, architecture)
    supernet.state.decisions.update(member)
    supernet.state.mixtures.clear()
    return member


def mix(
    supernet: Supernet,
    weights: Mapping[str, Tensor],
    active: Mapping[str, Sequence[int]] | None = None,
) -> None:
    """Let weighted sums of options answer from now on; other choices stay as they are decided.

    Args:
        supernet: whose state is changed.
        weights: by choice, shape (options,) of a `one_of` or `repeat`, (labels,) of a `some_of`.
        active: by choice, the places of what runs; the rest counts as weight 0. All by default.

    Raises:
        InvalidSettings: there is no such choice; it is asked with `choose`; or it has another
            number of options.
    """
    mixtures = {}
    for name, given in weights.items():
        choice = supernet.choices.get(name)
        if choice is None or choice.kind == "choose":
            mixable = [c.name for c in supernet.choices.values() if c.kind != "choose"]
            why = "is a value, which cannot be mixed" if choice else "does not exist"
            raise InvalidSettings(f"choice {name!r} {why}; modules are asked by {mixable}")
        options = labels(choice) if choice.kind == "some_of" else choice.options
        if tuple(given.shape) != (len(options),):
            raise InvalidSettings(
                f"choice {name!r} has {len(options)} options, got weights of shape "
                f"{tuple(given.shape)}"
            )
        mixtures[name] = Mixture.of(given, None if active is None else active.get(name))
    supernet.state.mixtures.clear()
    supernet.state.mixtures.update(mixtures)


def extract(supernet: Supernet, architecture: Mapping[str, Option]) -> nn.Module:
    """Return one architecture as a plain network, with the weights that it has in the supernet.

    Its outputs are those of the active subnet. It holds nothing of parti's that a network built
    by the space does not, and shares no memory with the supernet.

    Args:
        supernet: left as it is.
        architecture: a member of its space.

    Raises:
        InvalidArchitecture: it is no member of the space.
        InvalidSettings: the supernet was built for gradient search (`Relaxed`): no plain network
            is like that, so that what is derived has to be trained anew.
    """
    if any(isinstance(module, PartialChannels | NormalizedPool) for module in supernet.modules()):
        raise InvalidSettings(f"partial channels or normalized pooling: {RELAXED}")
    member = validate(supernet.space, architecture)
    found = next(iter(supernet.network.state_dict().values()), torch.empty(0))
    with torch.random.fork_rng():
        network: nn.Module = supernet.space.build(member)
    network.to(found.device)
    network.train(supernet.training)
    with supernet.state.under(member):
        pairs = dict(_pairs(supernet.network, network, ""))
    with torch.no_grad():
        for name, target in network.state_dict(keep_vars=True).items():
            target.data = pairs[name].detach().to(found.device).clone()
    return network


def _pairs(
    shared: nn.Module, plain: nn.Module, prefix: str, cuts: bool = False
) -> Iterator[tuple[str, Tensor]]:
    """The weights of a plain network by name, each cut out of the shared one."""
    while isinstance(shared, Switch | Selected):
        shared = shared.active()
    own = (*plain._parameters.items(), *plain._buffers.items())
    for name, target in own:
        if target is None:
            continue
        if isinstance(shared, Layer):
            yield prefix + name, shared.cut_to(name, tuple(target.shape))
        else:
            source = getattr(shared, name)
            if source is None:
                raise InvalidSettings(f"no {prefix}{name}: {RELAXED}")
            if cuts:  # a part of an elastic layer, such as an attention's last projection
                source = cut(source, tuple(target.shape))
            if source.shape != target.shape:
                raise InvalidArchitecture(
                    f"weight {prefix + name} has shape {tuple(target.shape)} in the network and "
                    f"{tuple(source.shape)} in the supernet: {type(plain).__name__} is not elastic"
                )
            yield prefix + name, source
    for name, child in plain._modules.items():
        if child is not None:
            inside = shared._modules[name]
            assert inside is not None
            cuts = isinstance(shared, Layer)
            yield from _pairs(inside, child, f"{prefix}{name}.", cuts)
