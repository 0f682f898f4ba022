"""PC-DARTS: a quarter of the channels go through the options, and edges have parameters too.

Yuhui Xu, Lingxi Xie, Xiaopeng Zhang, Xin Chen, Guo-Jun Qi, Qi Tian, Hongkai Xiong: PC-DARTS:
Partial Channel Connections for Memory-Efficient Architecture Search, ICLR 2020.

What does not fit into memory with all channels does with one in four [K = 4] (equation 3), so
batches are four times as large. Which channels those are changes from edge to edge, which makes
the parameters of options noisy; the softmax over the edges into a node, shared by all batches,
steadies the choice of edges (equations 4 and 5). In the first 15 of 50 epochs only weights learn.
Numbers are those of the authors' code (`train_search.py` of yuhuixu1993/PC-DARTS).

Departures: those of `parti.recipes.darts`. Spaces without `some_of` have no edges to normalize.
"""

from __future__ import annotations

from dataclasses import replace

from parti.recipes.darts import DARTS, LEVELS, RELAXED

__all__ = ["PC_DARTS"]

PC_DARTS = replace(
    DARTS,
    name="pc-darts",
    paper="Xu, Xie, Zhang, Chen, Qi, Tian, Xiong: PC-DARTS: Partial Channel Connections for "
    "Memory-Efficient Architecture Search, ICLR 2020",
    options={**DARTS.options, "arguments": {"edges": True}, "lr": 6e-4, "warm_up": 0.3},
    training=replace(LEVELS, batch_size=256, lr=0.1),
    relaxed=replace(RELAXED, partial=4),
)
