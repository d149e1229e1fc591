import pytest

from footplate.first_generation.translation.key_map import is_first_use, old_paths, owners_of, same_meaning


@pytest.mark.parametrize(
    ("path", "old"),
    [
        ("optim_wrapper.optimizer", "optimizer"),
        ("optim_wrapper.optimizer.lr", "optimizer.lr"),
        ("optim_wrapper.generator.optimizer.lr", "optimizer.generator.lr"),
        ("optim_wrapper.paramwise_cfg.custom_keys.head", "optimizer.paramwise_cfg.custom_keys.head"),
        ("optim_wrapper.clip_grad", "optimizer_config.grad_clip"),
        ("param_scheduler.0.start_factor", "lr_config.warmup_ratio"),
        ("param_scheduler.1.milestones", "lr_config.step"),
        ("param_scheduler.0.power", "lr_config.power"),
        ("train_cfg.val_interval", "evaluation.interval"),
        ("default_hooks.checkpoint.interval", "checkpoint_config.interval"),
        ("default_hooks.checkpoint.save_best", "evaluation.save_best"),
        ("val_evaluator.metric", "evaluation.metric"),
        ("train_dataloader.batch_size", "data.train_dataloader.samples_per_gpu"),
        ("train_dataloader._delete_", "data._delete_"),
        ("val_dataloader.dataset.dataset.pipeline", "data.val.pipeline"),
        ("train_dataloader.dataset.dataset.datasets.0.type", "data.train.datasets.0.type"),
        ("val_dataset", "data.val"),
        ("extract_dataset.type", "data.extract.type"),
        ("custom_hooks.0.dataloader.dataset.dataset.pipeline", "data.train.pipeline"),
        ("custom_hooks.0.dataloader.dataset.dataset.type", "data.val.type"),
        ("custom_hooks.2.type", "custom_hooks.2.type"),
    ],
)
def test_old_paths(path: str, old: str) -> None:
    assert old_paths(tuple(path.split(".")))[0] == tuple(old.split("."))


@pytest.mark.parametrize("path", ["work_dir", "default_hooks.timer.priority"])
def test_old_paths_of_unmapped_keys_is_empty(path: str) -> None:
    assert old_paths(tuple(path.split("."))) == ()


def test_old_paths_of_concatenated_datasets_point_into_a_list() -> None:
    path = ("train_dataloader", "dataset", "dataset", "datasets", "1")
    assert old_paths(path)[1] == ("data", "train", "1")


def test_validation_does_not_inherit_the_batch_size() -> None:
    assert ("data", "samples_per_gpu") in old_paths(("train_dataloader", "batch_size"))
    assert ("data", "samples_per_gpu") not in old_paths(("val_dataloader", "batch_size"))
    assert ("data", "workers_per_gpu") in old_paths(("val_dataloader", "num_workers"))


def test_comment_goes_to_only_one_of_several_uses() -> None:
    shared = ("data", "workers_per_gpu")
    places = [f"{split}_dataloader" for split in ("train", "val", "test")]
    assert [is_first_use((place, "num_workers"), shared) for place in places] == [True, False, False]
    assert is_first_use(("val_dataloader", "num_workers"), ("data", "val_dataloader", "workers_per_gpu"))


def test_same_meaning_of_param_scheduler() -> None:
    assert same_meaning(("param_scheduler",)) == (("lr_config",), ("momentum_config",))
    assert same_meaning(("param_scheduler", "0")) == ()


def test_owners_of() -> None:
    assert owners_of("val_dataset") == owners_of("extract_dataset") == ("data",)
    assert owners_of("optim_wrapper")[0] == "optimizer"
    assert owners_of("my_key") == ()
