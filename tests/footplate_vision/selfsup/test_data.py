from typing import Any

import numpy as np
import pytest
import torch

from footplate.data import build_dataloader, seed_generators
from footplate.registry import TRANSFORMS
from footplate_vision.selfsup import MultiView, SelfSupDataSample

WARP = {"type": "RandomWarp", "shift": 0.3, "turn": 30}


def picture() -> Any:
    return np.random.default_rng(0).integers(0, 256, (12, 12)).astype(np.uint8)


@pytest.mark.parametrize(("transforms", "num_views"), [([[WARP]], 2), ([WARP], 3)])
def test_a_pipeline_makes_views(transforms: Any, num_views: int) -> None:
    seed_generators(0)
    views = TRANSFORMS.build({"type": "MultiView", "transforms": transforms, "num_views": num_views})
    found = views({"img": picture(), "gt_label": 1})
    assert len(found["img"]) == num_views
    assert not np.array_equal(found["img"][0], found["img"][1])
    assert found["gt_label"] == 1


def test_a_dropped_view_drops_the_sample() -> None:
    assert MultiView([[lambda results: None]])({"img": picture()}) is None


def test_views_and_what_is_known_are_packed() -> None:
    pack = TRANSFORMS.build({"type": "PackSelfSupInputs", "part": "test"})
    results: dict[str, Any] = {
        "img": [picture(), picture()[..., None].repeat(3, 2)],
        "gt_label": 4,
        "img_path": "a.png",
    }
    packed = pack(results)
    assert [tuple(view.shape) for view in packed["inputs"]] == [(1, 12, 12), (3, 12, 12)]
    sample = packed["data_samples"]
    assert (sample.part, sample.img_path, sample.gt_label.tolist()) == ("test", "a.png", [4])
    packed["inputs"][0] += 1
    assert np.array_equal(results["img"][0], picture())


def views(*, seed: int, workers: int = 0) -> torch.Tensor:
    """Returns both views of the test items, ``(2, 200, 1, 28, 28)``."""
    pipeline = [{"type": "MultiView", "transforms": [[WARP]]}, {"type": "PackSelfSupInputs"}]
    cfg = {
        "dataset": {"type": "FashionItems", "split": "test", "pipeline": pipeline},
        "batch_size": 50,
        "num_workers": workers,
        "sampler": {"type": "DefaultSampler", "shuffle": False},
    }
    batches: list[Any] = list(build_dataloader(cfg, seed=seed))
    return torch.stack([torch.stack([each for batch in batches for each in batch["inputs"][at]]) for at in (0, 1)])


def test_views_are_a_function_of_seed_epoch_and_index() -> None:
    first = views(seed=0)
    assert first.shape == (2, 200, 1, 28, 28)
    assert torch.equal(first, views(seed=0))
    assert torch.equal(first, views(seed=0, workers=2))
    assert not torch.equal(first, views(seed=1))
    assert not torch.equal(first[0], first[1])


def sample(first: int, second: int) -> dict[str, Any]:
    views = [torch.full((1, 2, 2), value, dtype=torch.uint8) for value in (first, second)]
    return {"inputs": views, "data_samples": SelfSupDataSample()}
