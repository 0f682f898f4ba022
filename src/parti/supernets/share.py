"""The fourth reading of a space program, *share*: one network that holds every architecture.

The program runs once. `choose` gives elastic values, `one_of` a switch, `some_of` gates, `repeat`
a prefix (see `modules` and `layers`); everything else is built as ever. So a space is declared
once, whether its members are sampled, built one by one, or trained all together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from parti.core.choice import Choice
from parti.core.elastic import Elastic, always_equal
from parti.core.errors import InvalidSettings, SpaceError
from parti.core.program import Program
from parti.core.tree import Tree
from parti.core.words import Decide, Factory, reading, reading_as
from parti.networks.operations import shuffled
from parti.supernets.constructors import check_layers, elastic_layers, explained
from parti.supernets.modules import Gates, Prefix, State, Switch

__all__ = ["Relaxed", "Share", "Supernet", "supernet"]


@dataclass(frozen=True)
class Relaxed:
    """How the options of a `one_of` are built for gradient search.

    Args:
        affine: whether their batch normalizations learn a scale and a shift. DARTS does without,
            for they would rescale the architecture parameters (Liu 2019, section 3.1 of the code).
        normalize_pools: whether pooling is followed by batch normalization by the batch's own
            statistics, so that its outputs are as large as those of convolutions.
        partial: only one in so many channels goes through the options; the others pass by, and
            channels are shuffled (PC-DARTS, Xu 2020, section 3.1).
    """

    affine: bool = True
    normalize_pools: bool = False
    partial: int = 1


class Supernet(nn.Module):
    """A network that holds every architecture of a space; made by `supernet`.

    Args:
        space: whose architectures it holds.
        network: what the program gave.
        tree: of the space.
        state: what is active.
    """

    def __init__(self, space: Program, network: nn.Module, tree: Tree, state: State) -> None:
        super().__init__()
        self.space = space
        self.network = network
        self.tree = tree
        self.state = state

    @property
    def choices(self) -> Mapping[str, Choice]:
        """Every choice of the space by name, in walking order."""
        return self.tree.choices

    def forward(self, *inputs: Any) -> Any:
        """Return what the active subnet, or the active mixture, makes of the inputs."""
        self.state.running = True
        try:
            return self.network(*inputs)
        except RuntimeError as error:
            if self.state.mixtures:
                error.add_note(
                    f"{', '.join(self.state.mixtures)} are mixed: their options must all give the "
                    "same shape, and what some_of gives must be summed, not concatenated"
                )
            raise
        finally:
            self.state.running = False

    def extra_repr(self) -> str:
        """What print shows."""
        return repr(self.space)


def supernet(space: Program, relaxed: Relaxed | None = None) -> Supernet:
    """Build one network that holds every architecture of a space.

    Active at first: the largest value of every scale, and the first of other options. Weights
    come from torch's global random numbers.

    Args:
        space: a static space of modules; all arguments of its program are bound.
        relaxed: how options are built for gradient search; by default as in any network.

    Raises:
        SpaceError: the space is dynamic or gives no network; an option is no module; or an
            elastic value reaches what cannot use it (the message says which layer, and where).
        InvalidSettings: `relaxed` asks for less than one channel in one.
    """
    tree = getattr(space, "tree", None)
    if not isinstance(space, Program) or tree is None:
        raise SpaceError(
            f"{space!r} has no static tree, so its options cannot all be built at once: a supernet "
            "needs a program that asks with one_of and repeat where it would branch on a value"
        )
    if relaxed is not None and relaxed.partial < 1:
        raise InvalidSettings(f"partial={relaxed.partial}: at least 1, which is all channels")
    run = Share(relaxed)
    with reading_as(run), run.layers(), explained():
        network = space.function(*space.arguments, **space.keywords)
    if not isinstance(network, nn.Module):
        raise SpaceError(
            f"{space!r} gives a {type(network).__name__}; a supernet is made of modules"
        )
    check_layers(network)
    for choice in tree.choices.values():
        run.state.decisions[choice.name] = choice.options[-1 if choice.ordered else 0]
    return Supernet(space, network, tree, run.state)


class Share(Decide):
    """Build all options of every choice.

    Args:
        relaxed: how options of `one_of` are built; by default as in any network.
    """

    def __init__(self, relaxed: Relaxed | None = None) -> None:
        super().__init__(lambda choice: choice.options[0])
        self.state = State()
        self.relaxed = relaxed or Relaxed()
        self._inside = 0

    def layers(self) -> AbstractContextManager[None]:
        """While the program runs: torch's layers take elastic values, options are adjusted."""
        return elastic_layers(self._adjust)

    def choose(self, choice: Choice) -> Any:
        """An elastic value; the value itself where there is but one."""
        if len(choice.options) == 1:
            return choice.options[0]
        return Elastic.of(choice, self.state)

    def one_of(self, choice: Choice, factories: Mapping[str, Factory]) -> Any:
        """A switch of all options."""
        self._inside += 1
        try:
            built = {label: self.branch(choice, label, make) for label, make in factories.items()}
        finally:
            self._inside -= 1
        self._modules(choice, built)
        if self._inside == 0:
            built = {label: self._normalized(module) for label, module in built.items()}
        switch = self._named(choice, lambda: Switch(choice, built, self.state))
        if self._inside == 0 and self.relaxed.partial > 1:
            return PartialChannels(switch, self.relaxed.partial)
        return switch

    def some_of(self, choice: Choice, factories: Mapping[str, Factory]) -> Any:
        """Gates around all options."""
        built = {label: self.branch(choice, label, make) for label, make in factories.items()}
        self._modules(choice, built)
        return self._named(choice, lambda: Gates(choice, built, self.state))

    def repeat(self, choice: Choice, factory: Callable[[int], Any], shared: bool) -> Any:
        """As many bodies as the largest count."""
        most = max(option for option in choice.options if isinstance(option, int))
        bodies = {str(i): self.body(choice, i, factory, shared) for i in range(most)}
        self._modules(choice, bodies)
        return Prefix(choice, list(bodies.values()), self.state)

    def _call(self, part: str, factory: Factory, what: str, choice: Choice) -> Any:
        def explaining() -> Any:
            with explained():
                return factory()

        return super()._call(part, explaining, what, choice)

    def _modules(self, choice: Choice, built: Mapping[str, Any]) -> None:
        for label, module in built.items():
            if not isinstance(module, nn.Module):
                raise SpaceError(
                    f"option {label!r} of choice {choice.name!r} is a {type(module).__name__}; in "
                    "a supernet every option is a module"
                )

    def _named(self, choice: Choice, make: Callable[[], nn.ModuleDict]) -> nn.ModuleDict:
        try:
            return make()
        except KeyError as error:
            raise SpaceError(
                f"choice {choice.name!r}: a label cannot be the name of a module "
                f"({error.args[0]}); give it another"
            ) from error

    def _normalized(self, module: nn.Module) -> nn.Module:
        pools = isinstance(module, nn.MaxPool2d | nn.AvgPool2d)
        return NormalizedPool(module) if pools and self.relaxed.normalize_pools else module

    def _adjust(self, layer: nn.Module, given: dict[str, Any]) -> None:
        """Change the arguments of a layer that is built inside an option."""
        if not self._inside or reading() is not self:
            return
        norm = isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d)
        if norm and not self.relaxed.affine:
            given["affine"] = False
        part = self.relaxed.partial
        if part > 1:
            depthwise = "groups" in given and always_equal(given["groups"], given["in_channels"])
            for name in ("in_channels", "out_channels", "num_features", "num_channels"):
                if name in given:
                    given[name] = _divided(given[name], part)
            if depthwise:
                given["groups"] = given["in_channels"]


