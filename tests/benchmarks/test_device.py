"""The benchmark of training steps on a device."""

import re

import pytest

from benchmarks import device


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of torch about DDP and FSDP on a CPU
def test_every_kind_of_row_runs_on_a_cpu(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("transformers")
    names, ranked = ["ResNet-50, AMP, activation checkpointing", "SegFormer-B0, AMP"], ["ResNet-50, AMP, FSDP2"]
    assert device.main(["--device", "cpu", "--rounds", "1", "--rows", *names, *ranked]) == 0
    rows = re.findall(r"^\| (.*?) \| ([\d.]+) ms \| ([\d.]+) ms \| ([\d.]+) \(", capsys.readouterr().out, re.MULTILINE)
    assert [name for name, *_ in rows if "boxes" not in name] == [*names, *(f"{name}, 2 ranks" for name in ranked)]
    assert all(float(value) > 0 for _, *values in rows for value in values)


def test_goals_are_judged_by_ratio() -> None:
    pairs = [(device.Result(0.010, 100.0), device.Result(seconds, 90.0, 2.0)) for seconds in (0.011, 0.0101, 0.0102)]
    cells, ratio = device.row("a step", pairs)
    assert (cells[3:], round(ratio, 3)) == (["1.020 (1.010–1.100)", "90 MiB (0.90)", "2.00"], 1.02)
