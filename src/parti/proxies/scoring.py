"""Scoring a network by any set of proxies at once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from parti.core.errors import InvalidData, InvalidSettings, PartiError, TrialError
from parti.core.plugins import load
from parti.proxies.catalogue import PROXIES
from parti.proxies.looking import look
from parti.proxies.probe import Loss, Probe, Proxy
from parti.proxies.untouched import untouched

__all__ = ["load_proxies", "score"]


def load_proxies(names: Iterable[str]) -> dict[str, Proxy]:
    """Return the proxies of these names, with their default settings.

    Args:
        names: built-in names (the keys of `catalogue.PROXIES`), "package.module:Name",
            "path/to/file.py:Name", or entry points of the group `parti.proxy`.

    Raises:
        InvalidSettings: there is no such proxy, or what is there is none; or no name is given.
    """
    found: dict[str, Proxy] = {}
    for name in names:
        target = load("proxy", name, PROXIES)
        proxy = target() if isinstance(target, type) else target
        if not isinstance(proxy, Proxy) or not callable(proxy):
            raise InvalidSettings(
                f"{name!r} is a {type(proxy).__name__}; a proxy has `needs` and `goal` and is "
                "called with a Probe"
            )
        found[name] = proxy
    if not found:
        raise InvalidSettings(f"no proxy is named; choose from {', '.join(PROXIES)}")
    return found


def score(
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    proxies: Iterable[str] | Mapping[str, Proxy],
    *,
    loss: Loss = F.cross_entropy,
    seed: int = 0,
) -> dict[str, float]:
    """Score a network without training it.

    What several proxies need is computed once: a forward pass on the batch, the gradient of its
    outputs for the images, that of the loss for the weights. Afterwards the network is exactly as
    before: weights, buffers, gradients, modes, hooks and gradient flags; so are the process's
    random numbers. A proxy's score does not depend on which others are asked for, and is the same
    for the same seed (on a GPU, as far as torch's own operations are).

    Args:
        network: maps the images to a tensor with a row for each, on any device. It is used with
            its present weights, in training mode.
        images: (n, ...) real inputs, normalised as for training; n at least 2. They are moved to
            the network's device.
        labels: of the images, as the loss wants them; for `epe_nas`, (n,) whole numbers.
        proxies: names, as in `load_proxies`, or proxies by the name to report them under.
        loss: of (outputs, labels), a mean over images.
        seed: of every random number.

    Returns:
        The score of each proxy, by name; NaN or infinite where its formula gives that.

    Raises:
        InvalidSettings: there is no such proxy.
        InvalidData: there are fewer than 2 images, or not one label for each.
        TrialError: the network or the loss raises, or gives what a proxy does not understand.
    """
    chosen = dict(proxies) if isinstance(proxies, Mapping) else load_proxies(proxies)
    if len(images) < 2 or len(labels) != len(images):
        raise InvalidData(
            f"{len(images)} images and {len(labels)} labels; proxies need at least 2 images, and "
            "a label for each"
        )
    device = next((p.device for p in network.parameters()), images.device)
    probe = Probe(network, images.to(device), labels.to(device), loss, seed)
    needs = frozenset().union(*(proxy.needs for proxy in chosen.values()))
    scores: dict[str, float] = {}
    name = "the shared pass"
    try:
        # Fused attention has no second derivative, and hides its products of matrices.
        with untouched(network, device, seed), sdpa_kernel(SDPBackend.MATH):
            seen = look(probe, needs)
            for name, proxy in chosen.items():  # named in the error
                torch.manual_seed(seed)
                scores[name] = float(proxy(seen))
    except PartiError:
        raise
    except Exception as error:
        raise TrialError(
            f"{name}: {type(network).__name__} on inputs of shape {tuple(images.shape)} raised "
            f"{type(error).__name__}: {str(error)[:300]}"
        ) from error
    return scores
