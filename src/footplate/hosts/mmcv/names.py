"""Maps the names of mmcv 1.x, module by module, to their counterparts in footplate."""

from footplate.hosts.mmengine.names import MODULES as MMENGINE
from footplate.hosts.mmengine.names import Names, names_from
from footplate.registry import ROOT_REGISTRIES

_ADAPTERS = "footplate.first_generation.adapters"
_RUNNERS_FILE = f"{_ADAPTERS}.runners"
_UPDATERS_FILE = f"{_ADAPTERS}.updater_hooks"
_LOGGERS_FILE = f"{_ADAPTERS}.logger_hooks"
_HERE = "footplate.hosts.mmcv.functions"

REGISTRIES = names_from("footplate.registry", " ".join(["Registry", *ROOT_REGISTRIES]))
_REGISTRY = {
    **names_from("footplate.hosts.mmcv.registry", "Registry"),
    **names_from("footplate.hosts.mmengine.registry", "build_from_cfg"),
}
_CONFIG = MMENGINE["mmengine.config"]
_FILEIO = MMENGINE["mmengine.fileio"]
_LOGS = {**names_from(_HERE, "get_logger logger_initialized"), **names_from("footplate.records", "print_log")}
_LAYERS = {
    **MMENGINE["mmengine.utils.dl_utils"],
    **names_from(_HERE, "CUDA_HOME _get_cuda_home _get_dataloader get_build_config"),
    **names_from("torch.utils.cpp_extension", "BuildExtension CUDAExtension CppExtension"),
}
_LAYERS["PoolDataLoader"] = _LAYERS["DataLoader"]
_JIT = names_from(_HERE, "is_jit_tracing jit skip_no_elena")
_UTILS = {
    **MMENGINE["mmengine.utils"],
    **MMENGINE["mmengine.testing"],
    **_CONFIG,
    **_REGISTRY,
    **_LOGS,
    **_LAYERS,
    **_JIT,
    **names_from(_HERE, "IS_IPU_AVAILABLE IS_MLU_AVAILABLE"),
    **names_from("footplate.hosts.mmengine.data", "worker_init_fn"),
}
_IMAGES = names_from(_HERE, "imfrombytes imread")

