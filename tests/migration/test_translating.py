import copy
from typing import Any

import pytest

from footplate import Config
from footplate.errors import ConfigError, origin_of
from footplate.migration import Kind, Note, translate, translate_sections
from footplate.migration import is_first_generation as is_first

EPOCHS = {"runner": {"type": "EpochBasedRunner", "max_epochs": 12}}
ITERS = {"runner": {"type": "IterBasedRunner", "max_iters": 100}}
DATA = {"data": {"samples_per_gpu": 2, "train": {"type": "A"}, "val": {"type": "B"}, "test": {"type": "C"}}}


def sections(cfg: dict[str, Any], **options: Any) -> dict[str, Any]:
    return dict(translate_sections(cfg, **options).sections.to_dict())


def notes(cfg: dict[str, Any], kind: Kind, **options: Any) -> list[str]:
    found: tuple[Note, ...] = translate_sections(cfg, **options).notes
    return [f"{note.key}: {note.text}" for note in found if note.kind is kind]


def test_the_config_itself_is_left_as_it_is() -> None:
    cfg = {**ITERS, **DATA, "lr_config": {"policy": "poly", "power": 0.9}, "custom_hooks": [{"type": "EMAHook"}]}
    before = copy.deepcopy(cfg)
    translate(cfg)
    assert cfg == before


def test_a_config_of_the_second_generation_is_returned_itself() -> None:
    cfg = Config({"optim_wrapper": {"optimizer": {"type": "SGD"}}})
    assert translate(cfg) is cfg


def test_what_comes_out_is_of_the_second_generation() -> None:
    cfg = translate({**EPOCHS, **DATA, "optimizer": {"type": "SGD", "lr": 0.1}, "lr_config": {"policy": "fixed"}})
    assert not is_first(cfg)
    assert translate(cfg) is cfg


def test_sections_know_where_they_were_written() -> None:
    text = "runner = dict(max_epochs=1)\ndata = dict(\n    train=dict(type='A'))\ncheckpoint_config = dict(interval=1)"
    cfg = translate(Config.fromstring(text, ".py"))
    assert [
        origin_of(cfg.train_cfg, "max_epochs").line,  # type: ignore[union-attr]
        origin_of(cfg.train_dataloader.dataset.dataset, "type").line,  # type: ignore[union-attr]
        origin_of(cfg.default_hooks.checkpoint, "interval").line,  # type: ignore[union-attr]
    ] == [1, 3, 4]


def test_sections_that_are_there_already_are_merged_over() -> None:
    found = sections({**EPOCHS, "cudnn_benchmark": True, "env_cfg": {"cudnn_benchmark": False, "dist_cfg": {}}})
    assert found["env_cfg"] == {"cudnn_benchmark": False, "dist_cfg": {}}


def test_keys_of_ones_own_stay() -> None:
    found = sections({**EPOCHS, "img_norm_cfg": {"mean": [0.0]}, "model": {"type": "M"}, "work_dir": "w"})
    assert (found["img_norm_cfg"], found["model"], found["work_dir"]) == ({"mean": [0.0]}, {"type": "M"}, "w")


# What `evaluation` says about the time of a validation.
TIMES: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({}, {"val_interval": 1}),
    ({"interval": 5}, {"val_interval": 5}),
    ({"interval": 2, "start": 4}, {"val_interval": 2, "val_begin": 4}),
    ({"interval": 10, "dynamic_intervals": [(9, 1)]}, {"val_interval": 10, "dynamic_intervals": [(10, 1)]}),
]


@pytest.mark.parametrize(("evaluation", "expected"), TIMES)
def test_the_loop_validates_when_the_hook_did(evaluation: dict[str, Any], expected: dict[str, Any]) -> None:
    found = sections({**EPOCHS, **DATA, "evaluation": evaluation})
    assert found["train_cfg"] == {"type": "EpochBasedTrainLoop", "max_epochs": 12, **expected}
    assert found["val_cfg"] == {"type": "ValLoop"}


@pytest.mark.parametrize("evaluation", [{"start": 3, "interval": 2}, {"start": 0}, {"by_epoch": False, "interval": 50}])
def test_times_that_the_loop_cannot_say_are_a_hooks(evaluation: dict[str, Any]) -> None:
    found = sections({**EPOCHS, **DATA, "evaluation": evaluation})
    assert found["train_cfg"]["val_begin"] == 13
    expected = {"type": "EvalHook", "interval": 1, "by_epoch": True, "priority": "LOW", **evaluation}
    assert found["custom_hooks"] == [expected]


def test_evaluate_gets_what_evaluation_says_beside() -> None:
    evaluation = {
        "interval": 1,
        "metric": ["bbox", "segm"],
        "classwise": True,
        "save_best": "bbox_mAP",
        "rule": "greater",
    }
    found = sections({**EPOCHS, **DATA, "evaluation": evaluation})
    metric = {"type": "LegacyMetric", "metric": ["bbox", "segm"], "classwise": True}
    assert found["val_evaluator"] == found["test_evaluator"] == metric
    assert found["default_hooks"]["checkpoint"] == {"save_best": "bbox_mAP", "rule": "greater", "priority": "NORMAL"}


