"""Writes the names and signatures of the public API to `tests/data/public_api.txt`.

Also writes the names of all built-in classes to a file, so that registries know them without importing the classes.
"""

import importlib
import inspect
import json
import sys
from collections.abc import Iterator
from operator import attrgetter
from pathlib import Path
from typing import Any

from footplate.registry.registry import is_built_in
from footplate.registry.root import ROOT_REGISTRIES

ROOT = Path(__file__).resolve().parents[1]
FILE = ROOT / "tests" / "data" / "public_api.txt"
BUILT_IN_NAMES = ROOT / "src" / "footplate" / "registry" / "built_in_names.json"
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
    "footplate.testing",
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
            function = value.fget if isinstance(value, property) else value
            if not member.startswith("_") and (_is_own(function) or isinstance(function, attrgetter)):
                yield f"{path}.{member}{_signature(value)}"


def text() -> str:
    """Returns the contents of the file: one line for each name."""
    return "".join(f"{line}\n" for line in _lines())


def built_in_names() -> dict[str, list[str]]:
    """Maps the name of each root registry to the names of its built-in entries."""
    return {
        registry.name: sorted(name for name, entry in registry.module_dict.items() if is_built_in(entry))
        for registry in sorted(ROOT_REGISTRIES.values(), key=lambda registry: registry.name)
    }


if __name__ == "__main__":
    contents = {FILE: text(), BUILT_IN_NAMES: json.dumps(built_in_names(), indent=1) + "\n"}
    if "--check" in sys.argv:
        sys.exit(
            "\n".join(f"{path} is outdated" for path in contents if path.read_text("utf-8") != contents[path]) or 0
        )
    for path, content in contents.items():
        path.write_text(content, encoding="utf-8")
