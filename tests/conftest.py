import logging
import os
import sys
from collections.abc import Iterator

import pytest

# Tiny tensors gain nothing from threads, and tests that run side by side lose by them.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(autouse=True)
def _process_as_it_was() -> Iterator[None]:
    """Takes back what a run leaves in its process: log handlers, the default scope, named instances, old names."""
    logger = logging.getLogger("footplate")
    handlers, level = list(logger.handlers), logger.level
    yield
    for handler in [each for each in logger.handlers if each not in handlers]:
        logger.removeHandler(handler)
        handler.close()
    logger.setLevel(level)
    if "footplate.registry" in sys.modules:
        sys.modules["footplate.registry"].set_default_scope(None)
    if "footplate.records" in sys.modules:
        sys.modules["footplate.records"].MessageHub._instances.clear()
    if "footplate.compat" in sys.modules:
        sys.modules["footplate.compat"].uninstall()
