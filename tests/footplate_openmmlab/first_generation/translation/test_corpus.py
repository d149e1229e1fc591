"""Migrates the first published first-generation config of each folder, and compares it with the published one.

`python -m benchmarks migration` compares all of them.
"""

import pytest

from benchmarks import migration

pytestmark = pytest.mark.slow

CONFIGS = {"mmsegmentation-0.30.0": 45, "mmdet-2.28.2": 91, "mmselfsup-0.11.0": 29}


@pytest.mark.parametrize("name", CONFIGS)
def test_published_configs_are_migrated_without_loss(name: str) -> None:
    outcome = migration.check(name, one_per_folder=True)
    assert outcome.wrong == {}
    assert outcome.configs == CONFIGS[name]
    counts = (outcome.translated, outcome.migrated, outcome.simulated, outcome.assembled)
    assert counts == (outcome.configs,) * 4
