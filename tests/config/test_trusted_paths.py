"""Which configs may name any class that fits by its dotted path."""

from pathlib import Path

import pytest

from footplate.config import Config
from footplate.config.recorded import read_recorded
from footplate.errors import BuildError
from footplate.registry import DATASETS

INSTALLED = "torch.utils.data.TensorDataset"
WRITTEN = f"train_dataloader = dict(dataset=dict(type='{INSTALLED}'))\n"


def refused(cfg: Config) -> bool:
    try:
        DATASETS.check(cfg.train_dataloader.dataset)
    except BuildError as error:
        return "takes only" in str(error)
    return False


def test_a_python_config_may_name_any_class_that_fits(tmp_path: Path) -> None:
    (tmp_path / "code.py").write_text(WRITTEN)
    assert not refused(Config.fromfile(tmp_path / "code.py"))


def test_a_class_that_does_not_fit_is_refused_in_a_python_config_too(tmp_path: Path) -> None:
    (tmp_path / "code.py").write_text(WRITTEN.replace(INSTALLED, "subprocess.Popen"))
    assert refused(Config.fromfile(tmp_path / "code.py"))


@pytest.mark.parametrize(
    "text",
    [
        f'{{"train_dataloader": {{"dataset": {{"type": "{INSTALLED}"}}}}}}',
        f'{{"_base_": "footplate::fashion-seg.py", "train_dataloader": {{"dataset": {{"type": "{INSTALLED}"}}}}}}',
        '{"_base_": "footplate::fashion-seg.py",'
        f' "train_dataloader": {{"dataset": {{"_delete_": true, "type": "{INSTALLED}"}}}}}}',
    ],
)
def test_a_data_config_may_not_even_on_top_of_a_recipe(tmp_path: Path, text: str) -> None:
    (tmp_path / "data.json").write_text(text)
    assert refused(Config.fromfile(tmp_path / "data.json"))


def test_an_override_may_not(tmp_path: Path) -> None:
    (tmp_path / "code.py").write_text("train_dataloader = dict(dataset=dict(type='Points'))\n")
    cfg = Config.fromfile(tmp_path / "code.py")
    cfg.merge_from_dict({"train_dataloader.dataset.type": INSTALLED})
    assert refused(cfg)


def test_a_recorded_config_may_not_since_it_is_read_as_data(tmp_path: Path) -> None:
    (tmp_path / "config.py").write_text(WRITTEN)
    assert refused(read_recorded(tmp_path / "config.py"))
