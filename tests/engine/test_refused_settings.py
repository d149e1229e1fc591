"""Settings that are rejected: flags that are not bools, numbers out of range, contradictions."""

from pathlib import Path
from typing import Any

import pytest
import torch

from footplate.config import Config
from footplate.engine.run_config import check_config
from footplate.errors import ArgumentError, FootplateError
from footplate.registry import PARAM_SCHEDULERS

FLAGS = [
    ("randomness.deterministic", "randomness = dict(deterministic='no')"),
    ("randomness.diff_rank_seed", "randomness = dict(diff_rank_seed='no')"),
    ("env_cfg.cudnn_benchmark", "env_cfg = dict(cudnn_benchmark='no')"),
    ("preflight", "preflight = 'no'"),
    ("find_unused_parameters", "find_unused_parameters = 'no'"),
    ("channels_last", "channels_last = 'no'"),
    ("compile", "compile = 'no'"),
    ("auto_scale_lr.enable", "auto_scale_lr = dict(enable='no', base_batch_size=2)"),
    (
        "model_wrapper_cfg.find_unused_parameters",
        "model_wrapper_cfg = dict(type='MMDistributedDataParallel', find_unused_parameters='no')",
    ),
    ("train_dataloader.pin_memory", "train_dataloader['pin_memory'] = 'no'"),
    ("train_dataloader.drop_last", "train_dataloader['drop_last'] = 'no'"),
    ("train_dataloader.shuffle", "train_dataloader['shuffle'] = 'no'"),
    ("train_dataloader.persistent_workers", "train_dataloader['persistent_workers'] = 'no'"),
    ("train_dataloader.diff_rank_seed", "train_dataloader['diff_rank_seed'] = 'no'"),
    ("train_dataloader.sampler.round_up", "train_dataloader['sampler'] = dict(type='DefaultSampler', round_up='no')"),
    ("optim_wrapper.optimizer.nesterov", "optim_wrapper['optimizer']['nesterov'] = 'no'"),
    (
        "optim_wrapper.clip_grad.error_if_nonfinite",
        "optim_wrapper['clip_grad'] = dict(max_norm=1, error_if_nonfinite='no')",
    ),
    ("optim_wrapper.paramwise_cfg.bypass_duplicate", "optim_wrapper['paramwise_cfg'] = dict(bypass_duplicate='no')"),
    ("default_hooks.checkpoint.save_last", "default_hooks = dict(checkpoint=dict(save_last='no'))"),
]

RUN = """
model = dict(type='ImageClassifier', backbone=dict(type='SmallResNet'),
             head=dict(type='LinearClsHead', num_classes=2, in_channels=64))
train_dataloader = dict(batch_size=2, dataset=dict(type='BaseDataset'))
train_cfg = dict(by_epoch=True, max_epochs=2)
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.1, momentum=0.9))
work_dir = 'out'
"""


@pytest.mark.parametrize(("key", "line"), FLAGS, ids=[key for key, _ in FLAGS])
def test_invalid_flag_raises(tmp_path: Path, key: str, line: str) -> None:
    path = tmp_path / "run.py"
    path.write_text(RUN + line + "\n")

    with pytest.raises(ArgumentError, match="must be True or False|must be True, False") as caught:
        check_config(Config.fromfile(path))

    assert caught.value.key == key
    assert caught.value.origin
    assert caught.value.origin.file.endswith("run.py")


