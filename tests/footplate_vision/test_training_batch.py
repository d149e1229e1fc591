from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from footplate.visualization import Visualizer
from footplate_vision.classification import ClsDataPreprocessor, ClsDataSample
from footplate_vision.detection import DetDataPreprocessor, DetDataSample
from footplate_vision.segmentation import SegDataPreProcessor, SegDataSample
from footplate_vision.structures import InstanceData, PixelData
from footplate_vision.training_batch import draw_training_batch

NORMALIZED: dict[str, Any] = {"mean": [100.0, 110.0, 120.0], "std": [50.0, 60.0, 70.0]}
RED_IN_BGR = torch.tensor([10.0, 20.0, 200.0])[:, None, None]


class LoadImageFromFile:
    channel_order = "bgr"


def runner_of(preprocessor: Any) -> Any:
    dataset = SimpleNamespace(
        metainfo={"classes": ("shoe", "bag"), "palette": [(1, 2, 3), (0, 255, 0)]},
        pipeline=SimpleNamespace(transforms=[LoadImageFromFile()]),
    )
    loop = SimpleNamespace(dataloader=SimpleNamespace(dataset=dataset))
    model = SimpleNamespace(data_preprocessor=preprocessor)
    return SimpleNamespace(model=model, train_loop=loop, visualizer=Visualizer("of the run"))


@pytest.mark.parametrize("swaps", [False, True])
def test_images_boxes_and_masks_are_those_that_the_model_gets(swaps: bool) -> None:
    masks = torch.zeros(1, 320, 300, dtype=torch.bool)
    masks[0, :100, :100] = True
    truth = InstanceData(bboxes=torch.tensor([[200.0, 200.0, 280.0, 280.0]]), labels=torch.tensor([1]), masks=masks)
    sample = DetDataSample(metainfo={"img_shape": (320, 300)})
    sample.gt_instances = truth
    # The second image is wider, so that the first one is padded.
    batch: dict[str, Any] = {
        "inputs": [RED_IN_BGR.expand(3, 320, 300), RED_IN_BGR.expand(3, 320, 320)],
        "data_samples": [sample] * 2,
    }
    runner = runner_of(DetDataPreprocessor(bgr_to_rgb=swaps, pad_size_divisor=32, **NORMALIZED))
    picture: Any = draw_training_batch(runner, batch)
    ((_, left, top, *_),) = picture.layout["panels"]
    tile = np.asarray(picture)[top : top + 320, left : left + 320].astype(int)
    assert tile[150, 150].tolist() == [200, 20, 10]  # red, in the order of pictures
    assert tile[200, 240].tolist() == [0, 255, 0]  # the upper side of the box, not moved by the padding
    assert tile[90, 90].tolist() == [120, 114, 6]  # under the mask
    assert tile[90, 110].tolist() == [200, 20, 10]
    assert picture.layout["legend"] == [["bag", 0, 255, 0]]
    assert batch["data_samples"][0].gt_instances.masks.shape == (1, 320, 300)
    assert Visualizer.get_current_instance() is runner.visualizer


def test_label_maps_and_mixed_labels_are_drawn() -> None:
    label_map = torch.ones(1, 64, 64, dtype=torch.long)
    sample = SegDataSample()
    sample.gt_sem_seg = PixelData(data=label_map)
    batch = {"inputs": [RED_IN_BGR.expand(3, 64, 64)], "data_samples": [sample]}
    picture: Any = draw_training_batch(runner_of(SegDataPreProcessor(size=(64, 64), **NORMALIZED)), batch)
    assert picture[200, 200].tolist() == [100, 138, 5]  # half the image, half the color of the class
    mixed = ClsDataSample().set_gt_score(torch.tensor([0.3, 0.7]))
    preprocessor = ClsDataPreprocessor(**NORMALIZED)
    picture = draw_training_batch(runner_of(preprocessor), {**batch, "data_samples": [mixed]})
    assert picture is not None
    assert draw_training_batch(runner_of(preprocessor), {**batch, "data_samples": [ClsDataSample()]}) is None


@pytest.mark.parametrize(("low", "high"), [(-2.0, 2.5), (0.0, 1.0), (0.0, 65535.0)])
def test_values_that_are_not_pixels_are_stretched(low: float, high: float) -> None:
    ramp = torch.linspace(low, high, 256).view(1, 1, 256).expand(3, 256, 256)
    batch = {"inputs": [ramp], "data_samples": [ClsDataSample().set_gt_label(1)]}
    picture: Any = draw_training_batch(runner_of(ClsDataPreprocessor()), batch)
    row = bytes(np.asarray(picture)[picture.shape[0] // 2, :, 0])
    assert bytes(range(256)) in row


def test_model_without_a_data_preprocessor_is_not_drawn(caplog: pytest.LogCaptureFixture) -> None:
    runner = runner_of(None)
    assert draw_training_batch(runner, [torch.zeros(1, 3, 8, 8)]) is None
    del runner.model.data_preprocessor
    assert draw_training_batch(runner, [torch.zeros(1, 3, 8, 8)]) is None
    assert not caplog.messages
