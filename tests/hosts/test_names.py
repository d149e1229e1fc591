import inspect
from pkgutil import resolve_name

import pytest

from footplate.hosts.names import DISTRIBUTIONS, NAMES, names_of
from footplate.registry import HOOKS


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