SCHEDULES = [
    ("gamma", "dict(type='ExponentialLR', gamma=-1)"),
    ("gamma", "dict(type='StepLR', step_size=1, gamma=-0.1)"),
    ("gamma", "dict(type='MultiStepLR', milestones=[1], gamma=-1)"),
    ("gamma", "dict(type='ExponentialLR', gamma=float('nan'))"),
    ("step_size", "dict(type='StepLR', step_size=1.5)"),
    ("milestones", "dict(type='MultiStepLR', milestones=[-1])"),
    ("milestones", "dict(type='MultiStepLR', milestones=[0.5])"),
    ("T_max", "dict(type='CosineAnnealingLR', T_max=0)"),
    ("T_max", "dict(type='CosineAnnealingLR', T_max=-2)"),
    ("eta_min", "dict(type='CosineAnnealingLR', eta_min=-1e-3)"),
    ("eta_min_ratio", "dict(type='CosineAnnealingLR', eta_min_ratio=-1)"),
    ("eta_min", "dict(type='PolyLR', eta_min=-1)"),
    ("power", "dict(type='PolyLR', power=-1)"),
    ("periods", "dict(type='CosineRestartLR', periods=[0, 2], restart_weights=[1, 1])"),
    ("restart_weights", "dict(type='CosineRestartLR', periods=[1, 1], restart_weights=[1, -1])"),
    ("eta_max", "dict(type='OneCycleLR', eta_max=-1, total_steps=2)"),
    ("div_factor", "dict(type='OneCycleLR', eta_max=1, total_steps=2, div_factor=0)"),
    ("final_div_factor", "dict(type='OneCycleLR', eta_max=1, total_steps=2, final_div_factor=-1)"),
    ("begin", "dict(type='PolyLR', begin=-1)"),
    ("begin", "dict(type='PolyLR', begin=float('nan'))"),
    ("end", "dict(type='PolyLR', begin=2, end=1)"),
    ("last_step", "dict(type='PolyLR', last_step=-2)"),
    ("by_epoch", "dict(type='PolyLR', by_epoch='no')"),
    ("start_factor", "dict(type='LinearLR', start_factor=0)"),
    ("end_factor", "dict(type='LinearLR', end_factor=2)"),
    ("factor", "dict(type='ConstantLR', factor=-1)"),
    ("patience", "dict(type='ReduceOnPlateauLR', monitor='acc', patience=-1)"),
    ("cooldown", "dict(type='ReduceOnPlateauLR', monitor='acc', cooldown=-1)"),
    ("threshold", "dict(type='ReduceOnPlateauLR', monitor='acc', threshold=-1)"),
    ("min_value", "dict(type='ReduceOnPlateauLR', monitor='acc', min_value=-1)"),
]


@pytest.mark.parametrize(("key", "schedule"), SCHEDULES, ids=[schedule for _, schedule in SCHEDULES])
def test_schedule_argument_out_of_range_raises(tmp_path: Path, key: str, schedule: str) -> None:
    path = tmp_path / "run.py"
    path.write_text(f"{RUN}param_scheduler = [{schedule}]\n")

    with pytest.raises(ArgumentError) as caught:
        check_config(Config.fromfile(path))

    assert caught.value.key == f"param_scheduler[0].{key}"
    assert caught.value.origin
    assert caught.value.origin.file.endswith("run.py")


POLICIES = [
    ("gamma", {"policy": "step", "step": [1], "gamma": -1}),
    ("min_lr", {"policy": "step", "step": [1], "min_lr": -1}),
    ("gamma", {"policy": "exp", "gamma": -1}),
    ("power", {"policy": "poly", "power": -1}),
    ("min_lr", {"policy": "poly", "min_lr": -1}),
    ("power", {"policy": "inv", "gamma": 0.1, "power": -1}),
    ("gamma", {"policy": "inv", "gamma": -0.1}),
    ("min_lr_ratio", {"policy": "CosineAnnealing", "min_lr_ratio": -1}),
    ("start_percent", {"policy": "FlatCosineAnnealing", "min_lr": 0, "start_percent": 2}),
    ("periods", {"policy": "CosineRestart", "min_lr": 0, "periods": [0, 2], "restart_weights": [1, 1]}),
    ("cyclic_times", {"policy": "cyclic", "cyclic_times": 0}),
    ("target_ratio", {"policy": "cyclic", "target_ratio": (-1, 1)}),
    ("max_lr", {"policy": "OneCycle", "max_lr": -1}),
    ("div_factor", {"policy": "OneCycle", "max_lr": 1, "div_factor": 0}),
    ("warmup_ratio", {"policy": "fixed", "warmup": "linear", "warmup_iters": 1, "warmup_ratio": 2}),
    ("warmup_iters", {"policy": "fixed", "warmup": "linear", "warmup_iters": 0}),
]


@pytest.mark.parametrize(("key", "settings"), POLICIES)
def test_policy_argument_out_of_range_raises(key: str, settings: dict[str, Any]) -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)

    with pytest.raises(ArgumentError) as caught:
        PARAM_SCHEDULERS.build({"type": "PolicyLR", **settings}, optimizer, epoch_length=2, max_epochs=2)

    assert caught.value.key == key


OPTIMIZATION = [
    ("paramwise_cfg.custom_keys.head.lr_mult", "paramwise_cfg", "dict(custom_keys=dict(head=dict(lr_mult=-1)))"),
    ("paramwise_cfg.custom_keys.head.decay_mult", "paramwise_cfg", "dict(custom_keys=dict(head=dict(decay_mult=-1)))"),
    ("paramwise_cfg.custom_keys.head.lr", "paramwise_cfg", "dict(custom_keys=dict(head=dict(lr=-1)))"),
    ("paramwise_cfg.bias_lr_mult", "paramwise_cfg", "dict(bias_lr_mult=-1)"),
    ("paramwise_cfg.norm_decay_mult", "paramwise_cfg", "dict(norm_decay_mult=float('nan'))"),
    ("clip_grad.max_norm", "clip_grad", "dict(max_norm=0)"),
    ("clip_grad.max_norm", "clip_grad", "dict(max_norm=float('nan'))"),
    ("clip_grad.max_norm", "clip_grad", "dict(max_norm=True)"),
    ("clip_grad.clip_value", "clip_grad", "dict(type='value', clip_value=0)"),
    ("clip_grad.norm_type", "clip_grad", "dict(max_norm=1, norm_type=0)"),
    ("optimizer.momentum", "optimizer", "dict(type='SGD', lr=0.1, momentum=1.5)"),
    ("optimizer.lr", "optimizer", "dict(type='SGD', lr=True)"),
]


