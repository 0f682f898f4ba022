"""The rules of the four words, and what their errors say."""

import pickle
import subprocess
import sys
from pathlib import Path
from random import Random

import cloudpickle
import pytest
import torch
from torch import nn

from parti import Joint, choose, one_of, repeat, sample, scope, size, some_of, space, validate
from parti.core.errors import InvalidArchitecture, SpaceError
from parti.core.program import Program
from parti.core.walks import architectures
from parti.testing import SPACES, SpaceSuite


class TestTiny(SpaceSuite):
    def make(self) -> Program:
        return SPACES["tiny"]


class TestWide(TestTiny):
    def make(self) -> Program:
        return SPACES["wide"]


class TestConditional(TestTiny):
    def make(self) -> Program:
        return SPACES["conditional"]


class TestRecursive(TestTiny):
    def make(self) -> Program:
        return SPACES["recursive"]


class TestDynamic(TestTiny):
    def make(self) -> Program:
        return SPACES["dynamic"]


@space
def small_cnn(in_channels: int = 1, classes: int = 10) -> nn.Module:
    width = choose("width", [4, 8])

    def block(i: int) -> nn.Module:
        return nn.Sequential(
            one_of(
                "op",
                {
                    "conv": lambda: nn.Conv2d(
                        width, width, k := choose("kernel", [3, 5]), padding=k // 2
                    ),
                    "skip": nn.Identity,
                },
            ),
            nn.ReLU(),
        )

    return nn.Sequential(
        nn.Conv2d(in_channels, width, 3, padding=1),
        repeat("depth", block, [1, 2]),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(width, classes),
    )


@space
def my_recipe() -> dict[str, float]:
    return {"lr": choose("lr", [0.1, 0.01]), "epochs": choose("epochs", [1, 2, 3])}


class TestNetworkProgram(SpaceSuite):
    def make(self) -> Program:
        return small_cnn

    def test_every_member_builds_and_names_carry_their_condition(self) -> None:
        members = list(architectures(small_cnn))
        # width x (one body: 3 ways + two bodies: 9 ways)
        assert len(members) == size(small_cnn) == 2 * (3 + 9)
        for architecture in members:
            network = small_cnn.build(architecture)
            assert network(torch.zeros(2, 1, 6, 6)).shape == (2, 10)
            kernels = [n for n in architecture if n.endswith("kernel")]
            assert all(n.startswith("depth[") and "]/op=conv/kernel" in n for n in kernels)
            assert len(kernels) == sum(o == "conv" for o in architecture.values())

    def test_arguments_are_bound(self) -> None:
        rgb = small_cnn(in_channels=3, classes=7)
        network = rgb.build(sample(rgb, Random(0)))
        assert network(torch.zeros(2, 3, 6, 6)).shape == (2, 7)

    def test_walking_takes_no_memory_and_no_random_numbers(self) -> None:
        @space(dynamic=True)
        def huge() -> nn.Module:
            return nn.Linear(10**6, 10**6 * choose("width", [1, 2]))

        before = torch.random.get_rng_state()
        assert len(list(architectures(huge))) == 2  # 4 TB each, if they were built
        assert torch.equal(before, torch.random.get_rng_state())

    def test_programs_that_compute_with_their_weights_are_walked_all_the_same(self) -> None:
        @space
        def scaled() -> nn.Module:
            layer = one_of("op", {"a": lambda: nn.Linear(2, 2), "b": lambda: nn.Linear(2, 3)})
            layer.scale = layer.weight.abs().max().item()
            return layer

        before = torch.random.get_rng_state()
        assert [a["op"] for a in architectures(scaled)] == ["a", "b"]
        assert torch.equal(before, torch.random.get_rng_state())

    def test_crosses_to_another_process(self) -> None:
        for made in (small_cnn, small_cnn(classes=3)):
            copy = pickle.loads(cloudpickle.dumps(made))
            assert copy.tree == made.tree
        assert pickle.loads(pickle.dumps(small_cnn(classes=3))).keywords == {"classes": 3}


class TestJoint(SpaceSuite):
    def make(self) -> Joint:
        return Joint(small_cnn, my_recipe)

    def test_builds_both_parts_of_one_architecture(self) -> None:
        joint = self.make()
        architecture = sample(joint, Random(0))
        assert isinstance(joint.build(architecture), nn.Sequential)
        recipe = joint.recipe.build(architecture)
        assert recipe["lr"] == architecture["recipe/lr"]
        assert size(joint) == 24 * 6


def test_the_same_name_is_the_same_decision() -> None:
    @space
    def stack() -> list[object]:
        return [one_of("op", {"a": lambda: choose("k", [1, 2]), "b": lambda: 0}) for _ in range(8)]

    assert size(stack) == 3
    for architecture in architectures(stack):
        assert len(set(stack.build(architecture))) == 1


def test_shared_bodies_decide_once() -> None:
    @space
    def cells() -> list[object]:
        return repeat("cells", lambda i: choose("k", [1, 2, 3]), [0, 2, 5], shared=True)

    assert size(cells) == 1 + 3 + 3
    for architecture in architectures(cells):
        built = list(cells.build(architecture))
        assert len(built) == architecture["cells"]
        assert len(set(built)) <= 1


def test_programs_compose_and_scopes_keep_them_apart() -> None:
    @space
    def two() -> list[object]:
        with scope("left"):
            left = my_recipe()
        with scope("right"):
            right = my_recipe()
        return [left, right]

    assert size(two) == 36
    assert list(sample(two, Random(0))) == ["left/lr", "left/epochs", "right/lr", "right/epochs"]


