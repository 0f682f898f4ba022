"""DARTS: architecture parameters and weights learned in turn, by gradients.

Hanxiao Liu, Karen Simonyan, Yiming Yang: DARTS: Differentiable Architecture Search, ICLR 2019.
Numbers are those of the authors' code (`cnn/train_search.py`): 8 cells of 16 channels, 50 epochs,
batches of 64, half of the images for each of the two levels; Adam's betas are those of
`cnn/architect.py`.

The second order looks through one step of the weights, with its momentum and weight decay
(equations 6 to 8). Where the finite difference is taken is not the same in all versions of the
authors' code; here it is around the current weights, as in equation 8.

Departures: validation images are set apart before the halves are drawn. The learning rate falls
along the half cosine at every step, not every epoch. Shifted images repeat their edge instead of
being padded with zeros. The normalizations at the entries of cells have a scale and a shift.
Weights begin as parti's networks do, and on a GPU forward passes are in bfloat16.
"""

from __future__ import annotations

from dataclasses import replace

from parti.evaluators.recipe import Recipe
from parti.recipes.recipe import SupernetRecipe
from parti.supernets.share import Relaxed

__all__ = ["DARTS", "DARTS_SECOND_ORDER", "LEVELS", "RELAXED"]

LEVELS = Recipe(
    epochs=50,
    batch_size=64,
    optimizer="sgd",
    lr=0.025,
    final_lr=0.001,
    schedule="cosine",
    warmup=0.0,
    momentum=0.9,
    nesterov=False,
    weight_decay=3e-4,
    decay="all",
    flip=True,
    crop=4,
    clip_norm=5.0,
)
"""How the weights are trained."""

RELAXED = Relaxed(affine=False, normalize_pools=True)
"""How the options are built."""

DARTS = SupernetRecipe(
    name="darts",
    paper="Liu, Simonyan, Yang: DARTS: Differentiable Architecture Search, ICLR 2019",
    step="parti.recipes.gradient:Alternating",
    options={"lr": 3e-4, "betas": (0.5, 0.999), "weight_decay": 1e-3},
    training=LEVELS,
    held=0.5,
    relaxed=RELAXED,
    space="darts",
    sizes={"channels": 16, "cells": 8},
    derives=True,
)

DARTS_SECOND_ORDER = replace(
    DARTS, name="darts-second-order", options={**DARTS.options, "second_order": True}
)
