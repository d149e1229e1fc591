"""Predictions on tiles, merged, equal those of a model that sees the whole image.

The oracle returns the known objects, clipped to the tile, and the known scores of each pixel.
"""

import random
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from footplate.errors import ArgumentError, DataError
from footplate_vision.detection.data import DetDataSample
from footplate_vision.inference import Predictor
from footplate_vision.inference.tiling import LabelMap, Tile, TiledMasks, merge, open_windows, tiles_of
from footplate_vision.segmentation.data import SegDataSample
from footplate_vision.structures import InstanceData, PixelData
from tests.footplate.cli.conftest import Command
from tests.footplate_vision.inference.models import save_untrained_recipe
from tests.support import json_lines


def grids(count: int) -> Iterator[tuple[int, int, int, float]]:
    """Yields widths, heights, tile sizes and overlaps."""
    draw = random.Random(0)
    for _ in range(count):
        yield draw.randint(1, 300), draw.randint(1, 300), draw.randint(1, 120), draw.choice([0, 0.1, 0.2, 0.5, 0.9])


def test_tiles_cover_each_pixel_and_have_one_size() -> None:
    for width, height, tile, overlap in grids(200):
        tiles = tiles_of(width, height, tile, overlap)
        covered = np.zeros((height, width), bool)
        for x, y, w, h in tiles:
            assert (w, h) == (min(tile, width), min(tile, height))
            assert 0 <= x <= width - w
            assert 0 <= y <= height - h
            covered[y : y + h, x : x + w] = True
        assert covered.all()
        assert len({*tiles}) == len(tiles)
        for one, other in pairwise(sorted({each.x for each in tiles})):
            assert other - one <= max(1, tile * (1 - overlap))


@pytest.mark.parametrize("channels", [1, 3])
def test_scores_of_tiles_are_averaged(channels: int) -> None:
    rng = np.random.default_rng(0)
    for width, height, tile, overlap in grids(40):
        tiles = tiles_of(width, height, max(20, tile), overlap)
        labels = LabelMap(tiles, 0.3)
        sums, counts = np.zeros((channels, height, width)), np.zeros((height, width))
        for x, y, w, h in tiles:
            scores = rng.random((channels, h, w), np.float32)
            labels.add(Tile(x, y, w, h), scores)
            sums[:, y : y + h, x : x + w] += scores
            counts[y : y + h, x : x + w] += 1
        mean = sums / counts
        expected = mean.argmax(0) if channels > 1 else mean[0] > 0.3
        assert labels.labels is not None
        assert (labels.labels == expected).mean() > 0.9999  # sums in another order may round to another side


def boxes_apart(draw: random.Random, size: int, count: int) -> list[list[float]]:
    """Returns boxes of different sizes that do not overlap."""
    found: list[list[float]] = []
    while len(found) < count:
        x, y, w, h = draw.uniform(0, size), draw.uniform(0, size), draw.uniform(8, size / 2), draw.uniform(8, size / 2)
        box = [x, y, min(size, x + w), min(size, y + h)]
        is_apart = all(box[0] > b[2] + 4 or box[2] < b[0] - 4 or box[1] > b[3] + 4 or box[3] < b[1] - 4 for b in found)
        if is_apart and box[2] - box[0] > 6 and box[3] - box[1] > 6:
            found.append(box)
    return found


def clipped(boxes: Sequence[Sequence[float]], tile: Tile, *, masks: bool) -> DetDataSample:
    """Returns what a perfect detector sees in a tile."""
    seen, labels = [], []
    for label, (left, top, right, bottom) in enumerate(boxes):
        box = [
            max(0, left - tile.x),
            max(0, top - tile.y),
            min(tile.width, right - tile.x),
            min(tile.height, bottom - tile.y),
        ]
        if box[2] - box[0] > 3 and box[3] - box[1] > 3:
            seen.append(box)
            labels.append(label % 2)
    data: dict[str, Any] = {
        "bboxes": torch.tensor(seen).reshape(-1, 4),
        "scores": torch.rand(len(seen)),
        "labels": torch.tensor(labels, dtype=torch.long),
    }
    if masks:
        rows, columns = torch.arange(tile.height)[:, None], torch.arange(tile.width)
        data["masks"] = (
            torch.stack([(rows >= b[1]) & (rows < b[3]) & (columns >= b[0]) & (columns < b[2]) for b in seen])
            if seen
            else torch.zeros(0, tile.height, tile.width, dtype=torch.bool)
        )
    return DetDataSample(metainfo={"img_id": 3}, pred_instances=InstanceData(**data))


def test_each_object_is_found_once_and_whole() -> None:
    torch.manual_seed(0)
    for seed in range(60):
        draw = random.Random(seed)
        size = draw.randint(120, 400)
        boxes = boxes_apart(draw, size, draw.randint(1, 6))
        tiles = tiles_of(size, size, draw.randint(60, 160), draw.choice([0.1, 0.2, 0.5]))
        found = merge(tiles, [clipped(boxes, tile, masks=seed % 2 == 0) for tile in tiles], 0.5)
        assert found.metainfo == {"img_id": 3, "ori_shape": (size, size), "img_shape": (size, size)}
        order = sorted(range(len(boxes)), key=lambda at: boxes[at])
        instances = found.pred_instances
        assert len(instances) == len(boxes), seed
        places = sorted(range(len(instances)), key=lambda at: instances.bboxes[at].tolist())
        for place, at in zip(places, order, strict=True):
            assert instances.labels[place] == at % 2
            # A tile does not see a part of at most 3 pixels, and a box within 2 pixels of an edge counts as cut.
            np.testing.assert_allclose(instances.bboxes[place], boxes[at], atol=3.01)
        assert instances.scores.tolist() == sorted(instances.scores.tolist(), reverse=True) or len(tiles) > 1


