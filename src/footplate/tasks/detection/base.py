"""What detection models share: classes, losses from the truth, and the choice of predictions that stay."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from torch import Tensor, nn

from footplate.structures import InstanceData
from footplate.tasks.detection.predictions import Selection, filled, true_instances
from footplate.tasks.detection.sample import DetDataSample
from footplate.tasks.model import TaskModel


class BaseDetector(TaskModel):
    """A model that says classes and boxes at many places; a subclass overrides `outputs`, `losses` and `candidates`.

    Args:
        num_classes: How many classes there are.
        test_cfg: Which predictions stay, arguments of `Selection`.
        data_preprocessor: See `BaseModel`; usually a DetDataPreprocessor.
        init_cfg: See `BaseModel`.

    Raises:
        ArgumentError: `test_cfg` makes no sense.
    """

    usual_preprocessor = "DetDataPreprocessor"

    _selection: ClassVar[Mapping[str, Any]] = {}
    """What `test_cfg` says where it says nothing."""

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
        """Returns the losses of pictures ``(N, 3, H, W)``, given the true instances of each."""

    @abstractmethod
    def candidates(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Returns scores ``(N, P, C)``, 0 to 1, and boxes ``(N, P, 4)``, x1 y1 x2 y2 in pixels of the inputs."""

    def loss(self, inputs: Tensor, data_samples: Sequence[DetDataSample] | None) -> dict[str, Tensor]:
        """Returns the losses of pictures ``(N, 3, H, W)``; each sample holds `gt_instances`.

        Raises:
            DataError: There is no truth, or one of another class.
        """
        return self.losses(inputs, true_instances(data_samples, self.num_classes))

    def predict(self, inputs: Tensor, data_samples: Sequence[DetDataSample] | None) -> list[DetDataSample]:
        """Writes `pred_instances` into a sample for each picture, new ones where there are none."""
        scores, boxes = self.candidates(inputs)
        return filled(data_samples, scores, boxes, self.select)
