import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.footplate.cli.conftest import Command
from tests.footplate_vision.inference.models import save_untrained_recipe
from tests.support import json_lines


@pytest.fixture(scope="module")
def segmentor(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a checkpoint of fashion-seg without training, and six pictures."""
    return save_untrained_recipe("fashion-seg", tmp_path_factory.mktemp("seg"))


@pytest.fixture(autouse=True)
def _inside(segmentor: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(segmentor)


def _lines(out: str) -> list[dict[str, object]]:
    return json_lines(f"{out}/predictions.jsonl")


def test_pictures_lines_and_label_maps_are_written(footplate: Command) -> None:
    code, said, errors = footplate(
        "predict", "model.pth", "images", "images/00[01].png", "--out", "a", "--device", "cpu"
    )
    assert (code, errors.strip()) == (0, "")  # rich 13 and 14 end their progress bar with a newline
    assert said.startswith("8 images, ")
    assert said.endswith(" per second: a/predictions.jsonl\n")
    lines = _lines("a")
    assert [line["input"] for line in lines] == [f"images/00{index}.png" for index in (0, 1, 2, 3, 4, 5, 0, 1)]
    assert [line["picture"] for line in lines[-2:]] == ["pictures/000_2.png", "pictures/001_2.png"]
    shares = lines[0]["classes"]
    with Image.open(Path("a", str(lines[0]["labels"]))) as image:
        labels = np.asarray(image)
    assert isinstance(shares, dict)
    assert sum(shares.values()) == pytest.approx(1, abs=1e-5)
    assert labels.shape == (64, 64) == (lines[0]["height"], lines[0]["width"])
    assert max(shares.values()) == pytest.approx(np.bincount(labels.reshape(-1)).max() / 4096, abs=1e-6)
    with Image.open("a/pictures/005.png") as image:
        assert image.width > 128


def test_augmentation_at_test_time_is_not_applied(footplate: Command, caplog: pytest.LogCaptureFixture) -> None:
    footplate("predict", "model.pth", "images/000.png", "--set", "+custom_hooks=[dict(type='PrepareTTAHook')]")
    assert "PrepareTTAHook has no effect on predictions." in caplog.text


def test_pictures_of_a_batch_are_predicted_despite_a_damaged_one(footplate: Command) -> None:
    Path("mixed").mkdir()
    for name in ("000", "001", "002"):
        Path("mixed", f"{name}.png").write_bytes(Path("images", f"{name}.png").read_bytes())
    whole = Path("mixed/001.png").read_bytes()
    Path("mixed/001.png").write_bytes(whole[: len(whole) // 2])
    Path("mixed/003.png").write_text("no picture")
    code, said, errors = footplate("predict", "model.pth", "mixed", "--out", "d", "--device", "cpu", "--no-pictures")
    assert (code, said[:10]) == (2, "2 images, ")
    assert [line["input"] for line in _lines("d")] == ["mixed/000.png", "mixed/002.png"]
    damaged, unknown = errors.strip().splitlines()
    assert damaged.startswith("error: the image 'mixed/001.png' cannot be read: ")
    assert unknown == "error: the image 'mixed/003.png' cannot be read: its format is unknown"
    _, said, _ = footplate("predict", "model.pth", "mixed", "--out", "d", "--device", "cpu", "--no-pictures", "--json")
    failures = json.loads(said)["failures"]
    assert [each["input"] for each in failures] == ["mixed/001.png", "mixed/003.png"]
