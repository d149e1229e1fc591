"""onedl-mmengine: the program of MMEngine, since this fork has the same import name."""

import with_mmengine  # noqa: F401
