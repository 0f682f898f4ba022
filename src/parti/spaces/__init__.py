"""Spaces to start from, one readable file each, and what goes with them.

    catalogue   the spaces by name, and which one to take for which images
    chain       plain stacks of convolutions, with every classical hyper-parameter
    branches    parallel paths, as in Inception
    residual    residual and dense stages, as in ResNet and DenseNet
    mobile      inverted residuals, as in MobileNet
    cell        two cells, stacked, as in NASNet
    stages      how resolution sets strides and sizes, for all of them
    encodings   architectures as vectors

Each program takes `in_channels`, `classes` and `resolution`, and builds a network of images
(batch, in_channels, height, width) to logits (batch, classes).
"""

from parti.spaces.catalogue import SPACES, default_space, load_space

__all__ = ["SPACES", "default_space", "load_space"]
