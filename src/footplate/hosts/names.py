"""The import names of OpenMMLab packages, and their counterparts in footplate."""

from footplate.hosts.mmcv.names import EVALUATION, OPTIMIZERS, REGISTRIES
from footplate.hosts.mmcv.names import MODULES as MMCV
from footplate.hosts.mmengine.names import MODULES as MMENGINE
from footplate.hosts.mmengine.names import Names


def _from(module: str, *names: str, **renamed: str) -> Names:
    """Maps names to attributes of a footplate module. A string may contain several names, separated by spaces."""
    same = {name: name for text in names for name in text.split()}
    return {name: f"footplate.{module}:{attribute}" for name, attribute in {**same, **renamed}.items()}


_FUNCTIONS = "first_generation.adapters.mmcv_functions"

# Registries that code bases define under their own names.
_MODEL_REGISTRIES = ("BACKBONES", "HEADS", "LOSSES", "MODELS", "NECKS")
_DATA_NAMES = {**_from("registry", "DATASETS", PIPELINES="TRANSFORMS"), **_from(_FUNCTIONS, "build_dataset")}


def _models(*registries: str) -> Names:
    return _from("registry", **dict.fromkeys((*_MODEL_REGISTRIES, *registries), "MODELS"))


def _code_base(package: str, *registries: str) -> dict[str, Names]:
    """Returns the registries and helper functions of a code base, for both generations."""
    utils = _from(_FUNCTIONS, "get_model", "get_root_logger")
    hooks = {**_from("registry", "HOOKS"), **OPTIMIZERS, **EVALUATION}
    return {
        package: {},
        f"{package}.registry": REGISTRIES,
        f"{package}.utils": utils,
        f"{package}.models": _models(*registries),
        f"{package}.models.builder": _models(*registries),
        f"{package}.datasets": _DATA_NAMES,
        f"{package}.datasets.builder": _DATA_NAMES,
        f"{package}.core": hooks,
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
        return {**REGISTRIES, **OPTIMIZERS}
    return {} if any(known.startswith(f"{module}.") for known in NAMES) else None
