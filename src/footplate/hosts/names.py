"""The import names of OpenMMLab packages, and their counterparts in footplate."""

from footplate.hosts.mmengine.names import MODULES as MMENGINE
from footplate.hosts.mmengine.names import Names
from footplate.registry import ROOT_REGISTRIES


def _from(module: str, *names: str, **renamed: str) -> Names:
    """Returns names of a module of footplate; a text may have several names, separated by spaces."""
    same = {name: name for text in names for name in text.split()}
    return {name: f"footplate.{module}:{attribute}" for name, attribute in {**same, **renamed}.items()}


_ADAPTERS = "first_generation.adapters"
_FUNCTIONS = f"{_ADAPTERS}.mmcv_functions"
_REGISTRIES = _from("registry", "Registry", *ROOT_REGISTRIES)
_BUILDING = _from(_ADAPTERS, "build_from_cfg")
_CONFIG = _from("config", "Config ConfigDict DictAction")
_CHECKS = {
    **_from(_FUNCTIONS, "is_list_of is_seq_of is_str is_tuple_of"),
    "_BatchNorm": "torch.nn.modules.batchnorm:_BatchNorm",
    "_InstanceNorm": "torch.nn.modules.instancenorm:_InstanceNorm",
}
_FILES = _from(_FUNCTIONS, "FileClient", "mkdir_or_exist")
_IMAGES = _from(_FUNCTIONS, "imfrombytes", "imread")
_LOGS = {**_from(_FUNCTIONS, "get_logger"), **_from("records", "print_log")}
_DIST_INFO = {**_from("hosts.mmengine.dist", "get_dist_info"), **_from(_FUNCTIONS, "init_dist")}
_MODULES = _from("models", "BaseModule ModuleDict ModuleList Sequential")
_PRIORITY = _from("engine", "Priority", "get_priority")

_UPDATERS = _from(_ADAPTERS, "LrUpdaterHook")
_MOMENTUM_UPDATERS = _from(_ADAPTERS, "MomentumUpdaterHook")
_OPTIMIZER_HOOKS = _from(
    _ADAPTERS, "Fp16OptimizerHook GradientCumulativeFp16OptimizerHook GradientCumulativeOptimizerHook OptimizerHook"
)
_EVALUATION = _from(_ADAPTERS, "EvalHook", DistEvalHook="EvalHook")
_LOGGERS = {
    **_from("first_generation.adapters.logger_hooks", "LoggerHook", "TextLoggerHook"),
    **_from(
        "first_generation.adapters.logger_hooks",
        "ClearMLLoggerHook DvcliveLoggerHook MlflowLoggerHook NeptuneLoggerHook PaviLoggerHook",
        "SegmindLoggerHook TensorboardLoggerHook WandbLoggerHook",
    ),
}
_FIRST_HOOKS = {
    **_from("registry", "HOOKS"),
    **_from(_ADAPTERS, "ClosureHook", "Hook"),
    **_from("hooks", "CheckpointHook DistSamplerSeedHook EMAHook EmptyCacheHook IterTimerHook SyncBuffersHook"),
    **_UPDATERS,
    **_MOMENTUM_UPDATERS,
    **_OPTIMIZER_HOOKS,
    **_EVALUATION,
    **_LOGGERS,
}
_FIRST_OPTIMIZERS = {
    **_from("registry", "OPTIMIZERS", "OPTIMIZER_BUILDERS"),
    **_from(_ADAPTERS, "build_optimizer", "build_optimizer_constructor"),
    **_from("optim.constructors", "DefaultOptimizerConstructor"),
}
_PRECISION = _from(_ADAPTERS, "auto_fp16 force_fp32 wrap_fp16_model")
_PARALLEL = {
    **_from(_ADAPTERS, "DataContainer MMDataParallel collate scatter"),
    **_from("distributed", is_module_wrapper="is_model_wrapper"),
    **_from("distributed.wrappers", MMDistributedDataParallel="ModelDistributedDataParallel"),
}
_RUNNERS = _from(
    "first_generation.adapters.runners",
    "RUNNERS BaseRunner EpochBasedRunner IterBasedRunner build_runner",
    Runner="EpochBasedRunner",
)
_CHECKPOINTS = {
    **_from("hosts.mmengine.checkpoint", "load_checkpoint"),
    **_from(_FUNCTIONS, "load_state_dict save_checkpoint"),
}

# Registries that code bases define under their own names.
_MODEL_REGISTRIES = ("BACKBONES", "HEADS", "LOSSES", "MODELS", "NECKS")
_DATA_NAMES = {**_from("registry", "DATASETS", PIPELINES="TRANSFORMS"), **_from(_FUNCTIONS, "build_dataset")}


def _models(*registries: str) -> Names:
    return _from("registry", **dict.fromkeys((*_MODEL_REGISTRIES, *registries), "MODELS"))


def _code_base(package: str, *registries: str) -> dict[str, Names]:
    """Returns the registries and helper functions of a code base, for both generations."""
    utils = _from(_FUNCTIONS, "get_model", "get_root_logger")
    hooks = {**_from("registry", "HOOKS"), **_FIRST_OPTIMIZERS, **_EVALUATION}
    return {
        package: {},
        f"{package}.registry": _REGISTRIES,
        f"{package}.utils": utils,
        f"{package}.models": _models(*registries),
        f"{package}.models.builder": _models(*registries),
        f"{package}.datasets": _DATA_NAMES,
        f"{package}.datasets.builder": _DATA_NAMES,
        f"{package}.core": hooks,
    }


