"""Spaces to start from, one readable file each, and what goes with them.

    catalogue     the spaces by name, and which one to take for which images
    chain         plain stacks of convolutions, with every classical hyper-parameter
    branches      parallel paths, as in Inception
    residual      residual and dense stages, as in ResNet and DenseNet
    mobile        inverted residuals, as in MobileNet
    fbnet         one of nine blocks for each layer
    proxylessnas  an inverted residual or nothing for each layer
    cell          two cells, stacked, as in NASNet
    stages        how resolution sets strides and sizes, for all of them
    encodings     architectures as vectors
    paths         architectures as bags of the paths and subtrees of their graphs

The spaces of benchmarks, as published:

    nasbench101     graphs of up to seven vertices, NAS-Bench-101 (and nasbench101_cell)
    nasbench201     operations on the edges of a cell, NAS-Bench-201
    nats_size       the widths of five layers, NATS-Bench
    darts           the cells of DARTS and NAS-Bench-301, and those of the literature
    nasbench_macro  eight layers of MobileNet blocks
    transnas        cells and skeletons of TransNAS-Bench-101

What some of them share:

    nodes        cells of nodes with two inputs: their canonical numbering, and their graph
    isomorphism  when two graphs are one
    layerwise    chains of layers whose blocks are decided one by one

Each program takes `in_channels`, `classes` and `resolution`, and builds a network of images
(batch, in_channels, height, width) to logits (batch, classes).
"""

from parti.spaces.catalogue import SPACES, default_space, load_space

__all__ = ["SPACES", "default_space", "load_space"]
