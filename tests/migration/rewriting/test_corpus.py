"""The published first-generation configs, all of them: translated, migrated, simulated, assembled."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

pytestmark = pytest.mark.slow

_ROOT = Path(__file__).parents[3]
CONFIGS = {"mmsegmentation-0.30.0": 644, "mmdet-2.28.2": 628, "mmselfsup-0.11.0": 86}


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    spec = importlib.util.spec_from_file_location("footplate_migration", _ROOT / "benchmarks" / "migration.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", CONFIGS)
def test_every_config_comes_out_without_loss(benchmark: ModuleType, name: str) -> None:
    outcome = benchmark.check(name)
    assert outcome.wrong == {}
    assert outcome.configs == CONFIGS[name]
    counts = (outcome.translated, outcome.migrated, outcome.simulated, outcome.assembled)
    assert counts == (outcome.configs,) * 4