@pytest.mark.parametrize(("key", "section", "value"), OPTIMIZATION, ids=[f"{k} {v}" for k, _, v in OPTIMIZATION])
def test_invalid_optimizer_setting_raises(tmp_path: Path, key: str, section: str, value: str) -> None:
    path = tmp_path / "run.py"
    path.write_text(f"{RUN}optim_wrapper['{section}'] = {value}\n")

    with pytest.raises(ArgumentError) as caught:
        check_config(Config.fromfile(path))

    assert caught.value.key == f"optim_wrapper.{key}"
    assert caught.value.origin
    assert caught.value.origin.file.endswith("run.py")


ORDERS = [
    ("shuffle", "shuffle=True, sampler=dict(type='DefaultSampler', shuffle=False)"),
    ("shuffle", "shuffle=True, batch_sampler=dict(type='BatchSampler', drop_last=True)"),
    ("drop_last", "drop_last=True, batch_sampler=dict(type='BatchSampler', drop_last=True)"),
]


@pytest.mark.parametrize(("key", "settings"), ORDERS)
def test_contradicting_loader_settings_raise(tmp_path: Path, key: str, settings: str) -> None:
    path = tmp_path / "run.py"
    path.write_text(f"{RUN}train_dataloader.update({settings})\n")

    with pytest.raises(ArgumentError, match=f"'{key}' has no effect") as caught:
        check_config(Config.fromfile(path))

    assert caught.value.key == f"train_dataloader.{key}"


NAN = "float('nan')"
SECTIONS = [
    ("optim_wrapper.clip_grad.max_norm", "optim_wrapper['clip_grad'] = dict()"),
    ("optim_wrapper.on_nonfinite", "optim_wrapper['on_nonfinite'] = dict()"),
    ("default_hooks.chekpoint", "default_hooks = dict(chekpoint=None)"),
    ("default_hooks.vizualization", "default_hooks = dict(visualization=dict(type='Hook'), vizualization=None)"),
    ("train_dataloader.batch_size", "train_dataloader['batch_size'] = 2.0"),
    ("train_dataloader.batch_size", "train_dataloader['batch_size'] = True"),
    ("train_dataloader.pin_memory_device", "train_dataloader['pin_memory_device'] = 3"),
    ("train_dataloader.pin_memory_device", "train_dataloader['pin_memory_device'] = 'cud'"),
    ("train_dataloader.generator", "train_dataloader['generator'] = 3"),
    ("train_dataloader.sampler", "train_dataloader['sampler'] = 5"),
    ("train_dataloader.sampler.seed", "train_dataloader['sampler'] = dict(type='DefaultSampler', seed=1.5)"),
    ("train_dataloader.sampler.seed", "train_dataloader['sampler'] = dict(type='DefaultSampler', seed='x')"),
    ("preflight", "preflight = 1"),
    ("sync_bn", "sync_bn = 'trch'"),
    ("sync_bn", "sync_bn = True"),
    ("log_level", "log_level = 'INF'"),
    ("log_level", "log_level = True"),
    ("on_save_error", "on_save_error = 'wrn'"),
    ("on_nonfinite.loss", "on_nonfinite = dict(loss='stp')"),
    ("on_nonfinite.lss", "on_nonfinite = dict(lss='stop')"),
    ("on_nonfinite.interval", "on_nonfinite = dict(interval=1.5)"),
    ("env_cfg.dist_cfg", "env_cfg = dict(dist_cfg=5)"),
    ("env_cfg.dist_cfg.backend", "env_cfg = dict(dist_cfg=dict(backend=3))"),
    ("train_cfg.dynamic_intervals", "train_cfg['dynamic_intervals'] = 5"),
    ("work_dir", "work_dir = ''"),
    ("optim_wrapper.optimizer.lr", f"optim_wrapper['optimizer']['lr'] = {NAN}"),
    ("optim_wrapper.optimizer.dampening", "optim_wrapper['optimizer']['dampening'] = 1j"),
    ("optim_wrapper.optimizer.betas", "optim_wrapper['optimizer'] = dict(type='Adam', betas=[0.9, float('inf')])"),
    ("optim_wrapper.optimizer.lambd", f"optim_wrapper['optimizer'] = dict(type='ASGD', lambd={NAN})"),
    ("optim_wrapper.optimizer.lambd", "optim_wrapper['optimizer'] = dict(type='ASGD', lambd=True)"),
    ("optim_wrapper.optimizer.t0", "optim_wrapper['optimizer'] = dict(type='ASGD', t0='1')"),
    ("optim_wrapper.optimizer.eta", f"optim_wrapper['optimizer'] = dict(type='LARS', lr=0.1, eta={NAN})"),
    ("optim_wrapper.optimizer.step_sizes", f"optim_wrapper['optimizer'] = dict(type='Rprop', step_sizes=[{NAN}, 1])"),
    ("custom_hooks[0].min_delta", "custom_hooks = [dict(type='EarlyStoppingHook', monitor='acc', min_delta=True)]"),
    (
        "custom_hooks[0].stopping_threshold",
        f"custom_hooks = [dict(type='EarlyStoppingHook', monitor='acc', stopping_threshold={NAN})]",
    ),
    ("custom_hooks[0].monitor", "custom_hooks = [dict(type='EarlyStoppingHook', monitor=1)]"),
    ("log_processor.num_digits", "log_processor = dict(num_digits=1.5)"),
    *(
        (f"optim_wrapper.{key}", f"optim_wrapper.update(type='AmpOptimWrapper', loss_scale={value})")
        for key, value in (
            ("loss_scale", NAN),
            ("loss_scale", "-1"),
            ("loss_scale", "True"),
            ("loss_scale.init_scal", "dict(init_scal=2)"),
            ("loss_scale.init_scale", "dict(init_scale=0)"),
            ("loss_scale.growth_interval", "dict(growth_interval=1.5)"),
            ("loss_scale.growth_factor", f"dict(growth_factor={NAN})"),
        )
    ),
    *(
        (f"param_scheduler[0].{key}", f"param_scheduler = [dict({settings})]")
        for key, settings in (
            ("begin", "type='PolyLR', begin=1.5"),
            ("begin", "type='PolyLR', begin=True"),
            ("end", "type='PolyLR', end=2.5"),
            ("gamma", "type='ExponentialLR', gamma=None"),
            ("gamma", "type='StepLR', step_size=1, gamma=None"),
            ("gamma", "type='MultiStepLR', milestones=[1], gamma=None"),
            ("last_step", "type='PolyLR', last_step=1.5"),
            ("total_steps", "type='OneCycleLR', eta_max=0.1, total_steps=2.5"),
        )
    ),
]


