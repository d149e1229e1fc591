import subprocess
import sys
from pathlib import Path

import pytest

import footplate

_CODE = """
import importlib, os, numpy, rich.console, torch, footplate
for name in NAMES:
    if os.fork() == 0:
        try:
            importlib.import_module(name)
        except ImportError as error:
            print(name, error, flush=True)
        os._exit(0)
    os.wait()
"""


@pytest.mark.slow
def test_each_module_can_be_the_first_to_be_imported() -> None:
    """Code bases import names in any order, so a circular import would show only with some of them."""
    folder = Path(footplate.__file__).parents[1]
    paths = [path.relative_to(folder).with_suffix("") for path in (folder / "footplate_openmmlab").rglob("*.py")]
    code = _CODE.replace("NAMES", repr([".".join(path.parts).removesuffix(".__init__") for path in paths]))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == ""
