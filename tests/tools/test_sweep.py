import contextlib
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from footplate.config import Config
from footplate.errors import ArgumentError, DataError, FootplateError
from footplate.hooks.metric_rules import MissingMetricError
from footplate.tools.sweep_space import parse_parameter

study = pytest.importorskip("footplate.tools.sweep")
optuna = pytest.importorskip("optuna")
Answer = Callable[[Any], tuple[list[float], tuple[str, str]]]
LR = parse_parameter("optimizer.lr=0.0..1.0")


@pytest.fixture
def cfg() -> Config:
    return Config({"optimizer": {"type": "SGD", "lr": 0.1}, "width": 8})


@pytest.fixture
def answer(monkeypatch: pytest.MonkeyPatch) -> Callable[[Answer], list[Any]]:
    """Has a function answer in place of a run; returns the list of configs that were run."""

    def answer(function: Answer) -> list[Any]:
        ran: list[Any] = []

        def run_in_process(request: Any, trial: Any, on_progress: Any, processes: Any) -> Any:
            ran.append(request.config)
            on_progress(done=3, length=8, score=None)
            scores, outcome = function(request.config)
            for step, score in enumerate(scores):
                trial.report(score, step)
            return scores, outcome

        monkeypatch.setattr(study, "run_in_process", run_in_process)
        return ran

    return answer


def settings(folder: Path, **changes: Any) -> Any:
    return study.SweepSettings(**{"folder": str(folder), "metric": "mIoU", "trials": 4, **changes})


def test_score_of_a_trial_is_its_best_validation(cfg: Config, tmp_path: Path, answer: Any) -> None:
    ran = answer(lambda config: ([config["optimizer"]["lr"], 0.0], ("done", "")))
    found = study.sweep(cfg, [LR], settings(tmp_path))
    assert [each.score for each in found] == sorted((each.values["optimizer.lr"] for each in found), reverse=True)
    assert [each.state for each in found] == ["complete"] * 4
    assert {config["work_dir"] for config in ran} == {each.folder for each in found}
    assert len(set(ran[0]) - set(cfg)) == 4  # work_dir, resume, preflight and seed


def test_unknown_metric_stops_the_sweep_at_its_first_trial(tmp_path: Path, answer: Any) -> None:
    cfg = Config({"optimizer": {"lr": 0.1}})
    wrong = MissingMetricError("the sweep", "mIuO", ["mIoU", "mAcc"], "--metric")
    ran = answer(lambda config: ([], ("refused", wrong)))
    with pytest.raises(MissingMetricError) as caught:
        study.sweep(cfg, [LR], settings(tmp_path, metric="IoU/mIuO"))
    assert (len(ran), ran[0]["preflight"], str(caught.value)) == (
        1,
        True,
        "the sweep selects the metric 'mIuO', which no evaluator computes\n"
        "  key --metric\n  did you mean 'mIoU'?\n  metrics: mIoU, mAcc",
    )
    answer(lambda config: ([1.0], ("done", "")))
    assert len(study.sweep(cfg, [LR], settings(tmp_path))) == 4  # in the same folder, by its right name


def test_unknown_save_best_is_reported_at_its_config_key(tmp_path: Path, answer: Any) -> None:
    (tmp_path / "a.py").write_text(
        "optimizer = dict(lr=0.1)\n\ndefault_hooks = dict(checkpoint=dict(save_best='mIoUs'))"
    )
    answer(lambda config: ([], ("refused", MissingMetricError("the sweep", "mIoUs", ["mIoU"], "--metric"))))
    with pytest.raises(MissingMetricError) as caught:
        study.sweep(Config.fromfile(tmp_path / "a.py"), [LR], settings(tmp_path / "out", metric="mIoUs"))
    assert (caught.value.key, str(caught.value.origin)[-4:]) == ("default_hooks.checkpoint.save_best", "py:3")


def test_metric_of_the_config_is_suggested_for_an_unknown_one(tmp_path: Path) -> None:
    cfg = Config({"optimizer": {"lr": 0.1}, "default_hooks": {"checkpoint": {"save_best": "share", "rule": "less"}}})
    with pytest.raises(ArgumentError, match="did you mean 'share'") as caught:
        study.sweep(cfg, [LR], settings(tmp_path, metric="shaer"))
    assert caught.value.key == "--metric"