_INITIALIZERS = {
    **{name: target for name, target in MMENGINE["mmengine.model"].items() if name.endswith(("_init", "Init"))},
    **names_from("footplate.hosts.mmengine.weights", "bias_init_with_prob trunc_normal_ update_init_info"),
    **names_from("footplate.models", "initialize"),
    **names_from("footplate.registry", INITIALIZERS="WEIGHT_INITIALIZERS"),
}
# mmcv 2 keeps all layers in one registry.
_LAYER_KINDS = (
    "ACTIVATION_LAYERS ATTENTION CONV_LAYERS DROPOUT_LAYERS FEEDFORWARD_NETWORK NORM_LAYERS PADDING_LAYERS "
    "PLUGIN_LAYERS POSITIONAL_ENCODING TRANSFORMER_LAYER TRANSFORMER_LAYER_SEQUENCE UPSAMPLE_LAYERS"
)
_LAYER_REGISTRIES = names_from("footplate.registry", **dict.fromkeys(_LAYER_KINDS.split(), "MODELS"))
_SYNC_BN = names_from("footplate.hosts.mmengine.weights", "revert_sync_batchnorm")
_CNN = {
    **_INITIALIZERS,
    **_LAYER_REGISTRIES,
    **_SYNC_BN,
    **names_from("footplate.registry", "MODELS"),
    **names_from("footplate.hosts.mmengine.registry", "build_model_from_cfg"),
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
EVALUATION = names_from(_ADAPTERS, "DistEvalHook EvalHook")
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
    **EVALUATION,
    **_LOGGERS,
}
OPTIMIZERS = {
    **names_from("footplate.registry", "OPTIMIZERS OPTIMIZER_BUILDERS"),
    **names_from(_HERE, "build_optimizer build_optimizer_constructor"),
    **names_from("footplate.optim.constructors", "DefaultOptimizerConstructor"),
}
_PRECISION = {
    **names_from(_HERE, "LossScaler allreduce_grads auto_fp16 cast_tensor_type force_fp32 wrap_fp16_model"),
}
_DATA_PARALLEL = {
    **names_from(_ADAPTERS, "MMDataParallel"),
    **names_from("footplate.distributed.wrappers", MMDistributedDataParallel="ModelDistributedDataParallel"),
}
_STREAMS = names_from(_HERE, "_get_stream")
_PARALLEL = {
    **_DATA_PARALLEL,
    **names_from(_ADAPTERS, "DataContainer collate scatter"),
    **names_from(_HERE, "scatter_kwargs"),
    **names_from("footplate.distributed", is_module_wrapper="is_model_wrapper"),
    **names_from("footplate.registry", MODULE_WRAPPERS="MODEL_WRAPPERS"),
}
_MODULES = names_from("footplate.models", "BaseModule ModuleDict ModuleList Sequential")
_RUNNERS = {
    **names_from(_RUNNERS_FILE, "RUNNERS BaseRunner EpochBasedRunner IterBasedRunner build_runner"),
    **names_from(_RUNNERS_FILE, Runner="EpochBasedRunner"),
    **names_from("footplate.registry", RUNNER_BUILDERS="RUNNER_CONSTRUCTORS"),
    **names_from(_HERE, "IterLoader"),
}
_CHECKPOINTS = {
    **names_from(
        "footplate.hosts.mmengine.checkpoint",
        "CheckpointLoader _load_checkpoint _load_checkpoint_with_prefix load_checkpoint load_state_dict",
    ),
    **names_from(_HERE, "save_checkpoint"),
    **names_from("footplate.hosts.mmengine.torch_utils", "get_state_dict"),
    **names_from("footplate.hosts.mmengine.data", weights_to_cpu="_to_cpu"),
}
_DISTRIBUTED = {
    **names_from("footplate.hosts.mmengine.dist", "get_dist_info init_dist"),
    **names_from("footplate.distributed", "master_only"),
    **names_from(_HERE, "allreduce_grads allreduce_params"),
}
_PRIORITY = names_from("footplate.engine", "Priority get_priority")
_RUNNER_UTILS = names_from(_HERE, "get_host_info get_time_str obj_from_dict set_random_seed")
_LOG_BUFFER = names_from(_ADAPTERS, "LogBuffer")
_TEST = {
    **names_from(_HERE, "multi_gpu_test single_gpu_test"),
    **names_from("footplate.hosts.mmengine.dist", "collect_results_cpu collect_results_gpu"),
}
_IPU = names_from(_HERE, "IPUDataLoader IPUFp16OptimizerHook cfg2options ipu_model_wrapper")


def _device(kind: str) -> Names:
    return {f"{kind}{name.removeprefix('MM')}": target for name, target in _DATA_PARALLEL.items()}


MODULES: dict[str, Names] = {
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
    "mmcv.device": names_from("footplate.hosts.mmengine.device", "get_device"),
    "mmcv.device.ipu": _IPU,
    "mmcv.device.mlu": _device("MLU"),
    "mmcv.device.mps": _device("MPS"),
    "mmcv.device.npu": _device("NPU"),
    "mmcv.engine": _TEST,
    "mmcv.engine.test": _TEST,
    "mmcv.fileio": _FILEIO,
    "mmcv.fileio.io": {**_FILEIO, **names_from("footplate.hosts.mmengine.fileio", "file_handlers")},
    "mmcv.parallel": _PARALLEL,
    "mmcv.parallel._functions": _STREAMS,
    "mmcv.parallel.scatter_gather": names_from(_ADAPTERS, "scatter") | names_from(_HERE, "scatter_kwargs"),
    "mmcv.runner": {
        **_HOOKS,
        **OPTIMIZERS,
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
    "mmcv.runner.hooks.evaluation": EVALUATION,
    "mmcv.runner.hooks.logger": _LOGGERS,
    "mmcv.runner.hooks.lr_updater": {**_UPDATERS, **names_from("footplate.registry", "HOOKS")},
    "mmcv.runner.hooks.momentum_updater": _MOMENTUM_UPDATERS,
    "mmcv.runner.hooks.optimizer": {**_OPTIMIZER_HOOKS, **names_from("footplate.registry", "HOOKS")},
    "mmcv.runner.iter_based_runner": _RUNNERS,
    "mmcv.runner.log_buffer": _LOG_BUFFER,
    "mmcv.runner.optimizer": OPTIMIZERS,
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

MODULES.update(
    {f"{package}.{name}": MODULES[package] for package, names in _SUBMODULES.items() for name in names.split()}
)
