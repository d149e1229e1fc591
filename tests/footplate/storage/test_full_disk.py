"""Files that are read as a whole are not left half written when the disk is full."""

import json
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from footplate import Config
from footplate.cli.main import main
from footplate.evaluation import DumpResults, EvaluationContext
from footplate.records import LocalVisBackend
from footplate.visualization import Visualizer
from footplate_vision.detection import CocoMetric
from footplate_vision.segmentation import IoUMetric
from tests.support import TINY

_NOISE = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
_LINE = json.dumps({"lr": 0.1, "loss": 1.0, "step": 1}) + "\n"


@contextmanager
def full_disk() -> Iterator[None]:
    """Makes every write after the first 10 bytes of a file fail, whatever code writes it."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def _dump_results() -> None:
    metric = DumpResults("predictions.pkl")
    metric.context = EvaluationContext(folder=".")
    metric.compute_metrics([{"scores": list(range(100))}])


def _format_masks() -> None:
    metric = IoUMetric(format_only=True, output_dir="masks")
    metric.dataset_meta = {"classes": ["a", "b"]}
    sample = {"pred_sem_seg": {"data": torch.from_numpy(_NOISE[None, :, :, 0] % 2)}, "img_path": "1.jpg"}
    metric.process({}, [sample])


def _write_boxes() -> None:
    metric = CocoMetric(format_only=True, outfile_prefix="boxes")
    metric.dataset_meta = {"classes": ["a"]}
    metric.context = EvaluationContext(folder=".")
    found = {"bboxes": [[0.0, 0.0, 1.0, 1.0]], "scores": [0.5], "labels": [0]}
    metric.process({}, [{"img_id": 1, "pred_instances": found}])
    metric.compute_metrics(metric.results)


WRITERS: dict[str, Callable[[], Any]] = {
    "validation image": lambda: LocalVisBackend(".").add_image("val", _NOISE, 1),
    "test image": lambda: Visualizer().add_datasample("a", _NOISE, None, out_file="shown/a.jpg"),
    "dumped config": lambda: Config({"a": ["long"] * 9}).dump("dumped.yaml"),
    "predictions": _dump_results,
    "masks for a submission": _format_masks,
    "boxes for a submission": _write_boxes,
}


@pytest.mark.parametrize("name", WRITERS)
def test_full_disk_leaves_no_partial_file(name: str, current_folder: Path) -> None:
    Path("scalars.json").write_text(_LINE)
    with full_disk(), pytest.raises(OSError, match="File too large"):
        WRITERS[name]()
    assert [str(each) for each in Path().rglob("*") if each.is_file()] == ["scalars.json"]
    WRITERS[name]()  # succeeds, so the failure was due to the full disk
    written = {each: each.read_bytes() for each in Path().rglob("*") if each.is_file()}
    assert len(written) > 1
    with full_disk(), pytest.raises(OSError, match="File too large"):
        WRITERS[name]()
    assert {each: each.read_bytes() for each in Path().rglob("*") if each.is_file()} == written


def test_command_leaves_no_partial_file(current_folder: Path) -> None:
    arguments = ["explain", "tiny.py", "--dump", "found.json"]
    Path("tiny.py").write_text(TINY)
    with full_disk():
        code = main(arguments)
    assert code == 2
    assert sorted(str(each) for each in Path().iterdir()) == ["tiny.py"]
    assert main(arguments) == 0
    assert Path("found.json").stat().st_size > 10
