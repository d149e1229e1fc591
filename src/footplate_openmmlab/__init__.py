"""Makes imports from mmcv, mmengine and other OpenMMLab packages resolve to footplate.

Names are imported lazily, because the core imports `extension` from this package before the modules that define these
names can be imported.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from footplate_openmmlab.code_bases import use_code_bases, used_code_bases
    from footplate_openmmlab.installation import install
    from footplate_openmmlab.patches import describe_patches

__all__ = ["describe_patches", "install", "use_code_bases", "used_code_bases"]
_HOMES = {"describe_patches": "patches", "install": "installation"}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'footplate_openmmlab' has no attribute '{name}'")
    return getattr(importlib.import_module(f"footplate_openmmlab.{_HOMES.get(name, 'code_bases')}"), name)
