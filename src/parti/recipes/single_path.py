"""Single path one-shot: uniform paths, then evolution.

Zichao Guo, Xiangyu Zhang, Haoyuan Mu, Wen Heng, Zechun Liu, Yichen Wei, Jian Sun: Single Path
One-Shot Neural Architecture Search with Uniform Sampling, ECCV 2020, section 3.2. Every batch
trains one architecture, drawn uniformly. Afterwards evolution (section 3.4: 20 generations of 50,
half by crossover, half by mutation with probability 0.1, from the 10 best) looks for the best
architecture within the limits, with inherited weights and batch norms recalibrated for each.

Numbers are those of the authors' code (`src/Supernet/train.py` of megvii-model/SinglePathOneShot).

Departures: paths are uniform, as in the paper; the code draws, for ImageNet, only such as cost from
290 to 360 million operations, all costs alike. The space is `mobile`, of inverted residuals, in
place of ShuffleNet's blocks. The search afterwards is a strategy over `InheritedWeights`:
"evolution", in which the oldest dies, unless another is asked for, such as "genetic", which
recombines. Images are shifted, where the code resizes a random part of each, and colours are not
distorted. A width is cut from one shared weight, as in the paper, but is a choice like any other.
Schedules go by epochs (the paper's 150,000 steps are 120 epochs of ImageNet). For other data, scale
batch size and learning rate together.
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
        crop=4,  # in place of a random part of the image, resized
    ),
    space="mobile",
    sizes={"width": 16},
)
"""The published settings, for ImageNet."""
