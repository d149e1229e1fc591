from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from footplate import Runner
from footplate.checkpoint import load_checkpoint
from footplate.data.data_container import DataContainer
from footplate.distributed import unwrap_model
from footplate_openmmlab.first_generation.adapters.model import (
    LegacyModel,
    MMDataParallel,
    collate,
    scatter,
)
from tests.footplate_openmmlab.first_generation.adapters.support import OldModel, OldModelWithSteps, old_config


def test_collate_containers() -> None:
    samples = [
        {
            "img": DataContainer(torch.ones(3, 2, width), stack=True, padding_value=7),
            "boxes": DataContainer(torch.ones(width, 4)),
            "meta": DataContainer({"width": width}, cpu_only=True),
            "label": width,
        }
        for width in (2, 3)
    ]
    image: Any = samples[0]["img"]
    assert (image.size(), image.size(-1), image.dim()) == ((3, 2, 2), 2, 3)
    batch = collate(samples)
    (whole,) = scatter(batch)
    assert whole["img"].shape == (2, 3, 2, 3)
    assert whole["img"][0, :, :, 2].tolist() == [[7.0, 7.0]] * 3
    assert [tuple(each.shape) for each in whole["boxes"]] == [(2, 4), (3, 4)]
    assert whole["meta"] == [{"width": 2}, {"width": 3}]
    assert whole["label"].tolist() == [2, 3]


def test_lists_of_different_lengths_are_truncated_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    batch = collate([{"pairs": [1, 2, 3], "label": 0}, {"pairs": [4, 5], "label": 1}])
    assert [column.tolist() for column in batch["pairs"]] == [[1, 4], [2, 5]]
    assert "The lists in 'pairs' of the samples in a batch have different lengths." in caplog.text


KEYS = ["backbone.weight", "backbone.bias", "head.weight", "head.bias"]


class Wrapper:
    """The part of the optimizer wrapper that a training step uses."""

    optimizer = "the optimizer"

    def __init__(self) -> None:
        self.losses: list[Any] = []

    def optim_context(self, model: nn.Module) -> Any:
        return torch.enable_grad()

    def update_params(self, loss: Any) -> None:
        self.losses.append(loss)


def batch() -> dict[str, Any]:
    return {"img": torch.ones(2, 4), "label": torch.tensor([0, 1])}


@pytest.mark.parametrize("kind", [OldModel, OldModelWithSteps])
def test_train_step_returns_the_losses_of_the_model(kind: type[OldModel]) -> None:
    torch.manual_seed(0)
    model, wrapper = LegacyModel(kind()), Wrapper()
    logged = model.train_step(batch(), wrapper)
    assert list(logged) == ["loss_cls", "acc", "loss"]
    assert float(logged["loss"]) == pytest.approx(wrapper.losses[0].item())
    assert wrapper.losses[0].requires_grad
    assert set(model.outputs) == {"loss", "log_vars", "num_samples"}


def test_predict_passes_the_flags_that_the_model_accepts() -> None:
    class Detector(nn.Module):
        def forward(self, img: Tensor, return_loss: bool = True, **kwargs: Any) -> Any:
            return [{"return_loss": return_loss, **kwargs}]

        def simple_test(self, img: Tensor, rescale: bool = False) -> None: ...

    assert LegacyModel(Detector()).val_step({"img": torch.ones(1)}) == [{"return_loss": False, "rescale": True}]
    assert LegacyModel(OldModel()).test_step({"img": torch.zeros(3, 4)}) in ([0] * 3, [1] * 3)


def test_data_containers_are_unpacked() -> None:
    class Sees(nn.Module):
        def forward(self, img: Any, img_metas: Any = None, return_loss: bool = True, **kwargs: Any) -> Any:
            return {"loss": img.sum() * nn.Parameter(torch.ones(())), "kinds": torch.tensor(float(len(img_metas)))}

    packed = {
        "img": DataContainer([torch.ones(2, 4)], stack=True),
        "img_metas": DataContainer([[{"name": "a"}, {"name": "b"}]], cpu_only=True),
    }
    assert float(LegacyModel(Sees()).train_step(packed, Wrapper())["kinds"]) == 2.0


class Boxes:
    """Boxes whose `to` returns new boxes, as in MMDetection3D 0.x."""

    def to(self, device: Any) -> "Boxes":
        return Boxes()


@pytest.mark.parametrize("method", ["train_step", "val_step"])
@pytest.mark.parametrize("wrap", [LegacyModel, MMDataParallel])
def test_data_for_the_cpu_is_not_moved(method: str, wrap: Callable[[nn.Module], Any]) -> None:
    class Sees(nn.Linear):
        def train_step(self, data: Any, optimizer: Any) -> Any:
            seen.update(data)
            return {"loss": self.weight.sum(), "log_vars": {}}

        def forward(self, return_loss: bool = True, **data: Any) -> Any:  # type: ignore[override]
            seen.update(data)
            return []

        def val_step(self, data: Any, optimizer: Any) -> Any:
            return self(**data)

    seen: dict[str, Any] = {}
    boxes: Any = Boxes()
    boxes.mtv_targets = torch.ones(2)
    sample = {
        "img": DataContainer(torch.ones(3, 2, 2), stack=True),
        "points": DataContainer(torch.ones(4, 3)),
        "boxes": DataContainer(boxes, cpu_only=True),
        "table": DataContainer({"tensor": torch.ones(2)}, cpu_only=True),
        "label": torch.ones(2),
    }
    model = wrap(Sees(1, 1).to("meta")).to("meta")
    getattr(model, method)(collate([sample]), *([] if method == "val_step" and wrap is LegacyModel else [Wrapper()]))
    assert seen["boxes"] == [boxes]
    assert seen["table"][0]["tensor"].device.type == "cpu"
    assert {each.device.type for each in (seen["img"], *seen["points"], seen["label"])} == {"meta"}


def test_checkpoint_has_the_keys_of_the_model(tmp_path: Path) -> None:
    Runner.from_cfg(old_config(tmp_path)).train()
    saved = load_checkpoint(str(tmp_path / "epoch_3.pth"))
    assert list(saved["state_dict"]) == KEYS
    again = Runner.from_cfg(old_config(tmp_path / "again", load_from=str(tmp_path / "epoch_3.pth")))
    again.load_or_resume()
    assert torch.equal(unwrap_model(again.model).head.weight, saved["state_dict"]["head.weight"])  # type: ignore[arg-type, union-attr]
