"""Memory that a runtime needs for a model, measured in a fresh process."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory

from torch import nn

from parti.core.errors import TrialError
from parti.evaluators.runtimes.runtime import Prepared, Setting

__all__ = ["MEMORY", "memory_bytes"]

MEMORY = "rise of the peak resident memory of a fresh process that opens the model and calls it"
"""What `memory_bytes` measures. The runtime itself is loaded before, but not the plug-ins that
OpenVINO loads with its first model (some 45 MB)."""

CALLS = 5
CLEAR, STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")


def memory_bytes(
    prepared: Prepared, runtime: str, input_shape: tuple[int, ...], setting: Setting
) -> int | None:
    """Measure the memory for weights, arenas and buffers.

    Args:
        prepared: a file that the runtime opens, or a network on the CPU.
        runtime: its name.
        input_shape: (channels, height, width).
        setting: batch, threads and precision.

    Returns:
        Bytes; None on other systems than Linux, which do not tell a process's peak.

    Raises:
        TrialError: the model does not run there.
    """
    if not STATUS.exists():
        return None
    with TemporaryDirectory() as folder:
        file = prepared if isinstance(prepared, Path) else _pickled(prepared, Path(folder))
        request = {
            "file": str(file),
            "runtime": runtime,
            "shape": [setting.batch, *input_shape],
            "setting": [setting.batch, setting.threads, setting.precision],
        }
        command = [sys.executable, "-W", "ignore", "-m", __name__, json.dumps(request)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it was ended"])[-1]
        raise TrialError(
            f"the memory of the model in {runtime!r} cannot be measured: {last:.300}. Measure "
            "without memory"
        )
    return int(done.stdout.split()[-1])


def _pickled(network: nn.Module, folder: Path) -> Path:
    import cloudpickle

    file = folder / "network.pickle"
    file.write_bytes(cloudpickle.dumps(network))
    return file


def _measured(request: dict[str, object]) -> int:
    """Open and call the model in this process; return by how much its memory peaked."""
    import cloudpickle

    from parti.evaluators.runtimes import load_runtime
    from parti.evaluators.runtimes.measuring import random_images, torch_threads

    runtime = load_runtime(str(request["runtime"]))
    import_module(runtime.library)
    setting = Setting(*request["setting"])  # type: ignore[misc]
    images = random_images(request["shape"])  # type: ignore[arg-type]
    file = Path(str(request["file"]))
    CLEAR.write_text("5")  # forget the peak so far
    before = _status("VmRSS")
    prepared: Prepared = file
    if file.suffix == ".pickle":
        prepared = cloudpickle.load(io.BytesIO(file.read_bytes()))  # written by this program
    with torch_threads(setting.threads), runtime.open(prepared, images, setting) as call:
        for _ in range(CALLS):
            call()
        return max(0, _status("VmHWM") - before)


def _status(name: str) -> int:
    """Bytes of a line of /proc/self/status, which counts in KiB."""
    for line in STATUS.read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1]) * 1024
    raise OSError(f"{STATUS} has no {name}")


if __name__ == "__main__":
    print(_measured(json.loads(sys.argv[1])))  # noqa: T201 - its answer to the process that asked
