"""The network as readable PyTorch source that needs nothing but PyTorch and safetensors."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType

import torch

from parti.deploy.check import Compute, ExportError, torch_logits
from parti.deploy.formats.safetensors import write as write_weights
from parti.deploy.formats.torch_export import traced
from parti.deploy.model import DeployedModel
from parti.deploy.source.calls import Call, tree_of_calls
from parti.deploy.source.classes import Classes
from parti.deploy.source.parts import part_of
from parti.deploy.source.text import laid_out

__all__ = ["rebuilt", "source", "write"]

WEIGHTS = "weights.safetensors"

_HEAD = '''\
"""A network found by neural architecture search, as plain PyTorch.

Written by parti from the trained network; it needs PyTorch and safetensors, not parti.

    from network import load

    model = load()                  # reads {weights} beside this file
    logits = model(images)          # float32 [batch, {shape}], raw pixels
"""

from collections import OrderedDict
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn'''

_TAIL = '''

class Model(nn.Module):
    """The network behind the normalisation of its training data.

    It maps raw pixels, float32 [batch, {shape}], to logits.
    """

    def __init__(self):
        super().__init__()
{network}
        shape = (1, {channels}, 1, 1)
        mean = torch.tensor({mean}).view(shape)
        std = torch.tensor({std}).view(shape)
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("std", std, persistent=False)

    def forward(self, images):
        return self.network((images - self.mean) / self.std)


def load(weights=Path(__file__).with_name("{weights}")):
    """Return the trained model in evaluation mode."""
    from safetensors.torch import load_file

    model = Model()
    tensors = load_file(weights)
    model.network.load_state_dict({{name: tensors[name] for name in model.network.state_dict()}})
    return model.eval()
'''

_numbers = count()


def write(model: DeployedModel, input_shape: Sequence[int], file: Path) -> Compute:
    """Write network.py and, if it is not there, weights.safetensors; as in `Format.write`."""
    mean, std = model.mean.flatten().tolist(), model.std.flatten().tolist()
    program = traced(model, input_shape)
    file.write_text(source(program, mean, std, input_shape), encoding="utf-8")
    weights = file.with_name(WEIGHTS)
    if not weights.exists():
        write_weights(model, input_shape, weights)
    return torch_logits(_loaded(file, weights))


def source(
    program: torch.export.ExportedProgram,
    mean: Sequence[float],
    std: Sequence[float],
    input_shape: Sequence[int],
) -> str:
    """Write a traced model as source.

    Args:
        program: of the model, its normalisation included, with a free batch size.
        mean: of the normalisation, for each channel.
        std: likewise.
        input_shape: (channels, height, width).

    Raises:
        ExportError: it cannot be written.
    """
    root = tree_of_calls(program)
    network = next((s for s in root.steps if isinstance(s, Call) and s.path == "network"), None)
    if network is None:
        raise ExportError(
            "the network computes nothing with its input; there is no source to write. Leave out "
            "the format 'pytorch'"
        )
    part = part_of(network, program.constants)
    classes = Classes(part, "Network")
    shape = ", ".join(map(str, input_shape))
    tail = _TAIL.format(
        network="\n".join(laid_out("self.network = ", classes.made(part), 8)),
        mean=list(mean),
        std=list(std),
        channels=len(mean),
        shape=shape,
        weights=WEIGHTS,
    )
    head = _HEAD.format(weights=WEIGHTS, shape=shape)
    text = "\n".join([head, *classes.lines()]) + "\n" + tail
    for name, line in (
        ("OrderedDict(", "from collections import OrderedDict\n"),
        ("F.", "import torch.nn.functional as F\n"),
    ):
        if name not in text.replace(line, ""):
            text = text.replace(line, "")
    return text


def rebuilt(
    program_file: Path, mean: Sequence[float], std: Sequence[float], input_shape: Sequence[int]
) -> DeployedModel:
    """Return a saved program as a network of modules again, with its weights.

    Args:
        program_file: model.pt2.
        mean: of the normalisation that is in the program, for each channel.
        std: likewise.
        input_shape: (channels, height, width).

    Raises:
        ExportError: the program cannot be written as source.
    """
    with warnings.catch_warnings():
        # torch warns of deprecations in its own code.
        warnings.filterwarnings("ignore", category=FutureWarning, module=r"torch\.")
        program = torch.export.load(program_file)
    with TemporaryDirectory() as folder:
        file = Path(folder) / "network.py"
        file.write_text(source(program, mean, std, input_shape), encoding="utf-8")
        network: torch.nn.Module = _module(file).Model().network
    weights = {**program.state_dict, **program.constants}
    own = {name: weights[f"network.{name}"] for name in network.state_dict()}
    network.load_state_dict(own)
    return DeployedModel(network, mean, std).eval()


def _loaded(file: Path, weights: Path) -> DeployedModel:
    try:
        model: DeployedModel = _module(file).load(weights)
    except Exception as error:
        raise ExportError(
            f"the source written to {file.name} does not load its weights: "
            f"{type(error).__name__}: {str(error)[:300]}. Leave out the format 'pytorch'"
        ) from error
    return model


def _module(file: Path) -> ModuleType:
    """Import a file that this program has written, under a name of its own."""
    spec = importlib.util.spec_from_file_location(f"parti_network_{next(_numbers)}", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
