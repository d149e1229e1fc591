import sys
from collections.abc import Iterator

import pytest

import footplate_openmmlab as openmmlab
from footplate.registry import ROOT_REGISTRIES


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    """Offers the old import names, and takes back what a fragment registered and imported."""
    entries = {name: dict(registry.module_dict) for name, registry in ROOT_REGISTRIES.items()}
    openmmlab.install()
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] in ("mmseg", "mmdet", "mmselfsup")]:
        del sys.modules[name]
    for name, registry in ROOT_REGISTRIES.items():
        registry._entries.clear()
        registry._entries.update(entries[name])
