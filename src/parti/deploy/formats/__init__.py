"""The formats of an exported model, by name: one file of this folder writes each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from parti.core.errors import InvalidSettings
from parti.deploy.check import Compute
from parti.deploy.model import DeployedModel

__all__ = ["FORMATS", "USUAL", "Format", "checked_formats"]


@dataclass(frozen=True, slots=True)
class Format:
    """A form of the model.

    Args:
        file: what it becomes, a file or a folder.
        module: of this package; its `write(model, input_shape, file)` makes the file, and
            returns what computes with the file alone.
        about: what it is for, in a line of the model's card.
        package: that must be installed to write and check it; also the extra's name.
        more: further files that it writes beside the first.
    """

    file: str
    module: str
    about: str
    package: str = ""
    more: tuple[str, ...] = ()

    def write(self, model: DeployedModel, input_shape: Sequence[int], folder: Path) -> Compute:
        """Write the model, on the CPU and in evaluation mode, into a folder.

        Args:
            model: the trained model.
            input_shape: (channels, height, width).
            folder: that exists.

        Returns:
            What computes logits with nothing but the files.

        Raises:
            PartiError: it cannot be written in this format.
        """
        module = import_module(f"{__name__}.{self.module}")
        compute: Compute = module.write(model, input_shape, folder / self.file)
        return compute


FORMATS: dict[str, Format] = {
    "onnx": Format(
        "model.onnx",
        "onnx",
        "the model for ONNX Runtime and others; any number of images per call",
    ),
    "safetensors": Format(
        "weights.safetensors",
        "safetensors",
        "the network's weights by name",
    ),
    "torch_export": Format(
        "model.pt2",
        "torch_export",
        "the same for PyTorch: `torch.export.load('model.pt2').module()`",
    ),
    "pytorch": Format(
        "network.py",
        "pytorch",
        "the network as readable PyTorch source, without parti: `from network import load`",
        more=("weights.safetensors",),
    ),
    "onnx_static": Format(
        "model-static.onnx",
        "onnx_static",
        "the model with every size fixed, one image per call, for compilers that need it",
    ),
    "openvino": Format(
        "model.xml",
        "openvino",
        "the model for OpenVINO, with its weights in model.bin; any number of images per call",
        package="openvino",
        more=("model.bin",),
    ),
    "executorch": Format(
        "model.pte",
        "executorch",
        "the model for ExecuTorch with XNNPACK, for phones; one image per call",
        package="executorch",
    ),
    "triton": Format(
        "triton",
        "triton",
        "a model repository for the Triton inference server, which wants its absolute path: "
        "`--model-repository=$PWD/triton`",
    ),
}
"""What can be exported."""

USUAL = ("onnx", "safetensors", "torch_export")
"""What a search exports; the others are made of these when they are asked for."""


def checked_formats(names: Sequence[str]) -> tuple[str, ...]:
    """Return names of formats, each once, if all can be written here.

    Args:
        names: keys of `FORMATS`, each also several with commas between.

    Raises:
        InvalidSettings: there is no such format, or its package is not installed.
    """
    wanted = tuple(dict.fromkeys(name.strip() for each in names for name in each.split(",")))
    if not wanted:
        raise InvalidSettings(f"no format was asked for; choose from {', '.join(FORMATS)}")
    for name in wanted:
        if name not in FORMATS:
            raise InvalidSettings(f"no format {name!r}; choose from {', '.join(FORMATS)}")
        package = FORMATS[name].package
        if package and find_spec(package) is None:
            raise InvalidSettings(
                f"format {name!r} needs the package {package!r}, which is not installed: "
                f"pip install 'parti[{package}]', or leave the format out"
            )
    return wanted
