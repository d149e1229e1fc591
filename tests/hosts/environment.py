"""Creates environments with code bases, over the packages of this one."""

import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

# mmcv and the code bases name these; they are installed without their own dependencies, which include MMEngine.
_NEEDED = ["addict", "yapf", "platformdirs", "opencv-python-headless", "ftfy", "wcwidth", "regex", "prettytable"]
_NEEDED += ["pycocotools", "shapely", "terminaltables", "matplotlib", "contourpy", "cycler", "kiwisolver", "pyparsing"]
_NEEDED += ["python-dateutil", "six", "fonttools", "scipy"]


def create_environment(folder: Path, *packages: str) -> str:
    """Installs mmcv-lite and packages into a new environment; returns the path of its interpreter."""
    venv.create(folder, with_pip=True, symlinks=True)
    interpreter = str(folder / "bin" / "python")
    for each in (["mmcv-lite==2.1.0", *packages], _NEEDED):
        subprocess.run([interpreter, "-m", "pip", "install", "-q", "--no-deps", *each], check=True)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    site = folder / "lib" / version / "site-packages"
    (site / "zz_parent.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return interpreter
