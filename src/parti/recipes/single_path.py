"""Single path one-shot: uniform paths, then evolution.

Zichao Guo, Xiangyu Zhang, Haoyuan Mu, Wen Heng, Zechun Liu, Yichen Wei, Jian Sun: Single Path
One-Shot Neural Architecture Search with Uniform Sampling, ECCV 2020, section 3.2. Every batch
trains one architecture, drawn uniformly. Afterwards evolution (section 3.4: 20 generations of 50,
half by crossover, half by mutation with probability 0.1, from the 10 best) looks for the best
architecture within the limits, with inherited weights and batch norms recalibrated for each: that
is a strategy over `InheritedWeights`, "evolution" unless another, such as "genetic", is asked for.

Numbers are those of the authors' code (`src/Supernet/train.py` of megvii-model/SinglePathOneShot).

Departures: paths are uniform, as in the paper; the code draws, for ImageNet, only such as cost from
290 to 360 million operations, all costs alike. Colours are not distorted. A width is cut from one
shared weight, as in the paper, but is a choice like any other. Schedules go by epochs (the paper's
150,000 steps are 120 epochs of ImageNet). For other data, scale batch size and learning rate
together.
"""

from __future__ import annotations

from parti.evaluators.recipe import Recipe
from parti.recipes.recipe import SupernetRecipe

__all__ = ["SINGLE_PATH"]

SINGLE_PATH = SupernetRecipe(
    name="single-path",
    paper="Guo et al.: Single Path One-Shot Neural Architecture Search with Uniform Sampling, "
    "ECCV 2020",
    step="parti.recipes.sampled:UniformPath",
    training=Recipe(
        epochs=120,
        batch_size=1024,
        lr=0.5,
        schedule="one_cycle",  # without warm-up: linear to 0
        warmup=0.0,
        momentum=0.9,
        weight_decay=4e-5,
        nesterov=False,
        label_smoothing=0.1,
        flip=True,
    ),
    space="mobile",
    sizes={"width": 16},
)
"""The published settings, for ImageNet."""
