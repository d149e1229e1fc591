"""The base class of detection models."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from torch import Tensor, nn

from footplate.data.structures import InstanceData
from footplate.tasks.detection.predictions import Selection, filled, true_instances
from footplate.tasks.detection.sample import DetDataSample
from footplate.tasks.model import TaskModel


class BaseDetector(TaskModel):
    """Base class of detectors. Subclasses override `outputs`, `losses` and `candidates`.

    Args:
        num_classes: The number of classes.
        test_cfg: The postprocessing of predictions: arguments of `Selection`.
        data_preprocessor: See `BaseModel`; usually a DetDataPreprocessor.
        init_cfg: See `BaseModel`.

    Raises:
        ArgumentError: `test_cfg` is invalid.
    """

    usual_preprocessor = "DetDataPreprocessor"

    _selection: ClassVar[Mapping[str, Any]] = {}
    """The defaults of `test_cfg`."""

    def __init__(
        self,
        num_classes: int,
        *,
        test_cfg: Mapping[str, Any] | None = None,
        data_preprocessor: nn.Module | Mapping[str, Any] | None = None,
        init_cfg: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
    ) -> None:
        super().__init__(data_preprocessor, init_cfg)
        self.num_classes = num_classes
        self.select = Selection.of(test_cfg, **self._selection)

    @abstractmethod
    def losses(self, inputs: Tensor, instances: Sequence[InstanceData]) -> dict[str, Tensor]:
        """Returns the losses of images ``(N, 3, H, W)``, given the true instances of each image."""

    @abstractmethod
    def candidates(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Returns scores ``(N, P, C)``, 0 to 1, and boxes ``(N, P, 4)``, x1 y1 x2 y2 in pixels of the inputs."""

    def loss(self, inputs: Tensor, data_samples: Sequence[DetDataSample] | None) -> dict[str, Tensor]:
        """Returns the losses of images ``(N, 3, H, W)``; each sample needs `gt_instances`.

        Raises:
            DataError: The ground truth is missing, or has a class out of range.
        """
        return self.losses(inputs, true_instances(data_samples, self.num_classes))

    def predict(self, inputs: Tensor, data_samples: Sequence[DetDataSample] | None) -> list[DetDataSample]:
        """Sets `pred_instances` of the sample of each image; creates samples if none are given."""
        scores, boxes = self.candidates(inputs)
        return filled(data_samples, scores, boxes, self.select)