def test_the_best_is_kept_where_nothing_else_is_saved() -> None:
    cfg = {**ITERS, **DATA, "checkpoint_config": None, "evaluation": {"interval": 10, "save_best": "auto"}}
    saved = {"interval": -1, "save_last": False, "by_epoch": False, "save_best": "auto", "priority": "NORMAL"}
    assert sections(cfg)["default_hooks"]["checkpoint"] == saved


def test_nothing_is_saved_where_checkpoint_config_is_none() -> None:
    assert sections({**EPOCHS, "checkpoint_config": None})["default_hooks"]["checkpoint"] is None


LOADERS: list[tuple[dict[str, Any], str, dict[str, Any]]] = [
    ({"samples_per_gpu": 4, "workers_per_gpu": 3}, "train_dataloader", {"batch_size": 4, "num_workers": 3}),
    ({"imgs_per_gpu": 4}, "train_dataloader", {"batch_size": 4}),
    ({"samples_per_gpu": 4}, "val_dataloader", {"batch_size": 1}),
    (
        {"samples_per_gpu": 4, "drop_last": True, "train_dataloader": {"samples_per_gpu": 8, "pin_memory": True}},
        "train_dataloader",
        {"batch_size": 8, "drop_last": True, "pin_memory": True},
    ),
    ({"drop_last": True, "val_dataloader": {"samples_per_gpu": 8}}, "val_dataloader", {"batch_size": 8}),
    ({"persistent_workers": True, "workers_per_gpu": 1}, "test_dataloader", {"persistent_workers": True}),
]


@pytest.mark.parametrize(("settings", "name", "expected"), LOADERS)
def test_each_split_has_its_loader(settings: dict[str, Any], name: str, expected: dict[str, Any]) -> None:
    data = {"train": {"type": "A"}, "val": {"type": "B"}, "test": {"type": "C"}, **settings}
    loader = sections({**EPOCHS, "data": data, "evaluation": {}})[name]
    assert {key: loader[key] for key in expected} == expected
    assert ("drop_last" in loader) is ("drop_last" in expected)
    assert loader["sampler"] == {"type": "DefaultSampler", "shuffle": name == "train_dataloader"}


def test_several_data_sets_become_one() -> None:
    data = {"train": [{"type": "A"}, {"type": "B"}], "val": [{"type": "A", "samples_per_gpu": 3}, {"type": "B"}]}
    found = sections({**ITERS, "data": {"samples_per_gpu": 1, **data}, "evaluation": {}})
    several = {"type": "ConcatDataset", "datasets": [{"type": "A"}, {"type": "B"}]}
    assert found["train_dataloader"]["dataset"] == {"type": "LegacyDataset", "dataset": several}
    assert found["val_dataloader"]["dataset"] == {"type": "LegacyDataset", "dataset": several, "test_mode": True}
    assert found["val_dataloader"]["batch_size"] == 3


def test_validation_data_without_evaluation_are_kept_aside() -> None:
    found = sections({**EPOCHS, **DATA})
    assert found["val_dataset"] == {"type": "B"}
    assert "val_dataloader" not in found
    assert found["test_evaluator"] == {"type": "LegacyMetric"}


def test_settings_of_the_model_beside_it_are_the_models() -> None:
    found = sections({**EPOCHS, "model": {"type": "M"}, "train_cfg": {"rpn": 1}, "test_cfg": None})
    assert found["model"] == {"train_cfg": {"rpn": 1}, "type": "M"}
    assert found["train_cfg"] == {"type": "EpochBasedTrainLoop", "max_epochs": 12}


def test_the_order_of_the_hooks_is_the_first_generations() -> None:
    hooks = sections({**EPOCHS, "checkpoint_config": {"interval": 1}})["default_hooks"]
    assert {name: hook["priority"] for name, hook in hooks.items()} == {
        "param_scheduler": "VERY_HIGH",
        "checkpoint": "NORMAL",
        "timer": "LOW",
        "logger": "VERY_LOW",
    }


@pytest.mark.parametrize(
    ("resume", "expected"),
    [
        ({"resume_from": "a.pth", "load_from": "b.pth"}, {"load_from": "a.pth", "resume": True}),
        ({"resume_from": None, "load_from": "b.pth"}, {"load_from": "b.pth"}),
        ({"auto_resume": True, "load_from": "b.pth"}, {"load_from": "b.pth", "resume": "auto"}),
        ({"resume_from": "a.pth", "resume": True, "load_from": None}, {"load_from": None, "resume": True}),
    ],
)
def test_where_a_run_goes_on(resume: dict[str, Any], expected: dict[str, Any]) -> None:
    found = sections({**EPOCHS, **resume})
    assert {key: found[key] for key in ("load_from", "resume") if key in found} == expected


