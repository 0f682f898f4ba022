"""A user's own space, in a file: small enough to search in seconds."""

from torch import nn

from parti import choose, one_of, repeat, space


@space
def tiny(in_channels: int, classes: int) -> nn.Module:
    width = choose("width", [4, 8, 16, 32])

    def block(i: int) -> nn.Module:
        return nn.Sequential(
            one_of(
                "op",
                {
                    "conv": lambda: nn.Conv2d(width, width, 3, padding=1, bias=False),
                    "point": lambda: nn.Conv2d(width, width, 1, bias=False),
                },
            ),
            nn.BatchNorm2d(width),
            nn.ReLU(),
        )

    return nn.Sequential(
        nn.Conv2d(in_channels, width, 3, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        repeat("depth", block, [0, 1, 2]),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(4 * width, classes),
    )
