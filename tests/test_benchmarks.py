"""Benchmarks run and print what they promise."""

import pytest
from benchmarks import __main__ as all_benchmarks


@pytest.mark.slow
def test_every_benchmark_prints_its_table(capsys: pytest.CaptureFixture[str]) -> None:
    all_benchmarks.main(["--quick"])
    said = capsys.readouterr().out
    promised = ["import parti", "parti --help", "sample", "mutate", "add and finish"]
    promised += ["loop, random, serial", "two workers, one thread each", "images/s"]
    promised += ["times as fast as 512 at once", "and memory kept", "sum / latency"]
    for row in promised:
        assert row in said
