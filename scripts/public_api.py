"""Writes the names and signatures of the public API to `tests/data/public_api.txt`."""

import importlib
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FILE = Path(__file__).resolve().parents[1] / "tests" / "data" / "public_api.txt"
MODULES = (
    "footplate",
    "footplate.checkpoint",
    "footplate.config",
    "footplate.data",
    "footplate.data.transforms",
    "footplate.distributed",
    "footplate.engine",
    "footplate.evaluation",
    "footplate.hooks",
    "footplate.models",
    "footplate.optim",
    "footplate.optim.schedules",
    "footplate.records",
    "footplate.registry",
    "footplate.storage",
    "footplate.visualization",
    "footplate_openmmlab",
    "footplate_operators",
    "footplate_operators.functional",
    "footplate_operators.mmcv_ops",
    "footplate_vision.classification",
    "footplate_vision.detection",
    "footplate_vision.inference",
    "footplate_vision.segmentation",
    "footplate_vision.selfsup",
)
# Names of other modules that the pages show.
NAMES = (
    "footplate.error_context.origin_of",
    "footplate.extensions.Extension",
    "footplate.extensions.translate",
    "footplate.tools.checkpoint_conversion.average_weights",
    "footplate.tools.checkpoint_conversion.export_weights",
    "footplate_vision.detection.detector.BaseDetector",
    "footplate_vision.detection.detector.aligned_giou",
    "footplate_vision.detection.small_detector.Grid",
    "footplate_vision.detection.small_detector.assign",
    "footplate_vision.recipes.fashion_scenes.FashionScenes",
)
# Classes that users derive from, or whose methods they call: these methods are public as well.
CLASSES = (
    "footplate.BaseModel",
    "footplate.Config",
    "footplate.Hook",
    "footplate.Registry",
    "footplate.Runner",
    "footplate.evaluation.BaseMetric",
    "footplate.extensions.Extension",
    "footplate.optim.OptimWrapper",
)


def _is_own(value: Any) -> bool:
    """Checks whether a function or a constructor is defined in footplate; the others depend on the installed versions.

    Imports of mmengine add members to the engine's classes, which are not part of it either.
    """
    function = value.__init__ if inspect.isclass(value) else value
    module = getattr(function, "__module__", None) or ""
    # Operators of torch are objects that wrap a function.
    is_function = inspect.isfunction(function) or inspect.ismethod(function) or hasattr(function, "__wrapped__")
    return is_function and module.startswith("footplate") and "mmengine" not in module


def _signature(value: Any) -> str:
    """Returns the parameters without annotations. A default is shown as `name=`, since its value may change."""
    if not _is_own(value):
        return ""
    shown: list[str] = []
    for parameter in inspect.signature(value).parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY and not any(each.startswith("*") for each in shown):
            shown.append("*")
        prefix = "*" if parameter.kind is parameter.VAR_POSITIONAL else "**" * (parameter.kind is parameter.VAR_KEYWORD)
        shown.append(prefix + parameter.name + ("" if parameter.default is parameter.empty else "="))
    return f"({', '.join(shown)})"


def _named(path: str) -> Any:
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)


def _lines() -> Iterator[str]:
    for title in MODULES:
        module = importlib.import_module(title)
        for name in sorted(module.__all__):
            yield f"{title}.{name}{_signature(getattr(module, name))}"
    for path in NAMES:
        yield f"{path}{_signature(_named(path))}"
    for path in CLASSES:
        for member, value in inspect.getmembers(_named(path)):
            if not member.startswith("_") and _is_own(value.fget if isinstance(value, property) else value):
                yield f"{path}.{member}{_signature(value)}"


def text() -> str:
    """Returns the contents of the file: one line for each name."""
    return "".join(f"{line}\n" for line in _lines())


if __name__ == "__main__":
    FILE.write_text(text(), encoding="utf-8")
