import logging
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from footplate.checkpoint import Mismatch, load_checkpoint, load_weights, rename_keys, save_checkpoint, weights_of
from footplate.errors import CheckpointError


class _Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)
        self.bn = nn.BatchNorm2d(4)


def _filled(value: float, **more: torch.Tensor) -> "OrderedDict[str, torch.Tensor]":
    state = OrderedDict((key, torch.full_like(entry, value)) for key, entry in _Model().state_dict().items())
    state.update(more)
    return state


@pytest.mark.parametrize("section", ["state_dict", "model", "model_state_dict", None])
@pytest.mark.parametrize("start", ["", "module."])
def test_weights_are_found_in_the_layouts_of_all_engines(tmp_path: Path, section: str | None, start: str) -> None:
    state = {start + key: value for key, value in _filled(2).items()}
    torch.save({"epoch": 3, section: state} if section else state, tmp_path / "a.pth")
    model = _Model()
    report = load_weights(model, tmp_path / "a.pth", strict=True)
    assert report.is_complete
    assert report.loaded == tuple(model.state_dict())
    assert all(value.eq(2).all() for value in model.state_dict().values())


class _Members(nn.Module):
    def __init__(self, *names: str) -> None:
        super().__init__()
        for name in names:
            self.add_module(name, nn.Linear(1, 1))


@pytest.mark.parametrize("names", [("module1", "module2"), ("module", "head"), ("module",)])
@pytest.mark.parametrize("start", ["", "module."])
def test_members_may_have_the_name_of_the_prefix_of_wrappers(names: tuple[str, ...], start: str) -> None:
    model = _Members(*names)
    weights = {start + key: torch.full_like(value, 3) for key, value in model.state_dict().items()}
    assert load_weights(model, weights, strict=True).is_complete
    assert all(value.eq(3).all() for value in model.state_dict().values())


def test_mismatched_weights_are_reported_and_not_loaded(caplog: pytest.LogCaptureFixture) -> None:
    state = _filled(2, **{"conv.weight": torch.ones(5, 3, 1, 1), "head.weight": torch.ones(1)})
    del state["bn.bias"]
    model = _Model()
    before = model.conv.weight.clone()
    with caplog.at_level(logging.INFO):
        report = load_weights(model, {"state_dict": state}, name="theirs.pth")
    assert report.missing == ("bn.bias",)
    assert report.unexpected == ("head.weight",)
    assert report.mismatched == (Mismatch("conv.weight", (5, 3, 1, 1), (4, 3, 1, 1)),)
    assert len(report.loaded) == 5
    assert torch.equal(model.conv.weight, before)
    assert model.bn.running_mean is not None
    assert model.bn.running_mean.tolist() == [2, 2, 2, 2]
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert caplog.messages[0].splitlines() == [
        "Loaded 5 of 7 tensors from 'theirs.pth'",
        "  missing from the file (1): bn.bias",
        "  not in the model (1): head.weight",
        "  with a different shape (1): conv.weight: [5, 3, 1, 1] in the file, [4, 3, 1, 1] in the model",
    ]


def test_error_without_matching_weights_shows_both_spellings() -> None:
    state = {f"backbone.{key}": value for key, value in _filled(2).items()}
    with pytest.raises(CheckpointError) as caught:
        load_weights(_Model(), state)
    assert str(caught.value).splitlines() == [
        "no weights in 'a state dict' match the model",
        "  a key in the file: backbone.conv.weight",
        "  a key in the model: conv.weight",
        "  Pass `prefix='backbone.'` to load_weights or PretrainedInit (in `init_cfg`).",
    ]


@pytest.mark.parametrize("prefix", ["backbone", "backbone."])
def test_prefix_selects_a_part_of_the_weights(prefix: str) -> None:
    state = {f"backbone.{key}": value for key, value in _filled(2).items()} | {"head.weight": torch.ones(1)}
    assert load_weights(_Model(), state, prefix=prefix, strict=True).is_complete
    with pytest.raises(CheckpointError, match=r"starts with 'neck\.'"):
        load_weights(_Model(), state, prefix="neck")


