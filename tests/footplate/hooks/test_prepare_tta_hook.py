from pathlib import Path
from typing import Any

import pytest
import torch

from footplate import Config, Runner
from footplate.data import Compose
from footplate.errors import ArgumentError
from footplate.models import BaseModel
from footplate_vision.structures import PixelData
from tests.support import settings

VIEWS = [
    {
        "type": "TestTimeAug",
        "transforms": [
            [{"type": "RandomFlip", "prob": 0.0}, {"type": "RandomFlip", "prob": 1.0}],
            [{"type": "PackSegInputs"}],
        ],
    }
]


class Sided(BaseModel):
    """Predicts class 1 for the left half with high confidence, and class 0 for the rest with lower confidence."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.seen = 0

    def forward(self, inputs: Any, data_samples: Any = None, mode: str = "tensor") -> Any:
        if mode == "loss":
            return {"loss": (self.weight * 0).sum()}
        self.seen += len(inputs)
        for sample in data_samples:
            logits = torch.zeros(11, 64, 64)
            logits[1, :, :32], logits[0, :, 32:] = 9.0, 1.0
            sample.seg_logits = PixelData(data=logits.flip(-1) if sample.get("flip", False) else logits)
            sample.pred_sem_seg = PixelData(data=sample.seg_logits.data.argmax(0, keepdim=True))
        return data_samples


def scenes(split: str, length: int, pipeline: Any) -> dict[str, Any]:
    data = {"type": "FashionScenes", "split": split, "length": length, "pipeline": pipeline}
    return {"dataset": data, "sampler": {"type": "DefaultSampler", "shuffle": False}, "batch_size": 2}


def build(tmp_path: Path, hook: dict[str, Any] | None, model: Any = None, **changes: Any) -> Runner:
    pack = [{"type": "PackSegInputs"}]
    cfg = settings(
        tmp_path,
        model=model or Sided(),
        train_dataloader=scenes("train", 4, pack),
        val_dataloader=scenes("test", 4, pack),
        test_dataloader=scenes("test", 6, pack),
        val_evaluator={"type": "IoUMetric"},
        test_evaluator={"type": "IoUMetric"},
        custom_hooks=[] if hook is None else [{"type": "PrepareTTAHook", **hook}],
        train_cfg={"by_epoch": True, "max_epochs": 1},
        **changes,
    )
    return Runner(**cfg)


def test_predictions_of_views_are_merged(tmp_path: Path) -> None:
    plain, merged = (
        build(tmp_path / "a", None),
        build(tmp_path / "b", {"tta_cfg": {"type": "SegTTAModel"}, "tta_pipeline": VIEWS}),
    )
    found = plain.test(), merged.test()
    assert (plain.model.seen, merged.model.seen) == (6, 12)
    # The left half of a view is the right half of the flipped one, so the mean predicts class 1 everywhere.
    everywhere = float((torch.stack([_truth(at) for at in range(6)]) == 1).float().mean())
    assert found[1]["aAcc"] == pytest.approx(100 * everywhere, abs=1e-4)
    assert found[0]["aAcc"] != found[1]["aAcc"]
    again = build(
        tmp_path / "c", {"tta_cfg": {"type": "SegTTAModel"}, "tta_pipeline": VIEWS, "phases": ["val", "test"]}
    )
    for dataloader in (None, again.val_loop and again.val_loop.dataloader):
        assert (again.predict(dataloader)[0][0].pred_sem_seg.data == 1).all()


def _truth(at: int) -> Any:
    from footplate_vision.recipes.fashion_scenes import FashionScenes

    return torch.from_numpy(FashionScenes("test").sample(at)["gt_seg_map"])


def test_phases(tmp_path: Path) -> None:
    runner = build(tmp_path, {"tta_cfg": {"type": "SegTTAModel"}, "tta_pipeline": VIEWS, "phases": ["val", "test"]})
    runner.train()
    after_training = runner.model.seen
    runner.test()
    assert (after_training, runner.model.seen - after_training) == (8, 12)
    state = torch.load(tmp_path / "epoch_1.pth", weights_only=True)["state_dict"]
    assert list(state) == ["weight"]


@pytest.mark.parametrize(
    ("hook", "changes", "key"),
    [
        ({"tta_cfg": {"type": "SegTTAModel"}}, {}, "tta_pipeline"),
        ({"tta_cfg": {"type": "SegTTAModel"}, "tta_pipeline": VIEWS}, {"test_cfg": {"loss": True}}, "test_cfg.loss"),
    ],
)
def test_missing_settings_are_named(tmp_path: Path, hook: Any, changes: Any, key: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        build(tmp_path, hook, **changes).test()
    assert caught.value.key == key


def test_a_transform_that_writes_into_its_config_does_not_change_that_of_the_run(tmp_path: Path) -> None:
    class Writing:  # as TestTimeAug of mmcv
        def __init__(self, transforms: list[Any]) -> None:
            transforms[0] = None
            self.views = Compose(VIEWS)

        def __call__(self, results: Any) -> Any:
            return self.views(results)

    pipeline = [{"type": Writing, "transforms": [{"type": "RandomFlip"}]}]
    runner = build(tmp_path, {}, cfg=Config({"tta_model": {"type": "SegTTAModel"}, "tta_pipeline": pipeline}))
    runner.test()
    assert runner.model.seen == 12
    assert runner.cfg.tta_pipeline[0].transforms == [{"type": "RandomFlip"}]
