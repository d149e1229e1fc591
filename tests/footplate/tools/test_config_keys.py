"""The keys that sections accept."""

from typing import Any

import pytest
from torch import nn

from footplate.registry import MODELS
from footplate.tools.config_keys import accepted_keys


@pytest.mark.parametrize(
    ("path", "known", "unknown"),
    [
        ("", {"randomness", "compile", "custom_imports"}, {"optimizer", "foo"}),
        ("train_cfg", {"type", "by_epoch", "val_begin", "max_iters"}, {"runner", "dataloader", "max_epochs"}),
        ("val_dataloader.day", {"num_workers"}, {"dataset_meta"}),
        ("optim_wrapper", {"optimizer", "paramwise_cfg", "clip_grad"}, {"foo"}),
        ("param_scheduler.1", {"power", "eta_min"}, {"optimizer"}),
        ("model", {"widths"}, {"self"}),
    ],
)
def test_section_accepts_the_arguments_of_its_class(path: str, known: set[str], unknown: set[str]) -> None:
    cfg = {
        "train_cfg": {"max_iters": 5},
        "train_dataloader": {"sampler": {"type": "DefaultSampler"}},
        "val_dataloader": {"day": {"dataset": {"type": "X"}}, "night": {"dataset": {"type": "X"}}},
        "optim_wrapper": {"optimizer": {"type": "SGD"}},
        "param_scheduler": [{}, {"type": "PolyLR"}],
        "model": {"type": "SmallSegmentor", "train_cfg": {}, "init_cfg": {"type": "Pretrained"}},
    }
    found = set(accepted_keys(cfg, path.split(".") if path else []))
    assert known <= found
    assert not unknown & found


def test_class_that_takes_any_keyword_has_no_known_keys() -> None:
    @MODELS.register_module(name="TakesAnything", force=True)
    class TakesAnything(nn.Module):
        def __init__(self, **settings: Any) -> None:
            super().__init__()
            self.settings = dict(settings)

    assert set(accepted_keys({"model": {"type": "TakesAnything"}}, ["model"])) == set()
