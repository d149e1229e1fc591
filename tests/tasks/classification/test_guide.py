"""The guide `docs/tasks/classification.md` tells the truth: its config trains on folders of pictures."""

from pathlib import Path
from typing import Any

import pytest

from tests.tasks.guides import TWO_EPOCHS, trained, write_classes, write_configs


def test_the_config_trains_on_class_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_classes(tmp_path / "data", train=4, val=2)
    (title,) = write_configs("classification", tmp_path)
    runner = trained(title, TWO_EPOCHS)
    assert list(runner.train_dataloader.dataset.metainfo["classes"]) == ["boot", "sandal", "sneaker"]
    assert (len(runner.train_dataloader.dataset), len(runner.val_dataloader.dataset)) == (12, 6)
    loop: Any = runner.val_loop
    matrix = loop.metrics["confusion_matrix/result"]
    assert matrix.sum(dim=1).tolist() == [2, 2, 2]
    assert list(Path("out").glob("best_accuracy_top1_epoch_*.pth"))
    pictures = {path.name for path in Path("out").glob("*/vis_data/vis_image/*.png")}
    assert "val_confusion_matrix_2.png" in pictures
