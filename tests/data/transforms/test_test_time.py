from typing import Any

import numpy as np
import pytest

from footplate.data import pseudo_collate
from footplate.errors import ArgumentError, DataError
from footplate.registry import TRANSFORMS


def made(transforms: Any) -> Any:
    return TRANSFORMS.build({"type": "TestTimeAug", "transforms": transforms})


def test_every_combination_is_a_view() -> None:
    sizes = [{"type": "Resize", "scale_factor": factor} for factor in (1, 2)]
    flips = [{"type": "RandomFlip", "prob": prob} for prob in (0.0, 1.0)]
    image = np.arange(12, dtype=np.uint8).reshape(2, 6)
    views = made([sizes, flips, [{"type": "PackSegInputs"}]])({"img": image})
    assert [tuple(each.shape) for each in views["inputs"]] == [(1, 2, 6), (1, 2, 6), (1, 4, 12), (1, 4, 12)]
    assert [each.flip for each in views["data_samples"]] == [False, True, False, True]
    assert views["inputs"][1][0].tolist() == image[:, ::-1].tolist()
    batch = pseudo_collate([views, views, views])
    assert (len(batch["inputs"]), len(batch["inputs"][0])) == (4, 3)


def test_views_do_not_see_each_other() -> None:
    def change(sample: dict[str, Any]) -> dict[str, Any]:
        sample["x"] += [1]
        return sample

    assert made([[change, change]])({"x": []}) == {"x": [[1], [1]]}


@pytest.mark.parametrize("transforms", [[], [[]], [{"type": "RandomFlip"}]])
def test_what_is_no_list_of_lists_is_refused(transforms: Any) -> None:
    with pytest.raises(ArgumentError, match="a list of lists"):
        made(transforms)


def test_a_view_that_is_given_up_is_named() -> None:
    with pytest.raises(DataError, match="a view of the sample was given up"):
        made([[lambda sample: None, lambda sample: sample]])({"x": 1})
