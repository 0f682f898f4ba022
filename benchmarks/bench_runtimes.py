"""One network on every runtime in every precision, side by side.

    python -m benchmarks.bench_runtimes                      # ResNet-20 and a member of "residual"
    python -m benchmarks.bench_runtimes --model STUDY/model  # and an exported model
    python -m benchmarks.bench_runtimes --int8 model.onnx    # and a quantized file of ResNet-20

All are timed in turn, 20 ms each, on one thread. Ratios are to PyTorch eager in float32.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from random import Random

import torch
from torch import nn

from parti.core.walks import sample
from parti.deploy.formats.pytorch import rebuilt
from parti.deploy.model import DeployedModel
from parti.evaluators.runtimes import RUNTIMES, unavailable
from parti.evaluators.runtimes.memory import MEMORY
from parti.evaluators.runtimes.profile import Contender, Profile, profile
from parti.networks.known import known_network
from parti.spaces.catalogue import load_space

SHAPE = (3, 32, 32)
HEAD = "| runtime | precision | ms | p95 | ratio | images/s | cold s | file KiB | memory MiB |"


def networks(seed: int) -> dict[str, nn.Module]:
    torch.manual_seed(seed)
    space = load_space("residual", 3, 10, 32)
    plain = {
        "ResNet-20": known_network("resnet20", in_channels=3, classes=10, resolution=32),
        f'member of "residual", seed {seed}': space.build(sample(space, Random(seed))),
    }
    return {name: DeployedModel(net, [120.0] * 3, [60.0] * 3).eval() for name, net in plain.items()}


def exported(folder: Path) -> tuple[nn.Module, tuple[int, ...]]:
    told = json.loads((folder / "model.json").read_text())
    shape = tuple(told["input_shape"])
    return rebuilt(folder / "model.pt2", told["mean"], told["std"], shape), shape


def contenders(network: nn.Module, int8: Path | None) -> list[Contender]:
    found = []
    for runtime in ("torch", *(name for name in RUNTIMES if name != "torch")):
        for precision in ("float32", "bfloat16"):
            if reason := unavailable(runtime, precision):
                print(f"- {runtime}, {precision}: {reason}")
            else:
                found.append(Contender(network, runtime, precision))
        if int8 is not None and runtime in ("onnxruntime", "openvino") and not unavailable(runtime):
            found.append(Contender(int8, runtime))
    return found


def table(title: str, profiles: list[Profile]) -> None:
    first = profiles[0]
    print(f"\n### {title}\n\n{HEAD}\n{'|---' * HEAD.count(' | ')}|---|")
    for one in profiles:
        memory = "–" if one.memory_bytes is None else f"{one.memory_bytes / 2**20:.0f}"
        print(
            f"| {one.runtime} | {one.precision} | {one.latency.median_ms:.3f} "
            f"| {one.latency.p95_ms:.3f} | {one.latency.median_ms / first.latency.median_ms:.2f} "
            f"| {one.images_per_second:,.0f} | {one.cold_seconds:.1f} "
            f"| {one.file_bytes / 1024:,.0f} | {memory} |"
        )
    print(f"\nLatency: {first.latency.conditions}\nThroughput: {first.throughput_conditions}")
    print(f"Memory: {MEMORY}\nEnergy: {first.energy}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, help="folder of an exported model")
    parser.add_argument("--int8", type=Path, help="quantized ONNX file of the first network")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, default=64, help="of throughput")
    parser.add_argument("--no-memory", action="store_true")
    chosen = parser.parse_args()
    asked = [(name, net, SHAPE) for name, net in networks(chosen.seed).items()]
    if chosen.model is not None:
        asked.append((str(chosen.model), *exported(chosen.model)))
    for i, (name, network, shape) in enumerate(asked):
        profiles = profile(
            contenders(network, chosen.int8 if i == 0 else None),
            shape,
            throughput_batch=chosen.batch,
            threads=chosen.threads,
            memory=not chosen.no_memory,
        )
        table(name, profiles)


if __name__ == "__main__":
    main()
