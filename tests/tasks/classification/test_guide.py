"""The guide `docs/tasks/classification.md` tells the truth: its config trains on folders of pictures."""

from pathlib import Path
from typing import Any

import pytest

from tests.tasks.guides import TWO_EPOCHS, trained, write_classes, write_configs


def test_the_config_trains_on_class_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_classes(tmp_path / "data", train=4, val=2)
    title, _ = write_configs("classification", tmp_path)
    runner = trained(title, TWO_EPOCHS)
    assert list(runner.train_dataloader.dataset.metainfo["classes"]) == ["boot", "sandal", "sneaker"]
    assert (len(runner.train_dataloader.dataset), len(runner.val_dataloader.dataset)) == (12, 6)
    loop: Any = runner.val_loop
    matrix = loop.metrics["confusion_matrix/result"]
    assert matrix.sum(dim=1).tolist() == [2, 2, 2]
    assert list(Path("out").glob("best_accuracy_top1_epoch_*.pth"))
    pictures = {path.name for path in Path("out").glob("*/vis_data/vis_image/*.png")}
    assert "val_confusion_matrix_2.png" in pictures


def test_a_subset_of_the_classes_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_classes(tmp_path / "data", train=4, val=2)
    _, title = write_configs("classification", tmp_path)
    runner = trained(title, TWO_EPOCHS)
    dataset: Any = runner.train_dataloader.dataset
    labels = {Path(info["img_path"]).parent.name: info["gt_label"] for info in map(dataset.get_data_info, range(8))}
    assert (len(dataset), labels) == (8, {"boot": 1, "sandal": 0})
    loop: Any = runner.val_loop
    assert loop.metrics["confusion_matrix/result"].sum(dim=1).tolist() == [2, 2]