WARNED: list[tuple[dict[str, Any], str, str]] = [
    ({"device": "cuda"}, "cpu", "device: 'cuda' is asked for: the run is on 'cpu', which the machine decides"),
    ({"gpu_ids": [0, 1]}, "cpu", "gpu_ids: [0, 1] are not here: the run is on 'cpu'"),
    ({"gpu_ids": [0, 1]}, "cuda", "gpu_ids: 2 devices take torchrun --nproc-per-node 2"),
    (
        {"optimizer": {"type": "SGD"}, "fp16": {"loss_scale": 512.0}},
        "cpu",
        "fp16: mixed precision in float16 is for accelerators: on this CPU it is bfloat16",
    ),
    ({"total_epochs": 3}, "cpu", "total_epochs: 3 contradicts runner, which counts: 12"),
    ({"runner": {"max_epochs": 1, "max_loops": 2}}, "cpu", "runner.max_loops: 2 has no counterpart"),
    ({"log_config": {"intervall": 5}}, "cpu", "log_config.intervall: is not understood; did you mean 'interval'?"),
    ({"log_config": {"hooks": [{"type": "PaviLoggerHook"}]}}, "cpu", "log_config.hooks[0]: PaviLoggerHook has no"),
    ({**DATA, "evaluation": {"intervall": 5}}, "cpu", "evaluation.intervall: goes to evaluate() of the data set; did"),
    ({"dist_params": {"backend": "nccl", "port": 1}}, "cpu", "dist_params.port: torchrun decides"),
]


@pytest.mark.parametrize(("cfg", "device", "warning"), WARNED)
def test_a_meaning_that_cannot_be_kept_is_one_warning(cfg: dict[str, Any], device: str, warning: str) -> None:
    found = [note for note in notes({**EPOCHS, **cfg}, Kind.WARNING, device=device) if note.startswith(warning)]
    assert len(found) == 1


def test_a_runner_of_ones_own_is_asked_about() -> None:
    cfg = {"runner": {"type": "EpochBasedRuner", "max_epochs": 1}}
    assert notes(cfg, Kind.PERSON) == [
        "runner.type: 'EpochBasedRuner' is a runner of its own: what it does beside counting is not kept; "
        "did you mean 'EpochBasedRunner'?"
    ]


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"runner": {"max_iters": "many"}, "lr_config": {"policy": "poly"}}, "the length of a run is a positive number"),
    ({"runner": None, "total_epochs": 0}, "the length of a run is a positive number"),
    ({"workflow": [("val", 1)]}, "workflow does not train"),
    ({"workflow": [("train", 1), ("valid", 1)]}, "a phase of workflow is"),
    ({"workflow": [("train", 0)]}, "a phase of workflow is"),
    ({"workflow": [("train", 1), ("val", 1)]}, "there is no data.val"),
    ({"data": [1]}, "data must be a dict"),
    ({"optimizer_config": {"type": "OptimizrHook"}}, "unknown optimizer hook 'OptimizrHook'"),
    ({"lr_config": {"policy": "setp"}}, 'unknown policy "setp"'),
]


@pytest.mark.parametrize(("cfg", "message"), REFUSED)
def test_what_makes_no_sense_is_refused(cfg: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        translate({**EPOCHS, **cfg})


def test_hooks_of_the_users_own_take_their_place() -> None:
    cfg = {
        **ITERS,
        "optimizer": {"type": "SGD", "lr": 0.1},
        "optimizer_config": {"type": "MyStep", "grad_clip": None},
        "lr_config": {"policy": "Wave", "height": 2},
        "log_config": {"interval": 5, "hooks": [{"type": "TextLoggerHook"}, {"type": "MyLoggerHook", "a": 1}]},
    }
    found = sections(cfg)
    assert found["optim_wrapper"]["type"] == "SteppedByHook"
    assert found["custom_hooks"] == [
        {"type": "MyStep", "grad_clip": None, "priority": "ABOVE_NORMAL"},
        {"by_epoch": False, "type": "WaveLrUpdaterHook", "height": 2, "priority": "VERY_HIGH"},
        {"by_epoch": False, "interval": 5, "type": "MyLoggerHook", "a": 1, "priority": "VERY_LOW"},
    ]


def test_a_registered_hook_is_no_misspelling() -> None:
    cfg = {**EPOCHS, "optimizer": {"type": "SGD", "lr": 0.1}, "optimizer_config": {"type": "OptimizersHook"}}
    assert sections(cfg, knows_hook=lambda name: True)["optim_wrapper"]["type"] == "SteppedByHook"


def test_several_optimizers_without_a_hook_are_the_models_affair() -> None:
    optimizer = {"generator": {"type": "Adam", "lr": 1e-4}, "discriminator": {"type": "Adam", "lr": 1e-3}}
    found = sections({**ITERS, "optimizer": optimizer, "optimizer_config": None})
    assert {name: each["type"] for name, each in found["optim_wrapper"].items()} == {
        "generator": "SteppedByModel",
        "discriminator": "SteppedByModel",
    }
