"""The card of an exported model: what it is, how good, under which conditions, how to use it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePath, PureWindowsPath
from typing import Any

from parti.deploy.formats import FORMATS

__all__ = ["FLOAT32", "card", "without_paths"]

FLOAT32 = "model_float32.onnx"
"""The version in float32, beside a model.onnx that computes in 8-bit integers."""

_FILES = {form.file: form.about for form in FORMATS.values()} | {
    "model.bin": "the weights of model.xml",
    FLOAT32: "the version in float32 that model.onnx was rounded from, to 8-bit integers",
    "predict.py": "predicts the classes of images; needs NumPy and ONNX Runtime only",
}

_LIMITS = (
    "It knows only the classes above and always answers with one of them, also for images of "
    "something else. The metrics hold for images like those it was trained on."
)

_NOT_CALIBRATED = (
    "Its probabilities were not calibrated: how sure it says it is need not be how often it is "
    "right."
)

_COUNTED = {
    "params": "counted: all numbers that were trained",
    "macs": "counted: multiplications of one image",
    "activation_bytes": "counted: the most that activations of one image take at once, float32",
    "bytes": "of model.onnx",
}
"""Conditions of metrics that depend on nothing but the network, where none are given."""

_USE = """## Use

```
pip install numpy onnxruntime pillow
python predict.py photo.png --top 3
```

```python
from predict import Model

model = Model()
model.predict(image)        # [[("class", probability), ...]], one list per image
```

An image is a file or an array of bytes or floats: (height, width), (height, width, channels),
(channels, height, width), or a batch of them. Images of another size are resized, grey and
colour are converted, as in training."""


def card(described: Mapping[str, Any]) -> str:
    """Write the card as Markdown.

    Args:
        described: the contents of model.json.

    Returns:
        The text of README.md.
    """
    parts = [
        f"# {described.get('name') or 'Image classifier'}",
        str(described.get("description") or _what(described)),
        _facts(described),
        _architecture(described),
        _section("Data", _data(described.get("data"))),
        _section("Training", described.get("training")),
        _metrics(described),
        _section("Limits", described.get("limits") or _LIMITS),
        _section("Probabilities", _probabilities(described)),
        _use(described),
        _files(described),
        _section("License", described.get("license") or "Not chosen yet: state one here."),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _what(described: Mapping[str, Any]) -> str:
    channels, height, width = described["input_shape"]
    kind = {1: "grey", 3: "RGB"}.get(channels, f"{channels}-channel")
    return (
        f"Sorts {kind} images of {width} × {height} pixels into {len(described['classes'])} "
        "classes. Its network was found by neural architecture search with parti."
    )


def _facts(described: Mapping[str, Any]) -> str:
    low, high = described["value_range"]
    shape = ", ".join(map(str, described["input_shape"]))
    classes = [str(name) for name in described["classes"]]
    rows = [
        ("Classes", _words(classes)),
        ("Input", f"`images`: float32 [batch, {shape}], raw pixels from {low:g} to {high:g}"),
        ("Output", f"`logits`: float32 [batch, {len(classes)}]; {_softmax(described)}"),
        ("Parameters", f"{described['params']:,}"),
    ]
    return _table(("", ""), rows)


def _softmax(described: Mapping[str, Any]) -> str:
    temperature = described.get("temperature")
    divided = "" if temperature is None else f" / {temperature:.4g}"
    return f"softmax(logits{divided}) gives probabilities"


def _architecture(described: Mapping[str, Any]) -> str:
    """A choice a line: the names are long, and there may be dozens."""
    chosen = described.get("architecture")
    if not chosen:
        return ""
    lines = "\n".join(f"{name} = {option}" for name, option in chosen.items())
    return f"## Architecture\n\n```\n{lines}\n```"


def _probabilities(described: Mapping[str, Any]) -> str:
    temperature = described.get("temperature")
    if temperature is None:
        return _NOT_CALIBRATED
    said = (
        f"A temperature of {temperature:.4g} was fitted on validation images, so that "
        f"{_softmax(described)} that can be believed for images like those; it changes no "
        "prediction. The files compute the network's own logits"
    )
    if "predict.py" not in described["files"]:
        return f"{said}: divide them by it."
    return f"{said}; predict.py, `parti predict` and /predict of `parti serve` divide them by it."


def _data(data: Any) -> Any:
    return without_paths(data) if isinstance(data, Mapping) else data


def without_paths(data: Mapping[str, Any]) -> dict[str, Any]:
    """What is said of data, with the last folder of its origin alone.

    The rest of a path tells of the machine on which it was trained, and of nobody else's.

    Args:
        data: what model.json says of it.
    """
    origin = data.get("origin")
    if not isinstance(origin, str):
        return dict(data)
    paths = (PurePath(origin), PureWindowsPath(origin))
    return {**data, "origin": next((p.name for p in paths if p.is_absolute()), origin)}


def _metrics(described: Mapping[str, Any]) -> str:
    metrics = described.get("metrics") or {}
    conditions = described.get("conditions") or {}
    if not metrics:
        return ""
    rows = [
        (name, _number(value), str(conditions.get(name) or _usual_condition(name)))
        for name, value in metrics.items()
    ]
    return "## Metrics\n\n" + _table(("Metric", "Value", "Conditions"), rows)


def _usual_condition(metric: str) -> str:
    """Under which condition a metric holds, where none is given."""
    if metric.startswith("val_"):
        return "validation images"
    return _COUNTED.get(metric, "not stated")


def _number(value: Any) -> str:
    """Whole numbers in full, others in six digits."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return f"{value:,.0f}" if abs(value) >= 1e4 or isinstance(value, int) else f"{value:.6g}"


