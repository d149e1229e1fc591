import re
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch.distributed as dist

from footplate.config import Config
from footplate.data import BaseDataset, Compose
from footplate.engine import EpochBasedTrainLoop, Hook
from footplate.errors import DataError, MissingExtraError
from footplate.models import BaseDataPreprocessor
from footplate.registry import DATASETS, HOOKS, LOOPS, MODELS
from footplate.tools.check import check
from footplate.tools.failing_module import ComponentError
from tests.footplate.distributed.conftest import OnRanks, on_ranks  # noqa: F401 - a fixture
from tests.support import TINY, Points, ToyModel, settings


def written(folder: Path, text: str) -> Config:
    (folder / "tiny.py").write_text(text)
    cfg = Config.fromfile(str(folder / "tiny.py"))
    cfg["work_dir"] = str(folder / "work")
    return cfg


@MODELS.register_module()
class MeetingPreprocessor(BaseDataPreprocessor):
    """Waits for the other ranks, as one that resizes the images of all ranks to the same random size."""

    def forward(self, data: Any, training: bool = False) -> Any:
        dist.barrier()
        return super().forward(data, training)


def told(folder: Path, wrapper: str) -> str:
    tempfile.tempdir = str(folder)
    cfg = Config.fromfile(str(folder / "tiny.py"))
    cfg["work_dir"], cfg["launcher"], cfg["model_wrapper_cfg"] = str(folder / "work"), "pytorch", {"type": wrapper}
    cfg["default_hooks"]["checkpoint"]["interval"] = 1
    cfg["model"]["data_preprocessor"] = {"type": "MeetingPreprocessor"}
    return check(cfg).text


def test_check_shows_the_memory_and_the_batch_of_each_rank(tmp_path: Path, on_ranks: OnRanks) -> None:  # noqa: F811
    (tmp_path / "tiny.py").write_text(TINY)
    for wrapper, kind in (("MMDistributedDataParallel", "DistributedDataParallel"), ("FullyShard", "FullyShard")):
        first, second = on_ranks(2, told, tmp_path, wrapper)
        assert first.splitlines()[0] == second.splitlines()[0]
        assert first.splitlines()[0].endswith("tiny.py: no problems found")
        lines = [line for line in first.splitlines() if line.startswith(("processes", "memory"))]
        assert lines[0] == f"processes   2, {kind} over gloo, 4 samples each and 8 in total per iteration"
        assert re.match(r"memory +at most (\d+ to )?\d+ MiB (on each rank|across the ranks), ", lines[1])
        assert not [each for each in tmp_path.iterdir() if each.name.startswith(("footplate-", "work"))]


def test_check_shows_the_memory_of_each_part(tmp_path: Path) -> None:
    ema = "custom_hooks = [dict(type='EMAHook')]\noptim_wrapper['optimizer'] = dict(type='AdamW', lr=0.1)\n"
    cfg = written(tmp_path, f"{TINY}\n{ema}")
    (line,) = (each for each in check(cfg).text.splitlines() if each.startswith("parts"))
    found = re.search(
        r"of the training memory: weights (\S+) B, gradients (\S+) B, optimizer (\S+) B, averages (\S+) B, "
        r"activations (\S+) B",
        line,
    )
    assert found, line
    weights, gradients, optimizer, averages, activations = map(int, found.groups())
    assert gradients == weights
    assert weights * 2 < optimizer <= weights * 2 + 64  # two moments, and the number of steps of each tensor
    assert weights < averages <= weights + 64  # and the number of updates
    assert activations > 0


@HOOKS.register_module()
class ValidationHook(Hook):
    """Records the events of a validation, and looks up a metric."""

    seen: list[Any]

    def __init__(self, metric: str) -> None:
        self.metric = metric
        type(self).seen = []

    def before_val(self, runner: Any) -> None:
        self.count = 0

    def after_val_iter(self, runner: Any, outputs: Any) -> None:  # type: ignore[override]
        self.count += len(outputs)

    def after_val_epoch(self, runner: Any, metrics: Any = None) -> None:
        runner.log("own", 1.0)
        own, recorded = metrics[self.metric], runner.message_hub.scalar(f"val/{self.metric}").current()
        self.seen.append((self.count, own == recorded == runner.val_loop.metrics[self.metric]))


