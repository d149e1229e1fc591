from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from footplate.config import Config
from footplate.tools.run_facts import Data, Described, Metric, describe_run
from footplate.tools.runs import Run
from footplate.tools.variants import compare_variants, config_table
from tests.footplate.tools.conftest import MakeRun
from tests.footplate.tools.test_run_facts import run_of, val


def seed_of(lr: float, seed: int, value: float, *, done: int = 50) -> Run:
    cfg = {"lr": lr, "work_dir": f"{lr}-{seed}", "randomness": {"seed": seed}, "train_cfg": {"max_iters": 50}}
    return run_of(val("mIoU", 10, value)._replace(points=[(25, 10), (done, value)]), cfg=cfg)._replace(
        folder=Path(f"{lr}-{seed}"), environment={"seed": seed}
    )


def described(*runs: Run, headline: Metric | None = None) -> list[Described]:
    return [(run, describe_run(run, headline)) for run in runs]


def clear(*runs: Run) -> list[bool]:
    variants = compare_variants(described(*runs, headline=(runs[0].series[0], "greater")))[1]
    return [variant["clear"] for variant in variants]


def test_variants_are_compared_by_their_means_and_not_by_the_luckiest_seed() -> None:
    steady, lucky = (
        [seed_of(lr, seed, value) for seed, value in enumerate(values)]
        for lr, values in ((0.1, (40, 42)), (0.2, (20, 50)))
    )
    unfinished, repeated = seed_of(0.1, 2, 99, done=40), seed_of(0.1, 0, 38)._replace(folder=Path("again"))
    runs = [*lucky, *steady, unfinished, repeated]
    found, (first, second) = compare_variants(described(*runs, headline=(steady[0].series[0], "greater")))
    assert [run for run, _ in found] == [steady[1], repeated, unfinished, steady[0], lucky[1], lucky[0]]
    assert (first["headline"]["mean"], round(first["headline"]["deviation"], 3), first["counted"]) == (
        40,
        2.828,
        [0, 1],
    )
    assert second["headline"].items() >= {"mean": 35, "lowest": 20, "highest": 50}.items()
    assert (second["runs"], second["seeds"]) == ([4, 5], 2)
    assert first["metrics"] == {"mIoU": {"best": first["headline"], "last": first["headline"]}}


@pytest.mark.parametrize(
    ("better", "worse", "is_clear"),
    [((40, 41, 42), (37, 38, 39), True), ((40, 41, 42), (37, 38, 40.5), False), ((40, 41), (10, 11), False)],
)
def test_a_difference_is_clear_with_three_seeds_each_that_do_not_overlap(
    better: Sequence[float], worse: Sequence[float], is_clear: bool
) -> None:
    runs = [seed_of(lr, seed, value) for lr, values in ((1, worse), (2, better)) for seed, value in enumerate(values)]
    assert clear(*runs) == [is_clear, is_clear]
    same = [run._replace(environment={"seed": 0, "processes": run.settings["lr"]}) for run in runs]
    assert clear(*same) == [False, False]


def table(*runs: Run) -> dict[str, list[str]]:
    variants = [{"runs": [place]} for place in range(len(runs))]
    return {row["key"]: row["values"] for row in config_table(described(*runs), variants)}


def test_config_table_has_a_row_for_each_differing_key_without_the_work_dir(make_run: MakeRun) -> None:
    runs = [make_run(name, lr=lr) for name, lr in (("a", 0.1), ("b", 0.1), ("c", 0.25))]
    for run in runs:
        assert run.config is not None
        run.config._cfg_dict["work_dir"] = run.folder.name
    assert table(*runs) == {"lr": ["0.1", "0.1", "0.25"]}
    assert table(*runs[:2], runs[2]._replace(config=None)) == {}
    assert table(runs[0], runs[1]._replace(config=None), runs[2]) == {"lr": ["0.1", "–", "0.25"]}
    longer = [seed_of(0.1, 0, 1), seed_of(0.1, 3, 1, done=1075)]
    assert table(*longer) == {"randomness.seed": ["0", "3"], "(completed iterations)": ["50", "1,075"]}
    variants: list[Data] = [{"runs": [0, 1]}]
    assert [row["values"] for row in config_table(described(*longer), variants)] == [["0, 3"], ["50, 1,075"]]


def test_seed_and_code_distinguish_runs_only_if_nothing_else_does(make_run: MakeRun) -> None:
    runs = [
        make_run(name, lr=lr)._replace(environment={"seed": seed, "code": name})
        for name, lr, seed in (("a", 0.1, 0), ("b", 0.2, 1))
    ]
    variants: list[Data] = [{"runs": [0]}, {"runs": [1]}]
    rows = config_table(described(*runs), variants)
    assert {row["key"] for row in rows} == {"lr", "randomness.seed", "(code)"}
    assert [row["key"] for row in rows if row["distinguishes"]] == ["lr"]
    same = [runs[0], make_run("c", lr=0.1)._replace(environment={"seed": 1, "code": "a"})]
    assert [row["key"] for row in config_table(described(*same), variants) if row["distinguishes"]] == [
        "randomness.seed"
    ]


def test_config_table_shows_what_a_run_has_if_other_runs_differ_inside_it(make_run: MakeRun) -> None:
    hooks: list[Any] = [[{"type": "EMA", "momentum": 0.1}], [], [{"type": "EMA", "momentum": 0.2}]]
    runs = [make_run(name)._replace(config=Config({"hooks": each})) for name, each in zip("abc", hooks, strict=True)]
    assert table(*runs) == {
        "hooks": ["[dict(type='EMA', momentum=0.1)]", "[]", "[dict(type='EMA', momentum=0.2)]"],
        "hooks[0].momentum": ["0.1", "–", "0.2"],
    }


@pytest.mark.parametrize(
    ("first", "second"), [("x" * 60 + "a", "x" * 60 + "b"), ([*range(50), 1], [*range(50), 2]), (0.100001, 0.100002)]
)
def test_config_table_distinguishes_long_values(make_run: MakeRun, first: Any, second: Any) -> None:
    runs = [make_run(name)._replace(config=Config({"key": each})) for name, each in (("a", first), ("b", second))]
    (texts,) = table(*runs).values()
    assert len({*texts}) == 2
    assert max(map(len, texts)) <= 48