def test_a_class_is_a_space_too() -> None:
    @space
    class Net(nn.Module):
        def __init__(self, classes: int = 3) -> None:
            super().__init__()
            self.layer = nn.Linear(choose("width", [2, 4]), classes)

    network = Net(classes=5).build({"width": 4})
    assert network.layer.weight.shape == (5, 4)


def test_some_of_gives_modules_in_order() -> None:
    @space
    def branches() -> nn.Module:
        return some_of("in", {"a": nn.Identity, "b": nn.ReLU, "c": nn.SiLU}, k=2)

    assert size(branches) == 3
    built = branches.build({"in": ("a", "c")})
    assert isinstance(built, nn.ModuleDict)
    assert list(built) == ["a", "c"]


def test_endless_recursion_is_dynamic_and_an_error_when_it_does_not_end() -> None:
    def expression() -> object:
        with scope("x"):
            return one_of("kind", {"leaf": lambda: 0, "more": expression})

    endless = space(expression)
    assert endless.tree is None
    assert dict(endless.walk(lambda c: "leaf")) == {"x/kind": "leaf"}
    with pytest.raises(SpaceError, match="recurse"):
        endless.walk(lambda c: "more")


HERE = Path(__file__).name


@pytest.mark.parametrize(
    ("program", "said"),
    [
        (lambda: (choose("k", [1, 2]), choose("k", [1, 3])), ["'k'", HERE, "same decision"]),
        (lambda: (choose("k", ["a"]), one_of("k", {"a": dict})), ["'k'", "same decision"]),
        (lambda: choose("k", []), ["'k'", HERE, "at least one"]),
        (lambda: choose("k", [[1], [2]]), ["'k'", HERE, "[1]", "list"]),
        (lambda: choose("k", [1, 1.0]), ["'k'", "twice"]),
        (lambda: choose("k", [float("nan")]), ["'k'", "finite"]),
        (lambda: choose("k", "abc"), ["'k'", "list or tuple"]),
        (lambda: choose("", [1]), ["not empty"]),
        (lambda: choose("a=b", [1]), ["a=b"]),
        (lambda: one_of("op", {"a": nn.Identity()}), ["'op'", "lambda"]),
        (lambda: one_of("op", {3: nn.Identity}), ["'op'", "label 3"]),
        (lambda: one_of("op", [nn.Identity]), ["'op'", "dict"]),
        (lambda: some_of("op", {"a": dict, "b": dict}, k=3), ["'op'", "k=3", "0 to 2"]),
        (lambda: some_of("op", {str(i): dict for i in range(30)}, k=15), ["'op'", "split"]),
        (lambda: some_of("op", {"half": nn.Identity}, k=1), ["'op'", HERE, "'half'"]),
        (lambda: repeat("n", lambda i: i, [1, -1]), ["'n'", "-1"]),
        (
            lambda: one_of("op", {"ok": dict, "bad": lambda: nn.Linear("x", 2)}),
            ["'bad'", "'op'", HERE, "TypeError"],
        ),
        (lambda: repeat("n", lambda i: 1 // (1 - i), [1, 2]), ["body 1", "'n'", "ZeroDivision"]),
    ],
)
def test_programs_that_break_the_rules_are_told_where(program, said: list[str]) -> None:
    with pytest.raises(SpaceError) as caught:
        space(program).tree  # noqa: B018
    for part in said:
        assert part in str(caught.value)


def test_a_choice_outside_any_walk_names_the_line() -> None:
    with pytest.raises(SpaceError, match=rf"'k' at .*{HERE}:\d+ is asked outside any walk"):
        choose("k", [1])


def test_building_says_what_does_not_fit() -> None:
    good = {"width": 4, "depth": 1, "depth[0]/op": "skip"}
    small_cnn.build(good)
    for wrong, said in [
        ({**good, "width": 5}, r"'width' does not offer 5; its options are \[4, 8\]"),
        ({"width": 4}, "lacks choice 'depth'"),
        ({**good, "depth[1]/op": "skip"}, r"does not ask for \['depth\[1\]/op'\]"),
    ]:
        with pytest.raises(InvalidArchitecture, match=said):
            small_cnn.build(wrong)
        with pytest.raises(InvalidArchitecture):
            validate(small_cnn, wrong)


def test_calling_a_space_like_a_network_is_explained() -> None:
    with pytest.raises(SpaceError, match=r"is a space, not a network.*\.build"):
        small_cnn(1, 2, torch.zeros(1))


def test_missing_arguments_are_named() -> None:
    needs = space(lambda inputs, classes=2: choose("k", [1, 2]))
    with pytest.raises(SpaceError, match="needs arguments: inputs"):
        sample(needs, Random(0))


def test_a_dynamic_program_declared_static_is_refused() -> None:
    @space(dynamic=False)
    def grows() -> list[object]:
        return [choose(f"w{i}", [1, 2]) for i in range(choose("n", [1, 2]))]

    with pytest.raises(SpaceError, match="dynamic=False, but control flow depends"):
        grows.tree  # noqa: B018


def test_import_loads_no_torch_and_all_public_names_exist() -> None:
    code = (
        "import sys, parti; assert 'torch' not in sys.modules; parti.space; parti.Study; "
        "parti.search; assert 'torch' not in sys.modules, 'searching needs torch'; "
        "[getattr(parti, name) for name in parti.__all__]"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=120)
