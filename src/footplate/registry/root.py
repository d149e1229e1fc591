"""The root registries, under their MMEngine names.

Each registry lists the packages that contain its built-in entries. They are imported on first lookup. If a base class
is given, only its subclasses are accepted. With `strict=False`, this applies only to dotted paths, because existing
code also registers plain functions there.
"""

from typing import Any

from footplate.registry.package_models import PackageModels
from footplate.registry.registry import Registry

__all__ = [
    "DATASETS",
    "DATA_SAMPLERS",
    "EVALUATOR",
    "FUNCTIONS",
    "HOOKS",
    "INFERENCERS",
    "LOG_PROCESSORS",
    "LOOPS",
    "METRICS",
    "MODELS",
    "MODEL_WRAPPERS",
    "OPTIMIZERS",
    "OPTIMIZER_BUILDERS",
    "OPTIM_WRAPPERS",
    "OPTIM_WRAPPER_CONSTRUCTORS",
    "PARAM_SCHEDULERS",
    "ROOT_REGISTRIES",
    "RUNNERS",
    "RUNNER_CONSTRUCTORS",
    "STRATEGIES",
    "TASK_UTILS",
    "TRANSFORMS",
    "VISBACKENDS",
    "VISUALIZERS",
    "WEIGHT_INITIALIZERS",
]

_TASKS = "footplate.tasks.all_tasks"
_ADAPTERS = "footplate.first_generation.adapters"


def _root(name: str, *locations: str, **settings: Any) -> Registry:
    return Registry(name, scope="footplate", locations=locations, **settings)


RUNNERS = _root("runner", "footplate.engine", base="footplate.engine.runner:Runner")
RUNNER_CONSTRUCTORS = _root("runner constructor")
LOOPS = _root("loop", "footplate.engine", base="footplate.engine.base_loops:BaseLoop")
HOOKS = _root("hook", "footplate.hooks", _TASKS, _ADAPTERS, base="footplate.engine.hook:Hook")
STRATEGIES = _root("strategy")


def build_model(cfg: Any, *args: Any, registry: Registry, **kwargs: Any) -> Any:
    """Builds a module from its config. A list of configs, such as several necks, becomes a `Sequential`."""
    if not isinstance(cfg, (list, tuple)):
        return registry.build_entry(cfg, *args, **kwargs)
    from torch.nn import Sequential

    return Sequential(*(registry.build_entry(each, *args, **kwargs) for each in cfg))


DATASETS = _root(
    "dataset",
    "footplate.data",
    "footplate.tasks.recipes.fashion_items",
    "footplate.tasks.recipes.fashion_scenes",
    _TASKS,
    _ADAPTERS,
    base="torch.utils.data:Dataset",
    strict=False,
)
DATA_SAMPLERS = _root("data sampler", "footplate.data", base="torch.utils.data:Sampler", strict=False)
TRANSFORMS = _root("transform", "footplate.data", _TASKS)
FUNCTIONS = _root("function", "footplate.data", _ADAPTERS)

MODELS = _root(
    "model", "footplate.models", _TASKS, _ADAPTERS, base="torch.nn:Module", strict=False, build_func=build_model
)
for _package, _source, _extra in (
    ("timm", "TimmModels", "models"),
    ("torchvision", "TorchvisionModels", "models"),
    ("transformers", "TransformersModels", "transformers"),
    ("segmentation_models_pytorch", "SegmentationModels", "models"),
):
    PackageModels(_package, MODELS, f"footplate.models.package_models:{_source}", _extra)
MODEL_WRAPPERS = _root("model wrapper", "footplate.distributed.wrappers", base="torch.nn:Module", strict=False)
WEIGHT_INITIALIZERS = _root("weight initializer", "footplate.models")
TASK_UTILS = _root("task util", _TASKS)

OPTIMIZERS = _root("optimizer", "footplate.optim", base="torch.optim:Optimizer")
OPTIM_WRAPPERS = _root(
    "optimizer wrapper", "footplate.optim", _ADAPTERS, base="footplate.optim.wrappers.optim_wrapper:OptimWrapper"
)
OPTIM_WRAPPER_CONSTRUCTORS = _root("optimizer wrapper constructor", "footplate.optim")
OPTIMIZER_BUILDERS = _root("optimizer constructor", "footplate.optim")
PARAM_SCHEDULERS = _root("parameter scheduler", "footplate.optim", noun="schedule")

METRICS = _root("metric", "footplate.evaluation", _TASKS, _ADAPTERS, base="footplate.evaluation.metric:BaseMetric")
EVALUATOR = _root("evaluator", "footplate.evaluation", base="footplate.evaluation.evaluator:Evaluator")

VISUALIZERS = _root(
    "visualizer", "footplate.visualization", _TASKS, base="footplate.visualization.visualizer:Visualizer"
)
VISBACKENDS = _root(
    "visualizer backend", "footplate.records", base="footplate.records.writers.base_writer:BaseVisBackend"
)
LOG_PROCESSORS = _root("log processor", "footplate.records", base="footplate.records.log_processor:LogProcessor")
INFERENCERS = _root("inferencer")

ROOT_REGISTRIES: dict[str, Registry] = {
    name: value for name, value in list(globals().items()) if isinstance(value, Registry)
}
