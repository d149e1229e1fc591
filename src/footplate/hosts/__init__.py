"""Makes imports from mmcv, mmengine and other OpenMMLab packages resolve to footplate."""

from footplate.hosts.code_bases import import_modules, use_code_bases, used_code_bases
from footplate.hosts.installation import Report, install, uninstall
from footplate.hosts.patches import describe_patches

__all__ = [
    "Report",
    "describe_patches",
    "import_modules",
    "install",
    "uninstall",
    "use_code_bases",
    "used_code_bases",
]
