"""The guide `docs/tasks/classification.md` is correct: its config trains on image folders."""

from pathlib import Path
from typing import Any

import pytest

from footplate.tools.runs import read_run
from tests.footplate_vision.guides import ONE_EPOCH, TWO_EPOCHS, trained, write_classes, write_own_configs


@pytest.fixture(autouse=True)
def guide(current_folder: Path) -> None:
    """Writes the guide's configs and their data into the current folder."""
    write_classes(current_folder / "data", train=4, val=2)
    write_own_configs("classification", Path("data"))


def test_config_of_the_guide_trains() -> None:
    runner = trained("my_classification.py", TWO_EPOCHS)
    assert list(runner.train_dataloader.dataset.metainfo["classes"]) == ["boot", "sandal", "sneaker"]
    assert (len(runner.train_dataloader.dataset), len(runner.val_dataloader.dataset)) == (12, 6)
    loop: Any = runner.val_loop
    matrix = loop.metrics["confusion_matrix/result"]
    assert matrix.sum(dim=1).tolist() == [2, 2, 2]
    assert list(Path("out").glob("best_accuracy_top1_epoch_*.pth"))
    images = {path.name for path in Path("out").glob("*/vis_data/vis_image/*.png")}
    assert "val_confusion_matrix_6.png" in images
    (lines,) = (path.read_text().splitlines() for path in Path("out").glob("*/vis_data/per_class.jsonl"))
    assert len(lines) == 4  # two for each validation, none for the preflight
    _, per_class, _, table = read_run("out").per_class
    assert (per_class.metric, per_class.columns[-1]) == ("single-label", "support")
    assert (table.metric, table.mode, table.step) == ("confusion_matrix", "val", runner.iter)
    assert table.rows == [[name, *row] for name, row in zip(table.columns[1:], matrix.tolist(), strict=True)]


def test_subset_of_the_classes_trains() -> None:
    text = Path("my_classification.py").read_text()
    Path("two.py").write_text(text.replace("['boot', 'sandal', 'sneaker']", "['sandal', 'boot']"))
    runner = trained("two.py", ONE_EPOCH)
    dataset: Any = runner.train_dataloader.dataset
    labels = {Path(info["img_path"]).parent.name: info["gt_label"] for info in map(dataset.get_data_info, range(8))}
    assert (len(dataset), labels) == (8, {"boot": 1, "sandal": 0})
    loop: Any = runner.val_loop
    assert loop.metrics["confusion_matrix/result"].sum(dim=1).tolist() == [2, 2]


@pytest.mark.parametrize(
    ("name", "count", "weights"),
    [("class-weights", 9, [0.56, 1.11, 3.33]), ("balanced", 10, None), ("weighted-sampler", 9, None)],
)
def test_imbalanced_classes_train(name: str, count: int, weights: list[float] | None) -> None:
    for number in range(1, 4):
        Path(f"data/train/boot/{number}.png").unlink()
    runner = trained(f"{name}.py", ONE_EPOCH)
    assert len(runner.train_dataloader.dataset) == count
    found = runner.model.head.loss_module.class_weight
    assert (found if found is None else found.tolist()) == (weights and pytest.approx(weights))
