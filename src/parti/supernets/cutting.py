"""What all elastic layers share: the largest weight, cut to the active part.

Of a dimension, the first entries are used (Yu et al., "Slimmable Neural Networks", ICLR 2019); of
a kernel, its centre (Cai et al., "Once-for-All", ICLR 2020).
"""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor

from parti.core.elastic import Elastic
from parti.core.errors import SpaceError

__all__ = ["Layer", "cut", "is_open", "largest", "now"]


def is_open(value: Any) -> bool:
    """Whether a value, or one in a tuple, is elastic."""
    if isinstance(value, tuple | list):
        return any(map(is_open, value))
    return isinstance(value, Elastic)


def now(value: Any) -> Any:
    """What a value is under the active decisions; tuples part by part."""
    if isinstance(value, tuple | list):
        return tuple(map(now, value))
    return value.value() if isinstance(value, Elastic) else value


def largest(value: Any) -> Any:
    """The largest that a value can be; tuples part by part."""
    if isinstance(value, tuple | list):
        return tuple(map(largest, value))
    return max(value.values()) if isinstance(value, Elastic) else value


def cut(weight: Tensor, shape: tuple[int, ...], *, centred: int = 0, parts: int = 1) -> Tensor:
    """Cut a weight to a smaller shape: the first entries, and the centre of trailing dimensions.

    Args:
        weight: of the largest layer.
        shape: of the part that is wanted.
        centred: number of trailing dimensions of which the centre is taken (a kernel's).
        parts: into how many equal parts the first dimension is divided, of each of which the
            first entries are taken (groups of a convolution; query, key and value).

    Returns:
        A view where possible.

    Raises:
        SpaceError: the weight is not as large.
    """
    if tuple(weight.shape) == shape:
        return weight
    first = len(shape) - centred
    if parts > 1 and weight.shape[0] != shape[0]:
        divided = weight.reshape(parts, -1, *weight.shape[1:])
        weight = divided[:, : shape[0] // parts].flatten(0, 1)
    for dimension, length in enumerate(shape):
        extra = weight.shape[dimension] - length
        if extra < 0:
            raise SpaceError(
                f"a layer was built for at most {weight.shape[dimension]} channels or features, "
                f"but {length} come in; results of some_of are summed, never concatenated, while "
                "they are mixed"
            )
        if extra:
            start = extra // 2 if dimension >= first else 0
            weight = weight.narrow(dimension, start, length)
    return weight


class Layer:
    """What all elastic layers share.

    Attributes:
        takes: arguments that may be elastic.
        elastic: the arguments that it was built with, by name.
    """

    takes: ClassVar[frozenset[str]]
    elastic: dict[str, Any]

    @classmethod
    def built(cls, given: dict[str, Any]) -> dict[str, Any]:
        """The arguments of the largest layer.

        Args:
            given: by name, elastic or not; defaults that hang on others are filled in.

        Raises:
            SpaceError: the layer cannot be cut for all that they can be.
        """
        if refused := sorted(
            n for n, value in given.items() if is_open(value) and n not in cls.takes
        ):
            raise SpaceError(
                f"{cls.__name__} takes elastic values for {', '.join(sorted(cls.takes))}, but "
                f"{', '.join(f'{name}={given[name]!r}' for name in refused)}: give a fixed one, or "
                "ask with one_of"
            )
        return {name: largest(value) for name, value in given.items()}

    def now(self, name: str) -> Any:
        """An argument under the active decisions."""
        return now(self.elastic[name])

    def cut_to(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """A weight or buffer, cut to the shape that a plain layer would have."""
        return cut(getattr(self, name), shape)

    def part(self, name: str, shape: tuple[int, ...]) -> Tensor | None:
        """A weight or buffer cut to a shape; None where the layer has none."""
        return None if getattr(self, name) is None else self.cut_to(name, shape)
