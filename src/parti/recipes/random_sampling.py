"""Random sampling with weight sharing: uniform paths, then random search.

Liam Li, Ameet Talwalkar: Random Search and Reproducibility for Neural Architecture Search, UAI
2019, section 3. Every batch trains one architecture, drawn uniformly, in the search network of
DARTS. The search is random too: afterwards 1000 random architectures are compared with inherited
weights, and the best is the result (`searchers/random_weight_share.py` of
liamcli/randomNAS_release). So `parti search --recipe random-sampling` takes the strategy "random",
as many architectures as its time allows, unless another strategy is asked for.

Departures: the weights see all training images (the authors' half of them) as architectures are
compared on validation images of their own; all of these are looked at, where the authors look at
10 batches first, and at all for the 10 best. Their search of 1000 is repeated for every 10,000
steps of training. Batch norms are recalibrated before an architecture is measured.
Hyper-parameters are those of DARTS, for 150 epochs; the authors' code leaves epochs and the
clipping of gradients to its caller (100, and a norm of 0.25, if nothing is said).
"""

from __future__ import annotations

from dataclasses import replace

from parti.recipes.darts import LEVELS, RELAXED
from parti.recipes.recipe import SupernetRecipe

__all__ = ["RANDOM_SAMPLING"]

RANDOM_SAMPLING = SupernetRecipe(
    name="random-sampling",
    paper="Li, Talwalkar: Random Search and Reproducibility for Neural Architecture Search, UAI "
    "2019",
    step="parti.recipes.sampled:UniformPath",
    training=replace(LEVELS, epochs=150),
    relaxed=RELAXED,
    space="darts",
    sizes={"channels": 16, "cells": 8},
    searched_by="random",
)
"""The published settings."""
