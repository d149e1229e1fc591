"""The import names of OpenMMLab packages, and their counterparts in footplate."""

from footplate.hosts.mmcv.names import EVALUATION, OPTIMIZERS, REGISTRIES
from footplate.hosts.mmcv.names import MODULES as MMCV
from footplate.hosts.mmengine.names import MODULES as MMENGINE
from footplate.hosts.mmengine.names import Names, names_from

_FUNCTIONS = "footplate.hosts.mmcv.functions"

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
    hooks = {**names_from("footplate.registry", "HOOKS"), **OPTIMIZERS, **EVALUATION}
    return {
        package: {},
        f"{package}.registry": REGISTRIES,
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
        return {**REGISTRIES, **OPTIMIZERS}
    return {} if any(known.startswith(f"{module}.") for known in NAMES) else None
