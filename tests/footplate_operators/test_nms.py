import pytest
import torch

from footplate_operators.nms import nms, nms_match, softnms


def plain(boxes: torch.Tensor, scores: torch.Tensor, threshold: float, offset: int) -> list[int]:
    """NMS as a loop over pairs."""
    kept: list[int] = []
    for index in scores.sort(descending=True, stable=True)[1].tolist():
        x1, y1, x2, y2 = boxes[index]
        for other in kept:
            a1, b1, a2, b2 = boxes[other]
            width, height = (x2.min(a2) - x1.max(a1) + offset).clamp(0), (y2.min(b2) - y1.max(b1) + offset).clamp(0)
            areas = (a2 - a1 + offset) * (b2 - b1 + offset) + (x2 - x1 + offset) * (y2 - y1 + offset)
            if width * height / (areas - width * height) > threshold:
                break
        else:
            kept.append(index)
    return kept


@pytest.mark.parametrize("offset", [0, 1])
@pytest.mark.parametrize(("count", "spread"), [(0, 1), (150, 20), (70, 400)])
def test_nms_of_more_boxes_than_a_block_equals_a_loop_over_pairs(count: int, spread: int, offset: int) -> None:
    torch.manual_seed(0)
    corners = torch.rand(count, 2) * spread
    boxes = torch.cat((corners, corners + 5 + torch.rand(count, 2) * 30), 1)
    scores = (torch.rand(count) * 20).round() / 20  # some are equal
    kept = nms(boxes, scores, 0.4, offset)
    assert kept.dtype == torch.int64
    assert kept.tolist() == plain(boxes, scores, 0.4, offset)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_boxes_of_mixed_precision(dtype: torch.dtype) -> None:
    # The areas are larger than the largest float16, 65504.
    boxes = torch.tensor([[0, 0, 512, 512], [0, 0, 512, 500], [512, 0, 1024, 512]], dtype=dtype)
    scores = torch.tensor([0.5, 0.75, 0.25], dtype=dtype)
    assert nms(boxes, scores, 0.5, 0).tolist() == [1, 2]
    assert nms_match(torch.cat((boxes, scores[:, None]), 1), 0.5) == [[1, 0], [2]]
    dets = torch.zeros(3, 5, dtype=dtype)
    assert softnms(boxes, scores, dets, 0.5, 0.5, 0.1, 0, 0).tolist() == [1, 2]
    assert torch.equal(dets[0, :4], boxes[1])
