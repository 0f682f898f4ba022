#!/usr/bin/env python3
"""Predict the classes of images with the model that lies beside this file.

    python predict.py photo.png other.jpg --top 3
    python predict.py photos/ images.npy --json
    python predict.py photo.png --model model_float32.onnx

    from predict import Model
    Model().predict(image)

Needs NumPy and ONNX Runtime, and Pillow for image files and for images of another size:

    pip install numpy onnxruntime pillow
"""

# ruff: noqa: T201 - this file becomes a program of its own, so it prints

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

try:
    import numpy as np
    import onnxruntime
except ImportError as error:
    raise SystemExit(
        f"predict.py: {error.name} is missing; install what it needs: "
        "pip install numpy onnxruntime pillow"
    ) from error

__all__ = ["MODEL", "Model", "PredictError", "Preparation", "find_model", "shares", "show"]

MODEL = "model.onnx"
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff")

CHANNELS = (1, 3, 4)
LAYOUTS = ("HW", "HWC", "CHW", "NHW", "NHWC", "NCHW")


class PredictError(ValueError):
    """The images or the model's files cannot be used."""


class Preparation:
    """How images become what the model takes, as model.json says.

    Args:
        folder: where model.json lies; by default beside this file.

    Attributes:
        info: what model.json says.
        classes: names, in the order of the logits.
        channels: of the model's images.
        height, width: of them, in pixels.
        value_range: least and largest pixel value.
        changed: what had to be changed in images so far, the first time each.

    Raises:
        PredictError: model.json is missing or broken.
    """

    def __init__(self, folder: str | Path | None = None) -> None:
        self.folder = Path(__file__).resolve().parent if folder is None else Path(folder)
        self.changed: dict[str, str] = {}
        try:
            info = json.loads((self.folder / "model.json").read_text(encoding="utf-8"))
            self.info: dict[str, Any] = info
            self.classes: list[str] = [str(name) for name in info["classes"]]
            self.channels, self.height, self.width = (int(size) for size in info["input_shape"])
            low, high = info["value_range"]
            self.value_range: tuple[float, float] = (float(low), float(high))
            self.temperature(MODEL)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise PredictError(
                f"{self.folder / 'model.json'} cannot be read ({type(error).__name__}: {error}); "
                "keep predict.py, model.json and the model together, as they were exported"
            ) from error

    def temperature(self, file: str) -> float:
        """Return what the logits of a file are divided by for probabilities; 1 where unknown."""
        found = self.info.get("temperatures", {}).get(file, self.info.get("temperature", 1))
        if not 0 < float(found) < float("inf"):
            raise PredictError(f"{self.folder / 'model.json'} has a temperature of {found}")
        return float(found)

    def prepare(self, images: Any, layout: str | None = None) -> np.ndarray[Any, Any]:
        """Bring images to [n, channels, height, width] float32, as in training."""
        if isinstance(images, str | Path):
            images = self._read(Path(images))
        elif hasattr(images, "getexif"):  # a Pillow image
            images = self._pixels(images)
        batch = self._in_nhwc(np.asarray(images), layout)
        self._check_values(batch)
        self._note(batch.shape[2], batch.shape[1], batch.shape[3] in (3, 4))
        batch = self._with_channels(batch)
        if batch.shape[1:3] != (self.height, self.width):
            batch = self._resized(batch)
        return np.ascontiguousarray(batch.transpose(0, 3, 1, 2), dtype=np.float32)

    def _note(self, width: int, height: int, colour: bool) -> None:
        """Remember what is about to be changed."""
        if (width, height) != (self.width, self.height):
            text = f"{width} × {height} pixels became {self.width} × {self.height}"
            self.changed.setdefault("size", text)
        if self.channels in (1, 3) and colour != (self.channels == 3):
            was, is_ = ("colour", "grey") if colour else ("grey", "colour")
            self.changed.setdefault("colour", f"{was} became {is_}")

    @property
    def _eight_bit(self) -> bool:
        return self.value_range == (0.0, 255.0)

    def _read(self, path: Path) -> np.ndarray[Any, Any]:
        if not path.is_file():
            raise PredictError(f"{path} is not a file")
        if path.suffix == ".npy":
            try:
                array: np.ndarray[Any, Any] = np.load(path, allow_pickle=False)
            except ValueError as error:
                raise PredictError(f"{path} is not an array of numbers: {error}") from error
            return array
        image_module = _pillow(f"to read {path}")
        try:
            with image_module.open(path) as image:
                return self._pixels(image)
        except OSError as error:  # Pillow's error for what it cannot read is one too
            raise PredictError(f"{path} is not an image that Pillow can read: {error}") from error

    def _pixels(self, image: Any) -> np.ndarray[Any, Any]:
        """Decode a Pillow image to (height, width, channels) as training did, resizing it."""
        from PIL import Image, ImageOps

        image = ImageOps.exif_transpose(image)
        deep = image.mode in ("I", "F") or image.mode.startswith("I;16")
        if deep and self._eight_bit:
            if image.mode == "F":
                raise PredictError("the image has floating-point pixels; the model takes 0 to 255")
            values = np.asarray(image, dtype=np.float32)
            image = Image.fromarray(np.rint(values.clip(0, 65535) / 257).astype(np.uint8))
        elif image.mode == "PA" or "transparency" in image.info:
            image = image.convert("RGBA")
        self._note(image.width, image.height, not deep and image.mode not in ("1", "L", "LA"))
        mode = ("L" if self._eight_bit else "F") if self.channels == 1 else "RGB"
        if image.mode != mode:
            image = image.convert(mode)
        if image.size != (self.width, self.height):
            image = image.resize((self.width, self.height), Image.Resampling.BILINEAR)
        return np.asarray(image).reshape(self.height, self.width, -1)

    def _in_nhwc(self, array: np.ndarray[Any, Any], layout: str | None) -> np.ndarray[Any, Any]:
        if array.dtype.kind not in "uifb" or array.size == 0:
            raise PredictError(
                f"an array of {array.dtype} and shape {array.shape} holds no images; give numbers"
            )
        layout = self._layout(array.shape) if layout is None else layout
        if layout not in LAYOUTS or len(layout) != array.ndim:
            raise PredictError(
                f"an array of shape {array.shape} cannot be read as {layout!r}; layouts are "
                f"{', '.join(LAYOUTS)}"
            )
        if "N" not in layout:
            array, layout = array[None], "N" + layout
        if "C" not in layout:
            array, layout = array[..., None], layout + "C"
        batch = array.transpose([layout.index(axis) for axis in "NHWC"])
        if batch.shape[3] not in {*CHANNELS, self.channels}:
            raise PredictError(
                f"images with {batch.shape[3]} channels; the model takes {self.channels}"
            )
        return batch

    def _layout(self, shape: tuple[int, ...]) -> str:
        """Guess what the axes of an array are: the model's own sizes first, then channel counts."""
        size = (self.height, self.width)
        if len(shape) == 2:
            return "HW"
        if len(shape) == 3:
            if shape == (*size, self.channels):
                return "HWC"
            if shape == (self.channels, *size):
                return "CHW"
            if self.channels == 1 and shape[1:] == size:
                return "NHW"
            return "HWC" if shape[2] in CHANNELS else "CHW" if shape[0] in CHANNELS else "NHW"
        if len(shape) == 4:
            if shape[1:] == (self.channels, *size):
                return "NCHW"
            last = shape[3] in CHANNELS or shape[1:] == (*size, self.channels)
            return "NHWC" if last else "NCHW"
        raise PredictError(
            f"an array of shape {shape} is no image; give 2 to 4 dimensions: {', '.join(LAYOUTS)}"
        )

    def _check_values(self, batch: np.ndarray[Any, Any]) -> None:
        low, high = self.value_range
        least, most = float(batch.min()), float(batch.max())
        if not (np.isfinite(least) and np.isfinite(most)):
            raise PredictError("the images hold NaN or infinite values")
        slack = 0.5 if self._eight_bit else 0.5 * (high - low)
        wrong = least < low - slack or most > high + slack
        scaled = self._eight_bit and batch.dtype.kind == "f" and 0 < most <= 1
        if wrong or scaled:
            raise PredictError(
                f"pixels between {least:g} and {most:g}, but the model takes {low:g} to {high:g}, "
                "not normalised" + ("; multiply by 255" if scaled else "")
            )

    def _with_channels(self, batch: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Drop transparency, and turn grey to colour or colour to grey, where it is needed."""
        if batch.shape[3] == 4 != self.channels:
            batch = batch[..., :3]
        if batch.shape[3] == self.channels:
            return batch
        if batch.shape[3] == 1 and self.channels == 3:
            return np.repeat(batch, 3, axis=3)
        if batch.shape[3] == 3 and self.channels == 1:
            # Pillow's weights of red, green and blue, in the fixed point it uses.
            grey: np.ndarray[Any, Any] = batch @ np.array([19595, 38470, 7471]) / 65536
            if batch.dtype.kind in "ui":
                grey = np.floor(grey + 0.5)
            return grey[..., None].astype(batch.dtype)
        raise PredictError(
            f"images with {batch.shape[3]} channels; the model takes {self.channels}"
        )

    def _resized(self, batch: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        image_module = _pillow(
            f"to resize images of {batch.shape[2]} × {batch.shape[1]} pixels to "
            f"{self.width} × {self.height}"
        )
        kind = np.uint8 if batch.dtype == np.uint8 else np.float32
        resized = np.empty((len(batch), self.height, self.width, self.channels), kind)
        for i, image in enumerate(batch):
            for c in range(self.channels):
                plane = image_module.fromarray(np.ascontiguousarray(image[..., c], dtype=kind))
                resized[i, ..., c] = plane.resize(
                    (self.width, self.height), image_module.Resampling.BILINEAR
                )
        return resized


class Model(Preparation):
    """The exported model.

    Args:
        folder: where its files lie; by default beside this file.
        threads: CPU threads; 0 lets ONNX Runtime decide.
        file: the ONNX file: a name in the folder, or a path.

    Raises:
        PredictError: the files are missing or broken.
    """

    def __init__(
        self, folder: str | Path | None = None, threads: int = 0, file: str | Path = MODEL
    ) -> None:
        super().__init__(folder)
        path = find_model(self.folder, file)
        self._temperature = self.temperature(path.name)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:
            raise PredictError(f"{path} cannot be opened: {str(error)[:300]}") from error

    def predict(
        self, images: Any, top: int = 1, layout: str | None = None
    ) -> list[list[tuple[str, float]]]:
        """Name the most probable classes.

        Args:
            images: the path of an image or .npy file, a Pillow image, or an array: one image or
                a batch, as (height, width), (height, width, channels), (channels, height, width)
                or a batch of these; uint8, or numbers in the model's value range.
            top: how many classes.
            layout: how to read an array, for instance "NCHW"; by default by its shape.

        Returns:
            For each image, (class, probability) pairs, the most probable first.

        Raises:
            PredictError: the images cannot be used.
        """
        logits = self.logits(images, layout)
        order = np.argsort(-logits, axis=1, kind="stable")[:, : max(1, top)]
        return [
            [(self.classes[k], float(row[k])) for k in best]
            for row, best in zip(shares(logits, self._temperature), order, strict=True)
        ]

    def probabilities(self, images: Any, layout: str | None = None) -> np.ndarray[Any, Any]:
        """Compute the probability of every class, [n, classes]; arguments as in `predict`.

        Logits are divided by the temperature in model.json, if one was fitted; no class changes.
        """
        return shares(self.logits(images, layout), self._temperature)

    def logits(self, images: Any, layout: str | None = None) -> np.ndarray[Any, Any]:
        """Compute the model's logits, [n, classes] float32; arguments as in `predict`."""
        ready = self.prepare(images, layout)
        name = self._session.get_inputs()[0].name
        parts: list[Any] = [
            self._session.run(None, {name: ready[i : i + 256]})[0]
            for i in range(0, len(ready), 256)
        ]
        return np.concatenate(parts)


def shares(logits: np.ndarray[Any, Any], temperature: float) -> np.ndarray[Any, Any]:
    """Return softmax(logits / temperature), [n, classes] float64."""
    wide = logits.astype(np.float64) / temperature
    powers = np.exp(wide - wide.max(axis=1, keepdims=True))
    result: np.ndarray[Any, Any] = powers / powers.sum(axis=1, keepdims=True)
    return result


def find_model(folder: Path, file: str | Path = MODEL) -> Path:
    """Find an ONNX file, by its name in the model's folder or by its path.

    Raises:
        PredictError: it is in neither place.
    """
    for path in (folder / file, Path(file)):
        if path.is_file():
            return path
    known = ", ".join(sorted(found.name for found in folder.glob("*.onnx"))) or "none"
    raise PredictError(f"there is no {file} in {folder}; ONNX files there: {known}")


def _pillow(purpose: str) -> Any:
    try:
        from PIL import Image
    except ImportError as error:
        raise PredictError(f"Pillow is needed {purpose}: pip install pillow") from error
    return Image


def show(
    model: Model, named: list[str], top: int, as_json: bool, layout: str | None = None
) -> list[str]:
    """Print the classes of files and of images in folders; return what was changed in images."""
    found: list[dict[str, Any]] = []
    for path in [file for name in named for file in _files(name)]:
        results = model.predict(path, top, layout if path.endswith(".npy") else None)
        for index, best in enumerate(results):
            row = [{"class": name, "probability": p} for name, p in best]
            found.append({"file": path, "index": index, "top": row})
            if not as_json:
                label = path if len(results) == 1 else f"{path}[{index}]"
                print(f"{label}: " + ", ".join(f"{name} {p:.4f}" for name, p in best))
    if as_json:
        print(json.dumps({"predictions": found}, ensure_ascii=False))
    return list(model.changed.values())


def _files(name: str) -> list[str]:
    """A file, or the images in a folder and its folders, by name."""
    folder = Path(name)
    if not folder.is_dir():
        return [name]
    files = [str(path) for path in sorted(folder.rglob("*")) if path.suffix.lower() in SUFFIXES]
    if files:
        return files
    raise PredictError(f"{name} is a folder without images ({', '.join(SUFFIXES)})")


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit status, 1 when a file could not be used."""
    parser = argparse.ArgumentParser(prog="predict.py", description="Classify images.")
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="images, folders, .npy arrays")
    parser.add_argument("--top", type=int, default=1, help="how many classes to show (default 1)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--layout", choices=LAYOUTS, help="axes of .npy arrays (default: guessed)")
    beside = f"ONNX file, beside this program or a path (default {MODEL})"
    parser.add_argument("--model", default=MODEL, metavar="FILE", help=beside)
    options = parser.parse_args(arguments)
    try:
        model = Model(file=options.model)
        changed = show(model, options.images, options.top, options.json, options.layout)
    except PredictError as error:
        print(f"predict.py: {error}", file=sys.stderr)
        return 1
    if changed:
        print(f"predict.py: as in training, {'; '.join(changed)}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