def test_rotated_boxes_at_a_seam_are_joined_in_their_direction() -> None:
    tiles = tiles_of(180, 100, 100, 0.2)
    whole = [torch.tensor([[90.0, 50, 100, 20, 0.0]]), torch.tensor([[90.0, 50, 20, 60, 0.3]])]
    # The first box is longer than the overlap, and each tile sees a part. Both tiles see the second one whole.
    parts = [torch.tensor([[70.0, 50, 60, 20, 0.0]]), torch.tensor([[110.0 - 80, 50, 60, 20, 0.0]])]
    for boxes, expected in ((parts, whole[0]), ([whole[1], whole[1] - torch.tensor([80.0, 0, 0, 0, 0])], whole[1])):
        samples = [
            DetDataSample(pred_instances=InstanceData(bboxes=box, scores=torch.ones(1), labels=torch.zeros(1)))
            for box in boxes
        ]
        found = merge(tiles, samples, 0.5).pred_instances
        torch.testing.assert_close(found.bboxes, expected)


def test_an_image_without_objects_has_no_instances() -> None:
    tiles = tiles_of(100, 40, 40, 0.1)
    found = merge(tiles, [clipped([], tile, masks=True) for tile in tiles], 0.5).pred_instances
    assert found.bboxes.shape == (0, 4)


def test_masks_of_large_images_are_pasted_one_by_one() -> None:
    masks = TiledMasks([(2, 1, np.ones((2, 3), bool)), (0, 0, np.ones((1, 1), bool))], (6, 4))
    assert np.asarray(masks).shape == (2, 4, 6)
    assert np.argwhere(masks[0]).tolist() == [[1, 2], [1, 3], [1, 4], [2, 2], [2, 3], [2, 4]]
    assert len(masks[torch.tensor([1])]) == 1


def test_a_label_map_of_tiles_has_the_classes_of_the_mean_scores() -> None:
    tiles = tiles_of(30, 20, 16, 0.25)
    samples = [
        SegDataSample(seg_logits=PixelData(data=torch.eye(3)[tile.x % 3, :, None, None].expand(3, 16, 16)))
        for tile in tiles
    ]
    labels = merge(tiles, samples, 0.5).pred_sem_seg.data
    assert labels.shape == (1, 20, 30)
    assert labels.dtype == torch.uint8


def test_predictions_of_other_tasks_are_refused() -> None:
    with pytest.raises(ArgumentError, match="cannot be merged from tiles"):
        merge([Tile(0, 0, 8, 8)], [torch.zeros(3)], 0.5)
    posed = InstanceData(
        bboxes=torch.zeros(1, 4), scores=torch.ones(1), labels=torch.ones(1), keypoints=torch.zeros(1, 5, 2)
    )
    with pytest.raises(ArgumentError, match="keypoints"):
        merge([Tile(0, 0, 8, 8)], [DetDataSample(pred_instances=posed)], 0.5)


@pytest.mark.filterwarnings("ignore:Dataset has no geotransform")
def test_a_tiff_file_is_read_in_windows(tmp_path: Path) -> None:
    rasterio = pytest.importorskip("rasterio")
    pixels = np.random.default_rng(0).integers(0, 256, (3, 70, 90), np.uint8)
    for count, dtype in ((3, "uint8"), (1, "uint8"), (2, "uint8"), (3, "uint16")):
        path = str(tmp_path / f"{count}-{dtype}.tif")
        with rasterio.open(
            path, "w", "GTiff", 90, 70, count, dtype=dtype, tiled=True, blockxsize=16, blockysize=16
        ) as file:
            file.write(pixels[:count].astype(dtype))
        if count == 2 or dtype == "uint16":
            with (
                pytest.raises(DataError, match="8-bit pixels in 1, 3 or 4 bands"),
                open_windows(path, lambda path: pixels),
            ):
                pass
            continue
        with open_windows(path, lambda path: pixels) as (width, height, read):
            assert (width, height) == (90, 70)
            part = read(Tile(20, 10, 30, 40))
        expected = np.moveaxis(pixels[:count], 0, -1)[10:50, 20:50]
        np.testing.assert_array_equal(part, expected if count == 3 else expected[..., 0])


def test_command_predicts_in_tiles(current_folder: Path, footplate: Command) -> None:
    folder = save_untrained_recipe("fashion-seg", current_folder)
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (70, 150, 3), np.uint8)).save("a.png")
    code, said, errors = footplate("predict", str(folder / "model.pth"), "a.png", "--tile", "64", "--overlap", "0.25")
    assert (code, errors) == (0, "")
    assert "1 image" in said
    assert "replaced" not in said
    (line,) = json_lines("predictions/predictions.jsonl")
    assert (line["height"], line["width"]) == (70, 150)
    found = Predictor("model.pth", tile=64, overlap=0.25)("a.png").pred_sem_seg.data[0].numpy()
    np.testing.assert_array_equal(Image.open(f"predictions/{line['labels']}"), found)
    again = footplate("predict", str(folder / "model.pth"), "a.png")[1]
    assert "The earlier predictions in this folder were replaced. To keep them, use another --out." in again


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--overlap", "0.5"), "--overlap needs --tile"),
        (("--tile", "64", "--overlap", "1"), "key overlap"),
        (("--tile", "0"), "must be at least 1"),
    ],
)
def test_invalid_tiles_are_refused(
    current_folder: Path, footplate: Command, options: Sequence[str], message: str
) -> None:
    folder = save_untrained_recipe("fashion-seg", current_folder)
    code, _, errors = footplate("predict", str(folder / "model.pth"), str(folder / "images"), *options)
    assert (code, message in errors) == (2, True), errors
