"""The import names of OpenMMLab packages, and their counterparts in footplate."""

from footplate.openmmlab.mmengine.names import MODULES as MMENGINE
from footplate.openmmlab.mmengine.names import Names, names_from
from footplate.registry import ROOT_REGISTRIES

_ADAPTERS = "footplate.openmmlab.first_generation.adapters"
_RUNNERS_FILE = f"{_ADAPTERS}.runners"
_UPDATERS_FILE = f"{_ADAPTERS}.updater_hooks"
_LOGGERS_FILE = f"{_ADAPTERS}.logger_hooks"
_FUNCTIONS = "footplate.openmmlab.mmcv_functions"

_REGISTRIES = names_from("footplate.registry", " ".join(["Registry", *ROOT_REGISTRIES]))
_REGISTRY = {
    **names_from("footplate.openmmlab.code_bases", "Registry"),
    **names_from("footplate.openmmlab.mmengine.registry", "build_from_cfg"),
}
_CONFIG = MMENGINE["mmengine.config"]
_FILEIO = MMENGINE["mmengine.fileio"]
_LOGS = {**names_from(_FUNCTIONS, "get_logger logger_initialized"), **names_from("footplate.records", "print_log")}
_LAYERS = {
    **MMENGINE["mmengine.utils.dl_utils"],
    **names_from(_FUNCTIONS, "CUDA_HOME _get_cuda_home _get_dataloader get_build_config"),
    **names_from("torch.utils.cpp_extension", "BuildExtension CUDAExtension CppExtension"),
}
_LAYERS["PoolDataLoader"] = _LAYERS["DataLoader"]
_JIT = names_from(_FUNCTIONS, "is_jit_tracing jit skip_no_elena")
_UTILS = {
    **MMENGINE["mmengine.utils"],
    **MMENGINE["mmengine.testing"],
    **_CONFIG,
    **_REGISTRY,
    **_LOGS,
    **_LAYERS,
    **_JIT,
    **names_from(_FUNCTIONS, "IS_IPU_AVAILABLE IS_MLU_AVAILABLE"),
    **names_from("footplate.openmmlab.mmengine.data", "worker_init_fn"),
}
_IMAGES = names_from(_FUNCTIONS, "imfrombytes imread")

_INITIALIZERS = {
    **{name: target for name, target in MMENGINE["mmengine.model"].items() if name.endswith(("_init", "Init"))},
    **names_from("footplate.openmmlab.mmengine.weights", "bias_init_with_prob trunc_normal_ update_init_info"),
    **names_from("footplate.models", "initialize"),
    **names_from("footplate.registry", INITIALIZERS="WEIGHT_INITIALIZERS"),
}
# mmcv 2 keeps all layers in one registry.
_LAYER_KINDS = (
    "ACTIVATION_LAYERS ATTENTION CONV_LAYERS DROPOUT_LAYERS FEEDFORWARD_NETWORK NORM_LAYERS PADDING_LAYERS "
    "PLUGIN_LAYERS POSITIONAL_ENCODING TRANSFORMER_LAYER TRANSFORMER_LAYER_SEQUENCE UPSAMPLE_LAYERS"
)
_LAYER_REGISTRIES = names_from("footplate.registry", **dict.fromkeys(_LAYER_KINDS.split(), "MODELS"))
_SYNC_BN = names_from("footplate.openmmlab.mmengine.weights", "revert_sync_batchnorm")
_CNN = {
    **_INITIALIZERS,
    **_LAYER_REGISTRIES,
    **_SYNC_BN,
    **names_from("footplate.registry", "MODELS"),
    **names_from("footplate.openmmlab.mmengine.registry", "build_model_from_cfg"),
}

