"""Maps the names of `mmengine`, module by module, to their counterparts in footplate, and describes unknown names."""

import functools
import json
from pathlib import Path

from footplate.messages import nearest
from footplate.openmmlab.mmengine.utils import __version__

Names = dict[str, str]
"""Maps names to "module:attribute"."""


def names_from(module: str, names: str = "", **renamed: str) -> Names:
    """Maps space-separated names to attributes of a module. `renamed` maps names to attributes with different names."""
    found = {name: f"{module}:{name}" for name in names.split()}
    return {**found, **{name: f"{module}:{attribute}" for name, attribute in renamed.items()}}


_HERE = "footplate.openmmlab.mmengine"

_CONFIG = {
    **names_from("footplate.config", "Config ConfigDict DictAction LazyObject read_base"),
    **names_from("footplate.openmmlab.extension", MODULE2PACKAGE="CODE_BASES"),
}
_REGISTRY = {
    **names_from(
        "footplate.registry",
        "DATASETS DATA_SAMPLERS EVALUATOR FUNCTIONS HOOKS INFERENCERS LOG_PROCESSORS LOOPS METRICS MODELS "
        "MODEL_WRAPPERS OPTIMIZERS OPTIM_WRAPPERS OPTIM_WRAPPER_CONSTRUCTORS PARAM_SCHEDULERS RUNNERS "
        "RUNNER_CONSTRUCTORS STRATEGIES TASK_UTILS TRANSFORMS VISBACKENDS VISUALIZERS WEIGHT_INITIALIZERS",
    ),
    **names_from(
        f"{_HERE}.registry",
        "DefaultScope Registry build_from_cfg build_model_from_cfg build_runner_from_cfg build_scheduler_from_cfg "
        "init_default_scope",
    ),
}
_FILEIO = {
    **names_from(
        f"{_HERE}.fileio",
        "BaseFileHandler FileClient JsonHandler PickleHandler YamlHandler copy_if_symlink_fails copyfile "
        "copyfile_from_local copyfile_to_local copytree copytree_from_local copytree_to_local dict_from_file dump "
        "exists get get_local_path get_text isdir isfile join_path list_dir_or_file list_from_file load put put_text "
        "register_handler remove rmtree",
    ),
    **names_from(
        f"{_HERE}.storage_backends",
        "BaseStorageBackend HTTPBackend HardDiskBackend LmdbBackend LocalBackend PetrelBackend get_file_backend "
        "register_backend",
    ),
}
_LOGGING = {
    **names_from("footplate.records", "HistoryBuffer MessageHub print_log"),
    **names_from(f"{_HERE}.managers", "MMLogger"),
}
_PATHS = names_from(f"{_HERE}.fileio", "check_file_exist fopen is_abs is_filepath mkdir_or_exist scandir symlink")
_PROGRESS = names_from(
    f"{_HERE}.progress",
    "ProgressBar Timer TimerError check_time init_pool track_iter_progress track_parallel_progress track_progress "
    "track_progress_rich",
)
_UTILS = {
    **_PATHS,
    **_PROGRESS,
    **names_from(f"{_HERE}.managers", "ManagerMeta ManagerMixin"),
    **names_from(
        f"{_HERE}.utils",
        "apply_to call_command check_prerequisites concat_list deprecated_api_warning deprecated_function "
        "digit_version get_git_hash get_installed_path get_object_from_string has_method import_modules_from_strings "
        "install_package is_installed is_list_of is_method_overridden is_seq_of is_str is_tuple_of iter_cast list_cast "
        "parse_version_info requires_executable requires_package slice_list to_1tuple to_2tuple to_3tuple to_4tuple "
        "to_ntuple tuple_cast",
    ),
}
_LAYERS = {
    **names_from("torch.nn.modules.batchnorm", "_BatchNorm SyncBatchNorm", SyncBatchNorm_="SyncBatchNorm"),
    **names_from("torch.nn.modules.instancenorm", "_InstanceNorm"),
    **names_from("torch.nn.modules.conv", "_ConvNd _ConvTransposeMixin"),
    **names_from("torch.nn.modules.pooling", "_AdaptiveAvgPoolNd _AdaptiveMaxPoolNd _AvgPoolNd _MaxPoolNd"),
    **names_from("torch.utils.data", "DataLoader"),
    **names_from(f"{_HERE}.torch_utils", "TORCH_VERSION is_rocm_pytorch"),
}
_DL_UTILS = {
    **_LAYERS,
    **names_from(
        f"{_HERE}.torch_utils",
        "TimeCounter collect_env mmcv_full_available set_multi_processing tensor2imgs torch_meshgrid",
    ),
    **names_from(f"{_HERE}.weights", "has_batch_norm is_norm"),
    **names_from("torch.hub", load_url="load_state_dict_from_url"),
}
_DATASET = {
    **names_from(
        "footplate.data",
        "BaseDataset ClassBalancedDataset Compose ConcatDataset DefaultSampler InfiniteSampler RepeatDataset "
        "default_collate pseudo_collate",
    ),
    **names_from(f"{_HERE}.data", "force_full_init worker_init_fn"),
    **names_from("footplate.registry", COLLATE_FUNCTIONS="FUNCTIONS"),
}
_DEVICE = names_from(
    f"{_HERE}.torch_utils",
    "get_device get_max_cuda_memory get_max_musa_memory is_cuda_available is_dipu_available is_mlu_available "
    "is_mps_available is_musa_available is_npu_available is_npu_support_full_precision",
)
_DIST = {
    **names_from(
        f"{_HERE}.dist",
        "all_gather all_gather_object all_reduce all_reduce_dict all_reduce_params broadcast broadcast_object_list "
        "cast_data_device collect_results collect_results_cpu collect_results_gpu gather gather_object get_backend "
        "get_comm_device get_data_device get_default_group get_dist_info get_local_group get_local_rank get_local_size "
        "infer_launcher init_dist init_local_group sync_random_seed",
    ),
    **names_from("footplate.distributed", "barrier get_rank get_world_size is_distributed is_main_process master_only"),
}
_EVALUATOR = {
    **names_from("footplate.evaluation", "BaseMetric DumpResults Evaluator"),
    **names_from(f"{_HERE}.data", "get_metric_value _to_cpu"),
}
_HOOKS = {
    **names_from(
        "footplate.hooks",
        "CheckpointHook DistSamplerSeedHook EMAHook EarlyStoppingHook EmptyCacheHook IterTimerHook LoggerHook "
        "NaiveVisualizationHook ParamSchedulerHook PrepareTTAHook ProfilerHook RuntimeInfoHook SyncBuffersHook",
    ),
    **names_from("footplate.engine", "Hook"),
    **names_from(f"{_HERE}.data", "DATA_BATCH SUFFIX_TYPE"),
}
_ANALYSIS = names_from(
    f"{_HERE}.analysis",
    "ActivationAnalyzer FlopAnalyzer _DEFAULT_SUPPORTED_ACT_OPS _DEFAULT_SUPPORTED_FLOP_OPS _IGNORED_OPS _format_size "
    "complexity_stats_str complexity_stats_table get_model_complexity_info parameter_count",
)
_ANALYSIS.update(names_from(f"{_HERE}.utils", "is_tuple_of"))
_INFER = names_from(f"{_HERE}.infer", "BaseInferencer ImgType InputType InputsType ModelType ResType")
_INITIALIZERS = {
    **names_from(
        "footplate.models",
        "BaseInit Caffe2XavierInit ConstantInit KaimingInit NormalInit PretrainedInit TruncNormalInit UniformInit "
        "XavierInit initialize",
    ),
    **names_from(
        f"{_HERE}.weights",
        "bias_init_with_prob caffe2_xavier_init constant_init kaiming_init normal_init trunc_normal_ trunc_normal_init "
        "uniform_init update_init_info xavier_init",
    ),
}
_WRAPPERS = {
    **names_from("footplate.distributed", "is_model_wrapper"),
    **names_from("footplate.distributed.wrappers", MMDistributedDataParallel="ModelDistributedDataParallel"),
}
_MODEL = {
    **_INITIALIZERS,
    **_WRAPPERS,
    **names_from(
        "footplate.models",
        "BaseAveragedModel BaseDataPreprocessor BaseModel BaseModule BaseTTAModel ExponentialMovingAverage "
        "ImgDataPreprocessor ModuleDict ModuleList MomentumAnnealingEMA Sequential StochasticWeightAverage stack_batch",
    ),
    **names_from(
        f"{_HERE}.weights",
        "_BatchNormXd convert_sync_batchnorm detect_anomalous_params merge_dict revert_sync_batchnorm",
    ),
}
_OPTIMIZER = {
    **names_from(
        "footplate.optim",
        "AmpOptimWrapper DefaultOptimWrapperConstructor OptimWrapper OptimWrapperDict build_optim_wrapper",
    ),
    **names_from("footplate.optim.wrappers", BaseOptimWrapper="OptimWrapper"),
    **names_from("footplate.registry", "OPTIMIZERS OPTIM_WRAPPERS OPTIM_WRAPPER_CONSTRUCTORS"),
}
_KINDS = "Constant CosineAnnealing CosineRestart Exponential Linear MultiStep OneCycle Poly Step ReduceOnPlateau"
_SCHEDULES = " ".join(
    f"{kind}{suffix}"
    for kind in _KINDS.split()
    for suffix in ("LR", "Momentum", "ParamScheduler")
    if kind != "ReduceOnPlateau" or suffix != "ParamScheduler"
)
_SCHEDULER = {
    **names_from("footplate.optim.schedules", _SCHEDULES, ReduceOnPlateauParamScheduler="ReduceOnPlateau"),
    **names_from(f"{_HERE}.schedules", "INF LRSchedulerMixin MomentumSchedulerMixin _ParamScheduler"),
}
_CHECKPOINT = {
    **names_from(
        f"{_HERE}.runner",
        "CheckpointLoader _load_checkpoint _load_checkpoint_to_model _load_checkpoint_with_prefix "
        "find_latest_checkpoint get_state_dict load_checkpoint load_state_dict save_checkpoint",
    ),
    **names_from(f"{_HERE}.data", weights_to_cpu="_to_cpu"),
}
_RUNNER = {
    **_CHECKPOINT,
    **names_from(
        "footplate.engine",
        "BaseLoop EpochBasedTrainLoop IterBasedTrainLoop Priority Runner TestLoop ValLoop get_priority",
    ),
    **names_from("footplate.records", "LogProcessor"),
    **names_from(
        f"{_HERE}.runner",
        "FlexibleRunner autocast calc_dynamic_intervals set_random_seed turn_on_activation_checkpointing",
    ),
}
_STRATEGY = names_from(
    f"{_HERE}.runner",
    "BaseStrategy ColossalAIStrategy DDPStrategy DeepSpeedStrategy FSDPStrategy SingleDeviceStrategy",
)
_TESTING = names_from(
    f"{_HERE}.torch_utils",
    "assert_allclose assert_attrs_equal assert_dict_contains_subset assert_dict_has_keys assert_is_norm_layer "
    "assert_keys_equal assert_params_all_zeros check_python_script",
)
_VISUALIZATION = {
    **names_from("footplate.visualization", "Visualizer"),
    **names_from(
        "footplate.records",
        "AimVisBackend BaseVisBackend ClearMLVisBackend DVCLiveVisBackend LocalVisBackend MLflowVisBackend "
        "NeptuneVisBackend TensorboardVisBackend WandbVisBackend",
    ),
    **names_from(f"{_HERE}.data", "force_init_env"),
}
_DRAWING = names_from(
    f"{_HERE}.data",
    "check_type check_type_and_length color_str2rgb color_val_matplotlib convert_overlay_heatmap img_from_canvas "
    "tensor2ndarray value2list",
)