def test_lower_loss_is_better(cfg: Config, tmp_path: Path, answer: Any) -> None:
    answer(lambda config: ([config["optimizer"]["lr"], 9.0], ("done", "")))
    found = study.sweep(cfg, [LR], settings(tmp_path, metric="val_loss"))
    assert [each.score for each in found] == sorted(each.values["optimizer.lr"] for each in found)


@pytest.mark.parametrize(("rule", "reverse"), [("less", False), ("greater", True)])
def test_rule_in_the_config_decides_which_score_is_best(tmp_path: Path, answer: Any, rule: str, reverse: bool) -> None:
    best = {"default_hooks": {"checkpoint": {"save_best": "share", "rule": rule}}}
    answer(lambda config: ([config["optimizer"]["lr"]], ("done", "")))
    found = study.sweep(Config({"optimizer": {"lr": 0.1}, **best}), [LR], settings(tmp_path, metric="share"))
    assert [each.score for each in found] == sorted((each.values["optimizer.lr"] for each in found), reverse=reverse)


@pytest.mark.parametrize("varied", ["optimizer.lr=0.1,0.2", "optimizer.lr=0.0..1.0"])
def test_variable_without_effect_cannot_be_varied(tmp_path: Path, answer: Any, varied: str) -> None:
    lines = "optimizer = dict(type='SGD', lr=0.1)\noptim_wrapper = dict(optimizer=optimizer)\n"
    ran = answer(lambda config: ([1.0], ("done", "")))
    with pytest.raises(ArgumentError, match="'optimizer.lr' has no effect, .*; set optim_wrapper.optimizer.lr instead"):
        study.sweep(Config.fromstring(lines, ".py"), [parse_parameter(varied)], settings(tmp_path / "sweep"))
    assert not ran
    study.sweep(
        Config.fromstring(lines, ".py"), [parse_parameter(f"optim_wrapper.{varied}")], settings(tmp_path / "sweep")
    )
    assert ran


def test_equal_config_is_not_run_twice(cfg: Config, tmp_path: Path, answer: Any) -> None:
    ran = answer(lambda config: ([float(config["width"])], ("done", "")))
    found = study.sweep(cfg, [parse_parameter("width=4..5")], settings(tmp_path, trials=6))
    assert sorted(config["width"] for config in ran) == [4, 5]
    assert [each.state for each in found] == ["complete"] * 2 + ["repeated"] * 4
    assert found[-1].note.startswith("same as trial ")


def test_choices_are_combined_once_each(cfg: Config, tmp_path: Path, answer: Any) -> None:
    ran = answer(lambda config: ([float(config["width"])], ("done", "")))
    parameters = [parse_parameter("width=4,8,16"), parse_parameter("optimizer.lr=0.1,0.2")]
    study.sweep(cfg, parameters, settings(tmp_path, trials=20))
    tried = [(config["width"], config["optimizer"]["lr"]) for config in ran]
    assert sorted(tried) == [(width, lr) for width in (4, 8, 16) for lr in (0.1, 0.2)]


def test_sweep_cannot_continue_with_a_different_config(cfg: Config, tmp_path: Path, answer: Any) -> None:
    answer(lambda config: ([1.0], ("done", "")))
    study.sweep(cfg, [LR], settings(tmp_path, trials=1))
    cfg["width"] = 9
    with pytest.raises(ArgumentError, match="started with a different config"):
        study.sweep(cfg, [LR], settings(tmp_path, trials=2))


def test_sweep_continues(cfg: Config, tmp_path: Path, answer: Any) -> None:
    ran = answer(lambda config: ([1.0], ("done", "")))
    study.sweep(cfg, [LR], settings(tmp_path, trials=2))
    assert len(study.sweep(cfg, [LR], settings(tmp_path, trials=5))) == 5
    assert len(ran) == 5
    assert len({config["optimizer"]["lr"] for config in ran}) == 5