def check_with_hook(folder: Path, metric: str, section: str = "custom_hooks[0]") -> None:
    text = TINY.replace("val_cfg = dict()", "val_cfg = dict(loss=True)")
    cfg = written(folder, f'{text}\n{section} = dict(type="ValidationHook", metric="{metric}")\n')
    check(cfg)


def test_check_calls_own_hooks_with_the_metrics_of_one_batch(tmp_path: Path) -> None:
    check_with_hook(tmp_path, "accuracy")
    assert ValidationHook.seen == [(4, True)]
    assert not (tmp_path / "work").exists()


@HOOKS.register_module()
class RefusingHook(Hook):
    """Refuses to start the first epoch, as MMDetection's NumClassCheckHook does for a wrong number of classes."""

    def before_train_epoch(self, runner: Any) -> None:
        raise AssertionError("3 classes, but 4 outputs")


@pytest.mark.parametrize("by_epoch", [True, False])
def test_failure_before_the_first_epoch_is_that_of_a_hook(tmp_path: Path, by_epoch: bool) -> None:
    length = {"by_epoch": True, "max_epochs": 1} if by_epoch else {"max_iters": 4, "by_epoch": False}
    cfg = settings(tmp_path, custom_hooks=[{"type": "RefusingHook"}], train_cfg=length)
    with pytest.raises(ComponentError, match="before_train_epoch of a hook fails: AssertionError: 3 classes") as caught:
        check(Config(cfg))
    assert caught.value.key == "custom_hooks"


class PairsOfBatches(EpochBasedTrainLoop):
    def run_iter(self, idx: int, data_batch: Any) -> None:
        runner = self.runner
        runner.call_hook("before_train_iter", batch_idx=idx, data_batch=data_batch)
        runner.model.train_step((data_batch, data_batch), optim_wrapper=runner.optim_wrapper)
        runner.call_hook("after_train_iter", batch_idx=idx, data_batch=data_batch, outputs={})
        self._iter += 1


class ModelOfPairs(ToyModel):
    def train_step(self, data: Any, optim_wrapper: Any) -> dict[str, Any]:
        first, second = data
        super().train_step(first, optim_wrapper)
        return super().train_step(second, optim_wrapper)


def test_check_does_not_step_the_model_in_place_of_a_users_loop(tmp_path: Path) -> None:
    LOOPS.register_module(module=PairsOfBatches, force=True)
    MODELS.register_module(module=ModelOfPairs, force=True)
    cfg = settings(tmp_path, train_cfg={"type": "PairsOfBatches", "max_epochs": 3}, model={"type": "ModelOfPairs"})
    text = check(Config(cfg)).text
    assert "with the first training iterations of PairsOfBatches; larger batches may need more" in text
    assert "train data" not in text


@DATASETS.register_module()
class UnreadableLists(BaseDataset):
    """Sixteen points, the first of which cannot be read."""

    def load_data_list(self) -> list[dict[str, Any]]:
        return [{"index": index} for index in range(16)]

    def prepare_data(self, idx: int) -> Any:
        if idx == 0:
            raise DataError("damaged")
        return Points(16)[idx]


def test_check_reports_unreadable_samples(tmp_path: Path) -> None:
    data = 'dict(type="UnreadableLists", on_error="skip"), num_workers=1'
    cfg = written(tmp_path, TINY.replace('dict(type="Points", size=16)', data))
    assert check(cfg).warnings == ["Skipping sample 0: damaged"]  # as in the log of training


@DATASETS.register_module()
class PointFiles(BaseDataset):
    """Sixteen points with a file each."""

    def load_data_list(self) -> list[dict[str, Any]]:
        return [{"img_path": f"{self.data_root}/{index}.txt"} for index in range(16)]

    def prepare_data(self, idx: int) -> Any:
        return Points(16)[idx]