MODULES: dict[str, Names] = {
    "mmengine": {
        **_CONFIG,
        **_FILEIO,
        **_LOGGING,
        **_REGISTRY,
        **_UTILS,
        **names_from(f"{_HERE}.utils", "__version__ version_info"),
    },
    "mmengine._strategy": _STRATEGY,
    "mmengine.analysis": _ANALYSIS,
    "mmengine.config": _CONFIG,
    "mmengine.dataset": _DATASET,
    "mmengine.device": _DEVICE,
    "mmengine.dist": _DIST,
    "mmengine.evaluator": _EVALUATOR,
    "mmengine.fileio": _FILEIO,
    "mmengine.hooks": _HOOKS,
    "mmengine.hub": names_from(f"{_HERE}.infer", "get_config get_model"),
    "mmengine.infer": _INFER,
    "mmengine.logging": _LOGGING,
    "mmengine.model": _MODEL,
    "mmengine.optim": {**_OPTIMIZER, **_SCHEDULER},
    "mmengine.registry": _REGISTRY,
    "mmengine.runner": _RUNNER,
    "mmengine.structures": names_from("footplate.data.structures", "BaseDataElement InstanceData LabelData PixelData"),
    "mmengine.testing": _TESTING,
    "mmengine.utils": _UTILS,
    "mmengine.utils.dl_utils": _DL_UTILS,
    "mmengine.visualization": {**_VISUALIZATION, **_DRAWING},
    "mmengine.version": names_from(f"{_HERE}.utils", "__version__ version_info parse_version_info"),
}
"""Maps the packages of `mmengine` to their names."""

