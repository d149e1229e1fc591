from pathlib import Path

import pytest
import torch

from footplate.tasks.segmentation import SegFormer
from tests.tasks.recipes.configs.support import recipe, short_runner, weights_of
from tests.tasks.recipes.configs.test_fashion_seg import SHORT

SMALL = [
    *(each for each in SHORT if not each.startswith("model.")),
    "model.config.hidden_sizes=[8,8,16]",
    "model.config.num_attention_heads=[1,1,2]",
    "model.config.depths=[1,1,1]",
    "model.config.decoder_hidden_size=16",
]


@pytest.mark.filterwarnings("default:::transformers")
def test_training_with_the_data_of_fashion_seg(tmp_path: Path) -> None:
    assert recipe("fashion-segformer").train_dataloader == recipe("fashion-seg").train_dataloader
    runner = short_runner("fashion-segformer", tmp_path, SMALL)
    assert isinstance(runner.model, SegFormer)
    before = {name: value.clone() for name, value in runner.model.state_dict().items()}
    runner.train()
    after = weights_of(tmp_path / "iter_4.pth")
    assert sum(not torch.equal(before[name], after[name]) for name in before) > 0.9 * len(before)
    assert runner.val_loop is not None
    assert 0 <= runner.val_loop.metrics["mIoU"] <= 100
