"""A code base that derives its classes from those of `mmengine`, trained by footplate."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import footplate_openmmlab as openmmlab
from footplate import Config, Runner
from footplate.checkpoint import load_checkpoint
from tests.footplate.engine.resumed_runs import assert_same

CODE_BASE = """
import math
import os

import numpy as np
import torch
from torch import nn
from torch.utils.data import Dataset, Sampler

from footplate.distributed import get_rank, get_world_size
from mmengine.evaluator import BaseMetric
from mmengine.hooks import CheckpointHook, Hook, LoggerHook
from mmengine.logging import MessageHub, print_log
from mmengine.model import BaseModel, BaseModule, is_model_wrapper
from mmengine.optim import DefaultOptimWrapperConstructor, LinearLR, OptimWrapper
from mmengine.optim.scheduler.lr_scheduler import LRSchedulerMixin
from mmengine.optim.scheduler.param_scheduler import INF, _ParamScheduler
from mmengine.registry import (DATA_SAMPLERS, DATASETS, HOOKS, LOOPS, METRICS, MODELS,
                               OPTIM_WRAPPER_CONSTRUCTORS, OPTIM_WRAPPERS, PARAM_SCHEDULERS, VISUALIZERS)
from mmengine.runner import BaseLoop, EpochBasedTrainLoop, IterBasedTrainLoop, Runner, ValLoop
from mmengine.visualization import Visualizer


@DATASETS.register_module()
class HostPoints(Dataset):
    metainfo = dict(classes=('left', 'right'))

    def __len__(self):
        return 16

    def __getitem__(self, index):
        point = torch.randn(4, generator=torch.Generator().manual_seed(index))
        return dict(inputs=point + 0.1 * torch.randn(4), labels=int(point[0] > 0))


@MODELS.register_module()
class HostModel(BaseModel):
    def __init__(self, data_preprocessor=None, init_cfg=None):
        super().__init__(data_preprocessor=data_preprocessor, init_cfg=init_cfg)
        self.backbone = nn.Linear(4, 8)
        self.head = nn.Sequential(nn.Dropout(0.3), nn.Linear(8, 2))

    def forward(self, inputs, labels=None, mode='tensor'):
        scores = self.head(self.backbone(torch.stack(list(inputs))).tanh())
        labels = torch.as_tensor(labels)
        if mode == 'loss':
            return dict(loss=nn.functional.cross_entropy(scores, labels))
        return list(zip(scores.argmax(1), labels)) if mode == 'predict' else scores


@HOOKS.register_module()
class HostHook(Hook):
    priority = 'LOW'

    def before_train(self, runner):
        self.length = len(runner.train_dataloader)
        assert runner.model_name == 'HostModel' and not is_model_wrapper(runner.model)
        assert runner.val_interval == 1 and runner.val_begin == 1 and not runner.deterministic
        assert any(isinstance(hook, CheckpointHook) for hook in runner._hooks)
        assert 'HostHook (LOW)' in runner.get_hooks_info()

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if self.every_n_train_iters(runner, 3):
            with torch.no_grad():
                for weight in runner.model.parameters():
                    weight.mul_(0.99)
        runner.message_hub.update_scalar('train/decayed', runner.iter % 3)
        if runner.iter + 1 == int(os.environ.get('HOST_STOPS_AT', 0)):
            raise KeyboardInterrupt


@METRICS.register_module()
class HostMetric(BaseMetric):
    default_prefix = 'host'

    def __init__(self, collect_device='cpu', prefix=None):
        super().__init__(collect_device=collect_device, prefix=prefix)

    def process(self, data_batch, data_samples):
        self.results.extend(float(found == label) for found, label in data_samples)

    def compute_metrics(self, results):
        return dict(accuracy=100 * sum(results) / len(results), classes=len(self.dataset_meta['classes']))


@DATA_SAMPLERS.register_module()
class HostSampler(Sampler):
    def __init__(self, dataset, seed, stride=3):
        self.rank, self.world_size = get_rank(), get_world_size()
        self.size, self.stride, self.epoch = len(dataset), stride, 0
        self.seed = seed

    def __iter__(self):
        order = torch.randperm(self.size, generator=torch.Generator().manual_seed(self.seed + self.epoch)).tolist()
        return iter(order[self.rank::self.world_size])

    def __len__(self):
        return math.ceil(self.size / self.world_size)

    def set_epoch(self, epoch):
        self.epoch = epoch


@LOOPS.register_module()
class HostEpochLoop(EpochBasedTrainLoop):
    def run_epoch(self):
        self.runner.message_hub.update_info('host_epoch', self._epoch)
        super().run_epoch()

    def run_iter(self, idx, data_batch):
        self.runner.call_hook('before_train_iter', batch_idx=idx, data_batch=data_batch)
        with self.runner.optim_wrapper.optim_context(self.runner.model):
            data = self.runner.model.data_preprocessor(data_batch, True)
            losses = self.runner.model(**data, mode='loss')
        parsed, log_vars = self.runner.model.parse_losses(losses)
        self.runner.optim_wrapper.update_params(parsed)
        self.runner.call_hook('after_train_iter', batch_idx=idx, data_batch=data_batch, outputs=log_vars)
        self._iter += 1


