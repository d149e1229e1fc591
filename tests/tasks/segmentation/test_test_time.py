import torch

from footplate.data.structures import PixelData
from footplate.tasks.segmentation import SegDataSample, SegTTAModel


def view(scores: list[float], *, flip: bool) -> SegDataSample:
    sample = SegDataSample(metainfo={"flip": flip})
    sample.seg_logits = PixelData(data=torch.tensor(scores).view(-1, 1, 1))
    return sample


def test_probabilities_are_averaged_not_scores() -> None:
    surely, hardly = [0.0, 9.0, 0.0], [30.0, 0.0, 29.0]
    model = SegTTAModel(torch.nn.Identity())
    (merged,) = model.merge_preds([[view(hardly, flip=True), view(surely, flip=False)]])
    mean = (torch.tensor(surely).softmax(0) + torch.tensor(hardly).softmax(0)) / 2
    assert torch.allclose(merged.seg_logits.data.flatten(), mean)
    assert merged.pred_sem_seg.data.tolist() == [[[1]]]
    assert merged.flip is False
