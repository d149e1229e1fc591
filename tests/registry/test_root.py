import subprocess
import sys
from pathlib import Path

from footplate import registry


def test_every_task_is_imported_on_a_lookup_that_needs_it() -> None:
    folder = Path(registry.__file__).parents[1] / "tasks"
    tasks = sorted(path.parent.name for path in folder.glob("*/__init__.py"))
    code = "import sys; from footplate.registry import MODELS; 'Unknown' in MODELS; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "segmentation" in tasks
    assert {f"footplate.tasks.{name}" for name in tasks} <= set(done.stdout.split())