_UPDATERS = names_from(
    _UPDATERS_FILE,
    "CosineAnnealingLrUpdaterHook CosineRestartLrUpdaterHook CyclicLrUpdaterHook ExpLrUpdaterHook "
    "FixedLrUpdaterHook FlatCosineAnnealingLrUpdaterHook InvLrUpdaterHook LinearAnnealingLrUpdaterHook LrUpdaterHook "
    "OneCycleLrUpdaterHook PolyLrUpdaterHook StepLrUpdaterHook annealing_cos annealing_linear",
)
_MOMENTUM_UPDATERS = names_from(
    _UPDATERS_FILE,
    "CosineAnnealingMomentumUpdaterHook CyclicMomentumUpdaterHook LinearAnnealingMomentumUpdaterHook "
    "MomentumUpdaterHook OneCycleMomentumUpdaterHook StepMomentumUpdaterHook",
)
_OPTIMIZER_HOOKS = names_from(
    _ADAPTERS, "Fp16OptimizerHook GradientCumulativeFp16OptimizerHook GradientCumulativeOptimizerHook OptimizerHook"
)
_EVALUATION = names_from(_ADAPTERS, "DistEvalHook EvalHook")
_LOGGERS = names_from(
    _LOGGERS_FILE,
    "ClearMLLoggerHook DvcliveLoggerHook LoggerHook MlflowLoggerHook NeptuneLoggerHook PaviLoggerHook "
    "SegmindLoggerHook TensorboardLoggerHook TextLoggerHook WandbLoggerHook",
)
_HOOKS = {
    **names_from("footplate.registry", "HOOKS"),
    **names_from(_ADAPTERS, "ClosureHook Hook"),
    **names_from("footplate.hooks", "CheckpointHook DistSamplerSeedHook EMAHook EmptyCacheHook IterTimerHook"),
    **names_from("footplate.hooks", "SyncBuffersHook ProfilerHook"),
    **{name: target for name, target in _UPDATERS.items() if name.endswith("Hook")},
    **_MOMENTUM_UPDATERS,
    **_OPTIMIZER_HOOKS,
    **_EVALUATION,
    **_LOGGERS,
}
_OPTIMIZERS = {
    **names_from("footplate.registry", "OPTIMIZERS OPTIMIZER_BUILDERS"),
    **names_from(_FUNCTIONS, "build_optimizer build_optimizer_constructor"),
    **names_from("footplate.openmmlab.first_generation.optim", "DefaultOptimizerConstructor"),
}
_PRECISION = {
    **names_from(_FUNCTIONS, "LossScaler allreduce_grads auto_fp16 cast_tensor_type force_fp32 wrap_fp16_model"),
}
_DATA_PARALLEL = {
    **names_from(_ADAPTERS, "MMDataParallel"),
    **names_from("footplate.distributed.wrappers", MMDistributedDataParallel="ModelDistributedDataParallel"),
}
_STREAMS = names_from(_FUNCTIONS, "_get_stream")
_PARALLEL = {
    **_DATA_PARALLEL,
    **names_from(_ADAPTERS, "DataContainer collate scatter"),
    **names_from(_FUNCTIONS, "scatter_kwargs"),
    **names_from("footplate.distributed", is_module_wrapper="is_model_wrapper"),
    **names_from("footplate.registry", MODULE_WRAPPERS="MODEL_WRAPPERS"),
}
_MODULES = names_from("footplate.models", "BaseModule ModuleDict ModuleList Sequential")
_RUNNERS = {
    **names_from(_RUNNERS_FILE, "RUNNERS BaseRunner EpochBasedRunner IterBasedRunner build_runner"),
    **names_from(_RUNNERS_FILE, Runner="EpochBasedRunner"),
    **names_from("footplate.registry", RUNNER_BUILDERS="RUNNER_CONSTRUCTORS"),
    **names_from(_FUNCTIONS, "IterLoader"),
}
_CHECKPOINTS = {
    **names_from(
        "footplate.openmmlab.mmengine.runner",
        "CheckpointLoader _load_checkpoint _load_checkpoint_with_prefix get_state_dict load_checkpoint load_state_dict",
    ),
    **names_from(_FUNCTIONS, "save_checkpoint"),
    **names_from("footplate.openmmlab.mmengine.data", weights_to_cpu="_to_cpu"),
}
_DISTRIBUTED = {
    **names_from("footplate.openmmlab.mmengine.dist", "get_dist_info init_dist"),
    **names_from("footplate.distributed", "master_only"),
    **names_from(_FUNCTIONS, "allreduce_grads allreduce_params"),
}
_PRIORITY = names_from("footplate.engine", "Priority get_priority")
_RUNNER_UTILS = names_from(_FUNCTIONS, "get_host_info get_time_str obj_from_dict set_random_seed")
_LOG_BUFFER = names_from(_ADAPTERS, "LogBuffer")
_TEST = {
    **names_from(_FUNCTIONS, "multi_gpu_test single_gpu_test"),
    **names_from("footplate.openmmlab.mmengine.dist", "collect_results_cpu collect_results_gpu"),
}
_IPU = names_from(_FUNCTIONS, "IPUDataLoader IPUFp16OptimizerHook cfg2options ipu_model_wrapper")


