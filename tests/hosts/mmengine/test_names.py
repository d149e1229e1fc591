"""Every name that 60 public packages import from `mmengine`, read from their sources on 2026-11-21."""

import importlib
from pathlib import Path

import pytest

from footplate import hosts
from footplate.hosts.mmengine.names import MODULES

IMPORTED = (Path(__file__).parents[2] / "data" / "vectors" / "mmengine_names.txt").read_text().split()


def test_all_are_listed() -> None:
    assert len(IMPORTED) == 371


@pytest.mark.parametrize("module", sorted({name.partition(":")[0] for name in IMPORTED}))
def test_names_that_packages_import(module: str) -> None:
    hosts.install()
    parent, _, last = module.rpartition(".")
    is_class = last[0].isupper()  # such as mmengine.FileClient, of which an attribute is read
    found = getattr(importlib.import_module(parent), last) if is_class else importlib.import_module(module)
    for name in IMPORTED:
        if name.partition(":")[0] == module:
            assert hasattr(found, name.partition(":")[2]), name


@pytest.mark.parametrize("module", sorted(MODULES))
def test_every_name_of_the_tables_exists(module: str) -> None:
    hosts.install()
    found = importlib.import_module(module)
    for name in MODULES[module]:
        assert hasattr(found, name)


def test_an_unknown_name_suggests_the_nearest_one() -> None:
    hosts.install()
    with pytest.raises(AttributeError, match=r"no counterpart for 'mmengine.hooks.CheckpontHook': did you mean"):
        importlib.import_module("mmengine.hooks").CheckpontHook  # noqa: B018
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("mmengine.nonsense")
