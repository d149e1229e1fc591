"""Runs without what only Linux or only POSIX systems have, which is removed before footplate is imported.

This does not replace a run on macOS or Windows.
"""

import json
from pathlib import Path

import pytest

from tests import programs
from tests.footplate.cli.conftest import environment

_LINUX = ["waitid"]
# What Python's documentation does not list for the system.
_MISSING = {
    "darwin": {"os": _LINUX},
    "win32": {
        "os": [*_LINUX, "fchmod", "fork", "getuid", "killpg", "register_at_fork", "statvfs", "uname"],
        "signal": ["SIGCHLD", "SIGHUP", "SIGKILL", "SIGUSR1", "SIGUSR2", "pthread_sigmask", "setitimer"],
    },
}
_MODULES = {"darwin": [], "win32": ["fcntl", "grp", "pwd", "resource", "termios"]}
_RUN = """
import json, os, signal, sys
import filelock, matplotlib.pyplot, multiprocessing.sharedctypes, psutil, torch  # have code for each system

platform, missing, modules, folder = json.loads(sys.argv[1])
for module, names in missing.items():
    for name in names:
        delattr(sys.modules[module], name)
sys.modules.update(dict.fromkeys(modules))
sys.platform = platform

from footplate import Hook, Runner
from footplate.engine.control.requests import Interrupted
from footplate.errors import DataError
from tests.support import Points, loader, settings, weights


class Interrupt(Hook):
    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.iter == 5:
            os.kill(os.getpid(), signal.SIGINT)


class Crash(Points):
    def __getitem__(self, index):
        if index == 9:
            os._exit(3)
        return super().__getitem__(index)


def train(name, **changes):
    runner = Runner.from_cfg(settings(os.path.join(folder, name), **changes))
    runner.train()
    return weights(runner)


workers = dict(train_dataloader=loader(num_workers=0 if platform == "win32" else 2))
expected = train("whole", **workers)
try:
    train("stopped", custom_hooks=[dict(type=Interrupt)], **workers)
except Interrupted as error:
    print(error)
assert train("stopped", resume=True, **workers) == expected
if platform != "win32":  # torch's loaders of this system need SIGCHLD
    try:
        train("crashed", train_dataloader=loader(num_workers=2, dataset=dict(type=Crash)))
    except DataError as error:
        print(error)
"""


@pytest.mark.parametrize("platform", _MISSING)
def test_runs_work_without_what_the_platform_lacks(platform: str, tmp_path: Path) -> None:
    arguments = json.dumps([platform, _MISSING[platform], _MODULES[platform], str(tmp_path)])
    done = programs.run("-c", _RUN, arguments, folder=".", environment=environment())
    assert done.returncode == 0, done.stderr
    assert "SIGINT" in done.stdout
    assert platform == "win32" or "last sample begun: 9" in done.stdout