def _device(kind: str) -> Names:
    return {f"{kind}{name.removeprefix('MM')}": target for name, target in _DATA_PARALLEL.items()}


MMCV: dict[str, Names] = {
    "mmcv": {**_IMAGES, **_UTILS, **_FILEIO, **_TEST},
    "mmcv.cnn": _CNN,
    "mmcv.cnn.bricks": _LAYER_REGISTRIES,
    "mmcv.cnn.bricks.drop": _LAYER_REGISTRIES,
    "mmcv.cnn.bricks.registry": _LAYER_REGISTRIES,
    "mmcv.cnn.bricks.transformer": _LAYER_REGISTRIES,
    "mmcv.cnn.builder": _CNN,
    "mmcv.cnn.utils": {**_INITIALIZERS, **_SYNC_BN},
    "mmcv.cnn.utils.sync_bn": _SYNC_BN,
    "mmcv.cnn.utils.weight_init": _INITIALIZERS,
    "mmcv.device": names_from("footplate.openmmlab.mmengine.torch_utils", "get_device"),
    "mmcv.device.ipu": _IPU,
    "mmcv.device.mlu": _device("MLU"),
    "mmcv.device.mps": _device("MPS"),
    "mmcv.device.npu": _device("NPU"),
    "mmcv.engine": _TEST,
    "mmcv.engine.test": _TEST,
    "mmcv.fileio": _FILEIO,
    "mmcv.fileio.io": {**_FILEIO, **names_from("footplate.openmmlab.mmengine.fileio", "file_handlers")},
    "mmcv.parallel": _PARALLEL,
    "mmcv.parallel._functions": _STREAMS,
    "mmcv.parallel.scatter_gather": names_from(_ADAPTERS, "scatter") | names_from(_FUNCTIONS, "scatter_kwargs"),
    "mmcv.runner": {
        **_HOOKS,
        **_OPTIMIZERS,
        **_MODULES,
        **_PRECISION,
        **_CHECKPOINTS,
        **_DISTRIBUTED,
        **_PRIORITY,
        **_LOG_BUFFER,
        **_RUNNERS,
        **_RUNNER_UTILS,
    },
    "mmcv.runner.base_module": _MODULES,
    "mmcv.runner.base_runner": _RUNNERS,
    "mmcv.runner.builder": _RUNNERS,
    "mmcv.runner.checkpoint": {**_CHECKPOINTS, **_DISTRIBUTED},
    "mmcv.runner.dist_utils": _DISTRIBUTED,
    "mmcv.runner.epoch_based_runner": _RUNNERS,
    "mmcv.runner.fp16_utils": _PRECISION,
    "mmcv.runner.hooks": _HOOKS,
    "mmcv.runner.hooks.evaluation": _EVALUATION,
    "mmcv.runner.hooks.logger": _LOGGERS,
    "mmcv.runner.hooks.lr_updater": {**_UPDATERS, **names_from("footplate.registry", "HOOKS")},
    "mmcv.runner.hooks.momentum_updater": _MOMENTUM_UPDATERS,
    "mmcv.runner.hooks.optimizer": {**_OPTIMIZER_HOOKS, **names_from("footplate.registry", "HOOKS")},
    "mmcv.runner.iter_based_runner": _RUNNERS,
    "mmcv.runner.log_buffer": _LOG_BUFFER,
    "mmcv.runner.optimizer": _OPTIMIZERS,
    "mmcv.runner.priority": _PRIORITY,
    "mmcv.runner.utils": _RUNNER_UTILS,
    "mmcv.utils": _UTILS,
    "mmcv.utils.parrots_jit": _JIT,
}
"""Maps the modules of `mmcv` to their names. A name that an installed mmcv 2 has is taken from there."""