def test_keys_are_revised_in_order() -> None:
    weights = OrderedDict({"model.a.w": torch.ones(1), "model.b.w": torch.ones(1)})
    weights._metadata = {"model.a": {"version": 2}}  # type: ignore[attr-defined]
    found = rename_keys(weights, [(r"^model\.", "net."), (r"^net\.a", "net.first")])
    assert list(found) == ["net.first.w", "net.b.w"]
    assert found._metadata == {"net.first": {"version": 2}}  # type: ignore[attr-defined]
    with pytest.raises(CheckpointError, match=r"two keys in 'a state dict' have the same name 'model\.x\.w'"):
        rename_keys(weights, [(r"\.[ab]\.", ".x.")])


def test_weights_that_a_module_skips_are_not_missing() -> None:
    layer = nn.Linear(1, 1)  # Swin V2 skips the position tables of its attention
    layer.register_load_state_dict_pre_hook(  # type: ignore[no-untyped-call]
        lambda module, weights, prefix, *_: weights.pop(prefix + "bias")
    )
    report = load_weights(layer, {"weight": torch.ones(1, 1), "bias": torch.ones(1)})
    assert report.loaded == ("weight",)
    report.require_whole_model()
    with pytest.raises(CheckpointError, match="does not contain all"):
        load_weights(nn.Linear(1, 1), {"weight": torch.ones(1, 1)}).require_whole_model()


@pytest.mark.parametrize("classes", [3, 4])
def test_plain_state_dict_keeps_the_versions_of_its_layers(tmp_path: Path, classes: int) -> None:
    versions = []

    class Versioned(nn.Linear):
        _version = 2

        def _load_from_state_dict(self, state: Any, prefix: str, metadata: dict[str, Any], *rest: Any) -> None:
            versions.append(metadata.get("version"))
            super()._load_from_state_dict(state, prefix, metadata, *rest)

    torch.save(nn.Sequential(Versioned(2, 2), nn.Linear(2, 3)).state_dict(), tmp_path / "a.pth")
    load_weights(nn.Sequential(Versioned(2, 2), nn.Linear(2, classes)), tmp_path / "a.pth")
    assert set(versions) == {2}


def test_wrapped_models_are_loaded() -> None:
    model = _Model()
    report = load_weights(nn.DataParallel(model), _filled(2))
    assert report.is_complete
    assert model.bn.weight.tolist() == [2, 2, 2, 2]


class _Shelf(dict[str, Any]):
    pass


def test_weights_in_unknown_objects_are_found(tmp_path: Path) -> None:
    torch.save({"model": _Shelf(w=torch.ones(2)), "meta": _Shelf(a=1)}, tmp_path / "shelf.pth")
    assert weights_of(load_checkpoint(tmp_path / "shelf.pth"))["w"].tolist() == [1, 1]
    torch.save({"model": _Model()}, tmp_path / "module.pth")
    with pytest.raises(CheckpointError, match="no weights were found"):
        weights_of(load_checkpoint(tmp_path / "module.pth"))
    torch.save({"model": {"w": np.arange(3.0)}}, tmp_path / "arrays.pth")
    assert load_weights(nn.Linear(3, 1), {"weight": torch.ones(1, 3), "bias": np.zeros(1)}).is_complete


@pytest.mark.parametrize("content", [{}, {"epoch": 1}, {"state_dict": {}}, {"model": "resnet"}])
def test_missing_weights_raise_an_error(content: dict[str, Any]) -> None:
    with pytest.raises(CheckpointError, match="no weights were found in 'x'"):
        weights_of(content, "x")


def test_extra_state_is_loaded(tmp_path: Path) -> None:
    class Counting(nn.Linear):
        count = 0

        def get_extra_state(self) -> int:
            return self.count

        def set_extra_state(self, state: int) -> None:
            self.count = state

    model = Counting(1, 1)
    model.count = 7
    save_checkpoint({"state_dict": model.state_dict()}, tmp_path / "a.pth")
    other = Counting(1, 1)
    load_weights(other, tmp_path / "a.pth", strict=True)
    assert other.count == 7


def test_tied_weights_are_in_the_file_under_one_name() -> None:
    model = torch.nn.ModuleDict({"embedding": torch.nn.Embedding(3, 2), "head": torch.nn.Linear(2, 3, bias=False)})
    model["head"].weight = model["embedding"].weight
    report = load_weights(model, {"embedding.weight": torch.ones(3, 2)})
    assert report.is_complete
    assert set(report.loaded) == {"embedding.weight", "head.weight"}
    assert torch.equal(model.get_parameter("embedding.weight"), torch.ones(3, 2))
