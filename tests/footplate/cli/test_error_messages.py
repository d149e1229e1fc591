"""Errors in user code: their messages, and which keep their traceback."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import footplate as package
from footplate.cli.error_messages import describe_error, user_frames
from tests.footplate.cli.conftest import Command
from tests.support import TINY

OWN = """\
import json

from footplate import DATASETS, HOOKS, METRICS, Hook
from tests.support import PointAccuracy, Points


@HOOKS.register_module(force=True)
class Measures(Hook):
    def __init__(self, first=4):
        self.first = first

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.iter == self.first:
            self.measure(outputs)

    def measure(self, outputs):
        return outputs["los"]


@HOOKS.register_module(force=True)
class Misspelt(Hook):
    def after_train_itr(self, runner, batch_idx, data_batch=None, outputs=None):
        pass


@DATASETS.register_module(force=True)
class Listed(Points):
    def __init__(self, size=16, listed=None):
        super().__init__(size)
        self.listed = json.load(open(listed)) if listed else None

    def __getitem__(self, index):
        return super().__getitem__(index) if index != 9 else 1 / 0


@METRICS.register_module(force=True)
class Divides(PointAccuracy):
    def process(self, data_batch, data_samples):
        1 / 0


@METRICS.register_module(force=True)
class Converts(PointAccuracy):
    def process(self, data_batch, data_samples):
        data_batch["inputs"].bfloat16().cpu().numpy()
"""


@pytest.fixture
def own(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, str], None]]:
    """Replaces a line of the config, which imports user-defined components."""
    sys.modules.pop("own_parts", None)  # of another test
    monkeypatch.syspath_prepend(str(tiny.parent))
    (tiny.parent / "own_parts.py").write_text(OWN)
    text = TINY.replace('imports=["tests.support"]', 'imports=["own_parts"]')

    def replace(line: str, instead: str) -> None:
        assert line in text
        tiny.write_text(text.replace(line, instead, 1))

    yield replace
    sys.modules.pop("own_parts", None)


OF_MEASURES = [
    "error: KeyError: 'los'",
    '  at own_parts.py:17, in measure: return outputs["los"]',
    "  called at own_parts.py:14, in after_train_iter: self.measure(outputs)",
]


def test_error_of_a_hook_shows_its_lines_and_the_progress(tiny: Path, own: Command, footplate: Command) -> None:
    own('dict(type="Witness")', 'dict(type="Measures")')
    code, _, errors = footplate("train", "tiny.py", "--work-dir", "work")
    assert (code, errors.splitlines()) == (
        1,
        [
            *OF_MEASURES,
            "  after 4 of 8 iterations; the last checkpoint is work/iter_4.pth",
            "  --debug shows the whole traceback",
        ],
    )
    with pytest.raises(KeyError, match="los"):
        footplate("train", "tiny.py", "--work-dir", "again", "--debug")


def test_check_reports_the_error_of_a_hook_and_its_warnings(own: Command, footplate: Command) -> None:
    own('dict(type="Witness")', 'dict(type="Measures", first=0), dict(type="Misspelt")')
    code, told, errors = footplate("check", "tiny.py", "--work-dir", "work")
    assert (code, errors.splitlines()) == (
        1,
        [*OF_MEASURES, "  failed stage: training iteration 1", "  --debug shows the whole traceback"],
    )
    assert told == ("warning     Misspelt.after_train_itr is never called: did you mean after_train_iter?\n")
    with pytest.raises(KeyError, match="los"):
        footplate("check", "tiny.py", "--debug")


def test_missing_file_of_a_constructor_is_an_error_of_the_config(tiny: Path, own: Command, footplate: Command) -> None:
    own('dataset=dict(type="Points", size=16)', 'dataset=dict(type="Listed", listed="train.json")')
    (tiny.parent / "train.json").write_text("[]")
    code, _, errors = footplate("train", "tiny.py", "--set", "train_dataloader.dataset.listed=trian.json")
    assert (code, errors.splitlines()) == (
        2,
        [
            "error: dataset 'Listed' cannot be built: the file 'trian.json' does not exist",
            "  at --set, key train_dataloader.dataset.listed",
            "  found: 'trian.json'",
            f"  tried {tiny.parent / 'trian.json'}; relative paths are resolved against the current folder",
            f"  the folder '{tiny.parent}' has no 'trian.json'; did you mean 'train.json'?",
            "  raised at own_parts.py:30; --debug shows the traceback",
        ],
    )


def test_error_of_a_worker_shows_the_lines_in_its_text() -> None:
    text = (
        "Caught ZeroDivisionError in DataLoader worker process 1.\nOriginal Traceback (most recent call last):\n"
        f'  File "{package.__file__}", line 3, in _loop\n    data = fetch()\n'
        '  File "/home/me/sets.py", line 26, in __getitem__\n    return 1 / 0\n'
        "ZeroDivisionError: division by zero\n"
    )
    told = describe_error(_without_this_frame(ZeroDivisionError(text)), "after 2 of 8 iterations")
    assert told == (
        "error: ZeroDivisionError: division by zero, in DataLoader worker process 1\n"
        "  at /home/me/sets.py:26, in __getitem__: return 1 / 0\n"
        "  after 2 of 8 iterations\n"
        "  --debug shows the whole traceback\n",
        1,
    )


def test_bug_of_footplate_keeps_its_traceback() -> None:
    namespace: dict[str, Callable[[], None]] = {}
    exec(compile("def fail():\n    raise KeyError('ours')", package.__file__, "exec"), namespace)
    with pytest.raises(KeyError) as caught:
        namespace["fail"]()
    assert [frame.name for frame in user_frames(caught.value)] == ["test_bug_of_footplate_keeps_its_traceback"]
    assert describe_error(caught.value.with_traceback(caught.tb.tb_next)) is None


def test_error_of_an_installed_package_shows_its_line() -> None:
    namespace: dict[str, Any] = {}
    file = "/home/me/lib/site-packages/mmdet/transforms.py"
    exec(compile("def resize():\n    assert not 'size'", file, "exec"), namespace)
    exec(compile("def build():\n    resize()", package.__file__, "exec"), namespace)
    with pytest.raises(AssertionError) as caught:
        namespace["build"]()
    assert describe_error(caught.value.with_traceback(caught.tb.tb_next)) == (
        f"error: AssertionError\n  at {file}:2, in resize: \n  --debug shows the whole traceback\n",
        1,
    )


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (FileNotFoundError(2, "No such file or directory", "a.csv"), "cannot use 'a.csv': No such file or directory"),
        (OSError(28, "No space left on device"), "cannot read or write: No space left on device"),
    ],
)
def test_errors_of_the_operating_system(error: OSError, says: str) -> None:
    assert describe_error(_without_this_frame(error)) == (f"error: {says}\n", 2)
    assert describe_error(OSError(22, "Invalid argument")) is None


def _without_this_frame(error: Exception) -> Exception:
    return error.with_traceback(None)
