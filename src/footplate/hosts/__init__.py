"""Makes imports from mmcv, mmengine and other OpenMMLab packages resolve to footplate."""

from footplate.hosts.code_bases import use_code_bases
from footplate.hosts.installation import Report, install, uninstall
from footplate.hosts.patches import describe_patches

__all__ = ["Report", "describe_patches", "install", "uninstall", "use_code_bases"]
