"""Metrics of classification against scikit-learn, and the odd cases."""

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from parti.core.errors import Diverged, InvalidData
from parti.tasks.classification import accuracy, metrics, report


def predictions(n, classes, seed=0, occurring=None):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, occurring or classes, (n,), generator=generator)
    logits = torch.randn(n, classes, generator=generator)
    logits[torch.arange(n), labels] += 1
    return logits, labels


@settings(max_examples=25, deadline=None)
@given(
    classes=st.integers(2, 12),
    n=st.integers(1, 80),
    seed=st.integers(0, 1000),
    occurring=st.integers(1, 12),
)
def test_metrics_equal_those_of_scikit_learn(classes, n, seed, occurring):
    logits, labels = predictions(n, classes, seed, min(occurring, classes))
    found = metrics(logits, labels)
    truth, guess = labels.numpy(), logits.argmax(1).numpy()
    precision, recall, f1, _ = sk.precision_recall_fscore_support(
        truth, guess, average="macro", zero_division=0
    )
    expected = {"accuracy": (truth == guess).mean(), "precision": precision, "recall": recall}
    shares = logits.double().softmax(1).numpy()
    expected |= {"f1": f1, "loss": -np.log(shares[np.arange(n), truth]).mean()}
    if classes > 5:
        best = np.argsort(-logits.numpy(), axis=1)[:, :5]
        expected["top5_accuracy"] = (best == truth[:, None]).any(1).mean()
    if len(np.unique(truth)) == classes:
        expected["auc"] = np.mean(
            [sk.roc_auc_score(truth == c, shares[:, c]) for c in range(classes)]
        )
    assert found == pytest.approx(expected, abs=1e-5)


def test_two_classes():
    logits, labels = predictions(60, 2)
    found = metrics(logits, labels)
    margin = (logits[:, 1] - logits[:, 0]).numpy()
    assert found["auc"] == pytest.approx(sk.roc_auc_score(labels.numpy(), margin), abs=1e-6)
    assert "top5_accuracy" not in found


def test_perfect_and_hopeless():
    labels = torch.arange(6)
    right = metrics(100 * torch.eye(6), labels)
    assert all(right[name] == 1 for name in ("accuracy", "f1", "auc", "top5_accuracy"))
    assert right["loss"] == pytest.approx(0)
    wrong = metrics(-100 * torch.eye(6), labels)
    assert all(wrong[name] == 0 for name in ("accuracy", "f1", "auc", "top5_accuracy"))


def test_absent_classes_leave_the_auc_out():
    logits, labels = predictions(40, 10, occurring=7)
    assert "auc" not in metrics(logits, labels)
    assert report(logits, labels, [str(i) for i in range(10)])["per_class"][9]["support"] == 0


def test_a_thousand_classes():
    logits, labels = predictions(3000, 1000)
    found = report(logits, labels, [f"c{i}" for i in range(1000)])
    assert 0 < found["accuracy"] < found["top5_accuracy"] < 1
    assert np.shape(found["confusion"]) == (1000, 1000)


def test_report_is_json_and_adds_up():
    logits, labels = predictions(200, 4)
    found = json.loads(json.dumps(report(logits, labels, ["a", "b", "c", "d"]), allow_nan=False))
    truth, guess = labels.numpy(), logits.argmax(1).numpy()
    assert found["confusion"] == sk.confusion_matrix(truth, guess).tolist()
    by_class = sk.precision_recall_fscore_support(truth, guess, zero_division=0)
    for i, row in enumerate(found["per_class"]):
        assert row["class"] == "abcd"[i]
        values = [row[name] for name in ("precision", "recall", "f1", "support")]
        assert values == pytest.approx([column[i] for column in by_class])
    assert found["accuracy"] == metrics(logits, labels)["accuracy"]


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_other_float_types(kind):
    logits, labels = predictions(50, 7)
    found = metrics(logits.to(kind), labels.to(torch.int32))
    assert found["accuracy"] == pytest.approx(accuracy(logits, labels), abs=0.05)
    assert all(math.isfinite(value) for value in found.values())


def test_gradients_are_not_followed():
    logits, labels = predictions(20, 3)
    assert metrics(logits.requires_grad_(), labels) == metrics(logits.detach(), labels)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_outputs_must_be_finite(value):
    logits, labels = predictions(20, 3)
    logits[3, 1] = value
    with pytest.raises(Diverged, match="NaN or infinity"):
        metrics(logits, labels)


@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [
        (torch.zeros(3, 2), torch.zeros(4), r"\(3, 2\) with labels \(4,\)"),
        (torch.zeros(3), torch.zeros(3), r"needed are"),
        (torch.zeros(0, 2), torch.zeros(0), "at least one image"),
        (torch.zeros(3, 2), torch.full((3,), 2), r"must lie in 0\.\.1"),
        (torch.zeros(3, 2), torch.full((3,), -1), r"must lie in 0\.\.1"),
    ],
)
def test_shapes_and_ranges_are_checked(logits, labels, message):
    with pytest.raises(InvalidData, match=message):
        metrics(logits, labels)


def test_class_names_must_fit():
    with pytest.raises(InvalidData, match="3 class names"):
        report(*predictions(20, 4), ["a", "b", "c"])
