"""Every name that 63 public packages import from mmcv 1.x and that mmcv 2 lacks, read from their sources."""

import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from footplate import hosts
from footplate.hosts.mmcv.names import MODULES

IMPORTED = (Path(__file__).parents[2] / "data" / "vectors" / "mmcv_names.txt").read_text().split()
IN_MMCV_LITE = {"mmcv:ops", "mmcv.Color:blue", "mmcv.utils:ext_loader"}


@pytest.fixture(autouse=True)
def _installed() -> Iterator[None]:
    hosts.install()
    yield
    hosts.uninstall()


def test_all_are_listed() -> None:
    assert len(IMPORTED) == 193


@pytest.mark.parametrize("name", sorted({*IMPORTED} - IN_MMCV_LITE))
def test_names_that_packages_import(name: str) -> None:
    module, _, attribute = name.partition(":")
    parent, _, last = module.rpartition(".")
    is_class = last[0].isupper()  # such as mmcv.Config, of which an attribute is read
    found = getattr(importlib.import_module(parent), last) if is_class else importlib.import_module(module)
    if not hasattr(found, attribute):
        importlib.import_module(f"{module}.{attribute}")


@pytest.mark.parametrize("module", sorted(MODULES))
def test_every_name_of_the_tables_exists(module: str) -> None:
    found = importlib.import_module(module)
    for name in MODULES[module]:
        assert hasattr(found, name)


def test_a_function_keeps_its_name_after_its_module_is_imported() -> None:
    function = importlib.import_module("mmcv.parallel.collate").collate
    assert importlib.import_module("mmcv.parallel").collate is function