_SUBMODULES = {
    "mmcv.fileio": "file_client handlers handlers.base handlers.json_handler handlers.pickle_handler "
    "handlers.yaml_handler parse",
    "mmcv.parallel": "collate data_container data_parallel distributed distributed_deprecated registry utils",
    "mmcv.runner.hooks": "checkpoint closure ema hook iter_timer memory profiler sampler_seed sync_buffer",
    "mmcv.runner.hooks.logger": "base clearml dvclive mlflow neptune pavi segmind tensorboard text wandb",
    "mmcv.runner.optimizer": "builder default_constructor",
    "mmcv.utils": "config env hub logging misc parrots_wrapper path progressbar registry seed testing timer torch_ops "
    "trace version_utils",
}

MMCV.update({f"{package}.{name}": MMCV[package] for package, names in _SUBMODULES.items() for name in names.split()})

# Registries that code bases define under their own names.
_MODEL_REGISTRIES = ("BACKBONES", "HEADS", "LOSSES", "MODELS", "NECKS")
_DATA_NAMES = {
    **names_from("footplate.registry", "DATASETS", PIPELINES="TRANSFORMS"),
    **names_from(_FUNCTIONS, "build_dataset"),
}


def _code_base(package: str, *registries: str) -> dict[str, Names]:
    """Returns the registries and helper functions of a code base, for both generations."""
    models = names_from("footplate.registry", **dict.fromkeys((*_MODEL_REGISTRIES, *registries), "MODELS"))
    utils = {
        **names_from("footplate.distributed", get_model="unwrap_model"),
        **names_from(_FUNCTIONS, "get_root_logger"),
    }
    hooks = {**names_from("footplate.registry", "HOOKS"), **_OPTIMIZERS, **_EVALUATION}
    return {
        package: {},
        f"{package}.registry": _REGISTRIES,
        f"{package}.utils": utils,
        f"{package}.models": models,
        f"{package}.models.builder": models,
        f"{package}.datasets": _DATA_NAMES,
        f"{package}.datasets.builder": _DATA_NAMES,
        f"{package}.core": hooks,
    }


_SEG, _DET = "footplate.tasks.segmentation", "footplate.tasks.detection"
_CODE_BASES: dict[str, Names] = {
    **_code_base("mmseg", "SEGMENTORS"),
    **_code_base("mmdet", "DETECTORS", "ROI_EXTRACTORS", "SHARED_HEADS"),
    **_code_base("mmselfsup", "ALGORITHMS", "MEMORIES"),
    **dict.fromkeys(("mmseg.engine", "mmseg.engine.hooks"), names_from(_SEG, "SegVisualizationHook")),
    **dict.fromkeys(("mmseg.evaluation", "mmseg.evaluation.metrics"), names_from(_SEG, "IoUMetric")),
    "mmseg.structures": names_from(_SEG, "SegDataSample"),
    "mmseg.visualization": names_from(_SEG, "SegLocalVisualizer"),
    **dict.fromkeys(("mmdet.engine", "mmdet.engine.hooks"), names_from(_DET, "DetVisualizationHook")),
    **dict.fromkeys(("mmdet.evaluation", "mmdet.evaluation.metrics"), names_from(_DET, "CocoMetric")),
    "mmdet.structures": names_from(_DET, "DetDataSample"),
    "mmdet.visualization": names_from(_DET, "DetLocalVisualizer"),
    "mmselfsup.structures": names_from("footplate.tasks.selfsup", "SelfSupDataSample"),
}

NAMES: dict[str, Names] = {**MMCV, **MMENGINE, **_CODE_BASES}

DISTRIBUTIONS = {
    "mmcv": ("mmcv", "mmcv-full", "mmcv-lite"),
    "mmengine": ("mmengine", "mmengine-lite"),
    "mmseg": ("mmsegmentation",),
    "mmdet": ("mmdet",),
    "mmselfsup": ("mmselfsup",),
}
"""Maps packages to the names of their distributions on PyPI."""


def names_of(module: str) -> Names | None:
    """Returns the names that footplate provides in a module, or None if it does not provide the module.

    Any module named `registry` or `builder` contains all registries, because files that users add to a code base
    import them with relative imports.
    """
    if module in NAMES:
        return NAMES[module]
    package, _, rest = module.partition(".")
    if package not in DISTRIBUTIONS:
        return None
    if rest.rpartition(".")[2] in ("registry", "builder"):
        return {**_REGISTRIES, **_OPTIMIZERS}
    return {} if any(known.startswith(f"{module}.") for known in NAMES) else None
