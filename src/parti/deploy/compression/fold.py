"""A network for inference alone: batch norms folded into what precedes them, idle modules removed.

In evaluation mode a batch norm is an affine map of each channel, y = gamma (x - mean) / sqrt(var +
eps) + beta, so that a convolution or linear layer before it can do its work with other weights
(Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
Inference", CVPR 2018, section 3.2, equation 14).
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from parti.core.errors import TrialError
from parti.deploy.compression.lean import lean, some_images

__all__ = ["Folded", "fold"]

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
IDLE = (nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout)
"""What passes its input on, in evaluation mode."""

TOLERANCE = 1e-5
"""How much an output may change, relative to the largest one."""


@dataclass(frozen=True, slots=True)
class Folded:
    """What folding has made.

    Args:
        network: a `torch.fx.GraphModule` for evaluation alone.
        norms: how many batch norms were folded.
        removed: how many modules that do nothing were removed.
        difference: the largest change of an output on random images, relative to the largest
            output, in 64 bits: in 32 the order of the sums alone changes the last digits.
    """

    network: nn.Module
    norms: int
    removed: int
    difference: float


def fold(network: nn.Module, input_shape: Sequence[int]) -> Folded:
    """Fold batch norms into the layers before them, and remove what does nothing.

    A batch norm is folded when it alone reads a convolution or linear layer that is called once.

    Args:
        network: maps images [batch, channels, height, width] to logits; left as it was.
        input_shape: (channels, height, width).

    Returns:
        A network in evaluation mode that gives the same outputs; it cannot be trained on.

    Raises:
        TrialError: the network decides by the values of its input, so that its graph is unknown;
            or its outputs would change.
    """
    original = copy.deepcopy(network).cpu().eval()
    slim = lean(copy.deepcopy(original), input_shape).double()
    try:
        graph = fx.symbolic_trace(slim)
    except Exception as error:
        raise TrialError(
            f"{type(network).__name__} cannot be folded, its graph cannot be traced: "
            f"{type(error).__name__}: {str(error)[:200]}. Leave out the step 'fold'; ONNX Runtime "
            "folds batch norms when it loads a model"
        ) from error
    norms, removed = _fold_norms(graph), _remove_idle(graph)
    graph.graph.lint()
    graph.delete_all_unused_submodules()
    graph.recompile()
    graph.eval()
    difference = _difference(original.double(), graph, input_shape)
    graph.float()
    if not difference <= TOLERANCE:
        raise TrialError(
            f"folding {type(network).__name__} changes an output by {difference:.2g} of the "
            f"largest one; allowed are {TOLERANCE:g}. Leave out the step 'fold'"
        )
    return Folded(graph, norms, removed, difference)


def _fold_norms(graph: fx.GraphModule) -> int:
    """Fold in place; return how many."""
    modules = dict(graph.named_modules())
    calls = Counter(node.target for node in graph.graph.nodes if node.op == "call_module")
    folded = 0
    for node in list(graph.graph.nodes):
        if node.op != "call_module" or not isinstance(modules[str(node.target)], NORMS):
            continue
        layer, norm = node.args[0], modules[str(node.target)]
        usable = isinstance(layer, fx.Node) and layer.op == "call_module" and len(layer.users) == 1
        if not usable or calls[layer.target] > 1 or norm.running_mean is None:
            continue
        fused = _fused(modules[str(layer.target)], norm)
        if fused is None:
            continue
        graph.set_submodule(str(layer.target), fused)
        node.replace_all_uses_with(layer)
        graph.graph.erase_node(node)
        folded += 1
    return folded


def _fused(layer: nn.Module, norm: Any) -> nn.Module | None:
    """The layer that does both, or None when it is no layer that can."""
    if isinstance(layer, CONVOLUTIONS):
        return fuse_conv_bn_eval(layer, norm)
    if isinstance(layer, TRANSPOSED) and layer.groups == 1:
        return fuse_conv_bn_eval(layer, norm, transpose=True)
    if isinstance(layer, nn.Linear) and isinstance(norm, nn.BatchNorm1d):
        return fuse_linear_bn_eval(layer, norm)
    return None


def _remove_idle(graph: fx.GraphModule) -> int:
    """Remove in place; return how many."""
    modules = dict(graph.named_modules())
    removed = 0
    for node in list(graph.graph.nodes):
        if node.op == "call_module" and isinstance(modules[str(node.target)], IDLE):
            node.replace_all_uses_with(node.args[0])
            graph.graph.erase_node(node)
            removed += 1
    return removed


@torch.no_grad()
def _difference(before: nn.Module, after: nn.Module, input_shape: Sequence[int]) -> float:
    images = some_images(input_shape).double()
    right = before(images)
    scale = max(float(right.abs().max()), 1e-12)
    return float((after(images) - right).abs().max()) / scale