@pytest.mark.parametrize("has_out_dir", [False, True])
def test_interrupted_trial_is_resumed_from_its_checkpoint(
    cfg: Config, tmp_path: Path, answer: Any, has_out_dir: bool
) -> None:
    if has_out_dir:
        cfg["default_hooks"] = {"checkpoint": {"out_dir": str(tmp_path / "out")}}

    def interrupt(config: Any) -> Any:
        folder = Path(config["work_dir"])
        if has_out_dir:
            folder = tmp_path / "out" / folder.name
            folder.mkdir(parents=True)
        (folder / "iter_3.pth").write_bytes(b"")
        raise KeyboardInterrupt

    first = answer(interrupt)
    with pytest.raises(KeyboardInterrupt):
        study.sweep(cfg, [LR], settings(tmp_path, trials=2))
    again = answer(lambda config: ([1.0], ("done", "")))
    found = study.sweep(cfg, [LR], settings(tmp_path, trials=2))
    assert again[0]["optimizer"]["lr"] == first[0]["optimizer"]["lr"]
    assert (first[0]["resume"], again[0]["resume"], again[1]["resume"]) == (False, True, False)
    assert [each.state for each in found] == ["complete", "complete"]  # the interrupted trial is continued by another


def test_trial_without_memory_is_infeasible_and_the_sweep_continues(cfg: Config, tmp_path: Path, answer: Any) -> None:
    answer(lambda config: ([], ("infeasible", "out of memory")))
    found = study.sweep(cfg, [LR], settings(tmp_path, trials=2))
    assert [(each.state, each.note) for each in found] == [("infeasible", "out of memory")] * 2


def test_retry_runs_only_failed_trials(cfg: Config, tmp_path: Path, answer: Any) -> None:
    answer(lambda config: ([], ("failed", "E: x")) if config["optimizer"]["lr"] > 0.5 else ([1.0], ("done", "")))
    first = study.sweep(cfg, [LR], settings(tmp_path, trials=6))
    failed = {each.values["optimizer.lr"] for each in first if each.state == "failed"}
    assert 0 < len(failed) < 6
    ran = answer(lambda config: ([2.0], ("done", "")))
    study.sweep(cfg, [LR], settings(tmp_path, retry=True))
    assert {config["optimizer"]["lr"] for config in ran} == failed
    ran.clear()
    study.sweep(cfg, [LR], settings(tmp_path, retry=True))
    assert ran == []


def test_worse_trials_are_pruned(cfg: Config, tmp_path: Path, answer: Any) -> None:
    pruned: list[bool] = []

    def run(config: Any) -> Any:
        return [config["optimizer"]["lr"]] * 3, ("done", "")

    answer(run)
    study.sweep(cfg, [LR], settings(tmp_path, trials=6))
    opened = study.optuna.load_study(study_name="sweep", storage=f"sqlite:///{tmp_path / 'study.db'}")
    opened.pruner = study.optuna.pruners.MedianPruner(n_startup_trials=4)
    for value in (-1.0, 2.0):
        trial = opened.ask()
        trial.report(value, 1)
        pruned.append(trial.should_prune())
    assert pruned == [True, False]


def test_mistakes_are_found_before_files_are_created(cfg: Config, tmp_path: Path) -> None:
    folder = tmp_path / "sweep"
    with pytest.raises(FootplateError, match=r"optimizer.l"):
        study.sweep(cfg, [parse_parameter("optimizer.l=0.0..1.0")], settings(folder))
    with pytest.raises(FootplateError):
        study.sweep(cfg, [parse_parameter("optimizer.lr=a,b")], settings(folder))
    with pytest.raises(ArgumentError, match="cannot tell whether a higher or lower"):
        study.sweep(cfg, [LR], settings(folder, metric="speed"))
    assert not folder.exists()


def test_default_metric_is_that_of_save_best() -> None:
    assert study.default_metric(Config({"default_hooks": {"checkpoint": {"save_best": ["mIoU", "mAcc"]}}})) == "mIoU"
    assert study.default_metric(Config({"evaluation": {"save_best": "bbox_mAP"}})) == "bbox_mAP"
    with pytest.raises(ArgumentError, match="--metric NAME"):
        study.default_metric(Config({"default_hooks": {"checkpoint": {"save_best": "auto"}}}))


