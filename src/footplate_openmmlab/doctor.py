"""Checks that installed code bases have all their dependencies and can be imported."""

import importlib
import os
import platform
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy
import torch

from footplate.advice import advise
from footplate.registry import MODELS
from footplate.registry.dotted_paths import find_spec, is_user_module
from footplate.registry.root import PackageModels
from footplate.version import __version__
from footplate_openmmlab.code_bases import named_code_bases, plugin_folder, use_code_bases
from footplate_openmmlab.extension import CODE_BASES
from footplate_openmmlab.first_generation.translation.config_translation import is_first_generation
from footplate_openmmlab.mmengine.registry import register_all_modules
from footplate_openmmlab.requirements import (
    explain_installation,
    explain_opencv,
    explain_unmet,
    explain_untested,
    extra_of,
    extras,
    first_generation_extra,
    installed_version,
    scope_of,
    without_included,
)
from footplate_openmmlab.skipped_imports import skipped

if TYPE_CHECKING:
    from footplate.config import Config

_IMPORT = re.compile(r"^(?:import|from) (\w+)", re.MULTILINE)


def check_code_base(name: str) -> dict[str, Any]:
    """Imports a code base and all modules that register its classes, and reports problems.

    Args:
        name: A code base, such as "mmseg", or a footplate extra for one generation of a code base, such as "mmseg0".

    Returns:
        A dict with the keys `name`, `version`, `problems` and `remarks`. `problems` is a list of lines that describe
        problems and how to fix them. `remarks` is a list of lines. Without problems, the first remark is "complete" or
        "installed, but incomplete". The others are the folder of a user's copy of the code base, and
        the errors of skipped imports, including those skipped earlier in this process for other code bases.
    """
    scope = scope_of(name)
    version = installed_version(CODE_BASES[scope])
    extra = name if scope != name else extra_of(scope)
    problems, remarks = list[str](), list[str]()
    if (spec := find_spec(scope)) and spec.origin and is_user_module(scope):
        remarks = [f"a copy in {os.path.dirname(spec.origin)}"]
    elif version:
        problems = explain_unmet(extra)
    else:
        problems = ["It is not installed.", *explain_installation(name)]
    if not problems:
        try:
            use_code_bases({"default_scope": scope})
            register_all_modules(scope)
        except Exception as error:
            problems = [*str(error).splitlines(), *advise(error)]
        version = getattr(sys.modules.get(scope), "__version__", version)
    reasons = {reason: [each for each in skipped if skipped[each] == reason] for reason in skipped.values()}
    remarks += [f"Cannot import {', '.join(names)}: {reason}" for reason, names in reasons.items()]
    if not problems:
        remarks.insert(0, "installed, but incomplete" if skipped else "complete")
    return {"name": name, "version": version, "problems": problems, "remarks": remarks}


def code_bases_of(cfg: "Config") -> list[str]:
    """Returns the code bases that a config or its plugin refers to, as names for `check_code_base`.

    For a first-generation config, these are the extras of this generation, except those that others include.
    """
    scopes = set(named_code_bases(cfg))
    if folder := plugin_folder(cfg):
        files = (file.read_text("utf-8", "replace") for file in Path(folder).rglob("*.py"))
        scopes |= CODE_BASES.keys() & {name for text in files for name in _IMPORT.findall(text)}
    if not is_first_generation(cfg):
        return sorted(scopes)
    return without_included(sorted(map(first_generation_extra, scopes)))


def _failed_imports(extra: str) -> list[str]:
    """Returns a line for each installed model package that cannot be imported, and a line for each known cause."""
    lines = []
    for registry in MODELS.children.values():
        if isinstance(registry, PackageModels) and registry.extra == extra and find_spec(registry.scope):
            try:
                importlib.import_module(registry.scope)
            except Exception as error:
                lines += [f"Cannot import {registry.scope}: {type(error).__name__}: {error}", *advise(error)]
    return list(dict.fromkeys(lines))


def check_environment() -> list[dict[str, Any]]:
    """Checks footplate's optional packages and the installed code bases.

    Returns one dict each for footplate, Python, torch, NumPy, every installed code base and every extra that is not for
    a code base, in the format of `check_code_base`. A version that was not tested and a missing optional package are
    reported as remarks. An unmet requirement of footplate and a broken model package are problems.
    """
    versions = {"Python": platform.python_version(), "torch": str(torch.__version__), "numpy": numpy.__version__}
    problems = [*explain_unmet(""), *explain_opencv()]
    rows = [{"name": "footplate", "version": __version__, "problems": problems, "remarks": []}]
    for name, version in versions.items():
        rows.append({"name": name, "version": version, "problems": [], "remarks": explain_untested(name, version)})
    for extra in extras():
        if scope_of(extra) not in CODE_BASES:
            problems = _failed_imports(extra)
            missing = [f"Optional. {line}" for line in explain_unmet(extra)[:1]]
            remarks = missing or ([] if problems else ["complete"])
            rows.append({"name": extra, "version": "", "problems": problems, "remarks": remarks})
    return rows + [check_code_base(scope) for scope, name in CODE_BASES.items() if installed_version(name)]
