"""Random sampling with weight sharing: uniform paths, then random search.

Liam Li, Ameet Talwalkar: Random Search and Reproducibility for Neural Architecture Search, UAI
2019, section 3.1. Every batch trains one architecture, drawn uniformly, in the search network of
DARTS. Afterwards 1000 random architectures are compared with inherited weights: that is the
strategy "random" over `InheritedWeights`.

Departures: the weights see all training images (the authors' half of them) as architectures are
compared on validation images of their own; all of these are looked at, where the authors look at
10 batches first, and at all for the 10 best. Batch norms are recalibrated before an architecture is
measured. Hyper-parameters are those of DARTS, for 150 epochs.
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
)
"""The published settings."""