FIRST_GENERATION: dict[str, Names] = {
    "mmcv": {**_CONFIG, **_IMAGES, **_CHECKS, **_FILES},
    "mmcv.utils": {**_CONFIG, **_CHECKS, **_FILES, **_LOGS, **_BUILDING, "Registry": "footplate.registry:Registry"},
    "mmcv.runner": {
        **_FIRST_HOOKS,
        **_FIRST_OPTIMIZERS,
        **_MODULES,
        **_PRECISION,
        **_CHECKPOINTS,
        **_DIST_INFO,
        **_PRIORITY,
        **_from("distributed", "master_only"),
        **_from(_ADAPTERS, "LogBuffer", "obj_from_dict"),
        **_RUNNERS,
        **_from("registry", RUNNER_BUILDERS="RUNNER_CONSTRUCTORS"),
    },
    "mmcv.runner.hooks": _FIRST_HOOKS,
    "mmcv.runner.hooks.hook": _from(_ADAPTERS, "Hook") | _from("registry", "HOOKS"),
    "mmcv.runner.hooks.lr_updater": _UPDATERS,
    "mmcv.runner.hooks.momentum_updater": _MOMENTUM_UPDATERS,
    "mmcv.runner.hooks.optimizer": _OPTIMIZER_HOOKS,
    "mmcv.runner.hooks.evaluation": _EVALUATION,
    "mmcv.runner.hooks.logger": _LOGGERS,
    "mmcv.runner.hooks.logger.base": _LOGGERS,
    "mmcv.runner.optimizer": _FIRST_OPTIMIZERS,
    "mmcv.runner.optimizer.builder": _FIRST_OPTIMIZERS,
    "mmcv.runner.base_module": _MODULES,
    "mmcv.runner.base_runner": _from("first_generation.adapters.runners", "BaseRunner"),
    "mmcv.runner.builder": _from("first_generation.adapters.runners", "RUNNERS", "build_runner"),
    "mmcv.runner.epoch_based_runner": _from("first_generation.adapters.runners", "EpochBasedRunner"),
    "mmcv.runner.iter_based_runner": _from("first_generation.adapters.runners", "IterBasedRunner"),
    "mmcv.runner.fp16_utils": _PRECISION,
    "mmcv.runner.dist_utils": {**_DIST_INFO, **_from("distributed", "master_only")},
    "mmcv.runner.priority": _PRIORITY,
    "mmcv.runner.checkpoint": _CHECKPOINTS,
    "mmcv.parallel": _PARALLEL,
}


def _task(
    package: str, task: str, *, structures: str, hooks: str, evaluation: str, visualization: str
) -> dict[str, Names]:
    """Returns the names of a second-generation code base for the components of a footplate task."""
    parts = {"evaluation": evaluation, "structures": structures, "visualization": visualization, "engine.hooks": hooks}
    return {
        f"{package}.engine": _from(task, hooks),
        f"{package}.evaluation.metrics": _from(task, evaluation),
        **{f"{package}.{part}": _from(task, name) for part, name in parts.items()},
    }


_CODE_BASES: dict[str, Names] = {
    **_code_base("mmseg", "SEGMENTORS"),
    **_code_base("mmdet", "DETECTORS", "ROI_EXTRACTORS", "SHARED_HEADS"),
    **_code_base("mmselfsup", "ALGORITHMS", "MEMORIES"),
    **_task(
        "mmseg",
        "tasks.segmentation",
        structures="SegDataSample",
        hooks="SegVisualizationHook",
        evaluation="IoUMetric",
        visualization="SegLocalVisualizer",
    ),
    **_task(
        "mmdet",
        "tasks.detection",
        structures="DetDataSample",
        hooks="DetVisualizationHook",
        evaluation="CocoMetric",
        visualization="DetLocalVisualizer",
    ),
    "mmselfsup.structures": _from("tasks.selfsup", "SelfSupDataSample"),
}

NAMES: dict[str, Names] = {**FIRST_GENERATION, **MMENGINE, **_CODE_BASES}

DISTRIBUTIONS = {
    "mmcv": ("mmcv", "mmcv-full", "mmcv-lite"),
    "mmengine": ("mmengine", "mmengine-lite"),
    "mmseg": ("mmsegmentation",),
    "mmdet": ("mmdet",),
    "mmselfsup": ("mmselfsup",),
}
"""The packages, and the names of their distributions on PyPI."""


def names_of(module: str) -> Names | None:
    """Returns the names of a module, or None if footplate does not provide the module.

    Any module named `registry` or `builder` contains all registries, because files that users add to a code base
    import them with relative imports.
    """
    if module in NAMES:
        return NAMES[module]
    package, _, rest = module.partition(".")
    if package not in DISTRIBUTIONS:
        return None
    if rest.rpartition(".")[2] in ("registry", "builder"):
        return {**_REGISTRIES, **_FIRST_OPTIMIZERS}
    return {} if any(known.startswith(f"{module}.") for known in NAMES) else None