@LOOPS.register_module()
class HostIterLoop(IterBasedTrainLoop):
    def run(self):
        self.runner.call_hook('before_train')
        self.runner.call_hook('before_train_epoch')
        while self._iter < self._max_iters and not self.stop_training:
            self.runner.model.train()
            self.run_iter(next(self.dataloader_iterator))
            self._decide_current_val_interval()
            if self.runner.val_loop is not None and self._iter >= self.val_begin \\
                    and (self._iter % self.val_interval == 0 or self._iter == self._max_iters):
                self.runner.val_loop.run()
        self.runner.call_hook('after_train_epoch')
        self.runner.call_hook('after_train')
        return self.runner.model


@LOOPS.register_module()
class HostValLoop(BaseLoop):
    def __init__(self, runner, dataloader, evaluator, fp16=False):
        super().__init__(runner, dataloader)
        self.evaluator = runner.build_evaluator(evaluator)
        self.evaluator.dataset_meta = runner.visualizer.dataset_meta = self.dataloader.dataset.metainfo
        self.fp16 = fp16

    def run(self):
        self.runner.call_hook('before_val')
        self.runner.call_hook('before_val_epoch')
        self.runner.model.eval()
        with torch.no_grad(), torch.autocast('cpu', enabled=self.fp16):
            for idx, data_batch in enumerate(self.dataloader):
                self.runner.call_hook('before_val_iter', batch_idx=idx, data_batch=data_batch)
                outputs = self.runner.model.val_step(data_batch)
                self.evaluator.process(data_samples=outputs, data_batch=data_batch)
                self.runner.call_hook('after_val_iter', batch_idx=idx, data_batch=data_batch, outputs=outputs)
        metrics = self.evaluator.evaluate(len(self.dataloader.dataset))
        self.runner.call_hook('after_val_epoch', metrics=metrics)
        self.runner.call_hook('after_val')
        return metrics


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class HostConstructor(DefaultOptimWrapperConstructor):
    def add_params(self, params, module, prefix='', is_dcn_module=None):
        for name, weight in module.named_parameters():
            scale = self.paramwise_cfg['decay'] if name.startswith('backbone') else 1.0
            params.append(dict(params=[weight], lr=self.base_lr * scale, param_names=[name]))


@OPTIM_WRAPPERS.register_module()
class HostOptimWrapper(OptimWrapper):
    def update_params(self, loss, step_kwargs=None, zero_kwargs=None):
        super().update_params(2 * loss, step_kwargs, zero_kwargs)


@PARAM_SCHEDULERS.register_module()
class HostParamScheduler(_ParamScheduler):
    def __init__(self, optimizer, param_name, rise=2.0, begin=0, end=INF, last_step=-1, by_epoch=True, verbose=False):
        self.rise, self._calls = rise, 0
        super().__init__(optimizer=optimizer, param_name=param_name, begin=begin, end=end, last_step=last_step,
                         by_epoch=by_epoch, verbose=verbose)

    @classmethod
    def build_iter_from_epoch(cls, *args, begin=0, end=INF, by_epoch=True, epoch_length=None, **kwargs):
        return cls(*args, begin=begin * epoch_length, end=end * epoch_length, by_epoch=False, **kwargs)

    def _get_value(self):
        self._calls += 1
        return [base * (1 + self.rise * self.last_step / (self.end - self.begin)) + self._calls * 1e-4
                for base in self.base_values]


@PARAM_SCHEDULERS.register_module()
class HostLR(LRSchedulerMixin, HostParamScheduler):
    pass


@PARAM_SCHEDULERS.register_module()
class HostLinearLR(LinearLR):
    def _get_value(self):
        return [max(value, 0.02) for value in super()._get_value()]


@VISUALIZERS.register_module()
class HostVisualizer(Visualizer):
    drawn = []

    def __init__(self, name='visualizer', image=None, vis_backends=None, save_dir=None, width=3):
        super().__init__(name=name, image=image, vis_backends=vis_backends, save_dir=save_dir)
        self.width = width

    def add_datasample(self, name, image, data_sample=None, draw_gt=True, draw_pred=True, show=False, wait_time=0,
                       out_file=None, step=0):
        classes = self.dataset_meta.get('classes')
        self.set_image(image)
        self.draw_bboxes(np.array([1, 1, 6, 6]), edge_colors='r', line_widths=self.width)
        self.draw_texts(classes[int(data_sample[0])], np.array([1, 1]), colors='w', font_sizes=8,
                        bboxes=[dict(facecolor='black', alpha=0.8, pad=0.7, edgecolor='none')])
        self.drawn.append(self.get_image())
        self.add_image(name, self.get_image(), step)


