"""Describes names of `mmengine` that footplate does not provide, for error messages."""

from footplate.hosts.mmengine.names import MODULES
from footplate.messages import nearest

# Maps versions of MMEngine to the names and modules that they define but footplate does not provide.
_DEFINED = {
    "0.1.0": "FSDP_WRAP_POLICYS",
    "since 0.1.0": "BASE_KEY CastData ConfigType DEFAULT_CACHE_DIR DELETE_KEY DEPRECATION_KEY ENV_MMENGINE_HOME "
    "ENV_XDG_CACHE_HOME IndexType MMFormatter MMFullyShardedDataParallel MMSeparateDistributedDataParallel "
    "MemcachedBackend MultiProcessTestCase OptimWrapperType OptimizerType PKG2PROJECT ParamSchedulerType "
    "RESERVED_KEYS RemoveAssignFromAST TEST_SKIPS TORCH_OPTIMIZERS TestSkip ToyModel add_args check_length "
    "convert_overlay_heatmap count_registered_modules fake_run file_handlers find_vcs_root get_build_config "
    "get_deprecated_model_names get_external_models get_mmcls_models get_torchvision_models is_jit_tracing "
    "load_from_ceph load_from_http load_from_local load_from_mmcls load_from_openmmlab load_from_pavi "
    "load_from_torchvision package2module register_torch_optimizers runtimeinfo_step set_default "
    "traverse_registry_tree update_params_step wait_continue mmengine.model.wrappers.fully_sharded_distributed "
    "mmengine.model.wrappers.seperate_distributed mmengine.testing._internal mmengine.utils.dl_utils.trace",
    "from 0.2.0 to 0.7.4": "FSDP_WRAP_POLICIES",
    "since 0.2.0": "EnhancedBatchDataSamples EnhancedBatchInputs MergedDataSamples backend_instances "
    "generate_presigned_url prefix_to_backends mmengine.fileio.backends.memcached_backend "
    "mmengine.fileio.backends.registry_utils mmengine.fileio.handlers.registry_utils",
    "since 0.3.0": "ZeroRedundancyOptimizer mmengine.optim.optimizer.zero_optimizer",
    "since 0.3.2": "RunnerTestCase ToyDataset ToyMetric mmengine.testing.runner_test_case",
    "since 0.4.0": "build_runner_with_tta check_kineto",
    "since 0.5.0": "InferencerMeta InstanceList",
    "since 0.6.0": "ApexOptimWrapper DADAPTATION_OPTIMIZERS Handle JitModelAnalysis LION_OPTIMIZERS NPUProfilerHook "
    "Statistics activation_count addmm_flop_jit batchnorm_flop_jit bmm_flop_jit conv_flop_count conv_flop_jit "
    "einsum_flop_jit elementwise_flop_counter flop_count generic_activation_jit get_shape linear_flop_jit "
    "matmul_flop_jit norm_flop_counter parameter_count_table register_dadaptation_optimizers register_lion_optimizers "
    "mmengine.analysis.jit_handles mmengine.optim.optimizer.apex_optimizer_wrapper",
    "since 0.7.0": "FilterDuplicateWarning",
    "since 0.7.1": "IS_NPU_AVAILABLE npu_jit_compile",
    "since 0.7.3": "BoolTypeTensor LongTypeTensor NPU_OPTIMIZERS register_torch_npu_optimizers",
    "since 0.7.4": "IS_DIPU_AVAILABLE SOPHIA_OPTIMIZERS register_sophia_optimizers",
    "since 0.8.0": "ConfigParsingError DEEPSPEED_OPTIMIZERS DeepSpeedOptimWrapper FSDP_CONFIGS ImportTransformer "
    "LazyAttr MMDeepSpeedEngineWrapper MetaTensorContext PYTHON_ROOT_DIR register_deepspeed_optimizers "
    "mmengine._strategy.utils",
    "from 0.8.3 to 0.8.5": "DeepSpeedEngine",
    "since 0.8.3": "efficient_conv_bn_eval_control efficient_conv_bn_eval_forward "
    "efficient_conv_bn_eval_graph_transform turn_on_efficient_conv_bn_eval "
    "turn_on_efficient_conv_bn_eval_for_single_model mmengine.model.efficient_conv_bn_eval",
    "since 0.8.4": "VisBackendsType",
    "from 0.9.0 to 0.10.1": "CollosalAIModelWrapper",
    "since 0.9.0": "BITSANDBYTES_OPTIMIZERS ColossalAIOptimWrapper MIXED_PRECISIONS ModelWrapper PLUGINS "
    "TRANSFORMERS_OPTIMIZERS register_bitsandbytes_optimizers register_mixed_precisions register_optimizers "
    "register_plugins register_transformers_optimizers wrap_forward",
    "since 0.10.2": "ColossalAIModelWrapper",
    "since 0.10.3": "IS_MUSA_AVAILABLE",
    "since 0.10.5": "IS_MLU_AVAILABLE SYSTEM_PYTHON_PREFIX",
    "since 0.10.6": "build_optimizer_from_cfg",
}
_VERSIONS = {name: versions for versions, names in _DEFINED.items() for name in names.split()}


def describe_unknown_name(module: str, name: str) -> str:
    """Returns an error message about a name that footplate does not provide in a module of `mmengine`.

    The message contains the versions of MMEngine that define the name, the modules that have it, and similar names.

    Args:
        module: The module, such as `mmengine.hooks`.
        name: The unknown name, or the unknown submodule.
    """
    from footplate.hosts.mmengine.packages import __version__  # imports models, which most runs do not need here

    message = f"footplate does not provide '{name}' of '{module}'"
    elsewhere = [title for title, names in MODULES.items() if name in names]
    if elsewhere:
        return f"{message}. Import it from '{min(elsewhere, key=len)}'."
    versions = _VERSIONS.get(f"{module}.{name}") or _VERSIONS.get(name)
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
