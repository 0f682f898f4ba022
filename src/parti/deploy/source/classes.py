"""One class for all parts that differ in numbers only, and the file that holds them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from parti.deploy.source.layers import REQUIRED, Layer, Slot
from parti.deploy.source.parts import Block, Chain, Part, Weight, slots
from parti.deploy.source.text import Made, laid_out

__all__ = ["Classes"]

SHORT = 2
"""With more arguments than these, a call names them."""


@dataclass(slots=True)
class _Class:
    """A class of the file.

    Args:
        name: of it.
        example: one part that it makes.
        values: of every slot, for each of its parts.
        parameters: names of the constructor's arguments, and the first slot that each fills.
        texts: what is written for each slot: a number, or an argument's name.
    """

    name: str
    example: Chain | Block
    values: list[tuple[str, ...]]
    parameters: dict[str, int]
    texts: list[str]


class Classes:
    """The classes that a network needs.

    Args:
        top: the network.
        name: of its class.
    """

    def __init__(self, top: Part, name: str) -> None:
        self._known: dict[str, _Class] = {}
        self._names = {name}
        self._collect(top)
        if isinstance(top, Chain | Block):
            self._known.setdefault(_skeleton(top), _Class(name, top, [], {}, [])).name = name
        for known in self._known.values():
            _parameterize(known)

    def lines(self) -> list[str]:
        """Source of all classes, each after those that it uses."""
        lines: list[str] = []
        for known in self._known.values():
            lines += ["", "", *self._class(known)]
        return lines

    def made(self, part: Part | Weight, texts: Sequence[str] | None = None) -> Made:
        """Return the call that makes a part.

        Args:
            part: of the network.
            texts: what to write for each of its slots; by default its own numbers.
        """
        all_slots = list(slots(part))
        texts = [slot.value for slot in all_slots] if texts is None else texts
        if isinstance(part, Layer):
            return Made(part.maker, tuple(_arguments(part.slots, texts)))
        if isinstance(part, Weight):
            empty = Made("torch.empty", (("", texts[0]), *_dtype(part)))
            return Made("nn.Parameter", (("", empty),)) if part.trained else empty
        known = self._known.get(_skeleton(part))
        if known is None:  # a chain by numbers
            return Made("nn.Sequential", tuple(self._children(part, texts)))
        given = [(name, texts[slot]) for name, slot in known.parameters.items()]
        if len(given) <= SHORT:
            given = [("", text) for _, text in given]
        return Made(known.name, tuple(given))

    def _collect(self, part: Part | Weight) -> None:
        if isinstance(part, Layer | Weight):
            return
        children = part.children if isinstance(part, Chain) else part.children.items()
        for _, child in children:
            self._collect(child)
        if not part.kind:
            return
        skeleton = _skeleton(part)
        if skeleton not in self._known:
            self._known[skeleton] = _Class(self._unused(part.kind), part, [], {}, [])
        self._known[skeleton].values.append(tuple(slot.value for slot in slots(part)))

    def _unused(self, kind: str) -> str:
        name, number = kind, 1
        while name in self._names:
            number += 1
            name = f"{kind}{number}"
        self._names.add(name)
        return name

    def _children(self, part: Chain | Block, texts: Sequence[str]) -> list[tuple[str, Made]]:
        """Calls of the children of a part, by their names."""
        start, made = 0, list[tuple[str, Made]]()
        children = part.children if isinstance(part, Chain) else part.children.items()
        for name, child in children:
            count = sum(1 for _ in slots(child))
            key = name if isinstance(name, str) else ".".join(name)
            made.append(("" if key.isdecimal() else key, self.made(child, texts[start:][:count])))
            start += count
        return made

    def _class(self, known: _Class) -> list[str]:
        part = known.example
        arguments = "".join(f", {name}" for name in known.parameters)
        head = f"    def __init__(self{arguments}):"
        if isinstance(part, Chain):
            given = tuple(self._children(part, known.texts))
            if any(key for key, _ in given):
                given = (("", Made("OrderedDict", given)),)
            made = laid_out("", Made("super().__init__", given), 8)
            return [f"class {known.name}(nn.Sequential):", head, *made]
        named = all(path[0].isidentifier() for path in part.children)
        base = "nn.Module" if named else "nn.ModuleDict"
        lines = [f"class {known.name}({base}):", head, "        super().__init__()"]
        lines += self._assignments(part, known.texts)
        lines += ["", f"    def forward({', '.join(['self', *part.inputs])}):"]
        return [*lines, *(f"        {line}" for line in part.lines)]

    def _assignments(self, part: Block, texts: Sequence[str]) -> list[str]:
        """Lines that give a block its children, those of one container together."""
        calls = [made for _, made in self._children(part, texts)]
        grouped: dict[str, dict[tuple[str, ...], tuple[Part | Weight, Made]]] = {}
        for (path, child), made in zip(part.children.items(), calls, strict=True):
            grouped.setdefault(path[0], {})[path[1:]] = (child, made)
        lines: list[str] = []
        for name, inside in grouped.items():
            value = _container(inside)
            target = f"self.{name}" if name.isidentifier() else f'self["{name}"]'
            only = inside.get(())
            if only and isinstance(only[0], Weight) and not only[0].trained:
                value = Made("self.register_buffer", (("", repr(name)), ("", value)))
                lines += laid_out("", value, 8)
            else:
                lines += laid_out(f"{target} = ", value, 8)
        return lines


def _container(inside: Mapping[tuple[str, ...], tuple[Part | Weight, Made]]) -> Made:
    """A child, or an nn.ModuleList, nn.ModuleDict or nn.ParameterDict of children."""
    if () in inside:
        return inside[()][1]
    below: dict[str, dict[tuple[str, ...], tuple[Part | Weight, Made]]] = {}
    for path, value in inside.items():
        below.setdefault(path[0], {})[path[1:]] = value
    calls = {key: _container(values) for key, values in below.items()}
    if all(isinstance(child, Weight) for child, _ in inside.values()):
        return Made("nn.ParameterDict", (("", _mapping(calls)),))
    if all(key.isdecimal() for key in calls):
        # Modules that compute nothing, such as nn.Identity, left no trace.
        every = (calls.get(str(i), Made("nn.Identity")) for i in range(1 + max(map(int, calls))))
        listed = Made("", tuple(("", made) for made in every), "[]")
        return Made("nn.ModuleList", (("", listed),))
    return Made("nn.ModuleDict", (("", _mapping(calls)),))


def _mapping(calls: Mapping[str, Made]) -> Made:
    return Made("", tuple((f'"{key}"', made) for key, made in calls.items()), "{}", ": ")


def _dtype(weight: Weight) -> list[tuple[str, str]]:
    return [] if weight.dtype == "torch.float32" else [("dtype", weight.dtype)]


def _arguments(all_slots: Sequence[Slot], texts: Sequence[str]) -> list[tuple[str, str]]:
    """Arguments of a constructor without those that have their default."""
    return [
        ("" if slot.default is REQUIRED else slot.name, text)
        for slot, text in zip(all_slots, texts, strict=True)
        if text != slot.default
    ]


def _skeleton(part: Part | Weight) -> str:
    """What two parts have in common when they differ in numbers only."""
    if isinstance(part, Layer):
        return f"{part.maker}({','.join(slot.name for slot in part.slots)})"
    if isinstance(part, Weight):
        return f"weight({part.trained},{part.dtype})"
    children = part.children if isinstance(part, Chain) else part.children.items()
    inside = ";".join(f"{name}:{_skeleton(child)}" for name, child in children)
    lines = "" if isinstance(part, Chain) else f"{part.inputs}{part.lines}"
    return f"{type(part).__name__} {part.kind}[{inside}]{lines}"


def _parameterize(known: _Class) -> None:
    """Make arguments of the numbers that differ; those that always differ alike share one."""
    example = list(slots(known.example))
    known.texts = [slot.value for slot in example]
    columns: dict[tuple[str, ...], list[int]] = {}
    for i, column in enumerate(zip(*known.values, strict=True)):
        if len(set(column)) > 1:
            columns.setdefault(column, []).append(i)
    for places in columns.values():
        names = {example[i].name for i in places}
        both = {"in_channels", "out_channels"} <= names
        wanted = "channels" if both else example[places[0]].name
        name, number = wanted, 1
        while name in known.parameters:
            number += 1
            name = f"{wanted}{number}"
        known.parameters[name] = places[0]
        for i in places:
            known.texts[i] = name
