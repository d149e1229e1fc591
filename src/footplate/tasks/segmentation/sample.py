"""The data sample of segmentation."""

from footplate.data.structures import BaseDataElement, PixelData


class SegDataSample(BaseDataElement):
    """The ground truth and the prediction for one image; `img_path`, `img_shape` etc. are metainfo.

    Attributes:
        gt_sem_seg: The true classes, `data` of ``(1, H, W)``, integers.
        pred_sem_seg: The predicted classes, `data` of ``(1, H, W)``, int64.
        seg_logits: The scores before softmax, `data` of ``(C, H, W)``, float.

    Example:
        >>> import torch
        >>> from footplate.data.structures import PixelData
        >>> sample = SegDataSample(metainfo=dict(img_path="a.png"))
        >>> sample.gt_sem_seg = PixelData(data=torch.zeros(8, 8))
        >>> sample.img_path, sample.gt_sem_seg.shape
        ('a.png', (8, 8))
    """

    @property
    def gt_sem_seg(self) -> PixelData:
        """The true classes."""
        value: PixelData = self._gt_sem_seg
        return value

    @gt_sem_seg.setter
    def gt_sem_seg(self, value: PixelData) -> None:
        self.set_field(value, "_gt_sem_seg", dtype=PixelData)

    @gt_sem_seg.deleter
    def gt_sem_seg(self) -> None:
        del self._gt_sem_seg

    @property
    def pred_sem_seg(self) -> PixelData:
        """The predicted classes."""
        value: PixelData = self._pred_sem_seg
        return value

    @pred_sem_seg.setter
    def pred_sem_seg(self, value: PixelData) -> None:
        self.set_field(value, "_pred_sem_seg", dtype=PixelData)

    @pred_sem_seg.deleter
    def pred_sem_seg(self) -> None:
        del self._pred_sem_seg

    @property
    def seg_logits(self) -> PixelData:
        """The scores of all classes."""
        value: PixelData = self._seg_logits
        return value

    @seg_logits.setter
    def seg_logits(self, value: PixelData) -> None:
        self.set_field(value, "_seg_logits", dtype=PixelData)

    @seg_logits.deleter
    def seg_logits(self) -> None:
        del self._seg_logits
