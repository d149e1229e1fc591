"""The data sample of detection."""

from footplate.data.structures import BaseDataElement, InstanceData


class DetDataSample(BaseDataElement):
    """The ground truth and the prediction for one image; `img_id`, `img_path`, `img_shape` etc. are metainfo.

    Attributes:
        gt_instances: The true instances: `bboxes` ``(N, 4)``, float32, x1 y1 x2 y2 in pixels of the model input,
            `labels` ``(N,)``, int64, and optionally `masks` ``(N, H, W)``, bool.
        ignored_instances: The same for instances that are ignored in the evaluation, such as crowds.
        pred_instances: The predicted instances, the best first: `bboxes` in pixels of the original image, `labels` and
            `scores` ``(N,)``, and for some models `masks`.

    Example:
        >>> import torch
        >>> from footplate.data.structures import InstanceData
        >>> sample = DetDataSample(metainfo=dict(img_path="a.png"))
        >>> sample.gt_instances = InstanceData(bboxes=torch.zeros(2, 4), labels=torch.tensor([1, 0]))
        >>> sample.img_path, len(sample.gt_instances)
        ('a.png', 2)
    """

    @property
    def gt_instances(self) -> InstanceData:
        """The true instances."""
        value: InstanceData = self._gt_instances
        return value

    @gt_instances.setter
    def gt_instances(self, value: InstanceData) -> None:
        self.set_field(value, "_gt_instances", dtype=InstanceData)

    @gt_instances.deleter
    def gt_instances(self) -> None:
        del self._gt_instances

    @property
    def ignored_instances(self) -> InstanceData:
        """The instances that are ignored in the evaluation."""
        value: InstanceData = self._ignored_instances
        return value

    @ignored_instances.setter
    def ignored_instances(self, value: InstanceData) -> None:
        self.set_field(value, "_ignored_instances", dtype=InstanceData)

    @ignored_instances.deleter
    def ignored_instances(self) -> None:
        del self._ignored_instances

    @property
    def pred_instances(self) -> InstanceData:
        """The predicted instances."""
        value: InstanceData = self._pred_instances
        return value

    @pred_instances.setter
    def pred_instances(self, value: InstanceData) -> None:
        self.set_field(value, "_pred_instances", dtype=InstanceData)

    @pred_instances.deleter
    def pred_instances(self) -> None:
        del self._pred_instances