@HOOKS.register_module()
class HostVisualizationHook(Hook):
    def __init__(self):
        self._visualizer = Visualizer.get_current_instance()

    def after_val_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        assert self._visualizer is runner.visualizer is Visualizer.get_current_instance()
        if batch_idx == 0:
            self._visualizer.add_datasample('first', np.zeros((32, 32, 3), np.uint8), outputs[0], step=runner.iter)
"""


@pytest.fixture(scope="module")
def code_base(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleType]:
    folder = tmp_path_factory.mktemp("code_base")
    (folder / "host_of_subclasses.py").write_text(CODE_BASE)
    openmmlab.install()
    sys.path.insert(0, str(folder))
    yield importlib.import_module("host_of_subclasses")
    sys.path.remove(str(folder))


def run_settings(work_dir: Path, *, by_epoch: bool, **changes: Any) -> Config:
    loader = {"dataset": {"type": "HostPoints"}, "batch_size": 4, "num_workers": 0}
    length = {"type": "HostEpochLoop", "max_epochs": 3} if by_epoch else {"type": "HostIterLoop", "max_iters": 12}
    warmup = {"type": "HostLinearLR", "start_factor": 0.1, "by_epoch": False, "end": 4}
    rise = {"type": "HostLR", "rise": 1.0, "begin": 1, "end": 3, "convert_to_iter_based": True}
    rise_by_iteration = {"type": "HostParamScheduler", "param_name": "lr", "begin": 4, "end": 12, "by_epoch": False}
    return Config(
        {
            "work_dir": str(work_dir),
            "model": {"type": "HostModel"},
            "train_dataloader": {**loader, "sampler": {"type": "HostSampler", "seed": 5}},
            "val_dataloader": {**loader, "sampler": {"type": "DefaultSampler", "shuffle": False}},
            "train_cfg": {**length, "val_interval": 1},
            "val_cfg": {"type": "HostValLoop"},
            "val_evaluator": {"type": "HostMetric"},
            "optim_wrapper": {
                "type": "HostOptimWrapper",
                "constructor": "HostConstructor",
                "optimizer": {"type": "SGD", "lr": 0.1, "momentum": 0.9},
                "paramwise_cfg": {"decay": 0.5},
            },
            "param_scheduler": [warmup, rise if by_epoch else rise_by_iteration],
            "custom_hooks": [{"type": "HostHook"}, {"type": "HostVisualizationHook"}],
            "default_hooks": {"checkpoint": {"interval": 5, "by_epoch": False}},
            "visualizer": {"type": "HostVisualizer", "vis_backends": [{"type": "LocalVisBackend"}]},
            "randomness": {"seed": 1},
            **changes,
        }
    )


@pytest.mark.parametrize("by_epoch", [True, False])
def test_a_killed_run_of_subclasses_resumes_exactly(
    tmp_path: Path, code_base: ModuleType, monkeypatch: pytest.MonkeyPatch, by_epoch: bool
) -> None:
    code_base.HostVisualizer.drawn.clear()
    whole = Runner.from_cfg(run_settings(tmp_path / "whole", by_epoch=by_epoch))
    whole.train()
    assert whole.iter == 12
    assert len(code_base.HostVisualizer.drawn) == (3 if by_epoch else 12)
    # 0.1 rises by `rise` times itself, 7 of 8 positions after its begin, and by 1e-4 with each of 8 calls.
    rate = 0.1 * (1 + (1.0 if by_epoch else 2.0) * 7 / 8) + 8e-4
    assert whole.optim_wrapper.get_lr()["lr"] == pytest.approx([0.5 * (rate - 8e-4) + 8e-4] * 2 + [rate] * 2)

    monkeypatch.setenv("HOST_STOPS_AT", "8")
    with pytest.raises(KeyboardInterrupt):
        Runner.from_cfg(run_settings(tmp_path / "killed", by_epoch=by_epoch)).train()
    monkeypatch.delenv("HOST_STOPS_AT")
    resumed = Runner.from_cfg(run_settings(tmp_path / "killed", by_epoch=by_epoch, resume=True))
    resumed.train()
    assert resumed.iter == 12
    for part in ("state_dict", "optimizer", "param_schedulers"):
        files = [load_checkpoint(str(tmp_path / name / "iter_12.pth"))[part] for name in ("whole", "killed")]
        assert_same(files[1], files[0])
    assert_same(dict(resumed.model.state_dict()), dict(whole.model.state_dict()))


def test_subclasses_are_what_the_run_uses(tmp_path: Path, code_base: ModuleType) -> None:
    runner = Runner.from_cfg(run_settings(tmp_path, by_epoch=True))
    metrics = runner.val()
    assert metrics["host/classes"] == 2
    assert isinstance(runner.train_loop, code_base.HostEpochLoop)
    assert [type(each) for each in runner.param_schedulers] == [code_base.HostLinearLR, code_base.HostLR]
    assert [group["lr"] for group in runner.optim_wrapper.param_groups] == [0.02, 0.02, 0.02, 0.02]
    assert [group["initial_lr"] for group in runner.optim_wrapper.param_groups] == [0.05, 0.05, 0.1, 0.1]
    assert isinstance(runner, code_base.Runner)
