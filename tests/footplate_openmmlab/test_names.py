import importlib
import inspect
import sys
from pkgutil import resolve_name

import pytest

import footplate_openmmlab as openmmlab
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


@pytest.fixture
def installed() -> None:
    openmmlab.install()


@pytest.mark.usefixtures("installed")
def test_a_function_keeps_its_name_after_its_module_is_imported() -> None:
    function = importlib.import_module("mmcv.parallel.collate").collate
    assert importlib.import_module("mmcv.parallel").collate is function
