"""Depthwise convolutions by parti's kernels, and by torch, forwards and backwards on a CPU.

The floor of one is three times the arithmetic of its forward pass (the output, the gradients of
images and weights), and reading or writing images five times. Each time is the least of some turns,
in turn, of processor time; images are channels-last.

    python -m benchmarks.bench_depthwise [--quick] [--threads N]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.tables import print_table
from parti.core.memory import keep_freed_memory
from parti.supernets.depthwise import KERNELS, convolve
from parti.supernets.fused_library import library

CASES = (
    *((96, 32, kernel, stride) for kernel in KERNELS for stride in (1, 2)),
    *((384, 8, kernel, 1) for kernel in KERNELS),
)


def seconds(function: Callable[..., Tensor], x: Tensor, weight: Tensor, stride: int) -> float:
    """Processor seconds of a forward and a backward pass."""
    began = time.process_time()
    out = function(x, weight, None, stride, weight.shape[-1] // 2, 1, x.shape[1])
    torch.autograd.grad(out, (x, weight), out.detach())
    return time.process_time() - began


def main(argv: Sequence[str] | None = None) -> list[tuple[str, ...]]:
    """Measure, print a table, and return its rows."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer images")
    parser.add_argument("--threads", type=int, default=1, help="of the CPU")
    options = parser.parse_args(argv)
    before, rows = torch.get_num_threads(), []
    keep_freed_memory()
    if library() is None:
        print("left out: there is no compiler here, so torch is all there is")
        return []
    try:
        torch.set_num_threads(options.threads)
        for channels, side, kernel, stride in CASES:
            x = torch.randn(8 if options.quick else 64, channels, side, side)
            x = x.contiguous(memory_format=torch.channels_last).requires_grad_()
            weight = torch.randn(channels, 1, kernel, kernel, requires_grad=True)
            ours, theirs = [], []
            for _ in range(3 if options.quick else 7):
                ours.append(seconds(convolve, x, weight, stride))
                theirs.append(seconds(F.conv2d, x, weight, stride))
            operations = 6 * x.numel() * kernel**2 / stride**2
            rows.append(
                (
                    f"{channels} channels, {side}x{side}, {kernel}x{kernel}, stride {stride}",
                    f"{1e3 * min(ours):.1f}",
                    f"{1e3 * min(theirs):.1f}",
                    f"{min(theirs) / min(ours):.1f}",
                    f"{operations / min(ours) / 1e9:.0f}",
                )
            )
    finally:
        torch.set_num_threads(before)
    print_table(("convolution", "ms", "torch ms", "times as fast", "GFLOP/s"), rows)
    return rows


if __name__ == "__main__":
    main()
