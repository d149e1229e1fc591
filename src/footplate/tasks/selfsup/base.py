"""The base class of self-supervised models."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from footplate.tasks.model import Part, TaskModel, build_part
from footplate.tasks.selfsup.sample import SelfSupDataSample


class BaseSelfSup(TaskModel):
    """Base class of models with backbone, neck and head that learn from views of images and predict features.

    Inputs are a list of views, ``(N, C, H, W)`` each, float. Features are computed from the first view.

    Args:
        backbone: The network to pretrain. A module or a config for MODELS, as are neck and head.
        neck: The module after the backbone in training.
        head: The module that computes the loss.
        data_preprocessor: See `BaseModel`; usually a SelfSupDataPreprocessor.
        init_cfg: See `BaseModel`.
    """

    usual_preprocessor = "SelfSupDataPreprocessor"

    def __init__(
        self,
        backbone: Part,
        neck: Part,
        head: Part,
        data_preprocessor: nn.Module | Mapping[str, Any] | None = None,
        init_cfg: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
    ) -> None:
        super().__init__(data_preprocessor, init_cfg)
        self.backbone: Any = build_part("backbone", backbone)
        self.neck = build_part("neck", neck)
        self.head = build_part("head", head)

    @abstractmethod
    def extract_feat(self, inputs: Tensor) -> Tensor:
        """Returns features ``(N, D)`` of images ``(N, C, H, W)``."""

    def outputs(self, inputs: Sequence[Tensor]) -> Tensor:
        """Returns the features of the first view, ``(N, D)``."""
        return self.extract_feat(inputs[0])

    def predict(
        self, inputs: Sequence[Tensor], data_samples: Sequence[SelfSupDataSample] | None
    ) -> list[SelfSupDataSample]:
        """Sets `features` of each sample from the first view; creates samples if none are given."""
        features = self.extract_feat(inputs[0])
        filled = list(data_samples) if data_samples is not None else [SelfSupDataSample() for _ in features]
        for sample, row in zip(filled, features.float(), strict=True):
            sample.features = row
        return filled
