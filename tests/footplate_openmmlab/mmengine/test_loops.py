"""A code base with evaluators and loops of its own, which build their data from the config, like MMagic's."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from torch.utils.data import DataLoader

import footplate_openmmlab as openmmlab
from footplate import Runner
from footplate.data import DefaultSampler
from tests.support import loader, settings

CODE_BASE = """
import time

import torch
from mmengine.evaluator import Evaluator
from mmengine.hooks import IterTimerHook
from mmengine.registry import EVALUATOR, HOOKS, LOOPS
from mmengine.runner.base_loop import BaseLoop


@EVALUATOR.register_module()
class SamplingEvaluator(Evaluator):
    def prepare_samplers(self, dataloader):
        return [(self.metrics, dataloader)]

    def process(self, data_samples, data_batch, metrics):
        for metric in metrics:
            metric.process(data_batch, data_samples)

    def evaluate(self):
        return {name: value for metric in self.metrics for name, value in metric.evaluate(8).items()}


class MultiLoop(BaseLoop):
    def __init__(self, runner, dataloader, evaluator):
        self._runner = runner
        self.dataloaders = [runner.build_dataloader(part, seed=runner.seed) for part in dataloader]
        evaluators = [dict(type='SamplingEvaluator', metrics=part) if isinstance(part, list) else part
                      for part in evaluator]
        self.evaluators = [runner.build_evaluator(part) for part in evaluators]
        self.total_length = 0

    def run(self):
        self.runner.call_hook(f'before_{self.mode}')
        self.runner.call_hook(f'before_{self.mode}_epoch')
        self.runner.model.eval()
        self.total_length = sum(map(len, self.dataloaders))
        values, idx = {}, 0
        for evaluator, dataloader in zip(self.evaluators, self.dataloaders):
            for metrics, sampler in evaluator.prepare_samplers(dataloader):
                for data_batch in sampler:
                    self.runner.call_hook(f'before_{self.mode}_iter', batch_idx=idx, data_batch=data_batch)
                    with torch.no_grad():
                        outputs = self.runner.model.val_step(data_batch)
                    evaluator.process(outputs, data_batch, metrics)
                    self.runner.call_hook(f'after_{self.mode}_iter', batch_idx=idx, data_batch=data_batch,
                                          outputs=outputs)
                    idx += 1
            values.update(evaluator.evaluate())
        self.runner.call_hook(f'after_{self.mode}_epoch', metrics=values)
        self.runner.call_hook(f'after_{self.mode}')


@LOOPS.register_module()
class MultiValLoopForTest(MultiLoop):
    mode = 'val'


@LOOPS.register_module()
class MultiTestLoopForTest(MultiLoop):
    mode = 'test'


@LOOPS.register_module()
class StageTrainLoop(BaseLoop):
    def __init__(self, runner, dataloader, stages, val_interval=1):
        super().__init__(runner, dataloader)
        self._max_epochs = sum(stages)
        self._max_iters = self._max_epochs * len(self.dataloader)
        self._epoch = 0
        self._iter = 0
        self.val_interval = val_interval
        self.stop_training = False

    @property
    def max_epochs(self):
        return self._max_epochs

    @property
    def max_iters(self):
        return self._max_iters

    @property
    def epoch(self):
        return self._epoch

    @property
    def iter(self):
        return self._iter

    def run(self):
        self.runner.call_hook('before_train')
        while self._epoch < self._max_epochs and not self.stop_training:
            self.runner.call_hook('before_train_epoch')
            self.runner.model.train()
            for idx, data_batch in enumerate(self.dataloader):
                self.run_iter(idx, data_batch)
            self.runner.call_hook('after_train_epoch')
            self._epoch += 1
            if self.runner.val_loop is not None and self._epoch % self.val_interval == 0:
                self.runner.val_loop.run()
        self.runner.call_hook('after_train')
        return self.runner.model

    def run_iter(self, idx, data_batch):
        self.runner.call_hook('before_train_iter', batch_idx=idx, data_batch=data_batch)
        outputs = self.runner.model.train_step(data_batch, optim_wrapper=self.runner.optim_wrapper)
        self.runner.call_hook('after_train_iter', batch_idx=idx, data_batch=data_batch, outputs=outputs)
        self._iter += 1


@LOOPS.register_module()
class StepTrainLoop(BaseLoop):
    _iter = 0

    def __init__(self, runner, dataloader, max_iters):
        super().__init__(runner, dataloader)
        self._max_iters = max_iters
        self._max_epochs = 1

    @property
    def max_iters(self):
        return self._max_iters

    @property
    def iter(self):
        return self._iter

    def run(self):
        self.runner.call_hook('before_train')
        self.runner.call_hook('before_train_epoch')
        while self._iter < self._max_iters:
            for data_batch in self.dataloader:
                if self._iter < self._max_iters:
                    self.run_iter(data_batch)
        self.runner.call_hook('after_train_epoch')
        self.runner.call_hook('after_train')
        return self.runner.model

    def run_iter(self, data_batch):
        self.runner.call_hook('before_train_iter', batch_idx=self._iter, data_batch=data_batch)
        outputs = self.runner.model.train_step(data_batch, optim_wrapper=self.runner.optim_wrapper)
        self.runner.call_hook('after_train_iter', batch_idx=self._iter, data_batch=data_batch, outputs=outputs)
        self._iter += 1


