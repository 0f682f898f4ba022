"""Counts of a network: parameters, multiply-accumulates, memory; nothing is computed for it.

The network's forward runs once under a dispatch mode in which its input is a meta tensor: a shape
without numbers. Every operation that follows is seen, functional ones too, and none does
arithmetic.

Conventions. One MAC is one multiply-accumulate; FLOPs would be twice as many and are never
reported. Counted are convolutions and products of matrices (linear layers, attention, recurrent
layers); normalisation, activations, pooling and biases are not, as is usual. Everything is for
one image.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from parti.core.errors import TrialError
from parti.core.protocols import Builder
from parti.core.trial import Job, Measurement
from parti.evaluators.modes import evaluating

__all__ = ["Complexity", "ModuleCost", "NetworkCost", "complexity"]

aten = torch.ops.aten


@dataclass(frozen=True, slots=True)
class ModuleCost:
    """One row of a table of modules; a container's numbers include what lies inside it.

    Args:
        name: dotted, as in `named_modules`; empty for the network itself.
        type: the name of its class.
        output_shape: of its last call, with the batch of 1; None when it returns no tensor.
        params: its parameters; one shared by two modules counts in both rows.
        macs: multiply-accumulates of all of its calls for one image.
        inputs: names of the innermost modules whose outputs it reads, directly or through
            operations between modules (sums, concatenations); empty for a container.
    """

    name: str
    type: str
    output_shape: tuple[int, ...] | None
    params: int
    macs: int
    inputs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class NetworkCost:
    """What a network costs for one image.

    Args:
        params: all parameters; shared ones count once.
        trainable_params: those that require a gradient.
        weight_bytes: memory of parameters and buffers.
        macs: multiply-accumulates (FLOPs = 2 × MACs).
        macs_by_operation: how they are made up: `convolution` (dense and grouped), `depthwise`,
            `linear` (a product with a weight), `matmul` (a product of two activations, as in
            attention).
        activation_bytes: the largest memory that activations need at any one moment of
            inference: those already computed (the input among them) and still to be read.
            Operations element by element, and batch normalisation, write over their input
            where nothing else reads it, as inference runtimes do. Workspace of kernels is not
            counted.
        modules: one row per module that was called, in the order of `named_modules`.
    """

    params: int
    trainable_params: int
    weight_bytes: int
    macs: int
    macs_by_operation: Mapping[str, int]
    activation_bytes: int
    modules: tuple[ModuleCost, ...]

    @property
    def metrics(self) -> dict[str, float]:
        """The metrics an evaluator reports: params, macs and activation_bytes."""
        return {
            "params": float(self.params),
            "macs": float(self.macs),
            "activation_bytes": float(self.activation_bytes),
        }


class Complexity:
    """Evaluator of params, macs and activation_bytes; it costs milliseconds and no training.

    Args:
        space: builds the networks.
        input_shape: (channels, height, width) of one image.
    """

    provides: frozenset[str] = frozenset({"params", "macs", "activation_bytes"})

    def __init__(self, space: Builder, input_shape: Sequence[int]) -> None:
        self.space = space
        self.input_shape = tuple(input_shape)

    def __call__(self, job: Job) -> Iterator[Measurement]:
        """Yield one measurement.

        Raises:
            TrialError: the network cannot take images of this shape.
        """
        began = time.perf_counter()
        with torch.random.fork_rng(devices=[]):
            network = self.space.build(job.architecture)
        cost = complexity(network, self.input_shape)
        yield Measurement(cost.metrics, seconds=time.perf_counter() - began)


def complexity(network: nn.Module, input_shape: Sequence[int]) -> NetworkCost:
    """Count a network's parameters, multiply-accumulates and memory in inference.

    The network is left as it was: its modes, weights and buffers are not touched.

    Args:
        network: maps [batch, channels, height, width] to anything; on any device.
        input_shape: (channels, height, width).

    Returns:
        The counts for one image.

    Raises:
        TrialError: the forward pass fails on that shape, or depends on the values of tensors.
    """
    parameters = list(network.parameters())
    state = [*parameters, *network.buffers()]
    dtype = next((p.dtype for p in parameters if p.is_floating_point()), torch.float32)
    image = torch.empty(1, *input_shape, dtype=dtype, device="meta")
    trace = _Trace(image, state)
    try:
        with evaluating(network), _watching(network, trace), torch.no_grad(), trace:
            network(image)
    except Exception as error:
        raise TrialError(
            f"cannot count {type(network).__name__} on one image of shape {tuple(input_shape)}: "
            f"{type(error).__name__}: {str(error)[:300]}. Its forward must accept that shape and "
            "must not branch on the values of tensors (.item(), `if tensor:`)"
        ) from error
    by_operation = trace.macs_by_operation
    return NetworkCost(
        params=sum(p.numel() for p in parameters),
        trainable_params=sum(p.numel() for p in parameters if p.requires_grad),
        weight_bytes=sum(t.numel() * t.element_size() for t in state),
        macs=sum(by_operation.values()),
        macs_by_operation=dict(by_operation),
        activation_bytes=_peak_bytes(trace.sizes, trace.steps),
        modules=_rows(network, trace),
    )


@dataclass(frozen=True, slots=True)
class _Step:
    """One operation, as memory sees it: the storages it read and wrote."""

    reads: frozenset[int]
    writes: frozenset[int]
    elementwise: bool


def _like_input(func: Any, args: Any, kwargs: Any) -> Tensor:
    return torch.empty_like(args[0])


def _norm_like_input(func: Any, args: Any, kwargs: Any) -> tuple[Tensor, Tensor, Tensor]:
    nothing = torch.empty(0, device="meta")
    return torch.empty_like(args[0]), nothing, nothing


_SHORTCUTS: dict[Any, Callable[[Any, Any, Any], Any]] = {
    # Outputs like their first input. torch derives these shapes too, but through Python
    # decompositions of 0.5 to 2.7 ms a call.
    **dict.fromkeys(
        (
            aten.relu.default,
            aten.hardtanh.default,
            aten.gelu.default,
            aten.hardswish.default,
            aten.hardsigmoid.default,
            aten.elu.default,
            aten.leaky_relu.default,
            aten.mish.default,
        ),
        _like_input,
    ),
    **dict.fromkeys(
        (
            aten.native_batch_norm.default,
            aten.native_layer_norm.default,
            aten.native_group_norm.default,
        ),
        _norm_like_input,
    ),
}


class _Trace(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Runs operations on shapes alone and keeps what they cost."""

    def __init__(self, image: Tensor, state: Sequence[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.macs_by_operation: dict[str, int] = {}
        self.sizes: dict[int, int] = {}
        self.steps: list[_Step] = []
        self.calling: list[str] = []
        self.macs_of: dict[str, int] = {}
        self.shape_of: dict[str, tuple[int, ...] | None] = {}
        self.inputs_of: dict[str, dict[str, None]] = {}
        self._makers: dict[int, dict[str, None]] = {}
        self._before = 0
        self._weights = {_storage(tensor) for tensor in state}
        self._kept: list[Any] = []  # alive, so that no storage's or tensor's id comes back
        self._metas: dict[int, Tensor] = {}
        self._own(image)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        tensors = _tensors((args, kwargs))
        if any(tensor.is_meta for tensor in tensors):
            shapes = _mapped(args, self._meta), _mapped(kwargs, self._meta)
            out = _SHORTCUTS.get(func, _run)(func, *shapes)
        else:
            # Constants that forward makes on the CPU may be needed as numbers later.
            out = func(*args, **kwargs)
        self._remember(func, tensors, out)
        if func.overloadpacket in flop_registry:
            self._count(func, args, tensors, kwargs, out)
        return out

    def enter(self, name: str, arguments: Any, innermost: bool) -> None:
        """A module begins; of an innermost one, note whose outputs it reads."""
        self.calling.append(name)
        self._before = len(self.steps)
        if innermost:
            self.inputs_of.setdefault(name, {}).update(self._made(_tensors(arguments)))

    def leave(self, name: str, out: Any, innermost: bool) -> None:
        """A module ends."""
        self.calling.pop()
        self.shape_of[name] = tuple(out.shape) if isinstance(out, Tensor) else None
        if not innermost:
            return
        if len(self.steps) > self._before:
            self._makers.update({_storage(tensor): {name: None} for tensor in _tensors(out)})
        else:  # it passed its input, or one of them, through
            self.inputs_of[name] = self._made(_tensors(out))

    def _made(self, tensors: list[Tensor]) -> dict[str, None]:
        """The innermost modules that the content of some tensors comes from, in order."""
        return {name: None for t in tensors for name in self._makers.get(_storage(t), ())}

    def _remember(self, func: Any, tensors: list[Tensor], out: Any) -> None:
        written, makers = _tensors(out), self._made(tensors)
        for tensor in written:
            self._own(tensor)
            self._makers[_storage(tensor)] = makers
        self.steps.append(
            _Step(
                reads=frozenset(s for t in tensors if (s := _storage(t)) in self.sizes),
                writes=frozenset(s for t in written if (s := _storage(t)) in self.sizes),
                elementwise=torch.Tag.pointwise in func.tags
                or func is aten.native_batch_norm.default,
            )
        )

    def _count(self, func: Any, args: Any, tensors: list[Tensor], kwargs: Any, out: Any) -> None:
        macs = flop_registry[func.overloadpacket](*args, **kwargs, out_val=out) // 2
        if func is aten.convolution.default:
            groups, channels = args[8], args[0].shape[1]
            kind = "depthwise" if 1 < groups == channels else "convolution"
        elif any(_storage(tensor) in self._weights for tensor in tensors):
            kind = "linear"
        else:
            kind = "matmul"
        self.macs_by_operation[kind] = self.macs_by_operation.get(kind, 0) + macs
        for name in self.calling:
            self.macs_of[name] = self.macs_of.get(name, 0) + macs

    def _own(self, tensor: Tensor) -> None:
        storage = _storage(tensor)
        if storage not in self.sizes and storage not in self._weights:
            self.sizes[storage] = tensor.untyped_storage().nbytes()
            self._kept.append(tensor)

    def _meta(self, tensor: Tensor) -> Tensor:
        if tensor.is_meta:
            return tensor
        if id(tensor) not in self._metas:
            self._metas[id(tensor)] = torch.empty_strided(
                tensor.shape, tensor.stride(), dtype=tensor.dtype, device="meta"
            )
            self._kept.append(tensor)
        return self._metas[id(tensor)]


def _run(func: Any, args: Any, kwargs: Any) -> Any:
    if "device" in kwargs:
        kwargs = {**kwargs, "device": torch.device("meta")}
    return func(*args, **kwargs)


def _storage(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def _tensors(value: Any) -> list[Tensor]:
    """The tensors in an operation's arguments or results, nested ones too."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, dict):
        value = value.values()
    elif not isinstance(value, tuple | list):
        return []
    return [tensor for item in value for tensor in _tensors(item)]


def _mapped(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """Return an operation's arguments with every tensor changed."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, dict):
        return {key: _mapped(item, change) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return type(value)([_mapped(item, change) for item in value])
    return value


def _peak_bytes(sizes: Mapping[int, int], steps: Sequence[_Step]) -> int:
    """The most memory that storages need at once, each from its first write to its last use."""
    last: dict[int, int] = {}
    for i, step in enumerate(steps):
        last.update(dict.fromkeys(step.reads | step.writes, i))
    first_input = next(iter(sizes))
    held = {first_input: sizes[first_input]}
    peak = sum(held.values())
    for i, step in enumerate(steps):
        ending = [s for s in step.reads if last[s] == i and s in held]
        for storage in step.writes - held.keys():
            same = (s for s in ending if s in held and held[s] == sizes[storage])
            if step.elementwise and (reused := next(same, None)) is not None:
                del held[reused]
            held[storage] = sizes[storage]
        peak = max(peak, sum(held.values()))
        for storage in [s for s in held if last.get(s, -1) <= i]:
            del held[storage]
    return peak


def _rows(network: nn.Module, trace: _Trace) -> tuple[ModuleCost, ...]:
    modules = dict(network.named_modules())
    params = dict.fromkeys(modules, 0)
    for name, module in modules.items():
        own = sum(p.numel() for p in module._parameters.values() if p is not None)
        params[name] += own
        while name:
            name = name.rpartition(".")[0]
            params[name] += own
    return tuple(
        ModuleCost(
            name=name,
            type=type(module).__name__,
            output_shape=trace.shape_of[name],
            params=params[name],
            macs=trace.macs_of.get(name, 0),
            inputs=tuple(trace.inputs_of.get(name, ())),
        )
        for name, module in modules.items()
        if name in trace.shape_of
    )


@contextmanager
def _watching(network: nn.Module, trace: _Trace) -> Iterator[None]:
    """Tell the trace which module is running, by hooks that are removed afterwards."""
    handles = []
    for name, module in network.named_modules():
        innermost = next(module.children(), None) is None

        def enter(_: nn.Module, given: Any, name: str = name, innermost: bool = innermost) -> None:
            trace.enter(name, given, innermost)

        def leave(
            _: nn.Module, __: Any, out: Any, name: str = name, innermost: bool = innermost
        ) -> None:
            trace.leave(name, out, innermost)

        handles.append(module.register_forward_pre_hook(enter))
        handles.append(module.register_forward_hook(leave))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
