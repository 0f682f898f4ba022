"""From the tree of calls to parts: torch's layers, chains of parts, and blocks with a forward."""

from __future__ import annotations

import keyword
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from torch import nn
from torch.fx import Node

from parti.deploy.check import ExportError
from parti.deploy.source.calls import Call
from parti.deploy.source.layers import Layer, Slot, layer_of
from parti.deploy.source.operations import expression

__all__ = ["Block", "Chain", "Part", "Weight", "part_of", "slots"]

LARGEST_CONSTANT = 256
"""Numbers that a constant in the source may have."""
NAMES = ("x", "y", "z", "u", "v", "w")


@dataclass(frozen=True, slots=True)
class Weight:
    """A parameter or buffer that a block owns itself.

    Args:
        shape: as source text.
        trained: whether it is a parameter.
        dtype: as source text.
    """

    shape: Slot
    trained: bool
    dtype: str


@dataclass(frozen=True, slots=True)
class Chain:
    """Parts that are called one after the other: an `nn.Sequential`.

    Args:
        children: by their names.
        kind: the name of the class it was.
    """

    children: tuple[tuple[str, Part], ...]
    kind: str


@dataclass(slots=True)
class Block:
    """A module with a forward of its own.

    Args:
        kind: the name of its class.
        children: parts and weights by their paths, as ("edges", "0").
        inputs: names of the arguments of forward.
        lines: of forward.
    """

    kind: str
    children: dict[tuple[str, ...], Part | Weight] = field(default_factory=dict)
    inputs: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)


Part = Layer | Chain | Block


def slots(part: Part | Weight) -> Iterator[Slot]:
    """Every number in a part, those of its children after each other."""
    if isinstance(part, Layer):
        yield from part.slots
    elif isinstance(part, Weight):
        yield part.shape
    else:
        children = part.children if isinstance(part, Chain) else part.children.items()
        for _, child in children:
            yield from slots(child)


def part_of(call: Call, constants: Mapping[str, object]) -> Part:
    """Return what computes a call.

    Args:
        call: of a module.
        constants: tensors that the program holds, by their names.

    Raises:
        ExportError: it cannot be written as source.
    """
    only = call.steps[0] if len(call.steps) == 1 else None
    if isinstance(only, Node):
        layer = layer_of(only, call.path, call.kind)
        values = [n for n in only.all_input_nodes if "parti_name" not in n.meta]
        if layer is not None and len(values) == 1:
            return layer
    return _chain(call, constants) or _Writer(call, constants).block()


def _chain(call: Call, constants: Mapping[str, object]) -> Chain | None:
    """Return the calls inside as a chain, if that is what they are."""
    given, left, names = call.inputs(), call.outputs(), list[str]()
    if len(given) != 1 or len(left) != 1:
        return None
    value = given[0]
    for step in call.steps:
        if not isinstance(step, Call) or step.inputs() != [value]:
            return None
        outputs, relative = step.outputs(), _relative(step.path, call.path)
        if len(outputs) != 1 or len(relative) != 1 or relative[0] in names:
            return None
        names.append(relative[0])
        value = outputs[0]
    if value is not left[0]:
        return None
    parts = {
        name: part_of(step, constants)
        for name, step in zip(names, call.steps, strict=True)
        if isinstance(step, Call)
    }
    kind = _class_name(call.kind)
    if all(name.isdecimal() for name in names):
        # Modules that compute nothing, such as nn.Identity, left no trace.
        empty: Part = Layer("nn.Identity", ())
        if names != sorted(names, key=int):
            return None
        count = int(names[-1]) + 1
        return Chain(tuple((str(i), parts.get(str(i), empty)) for i in range(count)), "")
    if all(_is_name(name) for name in names):
        return Chain(tuple(parts.items()), kind if kind != "Sequential" else _joined(call, names))
    return None


