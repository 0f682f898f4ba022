"""Fisher: how much the loss would change without each channel, to second order.

    L. Theis, I. Korshunova, A. Tejani and F. Huszár. Faster Gaze Prediction with Dense Networks
    and Fisher Pruning. 2018, equation 7.
    J. Turner, E. J. Crowley, M. O'Boyle, A. Storkey and G. Gray. BlockSwap: Fisher-Guided Block
    Substitution for Network Compression on a Budget. ICLR 2020, equation 1.
    As a proxy: M. S. Abdelfattah, A. Mehrotra, Ł. Dudziak and N. D. Lane. Zero-Cost Proxies for
    Lightweight NAS. ICLR 2021.

For a channel k of the output a of a layer, with gradient g of the loss:

    Δ_k = ½ mean over images (Σ over positions a g)²

As in the code of Abdelfattah et al., a channel counts once for each of its weights. The outputs
are those of convolutions and linear layers, where theirs adds an identity to hook.
"""

from __future__ import annotations

from typing import Literal

from parti.proxies.probe import Need, Probe

__all__ = ["Fisher"]


class Fisher:
    """Sums the Fisher information of all channels, each as often as it has weights."""

    needs: frozenset[Need] = frozenset({Need.OUTPUT_GRADIENT})
    goal: Literal["min", "max"] = "max"

    def __call__(self, probe: Probe) -> float:
        """Return the sum."""
        total = 0.0
        for layer in probe.layers:
            for output, gradient in zip(layer.outputs, layer.output_gradients, strict=True):
                product = (output * gradient).movedim(layer.channel, 1)
                per_image = product.flatten(2).sum(2) if product.ndim > 2 else product
                of_channels = per_image.square().mean(0).mul(0.5)
                total += float(of_channels.sum()) * (layer.weight.numel() / len(of_channels))
        return total
