"""Architecture parameters, and how they become weights of the options of a supernet.

Hanxiao Liu, Karen Simonyan, Yiming Yang: DARTS: Differentiable Architecture Search, ICLR 2019: a
choice is relaxed to the sum of its options, weighted by the softmax of its architecture parameters
(equation 2). Other relaxations override `weigh` and `expected`.

A choice that is asked in many places, such as an edge of a cell stacked eight times, has one set
of parameters. Edges into a node (a `one_of` directly under a `some_of`) have one more, the `none`
of the paper: it takes part in the softmax, its term is zero, and it is never derived.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from parti.core.choice import Choice, labels
from parti.core.errors import InvalidSettings
from parti.core.tree import Node
from parti.supernets.share import Supernet

__all__ = ["NONE", "SKIPS", "Relaxation", "skip_place"]

NONE = "none"
"""What an option is called that gives nothing."""

SKIPS = ("skip_connect", "skip", "identity")
"""What options are called that pass their input on."""


def skip_place(choice: Choice) -> int | None:
    """Place of the skip connection among the options of a choice, or None."""
    return next((i for i, option in enumerate(choice.options) if option in SKIPS), None)


class Relaxation(nn.Module):
    """Architecture parameters of a supernet, as a softmax over the options of each choice.

    Args:
        supernet: whose choices are relaxed.
        null: whether edges into a node have the parameter of `none`; those that have an option
            of that name do without.
        edges: whether edges into a node have parameters too; else all weigh 1.
        deviation: standard deviation of the first values.

    Attributes:
        names: of the relaxed choices, in walking order.
        gates: names of every `some_of`.
        alphas: architecture parameters of `names[0]` under "0", and so on.
        betas: those of the edges of `gates[0]` under "0", and so on; empty without `edges`.

    Raises:
        InvalidSettings: a `choose` has several options, which cannot be mixed; or there is
            nothing to relax.
    """

    def __init__(
        self,
        supernet: Supernet,
        *,
        null: bool = True,
        edges: bool = False,
        deviation: float = 1e-3,
    ) -> None:
        super().__init__()
        choices = tuple(supernet.choices.values())
        _check(choices)
        self.choices = {c.name: c for c in choices if c.kind in ("one_of", "repeat")}
        self._labels = {c.name: labels(c) for c in choices if c.kind == "some_of"}
        on_edges = set(_on_edges(supernet.tree.nodes)) if null else set()
        self.nulls = frozenset(
            name
            for name, choice in self.choices.items()
            if name in on_edges and NONE not in choice.options
        )
        like = next(supernet.parameters())

        def first(sizes: Sequence[int]) -> nn.ParameterDict:
            values = [nn.Parameter((deviation * torch.randn(size)).to(like)) for size in sizes]
            # A plain dict would be sorted, "10" before "2".
            return nn.ParameterDict(OrderedDict((str(i), v) for i, v in enumerate(values)))

        self.alphas = first(
            [len(c.options) + (name in self.nulls) for name, c in self.choices.items()]
        )
        self.betas = first([len(found) for found in self._labels.values()] if edges else [])
        self._ones = {name: like.new_ones(len(found)) for name, found in self._labels.items()}

    @property
    def names(self) -> tuple[str, ...]:
        """The relaxed choices, in walking order."""
        return tuple(self.choices)

    @property
    def gates(self) -> tuple[str, ...]:
        """Every `some_of`, in walking order."""
        return tuple(self._labels)

    def weights(self) -> dict[str, Tensor]:
        """Weights of the options by choice, for `mix`; gradients flow through them.

        A relaxation that samples does so at every call.
        """
        found = {
            choice.name: self.weigh(choice, alpha)[: len(choice.options)]
            for choice, alpha in self._pairs()
        }
        return {**found, **self._ones, **self._of_edges()}

    def weigh(self, choice: Choice, alpha: Tensor) -> Tensor:
        """Turn the parameters of one choice into weights, of the same shape."""
        return self.expected(choice, alpha)

    def expected(self, choice: Choice, alpha: Tensor) -> Tensor:
        """How good each option is thought to be, none negative; of the same shape."""
        return alpha.softmax(-1)

    def active(self) -> dict[str, Sequence[int]] | None:
        """Places of the options that run with the last `weights`, by choice; None for all."""
        return None

    @torch.no_grad()
    def probabilities(self) -> dict[str, Tensor]:
        """How good each option is thought to be by choice, without `none`: for `derive`."""
        found = {
            choice.name: self.expected(choice, alpha)[: len(choice.options)].clone()
            for choice, alpha in self._pairs()
        }
        return {**found, **self._of_edges()}

    def anneal(self, progress: float) -> None:
        """Called before each epoch: what depends on time.

        Args:
            progress: from 0 in the first epoch to 1 in the last.
        """

    def _pairs(self) -> Iterator[tuple[Choice, Tensor]]:
        return zip(self.choices.values(), self.alphas.values(), strict=True)

    def _of_edges(self) -> dict[str, Tensor]:
        betas = zip(self._labels, self.betas.values(), strict=False)
        return {name: beta.softmax(-1) for name, beta in betas}


def _check(choices: Sequence[Choice]) -> None:
    """See that all that is open can be relaxed.

    Raises:
        InvalidSettings: as for `Relaxation`.
    """
    values = [c for c in choices if c.kind == "choose" and len(c.options) > 1]
    if values:
        found = ", ".join(f"{c.name!r} {list(c.options)}" for c in values[:3])
        more = f" and {len(values) - 3} more" if len(values) > 3 else ""
        raise InvalidSettings(
            f"gradients cannot decide values: {found}{more} are asked with choose, and only "
            "modules can be mixed. The recipes single-path, once-for-all and bignas train "
            "supernets of such spaces; or ask with one_of, or leave one option"
        )
    if not any(choice.kind in ("one_of", "repeat") for choice in choices):
        raise InvalidSettings("there is nothing to relax: the space asks neither one_of nor repeat")


def _on_edges(nodes: Sequence[Node], gated: bool = False) -> Iterator[str]:
    """Names of every `one_of` directly under a `some_of`."""
    for node in nodes:
        if gated and node.choice.kind == "one_of":
            yield node.choice.name
        for branch in node.branches:
            yield from _on_edges(branch.children, node.choice.kind == "some_of")
