from collections.abc import Sequence
from pathlib import Path
from typing import Any

from footplate.config import Config
from footplate.tools.run_facts import choose_headline, code_to_load, describe_run, run_state
from footplate.tools.runs import Run, Series

FALLING = [(float(at), 2.0 / at) for at in range(1, 101)]


def run_of(
    *series: Series, cfg: dict[str, Any] | None = None, length: int | None = None, checkpoints: Sequence[Path] = ()
) -> Run:
    config = None if cfg is None else Config(cfg)
    sizes = {file: _size(file) for file in checkpoints}
    return Run(Path("run"), list(series), length, [], config, "", [], {}, {}, [], sizes)


def _size(path: Path) -> int:
    files = path.iterdir() if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.exists())


def val(name: str, *values: float) -> Series:
    """Returns a validation series with a value every 25 iterations."""
    return Series(name, "val", [(25.0 * place, value) for place, value in enumerate(values, start=1)])


def test_headline_is_the_first_metric_of_save_best_that_all_runs_have() -> None:
    cfg = {"default_hooks": {"checkpoint": {"save_best": ["val/night/mIoU", "mIoU"]}}}
    runs = [run_of(val("loss", 1), val("mIoU", 1), val("night/mIoU", 1), cfg=cfg), run_of(val("mIoU", 1))]
    found = choose_headline(runs)
    assert found is not None
    assert (found[0].name, found[1]) == ("mIoU", "greater")
    alone = choose_headline(runs[:1])
    assert alone is not None
    assert alone[0].name == "night/mIoU"


def test_a_loss_that_ends_non_finite_is_a_problem() -> None:
    losses = Series("loss", "train", FALLING), val("loss", 1, 0.5)
    assert describe_run(run_of(*losses), None)["problem"] is None
    diverged = run_of(losses[0]._replace(last_nonfinite=101.0), losses[1])
    text = "The training loss is non-finite after iteration 100."
    assert describe_run(diverged, None)["problem"] == {"name": "non-finite", "text": text}
    never = run_of(losses[1])._replace(never_finite=["loss"])
    assert describe_run(never, None)["problem"]["text"] == "The training loss was never finite."


def test_of_a_run_whose_validations_are_all_0_the_last_checkpoint_is_used(tmp_path: Path) -> None:
    files = [tmp_path / "best_mAP_epoch_1.pth", tmp_path / "epoch_3.pth"]
    for file in files:
        file.touch()
    series = val("mAP", 0, 0, 0)
    facts = describe_run(run_of(series, val("mIoU", 3), checkpoints=files), (series, "greater"))
    text = "The mAP is 0 in 3 validations. Train longer, or check the labels."
    assert facts["problem"] == {"name": "always 0", "text": text}
    assert (facts["use"]["best"], facts["use"]["name"]) == (False, "epoch_3.pth")
    assert describe_run(run_of(series), (series, None))["problem"] is None  # it may count errors
    series = val("mAP", 0, 0, 1)
    facts = describe_run(run_of(series, checkpoints=files), (series, "greater"))
    assert (facts["problem"], facts["use"]["name"]) == (None, "best_mAP_epoch_1.pth")


def test_sharded_checkpoint_is_used_and_counts_for_the_state(tmp_path: Path) -> None:
    folder = tmp_path / "best_mIoU_iter_120.sharded"
    folder.mkdir()
    (folder / "state.pth").write_bytes(b"12")
    (folder / "rank_0-a.pth").write_bytes(b"1234")
    run = run_of(val("mIoU", 1, 2), cfg={"train_cfg": {"max_iters": 120}}, checkpoints=[folder])
    found = describe_run(run, (run.series[0], "greater"))
    assert found["checkpoints"] == {folder.name: 6}
    assert (found["use"]["best"], found["use"]["name"], found["use"]["size"]) == (True, folder.name, "6 B")
    assert found["state"]["name"] == "finished"


def test_command_uses_the_best_checkpoint_of_the_headline_and_quotes_it(tmp_path: Path) -> None:
    folder = tmp_path / "a run"
    folder.mkdir()
    names = (
        "best_night_mIoU_iter_9.pth",
        "best_night_mIoU_top5_iter_10.pth",
        "best_mIoU_iter_8.pth",
        "best_val_mAP_iter_8.pth",
        "iter_10.pth",
    )
    files = [folder / name for name in names]
    for file in files:
        file.touch()
    series = val("night/mIoU", 1, 2)
    run = run_of(series, checkpoints=files)
    used = describe_run(run, (series, "greater"))["use"]
    assert (used["best"], used["command"]) == (True, f"footplate predict '{files[0]}' IMAGES")
    only = val("mAP", 1)  # of a single validation set with the name "val"
    used = describe_run(run_of(only, checkpoints=files), (only, "greater"))["use"]
    assert (used["best"], used["name"]) == (True, "best_val_mAP_iter_8.pth")
    other = val("acc", 1)
    used = describe_run(run_of(other, checkpoints=files), (other, "greater"))["use"]
    assert (used["best"], used["name"]) == (False, "iter_10.pth")


def test_command_of_a_run_without_a_config_is_python_code(tmp_path: Path) -> None:
    files = [tmp_path / "epoch_2.pth", tmp_path / "averaged.pth"]
    for file in files:
        file.touch()
    run = run_of(val("acc", 1), cfg={"model": {"type": "ResNet"}, "max_epochs": 2}, checkpoints=files)
    used = describe_run(run._replace(environment={"config variables": ["max_epochs"]}), None)["use"]
    assert used["command"] == f"footplate predict {files[0]} IMAGES"
    used = describe_run(run._replace(environment={"config variables": None}), None)["use"]
    assert used["command"] == "\n".join(code_to_load(str(files[0])))


def test_run_of_unknown_length_is_complete_unless_it_was_stopped_early() -> None:
    run = run_of(val("mIoU", 1, 2))
    reasons = {"": True, "a hook": True, "SIGTERM": False, "an error: no memory": False}
    assert {reason: run_state(run._replace(stopped_by=reason))["complete"] for reason in reasons} == reasons
