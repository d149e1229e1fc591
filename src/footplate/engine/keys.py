"""The top-level keys that a config of either generation may have."""

from footplate.migration import FIRST_GENERATION_KEYS

RUNNER_KEYS = (
    "model",
    "work_dir",
    "train_dataloader",
    "val_dataloader",
    "test_dataloader",
    "train_cfg",
    "val_cfg",
    "test_cfg",
    "auto_scale_lr",
    "optim_wrapper",
    "param_scheduler",
    "val_evaluator",
    "test_evaluator",
    "default_hooks",
    "custom_hooks",
    "data_preprocessor",
    "load_from",
    "resume",
    "launcher",
    "env_cfg",
    "log_processor",
    "log_level",
    "visualizer",
    "default_scope",
    "randomness",
    "experiment_name",
    "on_save_error",
    "on_nonfinite",
    "preflight",
    "model_wrapper_cfg",
    "find_unused_parameters",
    "sync_bn",
    "compile",
    "channels_last",
    "model_adapter",
    "log_file",
)

# Keys that a second-generation config is read for. Other names in it, `optimizer` for example, are variables.
READ_KEYS = frozenset({*RUNNER_KEYS, "custom_imports", "runner_type", "tta_model", "tta_pipeline"})

KNOWN_KEYS = READ_KEYS | {*FIRST_GENERATION_KEYS, "vis_backends"}
