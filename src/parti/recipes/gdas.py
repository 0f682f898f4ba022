"""GDAS: every step trains one sampled architecture, and learns from it about all.

Xuanyi Dong, Yi Yang: Searching for a Robust Neural Architecture in Four GPU Hours, CVPR 2019.

Each choice samples one option by Gumbel-max (equation 4). Only that one runs, forward and
backward, so that a step costs one architecture's time and memory; its weight is 1, with the
gradient of the Gumbel-softmax (equations 5 to 7). The temperature [tau] falls linearly from 10 to
0.1. Numbers are those of the authors' code for NAS-Bench-201
(`configs/nas-benchmark/algos/GDAS.config` of D-X-Y/AutoDL-Projects): 240 epochs, weight decay 5e-4,
Nesterov's momentum. For the larger cells of DARTS it has 250 epochs and batches of 256
(`configs/search-opts/GDAS-NASNet-CIFAR.config`).

Departures: those of `parti.recipes.darts`. In the authors' code, the weights of options that were
not sampled are added to the output as numbers (0), from which they have a gradient as if those
options had given ones; here they have none, as in equation 7. What `none` contributes is zero, so
sampling it gives no gradient. The reduction cell is searched too; the paper also has a version
with a fixed one. Paths are not dropped.
"""

from __future__ import annotations

from dataclasses import replace

from parti.recipes.darts import DARTS, LEVELS

__all__ = ["GDAS"]

GDAS = replace(
    DARTS,
    name="gdas",
    paper="Dong, Yang: Searching for a Robust Neural Architecture in Four GPU Hours, CVPR 2019",
    options={
        **DARTS.options,
        "relaxation": "parti.recipes.gumbel:Gumbel",
        "arguments": {"hard": True, "first": 10.0, "last": 0.1, "schedule": "linear"},
    },
    training=replace(LEVELS, epochs=240, weight_decay=5e-4, nesterov=True),
)
