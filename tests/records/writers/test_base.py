from pathlib import Path

import numpy as np
import pytest

from footplate.records import BaseVisBackend


def test_a_writer_that_stores_nothing_may_be_told_everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    writer = BaseVisBackend(str(tmp_path))
    writer.add_config({"lr": 0.1})
    writer.add_graph(None, None)
    writer.add_image("a", np.zeros((2, 2, 3), np.uint8), step=1, extra=2)
    writer.add_scalar("loss", 1.0, step=1)
    writer.add_scalars({"loss": 1.0}, step=1, file_path="a.json")
    writer.close()
    assert writer.experiment is writer
    assert not list(tmp_path.iterdir())
