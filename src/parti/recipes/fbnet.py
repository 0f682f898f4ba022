"""FBNet: blocks of layers sampled by Gumbel-softmax, under a loss that counts latency.

Bichen Wu, Xiaoliang Dai, Peizhao Zhang, Yanghan Wang, Fei Sun, Yiming Wu, Yuandong Tian, Peter
Vajda, Yangqing Jia, Kurt Keutzer: FBNet: Hardware-Aware Efficient ConvNet Design via
Differentiable Neural Architecture Search, CVPR 2019.

Latency of an architecture is the sum over its blocks, each measured once (equation 3), so that
under softened samples of the blocks it is differentiable (equation 9). Architecture parameters
[theta] minimize cross-entropy * alpha * log(latency)^beta (equation 2). The temperature starts at
5 and is multiplied by exp(-0.045) after each of 90 epochs. The first ten train weights alone.
Four fifths of the images train weights and one fifth the architecture parameters; one step in four
has a batch of the latter, so that an epoch has about as many of them as there are.

The authors have not published the code of the search, and the text of the paper (arXiv
1812.03443) was not at hand to check its numbers against. Rates, decays of weights, the first
temperature and how it falls, the four fifths and alpha are as in an independent reproduction
(notaxaiha/FBNet on GitHub, `supernet_functions/config_for_supernet.py`); beta, the numbers of
epochs and the size of batches are as we know them from the paper.

Departures: those of `parti.recipes.darts`. Images are shifted instead of resized from a random
part. Weights take the step for every batch, and the architecture parameters in between; in the
paper the ones have their part of an epoch and then the others. Weights minimize cross-entropy
alone: the factor does not depend on them and would only scale their learning rate. The paper says
no unit under the logarithm; here a unit is a thousandth of that of the costs (milliseconds become
microseconds), and 1 is added, so that the logarithm of a small network's latency is positive too.
The most probable blocks are derived, as the paper's distribution is sharp at the end; the authors
sample some and train them all.

`parti search` times blocks with the runtime and on the device where networks are timed, one by one
and without what a call takes. How near sums of them come to the latency of whole networks in ONNX
Runtime, and how much nearer than blocks timed in PyTorch, `python -m benchmarks.bench_option_costs`
measures (`docs/recipes.md`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor

from parti.recipes.bench import Bench
from parti.recipes.darts import LEVELS
from parti.recipes.recipe import SupernetRecipe
from parti.recipes.relaxation import Relaxation

__all__ = ["FBNET", "latency_factor"]

EPOCHS = 90


def latency_factor(
    loss: Tensor,
    weights: Mapping[str, Tensor],
    relaxation: Relaxation,
    bench: Bench,
    progress: float,
    *,
    scale: float = 0.2,
    exponent: float = 0.6,
    unit: float = 1e-3,
) -> Tensor:
    """Multiply a loss by scale * log(1 + cost / unit) ** exponent (equation 2).

    A penalty for `Alternating`. Without costs on the bench, the loss stays as it is.

    Args:
        loss: cross-entropy.
        weights: of the options, with which it was computed.
        relaxation: not looked at.
        bench: has the costs.
        progress: not looked at.
        scale: of the factor [alpha].
        exponent: of the logarithm [beta].
        unit: of the cost under the logarithm.
    """
    if bench.costs is None:
        return loss
    logarithm = (bench.costs(weights) / unit).log1p()
    return loss * scale * logarithm**exponent


FBNET = SupernetRecipe(
    name="fbnet",
    paper="Wu, Dai, Zhang, Wang, Sun, Wu, Tian, Vajda, Jia, Keutzer: FBNet: Hardware-Aware "
    "Efficient ConvNet Design via Differentiable Neural Architecture Search, CVPR 2019",
    step="parti.recipes.gradient:Alternating",
    options={
        "relaxation": "parti.recipes.gumbel:Gumbel",
        "arguments": {
            "first": 5.0,
            "last": 5.0 * math.exp(-0.045 * (EPOCHS - 1)),
            "schedule": "exponential",
            "deviation": 0.0,
        },
        "penalty": "parti.recipes.fbnet:latency_factor",
        "penalty_arguments": {"scale": 0.2, "exponent": 0.6},
        "lr": 0.01,
        "betas": (0.9, 0.999),
        "weight_decay": 5e-4,
        "warm_up": 10 / EPOCHS,
        "every": 4,
    },
    training=replace(
        LEVELS, epochs=EPOCHS, batch_size=192, lr=0.1, final_lr=0.0, weight_decay=1e-4
    ),
    held=0.2,
    space="fbnet",
    sizes={"width": 16, "layers": 4},
    derives=True,
    costs=True,
)
