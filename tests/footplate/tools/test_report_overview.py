from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from footplate.config import Config
from footplate.tools.analysis import Headline, choose_headline
from footplate.tools.checkpoint_contents import code_to_load
from footplate.tools.report_overview import (
    config_table,
    describe_run,
    describe_variants,
    order_variants,
)
from footplate.tools.runs import Run, Series
from tests.footplate.tools.conftest import MakeRun

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
    assert describe_run(run_of(*losses), None)["problem"] == ""
    diverged = run_of(losses[0]._replace(last_nonfinite=101.0), losses[1])
    assert describe_run(diverged, None)["problem"] == "The training loss is non-finite after iteration 100."
    never = run_of(losses[1])._replace(never_finite=["loss"])
    assert describe_run(never, None)["problem"] == "The training loss was never finite."


def test_sharded_checkpoint_is_used_and_counts_for_the_state(tmp_path: Path) -> None:
    folder = tmp_path / "best_mIoU_iter_120.sharded"
    folder.mkdir()
    (folder / "state.pth").write_bytes(b"12")
    (folder / "rank_0-a.pth").write_bytes(b"1234")
    run = run_of(val("mIoU", 1, 2), cfg={"train_cfg": {"max_iters": 120}}, checkpoints=[folder])
    found = describe_run(run, (run.series[0], "greater"))
    assert found["checkpoints"] == {folder.name: 6}
    assert (found["use"]["best"], found["use"]["name"], found["use"]["size"]) == (True, folder.name, "6 B")
    assert found["state"]["finished"]


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


@pytest.mark.parametrize("cfg", [{"model": {"type": "models.build"}, "max_epochs": 2}, {"model": "Sequential()"}])
def test_command_of_a_run_from_python_needs_no_images(tmp_path: Path, cfg: dict[str, Any]) -> None:
    files = [tmp_path / "epoch_2.pth", tmp_path / "averaged.pth"]
    for file in files:
        file.touch()
    used = describe_run(run_of(val("acc", 1), cfg=cfg, checkpoints=files), None)["use"]
    assert used["command"] == "\n".join(code_to_load(str(files[0])))


def seed_of(lr: float, seed: int, value: float, *, done: int = 50) -> Run:
    cfg = {"lr": lr, "work_dir": f"{lr}-{seed}", "randomness": {"seed": seed}, "train_cfg": {"max_iters": 50}}
    return run_of(val("mIoU", 10, value)._replace(points=[(25, 10), (done, value)]), cfg=cfg)._replace(
        folder=Path(f"{lr}-{seed}"), environment={"seed": seed}
    )


def test_variants_are_compared_by_their_means_and_not_by_the_luckiest_seed() -> None:
    steady, lucky = (
        [seed_of(lr, seed, value) for seed, value in enumerate(values)]
        for lr, values in ((0.1, (40, 42)), (0.2, (20, 50)))
    )
    unfinished, repeated = seed_of(0.1, 2, 99, done=40), seed_of(0.1, 0, 38)._replace(folder=Path("again"))
    headline: Headline = (steady[0].series[0], "greater")
    variants = order_variants([*lucky, *steady, unfinished, repeated], headline)
    assert variants == [[steady[1], repeated, unfinished, steady[0]], [lucky[1], lucky[0]]]
    first, second = describe_variants(variants, headline)
    assert (first["mean"], round(first["deviation"], 3), first["counted"]) == (40, 2.828, [0, 1])
    assert (second["mean"], second["lowest"], second["highest"], second["runs"]) == (35, 20, 50, [4, 5])


@pytest.mark.parametrize(
    ("better", "worse", "clear"),
    [((40, 41, 42), (37, 38, 39), True), ((40, 41, 42), (37, 38, 40.5), False), ((40, 41), (10, 11), False)],
)
def test_a_difference_is_clear_with_three_seeds_each_that_do_not_overlap(
    better: Sequence[float], worse: Sequence[float], clear: bool
) -> None:
    runs = [seed_of(lr, seed, value) for lr, values in ((1, worse), (2, better)) for seed, value in enumerate(values)]
    headline: Headline = (runs[0].series[0], "greater")
    described = describe_variants(order_variants(runs, headline), headline)
    assert [variant["clear"] for variant in described] == [clear, clear]
    folds = [run._replace(environment={"seed": 0}, config=None) for run in runs]
    assert not any(variant["clear"] for variant in describe_variants([folds[:3], folds[3:]], headline))


def test_config_table_has_a_row_for_each_differing_key_without_the_work_dir(make_run: MakeRun) -> None:
    runs = [make_run(name, lr=lr) for name, lr in (("a", 0.1), ("b", 0.1), ("c", 0.25))]
    for run in runs:
        assert run.config is not None
        run.config._cfg_dict["work_dir"] = run.folder.name
    assert config_table(runs) == [{"key": "lr", "values": ["0.1", "0.1", "0.25"]}]
    assert config_table([*runs[:2], runs[2]._replace(config=None)]) == []
    missing = [runs[0], runs[1]._replace(config=None), runs[2]]
    assert config_table(missing) == [{"key": "lr", "values": ["0.1", "–", "0.25"]}]
    longer = [seed_of(0.1, 0, 1), seed_of(0.1, 3, 1, done=1075)]
    assert config_table(longer) == [
        {"key": "randomness.seed", "values": ["0", "3"]},
        {"key": "(completed iterations)", "values": ["50", "1,075"]},
    ]