class NormalizedPool(nn.Module):
    """Pooling, then normalization by the batch's own mean and variance, without parameters.

    Args:
        pool: max or average pooling.
    """

    def __init__(self, pool: nn.Module) -> None:
        super().__init__()
        self.pool = pool

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, channels, h, w) to the pooled size."""
        return F.batch_norm(self.pool(x), None, None, training=True)


class PartialChannels(nn.Module):
    """Only the first of every k channels go through a switch; then channels are shuffled.

    Xu et al., "PC-DARTS: Partial Channel Connections for Memory-Efficient Architecture Search",
    ICLR 2020, section 3.1. The others pass by; where the switch halves the image, they are pooled.

    Args:
        switch: what the first channels go through; built for a k-th of the channels.
        parts: k.
    """

    def __init__(self, switch: nn.Module, parts: int) -> None:
        super().__init__()
        self.switch = switch
        self.parts = parts

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, channels, h, w) to the same number of channels."""
        through = x.shape[1] // self.parts
        done, beside = self.switch(x[:, :through]), x[:, through:]
        if done.shape[2:] != beside.shape[2:]:
            # Odd sizes are halved rounding up, as the options do.
            beside = F.max_pool2d(beside, -(-x.shape[2] // done.shape[2]), ceil_mode=True)
        # Shuffled, so that the next edge takes others.
        return shuffled(torch.cat([done, beside], dim=1), self.parts)


def _divided(channels: Any, part: int) -> Any:
    if isinstance(channels, int) and channels % part:
        raise InvalidSettings(
            f"{channels} channels cannot be divided by partial={part}: choose a number of channels "
            "that can"
        )
    return channels // part
