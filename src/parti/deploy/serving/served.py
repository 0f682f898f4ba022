"""The model that is served: an exported folder, opened in ONNX Runtime and tried once."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from parti.core.errors import InvalidSettings
from parti.deploy.predict_template import MODEL, PredictError, Preparation, find_model

__all__ = ["ServedModel", "open_model"]

Floats = NDArray[np.float32]
TOGETHER = "keep the files of a folder written by `parti export` together"


class ServedModel:
    """A model that computes logits of raw pixels.

    Args:
        name: in URLs: letters, digits, dots, dashes and underscores.
        session: of ONNX Runtime, with one input and one output.
        preparation: how images become tensors.
        temperature: what logits are divided by for probabilities; those of `logits` are not.

    Attributes:
        input: name of the input.
        output: name of the output.
        shape: (channels, height, width) of an image.
        classes: names, in the order of the logits.
    """

    def __init__(
        self, name: str, session: Any, preparation: Preparation, temperature: float = 1.0
    ) -> None:
        self.name = name
        self.temperature = temperature
        self.input: str = session.get_inputs()[0].name
        self.output: str = session.get_outputs()[0].name
        self.shape = preparation.channels, preparation.height, preparation.width
        self.classes = tuple(preparation.classes)
        self._session = session
        self._preparation = preparation

    def prepare(self, image: Any) -> Floats:
        """Make [1, channels, height, width] of an upright or turned Pillow image, as in training.

        Raises:
            PredictError: its values cannot be pixels of this model.
            OSError: it cannot be decoded.
        """
        prepared: Floats = self._preparation.prepare(image)
        return prepared

    def logits(self, images: Floats) -> Floats:
        """Compute logits [n, classes] of raw pixels [n, channels, height, width], all at once."""
        computed: Floats = self._session.run([self.output], {self.input: images})[0]
        return computed


def open_model(folder: Path, file: str | None = None, threads: int = 0) -> ServedModel:
    """Open an exported model, and compute with it once.

    Args:
        folder: what `parti export` or a search has written, with model.json.
        file: the ONNX file, in the folder or a path; model.onnx unless given.
        threads: of ONNX Runtime for one computation; 0 lets it decide.

    Returns:
        The model, ready to serve.

    Raises:
        InvalidSettings: the folder is no exported model, a file is not what was exported, or it
            does not compute one row of logits for each image.
    """
    try:
        preparation = Preparation(folder)
        path = find_model(folder, file or MODEL)
    except PredictError as error:
        raise InvalidSettings(
            f"{error}. Name a finished study, or a folder written by `parti export --to onnx`"
        ) from error
    info = preparation.info
    content = path.read_bytes()
    recorded = info.get("files", {}).get(path.name) if path.parent == folder else None
    if recorded and recorded["sha256"] != hashlib.sha256(content).hexdigest():
        raise InvalidSettings(
            f"{path} is not the file that was exported: its SHA-256 differs from that in "
            f"model.json. Export the model again, and {TOGETHER}"
        )
    session = _session(path, threads)
    inputs, outputs = session.get_inputs(), session.get_outputs()
    if len(inputs) != 1 or len(outputs) != 1 or inputs[0].type != "tensor(float)":
        raise InvalidSettings(
            f"{path} has {len(inputs)} inputs (of {inputs[0].type}) and {len(outputs)} outputs; "
            "only models of one float32 input and one output can be served"
        )
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", str(info.get("name") or folder.resolve().name))
    own = name.strip("-.") or "model"
    model = ServedModel(own, session, preparation, preparation.temperature(path.name))
    _try(model, path)
    return model


def _session(path: Path, threads: int) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3  # errors only
    # Threads that wait for work by spinning take the cores from the server's own.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise InvalidSettings(
            f"ONNX Runtime {onnxruntime.__version__} cannot open {path}: {str(error)[:300]}. "
            "Export the model again"
        ) from error


def _try(model: ServedModel, path: Path) -> None:
    """Compute once, so that the first client meets a warm model, and a wrong one meets none."""
    for images in (1, 2):
        try:
            shape = model.logits(np.zeros((images, *model.shape), np.float32)).shape
        except Exception as error:
            raise InvalidSettings(
                f"{path} cannot compute {images} image(s) of {model.shape}, the input_shape in "
                f"model.json: {str(error)[:300]}. {TOGETHER.capitalize()}"
            ) from error
        if shape != (images, len(model.classes)):
            raise InvalidSettings(
                f"{path} gives {shape} for {images} image(s), but model.json names "
                f"{len(model.classes)} classes. {TOGETHER.capitalize()}"
            )