@HOOKS.register_module()
class HostTimerHook(IterTimerHook):
    def _after_iter(self, runner, batch_idx, data_batch=None, outputs=None, mode='train'):
        assert 0 <= time.time() - self.t < 100
        runner.message_hub.update_scalar(f'{mode}/time', time.time() - self.t)
        self.t = time.time()
        if mode == 'train':
            self.time_sec_tot += runner.message_hub.get_scalar('train/time').current()
            runner.message_hub.update_info('eta', self.time_sec_tot / (runner.iter - self.start_iter + 1))
        else:
            runner.message_hub.update_info('left', getattr(runner, f'{mode}_loop').total_length - batch_idx - 1)
"""
METRIC = {"type": "PointAccuracy"}


@pytest.fixture(scope="module", autouse=True)
def _code_base(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleType]:
    folder = tmp_path_factory.mktemp("code_base")
    (folder / "host_of_loops.py").write_text(CODE_BASE)
    openmmlab.install()
    sys.path.insert(0, str(folder))
    yield importlib.import_module("host_of_loops")
    sys.path.remove(str(folder))


def several(**changes: Any) -> dict[str, Any]:
    """Returns the sections of two datasets, whose evaluators are configured in both ways."""
    evaluators = [
        {"type": "SamplingEvaluator", "metrics": [{**METRIC, "prefix": "first"}]},
        [{**METRIC, "prefix": "second"}],
    ]
    sections = {"dataloader": [loader(8, shuffle=False)] * 2, "evaluator": evaluators, **changes}
    loops = {"val_cfg": {"type": "MultiValLoopForTest"}, "test_cfg": {"type": "MultiTestLoopForTest"}}
    return (
        loops
        | {f"{mode}_{part}": value for mode in ("val", "test") for part, value in sections.items()}
        | {
            "default_hooks": {"timer": {"type": "HostTimerHook"}, "checkpoint": {"save_best": "first/accuracy"}},
            "preflight": True,
        }
    )


def test_loops_and_evaluators_of_a_code_base_evaluate_several_datasets(tmp_path: Path) -> None:
    runner = Runner.from_cfg(settings(tmp_path, **several()))
    runner.train()
    values = runner.message_hub.log_scalars
    assert values["val/first/accuracy"].current() == values["val/second/accuracy"].current() > 50
    assert list(tmp_path.glob("best_first_accuracy_*.pth"))
    assert runner.message_hub.get_info("left") == 0
    reference = Runner.from_cfg(settings(tmp_path / "reference"))
    reference.train()
    expected = reference.message_hub.log_scalars["val/accuracy"].current()
    assert values["val/first/accuracy"].current() == expected
    runner.test()
    assert values["test/first/accuracy"].current() == values["test/second/accuracy"].current() == expected


def test_epoch_of_a_failed_validation_is_saved(tmp_path: Path) -> None:
    cfg = settings(tmp_path, train_cfg={"type": "StageTrainLoop", "stages": [2]})
    runner = Runner.from_cfg(cfg)

    def fail(runner: Any) -> None:
        raise ValueError("validation")

    runner.on("before_val", fail)
    with pytest.raises(ValueError, match="validation"):
        runner.train()
    assert [each.stem for each in tmp_path.glob("*.pth")] == ["epoch_1"]


def test_iteration_based_loop_of_a_code_base_resumes(tmp_path: Path) -> None:
    cfg = settings(tmp_path, by_epoch=False, train_cfg={"type": "StepTrainLoop", "max_iters": 3})
    cfg["default_hooks"] = {"checkpoint": {"by_epoch": False, "interval": 2}}
    Runner.from_cfg(cfg).train()
    resumed = Runner.from_cfg({**cfg, "train_cfg": {"type": "StepTrainLoop", "max_iters": 6}, "resume": True})
    resumed.train()
    assert resumed.iter == 6


def test_an_endless_loader_starts_again_in_a_new_order() -> None:
    numbers = list(range(16))
    torch_loader: Any = DataLoader(numbers, batch_size=16, sampler=DefaultSampler(numbers))  # type: ignore[arg-type]
    openmmlab.install()
    restarted = importlib.import_module("mmengine.runner.loops")._InfiniteDataloaderIterator(torch_loader)
    first, second = next(restarted).tolist(), next(restarted).tolist()
    assert first != second
    assert sorted(first) == sorted(second) == numbers
