"""Makes imports from mmcv, mmengine and other OpenMMLab packages resolve to footplate."""

from footplate.hosts.code_bases import use_code_bases, used_code_bases
from footplate.hosts.installation import Report, install, uninstall

__all__ = ["Report", "install", "uninstall", "use_code_bases", "used_code_bases"]
