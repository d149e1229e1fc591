import os
import subprocess
import sys
from pathlib import Path

import footplate.tasks


def test_every_folder_is_a_task_that_registers_itself(tmp_path: Path) -> None:
    folder = Path(footplate.tasks.__file__).parent
    tasks = sorted(each.name for each in folder.iterdir() if (each / "__init__.py").exists())
    code = "import sys, footplate.tasks.all_tasks; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ)
    loaded = set(done.stdout.split())
    assert "segmentation" in tasks
    assert {f"footplate.tasks.{name}" for name in tasks} <= loaded