_SUBMODULES = {
    "mmengine._strategy": "base colossalai deepspeed distributed fsdp single_device",
    "mmengine.analysis": "complexity_analysis jit_analysis print_helper",
    "mmengine.config": "config lazy utils",
    "mmengine.dataset": "base_dataset dataset_wrapper sampler utils",
    "mmengine.device": "utils",
    "mmengine.dist": "dist utils",
    "mmengine.evaluator": "evaluator metric utils",
    "mmengine.fileio": "backends backends.base backends.http_backend backends.lmdb_backend backends.local_backend "
    "backends.petrel_backend file_client handlers handlers.base handlers.json_handler handlers.pickle_handler "
    "handlers.yaml_handler io parse",
    "mmengine.hooks": "checkpoint_hook early_stopping_hook ema_hook empty_cache_hook hook iter_timer_hook logger_hook "
    "naive_visualization_hook param_scheduler_hook profiler_hook runtime_info_hook sampler_seed_hook sync_buffer_hook "
    "test_time_aug_hook",
    "mmengine.hub": "hub",
    "mmengine.infer": "infer",
    "mmengine.logging": "history_buffer logger message_hub",
    "mmengine.model": "averaged_model base_model base_model.base_model base_model.data_preprocessor base_module "
    "test_time_aug utils weight_init wrappers wrappers.distributed wrappers.utils",
    "mmengine.optim": "optimizer optimizer.amp_optimizer_wrapper optimizer.base optimizer.builder "
    "optimizer.default_constructor optimizer.optimizer_wrapper optimizer.optimizer_wrapper_dict scheduler "
    "scheduler.lr_scheduler scheduler.momentum_scheduler scheduler.param_scheduler",
    "mmengine.registry": "build_functions default_scope registry root utils",
    "mmengine.runner": "_flexible_runner activation_checkpointing amp base_loop checkpoint log_processor loops "
    "priority runner utils",
    "mmengine.structures": "base_data_element instance_data label_data pixel_data",
    "mmengine.testing": "compare",
    "mmengine.utils": "manager misc package_utils path progressbar progressbar_rich timer version_utils",
    "mmengine.utils.dl_utils": "collect_env hub misc parrots_wrapper setup_env time_counter torch_ops visualize",
    "mmengine.visualization": "utils vis_backend visualizer",
}

