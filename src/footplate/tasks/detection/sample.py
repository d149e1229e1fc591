"""What is known of one picture in detection."""

from footplate.structures import BaseDataElement, InstanceData


class DetDataSample(BaseDataElement):
    """The truth and the prediction for one picture; `img_id`, `img_path`, `img_shape` and kin are its metainfo.

    Attributes:
        gt_instances: The true instances: `bboxes` ``(N, 4)``, float32, x1 y1 x2 y2 in pixels of the picture that
            the model is given, `labels` ``(N,)``, int64, and where they are known `masks` ``(N, H, W)``, bool.
        ignored_instances: The same for instances that count neither as truth nor as error: crowds.
        pred_instances: The predicted instances: `bboxes` in pixels of the picture before it was resized, `labels`
            and `scores` ``(N,)``, the best first, and with some models `masks`.

    Example:
        >>> import torch
        >>> from footplate.structures import InstanceData
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
        """The instances that do not count."""
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
