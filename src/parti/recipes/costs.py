"""What architectures are expected to cost, as a differentiable function of options' weights.

Each option is measured once, in the place and on the shape of images where the supernet asks for
it: its multiply-accumulates, its latency, or whatever is given. The cost of an architecture is
then the sum over what it runs (Cai et al., "ProxylessNAS", ICLR 2019, section 3.3.1; Wu et al.,
"FBNet", CVPR 2019, section 3.2); under weights of the options it is the expectation of that sum
if choices are made independently. What lies under several choices counts with the product of
their weights; what a `repeat` has counts with the weights of all counts that reach it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from parti.core.choice import labels
from parti.core.elastic import Elastic
from parti.core.errors import InvalidSettings, TrialError
from parti.evaluators.complexity import complexity
from parti.evaluators.latency import Runtime, measure_latency
from parti.evaluators.modes import evaluating
from parti.recipes.bench import Bench
from parti.recipes.relaxation import Relaxation
from parti.supernets.modules import Gates, Prefix, Switch
from parti.supernets.share import Supernet
from parti.supernets.subnets import mix

__all__ = [
    "Cost",
    "ExpectedCost",
    "Measure",
    "added",
    "beyond_call",
    "expected_cost",
    "latency_ms",
    "macs",
    "within",
]

Shape = tuple[int, ...]

Cost = Callable[[nn.Module, Shape], float]
"""What a module costs on one image of a shape (channels, height, width)."""

Measure = Callable[[nn.Module, Shape], float]
"""How many milliseconds a call of a module takes, with one image of a shape."""

Factor = tuple[str, tuple[int, ...]]
"""A choice, and the places of those of its weights that are summed."""

Path = tuple[Factor, ...]
"""Under which options something runs; () for what always does."""


class ExpectedCost:
    """Expected cost under weights of the options.

    Args:
        sizes: number of weights of each choice.
        table: cost of what runs under each path, without what is asked inside of it.

    Raises:
        InvalidSettings: the table has a choice or a place that is not among the sizes.
    """

    def __init__(self, sizes: Mapping[str, int], table: Mapping[Path, float]) -> None:
        factors = sorted({factor for path in table for factor in path})
        starts, total = {}, 0
        for name, size in sizes.items():
            starts[name] = total
            total += size
        # The factors are sums of weights: a matrix of zeros and ones times all weights, of which
        # the last is the constant 1 that fills up short paths.
        summed = torch.zeros(len(factors) + 1, total + 1, dtype=torch.float64)
        summed[-1, -1] = 1.0
        for row, (name, places) in enumerate(factors):
            if name not in sizes or not all(0 <= place < sizes[name] for place in places):
                raise InvalidSettings(f"the table has {name!r} {places}; sizes are {dict(sizes)}")
            for place in places:
                summed[row, starts[name] + place] = 1.0
        rows = {factor: row for row, factor in enumerate(factors)}
        depth = max((len(path) for path in table), default=0)
        terms = [
            [rows[factor] for factor in path] + [len(factors)] * (depth - len(path))
            for path in table
        ]
        self.sizes = dict(sizes)
        self.table = dict(table)
        self._summed = summed
        self._terms = torch.tensor(terms, dtype=torch.long).reshape(len(table), depth)
        self._costs = torch.tensor(list(table.values()), dtype=torch.float64)

    def __call__(self, weights: Mapping[str, Tensor]) -> Tensor:
        """Return the expected cost, a scalar of the weights' dtype and device.

        Args:
            weights: by choice, for each option of a `one_of` or `repeat`, for each label of a
                `some_of`.

        Raises:
            InvalidSettings: a choice lacks, or has another number of weights.
        """
        for name, size in self.sizes.items():
            if name not in weights or tuple(weights[name].shape) != (size,):
                got = tuple(weights[name].shape) if name in weights else "none"
                raise InvalidSettings(
                    f"the expected cost needs {size} weights of choice {name!r}, got {got}"
                )
        if not self.sizes:
            return self._costs.sum().float()
        found = [weights[name] for name in self.sizes]
        given = torch.cat([*found, found[0].new_ones(1)])
        self._move(given)
        return (self._summed @ given)[self._terms].prod(dim=1) @ self._costs

    def _move(self, like: Tensor) -> None:
        """Keep what is computed with where the weights are."""
        if (self._costs.device, self._costs.dtype) != (like.device, like.dtype):
            self._summed, self._costs = self._summed.to(like), self._costs.to(like)
            self._terms = self._terms.to(like.device)


def expected_cost(supernet: Supernet, input_shape: Shape, cost: Cost) -> ExpectedCost:
    """Measure every option of a supernet, in every place where it is asked.

    Modules that are built alike and run on the same shape are measured once. What contains
    choices is measured as it is decided at the moment; the options that ran are subtracted.

    Args:
        supernet: with options as they are searched; left as it was.
        input_shape: (channels, height, width) of one image.
        cost: of a module, such as `macs` or `latency_ms()`.

    Raises:
        TrialError: the supernet, or an option, does not run on such images.
        InvalidSettings: an option takes something else than one tensor of images.
    """
    places = _Places(supernet)
    shapes = _shapes(supernet, input_shape, [place.module for place in places.all])
    known: dict[Any, float] = {}

    def measured(place: _Place) -> float:
        total = 0.0
        for shape in shapes[place.module]:
            key = (_construction(place.module), shape)
            if key not in known:
                supernet.state.running = True  # a call of the whole has ended it
                known[key] = cost(place.module, shape)
            total += known[key]
        return total

    table: dict[Path, float] = {}
    with _deciding(supernet):
        whole = {place.path_and_module: measured(place) for place in places.all}
        for place in places.all:
            inside = sum(whole[child.path_and_module] for child in place.children if child.runs)
            own = max(0.0, whole[place.path_and_module] - inside)
            table[place.path] = table.get(place.path, 0.0) + own
    sizes = {
        name: len(labels(choice) if choice.kind == "some_of" else choice.options)
        for name, choice in supernet.choices.items()
        if any(name == factor for path in table for factor, _ in path)
    }
    return ExpectedCost(sizes, table)


def macs(module: nn.Module, shape: Shape) -> float:
    """Multiply-accumulates of a module on one image: a `Cost`."""
    return float(complexity(module, shape).macs)


def latency_ms(
    *,
    runtime: Runtime = "torch",
    precision: str = "float32",
    threads: int = 1,
    repeats: int = 20,
    min_seconds: float = 0.02,
) -> Cost:
    """Return a `Cost` that times modules on one image, in milliseconds.

    What calling even the empty module takes is subtracted. Take the runtime that is to run the
    network: in another, options cost something else. Measured in ONNX Runtime, the costs of what
    networks run add up to their latency there; those of PyTorch are a multiple of it, and rank
    networks worse (`docs/recipes.md` has the numbers).

    Args:
        runtime: "torch", on the device where the supernet is, or another of
            `parti.evaluators.runtimes.RUNTIMES`, on the CPU.
        precision: "float32", or "bfloat16" with a runtime and a CPU that have it.
        threads: of the CPU.
        repeats: the fewest calls to time.
        min_seconds: the least time to spend on timing a module.
    """

    def measure(module: nn.Module, shape: Shape) -> float:
        return measure_latency(
            module,
            shape,
            runtime=runtime,
            precision=precision,
            threads=threads,
            warmup=3,
            repeats=repeats,
            min_seconds=min_seconds,
        ).median_ms

    return beyond_call(measure)


def beyond_call(measure: Measure) -> Cost:
    """Return a `Cost` of what modules take beyond a call of the empty module.

    A network is called once, however many layers it has: without the calls, costs add up.

    Args:
        measure: times modules.
    """
    calls: dict[Shape, float] = {}

    def cost(module: nn.Module, shape: Shape) -> float:
        if isinstance(module, nn.Identity):
            return 0.0
        if shape not in calls:
            calls[shape] = measure(nn.Identity(), shape)
        return max(0.0, measure(module, shape) - calls[shape])

    return cost


def within(measure: Measure, seconds: float) -> Measure:
    """Return a `Measure` that begins nothing more after so many seconds from now.

    Args:
        measure: times modules; it then raises TrialError instead.
        seconds: from now.
    """
    end = time.monotonic() + seconds

    def measured(module: nn.Module, shape: Shape) -> float:
        if time.monotonic() > end:
            raise TrialError(f"timing all options takes more than {seconds:.0f} s")
        return measure(module, shape)

    return measured


def added(
    loss: Tensor,
    weights: Mapping[str, Tensor],
    relaxation: Relaxation,
    bench: Bench,
    progress: float,
    *,
    strength: float = 0.1,
    reference: float | None = None,
) -> Tensor:
    """Add the expected cost to a loss: loss + strength * cost / reference.

    A penalty for `Alternating`. Without costs on the bench, the loss stays as it is.

    Args:
        loss: cross-entropy.
        weights: of the options.
        relaxation: where they come from.
        bench: has the costs.
        progress: not looked at.
        strength: of the cost [lambda].
        reference: the cost that counts as 1; by default that of all options alike.
    """
    if bench.costs is None:
        return loss
    if reference is None:
        alike = {
            name: torch.full_like(given, 1.0 if name in relaxation.gates else 1 / len(given))
            for name, given in weights.items()
        }
        reference = float(bench.costs(alike))
    return loss + strength * bench.costs(weights) / reference


@dataclass(eq=False)
class _Place:
    """An option where it is asked, or the whole supernet.

    Args:
        module: what is run.
        path: under which options.
        runs: whether it runs as it is decided now, if what it lies in does.
        children: options of the choices directly inside of it.
    """

    module: nn.Module
    path: Path
    runs: bool
    children: list[_Place] = field(default_factory=list)

    @property
    def path_and_module(self) -> tuple[Path, nn.Module]:
        """Tells it from all others."""
        return self.path, self.module


class _Places:
    """All places of a supernet, the whole first."""

    def __init__(self, supernet: Supernet) -> None:
        self._decisions = supernet.state.decisions
        self.all: list[_Place] = []
        self._visit(_Place(supernet, (), True))

    def _visit(self, place: _Place) -> None:
        self.all.append(place)
        for asked in _asked(place.module):
            for module, factor, runs in self._options(asked):
                child = _Place(module, (*place.path, factor), runs)
                if all(child.module is not other.module for other in place.children):
                    place.children.append(child)
                    self._visit(child)

    def _options(self, asked: nn.Module) -> Iterator[tuple[nn.Module, Factor, bool]]:
        modules = [module for module in asked._modules.values() if module is not None]
        if isinstance(asked, Prefix):
            counts = [count for count in asked.choice.options if isinstance(count, int)]
            for number, module in enumerate(modules):
                reaching = tuple(i for i, count in enumerate(counts) if count > number)
                yield module, (asked.choice.name, reaching), number < asked.chosen()
        elif isinstance(asked, Switch | Gates):
            chosen = asked.chosen()
            for number, (label, module) in enumerate(zip(asked._modules, modules, strict=True)):
                runs = label == chosen if isinstance(chosen, str) else label in chosen
                yield module, (asked.choice.name, (number,)), runs


def _asked(module: nn.Module) -> Iterator[nn.Module]:
    """The choices directly inside of a module, or that it is itself."""
    if isinstance(module, Switch | Gates | Prefix):
        yield module
        return
    for child in module.children():
        yield from _asked(child)


def _shapes(
    supernet: Supernet, input_shape: Shape, modules: list[nn.Module]
) -> dict[nn.Module, list[Shape]]:
    """For each module the shapes of images that it is called with, once for each call."""
    found: dict[nn.Module, list[Shape]] = {module: [] for module in modules}

    def note(module: nn.Module, given: tuple[Any, ...]) -> None:
        if len(given) != 1 or not isinstance(given[0], Tensor):
            raise InvalidSettings(
                f"an option that is a {type(module).__name__} takes {len(given)} inputs; costs are "
                "measured for options that map one tensor of images"
            )
        found[module].append(tuple(given[0].shape[1:]))

    like = next(supernet.parameters())
    everything = {
        choice.name: like.new_ones(len(labels(choice) or choice.options))
        for choice in supernet.choices.values()
        if choice.kind != "choose"
    }
    handles = [module.register_forward_pre_hook(note) for module in found]
    try:
        with _deciding(supernet), evaluating(supernet), torch.no_grad():
            mix(supernet, everything)
            supernet(torch.zeros(1, *input_shape).to(like))
    except RuntimeError as error:
        raise TrialError(
            f"the supernet does not run on images of shape {input_shape}: {str(error)[:300]}"
        ) from error
    finally:
        for handle in handles:
            handle.remove()
    return found


@contextmanager
def _deciding(supernet: Supernet) -> Iterator[None]:
    """Choices are as decided, and parts of the supernet can be called alone; then all as before."""
    state = supernet.state
    mixtures, running = dict(state.mixtures), state.running
    state.mixtures.clear()
    state.running = True
    try:
        yield
    finally:
        state.mixtures.clear()
        state.mixtures.update(mixtures)
        state.running = running


def _construction(module: nn.Module) -> tuple[object, ...]:
    """How a module is built: equal for modules that do the same but for their weights."""
    plain = (int, float, str, bool, tuple, Elastic, type(None))
    return tuple(
        (
            name,
            type(part),
            tuple((key, repr(v)) for key, v in sorted(vars(part).items()) if isinstance(v, plain)),
            tuple(tuple(weight.shape) for weight in part.parameters(recurse=False)),
        )
        for name, part in module.named_modules()
    )
