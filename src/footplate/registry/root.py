"""The root registries, with the same names as in MMEngine, and the registries for models in installed packages.

Each registry lists the modules that define its built-in entries, and extensions add modules to it. The modules are
imported on first lookup. A registry with a base class accepts only subclasses. With `strict=False`, the base class is
checked only for dotted paths, because existing code also registers plain functions.
"""

from collections.abc import Mapping
from functools import cached_property
from pkgutil import resolve_name
from typing import Any

from footplate.errors import UnknownNameError, import_optional
from footplate.extensions import extensions
from footplate.messages import nearest
from footplate.registry.arguments import Entry
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


class PackageModels(Registry):
    """Provides a package's models under names like `timm.resnet18`, without registering them.

    The package is imported on first lookup.

    Args:
        package: The name of the package, which is also the scope of the registry.
        parent: The registry of models.
        source: The class that provides the package's models, as `"module:Class"`; see
            `footplate.models.package_models`.
        extra: The footplate extra that installs the package.
    """

    def __init__(self, package: str, parent: Registry, source: str, extra: str) -> None:
        super().__init__(f"model of {package}", parent=parent, scope=package, noun="model")
        self._source_path = source
        self.extra = extra

    @cached_property
    def source(self) -> Any:
        """The object that lists and builds the package's models.

        Raises:
            MissingExtraError: The package is not installed.
        """
        package = import_optional(self.scope, extra=self.extra, why=f"a model of {self.scope}")
        return resolve_name(self._source_path)(package)

    def _find_upwards(self, name: str) -> Entry | None:
        if self.source.has(name):

            def build(**settings: Any) -> Any:
                return self.source.build(name, **settings)

            build.__name__ = f"{self.scope}.{name}"
            return build
        if "." in name:  # a dotted path, which only Python configs may use
            return None
        near = nearest(name, self.source.names())
        raise UnknownNameError(
            f"{self.scope} has no model '{name}'",
            suggestion=near and f"{self.scope}.{near}",
        )


def _root(name: str, *locations: str, **settings: Any) -> Registry:
    added = [location for extension in extensions() for location in extension.locations.get(name, ())]
    return Registry(name, scope="footplate", locations=(*locations, *added), **settings)


def build_runner(cfg: Any, *args: Any, registry: Registry, **kwargs: Any) -> Any:
    """Builds the runner of a whole config, whose `runner_type` may refer to another class than `Runner`."""
    settings = getattr(cfg, "_cfg_dict", cfg)  # of a Config
    if not isinstance(settings, Mapping) or "type" in settings or args or kwargs:
        return registry.build_entry(cfg, *args, **kwargs)
    runner: Any = RUNNERS.get("Runner")
    return runner.from_cfg(cfg)


RUNNERS = _root("runner", "footplate.engine", base="footplate.engine.run.runner:Runner", build_func=build_runner)
RUNNER_CONSTRUCTORS = _root("runner constructor")
LOOPS = _root("loop", "footplate.engine", base="footplate.engine.loops.base_loops:BaseLoop")
HOOKS = _root("hook", "footplate.hooks", base="footplate.engine.values.hook:Hook")
STRATEGIES = _root("strategy")  # kept from MMEngine


def build_model(cfg: Any, *args: Any, registry: Registry, **kwargs: Any) -> Any:
    """Builds a module from its config. A list of configs (for several necks, for example) becomes a `Sequential`."""
    if not isinstance(cfg, (list, tuple)):
        return registry.build_entry(cfg, *args, **kwargs)
    from torch.nn import Sequential

    return Sequential(*(registry.build_entry(section, *args, **kwargs) for section in cfg))


DATASETS = _root(
    "dataset",
    "footplate.data",
    base="torch.utils.data:Dataset",
    strict=False,
)
DATA_SAMPLERS = _root("data sampler", "footplate.data", base="torch.utils.data:Sampler", strict=False)
TRANSFORMS = _root("transform", "footplate.data")
FUNCTIONS = _root("function", "footplate.data")

MODELS = _root("model", "footplate.models", base="torch.nn:Module", strict=False, build_func=build_model)
for _package, _source, _extra in (
    ("timm", "TimmModels", "models"),
    ("torchvision", "TorchvisionModels", "models"),
    ("transformers", "TransformersModels", "transformers"),
    ("segmentation_models_pytorch", "SegmentationModels", "models"),
):
    PackageModels(_package, MODELS, f"footplate.models.package_models:{_source}", _extra)
MODEL_WRAPPERS = _root("model wrapper", "footplate.distributed.wrappers", base="torch.nn:Module", strict=False)
WEIGHT_INITIALIZERS = _root("weight initializer", "footplate.models")
TASK_UTILS = _root("task util")

OPTIMIZERS = _root("optimizer", "footplate.optim", base="torch.optim:Optimizer")
OPTIM_WRAPPERS = _root(
    "optimizer wrapper", "footplate.optim", base="footplate.optim.wrappers.optim_wrapper:OptimWrapper"
)
OPTIM_WRAPPER_CONSTRUCTORS = _root("optimizer wrapper constructor", "footplate.optim")
OPTIMIZER_BUILDERS = _root("optimizer constructor", "footplate.optim")
PARAM_SCHEDULERS = _root("parameter scheduler", "footplate.optim", noun="schedule")

METRICS = _root("metric", "footplate.evaluation", base="footplate.evaluation.metric:BaseMetric")
EVALUATOR = _root("evaluator", "footplate.evaluation", base="footplate.evaluation.evaluator:Evaluator")

VISUALIZERS = _root("visualizer", "footplate.visualization", base="footplate.visualization.visualizer:Visualizer")
VISBACKENDS = _root(
    "visualizer backend", "footplate.records", base="footplate.records.base_writer:BaseVisBackend", strict=False
)
LOG_PROCESSORS = _root("log processor", "footplate.records", base="footplate.records.log_processor:LogProcessor")
INFERENCERS = _root("inferencer")  # kept from MMEngine

ROOT_REGISTRIES: dict[str, Registry] = {
    name: value for name, value in list(globals().items()) if isinstance(value, Registry)
}