def _use(described: Mapping[str, Any]) -> str:
    if "predict.py" not in described["files"]:
        return ""
    if FLOAT32 not in described["files"]:
        return _USE
    return f'{_USE}\n\nIn float32: `--model {FLOAT32}`, or `Model(file="{FLOAT32}")`.'


def _files(described: Mapping[str, Any]) -> str:
    sizes: dict[str, int] = {}
    for file, facts in described["files"].items():
        name = file.partition("/")[0]  # a folder is told of as a whole
        sizes[name] = sizes.get(name, 0) + facts["bytes"]
    rows = [
        (f"`{name}`", f"{size / 1024:,.1f} KiB", _about(name, described))
        for name, size in sizes.items()
    ]
    checked = [
        f"{name}: largest difference of a logit {facts['difference']:.2g} "
        f"(allowed {facts['tolerance']:.2g}) on {facts['images']} images"
        for name, facts in described["agreement"].items()
    ]
    text = "## Files\n\n" + _table(("File", "Size", "What it is"), rows)
    return text + "\n\nChecked against the trained model: " + "; ".join(checked) + "."


def _about(file: str, described: Mapping[str, Any]) -> str:
    """What a file is; of the weights, who reads them here."""
    about = _FILES.get(file, "")
    if file != FORMATS["safetensors"].file:
        return about
    readers = [FORMATS["pytorch"].file] if FORMATS["pytorch"].file in described["files"] else []
    if described.get("architecture"):
        readers.append("`parti.deploy.model.load_model` with the space that was searched")
    return f"{about}, for {' and '.join(readers)}" if readers else about


def _section(title: str, content: Any) -> str:
    if not content:
        return ""
    if isinstance(content, Mapping):
        content = _table(("", ""), [(str(key), _words(value)) for key, value in content.items()])
    elif isinstance(content, list):
        content = "\n".join(f"- {item}" for item in content)
    return f"## {title}\n\n{content}"


def _words(value: Any) -> str:
    """A value as text; of a list at most 20 entries."""
    if not isinstance(value, list):
        return str(value)
    shown = ", ".join(map(str, value[:20])) or "none"
    return f"{shown}, … ({len(value)})" if len(value) > 20 else shown


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in line) + " |"
        for line in lines
    )