def test_hash_ignores_keys_without_influence_on_the_result(cfg: Config) -> None:
    before = study.sha256_of(cfg)
    cfg["work_dir"], cfg["resume"] = "elsewhere", True
    assert study.sha256_of(cfg) == before
    cfg["width"] = 9
    assert study.sha256_of(cfg) != before


@pytest.mark.parametrize(
    ("texts", "metric"),
    [
        (["width=4,8"], "mDice"),
        (["width=4,16"], "mIoU"),
        (["width=4..16"], "mIoU"),
        (["width=4,8", "optimizer.lr=0.0..1.0"], "mIoU"),
        (["optimizer.lr=0.0..1.0"], "mIoU"),
    ],
)
def test_sweep_cannot_continue_with_other_keys_or_choices(
    cfg: Config, tmp_path: Path, answer: Any, texts: list[str], metric: str
) -> None:
    ran = answer(lambda config: ([1.0], ("done", "")))
    study.sweep(cfg, [parse_parameter("width=4,8")], settings(tmp_path, trials=1))
    with pytest.raises(ArgumentError, match="was started with a different config, metric, keys or choices") as caught:
        study.sweep(cfg, [parse_parameter(text) for text in texts], settings(tmp_path, metric=metric))
    assert caught.value.notes[0] == "metric mIoU; width: (4, 8)"
    assert len(ran) == 1


def test_ranges_of_a_continued_sweep_may_change(cfg: Config, tmp_path: Path, answer: Any) -> None:
    ran = answer(lambda config: ([1.0], ("done", "")))
    study.sweep(cfg, [LR], settings(tmp_path, trials=1))
    study.sweep(cfg, [parse_parameter("optimizer.lr=5.0..6.0")], settings(tmp_path, trials=2))
    assert [config["optimizer"]["lr"] >= 5 for config in ran] == [False, True]


def test_key_cannot_be_varied_twice(cfg: Config, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="varied twice") as caught:
        study.sweep(cfg, [LR, LR], settings(tmp_path))
    assert caught.value.found == "optimizer.lr"


def test_damaged_study_is_an_error_and_empty_one_is_filled(cfg: Config, tmp_path: Path, answer: Any) -> None:
    answer(lambda config: ([1.0], ("done", "")))
    (tmp_path / "study.db").write_bytes(bytes(range(256)) * 20)
    with pytest.raises(DataError, match="study.db in .* is damaged"):
        study.sweep(cfg, [LR], settings(tmp_path))
    (tmp_path / "study.db").write_bytes(b"")
    assert len(study.sweep(cfg, [LR], settings(tmp_path, trials=1))) == 1


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE trial_params SET distribution_json = '{'",
        "UPDATE study_user_attributes SET value_json = 'x'",
        "UPDATE trials SET state = 'no'",
    ],
)
def test_study_with_damaged_tables_is_an_error(cfg: Config, tmp_path: Path, answer: Any, damage: str) -> None:
    answer(lambda config: ([1.0], ("done", "")))
    study.sweep(cfg, [LR], settings(tmp_path, trials=1))
    with contextlib.closing(sqlite3.connect(tmp_path / "study.db")) as connection:
        connection.execute(damage)
        connection.commit()
    with pytest.raises(DataError, match="study.db in .* is damaged"):
        study.sweep(cfg, [LR], settings(tmp_path, trials=2))


def test_validations_before_an_interruption_count(cfg: Config, tmp_path: Path, answer: Any) -> None:
    ran = answer(lambda config: ([], ("done", "")))
    choice = parse_parameter("width=4,5")
    first = study.sweep(cfg, [choice], settings(tmp_path, trials=1))[0]
    assert (first.state, first.note) == ("failed", "the run has no validation")
    folder = Path(first.folder)
    (folder / "iter_8.pth").write_bytes(b"")
    (folder / "vis_data").mkdir()
    (folder / "vis_data/scalars.json").write_text('{"mIoU": 40.0, "step": 4}\n{"mIoU": 30.0, "step": 8}\n')
    found = study.sweep(cfg, [choice], settings(tmp_path, retry=True))
    assert [config["resume"] for config in ran] == [False, True]
    assert (found[0].state, found[0].score) == ("complete", 40.0)


