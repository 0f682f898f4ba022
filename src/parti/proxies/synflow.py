"""SynFlow: how much flows through each weight when all of them are positive.

    H. Tanaka, D. Kunin, D. L. K. Yamins and S. Ganguli. Pruning Neural Networks Without Any Data
    by Iteratively Conserving Synaptic Flow. NeurIPS 2020, equation 2 and algorithm 1.
    As a proxy: M. S. Abdelfattah, A. Mehrotra, Ł. Dudziak and N. D. Lane. Zero-Cost Proxies for
    Lightweight NAS. ICLR 2021, equation 2.

The network gets one image of ones; all parameters are replaced by their absolute values,
normalizations by the identity, in double precision, for the flow grows exponentially with depth.

Departures: layer and group norms are bypassed too, not only batch norms, as they would cancel the
flow; the network is in evaluation mode, so that dropout does not cut it.
"""

from __future__ import annotations

from typing import Literal

import torch

from parti.proxies.layers import weighted, without_norms
from parti.proxies.looking import answer
from parti.proxies.probe import Need, Probe
from parti.proxies.replacing import replaced

__all__ = ["SynFlow"]


class SynFlow:
    """Sums |weight × gradient| of the network's summed outputs, over all weights of layers."""

    needs: frozenset[Need] = frozenset()
    goal: Literal["min", "max"] = "max"

    def __call__(self, probe: Probe) -> float:
        """Return the sum; infinite where the flow exceeds what double precision can hold."""
        network = probe.network
        parameters = {
            name: parameter.detach().double().abs()
            for name, parameter in network.named_parameters()
        }
        buffers = {
            name: buffer.double()
            for name, buffer in network.named_buffers()
            if buffer.is_floating_point()
        }
        ones = torch.ones_like(probe.images[:1], dtype=torch.float64)
        network.eval()
        with replaced(network, parameters, buffers) as inside, without_norms(network):
            weights = [inside[name] for name in weighted(network)]
            out = answer(network, ones)
            gradients = torch.autograd.grad(
                out.sum(), weights, allow_unused=True, materialize_grads=True
            )
        network.train()
        flows = [(w.detach() * g).abs().sum() for w, g in zip(weights, gradients, strict=True)]
        return float(torch.stack(flows).sum()) if flows else 0.0
