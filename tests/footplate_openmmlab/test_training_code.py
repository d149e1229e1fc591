from pathlib import Path

import pytest

from footplate.config import Config
from footplate_openmmlab.training_code import warn_about_keys_of_training_code

CONFIG = """
dataset_hook = dict(interval=1)
not_read = 3
dataset_type = 'A'
data = dict(train=dict(type=dataset_type))
"""
CODE = """
def train_model(model, dataset, cfg):
    kind = cfg.dataset_type
    cfg.data.train, cfg.not_here
    if cfg.get('dataset_hook', None):
        register()
"""


@pytest.mark.parametrize("main", [None, "tools/train.py"])
def test_keys_that_only_the_repositorys_training_code_reads_are_warnings(
    main: str | None, current_folder: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    (current_folder / "pose/apis").mkdir(parents=True)
    (current_folder / "pose/apis/train.py").write_text(CODE)
    (current_folder / "config.py").write_text(CONFIG)
    if main:
        monkeypatch.setattr("__main__.__file__", str(current_folder / main), raising=False)
    warn_about_keys_of_training_code(Config.fromfile("config.py"))
    beginning = "config.py:2: dataset_hook has no effect in footplate, but pose/apis/train.py:5 reads it."
    assert [message[: len(beginning)] for message in caplog.messages] == ([] if main else [beginning])
