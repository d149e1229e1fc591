"""The environment that the tests of the second generation's code bases share."""

import pytest

from tests.openmmlab.environment import COMMON, MMPRETRAIN, create_environment

PACKAGES = ["mmcv-lite==2.1.0", "mmsegmentation==1.2.2", "mmdet==3.3.0", "ftfy", "wcwidth", "regex", "prettytable"]
PACKAGES += ["pycocotools", "shapely", "terminaltables", "scipy"]


@pytest.fixture(scope="session")
def python(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The interpreter of an environment with MMSegmentation, MMDetection and MMPretrain."""
    return create_environment(tmp_path_factory.mktemp("environment"), [*PACKAGES, *MMPRETRAIN, *COMMON])
