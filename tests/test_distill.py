"""Distillation: the paper's loss, and a student that learns from teachers alone."""

import copy
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from compression_makers import RECIPE, trained, wide
from parti.core.errors import InvalidSettings
from parti.deploy.compression.distill import chosen_teachers, distill, distillation_loss
from parti.evaluators.feed import as_tensor
from parti.evaluators.trained import predict
from parti.tasks.classification import accuracy
from training_makers import small_network, toy_data


def val_accuracy(network, data) -> float:
    logits = predict(network, data.val_images, mean=data.mean, std=data.std)
    return accuracy(logits, as_tensor(data.val_labels))


def test_its_gradient_is_that_of_the_paper():
    """Equation 2: the gradient of the soft cross-entropy is (q - p) / T; T squared scales it."""
    torch.manual_seed(0)
    z, v = torch.randn(3, 5, requires_grad=True), torch.randn(3, 5)
    temperature = 3.0
    answers = (v / temperature).softmax(1)
    distillation_loss(z, answers, torch.zeros(()), temperature, 1.0).backward()
    wanted = temperature * ((z / temperature).softmax(1) - answers) / 3
    torch.testing.assert_close(z.grad, wanted.detach())


def test_alpha_0_is_the_loss_of_the_labels_and_equal_answers_cost_nothing():
    z = torch.randn(4, 3)
    hard = F.cross_entropy(z, torch.tensor([0, 1, 2, 0]))
    same = (z / 2).softmax(1)
    torch.testing.assert_close(distillation_loss(z, same * 0 + 1 / 3, hard, 2.0, 0.0), hard)
    torch.testing.assert_close(distillation_loss(z, same, hard, 2.0, 0.5), hard / 2)


def test_a_student_learns_from_a_teacher_though_all_labels_lie():
    teacher, data = trained(8)
    lied = replace(data, train_labels=1 - data.train_labels)
    before = copy.deepcopy(teacher.state_dict())
    student = distill(small_network(), [teacher], lied, RECIPE, alpha=1.0, threads=1)
    assert val_accuracy(student, data) > 0.9
    assert all(torch.equal(before[k], v) for k, v in teacher.state_dict().items())
    again = distill(
        copy.deepcopy(small_network()), [teacher], lied, replace(RECIPE, epochs=1), threads=1
    )
    assert not student.training
    assert not again.training


def test_the_same_seed_gives_the_same_student():
    teacher, data = trained(8, 60)
    recipe = replace(RECIPE, epochs=2, mixup=0.2, average="ema")
    students = []
    for _ in range(2):
        torch.manual_seed(3)
        students.append(distill(small_network(), [teacher], data, recipe, seed=5, threads=1))
    first, second = (student.state_dict() for student in students)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_teachers_are_chosen_by_validation_accuracy():
    good, data = trained(8)
    useless = wide(8).eval()
    teachers, right = chosen_teachers(useless, [good, wide(8).eval()], data)
    assert teachers[:2] == [useless, good]
    assert right > val_accuracy(useless, data)
    assert chosen_teachers(good, [useless], data)[0] == [good]


@pytest.mark.parametrize(("setting", "value"), [("temperature", 0.0), ("alpha", 1.1)])
def test_settings_that_make_no_sense(setting, value):
    with pytest.raises(InvalidSettings, match=setting):
        distill(wide(8), [wide(8)], toy_data(), RECIPE, **{setting: value})
    with pytest.raises(InvalidSettings, match="at least one teacher"):
        distill(wide(8), [], toy_data(), RECIPE)
