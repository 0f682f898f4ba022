"""Channels are cut with all that depends on them, and only while accuracy holds."""

import copy
import itertools
from dataclasses import replace

import pytest
import torch
from torch import nn

from compression_makers import BODIES, RECIPE, SHAPE, trained, wide
from parti.core.errors import InvalidSettings, TrialError
from parti.deploy.check import onnx_logits
from parti.deploy.compression.kept import restored, snapshot
from parti.deploy.compression.lean import lean
from parti.deploy.compression.prune import cut_channels, prune
from parti.evaluators.complexity import complexity
from parti.evaluators.to_onnx import to_onnx
from parti.networks.heads import assemble, head
from parti.networks.operations import conv_norm_act
from training_makers import toy_data

DATA = toy_data()


@pytest.mark.parametrize("importance", ["l2", "taylor"])
@pytest.mark.parametrize("name", [name for name in BODIES if name != "shuffled"])
def test_every_way_of_sharing_channels_is_cut(name, importance, tmp_path):
    network = BODIES[name]()
    before = copy.deepcopy(network.state_dict())
    small = cut_channels(network, DATA, 0.6, importance=importance)
    cost, whole = complexity(small, SHAPE), complexity(network, SHAPE)
    assert 0 < cost.macs <= 0.6 * whole.macs
    assert cost.params < whole.params
    images = torch.randn(3, *SHAPE)
    logits = small(images)
    assert logits.shape == (3, 2)
    assert copy.deepcopy(small).train()(images).shape == (3, 2), "it can be tuned"
    for key, tensor in network.state_dict().items():
        assert torch.equal(tensor, before[key]), "the network given is left as it was"
    file = tmp_path / "small.onnx"
    file.write_bytes(to_onnx(small.eval(), SHAPE, quick=True))
    got = torch.from_numpy(onnx_logits(file)(images.numpy()))
    torch.testing.assert_close(got, logits, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("importance", ["l2", "taylor"])
def test_channels_that_do_nothing_go_first(importance):
    torch.manual_seed(0)
    network = assemble({"stem": conv_norm_act(1, 16), "head": head(16, 2)}).eval()
    nn.init.normal_(network.head.classifier.weight)
    dead = [1, 4, 8, 13]
    with torch.no_grad():
        for tensor in (network.stem.conv.weight, network.stem.norm.weight, network.stem.norm.bias):
            tensor[dead] = 0.0
        network.head.classifier.weight[:, dead] = 0.0
    small = cut_channels(network, DATA, 0.8, importance=importance)
    assert small.stem.conv.out_channels == 12
    images = torch.randn(4, *SHAPE)
    torch.testing.assert_close(small(images), network(images))


@pytest.mark.parametrize("share", [0.8, 0.5])
def test_each_layer_keeps_a_multiple_of_what_is_computed_at_once(share):
    """A network whose layers are mostly narrow: no layer is cut to an odd number of channels."""
    torch.manual_seed(0)
    widths = [8, 8, 8, 8, 16, 40, 96]
    layers = [conv_norm_act(i, o) for i, o in itertools.pairwise([1, *widths])]
    network = assemble({"body": nn.Sequential(*layers), "head": head(96, 2)}).eval()
    small = cut_channels(network, DATA, share)
    left = [layer.conv.out_channels for layer in small.body]
    assert sum(left) < sum(widths)
    multiples = [4, 4, 4, 4, 4, 8, 16]
    assert [n % size for n, size in zip(left, multiples, strict=True)] == [0] * len(widths)


@pytest.mark.parametrize("name", ["depthwise", "grouped", "dense", "summed", "group norm"])
def test_a_pruned_network_comes_back_from_tensors_and_numbers(name):
    network = BODIES[name]()
    small = cut_channels(network, DATA, 0.6)
    whole = lean(copy.deepcopy(network), SHAPE)
    again = restored(whole, snapshot(small)).eval()
    images = torch.randn(3, *SHAPE)
    assert torch.equal(again(images), small(images))
    again.train()(images).sum().backward()
    assert all(p.grad is None or p.grad.shape == p.shape for p in again.parameters())


def test_cuts_go_on_while_accuracy_holds_and_can_be_resumed():
    network, data = trained(16)
    kept = {}
    asked = {"recipe": RECIPE, "floor": 0.9, "threads": 1, "save": kept.update}
    pruned = prune(network, data, seconds=1e-9, **asked)
    assert len(pruned.cuts) == 1, "a second cut would take as long as the first"
    first = dict(kept)
    macs = complexity(pruned.network, SHAPE).macs
    gone_on = prune(
        network, data, load=lambda: first, seconds=first["cuts"][0]["seconds"] * 2, **asked
    )
    assert gone_on.cuts[0] == pruned.cuts[0]
    assert len(gone_on.cuts) > 1
    assert complexity(gone_on.network, SHAPE).macs <= macs
    assert all(cut.kept == (cut.val_accuracy >= 0.9) for cut in gone_on.cuts)


def test_a_floor_that_cannot_be_kept_leaves_the_network():
    network, data = wide(16), DATA
    pruned = prune(network, data, replace(RECIPE, epochs=1), floor=1.1)
    assert not any(cut.kept for cut in pruned.cuts)
    assert len(pruned.cuts) > 1
    sizes = [cut.macs for cut in pruned.cuts]
    assert sizes == sorted(sizes), "each next try cuts less"
    assert complexity(pruned.network, SHAPE).macs == complexity(network, SHAPE).macs


def test_what_cannot_be_cut_is_said():
    with pytest.raises(TrialError, match="channel"):
        cut_channels(BODIES["shuffled"](), DATA, 0.6)  # chunks must stay equal
    with pytest.raises(InvalidSettings, match=r"share=1.5"):
        cut_channels(wide(8), DATA, 1.5)
    with pytest.raises(InvalidSettings, match="must be 'macs'"):
        cut_channels(wide(8), DATA, 0.5, metric="bytes")
    linear = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
    with pytest.raises(TrialError, match="no layer has enough channels"):
        cut_channels(linear, DATA, 0.5)
    with pytest.raises(TrialError, match="no convolution or linear"):
        cut_channels(nn.Sequential(nn.AvgPool2d(4), nn.BatchNorm2d(1), nn.Flatten()), DATA, 0.5)