def test_progress_of_trials_is_reported(cfg: Config, tmp_path: Path, answer: Any) -> None:
    ran = answer(lambda config: ([1.0], ("done", "")))
    told: list[Any] = []
    study.sweep(cfg, [LR], settings(tmp_path, trials=2), on_progress=told.append)
    assert [(news.number, news.done, news.length) for news in told] == [
        *[(0, 0, None), (0, 3, 8)],
        *[(1, 0, None), (1, 3, 8)],
    ]
    assert [news.folder for news in told[::2]] == [config["work_dir"] for config in ran]
    assert [news.values["optimizer.lr"] for news in told[::2]] == [config["optimizer"]["lr"] for config in ran]


def test_trial_that_was_interrupted_alone_is_run_again(cfg: Config, tmp_path: Path, answer: Any) -> None:
    first = answer(lambda config: ([], ("interrupted", "")))
    with pytest.raises(KeyboardInterrupt):
        study.sweep(cfg, [LR], settings(tmp_path, trials=1))
    again = answer(lambda config: ([1.0], ("done", "")))
    study.sweep(cfg, [LR], settings(tmp_path, trials=1))
    assert again[0]["optimizer"]["lr"] == first[0]["optimizer"]["lr"]


def test_workers_share_the_waiting_trials(cfg: Config, tmp_path: Path, answer: Any) -> None:
    ran = answer(lambda config: ([float(config["width"])], ("done", "")))
    widths = list(range(8))
    choices = [parse_parameter("width=" + ",".join(map(str, widths)))]
    begun: list[Any] = []
    found = study.sweep(cfg, choices, settings(tmp_path, trials=8, workers=4), on_progress=begun.append)
    assert sorted(news.number for news in begun if not news.done) == widths
    assert sorted(config["width"] for config in ran) == widths
    assert [each.state for each in found] == ["complete"] * 8


SECOND = {"optim_wrapper": {"optimizer": {"type": "SGD", "lr": 0.1}}, "width": 8}
WIDTH = parse_parameter("width=4,8,16")


def test_trials_without_a_seed_share_one(tmp_path: Path, answer: Any) -> None:
    ran = answer(lambda config: ([1.0], ("done", "")))
    study.sweep(Config(SECOND), [WIDTH], settings(tmp_path))
    seeds = [config["randomness"]["seed"] for config in ran]
    assert len(seeds) == 3
    assert len(set(seeds)) == 1
    study.sweep(Config(SECOND), [WIDTH], settings(tmp_path / "another"))
    assert ran[-1]["randomness"]["seed"] != seeds[0]


def test_continued_sweep_keeps_its_seed_and_its_trials(tmp_path: Path, answer: Any) -> None:
    ran = answer(lambda config: ([1.0], ("done", "")))
    begun = study.sweep(Config(SECOND), [WIDTH], settings(tmp_path, trials=2))
    ended = study.sweep(Config(SECOND), [WIDTH], settings(tmp_path, trials=3))
    assert len({config["randomness"]["seed"] for config in ran}) == 1
    assert {each.folder for each in begun} < {each.folder for each in ended}
    assert {each.folder for each in begun} == {
        str(tmp_path / study.sha256_of(Config({**SECOND, "width": each.values["width"]}))) for each in begun
    }


def test_shared_seed_of_a_first_generation_config(cfg: Config, tmp_path: Path, answer: Any) -> None:
    ran = answer(lambda config: ([1.0], ("done", "")))
    study.sweep(cfg, [WIDTH], settings(tmp_path))
    assert len({config["seed"] for config in ran}) == 1
    assert "randomness" not in ran[0]


@pytest.mark.parametrize("randomness", [None, {}, {"seed": None, "deterministic": True}])
def test_other_settings_of_randomness_are_kept(tmp_path: Path, answer: Any, randomness: Any) -> None:
    ran = answer(lambda config: ([1.0], ("done", "")))
    study.sweep(Config({**SECOND, "randomness": randomness}), [WIDTH], settings(tmp_path, trials=1))
    assert {key: value for key, value in ran[0]["randomness"].items() if key != "seed"} == {
        key: value for key, value in (randomness or {}).items() if key != "seed"
    }
    assert isinstance(ran[0]["randomness"]["seed"], int)


