import importlib
import inspect
from collections.abc import Iterator
from pathlib import Path
from pkgutil import resolve_name

import pytest

from footplate import hosts
from footplate.hosts.names import DISTRIBUTIONS, MMCV, NAMES, names_of
from footplate.registry import HOOKS

# Every name that 63 public packages import from mmcv 1.x and that mmcv 2 lacks, read from their sources.
IMPORTED = (Path(__file__).parents[1] / "data" / "vectors" / "mmcv_names.txt").read_text().split()
IN_MMCV_LITE = {"mmcv:ops", "mmcv.Color:blue", "mmcv.utils:ext_loader"}


@pytest.mark.parametrize("module", sorted(NAMES))
def test_every_name_resolves(module: str) -> None:
    for name, target in NAMES[module].items():
        found = resolve_name(target)
        assert found is not None or name == "CUDA_HOME", name
        if inspect.isclass(found) or inspect.isfunction(found):
            assert found.__module__.startswith(("footplate.", "torch.")), name


def test_parent_modules_of_known_modules_exist() -> None:
    assert {title.partition(".")[0] for title in NAMES} == set(DISTRIBUTIONS)
    assert all(names_of(title.rpartition(".")[0]) is not None for title in NAMES if "." in title)


@pytest.mark.parametrize(
    "module", ["mmseg.core.optimizer.registry", "mmdet.core.hooks.builder", "mmcv.runner.registry"]
)
def test_registry_modules_exist_in_every_package(module: str) -> None:
    names = names_of(module)
    assert names is not None
    assert resolve_name(names["HOOKS"]) is HOOKS


@pytest.mark.parametrize("module", ["mmcv.ops", "numpy", "mmsegment", "mmcv.runners"])
def test_unknown_modules_have_no_names(module: str) -> None:
    assert names_of(module) is None


@pytest.fixture
def installed() -> Iterator[None]:
    hosts.install()
    yield
    hosts.uninstall()


def test_all_mmcv_names_are_listed() -> None:
    assert len(IMPORTED) == 193


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("name", sorted({*IMPORTED} - IN_MMCV_LITE))
def test_names_that_packages_import(name: str) -> None:
    module, _, attribute = name.partition(":")
    parent, _, last = module.rpartition(".")
    is_class = last[0].isupper()  # such as mmcv.Config, of which an attribute is read
    found = getattr(importlib.import_module(parent), last) if is_class else importlib.import_module(module)
    if not hasattr(found, attribute):
        importlib.import_module(f"{module}.{attribute}")


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("module", sorted(MMCV))
def test_every_mmcv_name_of_the_tables_exists(module: str) -> None:
    found = importlib.import_module(module)
    for name in MMCV[module]:
        assert hasattr(found, name)


@pytest.mark.usefixtures("installed")
def test_a_function_keeps_its_name_after_its_module_is_imported() -> None:
    function = importlib.import_module("mmcv.parallel.collate").collate
    assert importlib.import_module("mmcv.parallel").collate is function