@pytest.mark.parametrize(("key", "line"), SECTIONS, ids=[line for _, line in SECTIONS])
def test_invalid_section_value_raises(tmp_path: Path, key: str, line: str) -> None:
    path = tmp_path / "run.py"
    path.write_text(RUN + line + "\n")
    with pytest.raises(FootplateError) as caught:
        check_config(Config.fromfile(path))
    assert caught.value.key == key


SETS = """
part = dict(batch_size=2, dataset=dict(type='BaseDataset'))
val_dataloader = dict(clean=part, noisy=part)
val_cfg = dict()
val_evaluator = dict(type='Accuracy')
"""


@pytest.mark.parametrize(
    ("key", "line", "near"),
    [
        (
            "val_evaluator.nosy",
            "val_evaluator = dict(clean=dict(type='Accuracy'), nosy=dict(type='Accuracy'))",
            "noisy",
        ),
        ("val_evaluator.noisy", "val_evaluator = dict(clean=dict(type='Accuracy'))", None),
        ("val_cfg.intervals.nosy", "val_cfg = dict(intervals=dict(nosy=2))", "noisy"),
        ("val_cfg.intervals.noisy", "val_cfg = dict(intervals=dict(noisy=1.5))", None),
        ("val_cfg.intervals", "val_cfg = dict(intervals=5)", None),
        ("val_evaluator", "val_evaluator = 5", None),
    ],
)
def test_unknown_dataset_names_and_intervals_raise(tmp_path: Path, key: str, line: str, near: str | None) -> None:
    path = tmp_path / "run.py"
    path.write_text(f"{RUN}{SETS}{line}\n")
    with pytest.raises(ArgumentError) as caught:
        check_config(Config.fromfile(path))
    assert (caught.value.key, caught.value.suggestion) == (key, near)


def test_hook_of_a_base_config_is_removed(tmp_path: Path) -> None:
    (tmp_path / "base.py").write_text(RUN + "default_hooks = dict(visualization=dict(type='Hook'))\n")
    path = tmp_path / "run.py"
    path.write_text("_base_ = 'base.py'\ndefault_hooks = dict(visualization=None, timer=None)\n")
    check_config(Config.fromfile(path))
