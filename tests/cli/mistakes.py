"""Configs with one mistake each, and the expected messages."""

from typing import NamedTuple


class Mistake(NamedTuple):
    """A line of the config, its replacement, and the expected message."""

    line: str
    instead: str
    says: str
    key: str
    near: str | None = None


TYPES = [
    Mistake('type="ToyModel"', 'type="ToyModl"', "unknown model 'ToyModl'", "model.type", "ToyModel"),
    Mistake('type="Witness"', 'type="Witnes"', "unknown hook 'Witnes'", "custom_hooks[0].type", "Witness"),
    Mistake(
        "by_epoch=False, max_iters=8",
        'type="IterBasedTrainLop", max_iters=8',
        "unknown loop 'IterBasedTrainLop'",
        "train_cfg.type",
        "IterBasedTrainLoop",
    ),
    Mistake('type="SGD"', 'type="SGDD"', "unknown optimizer 'SGDD'", "optim_wrapper.optimizer.type", "SGD"),
    Mistake('type="LinearLR"', 'type="LinerLR"', "unknown schedule 'LinerLR'", "param_scheduler[0].type", "LinearLR"),
    Mistake(
        'val_evaluator = dict(type="PointAccuracy")',
        'val_evaluator = dict(type="PointAcuracy")',
        "unknown metric 'PointAcuracy'",
        "val_evaluator.type",
        "PointAccuracy",
    ),
]
ARGUMENTS = [
    Mistake("dropout=0.1", "droput=0.1", "model 'ToyModel' takes no argument 'droput'", "model.droput", "dropout"),
    Mistake(
        "logger=dict(interval=2)",
        "logger=dict(intervall=2)",
        "hook 'LoggerHook' takes no argument 'intervall'",
        "default_hooks.logger.intervall",
        "interval",
    ),
    Mistake(
        'type="Witness"',
        'type="Witness", start=3',
        "hook 'Witness' takes no argument 'start'",
        "custom_hooks[0].start",
    ),
    Mistake(
        "val_interval=4",
        "val_intervals=4",
        "loop 'IterBasedTrainLoop' takes no argument 'val_intervals'",
        "train_cfg.val_intervals",
        "val_interval",
    ),
    Mistake(
        "        lr=0.1",
        "        lrr=0.1",
        "optimizer 'SGD' takes no argument 'lrr'",
        "optim_wrapper.optimizer.lrr",
        "lr",
    ),
    Mistake(
        "start_factor=0.5",
        "start_facto=0.5",
        "takes no argument 'start_facto'",
        "param_scheduler[0].start_facto",
        "start_factor",
    ),
    Mistake(
        'val_evaluator = dict(type="PointAccuracy")',
        'val_evaluator = dict(type="PointAccuracy", prefx="a")',
        "metric 'PointAccuracy' takes no argument 'prefx'",
        "val_evaluator.prefx",
        "prefix",
    ),
]
VALUES = [
    Mistake("        lr=0.1", '        lr="0.1"', "lr", "optim_wrapper.optimizer.lr"),
    Mistake(
        "logger=dict(interval=2)",
        "logger=dict(interval=-2)",
        "interval must be an integer of at least 1",
        "default_hooks.logger.interval",
    ),
    Mistake(
        "checkpoint=dict(by_epoch=False, interval=4)",
        "checkpoint=dict(by_epoch=False, interval=-4)",
        "interval must be an integer of at least 1",
        "default_hooks.checkpoint.interval",
    ),
    Mistake(
        "val_interval=4",
        "val_interval=-4",
        "val_interval must be an integer of at least 1",
        "train_cfg.val_interval",
    ),
    Mistake(
        'type="Witness"',
        'type="Witness", priority="VERY_LO"',
        "unknown priority 'VERY_LO'",
        "custom_hooks[0].priority",
        "VERY_LOW",
    ),
    Mistake(
        "train_dataloader =",
        "train_dataloder =",
        "unknown key 'train_dataloder'",
        "train_dataloder",
        "train_dataloader",
    ),
    Mistake(
        "randomness = dict(seed=3)", "randomness = dict(seed=-3)", "the seed must be an integer", "randomness.seed"
    ),
    Mistake("max_iters=8", "max_iters=10**23", "max_iters must be at most 1,000,000,000,000", "train_cfg.max_iters"),
    Mistake("max_iters=8", "max_iters=0", "max_iters must be an integer of at least 1", "train_cfg.max_iters"),
    Mistake(
        '    batch_size=4,\n    dataset=dict(type="Points", size=16)',
        '    batch_size=0,\n    dataset=dict(type="Points", size=16)',
        "batch_size",
        "train_dataloader.batch_size",
    ),
]
_LINEAR = 'dict(type="LinearLR", start_factor=0.5, end=4, by_epoch=False)'
_LR = "        lr=0.1"
_OPTIM = "optim_wrapper = dict("
_SEED = "randomness = dict(seed=3)"
_TRAIN_DATA = 'dataset=dict(type="Points", size=16)'
KINDS = [
    Mistake(_LR, "        lr=None", '"lr" must be a number', "optim_wrapper.optimizer.lr"),
    Mistake(_LR, "        lr=-0.1", '"lr" must be at least 0', "optim_wrapper.optimizer.lr"),
    Mistake('type="SGD"', 'type="AdamW", betas=(0.9,)', "optimizer 'AdamW'", "optim_wrapper.optimizer.betas"),
    Mistake(
        'type="SGD"', 'type="Adam", betas=0.9', '"betas" must be a list of numbers', "optim_wrapper.optimizer.betas"
    ),
    Mistake(
        '    optimizer=dict(\n        type="SGD",\n        lr=0.1,\n    ),',
        "    optimizer=None,",
        "an optimizer must be a dict with the key 'type'",
        "optim_wrapper.optimizer",
    ),
    Mistake(
        _LINEAR,
        'dict(type="MultiStepLR", milestones="4", by_epoch=False)',
        '"milestones" must be a list of numbers',
        "param_scheduler[0].milestones",
    ),
    Mistake(
        _LINEAR,
        'dict(type="PolyLR", power="1", by_epoch=False)',
        '"power" must be a number',
        "param_scheduler[0].power",
    ),
    Mistake("end=4", "end=[4]", '"end" must be a finite number', "param_scheduler[0].end"),
    Mistake("end=4", 'begin="0", end=4', '"begin" must be a number', "param_scheduler[0].begin"),
    Mistake(
        'dict(type="DefaultSampler", shuffle=True)',
        '"DefaultSampler"',
        "a sampler must be an object, or a dict",
        "train_dataloader.sampler",
    ),
    Mistake(_TRAIN_DATA, 'dataset="Points"', "a dataset must be an object, or a dict", "train_dataloader.dataset"),
    Mistake(
        _TRAIN_DATA,
        'dataset=[dict(type="Points", size=16)]',
        "dataset must be a single dict, not a list of dicts",
        "train_dataloader.dataset",
    ),
    Mistake(
        'collate_fn=dict(type="default_collate")',
        'collate_fn="default_colate"',
        "unknown function 'default_colate'",
        "train_dataloader.collate_fn",
        "default_collate",
    ),
]
RECORDS = [
    Mistake(
        _SEED,
        'visualizer = dict(type="SegLocalVisualiser")',
        "unknown visualizer",
        "visualizer.type",
        "SegLocalVisualizer",
    ),
    Mistake(
        _SEED,
        'visualizer = dict(vis_backends=[dict(type="LocalVisBckend")])',
        "unknown visualizer backend 'LocalVisBckend'",
        "visualizer.vis_backends[0].type",
        "LocalVisBackend",
    ),
    Mistake(
        _SEED,
        'visualizer = dict(vis_backends=[dict(type="LocalVisBackend", img_save_dirr="x")])',
        "takes no argument 'img_save_dirr'",
        "visualizer.vis_backends[0].img_save_dirr",
        "img_save_dir",
    ),
    Mistake(
        _SEED,
        'visualizer = dict(vis_backends=dict(type="LocalVisBackend"))',
        "'vis_backends' must be a list of backends",
        "visualizer.vis_backends",
    ),
    Mistake(
        _SEED,
        'visualizer = dict(vis_backends=["LocalVisBackend"])',
        "a backend must be a BaseVisBackend or a config dict for one",
        "visualizer.vis_backends[0]",
    ),
    Mistake(
        _SEED,
        'visualizer = dict(vis_backends=[dict(type="LocalVisBackend"), dict(type="LocalVisBackend")])',
        "two backends have the name 'LocalVisBackend'",
        "visualizer.vis_backends[1]",
    ),
    Mistake(_SEED, 'launcher = "pytorh"', "launcher must be one of none, pytorch, slurm, mpi", "launcher", "pytorch"),
    Mistake(
        _SEED,
        'data_preprocessor = dict(type="ImgDataPreprocesor")',
        "unknown model 'ImgDataPreprocesor'",
        "data_preprocessor.type",
        "ImgDataPreprocessor",
    ),
    Mistake(
        "dropout=0.1",
        'data_preprocessor=dict(type="ImgDataPreprocesor")',
        "unknown model 'ImgDataPreprocesor'",
        "model.data_preprocessor.type",
        "ImgDataPreprocessor",
    ),
    Mistake(
        'type="Witness"',
        'type="no_such.module.Witness"',
        "unknown hook 'no_such.module.Witness'",
        "custom_hooks[0].type",
    ),
]
