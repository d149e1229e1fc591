from pathlib import Path

import pytest

from footplate.checkpoint import save_checkpoint, write_pointer
from footplate.engine.saving.resume_plan import Prepared, ResumePlan


@pytest.mark.parametrize("resume", [False, True])
def test_restart_by_torchrun_resumes_from_the_newest_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, resume: bool
) -> None:
    monkeypatch.setenv("TORCHELASTIC_MAX_RESTARTS", "3")

    def planned() -> tuple[str, bool]:
        plan = ResumePlan(str(tmp_path), "weights.pth", resume, takes_settings=False)
        load = plan.find(for_training=True)
        assert load is not None
        return load.path, load.resuming

    begin = "torchrun restarted this process (restart 1 of 3). Training"
    assert planned() == ("weights.pth", resume)
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    assert planned() == ("weights.pth", resume)
    last = tmp_path / "epoch_1.pth"
    save_checkpoint({"meta": {}, "state_dict": {}, "run": {}}, last)
    write_pointer(tmp_path, last)
    assert planned() == (str(last), True)
    assert [message for message in caplog.messages if begin in message] == [
        f"{begin} starts over, because the run has not saved a checkpoint yet.",
        f"{begin} resumes from the run's newest checkpoint.",
    ]


@pytest.mark.parametrize(
    ("resume", "restarts", "prepared", "trains", "expected"),
    [
        (False, "0", "weights", True, None),
        (True, "0", "weights", True, None),
        ("auto", "0", "weights", False, None),
        ("auto", "0", "weights", True, "epoch_1.pth"),
        ("auto", "0", "run", True, None),
        (False, "1", "weights", False, None),
        (False, "1", "run", True, "epoch_1.pth"),
    ],
)
def test_only_jobs_that_rerun_a_script_replace_what_it_has_loaded(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    resume: bool | str,
    restarts: str,
    prepared: Prepared,
    trains: bool,
    expected: str | None,
) -> None:
    last = tmp_path / "epoch_1.pth"
    save_checkpoint({"meta": {}, "state_dict": {}, "run": {}}, last)
    write_pointer(tmp_path, last)
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", restarts)
    plan = ResumePlan(str(tmp_path), "weights.pth", resume, takes_settings=False)
    start = plan.find(prepared, for_training=trains)
    assert (start and Path(start.path).name) == expected


def test_auto_keeps_loaded_weights_without_a_checkpoint(tmp_path: Path) -> None:
    plan = ResumePlan(str(tmp_path), "weights.pth", "auto", takes_settings=False)
    start = plan.find("nothing", for_training=True)
    assert start is not None
    assert (start.path, start.resuming) == ("weights.pth", False)
    assert plan.find("weights", for_training=True) is None