MODULES.update(
    {f"{package}.{name}": MODULES[package] for package, names in _SUBMODULES.items() for name in names.split()}
)


@functools.cache
def unprovided_names() -> dict[str, str]:
    """Maps the names that footplate does not provide to the versions of MMEngine that have them.

    Modules are included with their full names. `scripts/mmengine_names.py` generates the data file.
    """
    table = json.loads(Path(__file__).with_name("unknown_names.json").read_text(encoding="utf-8"))
    return {name: versions for versions, names in table.items() for name in names.split()}


def describe_unknown_name(module: str, name: str) -> str:
    """Returns an error message about a name that footplate does not provide in a module of `mmengine`.

    The message mentions the module that provides the name, the versions of MMEngine that define it, or a similar name.

    Args:
        module: The module, such as `mmengine.hooks`.
        name: The unknown name, or the unknown submodule.
    """
    message = f"footplate does not provide '{name}' in '{module}'"
    elsewhere = [title for title, names in MODULES.items() if name in names]
    if elsewhere:
        return f"{message}. Import it from '{min(elsewhere, key=len)}'."
    versions = unprovided_names().get(f"{module}.{name}") or unprovided_names().get(name)
    if versions:
        return f"{message} (in MMEngine {versions})."
    if not name.startswith("_"):
        message += f", and MMEngine defines no such name up to {__version__}"
    submodules = {title.removeprefix(f"{module}.") for title in MODULES if title.startswith(f"{module}.")}
    near = nearest(name, [*MODULES.get(module, ()), *submodules])
    if near:
        return f"{message}. Did you mean '{near}'?"
    near = nearest(name, [each for names in MODULES.values() for each in names])
    if near:
        home = min((title for title, names in MODULES.items() if near in names), key=len)
        return f"{message}. Did you mean '{near}' of '{home}'?"
    return f"{message}."