def test_seed_in_the_config_or_varied_is_kept(tmp_path: Path, answer: Any) -> None:
    ran = answer(lambda config: ([1.0], ("done", "")))
    seeded = {**SECOND, "randomness": {"seed": 7}}
    study.sweep(Config(seeded), [WIDTH], settings(tmp_path / "written"))
    assert {config["randomness"]["seed"] for config in ran} == {7}
    ran.clear()
    varied = parse_parameter("randomness.seed=1,2,3")
    study.sweep(Config({**SECOND, "randomness": {"seed": None}}), [varied], settings(tmp_path / "varied"))
    assert sorted(config["randomness"]["seed"] for config in ran) == [1, 2, 3]


@pytest.mark.parametrize("written", ["study.db", "study.db-journal", "0123456789ab", "0123456789ab/output.txt"])
def test_links_in_place_of_files_of_a_sweep_are_errors(cfg: Config, tmp_path: Path, answer: Any, written: str) -> None:
    ran = answer(lambda config: ([1.0], ("done", "")))
    link = tmp_path / "sweep" / written
    link.parent.mkdir(parents=True)
    link.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DataError, match=f"the sweep would write through the link '.*{written}'"):
        study.sweep(cfg, [LR], settings(tmp_path / "sweep"))
    assert not ran
    assert not (tmp_path / "elsewhere").exists()


def test_other_links_in_the_folder_of_a_sweep_are_allowed(cfg: Config, tmp_path: Path, answer: Any) -> None:
    ran = answer(lambda config: ([1.0], ("done", "")))
    (tmp_path / "data").symlink_to(tmp_path)
    study.sweep(cfg, [LR], settings(tmp_path, trials=1))
    assert len(ran) == 1


@pytest.mark.parametrize(
    ("name", "value"),
    [("run_seed", '"x"'), ("run_seed", 1 << 70), ("begun_anew", 5), ("begun_anew", ["a"])],
)
def test_study_with_invalid_attributes_is_an_error(
    cfg: Config, tmp_path: Path, answer: Any, name: str, value: Any
) -> None:
    ran = answer(lambda config: ([1.0], ("done", "")))
    study.sweep(cfg, [LR], settings(tmp_path, trials=1))
    optuna.load_study(study_name="sweep", storage=f"sqlite:///{tmp_path / 'study.db'}").set_user_attr(name, value)
    with pytest.raises(DataError, match="study.db in .* is damaged"):
        study.sweep(cfg, [LR], settings(tmp_path, trials=2))
    assert len(ran) == 1


@pytest.mark.parametrize("name", ["config", "error", "infeasible"])
def test_trial_with_invalid_attributes_is_an_error(cfg: Config, tmp_path: Path, answer: Any, name: str) -> None:
    answer(lambda config: ([1.0], ("done", "")))
    study.sweep(cfg, [LR], settings(tmp_path, trials=1))
    known = optuna.load_study(study_name="sweep", storage=f"sqlite:///{tmp_path / 'study.db'}")
    trial = known.ask()
    trial.set_user_attr(name, {"a": 1})
    with pytest.raises(DataError, match="study.db in .* is damaged"):
        study.sweep(cfg, [LR], settings(tmp_path, trials=2))


@pytest.mark.parametrize("scores", [[float("nan"), 5.0], [5.0, float("nan")], [4.0, float("inf"), 5.0]])
def test_nonfinite_validations_are_left_out_of_the_score(
    cfg: Config, tmp_path: Path, answer: Any, scores: list[float]
) -> None:
    answer(lambda config: (scores, ("done", "")))
    found = study.sweep(cfg, [LR], settings(tmp_path, trials=1))
    assert [(each.state, each.score) for each in found] == [("complete", 5.0)]


def test_trial_without_a_finite_validation_fails_once(cfg: Config, tmp_path: Path, answer: Any) -> None:
    ran = answer(lambda config: ([float("nan")] * 2, ("done", "")))
    for _ in range(2):
        found = study.sweep(cfg, [LR], settings(tmp_path, trials=2))
        assert [(each.state, each.score, each.note) for each in found] == [
            ("failed", None, "the metric is NaN or infinite in every validation")
        ] * 2
    assert len(ran) == 2
