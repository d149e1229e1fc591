import inspect
import sys
from pkgutil import resolve_name

from footplate_openmmlab.names import NAMES, PATCHED_NAMES


def test_every_name_resolves_to_footplate_torch_or_python() -> None:
    for module, names in {**NAMES, **PATCHED_NAMES}.items():
        for name, target in names.items():
            if target.startswith("mmengine."):  # see tests/footplate_openmmlab/mmengine/test_with_mmengine.py
                continue
            found = resolve_name(target)
            assert found is not None or name == "CUDA_HOME", f"{module}.{name}"
            if inspect.isclass(found) or inspect.isfunction(found):
                is_of_python = found.__module__ in sys.stdlib_module_names
                assert is_of_python or found.__module__.startswith(("footplate", "torch.", "yaml.")), f"{module}.{name}"