def test_check_lists_missing_and_empty_files(tmp_path: Path) -> None:
    for index in range(16):
        (tmp_path / f"{index}.txt").write_text("x")
    (tmp_path / "3.txt").unlink()
    (tmp_path / "7.txt").write_text("")
    data = f'dict(type="PointFiles", data_root="{tmp_path}")'
    cfg = written(tmp_path, TINY.replace('dict(type="Points", size=16)', data))
    names = f"{tmp_path}/3.txt, {tmp_path}/7.txt"
    assert list(check(cfg).warnings) == [f"Missing or empty data files: {names}"]


@DATASETS.register_module()
class LabeledPoints(Points):
    """Points with labels for a task, one of which is not a class."""

    pipeline = Compose([])

    def __getitem__(self, index: int) -> Any:
        return self.pipeline({**super().__getitem__(index), "gt_label": 5 if index == 3 else 0, "img_path": f"{index}"})


@MODELS.register_module()
class PointModel(ToyModel):
    def forward(  # type: ignore[override]
        self, inputs: Any, labels: Any, gt_label: Any, img_path: Any, mode: str = "tensor"
    ) -> Any:
        return super().forward(inputs, labels, mode)


def test_check_shows_the_labels_and_warns_about_them(tmp_path: Path) -> None:
    text = TINY.replace('"Points"', '"LabeledPoints"').replace('"ToyModel"', '"PointModel"')
    cfg = written(tmp_path, text)
    checked = check(cfg)
    assert "labels      left 94%, label 5 6%, right 0%" in checked.text.splitlines()
    assert checked.warnings == [
        "Some labels are not between 0 and 1: label 5 in '3'.",
        "These classes have no samples in 'LabeledPoints': right.",
    ]


class PackValid:
    """Raises an error for a label that is not a class."""

    def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
        if results["gt_label"] > 1:
            raise DataError("the label is not a class")
        return results


@DATASETS.register_module()
class RefusedPoints(LabeledPoints):
    pipeline = Compose([PackValid()])

    def __getitem__(self, index: int) -> Any:
        return self.pipeline({**Points.__getitem__(self, index), "gt_label": index, "img_path": f"{index}"})


def test_check_lists_all_invalid_labels_before_the_error_at_one_of_them(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cfg = written(tmp_path, TINY.replace('"Points", size=16', '"RefusedPoints", size=5'))
    with pytest.raises(
        DataError, match=r"^sample \d of the dataset 'RefusedPoints' cannot be read: .* class"
    ) as caught:
        check(cfg)
    assert caplog.messages == ["Some labels are not between 0 and 1: label 2 in '2', label 3 in '3', label 4 in '4'."]
    assert caught.value.key == "train_dataloader.dataset"
    assert str(caught.value.origin).endswith("tiny.py:5")


def test_check_finds_a_missing_package_of_a_writer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    writers = "visualizer = dict(vis_backends=[dict(type='LocalVisBackend'), dict(type='TensorboardVisBackend')])\n"
    cfg = written(tmp_path, f"{TINY}\n{writers}")
    with pytest.raises(MissingExtraError, match="needs the package 'tensorboard'") as found:
        check(cfg)
    assert found.value.key == "visualizer.vis_backends[1]"


def test_check_warns_about_a_schedule_by_epoch_in_an_iteration_based_run(tmp_path: Path) -> None:
    schedules = [{"type": "StepLR", "step_size": 1}, {"type": "PolyLR", "by_epoch": False}]
    checked = check(Config(settings(tmp_path, by_epoch=False, param_scheduler=schedules)))
    assert [warning for warning in checked.warnings if "param_scheduler" in warning] == [
        "param_scheduler[0] counts epochs, but training counts iterations, so it never advances past its "
        "first value. Set param_scheduler[0].by_epoch=False."
    ]