class _Writer:
    """Writes the forward of one block."""

    def __init__(self, call: Call, constants: Mapping[str, object]) -> None:
        self.call, self.constants = call, constants
        self.made = Block(_class_name(call.kind))
        self.names: dict[Node, str] = {}

    def block(self) -> Block:
        given, left = self.call.inputs(), self.call.outputs()
        for i, node in enumerate(given):
            self.names[node] = NAMES[i] if i < len(NAMES) else f"x{i}"
        self.made.inputs = [self.names[node] for node in given]
        for node, (tensor, dimension) in self.call.sizes().items():
            text = f"{self.names[tensor]}.shape[{dimension}]"
            self._assign([node], text, [], set(), "batch" if dimension == 0 else "size")
        for i, step in enumerate(self.call.steps):
            after = self._needed(i + 1, left)
            if isinstance(step, Call):
                self._call(step, after)
            else:
                text = expression(step, self._named)
                self._assign([step], text, step.all_input_nodes, after, "")
        returned = ", ".join(self._named(node) for node in left)
        before, _, text = (self.made.lines or [""])[-1].partition(" = ")
        if before == returned and text:
            self.made.lines[-1] = f"return {text}"
        else:
            self.made.lines.append(f"return {returned}")
        return self.made

    def _needed(self, start: int, left: Sequence[Node]) -> set[Node]:
        """Values that are used from a step on."""
        needed = set(left)
        for step in self.call.steps[start:]:
            needed |= set(step.inputs() if isinstance(step, Call) else step.all_input_nodes)
        return needed

    def _call(self, inner: Call, after: set[Node]) -> None:
        relative = _relative(inner.path, self.call.path)
        part = part_of(inner, self.constants)
        known = self.made.children.setdefault(relative, part)
        if known != part:
            raise ExportError(
                f"module {inner.path!r} is called twice and computes different things; it cannot "
                "be written as source. Leave out the format 'pytorch'"
            )
        given, made = inner.inputs(), inner.outputs()
        text = f"{self._access(relative)}({', '.join(self._named(node) for node in given)})"
        self._assign(made, text, given, after, relative[-1])

    def _assign(
        self, made: Sequence[Node], text: str, given: Sequence[Node], after: set[Node], hint: str
    ) -> None:
        """Write a line; a result takes over the name of an input that is not needed any more."""
        free = [
            self.names.pop(n) for n in dict.fromkeys(given) if n in self.names and n not in after
        ]
        for node in made:
            taken = set(self.names.values())
            options = [*free, hint, *NAMES, *(f"x{i}" for i in range(1, 1000))]
            self.names[node] = next(n for n in options if _is_name(n) and n not in taken)
        results = ", ".join(self.names[node] for node in made)
        self.made.lines.append(f"{results} = {text}" if results else text)

    def _named(self, node: Node) -> str:
        if node in self.names:
            return self.names[node]
        name = str(node.meta.get("parti_name", ""))
        if name in self.constants:
            return _constant(self.constants[name])
        relative = _relative(name, self.call.path)
        owner = next((p for p in self.made.children if relative[: len(p)] == p), None)
        if owner is None or owner == relative:
            value = node.meta["val"]
            shape = Slot("shape", repr(tuple(value.shape)))
            trained = isinstance(value, nn.Parameter) or node.name.startswith("p_")
            self.made.children[relative] = Weight(shape, trained, repr(value.dtype))
        return self._access(relative)

    def _access(self, path: tuple[str, ...]) -> str:
        text = f"self.{path[0]}" if _is_name(path[0]) else f'self["{path[0]}"]'
        for key in path[1:]:
            text += f"[{key}]" if key.isdecimal() else f'["{key}"]'
        return text


def _constant(value: object) -> str:
    import torch

    if not isinstance(value, torch.Tensor) or value.numel() > LARGEST_CONSTANT:
        raise ExportError(
            "the network computes with a large constant tensor; register it as a buffer, or leave "
            "out the format 'pytorch'"
        )
    return f"torch.tensor({value.tolist()}, dtype={value.dtype})"


def _relative(path: str, owner: str) -> tuple[str, ...]:
    return tuple((path[len(owner) + 1 :] if owner else path).split("."))


def _class_name(kind: str) -> str:
    name = kind.rpartition(".")[2]
    return name if _is_name(name) else "Block"


def _is_name(text: str) -> bool:
    return text.isidentifier() and not keyword.iskeyword(text) and text not in ("torch", "nn", "F")


def _joined(call: Call, names: Sequence[str]) -> str:
    """Name a chain by its parts, if they are few, else by what it is called where it stands."""
    words = names if len(names) <= 4 else [call.path.rpartition(".")[2]]
    name = "".join(word[:1].upper() + word[1:] for part in words for word in part.split("_"))
    return name if _is_name(name) else "Stage"
