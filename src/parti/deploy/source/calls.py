"""Which module called which: the tree of calls behind the flat graph of torch.export."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch.fx import Node

from parti.deploy.check import ExportError

__all__ = ["Call", "tree_of_calls"]


@dataclass(slots=True)
class Call:
    """One call of a module, with all that it computed.

    Args:
        key: of the call, another one for each call of the same module.
        path: of the module, in its network.
        kind: the qualified name of the module's class.
        steps: operations and calls, in their order.
    """

    key: str
    path: str
    kind: str
    steps: list[Node | Call] = field(default_factory=list)

    def nodes(self) -> Iterator[Node]:
        """Every operation inside."""
        for step in self.steps:
            if isinstance(step, Call):
                yield from step.nodes()
            else:
                yield step

    def inputs(self) -> list[Node]:
        """Values from outside, in the order of their first use.

        Not among them are own weights, and sizes that other inputs have (`sizes`).
        """
        sizes = self.sizes()
        return [node for node in self._outside() if node not in sizes]

    def sizes(self) -> dict[Node, tuple[Node, int]]:
        """Sizes from outside, such as the batch's, with an input and its dimension that tell."""
        found = {}
        outside = self._outside()
        for size in outside:
            for given in outside:
                shape = getattr(given.meta.get("val"), "shape", ())
                told = [str(length) for length in shape]
                if isinstance(size.meta.get("val"), torch.SymInt) and (
                    (symbol := str(size.meta["val"])) in told
                ):
                    found[size] = (given, told.index(symbol))
                    break
        return found

    def _outside(self) -> list[Node]:
        inside = set(self.nodes())
        found: dict[Node, None] = {}
        for node in self.nodes():
            for given in node.all_input_nodes:
                owner = given.meta.get("parti_name")
                own = owner is not None and _under(owner, self.path)
                if given not in inside and not own:
                    found[given] = None
        return list(found)

    def outputs(self) -> list[Node]:
        """Values that are used outside."""
        inside = set(self.nodes())
        return [node for node in self.nodes() if any(u not in inside for u in node.users)]


def tree_of_calls(program: torch.export.ExportedProgram) -> Call:
    """Sort the operations of a program under the modules that computed them.

    What nothing depends on is left out. Placeholders of weights and constants are marked with
    their names, as `node.meta["parti_name"]`.

    Args:
        program: with one tensor in and one out.

    Raises:
        ExportError: the program has parts that are not plain operations.
    """
    signature = program.graph_signature
    named = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
    named |= signature.inputs_to_lifted_tensor_constants
    for node in program.graph.nodes:
        if node.op == "placeholder" and node.name in named:
            node.meta["parti_name"] = named[node.name]
    root = Call("", "", "")
    stack: list[tuple[str, str, str]] = []
    for node in _alive(program.graph):
        if node.op == "get_attr":
            raise ExportError(
                f"the network has a part ({node.target}) that is chosen while it runs, or runs in "
                "another mode; it cannot be written as source. Leave out the format 'pytorch'"
            )
        if node.op != "call_function":
            continue
        entered = node.meta.get("nn_module_stack")
        if entered:
            stack = [(key, path, str(kind)) for key, (path, kind) in entered.items() if path]
        _put(root, node, stack)
    return root


def _alive(graph: torch.fx.Graph) -> list[Node]:
    """Nodes that the output depends on, and those that change a value in place."""
    needed: set[Node] = set()
    for node in reversed(graph.nodes):
        changes = "_." in str(node.target) and not str(node.target).startswith("aten._")
        if node.op == "output" or changes or node in needed:
            needed |= {node, *node.all_input_nodes}
    return [node for node in graph.nodes if node in needed and node.op != "output"]


def _put(root: Call, node: Node, stack: list[tuple[str, str, str]]) -> None:
    call = root
    for key, path, kind in stack:
        last = call.steps[-1] if call.steps else None
        if not (isinstance(last, Call) and last.key == key):
            if any(isinstance(step, Call) and step.key == key for step in call.steps):
                raise ExportError(
                    f"the traced graph returns to module {path!r} after leaving it; it cannot be "
                    "written as source. Leave out the format 'pytorch'"
                )
            last = Call(key, path, kind)
            call.steps.append(last)
        call = last
    call.steps.append(node)


def _under(name: str, path: str) -> bool:
    return not path or name.startswith(path + ".")
