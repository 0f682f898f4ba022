"""Recipes: ways to train a supernet, by name, loaded on use."""

from __future__ import annotations

__all__ = ["RECIPES"]

RECIPES: dict[str, str] = {
    "darts": "parti.recipes.darts:DARTS",
    "darts-second-order": "parti.recipes.darts:DARTS_SECOND_ORDER",
    "pc-darts": "parti.recipes.pc_darts:PC_DARTS",
    "p-darts": "parti.recipes.p_darts:P_DARTS",
    "gdas": "parti.recipes.gdas:GDAS",
    "snas": "parti.recipes.snas:SNAS",
    "drnas": "parti.recipes.drnas:DRNAS",
    "drnas-nasbench201": "parti.recipes.drnas:DRNAS_NASBENCH201",
    "fair-darts": "parti.recipes.fair_darts:FAIR_DARTS",
    "beta-darts": "parti.recipes.beta_darts:BETA_DARTS",
    "darts-minus": "parti.recipes.darts_minus:DARTS_MINUS",
    "robust-darts": "parti.recipes.robust_darts:ROBUST_DARTS",
    "proxylessnas": "parti.recipes.proxylessnas:PROXYLESSNAS",
    "fbnet": "parti.recipes.fbnet:FBNET",
    "enas": "parti.recipes.enas:ENAS",
    "random-sampling": "parti.recipes.random_sampling:RANDOM_SAMPLING",
    "single-path": "parti.recipes.single_path:SINGLE_PATH",
    "fairnas": "parti.recipes.fairnas:FAIRNAS",
    "once-for-all": "parti.recipes.once_for_all:ONCE_FOR_ALL",
    "bignas": "parti.recipes.bignas:BIGNAS",
}
"""Where each recipe is: the names that `parti search --recipe` takes."""
