import os
from pathlib import Path

import pytest

from footplate.engine.restart import Restart


@pytest.fixture
def elastic(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setenv("TORCHELASTIC_MAX_RESTARTS", "3")
    return monkeypatch


def _point(home: Path, name: str, at: float) -> None:
    (home / "last_checkpoint").write_text(str(home / name))
    os.utime(home / "last_checkpoint", (at, at))


def _begin(
    home: Path, count: int, patch: pytest.MonkeyPatch, resume: bool | str = False
) -> tuple[str | None, bool | str]:
    patch.setenv("TORCHELASTIC_RESTART_COUNT", str(count))
    restart = Restart(str(home), str(home))
    found = restart.begins_with("weights.pth", resume)
    restart.note()
    return found


def test_a_run_that_is_not_started_again_begins_as_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _point(tmp_path, "epoch_1.pth", 1.0)
    restart = Restart(str(tmp_path), str(tmp_path))
    assert restart.begins_with("weights.pth", False) == ("weights.pth", False)
    restart.note()
    assert restart.begins_with("weights.pth", False) == ("weights.pth", False)


@pytest.mark.parametrize(("resume", "load_from"), [(True, None), ("auto", "weights.pth")])
def test_a_resume_says_that_a_later_start_saved_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, resume: bool | str, load_from: str | None
) -> None:
    _point(tmp_path, "epoch_6.pth", 1.0)
    Restart(str(tmp_path), str(tmp_path)).begins_with(load_from, resume)
    assert caplog.messages == []
    anew = Restart(str(tmp_path), str(tmp_path))
    anew.begins_with(None, False)
    anew.note()
    assert Restart(str(tmp_path), str(tmp_path)).begins_with(load_from, resume) == (load_from, resume)
    assert caplog.messages == [
        f"{tmp_path}: the latest run in this folder started over and saved no checkpoint. An earlier run is resumed. "
        "To start over, leave out resume."
    ]
    caplog.clear()
    Restart(str(tmp_path), str(tmp_path)).begins_with("other.pth", True)
    _point(tmp_path, "epoch_1.pth", 2.0)
    Restart(str(tmp_path), str(tmp_path)).begins_with(load_from, resume)
    assert caplog.messages == []


def test_a_run_in_a_new_folder_leaves_no_mark(tmp_path: Path) -> None:
    restart = Restart(str(tmp_path), str(tmp_path))
    restart.begins_with(None, False)
    restart.note()
    assert list(tmp_path.iterdir()) == []


def test_what_was_committed_since_is_gone_on_from(tmp_path: Path, elastic: pytest.MonkeyPatch) -> None:
    assert _begin(tmp_path, 0, elastic) == ("weights.pth", False)
    _point(tmp_path, "epoch_1.pth", 1.0)
    assert _begin(tmp_path, 1, elastic) == (None, True)
    assert _begin(tmp_path, 2, elastic) == (None, True)


def test_what_an_earlier_run_committed_is_not(tmp_path: Path, elastic: pytest.MonkeyPatch) -> None:
    _point(tmp_path, "epoch_1.pth", 1.0)
    assert _begin(tmp_path, 0, elastic) == ("weights.pth", False)
    assert _begin(tmp_path, 1, elastic) == ("weights.pth", False)
    _point(tmp_path, "epoch_1.pth", 2.0)  # written by this run under the same name
    assert _begin(tmp_path, 2, elastic) == (None, True)


def test_a_run_that_resumes_goes_on_from_whatever_is_there(tmp_path: Path, elastic: pytest.MonkeyPatch) -> None:
    _point(tmp_path, "epoch_1.pth", 1.0)
    assert _begin(tmp_path, 0, elastic, resume=True) == ("weights.pth", True)
    assert _begin(tmp_path, 1, elastic, resume=True) == (None, True)


def test_without_a_checkpoint_it_begins_as_it_did(
    tmp_path: Path, elastic: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    _begin(tmp_path, 0, elastic)
    assert _begin(tmp_path, 1, elastic) == ("weights.pth", False)
    assert caplog.messages == ["restart 1 of 3 by torchrun: nothing was saved before"]
