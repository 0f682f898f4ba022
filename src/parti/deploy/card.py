"""The card of an exported model: what it is, how good, under which conditions, how to use it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from parti.deploy.formats import FORMATS

__all__ = ["FLOAT32", "card"]

FLOAT32 = "model_float32.onnx"
"""The version in float32, beside a model.onnx that computes in 8-bit integers."""

_FILES = {form.file: form.about for form in FORMATS.values()} | {
    "model.bin": "the weights of model.xml",
    FLOAT32: "the version in float32 that model.onnx was rounded from, to 8-bit integers",
    "predict.py": "predicts the classes of images; needs NumPy and ONNX Runtime only",
}

_LIMITS = (
    "It knows only the classes above and always answers with one of them, also for images of "
    "something else. The metrics hold for images like those it was trained on; its "
    "probabilities were not calibrated."
)

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
        _section("Data", described.get("data")),
        _section("Training", described.get("training")),
        _metrics(described),
        _section("Limits", described.get("limits") or _LIMITS),
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
    shown = ", ".join(classes[:20]) + (f", … ({len(classes)})" if len(classes) > 20 else "")
    rows = [
        ("Classes", shown),
        ("Input", f"`images`: float32 [batch, {shape}], raw pixels from {low:g} to {high:g}"),
        ("Output", f"`logits`: float32 [batch, {len(classes)}]; softmax gives probabilities"),
        ("Parameters", f"{described['params']:,}"),
    ]
    if described.get("architecture"):
        pairs = (f"{name} = {option}" for name, option in described["architecture"].items())
        rows.append(("Architecture", "; ".join(pairs)))
    return _table(("", ""), rows)


def _metrics(described: Mapping[str, Any]) -> str:
    metrics = described.get("metrics") or {}
    conditions = described.get("conditions") or {}
    if not metrics:
        return ""
    rows = [
        (
            name,
            f"{value:.6g}" if isinstance(value, int | float) else str(value),
            str(conditions.get(name, "not stated")),
        )
        for name, value in metrics.items()
    ]
    return "## Metrics\n\n" + _table(("Metric", "Value", "Conditions"), rows)


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
        (f"`{name}`", f"{size / 1024:,.1f} KiB", _FILES.get(name, ""))
        for name, size in sizes.items()
    ]
    checked = [
        f"{name}: largest difference of a logit {facts['difference']:.2g} "
        f"(allowed {facts['tolerance']:.2g}) on {facts['images']} images"
        for name, facts in described["agreement"].items()
    ]
    text = "## Files\n\n" + _table(("File", "Size", "What it is"), rows)
    return text + "\n\nChecked against the trained model: " + "; ".join(checked) + "."


def _section(title: str, content: Any) -> str:
    if not content:
        return ""
    if isinstance(content, Mapping):
        content = _table(("", ""), [(str(key), str(value)) for key, value in content.items()])
    elif isinstance(content, list):
        content = "\n".join(f"- {item}" for item in content)
    return f"## {title}\n\n{content}"


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in line) + " |"
        for line in lines
    )
