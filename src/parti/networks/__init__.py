"""What networks are made of: operations, blocks, heads, and well-known networks to compare with.

Everything here is a plain `nn.Module` or a function that returns one; nothing asks for choices.
All of it takes and gives images as tensors of shape (batch, channels, height, width).

    layers      activations and normalizations by name, initialization
    operations  what maps images to images: convolutions, pooling, zero, reduction
    blocks      operations joined: residual, dense, inverted residual, parallel paths
    heads       the stem before and the head after the stages, and all of them in one network
    known       fixed networks from the literature, for baselines

The networks of benchmarks, as published:

    nasbench101  cells whose vertices are operations
    nasbench201  cells whose edges are operations, NATS-Bench too
    darts        cells fed by the two cells before them, NAS-Bench-301 too
    transnas     modules that keep, double or halve
"""
