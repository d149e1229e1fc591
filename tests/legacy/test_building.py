from pathlib import Path

import pytest
import torch
from torch import nn

from footplate.errors import BuildError
from footplate.legacy import build_from_cfg, build_optimizer, obj_from_dict
from footplate.legacy.building import build_dataset
from footplate.legacy.checkpoints import load_checkpoint, load_state_dict, save_checkpoint
from footplate.legacy.checks import BatchNorm, InstanceNorm, get_model, is_list_of, is_seq_of, is_str, is_tuple_of
from footplate.legacy.logs import get_logger, get_root_logger
from footplate.legacy.parallel import MMDataParallel
from footplate.legacy.precision import auto_fp16, force_fp32, wrap_fp16_model
from footplate.legacy.ranks import get_dist_info
from footplate.registry import MODELS, OPTIMIZERS, Registry
from tests.legacy.support import OldModel


def test_objects_are_built_from_dicts() -> None:
    assert type(build_from_cfg({"type": "OldModel"}, MODELS)) is OldModel
    with pytest.raises(BuildError, match="takes a Registry"):
        build_from_cfg({"type": "OldModel"}, {"OldModel": OldModel})  # type: ignore[arg-type]


def test_default_arguments_give_way() -> None:
    shapes = Registry("shape", scope="test")

    @shapes.register_module()
    class Box:
        def __init__(self, width: int, height: int) -> None:
            self.size = width, height

    assert build_from_cfg({"type": "Box", "width": 1}, shapes, {"width": 5, "height": 6}).size == (1, 6)


def test_optimizers_are_built_over_their_parameters() -> None:
    model = nn.Linear(2, 2)
    built = build_from_cfg({"type": "SGD", "lr": 0.5, "params": model.parameters()}, OPTIMIZERS)
    assert (type(built), built.param_groups[0]["lr"]) == (torch.optim.SGD, 0.5)
    cfg = {"type": "SGD", "lr": 0.5, "weight_decay": 0.1, "paramwise_cfg": {"bias_lr_mult": 2.0}}
    rates = [group["lr"] for group in build_optimizer(MMDataParallel(model), cfg).param_groups]
    assert rates == [0.5, 1.0]


def test_objects_of_a_module() -> None:
    assert type(obj_from_dict({"type": "ReLU"}, nn)) is nn.ReLU
    assert obj_from_dict({"type": dict}, default_args={"a": 1}) == {"a": 1}
    with pytest.raises(BuildError, match="there is no 'ReLUU'"):
        obj_from_dict({"type": "ReLUU"}, nn)


def test_data_sets_in_a_list_become_one() -> None:
    assert len(build_dataset([{"type": "OldPoints", "size": 3}, {"type": "OldPoints", "size": 4}])) == 7
    assert build_dataset({"type": "OldPoints", "size": 3}, {"test_mode": True}).test_mode is True


def test_questions() -> None:
    assert is_list_of([{}, {}], dict)
    assert not is_list_of(({},), dict)
    assert is_tuple_of((1, 2), int)
    assert is_seq_of(["a"], str)
    assert is_str("a")
    assert issubclass(nn.BatchNorm2d, BatchNorm)
    assert issubclass(nn.InstanceNorm1d, InstanceNorm)
    inner = nn.Linear(1, 1)
    assert get_model(MMDataParallel(inner)) is inner
    assert get_dist_info() == (0, 1)


def test_weights_are_written_and_read(tmp_path: Path) -> None:
    model, path = nn.Linear(2, 2), str(tmp_path / "a.pth")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    save_checkpoint(MMDataParallel(model), path, {"a": optimizer}, {"epoch": 2})
    other = nn.Linear(2, 2)
    assert load_checkpoint(other, path)["meta"]["epoch"] == 2
    assert torch.equal(other.weight, model.weight)
    save_checkpoint(model, path, optimizer)
    third = nn.Linear(2, 2)
    load_state_dict(third, {f"module.{key}": value for key, value in model.state_dict().items()})
    assert torch.equal(third.weight, model.weight)


def test_loggers_write_where_footplates_does(tmp_path: Path) -> None:
    logger = get_logger("mmseg", str(tmp_path / "a.log"))
    logger.info("one")
    get_root_logger(str(tmp_path / "b.log")).info("two")
    assert "one" in (tmp_path / "a.log").read_text()
    assert "two" in (tmp_path / "b.log").read_text()
    assert logger.name == "footplate.mmseg"


def test_precision_is_the_wrappers_affair() -> None:
    @auto_fp16(apply_to=("x",))
    def half(x: torch.Tensor) -> torch.dtype:
        return (x @ x).dtype

    @force_fp32(apply_to=("x",))
    def single(x: torch.Tensor, more: list[torch.Tensor]) -> list[torch.dtype]:
        return [(x @ x).dtype, more[0].dtype]

    wrap_fp16_model(nn.Linear(1, 1))
    with torch.autocast("cpu", torch.bfloat16):
        assert half(torch.ones(2, 2)) is torch.bfloat16
        assert single(torch.ones(2, 2), [torch.ones(2, dtype=torch.bfloat16)]) == [torch.float32] * 2
    assert single(torch.ones(2, 2), [torch.ones(2)]) == [torch.float32] * 2
