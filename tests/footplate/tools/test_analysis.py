import json
from pathlib import Path
from typing import Any

import pytest

from footplate.config import Config
from footplate.tools.analysis import describe_runs, explain_runs
from footplate.tools.run_facts import describe_run
from footplate.tools.runs import Run, Series, read_run
from tests.footplate.tools.conftest import MakeRun


def run_of(folder: Path, lines: list[dict[str, Any]]) -> Run:
    (folder / "scalars.json").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return read_run(folder)


def text_of(*runs: Run) -> str:
    return explain_runs(describe_runs(runs)[1])


@pytest.fixture
def run(tmp_path: Path) -> Run:
    lines = [
        {"lr": 0.1, "loss": 4.0 / n, "time": 0.1 * n, "data_time": 0.05 * n, "memory": 90 + n, "iter": at, "step": at}
        for n, at in ((1, 10), (2, 20), (3, 30))
    ]
    metrics = [{"mIoU": 40.0, "val/loss": 0.9, "step": 10}, {"mIoU": 30.0, "val/loss": 0.5, "step": 20}]
    (tmp_path / "iter_30.pth").write_bytes(b"1234")
    return run_of(tmp_path, [*lines, *metrics])


def test_summary_of_a_run(run: Run) -> None:
    facts = describe_run(run, None)
    assert facts["state"]["done"] == 30
    assert facts["time"] == pytest.approx(10 * 0.1 + 10 * 0.2 + 10 * 0.3)
    assert facts["cost"] == "0.2 s per iteration, 93 MiB, 50% waiting for data, without validation"
    assert {name: (metric["value"], metric["iteration"]) for name, metric in facts["metrics"].items()} == {
        "mIoU": (40.0, 10),
        "val/loss": (0.5, 20),  # the smaller, the better
    }
    assert facts["checkpoints"] == {"iter_30.pth": 4}


def test_values_of_a_test_are_not_the_best_of_the_run(tmp_path: Path) -> None:
    lines = [{"loss": 4.0, "iter": 10, "step": 10}, {"mIoU": 40.0, "step": 10}, {"test/mIoU": 50.0, "step": 0}]
    run = run_of(tmp_path, lines)
    text = text_of(run)
    assert "best        mIoU 40 at iteration 10\n" in text
    assert "test        test/mIoU 50\n" in text


def test_metric_without_a_known_direction_has_no_best_value(run: Run) -> None:
    points = [(10.0, 0.5), (20.0, 0.75), (30.0, 0.625)]
    run.series.append(Series("far/err", "val", points))
    assert "  final       far/err 0.625 at iteration 30 (lowest 0.5, highest 0.75)\n" in text_of(run)
    hooks = {"custom_hooks": [{"type": "EarlyStoppingHook", "monitor": "err", "rule": "less"}]}
    assert "  best        far/err 0.5 at iteration 10\n" in text_of(run._replace(config=Config(hooks)))


def test_text_contains_the_summary(run: Run) -> None:
    assert "lr 0.1, loss 1.333, aux nan\n" in text_of(run._replace(never_finite=["aux"]))
    assert "  time        0:00:06, 0.2 s per iteration, 93 MiB, 50%" in text_of(run)
    assert "best        mIoU 40 at iteration 10 (epoch 2)" in text_of(run._replace(epoch_length=5))


def test_runs_that_differ_only_in_the_seed_and_fold_are_summarized(make_run: MakeRun) -> None:
    configs = {seed: Config({"randomness": {"seed": seed}, "val": {"fold": seed}}) for seed in (1, 3)}
    runs = [make_run(f"s{seed}", lr=seed)._replace(config=config) for seed, config in configs.items()]
    other = make_run("other")._replace(
        config=Config({"randomness": {"seed": 1}, "val": {"fold": 5}, "load_from": "a.pth"})
    )
    *lines, note = text_of(*runs, other).splitlines()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    assert ["mIoU", "load_from=–", "2", "60 ± 14", "60 ± 14"] in rows
    assert ["mIoU", "load_from='a.pth'", "1", "41", "41"] in rows
    assert ["val.fold", "3, 1", "5"] in rows
    assert note == "± is the standard deviation over the runs of a variant (n - 1)."


@pytest.mark.parametrize(
    ("folders", "settings", "names"),
    [
        (["base-s0", "base-s1", "wide-s0"], [1, 1, 2], ["width=1", "width=2"]),
        (["base-s0", "base-s1"], [1, 1], ["base"]),
        (["base_seed_0", "base_seed_1", "other"], ["a" * 30, "a" * 30, "b"], ["base", "other"]),
        (["a", "b"], [1, 2], ["a", "b"]),
        (["a0", "a1", "a2", "a3"], ["a" * 30, "a" * 30, "b" * 30, "b" * 30], ["a0 + a1", "a2 + a3"]),
    ],
)
def test_variants_are_named_after_their_settings(
    make_run: MakeRun, folders: list[str], settings: list[Any], names: list[str]
) -> None:
    runs = [
        make_run(folder)._replace(config=Config({"model": {"width": width}, "randomness": {"seed": seed}}))
        for seed, (folder, width) in enumerate(zip(folders, settings, strict=True))
    ]
    facts = describe_runs(runs)[1]
    assert sorted(variant["name"] for variant in facts["variants"]) == names
    assert ("model.width" in {row["key"] for row in facts["differences"] if row["distinguishes"]}) == (len(names) > 1)


def test_bars_in_values_do_not_split_the_cells_of_a_table(make_run: MakeRun) -> None:
    runs = [
        make_run(name)._replace(config=Config({"pattern": pattern})) for name, pattern in (("a", "x|y"), ("b", "z"))
    ]
    assert r"| pattern   | 'x\|y' | 'z' |" in text_of(*runs)
